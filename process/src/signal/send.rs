//! Sending signals.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result, cred::cap};
use frame::{
    atomic::Ordering::{Relaxed, SeqCst},
    task::{State, Task, Work},
};
use sched::TaskRef;

use super::{
    info::{SI_TIMER, SI_TKILL, SI_USER, SigInfo},
    pending::{Added, Pending},
    set::{self, CONT, KILL, STOPS, SigSet, Signo},
    stop,
};
use crate::{
    process::{Process, Signals, ThreadData, current, data, try_current},
    trace::{self, Sent},
    tree::TREE,
};

/// How sure the sender is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Force {
    /// An ordinary signal.
    No,
    /// From the kernel: reaches even init if it is `SIGKILL` or `SIGSTOP`.
    Kernel,
}

/// Makes a thread look at its signals. With `fatal` even a stopped or killable sleeper.
pub(crate) fn wake(t: &TaskRef, fatal: bool) {
    t.set_work(if fatal { Work::SIGNAL | Work::KILL } else { Work::SIGNAL });
    let mask = if fatal {
        State::INTERRUPTIBLE | State::WAKEKILL | State::STOPPED | State::TRACED
    } else {
        State::INTERRUPTIBLE
    };
    if !frame::task::wake(t, mask) {
        kick(t);
    }
}

/// Gets a thread that runs in user mode on another processor to come into the kernel.
fn kick(t: &Task) {
    if t.is_on_cpu() && !core::ptr::eq(t, &*frame::task::current()) {
        frame::task::resched(t.cpu());
    }
}

/// Sets or clears `Work::SIGNAL` of the running thread by what is pending. Call it with `sig` held.
pub(crate) fn recalc(me: &ThreadData, task: &Task, s: &Signals) {
    let ready = s.shared.set().or(me.pending.lock().set()).without(me.blocked());
    let group =
        s.exiting.is_some() && !me.is_exiting() || me.stop_pending.load(Relaxed) || s.stop.owes_notice();
    if !ready.is_empty() || group {
        task.set_work(Work::SIGNAL);
    } else {
        task.clear_work(Work::SIGNAL);
    }
    if !(ready.contains(KILL)
        || s.exiting.is_some()
        || s.exec_by.is_some_and(|t| t != sched::thread(task).pid()))
    {
        task.clear_work(Work::KILL);
    }
}

/// True if the signal would have no effect on this process, so that it need not even be queued.
fn is_ignored(s: &Signals, blocked: SigSet, sig: Signo, force: Force) -> bool {
    // A blocked signal may find a handler by the time it is unblocked.
    if blocked.contains(sig) {
        return false;
    }
    let a = s.action(sig);
    if s.unkillable
        && a.handler == super::action::SIG_DFL
        && !(force == Force::Kernel && set::UNBLOCKABLE.contains(sig))
    {
        return true;
    }
    a.ignores(sig)
}

/// Stop signals and `SIGCONT` cancel each other the moment they are sent. True if the signal is worth queueing.
fn prepare(p: &Process, s: &mut Signals, blocked: SigSet, sig: Signo, force: Force) -> bool {
    if s.exiting.is_some() {
        // While a dump is being written, this one ends the writing.
        if let Some(dumper) = s.core_by.filter(|_| sig == KILL) {
            p.core_killed.store(true, SeqCst);
            s.threads.iter().filter(|t| sched::thread(t).pid() == dumper).for_each(|t| wake(t, true));
        }
        return false;
    }
    if STOPS.contains(sig) {
        discard(s, SigSet::of(&[CONT]));
    } else if sig == CONT {
        discard(s, STOPS);
        stop::on_continue(p, s);
    }
    !is_ignored(s, blocked, sig, force)
}

/// Forgets pending signals, the process's and each thread's.
pub(crate) fn discard(s: &mut Signals, which: SigSet) {
    s.shared.discard(which);
    for t in &s.threads {
        if let Some(d) = data(t) {
            d.pending.lock().discard(which);
        }
    }
}

/// True if this thread could take the signal now.
fn wants(t: &TaskRef, sig: Signo) -> bool {
    let Some(d) = data(t) else { return false };
    if d.blocked().contains(sig) || d.is_exiting() {
        return false;
    }
    sig == KILL || !d.stopped.load(Relaxed) && (t.is_on_cpu() || !t.work().contains(Work::SIGNAL))
}

/// Finds a thread for a signal that has just been queued, and tells it.
fn complete(s: &mut Signals, sig: Signo, to: Option<&TaskRef>) {
    let chosen = match to {
        Some(t) => wants(t, sig).then(|| t.clone()),
        None => choose(s, sig),
    };
    let Some(t) = chosen else { return };
    let real_blocked = data(&t).map_or(SigSet::EMPTY, |d| SigSet(d.real_blocked.load(Relaxed)));
    if s.action(sig).is_fatal(sig) && s.exiting.is_none() && !real_blocked.contains(sig) {
        begin_exit(s, sig);
        return;
    }
    wake(&t, sig == KILL);
}

/// The leader if it can, else the next in turn.
fn choose(s: &mut Signals, sig: Signo) -> Option<TaskRef> {
    if let Some(l) = &s.leader
        && wants(l, sig)
    {
        return Some(l.clone());
    }
    let n = s.threads.len();
    for i in 0..n {
        let at = (s.turn + i) % n;
        if wants(&s.threads[at], sig) {
            s.turn = at;
            return Some(s.threads[at].clone());
        }
    }
    None
}

/// Every thread of the process is to end, with this wait status.
pub(crate) fn begin_exit(s: &mut Signals, status: u32) {
    s.exiting = Some(status);
    s.stop.cancel();
    kill_threads(s, None);
}

/// Sends `SIGKILL` to every thread but one.
pub(crate) fn kill_threads(s: &mut Signals, but: Option<&Task>) {
    for t in &s.threads {
        if but.is_some_and(|b| core::ptr::eq(b, &**t)) {
            continue;
        }
        if let Some(d) = data(t) {
            d.stop_pending.store(false, Relaxed);
            d.pending.lock().add_bare(KILL);
            wake(t, true);
        }
    }
}

/// `None`: the signal has no effect.
fn queue(p: &Process, to: Option<&TaskRef>, info: SigInfo, force: Force) -> Result<Option<Added>> {
    let sig = info.signo;
    let limit = p.limit(crate::rlimit::SIGPENDING);
    let mut s = p.sig.lock();
    let target = to.or(s.leader.as_ref()).cloned();
    let Some(d) = target.as_ref().and_then(|t| data(t)) else { return Err(Errno::ESRCH) };
    let note = |what| {
        if let Some(t) = &target {
            trace::generated(&info, t, to.is_none(), what);
        }
    };
    // What a thread waits for in sigtimedwait is blocked as far as ignoring it is concerned.
    let blocked = d.blocked().or(SigSet(d.real_blocked.load(Relaxed)));
    if !prepare(p, &mut s, blocked, sig, force) {
        note(Sent::Ignored);
        return Ok(None);
    }
    if sig >= set::RTMIN && info.code != SI_TIMER && info.code != SI_USER && s.shared.queued() as u64 >= limit
    {
        note(Sent::Overflow);
        return Err(Errno::EAGAIN);
    }
    let bare = sig == KILL;
    let add = |q: &mut Pending| {
        if bare {
            q.add_bare(sig);
            Added::Bare
        } else {
            q.add(info.clone())
        }
    };
    let added = match to {
        Some(_) => add(&mut d.pending.lock()),
        None => add(&mut s.shared),
    };
    let merged = added == Added::Merged;
    note(if merged { Sent::AlreadyPending } else { Sent::Delivered });
    if !merged {
        complete(&mut s, sig, to);
    }
    drop(s);
    if !p.signal_wait.is_empty() {
        p.signal_wait.wake_all();
    }
    Ok(Some(added))
}

/// Sends to a process as a whole. Safe in interrupts.
pub fn send_process(p: &Process, info: SigInfo, force: Force) -> Result<()> {
    queue(p, None, info, force).map(|_| ())
}

/// Sends a POSIX timer's signal, to one thread or the process. False: nobody will take it. Safe in interrupts.
pub(crate) fn send_timer(p: &Process, to: Option<&TaskRef>, info: SigInfo) -> bool {
    matches!(queue(p, to, info, Force::Kernel), Ok(Some(Added::Yes)))
}

/// Sends to one thread. A kernel thread hears nothing.
pub fn send_thread(t: &TaskRef, info: SigInfo, force: Force) -> Result<()> {
    let Some(d) = data(t) else { return Ok(()) };
    queue(&d.process, Some(t), info, force).map(|_| ())
}

/// Sends to all of a process group, without asking who is allowed to: what a terminal does. False: there is no such group.
pub fn send_group(pgid: u32, info: &SigInfo) -> bool {
    let tree = TREE.lock();
    let mut any = false;
    for (_, n) in tree.group(pgid) {
        any = true;
        let _ = send_process(&n.what, info.clone(), Force::Kernel);
    }
    any
}

/// A signal that the running thread has brought on itself (a fault). It cannot be put off: blocked or ignored it kills, and
/// where it was the handler's own frame that failed, it kills too.
pub fn force(info: SigInfo) {
    let me = current();
    let task = me.task_ref();
    let sig = info.signo;
    let p = me.process.clone();
    {
        let mut s = p.sig.lock();
        let blocked = me.blocked();
        let a = &mut s.handlers[sig as usize - 1];
        if blocked.contains(sig) || a.handler == super::action::SIG_IGN {
            a.handler = super::action::SIG_DFL;
            let mut b = blocked;
            b.remove(sig);
            me.blocked.store(b.0, SeqCst);
        }
        // Not even init survives its own fault.
        if s.action(sig).handler == super::action::SIG_DFL {
            s.unkillable = false;
        }
        trace::generated(&info, &task, false, Sent::Delivered);
        me.pending.lock().add(info);
        recalc(&me, &task, &s);
    }
    wake(&task, false);
}

/// As [`force`], with the default action whatever the program says.
pub fn force_fatal(sig: Signo) {
    let me = current();
    me.process.sig.lock().handlers[sig as usize - 1].handler = super::action::SIG_DFL;
    force(SigInfo::kernel(sig));
}

/// May the running thread signal this one? (`kill(2)`)
pub fn may_kill(target: &ThreadData, sig: Signo) -> Result<()> {
    let me = current();
    if Arc::ptr_eq(&me.process, &target.process) {
        return Ok(());
    }
    let (c, t) = (me.cred(), target.cred());
    let same = c.euid == t.suid || c.euid == t.uid || c.uid == t.suid || c.uid == t.uid;
    if same || c.has_cap(cap::KILL) {
        return Ok(());
    }
    if sig == CONT {
        let tree = TREE.lock();
        let sid = |p: u32| tree.get(p).map(|n| n.sid);
        if sid(me.process.pid()) == sid(target.process.pid()) {
            return Ok(());
        }
    }
    Err(Errno::EPERM)
}

fn own_info(sig: Signo, code: i32) -> SigInfo {
    match try_current() {
        Some(me) => SigInfo::user(sig, code, me.process.pid(), me.cred().uid),
        None => SigInfo::kernel(sig),
    }
}

fn kill_one(p: &Process, sig: Signo) -> Result<()> {
    let leader = p.leader().ok_or(Errno::ESRCH)?;
    may_kill(data(&leader).ok_or(Errno::ESRCH)?, sig)?;
    if sig != 0 { send_process(p, own_info(sig, SI_USER), Force::No) } else { Ok(()) }
}

/// EINVAL for a signal that there is not; who is meant is looked for first.
fn check_number(sig: u32) -> Result<()> {
    if sig > set::NSIG { Err(Errno::EINVAL) } else { Ok(()) }
}

/// `kill(2)`.
pub fn kill(pid: i32, sig: u32) -> Result<()> {
    let me = current().process.pid();
    if pid > 0 {
        let t = sched::pid::find(pid as u32).ok_or(Errno::ESRCH)?;
        check_number(sig)?;
        return match data(&t) {
            // Kernel threads: root may try, and nothing happens.
            None if current().cred().has_cap(cap::KILL) => Ok(()),
            None => Err(Errno::EPERM),
            Some(d) => kill_one(&d.process, sig),
        };
    }
    let list: Vec<Arc<Process>> = {
        let tree = TREE.lock();
        match pid {
            i32::MIN => return Err(Errno::ESRCH),
            -1 => tree.iter().filter(|(n, _)| *n > 1 && *n != me).map(|(_, n)| n.what.clone()).collect(),
            _ => {
                let pgid = if pid == 0 { tree.get(me).map_or(0, |n| n.pgid) } else { pid.unsigned_abs() };
                tree.group(pgid).map(|(_, n)| n.what.clone()).collect()
            }
        }
    };
    if list.is_empty() {
        return Err(Errno::ESRCH);
    }
    check_number(sig)?;
    // Success if any could be signalled; to everybody, not being allowed to is not an error.
    let (mut ok, mut last) = (false, Errno::ESRCH);
    for p in list {
        match kill_one(&p, sig) {
            Ok(()) => ok = true,
            Err(Errno::EPERM) if pid == -1 => ok = true,
            Err(e) => last = e,
        }
    }
    if ok { Ok(()) } else { Err(last) }
}

/// `tgkill(2)`; `tgid` 0 is `tkill(2)`.
pub fn tgkill(tgid: u32, tid: u32, sig: u32) -> Result<()> {
    thread_target(tgid, tid, sig).and_then(|t| match t {
        Some(t) if sig != 0 => send_thread(&t, own_info(sig, SI_TKILL), Force::No),
        _ => Ok(()),
    })
}

fn thread_target(tgid: u32, tid: u32, sig: u32) -> Result<Option<TaskRef>> {
    let t = sched::pid::find(tid).ok_or(Errno::ESRCH)?;
    if tgid != 0 && sched::thread(&t).tgid() != tgid {
        return Err(Errno::ESRCH);
    }
    check_number(sig)?;
    let Some(d) = data(&t) else { return Ok(None) };
    may_kill(d, sig)?;
    Ok(Some(t))
}

fn check_info(pid: u32, info: &SigInfo) -> Result<()> {
    // Nobody can pretend to be the kernel or `kill`, except to himself.
    let pretends = info.code >= 0 || info.code == SI_TKILL;
    if pretends && pid != current().process.pid() { Err(Errno::EPERM) } else { Ok(()) }
}

/// `rt_sigqueueinfo(2)`.
pub fn sigqueue(pid: u32, info: SigInfo) -> Result<()> {
    check_info(pid, &info)?;
    let t = sched::pid::find(pid).ok_or(Errno::ESRCH)?;
    check_number(info.signo)?;
    let Some(d) = data(&t) else { return Ok(()) };
    may_kill(d, info.signo)?;
    // Number 0 only asks.
    if info.signo != 0 { send_process(&d.process, info, Force::No) } else { Ok(()) }
}

/// `rt_tgsigqueueinfo(2)`.
pub fn tgsigqueue(tgid: u32, tid: u32, info: SigInfo) -> Result<()> {
    check_info(tgid, &info)?;
    match thread_target(tgid, tid, info.signo)? {
        Some(t) if info.signo != 0 => send_thread(&t, info, Force::No),
        _ => Ok(()),
    }
}
