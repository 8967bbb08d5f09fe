//! Who a process is and what it may use: numbers of users, groups, processes, sessions; capabilities, limits, usage.

use alloc::vec::Vec;

use base::{Errno, Result, cred::cap};
use frame::user::{self, Regs};
use process::{current, ids, pgrp, rlimit, tree::TREE, usage::Usage};

use crate::args::{Args, NS_PER_SEC, Ret, bytes, get, put, put_opt};

/// The shortest call there is: its number stands with the thread, the process is not looked at.
pub(crate) fn getpid(_: &mut Regs) -> Ret {
    Ok(sched::me().tgid() as usize)
}
pub(crate) fn gettid(_: &mut Regs) -> Ret {
    Ok(sched::me().pid() as usize)
}
pub(crate) fn getppid(_: &mut Regs) -> Ret {
    Ok(pgrp::getppid() as usize)
}
pub(crate) fn getuid(_: &mut Regs) -> Ret {
    Ok(current().cred().uid as usize)
}
pub(crate) fn geteuid(_: &mut Regs) -> Ret {
    Ok(current().cred().euid as usize)
}
pub(crate) fn getgid(_: &mut Regs) -> Ret {
    Ok(current().cred().gid as usize)
}
pub(crate) fn getegid(_: &mut Regs) -> Ret {
    Ok(current().cred().egid as usize)
}
fn put_three(r: &Regs, v: [u32; 3]) -> Ret {
    put(r.size::<0>(), &v[0])?;
    put(r.size::<1>(), &v[1])?;
    put(r.size::<2>(), &v[2])?;
    Ok(0)
}
pub(crate) fn getresuid(r: &mut Regs) -> Ret {
    let c = current().cred();
    put_three(r, [c.uid, c.euid, c.suid])
}
pub(crate) fn getresgid(r: &mut Regs) -> Ret {
    let c = current().cred();
    put_three(r, [c.gid, c.egid, c.sgid])
}
pub(crate) fn setuid(r: &mut Regs) -> Ret {
    ids::setuid(r.uint::<0>()).map(|()| 0)
}
pub(crate) fn setgid(r: &mut Regs) -> Ret {
    ids::setgid(r.uint::<0>()).map(|()| 0)
}
pub(crate) fn setreuid(r: &mut Regs) -> Ret {
    ids::setreuid(r.uint::<0>(), r.uint::<1>()).map(|()| 0)
}
pub(crate) fn setregid(r: &mut Regs) -> Ret {
    ids::setregid(r.uint::<0>(), r.uint::<1>()).map(|()| 0)
}
pub(crate) fn setresuid(r: &mut Regs) -> Ret {
    ids::setresuid(r.uint::<0>(), r.uint::<1>(), r.uint::<2>()).map(|()| 0)
}
pub(crate) fn setresgid(r: &mut Regs) -> Ret {
    ids::setresgid(r.uint::<0>(), r.uint::<1>(), r.uint::<2>()).map(|()| 0)
}
pub(crate) fn setfsuid(r: &mut Regs) -> Ret {
    Ok(ids::setfsuid(r.uint::<0>()) as usize)
}
pub(crate) fn setfsgid(r: &mut Regs) -> Ret {
    Ok(ids::setfsgid(r.uint::<0>()) as usize)
}
pub(crate) fn getgroups(r: &mut Regs) -> Ret {
    let size = usize::try_from(r.int::<0>()).map_err(|_| Errno::EINVAL)?;
    let c = current().cred();
    if size == 0 {
        return Ok(c.groups.len());
    }
    if c.groups.len() > size {
        return Err(Errno::EINVAL);
    }
    put(r.size::<1>(), &*c.groups)?;
    Ok(c.groups.len())
}
pub(crate) fn setgroups(r: &mut Regs) -> Ret {
    if !current().cred().has_cap(cap::SETGID) {
        return Err(Errno::EPERM);
    }
    let n = r.uint::<0>() as usize;
    if n > ids::NGROUPS_MAX {
        return Err(Errno::EINVAL);
    }
    let b = bytes(r.size::<1>(), n * 4)?;
    let mut list = Vec::new();
    list.try_reserve_exact(n)?;
    list.extend(b.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])));
    if list.contains(&ids::KEEP) {
        return Err(Errno::EINVAL);
    }
    ids::setgroups(list).map(|()| 0)
}

/// A process number argument: negative ones name nobody.
fn pid(n: i32) -> Result<u32> {
    u32::try_from(n).map_err(|_| Errno::ESRCH)
}
pub(crate) fn getpgid(r: &mut Regs) -> Ret {
    Ok(pgrp::getpgid(pid(r.int::<0>())?)? as usize)
}
pub(crate) fn getpgrp(_: &mut Regs) -> Ret {
    Ok(pgrp::getpgid(0)? as usize)
}
pub(crate) fn setpgid(r: &mut Regs) -> Ret {
    let group = u32::try_from(r.int::<1>()).map_err(|_| Errno::EINVAL)?;
    pgrp::setpgid(pid(r.int::<0>())?, group).map(|()| 0)
}
pub(crate) fn getsid(r: &mut Regs) -> Ret {
    Ok(pgrp::getsid(pid(r.int::<0>())?)? as usize)
}
pub(crate) fn setsid(_: &mut Regs) -> Ret {
    Ok(pgrp::setsid()? as usize)
}

/// Versions of the capability header, and how many 32-bit parts each has.
const CAP_VERSIONS: [(u32, usize); 3] = [(0x1998_0330, 1), (0x2007_1026, 2), (0x2008_0522, 2)];

/// Header: version, process. A version that does not exist is answered with the one to use.
fn cap_header(at: usize) -> Result<(i32, Result<usize>)> {
    let [version, pid] = get::<[u32; 2]>(at)?;
    let parts = CAP_VERSIONS.iter().find(|(v, _)| *v == version).map(|(_, n)| *n);
    if parts.is_none() {
        put(at, &CAP_VERSIONS[2].0)?;
    }
    Ok((pid as i32, parts.ok_or(Errno::EINVAL)))
}
pub(crate) fn capget(r: &mut Regs) -> Ret {
    let (pid, parts) = cap_header(r.size::<0>())?;
    let parts = match (parts, r.ptr::<1>()) {
        // Only the version was asked for.
        (Err(_), None) => return Ok(0),
        (parts, _) => parts?,
    };
    let (e, p, i) = ids::capget(u32::try_from(pid).map_err(|_| Errno::EINVAL)?)?;
    let Some(at) = r.ptr::<1>() else { return Ok(0) };
    for n in 0..parts {
        put(at + n * 12, &[e, p, i].map(|c| (c >> (32 * n)) as u32))?;
    }
    Ok(0)
}
pub(crate) fn capset(r: &mut Regs) -> Ret {
    let (pid, parts) = cap_header(r.size::<0>())?;
    let parts = parts?;
    if pid != 0 && pid as u32 != current().tid() {
        return Err(Errno::EPERM);
    }
    let mut c = [0u64; 3];
    for n in 0..parts {
        for (all, part) in c.iter_mut().zip(get::<[u32; 3]>(r.size::<1>() + n * 12)?) {
            *all |= (part as u64) << (32 * n);
        }
    }
    ids::capset((c[0], c[1], c[2])).map(|()| 0)
}

pub(crate) fn prctl(r: &mut Regs) -> Ret {
    let a = [r.word::<1>(), r.word::<2>(), r.word::<3>(), r.word::<4>()];
    Ok(process::prctl::prctl(r.uint::<0>(), a)? as usize)
}

/// Changes or asks a limit. The page faults that grow a stack look at the address space for theirs.
fn limit(target: u32, resource: u32, new: Option<(u64, u64)>) -> Result<(u64, u64)> {
    let old = rlimit::prlimit(target, resource, new)?;
    if resource as usize == rlimit::STACK
        && let Some((soft, _)) = new
    {
        let p = if target == 0 { Some(current().process.clone()) } else { process::process::find(target) };
        if let Some(mm) = p.and_then(|p| p.mm()) {
            mm.set_stack_limit(soft);
        }
    }
    Ok(old)
}

pub(crate) fn getrlimit(r: &mut Regs) -> Ret {
    let (soft, hard) = limit(0, r.uint::<0>(), None)?;
    put(r.size::<1>(), &[soft, hard])?;
    Ok(0)
}
pub(crate) fn setrlimit(r: &mut Regs) -> Ret {
    let [soft, hard] = get::<[u64; 2]>(r.size::<1>())?;
    limit(0, r.uint::<0>(), Some((soft, hard)))?;
    Ok(0)
}
pub(crate) fn prlimit64(r: &mut Regs) -> Ret {
    let new = r.ptr::<2>().map(get::<[u64; 2]>).transpose()?.map(|[s, h]| (s, h));
    let (soft, hard) = limit(pid(r.int::<0>())?, r.uint::<1>(), new)?;
    put_opt(r.ptr::<3>(), &[soft, hard])?;
    Ok(0)
}

pub(crate) fn getrusage(r: &mut Regs) -> Ret {
    let me = current();
    let u = match r.int::<0>() {
        0 => Usage::of_process(&me.process),
        -1 => TREE.lock().get(me.process.pid()).map_or(Usage::default(), |n| n.waited),
        1 => Usage { maxrss_kib: me.process.maxrss_kib(), ..Usage::of_thread(&me.task(), &me) },
        _ => return Err(Errno::EINVAL),
    };
    user::copy_to_user(r.size::<1>(), &u.to_bytes())?;
    Ok(0)
}

/// `struct sysinfo`.
#[derive(Clone, Copy, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
struct SysInfo {
    uptime: u64,
    loads: [u64; 3],
    /// Total, free, shared, buffers; swap: total, free.
    ram: [u64; 6],
    procs: u16,
    pad: [u16; 3],
    high: [u64; 2],
    unit: u32,
    tail: u32,
}

pub(crate) fn sysinfo(r: &mut Regs) -> Ret {
    use mm::{PAGE_SIZE, buddy, stat};
    let page = PAGE_SIZE as u64;
    let s = SysInfo {
        // Linux rounds up.
        uptime: sched::time::boottime_ns().div_ceil(NS_PER_SEC),
        // From 11 bits of fraction to 16 (`SI_LOAD_SHIFT`).
        loads: sched::loadavg().map(|l| l << 5),
        ram: [
            buddy::managed_pages() * page,
            buddy::free_pages() * page,
            stat::get(stat::Item::Shmem) * page,
            0,
            0,
            0,
        ],
        procs: sched::pid::count().min(u16::MAX as usize) as u16,
        pad: [0; 3],
        high: [0; 2],
        unit: 1,
        tail: 0,
    };
    put(r.size::<0>(), &s)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use linux_raw_sys::general as raw;

    use super::*;

    #[test]
    fn layouts_have_linux_s_sizes() {
        assert_eq!(size_of::<SysInfo>(), size_of::<linux_raw_sys::system::sysinfo>());
        assert_eq!(size_of::<raw::rusage>(), Usage::default().to_bytes().len());
        assert_eq!(size_of::<raw::rlimit64>(), 16);
        assert_eq!(size_of::<raw::__user_cap_data_struct>(), 12);
        assert_eq!(CAP_VERSIONS[2].0, raw::_LINUX_CAPABILITY_VERSION_3);
    }
}
