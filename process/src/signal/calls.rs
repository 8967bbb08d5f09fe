//! The signal system calls that change or wait on the running thread's own state. Sending is in [`super::send`].

use base::{Errno, Result};
use frame::{atomic::Ordering::SeqCst, task::State, user::Regs};
use linux_raw_sys::general as uapi;

use super::{
    action::{SIG_DFL, SIG_IGN, SigAction},
    deliver::set_blocked,
    info::SigInfo,
    send,
    set::{self, IGNORED, SigSet, Signo},
};
use crate::process::current;

/// `rt_sigaction(2)`: the old action.
pub fn sigaction(sig: Signo, new: Option<SigAction>) -> Result<SigAction> {
    if !set::valid(sig) || new.is_some() && set::UNBLOCKABLE.contains(sig) {
        return Err(Errno::EINVAL);
    }
    let me = current();
    let mut s = me.process.sig.lock();
    let old = *s.action(sig);
    if let Some(a) = new {
        s.handlers[sig as usize - 1] = a;
        // POSIX: setting a signal to be ignored discards it if pending.
        if a.handler == SIG_IGN || a.handler == SIG_DFL && IGNORED.contains(sig) {
            send::discard(&mut s, SigSet::of(&[sig]));
            send::recalc(&me, &me.task(), &s);
        }
    }
    Ok(old)
}

/// `rt_sigprocmask(2)`: the old mask.
pub fn sigprocmask(how: u32, set: Option<SigSet>) -> Result<SigSet> {
    let me = current();
    let old = me.blocked();
    if let Some(s) = set {
        let new = match how {
            uapi::SIG_BLOCK => old.or(s),
            uapi::SIG_UNBLOCK => old.without(s),
            uapi::SIG_SETMASK => s,
            _ => return Err(Errno::EINVAL),
        };
        set_blocked(&me, new);
    }
    Ok(old)
}

/// `rt_sigpending(2)`.
pub fn sigpending() -> SigSet {
    let me = current();
    let s = me.process.sig.lock();
    s.shared.set().or(me.pending.lock().set()).and(me.blocked())
}

/// `sigaltstack(2)`: the old stack; `new` in the program's bytes.
pub fn sigaltstack(regs: &Regs, new: Option<&[u8; 24]>) -> Result<[u8; 24]> {
    let me = current();
    let mut a = me.altstack.lock();
    let old = a.to_bytes(regs.rsp);
    if let Some(b) = new {
        *a = a.replace(b, regs.rsp)?;
    }
    Ok(old)
}

/// Sets the mask for one system call (`ppoll`, `pselect6`, `epoll_pwait`, `sigsuspend`). If the call is interrupted, the old mask
/// comes back after the handler; if not, the caller ends it with [`end_temporary_mask`].
pub fn begin_temporary_mask(mask: SigSet) {
    let me = current();
    let old = me.blocked();
    me.save_mask(old);
    set_blocked(&me, mask);
}

/// The call is over. `interrupted`: leave the mask to the delivery of the signal.
pub fn end_temporary_mask(interrupted: bool) {
    let me = current();
    if !interrupted && let Some(old) = me.take_saved_mask() {
        set_blocked(&me, old);
    }
}

fn sleep_for_signal() {
    let task = frame::task::current();
    loop {
        task.set_state(State::INTERRUPTIBLE);
        if !task.work().is_empty() {
            break;
        }
        frame::task::schedule();
        if !task.work().is_empty() {
            break;
        }
    }
    task.set_running();
}

/// `rt_sigsuspend(2)`. Always `ERESTARTNOHAND`.
pub fn sigsuspend(mask: SigSet) -> Errno {
    begin_temporary_mask(mask);
    sleep_for_signal();
    Errno::ERESTARTNOHAND
}

/// `pause(2)`. Always `ERESTARTNOHAND`.
pub fn pause() -> Errno {
    sleep_for_signal();
    Errno::ERESTARTNOHAND
}

/// `rt_sigtimedwait(2)`: takes a signal of `set`. `EAGAIN` when the time is up, `EINTR` for another signal.
pub fn sigtimedwait(set: SigSet, deadline_ns: Option<u64>) -> Result<SigInfo> {
    let me = current();
    let set = set.without(set::UNBLOCKABLE);
    if let Some(i) = take(set) {
        return Ok(i);
    }
    if deadline_ns.is_some_and(|d| d <= sched::time::now_ns()) {
        return Err(Errno::EAGAIN);
    }
    // The set is unblocked while it is waited for, so that such a signal wakes this thread.
    let task = me.task();
    let old = me.blocked();
    {
        let s = me.process.sig.lock();
        me.real_blocked.store(old.0, SeqCst);
        me.blocked.store(old.without(set).0, SeqCst);
        send::recalc(&me, &task, &s);
    }
    let end = deadline_ns.unwrap_or(u64::MAX);
    let slept = sched::time::sleep_until(end, State::INTERRUPTIBLE);
    me.real_blocked.store(0, SeqCst);
    let got = {
        let mut s = me.process.sig.lock();
        me.blocked.store(old.0, SeqCst);
        let own = me.pending.lock().take(set);
        let got = own.or_else(|| s.shared.take(set));
        send::recalc(&me, &task, &s);
        got
    };
    match got {
        Some(mut i) => {
            crate::posix_timer::delivered(&me.process, &mut i);
            Ok(i)
        }
        None if slept.is_ok() => Err(Errno::EAGAIN),
        None => Err(Errno::EINTR),
    }
}

/// Takes a pending signal of `set` without waiting: also what `signalfd` reads.
pub fn take(set: SigSet) -> Option<SigInfo> {
    let me = current();
    let mut got = {
        let mut s = me.process.sig.lock();
        let own = me.pending.lock().take(set);
        let got = own.or_else(|| s.shared.take(set));
        send::recalc(&me, &me.task(), &s);
        got
    };
    if let Some(i) = &mut got {
        crate::posix_timer::delivered(&me.process, i);
    }
    got
}
