//! What happens to pending signals before the thread goes back to user mode.

use frame::{
    atomic::Ordering::{Relaxed, SeqCst},
    task::{Current, Work},
    user::Regs,
};

use super::{
    action::{SA_NODEFER, SA_RESETHAND, SA_RESTART, SIG_DFL, SIG_IGN, SigAction},
    context,
    info::SigInfo,
    send,
    set::{self, KILL, SEGV, STOP, SigSet},
    stop,
};
use crate::{
    posix_timer,
    process::{Me, current},
    tree::TREE,
};

/// What there is to do.
enum Next {
    /// Nothing more.
    Nothing,
    /// The thread ends, and its process with it unless that is going on already.
    Die(u32),
    /// Run a handler.
    Handle(SigInfo, SigAction),
    /// Nothing happens, but it has been taken; then look again.
    Ignored(SigInfo),
    /// Look again.
    Again,
    /// Stop, then look again.
    Stop,
    /// The parent must hear of this first.
    Tell(u32),
}

/// Serves `Work::SIGNAL` and `KILL`. `in_call`: the program is in a system call whose result is in `rax`.
pub(crate) fn signals(task: &Current, regs: &mut Regs, in_call: bool) {
    let me = current();
    loop {
        match next(&me, task) {
            Next::Again => {}
            Next::Stop => stop::participate(task, &me),
            Next::Tell(why) => stop::tell_parent(&me.process, why),
            Next::Die(status) => crate::exit::exit_group(status),
            Next::Ignored(mut info) => posix_timer::delivered(&me.process, &mut info),
            Next::Handle(mut info, action) => {
                posix_timer::delivered(&me.process, &mut info);
                if in_call {
                    restart_for_handler(regs, &action);
                }
                handle(&me, regs, info, &action);
                // One frame; others that wait are stacked on it by the next round.
                return;
            }
            Next::Nothing => break,
        }
    }
    if in_call {
        restart_without_handler(regs);
    }
    if let Some(mask) = me.take_saved_mask() {
        set_blocked(&me, mask);
    }
}

fn next(me: &Me, task: &Current) -> Next {
    let p = &me.process;
    let mut s = p.sig.lock();
    if let Some(why) = stop::take_notice(&mut s) {
        return Next::Tell(why);
    }
    if let Some(status) = s.exiting {
        return Next::Die(status);
    }
    if s.exec_by.is_some_and(|t| t != me.tid()) {
        return Next::Die(0);
    }
    if me.stop_pending.load(Relaxed) {
        return Next::Stop;
    }
    let wanted = SigSet::ALL.without(me.blocked());
    let own = me.pending.lock().take(wanted.and(set::SYNCHRONOUS));
    let own = own.or_else(|| me.pending.lock().take(wanted));
    let Some(info) = own.or_else(|| s.shared.take(wanted)) else {
        send::recalc(me, task, &s);
        return Next::Nothing;
    };
    send::recalc(me, task, &s);
    let sig = info.signo;
    let action = *s.action(sig);
    base::trace!(crate::trace::signal_deliver {
        sig: sig as i32,
        errno: info.errno,
        code: info.code,
        sa_handler: action.handler as u64,
        sa_flags: action.flags as u64,
    });
    if action.handler == SIG_IGN {
        return Next::Ignored(info);
    }
    if action.handler != SIG_DFL {
        if action.has(SA_RESETHAND) {
            s.handlers[sig as usize - 1].handler = SIG_DFL;
        }
        return Next::Handle(info, action);
    }
    if s.unkillable && !set::UNBLOCKABLE.contains(sig) {
        return Next::Ignored(info);
    }
    match set::default_action(sig) {
        set::Default::Ignore => Next::Ignored(info),
        set::Default::Stop => {
            if sig != STOP {
                drop(s);
                // Nobody would ever continue an orphaned group.
                let orphaned = {
                    let t = TREE.lock();
                    t.get(p.pid()).is_some_and(|n| t.is_orphaned(n.pgid, None))
                };
                if orphaned {
                    return Next::Again;
                }
                s = p.sig.lock();
            }
            stop::begin(&mut s, sig);
            Next::Again
        }
        set::Default::Terminate => Next::Die(sig),
    }
}

/// Number of `restart_syscall`.
const NR_RESTART: u64 = 219;
const ERESTARTSYS: i64 = -512;
const ERESTARTNOINTR: i64 = -513;
const ERESTARTNOHAND: i64 = -514;
const ERESTART_RESTARTBLOCK: i64 = -516;
/// Length of the `syscall` instruction.
const CALL_LEN: u64 = 2;

/// An interrupted call whose handler runs now: is it to be made again after the handler?
fn restart_for_handler(regs: &mut Regs, action: &SigAction) {
    match regs.rax as i64 {
        ERESTART_RESTARTBLOCK | ERESTARTNOHAND => regs.rax = -4i64 as u64,
        ERESTARTSYS if !action.has(SA_RESTART) => regs.rax = -4i64 as u64,
        ERESTARTSYS | ERESTARTNOINTR => again(regs, regs.orig_rax),
        _ => {}
    }
}

/// An interrupted call without a handler always goes on.
pub(crate) fn restart_without_handler(regs: &mut Regs) {
    match regs.rax as i64 {
        ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND => again(regs, regs.orig_rax),
        ERESTART_RESTARTBLOCK => again(regs, NR_RESTART),
        _ => {}
    }
}

fn again(regs: &mut Regs, nr: u64) {
    regs.rax = nr;
    regs.rip = regs.rip.wrapping_sub(CALL_LEN);
}

fn handle(me: &Me, regs: &mut Regs, info: SigInfo, action: &SigAction) {
    let sig = info.signo;
    let old = me.mask_for_frame();
    if context::build(me, regs, &info, action, old).is_err() {
        // Linux: a frame that cannot be written is a segmentation fault, and a fatal one if that was the signal.
        if sig == SEGV {
            send::force_fatal(SEGV);
        } else {
            send::force(SigInfo::kernel(SEGV));
        }
        return;
    }
    let mut mask = me.blocked().or(action.mask);
    if !action.has(SA_NODEFER) {
        mask.add(sig);
    }
    set_blocked(me, mask);
}

/// Changes the running thread's mask. Signals to the process that it was chosen for, and now blocks, go to other threads.
pub fn set_blocked(me: &Me, mask: SigSet) {
    let mask = mask.without(set::UNBLOCKABLE);
    if mask == me.blocked() {
        return;
    }
    let task = me.task();
    let s = me.process.sig.lock();
    let newly = mask.without(me.blocked());
    me.blocked.store(mask.0, SeqCst);
    if !newly.and(s.shared.set()).is_empty() {
        pass_on(&s, &task, newly.and(s.shared.set()));
    }
    send::recalc(me, &task, &s);
}

/// Wakes a thread that can take what this one cannot.
pub(crate) fn pass_on(s: &crate::process::Signals, me: &Current, mut which: SigSet) {
    for t in &s.threads {
        if core::ptr::eq(&**t, &**me) {
            continue;
        }
        let Some(d) = crate::process::data(t) else { continue };
        if d.is_exiting() || which.without(d.blocked()).is_empty() {
            continue;
        }
        which = which.and(d.blocked());
        if !t.work().contains(Work::SIGNAL) {
            send::wake(t, false);
        }
        if which.is_empty() {
            break;
        }
    }
}

/// True if a fatal signal waits for the running thread.
pub fn fatal_pending(me: &Me) -> bool {
    me.pending.lock().set().contains(KILL) || me.process.sig.lock().exiting.is_some()
}
