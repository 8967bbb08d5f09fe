//! Stopping and continuing a process as a whole, and telling its parent.
//!
//! One thread takes the stop signal; it asks all threads of the process to stop, and each does so on its way back to user mode.
//! The last one to stop tells the parent (`CLD_STOPPED`). `SIGCONT` wakes them the moment it is *sent*; the parent is told
//! (`CLD_CONTINUED`) by the first thread that comes to deliver signals.

use frame::{
    atomic::Ordering::Relaxed,
    task::{Current, State},
};
use linux_raw_sys::general as uapi;

use super::{
    action::{SA_NOCLDSTOP, SIG_IGN},
    info::{Fields, SigInfo},
    send::{self, Force},
    set::{CHLD, CONT, Signo},
};
use crate::{
    process::{Process, Signals, ThreadData, data},
    tree::{TREE, Tree},
    usage::Usage,
};

/// Where a process stands between running and stopped.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stop {
    /// The signal that stopped it, for `wait`; 0 once that was reported or it was continued.
    pub signal: Signo,
    /// Threads that have yet to stop.
    pub missing: u32,
    /// All have.
    pub stopped: bool,
    /// It was continued, and nobody has asked for that yet.
    pub continued: bool,
    /// What the parent is still to be told: a `CLD_` code.
    notice: Option<u32>,
}

impl Stop {
    pub fn owes_notice(&self) -> bool {
        self.notice.is_some()
    }
    pub(crate) fn cancel(&mut self) {
        *self = Stop::default();
    }
}

/// `SIGCONT` is being sent.
pub(crate) fn on_continue(_p: &Process, s: &mut Signals) {
    for t in &s.threads {
        if let Some(d) = data(t) {
            d.stop_pending.store(false, Relaxed);
            if d.stopped.swap(false, Relaxed) || t.state().contains(State::STOPPED) {
                t.set_work(frame::task::Work::SIGNAL);
                frame::task::wake(t, State::STOPPED);
            }
        }
    }
    let notice = if s.stop.stopped {
        Some(uapi::CLD_CONTINUED)
    } else if s.stop.missing != 0 {
        Some(uapi::CLD_STOPPED)
    } else {
        None
    };
    if notice.is_some() {
        s.stop = Stop { notice, continued: true, ..Stop::default() };
        for t in &s.threads {
            send::wake(t, false);
        }
    }
}

/// The notice that the parent is owed, if any; it is the caller's to deliver.
pub(crate) fn take_notice(s: &mut Signals) -> Option<u32> {
    s.stop.notice.take()
}

/// The running thread takes stop signal `sig` and brings the whole process to a halt.
pub(crate) fn begin(s: &mut Signals, sig: Signo) {
    if s.exiting.is_some() || s.exec_by.is_some() {
        return;
    }
    s.stop = Stop { signal: sig, missing: 0, stopped: false, continued: false, notice: s.stop.notice };
    for t in &s.threads {
        let Some(d) = data(t) else { continue };
        if d.is_exiting() || d.stopped.load(Relaxed) {
            continue;
        }
        if !d.stop_pending.swap(true, Relaxed) {
            s.stop.missing += 1;
            send::wake(t, false);
        }
    }
}

/// One thread less to wait for. True if all have stopped now.
pub(crate) fn one_less(s: &mut Signals) -> bool {
    s.stop.missing = s.stop.missing.saturating_sub(1);
    if s.stop.missing == 0 && !s.stop.stopped && s.stop.signal != 0 {
        s.stop.stopped = true;
        return true;
    }
    false
}

/// The running thread stops, if it was asked to, until it is continued or killed.
pub(crate) fn participate(task: &Current, me: &ThreadData) {
    let p = &me.process;
    let last = {
        let mut s = p.sig.lock();
        if !me.stop_pending.swap(false, Relaxed) {
            return;
        }
        me.stopped.store(true, Relaxed);
        task.set_state(State::STOPPED);
        one_less(&mut s)
    };
    if last {
        tell_parent(p, uapi::CLD_STOPPED);
    }
    frame::task::schedule();
    task.set_running();
    let _s = p.sig.lock();
    me.stopped.store(false, Relaxed);
}

/// `SIGCHLD` about a stop or a continuation, and a wake-up for whoever waits.
pub(crate) fn tell_parent(p: &Process, why: u32) {
    let usage = Usage::of_process(p);
    let uid = p.leader().and_then(|l| data(&l).map(|d| d.cred().uid)).unwrap_or(0);
    let status = if why == uapi::CLD_CONTINUED { CONT } else { p.sig.lock().stop.signal };
    let tree = TREE.lock();
    let Some(parent) = parent_of(&tree, p.pid()) else { return };
    let fields = Fields::Child {
        pid: p.pid(),
        uid,
        status: (status & 0x7f) as i32,
        utime: usage.user_ns / 10_000_000,
        stime: usage.system_ns / 10_000_000,
    };
    let quiet = {
        let s = parent.sig.lock();
        let a = s.action(CHLD);
        a.handler == SIG_IGN || a.has(SA_NOCLDSTOP)
    };
    if !quiet {
        let _ = send::send_process(
            &parent,
            SigInfo { signo: CHLD, errno: 0, code: why as i32, fields },
            Force::No,
        );
    }
    parent.child_wait.wake_all();
}

fn parent_of(tree: &Tree<alloc::sync::Arc<Process>>, pid: u32) -> Option<alloc::sync::Arc<Process>> {
    let n = tree.get(pid)?;
    tree.get(n.parent).map(|p| p.what.clone())
}
