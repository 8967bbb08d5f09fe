//! `fork(2)`, `vfork(2)`, `clone(2)`, `clone3(2)`.
//!
//! Not here, and `EINVAL`: name spaces, `CLONE_PIDFD`, `CLONE_INTO_CGROUP`, and `CLONE_SIGHAND` without `CLONE_THREAD`
//! (signal handlers belong to the process). `CLONE_IO`, `CLONE_SYSVSEM`, `CLONE_PTRACE`, `CLONE_UNTRACED` and `CLONE_DETACHED`
//! have nothing to act on and are accepted.

use alloc::{boxed::Box, string::String, sync::Arc};

use base::{Errno, Result, cred::cap};
use frame::{
    atomic::Ordering::Relaxed,
    paging::PageTable,
    sync::Completion,
    task::Fpu,
    user::{self, Regs},
};
use linux_raw_sys::general as uapi;
use sched::{SpawnArgs, TaskRef};

use crate::{
    process::{MmUser, Process, ThreadData, current},
    rlimit,
    signal::{action::SigAction, set},
    tree::TREE,
    user_loop, users,
};

pub const VM: u64 = uapi::CLONE_VM as u64;
pub const FS: u64 = uapi::CLONE_FS as u64;
pub const FILES: u64 = uapi::CLONE_FILES as u64;
pub const SIGHAND: u64 = uapi::CLONE_SIGHAND as u64;
pub const VFORK: u64 = uapi::CLONE_VFORK as u64;
pub const PARENT: u64 = uapi::CLONE_PARENT as u64;
pub const THREAD: u64 = uapi::CLONE_THREAD as u64;
pub const SETTLS: u64 = uapi::CLONE_SETTLS as u64;
pub const PARENT_SETTID: u64 = uapi::CLONE_PARENT_SETTID as u64;
pub const CHILD_CLEARTID: u64 = uapi::CLONE_CHILD_CLEARTID as u64;
pub const CHILD_SETTID: u64 = uapi::CLONE_CHILD_SETTID as u64;
pub const CLEAR_SIGHAND: u64 = uapi::CLONE_CLEAR_SIGHAND;
/// Accepted without effect: see the module.
const NOTHING: u64 =
    (uapi::CLONE_IO | uapi::CLONE_SYSVSEM | uapi::CLONE_PTRACE | uapi::CLONE_UNTRACED | uapi::CLONE_DETACHED)
        as u64;
const KNOWN: u64 = VM
    | FS
    | FILES
    | SIGHAND
    | VFORK
    | PARENT
    | THREAD
    | SETTLS
    | PARENT_SETTID
    | CHILD_CLEARTID
    | CHILD_SETTID
    | CLEAR_SIGHAND
    | NOTHING;

/// What is asked for.
#[derive(Clone, Copy, Default, Debug)]
pub struct CloneArgs<'a> {
    pub flags: u64,
    /// What the parent gets when the child ends.
    pub exit_signal: u32,
    /// Stack pointer of the child; 0: the parent's.
    pub stack: u64,
    pub tls: u64,
    pub parent_tid: u64,
    pub child_tid: u64,
    /// `clone3`: the number that the child is to have, in the one name space there is.
    pub set_tid: &'a [u32],
}

impl CloneArgs<'_> {
    fn check(&self) -> Result<()> {
        let has = |f: u64| self.flags & f != 0;
        let wrong = self.flags & !KNOWN != 0
            || has(THREAD) != has(SIGHAND)
            || has(SIGHAND) && !has(VM)
            || has(CLEAR_SIGHAND) && has(SIGHAND)
            || has(THREAD) && self.exit_signal != 0
            || self.exit_signal > set::NSIG
            || self.set_tid.len() > 1;
        if wrong { Err(Errno::EINVAL) } else { Ok(()) }
    }
}

/// Makes a child of the running thread, which goes on from the same system call with 0. Its number.
/// `EAGAIN`: too many tasks; `ENOMEM`.
pub fn clone(regs: &Regs, a: &CloneArgs<'_>) -> Result<u32> {
    a.check()?;
    let me = current();
    let has = |f: u64| a.flags & f != 0;
    if has(PARENT) && me.process.sig.lock().unkillable {
        return Err(Errno::EINVAL);
    }
    // A signal to the whole group that came before the child is in it must not miss the child.
    if me.signal_pending() && !has(THREAD) {
        return Err(Errno::ERESTARTNOINTR);
    }
    let cred = me.cred();
    let exempt = cred.uid == 0 || cred.has_cap(cap::SYS_RESOURCE) || cred.has_cap(cap::SYS_ADMIN);
    users::charge(cred.uid, me.process.limit(rlimit::NPROC), exempt)?;
    let child = match make(regs, a) {
        Ok(c) => c,
        Err(e) => {
            users::uncharge(cred.uid);
            return Err(e);
        }
    };
    let tid = sched::thread(&child.task).pid();
    if has(PARENT_SETTID) {
        let _ = user::store_u32(a.parent_tid as usize, tid);
    }
    crate::trace::forked(&child.task, a.flags);
    child.task.start();
    if let Some(done) = child.vfork {
        // Killed while it waits, the parent dies; the child has its own use of the address space.
        let _ = sched::freezer::while_frozen_is_fine(|| done.wait_killable());
    }
    Ok(tid)
}

struct Child {
    task: TaskRef,
    vfork: Option<Arc<Completion>>,
}

fn make(regs: &Regs, a: &CloneArgs<'_>) -> Result<Child> {
    let me = current();
    let has = |f: u64| a.flags & f != 0;
    let pid = reserve(a.set_tid)?;
    let files = if has(FILES) {
        me.files()
    } else {
        frame::heap::try_arc(me.files().fork()?).ok_or(Errno::ENOMEM)?
    };
    let fs = if has(FS) { me.fs() } else { frame::heap::try_arc(me.fs().fork()).ok_or(Errno::ENOMEM)? };
    let process = if has(THREAD) { me.process.clone() } else { new_process(pid.number(), a.flags)? };
    let d = ThreadData::new(process.clone(), me.cred(), files, fs)?;
    d.blocked.store(me.blocked().0, Relaxed);
    d.timer_slack_ns.store(me.timer_slack_ns.load(Relaxed), Relaxed);
    d.fork_no_exec.store(true, Relaxed);
    if !has(VM) || has(VFORK) {
        let altstack = *me.altstack.lock();
        *d.altstack.lock() = altstack;
    }
    if has(CHILD_CLEARTID) {
        d.clear_child_tid.store(a.child_tid, Relaxed);
    }
    let vfork =
        has(VFORK).then(|| frame::heap::try_arc(Completion::new()).ok_or(Errno::ENOMEM)).transpose()?;
    *d.vfork.lock() = vfork.clone();

    let mut r = *regs;
    r.rax = 0;
    r.orig_rax = !0;
    if a.stack != 0 {
        r.rsp = a.stack;
    }
    if has(SETTLS) {
        if a.tls >= user::END as u64 {
            return Err(Errno::EPERM);
        }
        r.fs_base = a.tls;
    }
    let fpu = me.task().snapshot_fpu().ok_or(Errno::ENOMEM)?;
    let pt = process.mm().ok_or(Errno::EAGAIN)?.page_table().clone();
    let settid = if has(CHILD_SETTID) { a.child_tid as usize } else { 0 };
    *d.start.lock() =
        Some(frame::heap::try_box(Start { regs: r, page_table: pt, fpu, settid }).ok_or(Errno::ENOMEM)?);
    let args = SpawnArgs {
        comm: own_comm(),
        tgid: has(THREAD).then(|| process.pid()),
        pid,
        payload: frame::heap::try_box(d).ok_or(Errno::ENOMEM)?,
        // Captures nothing, so the box is not memory: what never returns could not give it back.
        entry: Box::new(|| first_steps()),
    };
    let task = sched::spawn_user_thread(args)?;
    if let Err(e) = enlist(&task, &process, a) {
        sched::pid::release(sched::thread(&task).pid());
        return Err(e);
    }
    Ok(Child { task, vfork })
}

/// What a new thread begins with.
pub(crate) struct Start {
    regs: Regs,
    page_table: Arc<PageTable>,
    fpu: Fpu,
    settid: usize,
}

/// Where a new thread begins.
fn first_steps() -> ! {
    let regs = {
        let me = current();
        let start = me.start.lock().take().expect("a new thread has what it begins with");
        let task = me.task();
        let Start { regs, page_table, fpu, settid } = *start;
        task.set_page_table(Some(page_table));
        task.install_fpu(fpu);
        if settid != 0 {
            let _ = user::store_u32(settid, me.tid());
        }
        regs
    };
    user_loop::run(regs)
}

fn own_comm() -> String {
    String::from_utf8_lossy(sched::me().comm().as_bytes()).into_owned()
}

fn reserve(wanted: &[u32]) -> Result<sched::pid::PidReservation> {
    if let Some(&n) = wanted.first() {
        if !current().cred().has_cap(cap::CHECKPOINT_RESTORE) && !current().cred().has_cap(cap::SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        return sched::pid::reserve_exactly(n);
    }
    loop {
        let r = sched::pid::reserve()?;
        // The number of a group or session that outlived its leader is still taken.
        if !TREE.lock().in_use(r.number()) {
            return Ok(r);
        }
    }
}

fn new_process(pid: u32, flags: u64) -> Result<Arc<Process>> {
    let me = current();
    let parent = &me.process;
    let mut handlers = frame::heap::try_box(*parent.sig.lock().handlers).ok_or(Errno::ENOMEM)?;
    if flags & CLEAR_SIGHAND != 0 {
        for a in handlers.iter_mut() {
            if a.handler > 1 {
                *a = SigAction::default();
            }
        }
    }
    let shared = parent.mm.lock().clone().ok_or(Errno::EAGAIN)?;
    let mm = if flags & VM != 0 { shared } else { MmUser::new(shared.0.fork()?)? };
    let p = Process::new(pid, handlers, Some(mm), parent.limits())?;
    p.oom_score_adj.store(parent.oom_score_adj.load(Relaxed), Relaxed);
    p.dumpable.store(parent.dumpable.load(Relaxed), Relaxed);
    p.membarrier.store(parent.membarrier.load(Relaxed), Relaxed);
    p.core_filter.store(parent.core_filter.load(Relaxed), Relaxed);
    p.tty_nr.store(parent.tty_nr.load(Relaxed), Relaxed);
    Ok(p)
}

/// Makes the child known: in its process, and if that is new in the tree. `ERESTARTNOINTR` where the parent is being killed.
fn enlist(task: &TaskRef, process: &Arc<Process>, a: &CloneArgs<'_>) -> Result<()> {
    let me = current();
    if a.flags & THREAD != 0 {
        let mut s = process.sig.lock();
        if s.exiting.is_some() || s.exec_by.is_some() {
            return Err(Errno::ERESTARTNOINTR);
        }
        s.threads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        s.threads.push(task.clone());
        return Ok(());
    }
    {
        let mut s = process.sig.lock();
        s.threads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        s.threads.push(task.clone());
        s.leader = Some(task.clone());
    }
    let mut tree = TREE.lock();
    if me.signal_pending() {
        drop(tree);
        let mut s = process.sig.lock();
        s.threads.clear();
        let leader = s.leader.take();
        drop(s);
        drop(leader);
        return Err(Errno::ERESTARTNOINTR);
    }
    let (parent, tid, signal) = if a.flags & PARENT != 0 {
        tree.get(me.process.pid()).map_or((1, 1, a.exit_signal), |n| (n.parent, n.parent_tid, n.exit_signal))
    } else {
        (me.process.pid(), me.tid(), a.exit_signal)
    };
    tree.insert(process.pid(), parent, tid, signal, process.clone());
    if a.flags & PARENT != 0 {
        tree.join(process.pid(), me.process.pid());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_are_checked() {
        let ok =
            |flags, exit_signal| CloneArgs { flags, exit_signal, ..CloneArgs::default() }.check().is_ok();
        assert!(ok(0, 17) && ok(VM | VFORK, 17) && ok(VM | SIGHAND | THREAD | FS | FILES, 0));
        assert!(!ok(THREAD, 0) && !ok(SIGHAND | THREAD, 0) && !ok(VM | SIGHAND, 0));
        assert!(!ok(uapi::CLONE_NEWPID as u64, 17) && !ok(0, 65));
    }
}
