//! Where the time goes: exact, by events and not by sampling.
//!
//! The running task has a mark: the moment up to which its time is accounted. A switch moves it, and what lay before goes
//! to the task; a softirq or an interrupt moves it by its own length. How much of a span was user mode the frame
//! says ([`frame::user::time_ns`]), which keeps raw ticks per processor, so that entering and leaving user mode costs two
//! looks at the counter and nothing else; the rest is system time. Whoever asks for the times of a running task adds
//! the present span. A processor's user and system times are the sums over the tasks that ran there, taken at each
//! switch; interrupts and softirqs are kept apart and taken from nobody's share but the idle task's or the interrupted one's.
//!
//! An idle span is split exactly: it counts as waiting for I/O up to the moment at which the last task that went to sleep for I/O
//! there woke, wherever that happened.
//!
//! Time in device interrupts is part of the interrupted task's (frame does not report their bounds); that of the
//! timer interrupt is `irq`.

use frame::{
    atomic::{AtomicU64, Ordering},
    cpu::CpuId,
};

use crate::{
    core::{Cpu, cpu},
    thread::{Ext, Thread},
};

/// A processor's times in nanoseconds; written by that processor with interrupts off.
pub(crate) struct CpuClock {
    user: AtomicU64,
    nice: AtomicU64,
    system: AtomicU64,
    idle: AtomicU64,
    iowait: AtomicU64,
    irq: AtomicU64,
    softirq: AtomicU64,
    /// The processor's time in user mode when the running task came.
    user_at_switch: AtomicU64,
    /// Until when the present idle span counts as waiting for I/O, after the last that waited has gone.
    io_until: AtomicU64,
}

/// The columns of `/proc/stat` for one processor, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CpuTimes {
    pub user_ns: u64,
    pub nice_ns: u64,
    pub system_ns: u64,
    pub idle_ns: u64,
    pub iowait_ns: u64,
    pub irq_ns: u64,
    pub softirq_ns: u64,
}

#[inline]
fn add(a: &AtomicU64, n: u64) {
    a.store(a.load(Ordering::Relaxed) + n, Ordering::Release);
}

impl CpuClock {
    pub(crate) const fn new() -> Self {
        CpuClock {
            user: AtomicU64::new(0),
            nice: AtomicU64::new(0),
            system: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            iowait: AtomicU64::new(0),
            irq: AtomicU64::new(0),
            softirq: AtomicU64::new(0),
            user_at_switch: AtomicU64::new(0),
            io_until: AtomicU64::new(0),
        }
    }
}

/// What the running thread of `c` has used since it came: (user, system), up to `now`. `in_user` is the processor's time in
/// user mode.
#[inline]
fn since_switch(c: &Cpu, t: &Thread, in_user: u64, now: u64) -> (u64, u64) {
    let user = in_user.saturating_sub(c.times.user_at_switch.load(Ordering::Relaxed));
    let run = now.saturating_sub(t.mark_ns.load(Ordering::Acquire));
    let user = user.min(run);
    (user, run - user)
}

/// How much of the processor's idle span of `ns` until `now` had tasks waiting for I/O. Their number can only fall while the
/// processor idles, since only tasks that run here add to it.
#[inline]
fn waiting_for_io(c: &Cpu, ns: u64, now: u64) -> u64 {
    if c.iowait.load(Ordering::Relaxed) > 0 {
        return ns;
    }
    c.times.io_until.load(Ordering::Relaxed).saturating_sub(now.saturating_sub(ns)).min(ns)
}

/// A task that waited for I/O, and went to sleep on `c`, wakes.
pub(crate) fn io_done(c: &Cpu, now: u64) {
    c.times.io_until.fetch_max(now, Ordering::Relaxed);
    c.iowait.fetch_sub(1, Ordering::Relaxed);
}

/// The running task begins or ends to let its processor rest: what follows is, or is no longer, idle time.
pub(crate) fn set_resting(t: &Thread, on: bool) {
    let g = frame::context::IrqGuard::new();
    let id = g.cpu();
    let c = cpu(id);
    let _q = c.rq.lock();
    switch(c, id, t, t, frame::time::now_ns());
    t.resting.store(on, Ordering::Relaxed);
}

/// A processor that ends, or begins again, in its idle task: its idle time stands still in between.
pub(crate) fn pause_idle(id: CpuId, idle: &Thread) {
    let _off = frame::context::IrqGuard::new();
    let c = cpu(id);
    let _q = c.rq.lock();
    switch(c, id, idle, idle, frame::time::now_ns());
    idle.runs_on.store(0, Ordering::Relaxed);
}
pub(crate) fn resume_idle(id: CpuId, idle: &Thread) {
    let _off = frame::context::IrqGuard::new();
    let c = cpu(id);
    let _q = c.rq.lock();
    c.times.user_at_switch.store(frame::user::time_ns(id), Ordering::Relaxed);
    idle.mark_ns.store(frame::time::now_ns(), Ordering::Relaxed);
    idle.runs_on.store(id.get() + 1, Ordering::Relaxed);
}

/// The processor goes from one task to the next. Under its queue's lock, so that readers see task and times
/// together.
#[inline]
pub(crate) fn switch(c: &Cpu, id: CpuId, prev: &Thread, next: &Thread, now: u64) {
    let k = &c.times;
    let in_user = frame::user::time_ns(id);
    let (user, system) = since_switch(c, prev, in_user, now);
    add(&prev.user_ns, user);
    add(&prev.system_ns, system);
    prev.runs_on.store(0, Ordering::Relaxed);
    if prev.is_resting() {
        let io = waiting_for_io(c, user + system, now);
        add(&k.iowait, io);
        add(&k.idle, user + system - io);
    } else {
        add(if prev.nice() > 0 { &k.nice } else { &k.user }, user);
        add(&k.system, system);
    }
    k.user_at_switch.store(in_user, Ordering::Relaxed);
    next.mark_ns.store(now, Ordering::Relaxed);
    next.runs_on.store(id.get() + 1, Ordering::Relaxed);
}

/// User and system time of a thread as of now, whether it runs or not.
pub(crate) fn thread_times(t: &Thread) -> (u64, u64) {
    let _g = frame::context::IrqGuard::new();
    let stored = || (t.user_ns.load(Ordering::Relaxed), t.system_ns.load(Ordering::Relaxed));
    loop {
        let on = t.runs_on.load(Ordering::Acquire);
        let Some(id) = CpuId::new(on.wrapping_sub(1)) else { return stored() };
        let c = cpu(id);
        // Nobody switches there while the queue is locked.
        let _q = c.rq.lock();
        if t.runs_on.load(Ordering::Relaxed) == on {
            let (u, s) = stored();
            let (du, ds) = since_switch(c, t, frame::user::time_ns(id), frame::time::now_ns());
            return (u + du, s + ds);
        }
    }
}

/// Interrupt time of `ns` does not belong to the interrupted task.
fn steal(ns: u64) {
    if frame::task::has_current() {
        let me = frame::task::current();
        add(&me.ext::<Ext>().thread.mark_ns, ns);
    }
}

/// When an interrupt or softirq began, and what interrupts had used of this processor then.
pub(crate) struct Began {
    at: u64,
    irq: u64,
}

pub(crate) fn softirq_enter(id: CpuId) -> Began {
    Began { at: frame::time::now_ns(), irq: cpu(id).times.irq.load(Ordering::Relaxed) }
}

pub(crate) fn softirq_exit(id: CpuId, b: Began) {
    let _g = frame::context::IrqGuard::new();
    let k = &cpu(id).times;
    let inner = k.irq.load(Ordering::Relaxed) - b.irq;
    let ns = frame::time::now_ns().saturating_sub(b.at).saturating_sub(inner);
    add(&k.softirq, ns);
    steal(ns);
}

/// A hardware interrupt of this room has taken this long.
pub(crate) fn irq_took(id: CpuId, ns: u64) {
    add(&cpu(id).times.irq, ns);
    steal(ns);
}

/// The times of a processor as of now, what runs there included.
pub fn cpu_times(id: CpuId) -> CpuTimes {
    let _g = frame::context::IrqGuard::new();
    let c = cpu(id);
    let k = &c.times;
    let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
    let q = c.rq.lock();
    let mut t = CpuTimes {
        user_ns: get(&k.user),
        nice_ns: get(&k.nice),
        system_ns: get(&k.system),
        idle_ns: get(&k.idle),
        iowait_ns: get(&k.iowait),
        irq_ns: get(&k.irq),
        softirq_ns: get(&k.softirq),
    };
    let now = frame::time::now_ns();
    let idle = c.idle.get().map(|t| &*t.ext::<Ext>().thread);
    let Some(running) = q.rq.current().map(|e| &*e.payload.thread).or(idle) else { return t };
    if running.runs_on.load(Ordering::Relaxed) == 0 {
        // Off line.
        return t;
    }
    let (user, system) = since_switch(c, running, frame::user::time_ns(id), now);
    if running.is_resting() {
        let io = waiting_for_io(c, user + system, now);
        t.iowait_ns += io;
        t.idle_ns += user + system - io;
    } else {
        *if running.nice() > 0 { &mut t.nice_ns } else { &mut t.user_ns } += user;
        t.system_ns += system;
    }
    t
}
