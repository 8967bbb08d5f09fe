//! Trace events of this room: `raw_syscalls`, `signal`, `timer:itimer_*`; and where processes hit those of the scheduler's
//! room (fork, exec, exit, names).
//!
//! Documented: Linux `Documentation/trace/events.rst`; the texts are those that Linux 6.12 was seen to print.

use base::trace::Comm;
use frame::atomic::Ordering::Relaxed;
use sched::{
    TaskRef, Thread,
    trace::{self, comm, padded},
};

use crate::{process::data, signal::SigInfo};

base::trace_event! {
    /// A system call begins.
    pub(crate) struct sys_enter in "raw_syscalls" {
        id: i64 = "long",
        args: [u64; 6] = "unsigned long",
    }
    format r#""NR %ld (%lx, %lx, %lx, %lx, %lx, %lx)", REC->id, REC->args[0], REC->args[1], REC->args[2], REC->args[3], REC->args[4], REC->args[5]"#;
    print "NR {id} ({:x}, {:x}, {:x}, {:x}, {:x}, {:x})", args[0], args[1], args[2], args[3], args[4], args[5]
}

base::trace_event! {
    /// It is over.
    pub(crate) struct sys_exit in "raw_syscalls" {
        id: i64 = "long",
        ret: i64 = "long",
    }
    format r#""NR %ld = %ld", REC->id, REC->ret"#;
    print "NR {id} = {ret}"
}

base::trace_event! {
    /// A signal was sent.
    pub(crate) struct signal_generate in "signal" {
        sig: i32 = "int",
        errno: i32 = "int",
        code: i32 = "int",
        comm: Comm = "char",
        pid: i32 = "pid_t",
        group: i32 = "int",
        result: i32 = "int",
    }
    format r#""sig=%d errno=%d code=%d comm=%s pid=%d grp=%d res=%d", REC->sig, REC->errno, REC->code, REC->comm, REC->pid, REC->group, REC->result"#;
    print "sig={sig} errno={errno} code={code} comm={comm} pid={pid} grp={group} res={result}"
}

base::trace_event! {
    /// A thread takes a signal.
    pub(crate) struct signal_deliver in "signal" {
        sig: i32 = "int",
        errno: i32 = "int",
        code: i32 = "int",
        sa_handler: u64 = "unsigned long",
        sa_flags: u64 = "unsigned long",
    }
    format r#""sig=%d errno=%d code=%d sa_handler=%lx sa_flags=%lx", REC->sig, REC->errno, REC->code, REC->sa_handler, REC->sa_flags"#;
    print "sig={sig} errno={errno} code={code} sa_handler={sa_handler:x} sa_flags={sa_flags:x}"
}

base::trace_event! {
    /// An interval timer was set. `expires` is nanoseconds on its clock.
    pub(crate) struct itimer_state in "timer" {
        which: i32 = "int",
        expires: u64 = "unsigned long long",
        value_sec: i64 = "long",
        value_nsec: i64 = "long",
        interval_sec: i64 = "long",
        interval_nsec: i64 = "long",
    }
    format r#""which=%d expires=%llu it_value=%ld.%06ld it_interval=%ld.%06ld", REC->which, REC->expires, REC->value_sec, REC->value_nsec / 1000L, REC->interval_sec, REC->interval_nsec / 1000L"#;
    print "which={which} expires={expires} it_value={value_sec}.{:06} it_interval={interval_sec}.{:06}",
        value_nsec / 1000, interval_nsec / 1000
}

base::trace_event! {
    /// An interval timer is due. `now` is nanoseconds on its clock.
    pub(crate) struct itimer_expire in "timer" {
        which: i32 = "int",
        pid: i32 = "pid_t",
        now: u64 = "unsigned long long",
    }
    format r#""which=%d pid=%d now=%llu", REC->which, (int) REC->pid, REC->now"#;
    print "which={which} pid={pid} now={now}"
}

/// Registers the events.
pub(crate) fn init() {
    base::trace::register(&[
        sys_enter::event(),
        sys_exit::event(),
        signal_generate::event(),
        signal_deliver::event(),
        itimer_state::event(),
        itimer_expire::event(),
    ]);
}

/// What became of a signal that was sent, with Linux's numbers.
#[derive(Clone, Copy)]
pub(crate) enum Sent {
    Delivered = 0,
    Ignored = 1,
    AlreadyPending = 2,
    Overflow = 3,
}

/// A signal was sent to `t`, or to its process.
#[inline]
pub(crate) fn generated(info: &SigInfo, t: &TaskRef, to_process: bool, what: Sent) {
    base::trace!(signal_generate {
        sig: info.signo as i32,
        errno: info.errno,
        code: info.code,
        comm: comm(sched::thread(t)),
        pid: sched::thread(t).pid() as i32,
        group: i32::from(to_process),
        result: what as i32,
    });
}

fn oom_score_adj(t: &TaskRef) -> i16 {
    data(t).map_or(0, |d| d.process.oom_score_adj.load(Relaxed) as i16)
}

/// The running thread has made `child`.
#[inline]
pub(crate) fn forked(child: &TaskRef, clone_flags: u64) {
    let (me, c) = (sched::me(), sched::thread(child));
    base::trace!(trace::task_newtask {
        pid: c.pid() as i32,
        comm: comm(c),
        clone_flags,
        oom_score_adj: oom_score_adj(child),
    });
    base::trace!(trace::sched_process_fork {
        parent_comm: comm(&me),
        parent_pid: me.pid() as i32,
        child_comm: comm(c),
        child_pid: c.pid() as i32,
    });
}

/// A task is about to get another name.
#[inline]
pub(crate) fn renamed(t: &TaskRef, name: &[u8]) {
    base::trace!(trace::task_rename {
        pid: sched::thread(t).pid() as i32,
        oldcomm: comm(sched::thread(t)),
        newcomm: padded(name),
        oom_score_adj: oom_score_adj(t),
    });
}

/// The running thread runs another program now.
#[inline]
pub(crate) fn executed(filename: &[u8], pid: u32, old_pid: u32) {
    base::trace!(trace::sched_process_exec { filename, pid: pid as i32, old_pid: old_pid as i32 });
}

/// The running thread ends.
#[inline]
pub(crate) fn exiting(t: &Thread) {
    base::trace!(trace::sched_process_exit { comm: comm(t), pid: t.pid() as i32, prio: t.prio() });
}

/// The last traces of a thread are gone.
#[inline]
pub(crate) fn freed(t: &Thread) {
    base::trace!(trace::sched_process_free { comm: comm(t), pid: t.pid() as i32, prio: t.prio() });
}

/// The running thread waits for a child: `pid` is whom it named, 0 for any.
#[inline]
pub(crate) fn waits(pid: u32) {
    let me = sched::me();
    base::trace!(trace::sched_process_wait { comm: comm(&me), pid: pid as i32, prio: me.prio() });
}
