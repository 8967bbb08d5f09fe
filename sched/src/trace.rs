//! This room's trace events: `sched`, `timer`, `irq` and `task`, with Linux's fields and texts, and what tells
//! the rings who runs.
//!
//! The events of processes stand here too (fork, exec, exit …): the rooms that make them happen hit them.
//!
//! Documented: Linux `Documentation/trace/events.rst`; the texts are those that Linux 6.12 was seen to print. Differences: the
//! function of a timer is text instead of an address, and is named after the function that made the timer, since it is a
//! closure without a name.

use base::trace::{
    COMM_LEN, Comm, Ptr, Str, Who,
    text::{Flags, Symbolic},
};
use frame::{cpu::CpuId, task::State};

mod irq;

pub(crate) use irq::{softirq_entry, softirq_exit, softirq_raise};

use crate::{
    runqueue::RunQueue,
    thread::{Payload, TaskRef, Thread, thread},
};

/// `prev_state` of `sched_switch`: Linux's report states, with the bit that says "preempted".
const STATE_NAMES: &[(u64, &str)] =
    &[(0x01, "S"), (0x02, "D"), (0x04, "T"), (0x08, "t"), (0x10, "X"), (0x20, "Z"), (0x40, "P"), (0x80, "I")];
const REPORT: u64 = 0xff;
const PREEMPTED: i64 = 0x100;

base::trace_event! {
    /// A processor goes from one task to another.
    pub(crate) struct sched_switch in "sched" {
        prev_comm: Comm = "char",
        prev_pid: i32 = "pid_t",
        prev_prio: i32 = "int",
        prev_state: i64 = "long",
        next_comm: Comm = "char",
        next_pid: i32 = "pid_t",
        next_prio: i32 = "int",
    }
    format r#""prev_comm=%s prev_pid=%d prev_prio=%d prev_state=%s%s ==> next_comm=%s next_pid=%d next_prio=%d", REC->prev_comm, REC->prev_pid, REC->prev_prio, (REC->prev_state & 0xff) ? __print_flags(REC->prev_state & 0xff, "|", { 0x00000001, "S" }, { 0x00000002, "D" }, { 0x00000004, "T" }, { 0x00000008, "t" }, { 0x00000010, "X" }, { 0x00000020, "Z" }, { 0x00000040, "P" }, { 0x00000080, "I" }) : "R", REC->prev_state & 0x100 ? "+" : "", REC->next_comm, REC->next_pid, REC->next_prio"#;
    print "prev_comm={prev_comm} prev_pid={prev_pid} prev_prio={prev_prio} prev_state={}{} ==> next_comm={next_comm} next_pid={next_pid} next_prio={next_prio}",
        Reported(prev_state), if prev_state & PREEMPTED != 0 { "+" } else { "" }
}

struct Reported(i64);
impl ::core::fmt::Display for Reported {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        match self.0 as u64 & REPORT {
            0 => f.write_str("R"),
            s => Flags(s, STATE_NAMES).fmt(f),
        }
    }
}

macro_rules! wakeups {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $(base::trace_event! {
            $(#[$doc])*
            pub(crate) struct $name in "sched" {
                comm: Comm = "char",
                pid: i32 = "pid_t",
                prio: i32 = "int",
                target_cpu: i32 = "int",
            }
            format r#""comm=%s pid=%d prio=%d target_cpu=%03d", REC->comm, REC->pid, REC->prio, REC->target_cpu"#;
            print "comm={} pid={} prio={} target_cpu={:03}", comm, pid, prio, target_cpu
        })*
    };
}
wakeups! {
    /// A task is about to be woken; it was last on this processor.
    sched_waking
    /// A task was put onto this processor's queue.
    sched_wakeup
    /// A new task was.
    sched_wakeup_new
}

base::trace_event! {
    /// A task goes from one processor's queue to another's.
    pub(crate) struct sched_migrate_task in "sched" {
        comm: Comm = "char",
        pid: i32 = "pid_t",
        prio: i32 = "int",
        orig_cpu: i32 = "int",
        dest_cpu: i32 = "int",
    }
    format r#""comm=%s pid=%d prio=%d orig_cpu=%d dest_cpu=%d", REC->comm, REC->pid, REC->prio, REC->orig_cpu, REC->dest_cpu"#;
    print "comm={comm} pid={pid} prio={prio} orig_cpu={orig_cpu} dest_cpu={dest_cpu}"
}

base::trace_event! {
    /// A task was charged for the time that it ran.
    pub(crate) struct sched_stat_runtime in "sched" {
        comm: Comm = "char",
        pid: i32 = "pid_t",
        runtime: u64 = "u64",
    }
    format r#""comm=%s pid=%d runtime=%Lu [ns]", REC->comm, REC->pid, (unsigned long long)REC->runtime"#;
    print "comm={comm} pid={pid} runtime={runtime} [ns]"
}

base::trace_event! {
    /// A task made another.
    pub struct sched_process_fork in "sched" {
        parent_comm: Comm = "char",
        parent_pid: i32 = "pid_t",
        child_comm: Comm = "char",
        child_pid: i32 = "pid_t",
    }
    format r#""comm=%s pid=%d child_comm=%s child_pid=%d", REC->parent_comm, REC->parent_pid, REC->child_comm, REC->child_pid"#;
    print "comm={parent_comm} pid={parent_pid} child_comm={child_comm} child_pid={child_pid}"
}

base::trace_event! {
    /// A process runs another program.
    pub struct sched_process_exec in "sched" {
        filename: Str = "char",
        pid: i32 = "pid_t",
        old_pid: i32 = "pid_t",
    }
    format r#""filename=%s pid=%d old_pid=%d", __get_str(filename), REC->pid, REC->old_pid"#;
    print "filename={filename} pid={pid} old_pid={old_pid}"
}

macro_rules! of_a_task {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $(base::trace_event! {
            $(#[$doc])*
            pub struct $name in "sched" {
                comm: Comm = "char",
                pid: i32 = "pid_t",
                prio: i32 = "int",
            }
            format r#""comm=%s pid=%d prio=%d", REC->comm, REC->pid, REC->prio"#;
            print "comm={} pid={} prio={}", comm, pid, prio
        })*
    };
}
of_a_task! {
    /// A task ends.
    sched_process_exit
    /// The last traces of a task are gone.
    sched_process_free
    /// A task waits for a child: `pid` is whom it named, 0 for any.
    sched_process_wait
}

base::trace_event! {
    /// A task hangs: `khungtaskd` has found it.
    pub(crate) struct sched_process_hang in "sched" {
        comm: Comm = "char",
        pid: i32 = "pid_t",
    }
    format r#""comm=%s pid=%d", REC->comm, REC->pid"#;
    print "comm={comm} pid={pid}"
}

base::trace_event! {
    /// A kernel thread is asked to end.
    pub(crate) struct sched_kthread_stop in "sched" {
        comm: Comm = "char",
        pid: i32 = "pid_t",
    }
    format r#""comm=%s pid=%d", REC->comm, REC->pid"#;
    print "comm={comm} pid={pid}"
}

base::trace_event! {
    /// It has ended.
    pub(crate) struct sched_kthread_stop_ret in "sched" {
        ret: i32 = "int",
    }
    format r#""ret=%d", REC->ret"#;
    print "ret={ret}"
}

base::trace_event! {
    /// A task was made.
    pub struct task_newtask in "task" {
        pid: i32 = "pid_t",
        comm: Comm = "char",
        clone_flags: u64 = "unsigned long",
        oom_score_adj: i16 = "short",
    }
    format r#""pid=%d comm=%s clone_flags=%lx oom_score_adj=%hd", REC->pid, REC->comm, REC->clone_flags, REC->oom_score_adj"#;
    print "pid={pid} comm={comm} clone_flags={clone_flags:x} oom_score_adj={oom_score_adj}"
}

base::trace_event! {
    /// A task got another name.
    pub struct task_rename in "task" {
        pid: i32 = "pid_t",
        oldcomm: Comm = "char",
        newcomm: Comm = "char",
        oom_score_adj: i16 = "short",
    }
    format r#""pid=%d oldcomm=%s newcomm=%s oom_score_adj=%hd", REC->pid, REC->oldcomm, REC->newcomm, REC->oom_score_adj"#;
    print "pid={pid} oldcomm={oldcomm} newcomm={newcomm} oom_score_adj={oom_score_adj}"
}

macro_rules! of_a_timer {
    ($($(#[$doc:meta])* $name:ident $field:ident $format:literal $print:literal)*) => {
        $(base::trace_event! {
            $(#[$doc])*
            pub(crate) struct $name in "timer" {
                $field: Ptr = "void *",
            }
            format $format;
            print $print, $field
        })*
    };
}
of_a_timer! {
    /// A coarse timer was made.
    timer_init timer r#""timer=%p", REC->timer"# "timer={}"
    /// Its function is over.
    timer_expire_exit timer r#""timer=%p", REC->timer"# "timer={}"
    /// It is armed no longer.
    timer_cancel timer r#""timer=%p", REC->timer"# "timer={}"
    /// A precise timer's function is over.
    hrtimer_expire_exit hrtimer r#""hrtimer=%p", REC->hrtimer"# "hrtimer={}"
    /// It is armed no longer.
    hrtimer_cancel hrtimer r#""hrtimer=%p", REC->hrtimer"# "hrtimer={}"
}

base::trace_event! {
    /// A coarse timer was armed. Times are jiffies.
    pub(crate) struct timer_start in "timer" {
        timer: Ptr = "void *",
        function: Str = "char",
        expires: u64 = "unsigned long",
        bucket_expiry: u64 = "unsigned long",
        now: u64 = "unsigned long",
        flags: u32 = "unsigned int",
    }
    format r#""timer=%p function=%s expires=%lu [timeout=%ld] bucket_expiry=%lu cpu=%u idx=%u flags=%s", REC->timer, __get_str(function), REC->expires, (long)REC->expires - REC->now, REC->bucket_expiry, REC->flags & 0x0003FFFF, REC->flags >> 22, __print_flags(REC->flags & (0x00040000 | 0x00080000 | 0x00100000 | 0x00200000), "|", { 0x00040000, "M" }, { 0x00080000, "D" }, { 0x00100000, "P" }, { 0x00200000, "I" })"#;
    print "timer={timer} function={function} expires={expires} [timeout={}] bucket_expiry={bucket_expiry} cpu={} idx={} flags=",
        expires.wrapping_sub(now) as i64, flags & 0x3_ffff, flags >> 22
}

base::trace_event! {
    /// A coarse timer's function begins. Times are jiffies.
    pub(crate) struct timer_expire_entry in "timer" {
        timer: Ptr = "void *",
        now: u64 = "unsigned long",
        function: Str = "char",
        baseclk: u64 = "unsigned long",
    }
    format r#""timer=%p function=%s now=%lu baseclk=%lu", REC->timer, __get_str(function), REC->now, REC->baseclk"#;
    print "timer={timer} function={function} now={now} baseclk={baseclk}"
}

/// `mode` of precise timers: absolute times, and the function is called in the interrupt.
pub(crate) const ABS_HARD: u32 = 8;
const MODES: &[(u64, &str)] = &[(0, "ABS"), (1, "REL"), (8, "ABS|HARD"), (9, "REL|HARD")];
const CLOCKS: &[(u64, &str)] =
    &[(0, "CLOCK_REALTIME"), (1, "CLOCK_MONOTONIC"), (7, "CLOCK_BOOTTIME"), (11, "CLOCK_TAI")];

base::trace_event! {
    /// A precise timer was made.
    pub(crate) struct hrtimer_init in "timer" {
        hrtimer: Ptr = "void *",
        clockid: i32 = "clockid_t",
        mode: u32 = "enum hrtimer_mode",
    }
    format r#""hrtimer=%p clockid=%s mode=%s", REC->hrtimer, __print_symbolic(REC->clockid, { 0, "CLOCK_REALTIME" }, { 1, "CLOCK_MONOTONIC" }, { 7, "CLOCK_BOOTTIME" }, { 11, "CLOCK_TAI" }), __print_symbolic(REC->mode, { 0, "ABS" }, { 1, "REL" }, { 8, "ABS|HARD" }, { 9, "REL|HARD" })"#;
    print "hrtimer={hrtimer} clockid={} mode={}", Symbolic(clockid as u64, CLOCKS), Symbolic(mode.into(), MODES)
}

base::trace_event! {
    /// A precise timer was armed. Times are nanoseconds.
    pub(crate) struct hrtimer_start in "timer" {
        hrtimer: Ptr = "void *",
        function: Str = "char",
        expires: i64 = "s64",
        softexpires: i64 = "s64",
        mode: u32 = "enum hrtimer_mode",
        was_armed: bool = "bool",
    }
    format r#""hrtimer=%p function=%s expires=%llu softexpires=%llu mode=%s was_armed=%d", REC->hrtimer, __get_str(function), (unsigned long long) REC->expires, (unsigned long long) REC->softexpires, __print_symbolic(REC->mode, { 0, "ABS" }, { 1, "REL" }, { 8, "ABS|HARD" }, { 9, "REL|HARD" }), REC->was_armed"#;
    print "hrtimer={hrtimer} function={function} expires={expires} softexpires={softexpires} mode={} was_armed={}",
        Symbolic(mode.into(), MODES), u8::from(was_armed)
}

base::trace_event! {
    /// A precise timer's function begins.
    pub(crate) struct hrtimer_expire_entry in "timer" {
        hrtimer: Ptr = "void *",
        now: i64 = "s64",
        function: Str = "char",
    }
    format r#""hrtimer=%p function=%s now=%llu", REC->hrtimer, __get_str(function), (unsigned long long) REC->now"#;
    print "hrtimer={hrtimer} function={function} now={now}"
}

/// Registers the events, and says who runs. Before anything else of this room.
pub(crate) fn init() {
    base::trace::install_who(who);
    irq::init();
    base::trace::register(&[
        sched_kthread_stop::event(),
        sched_kthread_stop_ret::event(),
        sched_waking::event(),
        sched_wakeup::event(),
        sched_wakeup_new::event(),
        sched_switch::event(),
        sched_migrate_task::event(),
        sched_process_free::event(),
        sched_process_exit::event(),
        sched_process_hang::event(),
        sched_process_wait::event(),
        sched_process_fork::event(),
        sched_process_exec::event(),
        sched_stat_runtime::event(),
        task_newtask::event(),
        task_rename::event(),
        timer_init::event(),
        timer_start::event(),
        timer_expire_entry::event(),
        timer_expire_exit::event(),
        timer_cancel::event(),
        hrtimer_init::event(),
        hrtimer_start::event(),
        hrtimer_expire_entry::event(),
        hrtimer_expire_exit::event(),
        hrtimer_cancel::event(),
    ]);
}

fn who() -> Who {
    if !frame::task::has_current() {
        return Who { pid: 0, comm: [0; COMM_LEN] };
    }
    let me = frame::task::current();
    let t = thread(&me);
    Who { pid: t.pid(), comm: comm(t) }
}

/// A task's name as records hold it.
pub fn comm(t: &Thread) -> [u8; COMM_LEN] {
    let name = t.comm();
    padded(name.as_bytes())
}

/// A name as records hold it.
pub fn padded(name: &[u8]) -> [u8; COMM_LEN] {
    let mut c = [0; COMM_LEN];
    let n = name.len().min(COMM_LEN - 1);
    c[..n].copy_from_slice(&name[..n]);
    c
}

/// What `sched_switch` says of how the task before it stopped running.
pub(crate) fn state(slept: Option<State>, preempted: bool) -> i64 {
    let Some(s) = slept else { return if preempted { PREEMPTED } else { 0 } };
    const PLAIN: State = State::INTERRUPTIBLE
        .union(State::UNINTERRUPTIBLE)
        .union(State::STOPPED)
        .union(State::TRACED)
        .union(State::PARKED);
    if s.contains(State::IDLE) {
        0x80
    } else if s.contains(State::DEAD) {
        // The task's own reference is what is given up here; whoever collects it comes later.
        0x20
    } else if s.contains(State::FROZEN) {
        i64::from(State::UNINTERRUPTIBLE.bits())
    } else {
        i64::from((s & PLAIN).bits())
    }
}

/// A task switch. `q` is locked.
pub(crate) fn switch(prev: &Thread, prev_state: i64, next: &Thread) {
    base::trace!(sched_switch {
        prev_comm: comm(prev),
        prev_pid: prev.pid() as i32,
        prev_prio: prev.prio(),
        prev_state,
        next_comm: comm(next),
        next_pid: next.pid() as i32,
        next_prio: next.prio(),
    });
}

/// A task is about to go from one processor to another.
#[inline]
pub(crate) fn migrate(task: &TaskRef, to: CpuId) {
    base::trace!(sched_migrate_task {
        comm: comm(thread(task)),
        pid: thread(task).pid() as i32,
        prio: thread(task).prio(),
        orig_cpu: task.cpu().get() as i32,
        dest_cpu: to.get() as i32,
    });
}

/// The running task of a queue is about to be charged up to `now`.
#[inline]
pub(crate) fn runtime(q: &RunQueue<Payload>, now: u64) {
    base::trace!(sched_stat_runtime {
        comm: match q.fair_current() {
            Some(e) => comm(&e.payload.thread),
            None => return,
        },
        pid: q.fair_current().map_or(0, |e| e.payload.thread.pid() as i32),
        runtime: now.saturating_sub(q.charged_ns()),
    });
}

/// The last part of a path of Rust names that is a name: what a closure is called after.
pub(crate) fn short_name(full: &'static str) -> &'static str {
    full.split('<')
        .next()
        .unwrap_or(full)
        .rsplit("::")
        .find(|p| !p.starts_with('{') && !p.is_empty())
        .unwrap_or(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_as_linux_reports_them() {
        let text = |s: i64| alloc::format!("{}{}", Reported(s), if s & PREEMPTED != 0 { "+" } else { "" });
        for (s, preempted, want) in [
            (None, false, "R"),
            (None, true, "R+"),
            (Some(State::INTERRUPTIBLE), false, "S"),
            (Some(State::UNINTERRUPTIBLE), false, "D"),
            (Some(State::KILLABLE), false, "D"),
            (Some(State::IDLE), false, "I"),
            (Some(State::STOPPED), false, "T"),
            (Some(State::TRACED), false, "t"),
            (Some(State::PARKED), false, "P"),
            (Some(State::DEAD), false, "Z"),
        ] {
            assert_eq!(text(state(s, preempted)), want);
        }
    }

    #[test]
    fn closures_are_called_after_their_makers() {
        assert_eq!(short_name("process::itimer::Timers::new::{{closure}}"), "new");
        assert_eq!(short_name("drivers::serial::poll"), "poll");
        assert_eq!(short_name("a::b<c::d>::{{closure}}::{{closure}}"), "b");
    }
}
