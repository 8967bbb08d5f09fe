//! `/proc/PID/stat`: 52 numbers on one line (`proc_pid_stat(5)`). What Linux itself always prints as 0 is 0.

use base::{Result, tree::Out};
use frame::atomic::Ordering::Relaxed;
use sched::{Policy, TaskRef};

use super::{may_read, memory::mm_of, state, user};
use crate::{
    signal::{
        action::{SIG_DFL, SIG_IGN},
        set::SigSet,
    },
    tree::TREE,
    usage::Usage,
};

const PF_EXITING: u32 = 0x4;
const PF_WQ_WORKER: u32 = 0x20;
const PF_FORKNOEXEC: u32 = 0x40;
const PF_KTHREAD: u32 = 0x20_0000;
const PF_RANDOMIZE: u32 = 0x40_0000;
const PF_NO_SETAFFINITY: u32 = 0x400_0000;

/// Sets of signals that are ignored and caught.
pub(super) fn ignored_and_caught(s: &crate::process::Signals) -> (SigSet, SigSet) {
    let (mut ign, mut cgt) = (SigSet::EMPTY, SigSet::EMPTY);
    for (i, a) in s.handlers.iter().enumerate() {
        match a.handler {
            SIG_IGN => ign.add(i as u32 + 1),
            SIG_DFL => {}
            _ => cgt.add(i as u32 + 1),
        }
    }
    (ign, cgt)
}

/// Numbers of policies in `sched(7)`.
fn policy(p: Policy) -> (u32, u32) {
    match p {
        Policy::Other => (0, 0),
        Policy::Fifo(n) => (1, n as u32),
        Policy::Rr(n) => (2, n as u32),
        Policy::Batch => (3, 0),
        Policy::Idle => (5, 0),
    }
}

/// The process as a whole; one thread's numbers in the folder of a thread that does not lead its group.
pub(super) fn show(t: &TaskRef, out: &mut Out) -> Result<()> {
    let th = sched::thread(t);
    let whole = th.pid() == th.tgid();
    let d = user(t);
    let (mut ppid, mut pgid, mut sid, mut exit_signal, mut waited) = (0, 0, 0, 0, Usage::default());
    let mut zombie = None;
    if th.is_kthread() {
        ppid = super::status::kthread_parent(th.pid());
    }
    if let Some(d) = d {
        let tree = TREE.lock();
        if let Some(n) = tree.get(d.process.pid()) {
            (ppid, pgid, sid, waited, zombie) = (n.parent, n.pgid, n.sid, n.waited, n.zombie);
            exit_signal = if th.pid() == th.tgid() { n.exit_signal as i32 } else { -1 };
        }
    }
    let usage = match d {
        Some(d) if whole => Usage::of_threads(&d.process),
        Some(d) => Usage::of_thread(t, d),
        None => {
            let t = th.times();
            Usage { user_ns: t.user_ns, system_ns: t.system_ns, ..Usage::default() }
        }
    };
    let mut flags = if th.is_kthread() { PF_KTHREAD | PF_FORKNOEXEC } else { 0 };
    flags |= if th.is_wq_worker() { PF_WQ_WORKER } else { 0 };
    flags |= if th.has_fixed_affinity() { PF_NO_SETAFFINITY } else { 0 };
    let (mut pending, mut blocked, mut ign, mut cgt, mut threads, mut tty) =
        (SigSet::EMPTY, SigSet::EMPTY, SigSet::EMPTY, SigSet::EMPTY, 1, 0);
    if let Some(d) = d {
        let s = d.process.sig.lock();
        (ign, cgt) = ignored_and_caught(&s);
        threads = s.threads.len().max(1);
        pending = d.pending.lock().set();
        blocked = d.blocked();
        tty = d.process.tty_nr.load(Relaxed);
        flags |= if d.is_exiting() { PF_EXITING } else { 0 };
        flags |= if d.fork_no_exec.load(Relaxed) { PF_FORKNOEXEC } else { 0 };
        flags |= if mm::layout::randomness(1, 1) != 0 { PF_RANDOMIZE } else { 0 };
    }
    // Classic 32-bit sets: higher signals are in `status` only.
    let low = |s: SigSet| s.0 & 0x7fff_ffff;
    let ticks = |ns: u64| ns / 10_000_000;
    let m = mm_of(t);
    let c = m.as_ref().map(|m| m.counters()).unwrap_or_default();
    let readable = may_read(t);
    let e = m.as_ref().map(|m| m.exec_info()).unwrap_or_default();
    let brk = m.as_ref().map_or(0, |m| m.brk_range().0);
    // Who may not look sees 1 for the text's bounds, 0 for the rest.
    let code = |v: usize| {
        if m.is_none() {
            0
        } else if readable {
            v
        } else {
            1
        }
    };
    let secret = |v: usize| if readable { v } else { 0 };
    let (pol, rt) = policy(th.policy());
    let asleep = !t.state().is_empty() && readable;
    let status = if readable { zombie.unwrap_or(0) } else { 0 };
    out.reserve(512)?;
    out.number(th.pid() as u64)?;
    out.push(b"(")?;
    out.push(th.proc_name().full())?;
    out.push(&[b')', b' ', state(t) as u8, b' '])?;
    for v in [ppid, pgid, sid, tty] {
        out.number(v as u64)?;
    }
    out.signed(if tty != 0 { tty_group(d) } else { -1 })?;
    for v in [
        flags as u64,
        usage.minflt,
        waited.minflt,
        usage.majflt,
        waited.majflt,
        ticks(usage.user_ns),
        ticks(usage.system_ns),
        ticks(waited.user_ns),
        ticks(waited.system_ns),
    ] {
        out.number(v)?;
    }
    out.signed((th.prio() - 100) as i64)?;
    out.signed(th.nice() as i64)?;
    for v in [
        threads as u64,
        0,
        ticks(th.start_ns()),
        c.total_vm * 4096,
        c.resident(),
        d.map_or(u64::MAX, |d| d.process.limit(5)),
        code(e.start_code) as u64,
        code(e.end_code) as u64,
        secret(e.start_stack) as u64,
        0,
        0,
        low(pending),
        low(blocked),
        low(ign),
        low(cgt),
        asleep as u64,
        0,
        0,
    ] {
        out.number(v)?;
    }
    out.signed(exit_signal as i64)?;
    for v in [
        t.cpu().get() as u64,
        rt as u64,
        pol as u64,
        0,
        0,
        0,
        secret(e.start_data) as u64,
        secret(e.end_data) as u64,
        secret(brk) as u64,
        secret(e.arg_start) as u64,
        secret(e.arg_end) as u64,
        secret(e.env_start) as u64,
        secret(e.env_end) as u64,
        status as u64,
    ] {
        out.number(v)?;
    }
    out.end_line()
}

/// Foreground group of the terminal; -1 without one.
fn tty_group(d: Option<&crate::process::ThreadData>) -> i64 {
    d.and_then(|d| crate::terminal::foreground(&d.process)).map_or(-1, |g| g as i64)
}
