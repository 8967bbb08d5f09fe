//! Process groups and sessions: the calls, and what the terminal asks.

use base::{Errno, Result};

use crate::{process::current, tree::TREE};

fn number(pid: u32) -> u32 {
    if pid == 0 {
        current().process.pid()
    } else {
        sched::pid::find(pid).map_or(pid, |t| sched::thread(&t).tgid())
    }
}

/// `setpgid(2)`.
pub fn setpgid(pid: u32, pgid: u32) -> Result<()> {
    TREE.lock().set_group(current().process.pid(), pid, pgid)
}
/// `getpgid(2)`; 0: the caller.
pub fn getpgid(pid: u32) -> Result<u32> {
    let pid = number(pid);
    TREE.lock().get(pid).map(|n| n.pgid).ok_or(Errno::ESRCH)
}
/// `setsid(2)`. The new session has no terminal.
pub fn setsid() -> Result<u32> {
    let p = current().process.clone();
    let sid = TREE.lock().set_session(p.pid())?;
    p.tty_nr.store(0, frame::atomic::Ordering::Relaxed);
    Ok(sid)
}
/// `getsid(2)`; 0: the caller.
pub fn getsid(pid: u32) -> Result<u32> {
    let pid = number(pid);
    TREE.lock().get(pid).map(|n| n.sid).ok_or(Errno::ESRCH)
}
/// `getppid(2)`.
pub fn getppid() -> u32 {
    parent_of(current().process.pid())
}
/// The parent's number; 0: none.
pub fn parent_of(pid: u32) -> u32 {
    TREE.lock().get(pid).map_or(0, |n| n.parent)
}
