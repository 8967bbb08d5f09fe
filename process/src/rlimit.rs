//! Resource limits (`getrlimit(2)`). A process has sixteen pairs; each is enforced by the code that hands the resource out.

use base::{Errno, Result, cred::cap};
use linux_raw_sys::general as uapi;
use vfs::file_limits::nr_open;

use crate::process::Process;

/// No limit.
pub const INFINITY: u64 = !0;
pub const COUNT: usize = 16;
pub const CPU: usize = uapi::RLIMIT_CPU as usize;
pub const DATA: usize = uapi::RLIMIT_DATA as usize;
pub const STACK: usize = uapi::RLIMIT_STACK as usize;
pub const CORE: usize = uapi::RLIMIT_CORE as usize;
pub const NPROC: usize = uapi::RLIMIT_NPROC as usize;
pub const NOFILE: usize = uapi::RLIMIT_NOFILE as usize;
pub const MEMLOCK: usize = uapi::RLIMIT_MEMLOCK as usize;
pub const AS: usize = uapi::RLIMIT_AS as usize;
pub const SIGPENDING: usize = uapi::RLIMIT_SIGPENDING as usize;
pub const MSGQUEUE: usize = uapi::RLIMIT_MSGQUEUE as usize;
pub const NICE: usize = uapi::RLIMIT_NICE as usize;
pub const RTPRIO: usize = uapi::RLIMIT_RTPRIO as usize;

/// Names and units as `/proc/PID/limits` prints them, by number.
pub const NAMES: [(&str, &str); COUNT] = [
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];

/// All limits of a process: (soft, hard).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits([(u64, u64); COUNT]);

impl Limits {
    /// What Linux gives init. `threads` is how many the machine's memory allows; half of them for one user.
    pub fn initial(threads: u64) -> Limits {
        let mut l = [(INFINITY, INFINITY); COUNT];
        l[STACK].0 = 8 << 20;
        l[CORE].0 = 0;
        l[NPROC] = (threads / 2, threads / 2);
        l[SIGPENDING] = (threads / 2, threads / 2);
        l[NOFILE] = (1024, 4096);
        l[MEMLOCK] = (8 << 20, 8 << 20);
        l[MSGQUEUE] = (819_200, 819_200);
        l[NICE] = (0, 0);
        l[RTPRIO] = (0, 0);
        Limits(l)
    }
    #[inline]
    pub fn soft(&self, r: usize) -> u64 {
        self.0[r].0
    }
    #[inline]
    pub fn hard(&self, r: usize) -> u64 {
        self.0[r].1
    }
    #[inline]
    pub fn get(&self, r: usize) -> (u64, u64) {
        self.0[r]
    }
    /// Changes one limit by the rules: soft at most hard; raising hard needs a privilege.
    pub fn set(&mut self, r: usize, new: (u64, u64), may_raise: bool) -> Result<()> {
        if r >= COUNT || new.0 > new.1 {
            return Err(Errno::EINVAL);
        }
        if r == NOFILE && new.1 > nr_open() || new.1 > self.0[r].1 && !may_raise {
            return Err(Errno::EPERM);
        }
        self.0[r] = new;
        Ok(())
    }
}

/// `prlimit64`: changes and returns the old pair.
pub fn prlimit(target: u32, resource: u32, new: Option<(u64, u64)>) -> Result<(u64, u64)> {
    let r = resource as usize;
    if r >= COUNT {
        return Err(Errno::EINVAL);
    }
    let me = crate::process::current();
    let cred = me.cred();
    let other;
    let p: &Process = if target == 0 || target == me.process.pid() {
        &me.process
    } else {
        let task = sched::pid::find(target).ok_or(Errno::ESRCH)?;
        let d = crate::process::data(&task).ok_or(Errno::EPERM)?;
        let t = d.cred();
        let same = [t.uid, t.euid, t.suid] == [cred.uid; 3] && [t.gid, t.egid, t.sgid] == [cred.gid; 3];
        if !same && !cred.has_cap(cap::SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        other = d.process.clone();
        &other
    };
    let mut limits = p.limits.lock();
    let old = limits.get(r);
    if let Some(mut n) = new {
        // A limit of 0 seconds would kill at once; Linux makes it one.
        if r == CPU && n.0 == 0 {
            n.0 = 1;
        }
        limits.set(r, n, cred.has_cap(cap::SYS_RESOURCE))?;
    }
    drop(limits);
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_privilege_raises_the_hard_limit() {
        let mut l = Limits::initial(1000);
        assert_eq!(l.get(NPROC), (500, 500));
        assert_eq!(l.set(NOFILE, (2048, 4096), false), Ok(()));
        assert_eq!(l.set(NOFILE, (2048, 8192), false), Err(Errno::EPERM));
        assert_eq!(l.set(NOFILE, (2048, 8192), true), Ok(()));
        assert_eq!(l.set(NOFILE, (2, nr_open() + 1), true), Err(Errno::EPERM));
        assert_eq!(l.set(STACK, (2, 1), true), Err(Errno::EINVAL));
        assert_eq!(l.set(16, (1, 1), true), Err(Errno::EINVAL));
    }
}
