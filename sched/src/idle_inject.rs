//! # idle_inject/N
//! * **What for**: forces idle time on its processor, so that it makes less heat: in each period it takes the processor from fair tasks
//!   for a while, and lets it rest.
//! * **Woken by**: the timer of an [`IdleInject`], once per period, on all processors of its set at once, so that they rest together.
//! * **Never**: runs unless someone has asked for idle time; keeps out what is more urgent (FIFO above 50, `migration`); counts what it
//!   rests as its own or the system's time.
//! * **Shows as**: `[idle_inject/N]`, SCHED_FIFO 50. Its voluntary switches count the injections; the time is in the idle column of
//!   `/proc/stat`. Counters: `/sys/kernel/nightshift/daemons/idle_inject/injected` (processor, times, microseconds).
//! * **Documented**: Linux `drivers/powercap/idle_inject.c`; a user of it is `intel_powerclamp`.
//!
//! Linux also takes a limit of latency, with which it chooses among the processor's idle states. A virtual machine has one idle state,
//! so there is nothing to choose.

use alloc::sync::Arc;

use base::{Errno, Result, daemon::Card};
use frame::{
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    cpu::{CpuId, CpuMask, MAX_CPUS},
    sync::once::Once,
};

use crate::{
    attr,
    kthread::{PerCpuThread, PerCpuThreads, because},
    policy::Policy,
    stat::possible_cpus,
    swapper,
    time::{self, Timer},
};

pub(crate) static CARD: Card = Card {
    name: "idle_inject",
    purpose: "forces idle time on its processor",
    woken_by: "the period timer of whoever asked for idle time (intel_powerclamp)",
    never: "runs unasked, or keeps out what is more urgent than FIFO 50",
    documented: "Linux drivers/powercap/idle_inject.c",
};

/// Below this priority a task is not kept from its processor.
const PRIORITY: u8 = 50;

/// What one processor's thread is to do, and has done.
#[repr(align(64))]
struct Cpu {
    /// How long to rest now, in nanoseconds; 0 when there is nothing to do.
    want_ns: AtomicU64,
    /// Rest that is still to be had; below 0 where it had too much. Its thread's, but for the start.
    owed_ns: AtomicI64,
    busy: AtomicBool,
    times: AtomicU64,
    injected_ns: AtomicU64,
}

static CPUS: [Cpu; MAX_CPUS] = [const {
    Cpu {
        want_ns: AtomicU64::new(0),
        owed_ns: AtomicI64::new(0),
        busy: AtomicBool::new(false),
        times: AtomicU64::new(0),
        injected_ns: AtomicU64::new(0),
    }
}; MAX_CPUS];
static THREADS: Once<PerCpuThreads> = Once::new();
/// Processors that belong to an [`IdleInject`].
static TAKEN: AtomicU64 = AtomicU64::new(0);

fn cpu(c: CpuId) -> &'static Cpu {
    &CPUS[c.index()]
}

/// How long all processors have rested, in microseconds.
pub(crate) fn injected_us() -> u64 {
    CPUS.iter().map(|c| c.injected_ns.load(Ordering::Relaxed)).sum::<u64>() / 1000
}

/// How long to rest in a period that asks for `want`, given what is owed from before, and what is then owed at most, either way. A
/// machine that wakes late (a host that gives its processors to others) would rest more than it should, period after period.
fn plan(want: u64, owed: i64) -> (u64, i64) {
    let want = want.min(i64::MAX as u64 / MEMORY as u64) as i64;
    let owed = (owed + want).clamp(-MEMORY * want, MEMORY * want);
    // Twice at a time at most: programs wait for the processor.
    (owed.clamp(0, 2 * want) as u64, owed)
}
/// For how many periods' rest a debt is kept.
const MEMORY: i64 = 10;

fn inject(me: CpuId) {
    let s = cpu(me);
    s.busy.store(true, Ordering::SeqCst);
    let want = s.want_ns.swap(0, Ordering::SeqCst);
    if want != 0 {
        because("period");
        let (rest, owed) = plan(want, s.owed_ns.load(Ordering::Relaxed));
        s.owed_ns.store(owed - rest_for(s, rest) as i64, Ordering::Relaxed);
    }
    s.busy.store(false, Ordering::SeqCst);
}

/// Rests; says how long it was.
fn rest_for(s: &Cpu, ns: u64) -> u64 {
    let begun = time::now_ns();
    // Without memory for a timer there is no rest this time.
    if ns == 0 || swapper::play_idle(ns).is_err() {
        return 0;
    }
    let took = time::now_ns().saturating_sub(begun);
    s.injected_ns.fetch_add(took, Ordering::Relaxed);
    s.times.fetch_add(1, Ordering::Relaxed);
    took
}

static ROW: PerCpuThread = PerCpuThread {
    name: "idle_inject",
    setup: |_| {
        let me = frame::task::current().arc();
        // It runs, so nothing can fail.
        let _ = attr::set_policy(&me, Policy::Fifo(PRIORITY), 0);
    },
    should_run: |me| cpu(me).want_ns.load(Ordering::SeqCst) != 0,
    work: inject,
    park: |me| cpu(me).want_ns.store(0, Ordering::SeqCst),
    unpark: |_| (),
};

/// How much, of what.
struct Shared {
    cpus: CpuMask,
    run_us: AtomicU64,
    idle_us: AtomicU64,
    on: AtomicBool,
    /// When the next period begins.
    next_ns: AtomicU64,
}

/// Idle time for a set of processors: `idle_us` of each `run_us + idle_us`.
pub struct IdleInject {
    shared: Arc<Shared>,
    timer: Timer,
}

impl IdleInject {
    /// Takes the processors. EBUSY if one of them belongs to another, EINVAL for none, ENOMEM.
    pub fn register(cpus: CpuMask) -> Result<IdleInject> {
        let possible = possible_cpus().fold(0, |m, c| m | CpuMask::one(c).0);
        let cpus = cpus.and(CpuMask(possible));
        if cpus.is_empty() {
            return Err(Errno::EINVAL);
        }
        let shared = Arc::new(Shared {
            cpus,
            run_us: AtomicU64::new(0),
            idle_us: AtomicU64::new(0),
            on: AtomicBool::new(false),
            next_ns: AtomicU64::new(0),
        });
        let s = shared.clone();
        let timer = Timer::new(move |t| s.begin_period(t))?;
        let add = |t: u64| (t & cpus.0 == 0).then_some(t | cpus.0);
        TAKEN.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add).map_err(|_| Errno::EBUSY)?;
        Ok(IdleInject { shared, timer })
    }

    /// How long to run and to rest in each period, in microseconds; takes effect with the next period.
    pub fn set_duration(&self, run_us: u64, idle_us: u64) {
        self.shared.run_us.store(run_us, Ordering::Relaxed);
        self.shared.idle_us.store(idle_us, Ordering::Relaxed);
    }
    pub fn duration(&self) -> (u64, u64) {
        (self.shared.run_us.load(Ordering::Relaxed), self.shared.idle_us.load(Ordering::Relaxed))
    }

    /// Begins. EINVAL without both durations.
    pub fn start(&self) -> Result<()> {
        let (run, idle) = self.duration();
        if run == 0 || idle == 0 {
            return Err(Errno::EINVAL);
        }
        if !self.shared.on.swap(true, Ordering::SeqCst) {
            self.shared.next_ns.store(time::now_ns(), Ordering::Relaxed);
            self.shared.cpus.iter().for_each(|c| cpu(c).owed_ns.store(0, Ordering::Relaxed));
            self.shared.begin_period(&self.timer);
        }
        Ok(())
    }

    /// Ends, and waits until no processor rests any more. In a task.
    pub fn stop(&self) {
        self.shared.on.store(false, Ordering::SeqCst);
        self.timer.cancel_wait();
        // A period that had begun may have armed it once more.
        self.timer.cancel_wait();
        for c in self.shared.cpus.iter() {
            cpu(c).want_ns.store(0, Ordering::SeqCst);
            while cpu(c).busy.load(Ordering::SeqCst) {
                time::sleep_ns(crate::JIFFY_NS);
            }
        }
    }

    /// What its processors have rested so far, in nanoseconds, by the mean processor on line.
    pub fn mean_injected_ns(&self) -> u64 {
        let on = self.shared.cpus.and(frame::cpu::online());
        let sum: u64 = on.iter().map(|c| cpu(c).injected_ns.load(Ordering::Relaxed)).sum();
        sum / u64::from(on.count().max(1))
    }
}

impl Drop for IdleInject {
    fn drop(&mut self) {
        self.stop();
        TAKEN.fetch_and(!self.shared.cpus.0, Ordering::SeqCst);
    }
}

impl Shared {
    /// Wakes the threads and sees to the next period. In the timer's interrupt.
    fn begin_period(&self, timer: &Timer) {
        if !self.on.load(Ordering::SeqCst) {
            return;
        }
        let idle_ns = self.idle_us.load(Ordering::Relaxed) * 1000;
        for c in self.cpus.and(frame::cpu::online()).iter() {
            cpu(c).want_ns.store(idle_ns, Ordering::SeqCst);
            if let Some(t) = THREADS.get() {
                t.wake(c);
            }
        }
        let period = idle_ns + self.run_us.load(Ordering::Relaxed) * 1000;
        let now = time::now_ns();
        let mut next = self.next_ns.load(Ordering::Relaxed) + period;
        if next <= now {
            // Late by more than a period: those are lost, as with any periodic timer.
            next = now + period;
        }
        self.next_ns.store(next, Ordering::Relaxed);
        timer.arm(next);
    }
}

pub(crate) fn start() -> Result<()> {
    let t = PerCpuThreads::start(&ROW)?;
    THREADS.call_once(|| t);
    base::tree::sys().file("kernel/nightshift/daemons/idle_inject/injected", 0o444, |out| {
        for c in possible_cpus() {
            let s = cpu(c);
            let us = s.injected_ns.load(Ordering::Relaxed) / 1000;
            writeln!(out, "{c} {} {us}", s.times.load(Ordering::Relaxed))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Periods of 13 ms with 6 of rest that each take `late` longer, the share in per cent.
    fn share(late: impl Fn(u64) -> u64) -> u64 {
        let (mut owed, mut rested) = (0, 0);
        for period in 0..1000 {
            let (rest, now) = plan(6_000_000, owed);
            let took = if rest == 0 { 0 } else { rest + late(period) };
            owed = now - took as i64;
            rested += took;
        }
        rested * 100 / (1000 * 13_000_000)
    }

    #[test]
    fn late_wake_ups_do_not_add_up() {
        assert_eq!(share(|_| 0), 46);
        assert_eq!(share(|_| 2_000_000), 46);
        assert_eq!(share(|p| if p % 10 == 0 { 20_000_000 } else { 0 }), 46);
        // A stall that is longer than what is kept counts once.
        assert_eq!(plan(6_000_000, -1_000_000_000), (0, -60_000_000));
        assert_eq!(plan(6_000_000, 1_000_000_000), (12_000_000, 60_000_000));
    }
}
