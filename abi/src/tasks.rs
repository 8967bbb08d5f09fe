//! Calls that make, change, end and await tasks; futexes; what a thread tells about itself.

use base::{Errno, Result};
use frame::{
    atomic::Ordering::Relaxed,
    user::{self, Regs},
};
use linux_raw_sys::general as raw;
use process::{
    clone::{self, CloneArgs},
    current, data, exec, exit, futex, wait,
};
use vfs::LookupFlags;

use crate::{
    args::{Args, Ret, UserPath, deadline, get, get_growing, put, put_opt, timespec, to_ns},
    names::{at_flags, start},
    signals::put_child_info,
};

const CSIGNAL: u64 = 0xff;

fn make(r: &Regs, a: &CloneArgs<'_>) -> Ret {
    Ok(clone::clone(r, a)? as usize)
}
pub(crate) fn clone(r: &mut Regs) -> Ret {
    let flags = r.word::<0>() & 0xffff_ffff;
    // A thread sends no signal to anybody, whatever the low byte says.
    let exit_signal = if flags & clone::THREAD != 0 { 0 } else { (flags & CSIGNAL) as u32 };
    make(
        r,
        &CloneArgs {
            flags: flags & !CSIGNAL,
            exit_signal,
            stack: r.word::<1>(),
            tls: r.word::<4>(),
            parent_tid: r.word::<2>(),
            child_tid: r.word::<3>(),
            set_tid: &[],
        },
    )
}
pub(crate) fn fork(r: &mut Regs) -> Ret {
    make(r, &CloneArgs { exit_signal: raw::SIGCHLD, ..CloneArgs::default() })
}
pub(crate) fn vfork(r: &mut Regs) -> Ret {
    make(r, &CloneArgs { flags: clone::VM | clone::VFORK, exit_signal: raw::SIGCHLD, ..CloneArgs::default() })
}

/// `struct clone_args`: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup.
type Clone3 = [u64; 11];
/// `CLONE_ARGS_SIZE_VER0`.
const CLONE3_MIN: usize = 64;
/// As deep as Linux nests PID name spaces.
const MAX_PID_NS_LEVEL: u64 = 32;

pub(crate) fn clone3(r: &mut Regs) -> Ret {
    let size = r.size::<1>();
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    if size < CLONE3_MIN {
        return Err(Errno::EINVAL);
    }
    let [
        flags,
        _pidfd,
        child_tid,
        parent_tid,
        exit_signal,
        stack,
        stack_size,
        tls,
        set_tid,
        set_tid_size,
        _cgroup,
    ] = get_growing::<Clone3>(r.size::<0>(), size)?;
    let is_thread = flags & (clone::THREAD | clone::PARENT) != 0;
    let wrong = set_tid_size > MAX_PID_NS_LEVEL
        || (set_tid == 0) != (set_tid_size == 0)
        || exit_signal & !CSIGNAL != 0
        || flags & (raw::CLONE_DETACHED as u64 | CSIGNAL) != 0
        || is_thread && exit_signal != 0
        || (stack == 0) != (stack_size == 0);
    if wrong {
        return Err(Errno::EINVAL);
    }
    if stack != 0 && !user::range_ok(stack as usize, stack_size as usize) {
        return Err(Errno::EINVAL);
    }
    let mut tid = [0u32];
    if set_tid_size > 1 {
        return Err(Errno::EINVAL);
    }
    if set_tid_size == 1 {
        tid[0] = get(set_tid as usize)?;
    }
    make(
        r,
        &CloneArgs {
            flags,
            exit_signal: exit_signal as u32,
            stack: stack.wrapping_add(stack_size),
            tls,
            parent_tid,
            child_tid,
            set_tid: &tid[..set_tid_size as usize],
        },
    )
}

pub(crate) fn execve(r: &mut Regs) -> Ret {
    let path = UserPath::get(r.size::<0>())?;
    let (argv, envp) = (r.size::<1>(), r.size::<2>());
    exec::exec_user(r, None, &path, LookupFlags::FOLLOW, argv, envp)?;
    Ok(0)
}
pub(crate) fn execveat(r: &mut Regs) -> Ret {
    let how = at_flags(r.uint::<4>(), raw::AT_EMPTY_PATH | raw::AT_SYMLINK_NOFOLLOW)?;
    let path = UserPath::get(r.size::<1>())?;
    let at = start(r.int::<0>(), &path)?;
    let (argv, envp) = (r.size::<2>(), r.size::<3>());
    exec::exec_user(r, at.as_ref(), &path, how, argv, envp)?;
    Ok(0)
}
pub(crate) fn exit(r: &mut Regs) -> Ret {
    exit::exit_thread((r.uint::<0>() & 0xff) << 8)
}
pub(crate) fn exit_group(r: &mut Regs) -> Ret {
    exit::exit_group((r.uint::<0>() & 0xff) << 8)
}

pub(crate) fn wait4(r: &mut Regs) -> Ret {
    let Some(n) = wait::wait4(r.int::<0>(), r.uint::<2>())? else { return Ok(0) };
    put_opt(r.ptr::<1>(), &n.status)?;
    put_opt(r.ptr::<3>(), &n.usage.to_bytes())?;
    Ok(n.pid as usize)
}
pub(crate) fn waitid(r: &mut Regs) -> Ret {
    let n = wait::waitid(r.uint::<0>(), r.int::<1>(), r.uint::<3>())?;
    if let Some(n) = &n {
        put_opt(r.ptr::<4>(), &n.usage.to_bytes())?;
    }
    if let Some(at) = r.ptr::<2>() {
        put_child_info(at, n.map(|n| n.to_info()).as_ref())?;
    }
    Ok(0)
}

/// A number of waiters: `int` on Linux, where 0 wakes one all the same.
fn count(n: i32) -> usize {
    n.max(1) as usize
}
fn not_negative(n: i32) -> Result<usize> {
    usize::try_from(n).map_err(|_| Errno::EINVAL)
}

pub(crate) fn futex(r: &mut Regs) -> Ret {
    let (uaddr, op, val) = (r.size::<0>(), r.uint::<1>(), r.uint::<2>());
    let shared = op & raw::FUTEX_PRIVATE_FLAG == 0;
    let realtime = op & raw::FUTEX_CLOCK_REALTIME != 0;
    let cmd = op & !(raw::FUTEX_PRIVATE_FLAG | raw::FUTEX_CLOCK_REALTIME);
    if realtime && cmd != raw::FUTEX_WAIT_BITSET {
        return Err(Errno::ENOSYS);
    }
    // The fourth argument is a time-out for waits and a number for the others.
    let (val2, uaddr2, val3) = (r.int::<3>(), r.size::<4>(), r.uint::<5>());
    match cmd {
        raw::FUTEX_WAIT => {
            let end = r.ptr::<3>().map(timespec).transpose()?.map(|t| deadline(to_ns(t)));
            futex::wait(uaddr, shared, val, !0, end, true).map(|()| 0)
        }
        raw::FUTEX_WAIT_BITSET => {
            let end = r.ptr::<3>().map(timespec).transpose()?.map(to_ns);
            let end = end.map(|ns| if realtime { crate::time::realtime_to_monotonic(ns) } else { ns });
            futex::wait(uaddr, shared, val, val3, end, false).map(|()| 0)
        }
        raw::FUTEX_WAKE => futex::wake(uaddr, shared, count(val as i32), !0),
        raw::FUTEX_WAKE_BITSET => futex::wake(uaddr, shared, count(val as i32), val3),
        raw::FUTEX_REQUEUE => {
            futex::requeue(uaddr, uaddr2, shared, not_negative(val as i32)?, not_negative(val2)?, None)
        }
        raw::FUTEX_CMP_REQUEUE => {
            futex::requeue(uaddr, uaddr2, shared, not_negative(val as i32)?, not_negative(val2)?, Some(val3))
        }
        raw::FUTEX_WAKE_OP => futex::wake_op(uaddr, uaddr2, shared, count(val as i32), count(val2), val3),
        _ => Err(Errno::ENOSYS),
    }
}

/// Size of `struct robust_list_head`.
const ROBUST_HEAD: usize = 24;

pub(crate) fn set_robust_list(r: &mut Regs) -> Ret {
    if r.size::<1>() != ROBUST_HEAD {
        return Err(Errno::EINVAL);
    }
    current().robust_list.store(r.word::<0>(), Relaxed);
    Ok(0)
}
pub(crate) fn get_robust_list(r: &mut Regs) -> Ret {
    let me = current();
    let head = match r.int::<0>() {
        0 => me.robust_list.load(Relaxed),
        n => {
            let t = sched::pid::find(n as u32).ok_or(Errno::ESRCH)?;
            let d = data(&t).ok_or(Errno::EPERM)?;
            let (own, other) = (me.cred(), d.cred());
            if own.euid != other.uid && !own.has_cap(base::cred::cap::SYS_PTRACE) {
                return Err(Errno::EPERM);
            }
            d.robust_list.load(Relaxed)
        }
    };
    put(r.size::<2>(), &(ROBUST_HEAD as u64))?;
    put(r.size::<1>(), &head)?;
    Ok(0)
}
pub(crate) fn set_tid_address(r: &mut Regs) -> Ret {
    let me = current();
    me.clear_child_tid.store(r.word::<0>(), Relaxed);
    Ok(me.tid() as usize)
}

/// `ARCH_*` of asm/prctl.h.
const ARCH_SET_GS: u32 = 0x1001;
const ARCH_SET_FS: u32 = 0x1002;
const ARCH_GET_FS: u32 = 0x1003;
const ARCH_GET_GS: u32 = 0x1004;

pub(crate) fn arch_prctl(r: &mut Regs) -> Ret {
    let (code, addr) = (r.uint::<0>(), r.word::<1>());
    match code {
        ARCH_SET_FS | ARCH_SET_GS if addr >= user::END as u64 => Err(Errno::EPERM),
        ARCH_SET_FS => {
            r.fs_base = addr;
            Ok(0)
        }
        ARCH_SET_GS => {
            r.gs_base = addr;
            Ok(0)
        }
        ARCH_GET_FS => put(addr as usize, &r.fs_base).map(|()| 0),
        ARCH_GET_GS => put(addr as usize, &r.gs_base).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_linux_s_sizes() {
        assert_eq!(size_of::<Clone3>(), size_of::<raw::clone_args>());
        assert_eq!(size_of::<raw::robust_list_head>(), ROBUST_HEAD);
    }
    #[test]
    fn bases_stay_in_the_user_half() {
        let mut r = Regs { rdi: ARCH_SET_FS as u64, rsi: 1 << 47, ..Regs::default() };
        assert_eq!(arch_prctl(&mut r), Err(Errno::EPERM));
        r.rsi = 0x7000;
        assert_eq!((arch_prctl(&mut r), r.fs_base), (Ok(0), 0x7000));
        r.rdi = 7;
        assert_eq!(arch_prctl(&mut r), Err(Errno::EINVAL));
    }
}
