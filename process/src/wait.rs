//! `wait4(2)` and `waitid(2)`: news of children.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};
use linux_raw_sys::general as uapi;

use crate::{
    exit,
    process::{Process, current, data},
    signal::{
        info::{Fields, SigInfo},
        set::{CHLD, CONT},
    },
    tree::{Node, TREE},
    usage::Usage,
};

/// Which children.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    Any,
    Pid(u32),
    Group(u32),
}

bitflags::bitflags! {
    /// Options; the values are Linux's.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Options: u32 {
        const NOHANG = uapi::WNOHANG;
        const STOPPED = uapi::WUNTRACED;
        const EXITED = uapi::WEXITED;
        const CONTINUED = uapi::WCONTINUED;
        /// Leave the news to be fetched again.
        const NOWAIT = uapi::WNOWAIT;
        /// Only children that this very thread made.
        const NOTHREAD = uapi::__WNOTHREAD;
        const ALL = uapi::__WALL;
        /// Children that end with another signal than `SIGCHLD`.
        const CLONE = uapi::__WCLONE;
    }
}

/// What there is to tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct News {
    pub pid: u32,
    pub uid: u32,
    /// As `wait4` encodes it.
    pub status: u32,
    pub usage: Usage,
}

impl News {
    /// As `waitid` gives it.
    pub fn to_info(&self) -> SigInfo {
        let (code, status) = decode(self.status);
        let fields = Fields::Child { pid: self.pid, uid: self.uid, status, utime: 0, stime: 0 };
        SigInfo { signo: CHLD, errno: 0, code: code as i32, fields }
    }
}

/// A status as `si_code` and `si_status`.
fn decode(status: u32) -> (u32, i32) {
    match status {
        0xffff => (uapi::CLD_CONTINUED, CONT as i32),
        s if s & 0xff == 0x7f => (uapi::CLD_STOPPED, (s >> 8 & 0xff) as i32),
        s if s & 0x7f == 0 => (uapi::CLD_EXITED, (s >> 8 & 0xff) as i32),
        s => (uapi::CLD_KILLED, (s & 0x7f) as i32),
    }
}

/// Is this child one of those asked for?
fn matches<P>(pid: u32, n: &Node<P>, who: Who, opts: Options, tid: u32) -> bool {
    let chosen = match who {
        Who::Any => true,
        Who::Pid(p) => p == pid,
        Who::Group(g) => g == n.pgid,
    };
    let kind = opts.contains(Options::ALL) || (n.exit_signal != CHLD) == opts.contains(Options::CLONE);
    chosen && kind && (!opts.contains(Options::NOTHREAD) || n.parent_tid == tid)
}

/// Looks once: `Err(ECHILD)`, nothing yet, or news.
fn look(
    me: &Process,
    tid: u32,
    who: Who,
    opts: Options,
    dead: &mut Vec<Arc<Process>>,
) -> Result<Option<News>> {
    let mut tree = TREE.lock();
    let children = &tree.get(me.pid()).ok_or(Errno::ECHILD)?.children;
    let mut any = false;
    let mut found = None;
    let mut from = if let Who::Pid(p) = who { p } else { 0 };
    while let Some(&pid) = children.range(from..).next() {
        if matches!(who, Who::Pid(p) if p != pid) {
            break;
        }
        from = pid + 1;
        let Some(n) = tree.get(pid) else { continue };
        if !matches(pid, n, who, opts, tid) {
            continue;
        }
        any = true;
        if let Some(status) = n.zombie {
            if opts.contains(Options::EXITED) {
                found = Some((pid, status));
                break;
            }
            continue;
        }
        if !opts.intersects(Options::STOPPED | Options::CONTINUED) {
            continue;
        }
        let mut s = n.what.sig.lock();
        let keep = opts.contains(Options::NOWAIT);
        if opts.contains(Options::STOPPED) && s.stop.stopped && s.stop.signal != 0 {
            let status = s.stop.signal << 8 | 0x7f;
            if !keep {
                s.stop.signal = 0;
            }
            drop(s);
            // Without the size of its memory: that would need a sleeping lock, and a spin lock is held here.
            return Ok(Some(news(pid, &n.what, status, Usage::of_threads(&n.what))));
        }
        if opts.contains(Options::CONTINUED) && s.stop.continued {
            s.stop.continued = keep;
            drop(s);
            return Ok(Some(news(pid, &n.what, 0xffff, Usage::of_threads(&n.what))));
        }
    }
    let Some((pid, status)) = found else {
        return if any { Ok(None) } else { Err(Errno::ECHILD) };
    };
    let n = tree.get(pid).ok_or(Errno::ECHILD)?;
    let mut usage = Usage::of_process(&n.what);
    usage.add(&n.waited);
    let told = news(pid, &n.what, status, usage);
    if !opts.contains(Options::NOWAIT) {
        exit::collect(&mut tree, pid, dead);
        if let Some(m) = tree.get_mut(me.pid()) {
            m.waited.add(&usage);
        }
    }
    Ok(Some(told))
}

fn news(pid: u32, p: &Process, status: u32, usage: Usage) -> News {
    let uid = p.leader().and_then(|l| data(&l).map(|d| d.cred().uid)).unwrap_or(0);
    News { pid, uid, status, usage }
}

/// Waits. `Ok(None)`: `WNOHANG`, and there is nothing yet. `ERESTARTSYS` if a signal came first.
pub fn wait(who: Who, opts: Options) -> Result<Option<News>> {
    let me = current();
    let p = me.process.clone();
    let tid = me.tid();
    let mut dead = Vec::new();
    let mut once = || match look(&p, tid, who, opts, &mut dead) {
        Ok(None) => None,
        Ok(Some(n)) => Some(Ok(Some(n))),
        Err(e) => Some(Err(e)),
    };
    crate::trace::waits(if let Who::Pid(n) = who { n } else { 0 });
    let r = if opts.contains(Options::NOHANG) {
        once().unwrap_or(Ok(None))
    } else {
        match p.child_wait.wait_interruptible(once) {
            Ok(r) => r,
            Err(_) => Err(Errno::ERESTARTSYS),
        }
    };
    for d in dead {
        exit::free(d);
    }
    r
}

/// `wait4(2)`.
pub fn wait4(pid: i32, options: u32) -> Result<Option<News>> {
    let ok = Options::NOHANG
        | Options::STOPPED
        | Options::CONTINUED
        | Options::NOTHREAD
        | Options::CLONE
        | Options::ALL;
    let opts =
        Options::from_bits(options).filter(|o| ok.contains(*o)).ok_or(Errno::EINVAL)? | Options::EXITED;
    let who = match pid {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => Who::Any,
        0 => Who::Group(own_group()),
        p if p < 0 => Who::Group(p.unsigned_abs()),
        p => Who::Pid(p as u32),
    };
    wait(who, opts)
}

/// `waitid(2)`. (`P_PIDFD` is `EINVAL`: there are no PID descriptors yet.)
pub fn waitid(which: u32, id: i32, options: u32) -> Result<Option<News>> {
    let opts = Options::from_bits(options).ok_or(Errno::EINVAL)?;
    if !opts.intersects(Options::EXITED | Options::STOPPED | Options::CONTINUED) {
        return Err(Errno::EINVAL);
    }
    let who = match which {
        uapi::P_ALL => Who::Any,
        uapi::P_PID if id > 0 => Who::Pid(id as u32),
        uapi::P_PGID if id == 0 => Who::Group(own_group()),
        uapi::P_PGID if id > 0 => Who::Group(id as u32),
        _ => return Err(Errno::EINVAL),
    };
    wait(who, opts)
}

fn own_group() -> u32 {
    TREE.lock().get(current().process.pid()).map_or(0, |n| n.pgid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn children_are_matched_as_asked() {
        let mut t: Tree<()> = Tree::new();
        t.insert(1, 0, 0, 0, ());
        t.insert(5, 1, 9, CHLD, ());
        t.insert(6, 1, 1, 0, ());
        let m = |pid, who, o: Options| matches(pid, t.get(pid).unwrap(), who, o, 1);
        assert!(m(5, Who::Any, Options::EXITED) && !m(6, Who::Any, Options::EXITED));
        assert!(m(6, Who::Any, Options::CLONE) && !m(5, Who::Any, Options::CLONE));
        assert!(m(6, Who::Pid(6), Options::ALL) && !m(5, Who::Pid(6), Options::ALL));
        assert!(!m(5, Who::Any, Options::NOTHREAD) && m(6, Who::Group(0), Options::NOTHREAD | Options::ALL));
    }

    #[test]
    fn statuses_decode() {
        assert_eq!(decode(3 << 8), (uapi::CLD_EXITED, 3));
        assert_eq!(decode(9), (uapi::CLD_KILLED, 9));
        assert_eq!(decode(19 << 8 | 0x7f), (uapi::CLD_STOPPED, 19));
        assert_eq!(decode(0xffff), (uapi::CLD_CONTINUED, 18));
    }
}
