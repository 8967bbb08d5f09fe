//! Read-copy-update: readers that store nothing shared, writers that wait until no reader can still see what they took out.
//!
//! # Theory
//! A reader holds off preemption and does nothing else ([`read`]). So a processor that switches tasks, runs user mode, is
//! idle, or takes an interrupt with an empty context word is in no read section: it is *quiescent*. Once every processor
//! has been quiescent after a pointer was replaced, the old target can be freed. That span is a *grace period*.
//!
//! ```text
//!   STARTED, DONE   grace periods begun and ended; one is going on when STARTED = DONE + 1
//!   WANTED          the highest that somebody needs
//!   WAITING         the processors that the present one still waits for
//!   EQS[cpu]        counts entries to and exits from idle: odd while the processor is idle
//! ```
//! [`call`] asks for `STARTED + 1`: the one going on may have begun before the pointer was replaced. [`poll`] moves the
//! machine: it strikes idle and vanished processors off `WAITING`, ends the grace period when nobody is left, and begins
//! the next. An idle processor is never woken: its odd counter is answer enough. A busy one strikes itself off, at a switch
//! or a tick.
//!
//! # Order
//! Beginning stores `STARTED`, then `WAITING`, then reads `EQS`; leaving idle changes `EQS` before any read section.
//! All are sequentially consistent, so a section that could see an old pointer either lies before its processor's
//! report or is seen as busy. Ending acquires every report.
//!
//! # Who drives it
//! `sched` calls [`tick`] in each timer interrupt and [`advance`] in its RCU thread, which [`install_kick`]'s function
//! wakes. Callbacks run in that thread. [`synchronize`] moves the machine by itself too, but runs nobody's callbacks, which
//! might need what its caller holds.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use core::sync::atomic::AtomicU32 as OwnCounter;

use super::{LockClass, SpinLockIrq, WaitQueue, once::Once};
use crate::{
    arch,
    atomic::{AtomicU64, Ordering, fence},
    context::{self, HARDIRQ_MASK, IrqGuard, PreemptGuard},
    cpu::{self, CpuId, MAX_CPUS},
    task,
};

mod ptr;
pub use ptr::{Rcu, RcuPtr};

/// A read section. What was loaded under it stays alive until it is dropped.
#[must_use]
pub struct ReadGuard {
    _held: PreemptGuard,
}

/// Begins a read section. It may nest; it must not sleep.
#[inline]
pub fn read() -> ReadGuard {
    ReadGuard { _held: PreemptGuard::new() }
}

static STARTED: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
static WANTED: AtomicU64 = AtomicU64::new(0);
static WAITING: AtomicU64 = AtomicU64::new(0);

/// What one processor tells the others.
#[repr(align(64))]
struct PerCpu {
    /// Odd: idle.
    eqs: AtomicU64,
    /// Interrupts being served, and whether the outermost one came out of idle. Only this processor uses them.
    irq_nesting: OwnCounter,
    from_idle: OwnCounter,
    callbacks: SpinLockIrq<VecDeque<Batch>>,
}

/// Callbacks that need the same grace period.
struct Batch {
    needs: u64,
    run: Vec<Box<dyn FnOnce() + Send>>,
}

static CALLBACKS: LockClass = LockClass::new("rcu_callbacks");
static MACHINE_CLASS: LockClass = LockClass::new("rcu_state");
/// Held while the machine moves.
static MACHINE: SpinLockIrq<()> = SpinLockIrq::new(&MACHINE_CLASS, ());
static CPUS: [PerCpu; MAX_CPUS] = [const {
    PerCpu {
        eqs: AtomicU64::new(0),
        irq_nesting: OwnCounter::new(0),
        from_idle: OwnCounter::new(0),
        callbacks: SpinLockIrq::new(&CALLBACKS, VecDeque::new()),
    }
}; MAX_CPUS];
/// Those who wait in [`synchronize`].
static ENDED: WaitQueue = WaitQueue::new();
static KICK: Once<fn()> = Once::new();
static QUEUED: AtomicU64 = AtomicU64::new(0);
static INVOKED: AtomicU64 = AtomicU64::new(0);

/// What has been done so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Grace periods that ended.
    pub grace_periods: u64,
    /// Callbacks queued, and run.
    pub queued: u64,
    pub invoked: u64,
}

pub fn stats() -> Stats {
    Stats {
        grace_periods: DONE.load(Ordering::Relaxed),
        queued: QUEUED.load(Ordering::Relaxed),
        invoked: INVOKED.load(Ordering::Relaxed),
    }
}

/// Installs what wakes the RCU thread. It is called with interrupts off or in an interrupt, and must not sleep.
pub fn install_kick(f: fn()) {
    KICK.call_once(|| f);
}

fn kick() {
    if let Some(f) = KICK.get() {
        f();
    }
}

/// Runs `f` after a grace period, in the RCU thread. From any context but an NMI. `f` must not sleep for long, and must not
/// need a lock that is held around [`synchronize`].
pub fn call(f: Box<dyn FnOnce() + Send>) {
    let first;
    {
        let g = IrqGuard::new();
        let mine = &CPUS[g.cpu().index()];
        let needs = want();
        let mut q = mine.callbacks.lock();
        first = q.is_empty();
        match q.back_mut() {
            Some(b) if b.needs == needs => b.run.push(f),
            _ => q.push_back(Batch { needs, run: alloc::vec![f] }),
        }
        QUEUED.fetch_add(1, Ordering::Relaxed);
    }
    if first {
        kick();
    }
}

/// Asks for a grace period that begins from now on; returns its number.
fn want() -> u64 {
    // What the caller unlinked comes before the look at STARTED.
    fence(Ordering::SeqCst);
    let n = STARTED.load(Ordering::SeqCst) + 1;
    WANTED.fetch_max(n, Ordering::SeqCst);
    n
}

/// Sleeps until every read section that exists now has ended.
///
/// # Panics
/// In a read section, or wherever else sleeping is forbidden.
#[track_caller]
pub fn synchronize() {
    context::might_sleep();
    assert!(context::word() == 0, "BUG: rcu::synchronize in a read section or interrupt");
    let n = want();
    let ended = || {
        poll();
        (DONE.load(Ordering::Acquire) >= n).then_some(())
    };
    if task::scheduling() && task::has_current() && KICK.get().is_some() {
        kick();
        ENDED.wait(ended);
    } else {
        // Early, or in a test without an RCU thread: drive it from here.
        while ended().is_none() {
            arch::relax();
            if task::scheduling() && task::has_current() {
                task::schedule();
            }
        }
    }
}

/// Tells the machine that this processor is in no read section. Preemption is held off by the caller or by its nature.
#[inline]
fn quiescent(cpu: CpuId) {
    let bit = 1 << cpu.get();
    if WAITING.load(Ordering::Relaxed) & bit != 0 {
        WAITING.fetch_and(!bit, Ordering::SeqCst);
    }
}

/// A switch of tasks, of whatever kind: readers hold off preemption, so none is inside. `task` calls it with interrupts off.
/// Ends idleness too, should an interrupt have preempted the idle task.
#[inline]
pub(crate) fn note_quiescent() {
    let cpu = CpuId::new_unchecked(arch::cpu_id());
    note_idle_exit_on(cpu);
    quiescent(cpu);
}

/// This processor goes to user mode: interrupts are off, and the context word, which counts readers, is zero.
#[inline]
pub(crate) fn note_user_entry() {
    debug_assert!(context::word() == 0);
    quiescent(CpuId::new_unchecked(arch::cpu_id()));
}

/// The idle task is about to halt, with interrupts off. No read sections until [`note_idle_exit`]; interrupt handlers may
/// have them all the same.
pub fn note_idle_enter() {
    let g = IrqGuard::new();
    let c = &CPUS[g.cpu().index()];
    if c.eqs.load(Ordering::Relaxed) & 1 == 0 {
        c.eqs.fetch_add(1, Ordering::SeqCst);
    }
    quiescent(g.cpu());
}

/// The idle task goes on. Does nothing if the processor is not idle.
pub fn note_idle_exit() {
    let g = IrqGuard::new();
    note_idle_exit_on(g.cpu());
}

#[inline]
fn note_idle_exit_on(cpu: CpuId) {
    let c = &CPUS[cpu.index()];
    if c.eqs.load(Ordering::Relaxed) & 1 != 0 {
        c.eqs.fetch_add(1, Ordering::SeqCst);
    }
}

/// A hardware interrupt begins: a processor that was idle may read now.
#[inline]
pub(crate) fn irq_enter() {
    let cpu = CpuId::new_unchecked(arch::cpu_id());
    let c = &CPUS[cpu.index()];
    let n = c.irq_nesting.load(Ordering::Relaxed);
    c.irq_nesting.store(n + 1, Ordering::Relaxed);
    if n == 0 && c.eqs.load(Ordering::Relaxed) & 1 != 0 {
        c.from_idle.store(1, Ordering::Relaxed);
        c.eqs.fetch_add(1, Ordering::SeqCst);
    }
}

/// And ends, softirqs included: back to idle if that is where it came from.
#[inline]
pub(crate) fn irq_exit() {
    let cpu = CpuId::new_unchecked(arch::cpu_id());
    let c = &CPUS[cpu.index()];
    let n = c.irq_nesting.load(Ordering::Relaxed) - 1;
    c.irq_nesting.store(n, Ordering::Relaxed);
    if n == 0 && c.from_idle.swap(0, Ordering::Relaxed) != 0 {
        c.eqs.fetch_add(1, Ordering::SeqCst);
        quiescent(cpu);
    }
}

/// What `sched` calls in each timer interrupt: reports for this processor if it interrupted no reader, and wakes the RCU
/// thread when there is something for it to do.
pub fn tick(cpu: CpuId) {
    if context::word() & !HARDIRQ_MASK == 0 {
        quiescent(cpu);
    }
    let (started, done) = (STARTED.load(Ordering::Relaxed), DONE.load(Ordering::Relaxed));
    if (started != done && WAITING.load(Ordering::Relaxed) == 0)
        || (started == done && WANTED.load(Ordering::Relaxed) > done)
    {
        kick();
    }
}

/// True while a grace period is wanted or callbacks have not run.
pub fn is_pending() -> bool {
    WANTED.load(Ordering::Relaxed) > DONE.load(Ordering::Relaxed)
        || QUEUED.load(Ordering::Relaxed) != INVOKED.load(Ordering::Relaxed)
}

/// Moves the state machine as far as it goes now, without running callbacks. From any context but an NMI.
pub fn poll() {
    let mut ended = false;
    {
        let g = MACHINE.lock();
        let me = CpuId::new_unchecked(arch::cpu_id());
        loop {
            let started = STARTED.load(Ordering::SeqCst);
            if started == DONE.load(Ordering::SeqCst) {
                if WANTED.load(Ordering::SeqCst) <= started {
                    break;
                }
                STARTED.store(started + 1, Ordering::SeqCst);
                fence(Ordering::SeqCst);
                WAITING.store(cpu::alive().0, Ordering::SeqCst);
                fence(Ordering::SeqCst);
            }
            // In a task with nothing held, this processor is between sections.
            if context::word() == 0 && arch::irq_depth_add(0) == 1 {
                quiescent(me);
            }
            strike_off_idle();
            if WAITING.load(Ordering::SeqCst) != 0 {
                break;
            }
            fence(Ordering::SeqCst);
            DONE.store(started.max(STARTED.load(Ordering::SeqCst)), Ordering::SeqCst);
            ended = true;
        }
        drop(g);
    }
    if ended {
        ENDED.wake_all();
    }
}

/// Strikes off those who are idle or gone.
fn strike_off_idle() {
    let waiting = WAITING.load(Ordering::SeqCst);
    let alive = cpu::alive().0;
    let mut off = waiting & !alive;
    for c in cpu::CpuMask(waiting & alive).iter() {
        // A read-modify-write, so that leaving idle comes either before it (and is seen) or after it, with all its reads.
        if CPUS[c.index()].eqs.fetch_add(0, Ordering::SeqCst) & 1 != 0 {
            off |= 1 << c.get();
        }
    }
    if off != 0 {
        WAITING.fetch_and(!off, Ordering::SeqCst);
    }
}

/// Moves the state machine and runs the callbacks whose grace period is over, on whichever processor they were queued.
/// For the RCU thread. Returns true while there is more to come: call again after the next tick or kick.
pub fn advance() -> bool {
    poll();
    let mut done = DONE.load(Ordering::Acquire);
    for c in &CPUS[..cpu::possible()] {
        loop {
            // Bound first, so that the lock is not held while the callbacks run.
            let batch = {
                let mut q = c.callbacks.lock();
                if q.front().is_some_and(|b| b.needs <= done) { q.pop_front() } else { None }
            };
            let Some(batch) = batch else { break };
            let n = batch.run.len() as u64;
            for f in batch.run {
                f();
            }
            INVOKED.fetch_add(n, Ordering::Relaxed);
            done = DONE.load(Ordering::Acquire);
        }
    }
    is_pending()
}
