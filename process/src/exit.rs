//! The end of a thread, and of its process.
//!
//! ```text
//!   exit_thread: robust futexes, clear_child_tid, vfork parent ──▶ files, directory ──▶ leave the thread list
//!     not the last: its number is free, execve is told
//!     the last: address space goes; children to the reaper; zombie; parent told, or collected at once if it does not care
//! ```
//! The address space goes before the parent hears, so that whoever has waited for a child finds its memory free.

use alloc::{sync::Arc, vec::Vec};

use frame::{
    atomic::Ordering::{Relaxed, SeqCst},
    sync::once::Once,
    task::Work,
};
use linux_raw_sys::general as uapi;

use crate::{
    futex,
    process::{Process, current, data},
    signal::{
        action::{SA_NOCLDWAIT, SIG_IGN},
        deliver::pass_on,
        info::{Fields, SigInfo},
        send::{self, Force},
        set::{CHLD, CONT, HUP, SigSet},
        stop,
    },
    tree::{INIT, TREE, Tree},
    usage::Usage,
    users,
};

/// A wait status: `code << 8` for `exit(code)`, the number for a signal, with [`crate::coredump::DUMPED`] where there is a dump.
pub type Status = u32;

static LEAVE_TTY: Once<fn(&Arc<Process>)> = Once::new();

/// Installs what a session leader's end means to its terminal.
pub fn install_leave_tty(f: fn(&Arc<Process>)) {
    LEAVE_TTY.call_once(|| f);
}

/// Ends the whole process with this status (`exit_group(2)`, or a fatal signal). If it is ending already, the first status stands.
pub fn exit_group(status: Status) -> ! {
    let me = current();
    let status = {
        let mut s = me.process.sig.lock();
        match (s.exiting, s.exec_by) {
            (Some(first), _) => first,
            (None, Some(_)) => 0,
            (None, None) => {
                s.exiting = Some(status);
                s.stop.cancel();
                send::kill_threads(&mut s, Some(&me.task()));
                status
            }
        }
    };
    exit_thread(status)
}

/// Lets go of what ties the running thread to its address space: at exit, and at exec.
pub(crate) fn release_mm_ties() {
    let me = current();
    let robust = me.robust_list.swap(0, Relaxed);
    if robust != 0 {
        futex::exit_robust_list(robust as usize);
    }
    let ctid = me.clear_child_tid.swap(0, Relaxed);
    if ctid != 0 {
        // Linux does this only where another thread or process could see it; to write a page that nobody sees is harmless.
        let shared = me.process.mm.lock().as_ref().is_some_and(|m| Arc::strong_count(m) > 1)
            || me.process.sig.lock().threads.len() > 1;
        if shared && frame::user::store_u32(ctid as usize, 0).is_ok() {
            let _ = futex::wake(ctid as usize, true, 1, !0);
        }
    }
    let vfork = me.vfork.lock().take();
    if let Some(v) = vfork {
        v.complete_all();
    }
}

/// Ends the running thread (`exit(2)`).
pub fn exit_thread(status: Status) -> ! {
    let me = current();
    let task = me.task();
    let p = me.process.clone();
    me.exit_status.store(status, Relaxed);
    let last_of_init = p.pid() == INIT && p.sig.lock().threads.len() == 1;
    if last_of_init {
        let status = p.sig.lock().exiting.unwrap_or(status);
        panic!("Attempted to kill init! exitcode={status:#010x}");
    }
    let stopped = {
        let mut s = p.sig.lock();
        me.exiting.store(true, SeqCst);
        let waiting = s.shared.set().without(me.blocked());
        if !waiting.is_empty() {
            pass_on(&s, &task, waiting);
        }
        me.stop_pending.swap(false, Relaxed) && stop::one_less(&mut s)
    };
    if stopped {
        stop::tell_parent(&p, uapi::CLD_STOPPED);
    }
    // What follows may sleep, and must not be cut short by signals.
    task.clear_work(Work::SIGNAL | Work::KILL);
    release_mm_ties();
    me.set_files(None);
    me.set_fs(None);
    users::uncharge(me.cred().uid);

    crate::trace::exiting(&sched::me());
    let mine = me.task_ref();
    let (last, is_leader) = {
        let mut s = p.sig.lock();
        s.threads.retain(|t| !Arc::ptr_eq(t, &mine));
        let u = Usage::of_thread(&mine, &me);
        s.gone.add(&u);
        (s.threads.is_empty(), s.leader.as_ref().is_some_and(|l| Arc::ptr_eq(l, &mine)))
    };
    task.set_page_table(None);
    let tid = me.tid();
    if !last {
        TREE.lock().thread_gone(p.pid(), tid, p.pid());
    }
    // The leader's number is the process's, and goes when that is collected.
    if !is_leader {
        crate::trace::freed(&sched::me());
        sched::pid::release(tid);
    }
    if last {
        finish_process(&p, status);
    } else {
        p.thread_gone.wake_all();
    }
    drop(mine);
    drop(p);
    frame::task::exit()
}

/// The last thread of a process is gone.
fn finish_process(p: &Arc<Process>, status: Status) {
    p.timers.cancel_all();
    p.posix_timers.delete_all();
    p.old_maxrss_kib.store(p.maxrss_kib(), Relaxed);
    let mm = p.mm.lock().take();
    drop(mm);
    let helper = p.helper.lock().take();
    let is_session_leader = TREE.lock().get(p.pid()).is_some_and(|n| n.sid == p.pid());
    if is_session_leader && let Some(f) = LEAVE_TTY.get() {
        f(p);
    }
    let mut dead = Vec::new();
    {
        let mut tree = TREE.lock();
        let pid = p.pid();
        let reaper = tree.reaper_for(pid);
        // A process that nobody ended as a whole has the status of its leader, whichever thread goes last.
        let own = p.leader().and_then(|l| data(&l).map(|d| d.exit_status.load(Relaxed))).unwrap_or(status);
        let status = p.sig.lock().exiting.unwrap_or(own);
        let parent = tree.get(pid).map_or(0, |n| n.parent);
        let children = tree.reparent(pid, reaper);
        if let Some(n) = tree.get_mut(pid) {
            n.zombie = Some(status);
        }
        for c in children {
            on_orphaned(&mut tree, c, pid, &mut dead);
        }
        hang_up_orphans(&tree, pid, parent, Some(pid));
        if tell_parent(&tree, p, status) {
            collect(&mut tree, pid, &mut dead);
        }
    }
    for d in dead {
        free(d);
    }
    if let Some(h) = helper {
        h.note_ended(p.sig.lock().exiting.unwrap_or(status));
    }
}

/// `child` has lost its parent `old` and been given to another.
fn on_orphaned(tree: &mut Tree<Arc<Process>>, child: u32, old: u32, dead: &mut Vec<Arc<Process>>) {
    let Some(n) = tree.get(child) else { return };
    let (c, zombie) = (n.what.clone(), n.zombie);
    let threads = c.threads();
    for t in &threads {
        let sig = data(t).map_or(0, |d| d.pdeath_signal.load(Relaxed));
        if sig != 0 {
            let _ = send::send_process(&c, SigInfo::user(sig, 0, old, 0), Force::Kernel);
        }
    }
    match zombie {
        Some(status) => {
            if tell_parent(tree, &c, status) {
                collect(tree, child, dead);
            }
        }
        None => hang_up_orphans(tree, child, old, None),
    }
}

/// A group that becomes orphaned with stopped members gets `SIGHUP` and `SIGCONT` (POSIX). `pid` leaves, or its parent did.
fn hang_up_orphans(tree: &Tree<Arc<Process>>, pid: u32, parent: u32, ignored: Option<u32>) {
    let (Some(n), Some(p)) = (tree.get(pid), tree.get(parent)) else { return };
    let links = p.pgid != n.pgid && p.sid == n.sid;
    if !links || !tree.is_orphaned(n.pgid, ignored) {
        return;
    }
    let stopped = tree.group(n.pgid).any(|(_, m)| m.zombie.is_none() && m.what.sig.lock().stop.stopped);
    if stopped {
        for (_, m) in tree.group(n.pgid) {
            for sig in [HUP, CONT] {
                let _ = send::send_process(&m.what, SigInfo::kernel(sig), Force::Kernel);
            }
        }
    }
}

/// Tells the parent of a zombie. True if nobody will wait for it.
fn tell_parent(tree: &Tree<Arc<Process>>, p: &Arc<Process>, status: Status) -> bool {
    let Some(n) = tree.get(p.pid()) else { return false };
    let Some(parent) = tree.get(n.parent).map(|x| x.what.clone()) else { return true };
    let sig = n.exit_signal;
    let (mut send, mut forget) = (sig != 0, false);
    if sig == CHLD {
        let s = parent.sig.lock();
        let a = s.action(CHLD);
        forget = a.handler == SIG_IGN || a.has(SA_NOCLDWAIT);
        send = a.handler != SIG_IGN;
    }
    if send {
        let u = p.sig.lock().gone;
        let uid = p.leader().and_then(|l| data(&l).map(|d| d.cred().uid)).unwrap_or(0);
        let (code, value) = if status & 0x7f == 0 {
            (uapi::CLD_EXITED, status >> 8)
        } else {
            let dumped = status & crate::coredump::DUMPED != 0;
            (if dumped { uapi::CLD_DUMPED } else { uapi::CLD_KILLED }, status & 0x7f)
        };
        let fields = Fields::Child {
            pid: p.pid(),
            uid,
            status: value as i32,
            utime: u.user_ns / 10_000_000,
            stime: u.system_ns / 10_000_000,
        };
        let _ = send::send_process(
            &parent,
            SigInfo { signo: sig, errno: 0, code: code as i32, fields },
            Force::No,
        );
    }
    parent.child_wait.wake_all();
    forget
}

/// Takes a zombie out of the tree. [`free`] the result when the tree lock is free.
pub(crate) fn collect(tree: &mut Tree<Arc<Process>>, pid: u32, dead: &mut Vec<Arc<Process>>) {
    if let Some(n) = tree.remove(pid) {
        dead.push(n.what);
    }
}

/// The last traces of a collected process: its number, and the task that held it.
pub(crate) fn free(p: Arc<Process>) {
    sched::pid::release(p.pid());
    fs::procfs::flush(p.pid());
    let leader = {
        let mut s = p.sig.lock();
        s.shared.discard(SigSet::ALL);
        s.leader.take()
    };
    if let Some(l) = &leader {
        crate::trace::freed(sched::thread(l));
    }
    drop(leader);
}
