//! Processors: numbers, masks, cells with one value per processor, calls from one to others.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    arch,
    atomic::{AtomicU32, AtomicU64, Ordering},
    context::PreemptGuard,
};

/// The most processors that one image runs on: a mask is one word.
pub const MAX_CPUS: usize = 64;

/// A processor's number, always below [`MAX_CPUS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CpuId(u32);

impl CpuId {
    pub const BOOT: CpuId = CpuId(0);
    /// `None` for a number that no processor can have.
    pub const fn new(n: u32) -> Option<CpuId> {
        if n < MAX_CPUS as u32 { Some(CpuId(n)) } else { None }
    }
    pub(crate) const fn new_unchecked(n: u32) -> CpuId {
        CpuId(n)
    }
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl core::fmt::Display for CpuId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of processors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct CpuMask(pub u64);

impl CpuMask {
    pub const NONE: CpuMask = CpuMask(0);
    pub const ALL: CpuMask = CpuMask(!0);
    pub const fn one(cpu: CpuId) -> CpuMask {
        CpuMask(1 << cpu.0)
    }
    #[inline]
    pub const fn contains(self, cpu: CpuId) -> bool {
        self.0 >> cpu.0 & 1 != 0
    }
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }
    #[must_use]
    pub const fn and(self, o: CpuMask) -> CpuMask {
        CpuMask(self.0 & o.0)
    }
    #[must_use]
    pub const fn or(self, o: CpuMask) -> CpuMask {
        CpuMask(self.0 | o.0)
    }
    #[must_use]
    pub const fn without(self, cpu: CpuId) -> CpuMask {
        CpuMask(self.0 & !(1 << cpu.0))
    }
    pub const fn first(self) -> Option<CpuId> {
        if self.0 == 0 { None } else { Some(CpuId(self.0.trailing_zeros())) }
    }
    pub fn iter(self) -> impl Iterator<Item = CpuId> {
        (0..MAX_CPUS as u32).map(CpuId).filter(move |&c| self.contains(c))
    }
}

static POSSIBLE: AtomicU32 = AtomicU32::new(1);
static PRESENT: AtomicU64 = AtomicU64::new(1);
static ONLINE: AtomicU64 = AtomicU64::new(1);
/// Processors that execute: those on line, and those on their way off until they halt for good.
static ALIVE: AtomicU64 = AtomicU64::new(1);

/// How many processors there can be: those that the firmware lists, plugged in or not. Numbers are `0..count`.
pub fn possible() -> usize {
    POSSIBLE.load(Ordering::Relaxed) as usize
}
/// Processors that are plugged in. The others of those that are possible can come later.
pub fn present() -> CpuMask {
    CpuMask(PRESENT.load(Ordering::Acquire))
}
/// For back ends, before the second processor starts: the first `present` of the `possible` processors are there.
pub(crate) fn set_possible(possible: usize, present: usize) {
    let possible = possible.clamp(1, MAX_CPUS);
    POSSIBLE.store(possible as u32, Ordering::Relaxed);
    PRESENT.store(u64::MAX >> (MAX_CPUS - present.clamp(1, possible)), Ordering::Release);
}
/// A processor has been plugged in, or is to be pulled out: what whoever watches the hardware's slots calls. False, and without
/// effect, for one that is not possible, or runs.
#[must_use]
pub fn set_present(cpu: CpuId, on: bool) -> bool {
    let may = cpu.index() < possible() && (on || !alive().contains(cpu));
    if may {
        let bit = CpuMask::one(cpu).0;
        if on {
            PRESENT.fetch_or(bit, Ordering::AcqRel)
        } else {
            PRESENT.fetch_and(!bit, Ordering::AcqRel)
        };
    }
    may
}
/// Processors that run.
#[inline]
pub fn online() -> CpuMask {
    CpuMask(ONLINE.load(Ordering::Acquire))
}
/// Processors that execute, whether tasks may be put there or not: RCU waits for these.
#[inline]
pub(crate) fn alive() -> CpuMask {
    CpuMask(ALIVE.load(Ordering::SeqCst))
}
/// Marks this processor as running (or not); what `sched` calls, there, when it is ready to run tasks or is about to end. One
/// that is no longer on line goes on until it calls [`hotplug::die`].
pub fn set_online(cpu: CpuId, on: bool) {
    if on {
        ALIVE.fetch_or(1 << cpu.0, Ordering::SeqCst);
        if raw_id() == cpu {
            // It may have been idle when it was last alive.
            crate::sync::rcu::note_idle_exit();
        }
        ONLINE.fetch_or(1 << cpu.0, Ordering::AcqRel)
    } else {
        ONLINE.fetch_and(!(1 << cpu.0), Ordering::AcqRel)
    };
}
/// The processor under a guard that keeps the task there.
#[inline]
pub fn this(_held: &PreemptGuard) -> CpuId {
    CpuId(arch::cpu_id())
}
/// Where this runs right now. A hint, unless preemption is held off.
#[inline]
pub fn raw_id() -> CpuId {
    CpuId(arch::cpu_id())
}

/// Brings up the other processors; each runs `entry` on its own boot stack with interrupts off, and must not return.
/// Returns how many answered.
pub fn start_others(entry: fn(CpuId) -> !) -> usize {
    let n = arch::start_others(entry);
    hotplug::note_started(1..=n as u32);
    n
}

/// What an idle task does over and over: halts this processor until an interrupt, unless a task already waits for it, and then
/// lets that task run. RCU counts the halt as quiescent.
pub fn idle() {
    halt_unless(|| false);
    crate::task::preempt_check();
}

/// Halts this processor until an interrupt, unless a task waits for it or `done` says that there is nothing to wait for. `done`
/// is asked with interrupts off, so what an interrupt handler makes true is seen before the halt or ends it.
pub fn halt_unless(done: impl FnOnce() -> bool) {
    arch::irq_disable();
    if arch::need_resched() || done() {
        arch::irq_enable();
    } else {
        crate::sync::rcu::note_idle_enter();
        arch::wait_for_interrupt();
        crate::sync::rcu::note_idle_exit();
    }
}

/// As [`idle`], for when waking up may not take its time: spins, with interrupts on, until a task waits for this processor or
/// `keep` says no. RCU counts each turn as quiescent.
pub fn idle_poll(keep: impl Fn() -> bool) {
    while !arch::need_resched() && keep() {
        arch::irq_disable();
        crate::sync::rcu::note_quiescent();
        arch::irq_enable();
        arch::relax();
    }
    arch::irq_enable();
    crate::task::preempt_check();
}

/// Keeps neighbours' values off one cache line.
#[repr(align(64))]
struct Padded<T>(T);

/// One value per possible processor. The values are shared (`T: Sync`), so reading another processor's is safe.
pub struct PerCpu<T> {
    cells: Box<[Padded<T>]>,
}

impl<T: Sync> PerCpu<T> {
    /// Makes the values, one for each possible processor.
    pub fn new(mut make: impl FnMut(CpuId) -> T) -> Self {
        let cells: Vec<_> = (0..possible() as u32).map(|c| Padded(make(CpuId(c)))).collect();
        Self { cells: cells.into_boxed_slice() }
    }
    /// This processor's value, for as long as preemption is held off.
    #[inline]
    pub fn this<'a>(&'a self, g: &'a PreemptGuard) -> &'a T {
        &self.cells[g.cpu().index()].0
    }
    /// Any processor's value.
    #[inline]
    pub fn of(&self, cpu: CpuId) -> &T {
        &self.cells[cpu.index()].0
    }
    /// Whichever processor's value this is: for counters where it does not matter.
    #[inline]
    pub fn any(&self) -> &T {
        &self.cells[arch::cpu_id() as usize].0
    }
    pub fn iter(&self) -> impl Iterator<Item = (CpuId, &T)> {
        self.cells.iter().enumerate().map(|(i, c)| (CpuId(i as u32), &c.0))
    }
}

mod call;
pub mod hotplug;
mod work;
pub use call::{call_each, call_on};
pub use work::IrqWork;

/// What a back end calls when the interrupt of `arch::send_call` arrives.
pub(crate) fn on_call() {
    call::serve();
    work::run_pending();
}

/// The four registers of a CPUID leaf: eax, ebx, ecx, edx.
pub fn cpuid(leaf: u32, sub: u32) -> [u32; 4] {
    arch::cpuid(leaf, sub)
}
/// The number by which the hardware knows a processor: its APIC id.
pub fn hardware_id(cpu: CpuId) -> u32 {
    arch::hardware_id(cpu.get())
}
/// Ticks of the time-stamp counter per second.
pub fn tsc_hz() -> u64 {
    arch::tsc_hz()
}
/// Inside a loop that waits for another processor.
#[inline]
pub fn relax() {
    arch::relax();
}
