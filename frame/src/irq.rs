//! Interrupt lines of devices, and the bits that say which softirqs are pending on each processor.

use alloc::boxed::Box;

use crate::{
    arch,
    atomic::{AtomicU32, AtomicU64, Ordering},
    context::{self, SOFTIRQ_OFFSET},
    cpu::{CpuId, MAX_CPUS},
    sync::{LockClass, SpinLockIrq, once::Once},
};

/// Lines a device may use (GSIs of the I/O APIC; hosted: simulated devices).
pub const MAX_LINES: usize = 64;

type Handler = Box<dyn Fn() + Send + Sync>;
static CLASS: LockClass = LockClass::new("irq_lines");
static LINES: [Once<Handler>; MAX_LINES] = [const { Once::new() }; MAX_LINES];
static COUNTS: [AtomicU64; MAX_LINES] = [const { AtomicU64::new(0) }; MAX_LINES];
static ENABLE: SpinLockIrq<()> = SpinLockIrq::new(&CLASS, ());

/// Why a line cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub enum IrqError {
    NoSuchLine,
    Busy,
}

/// Connects `handler` (run in hardware-interrupt context) to a line and unmasks it, towards the boot processor.
pub fn request(line: u32, handler: impl Fn() + Send + Sync + 'static) -> Result<(), IrqError> {
    let slot = LINES.get(line as usize).ok_or(IrqError::NoSuchLine)?;
    let _g = ENABLE.lock();
    if slot.get().is_some() {
        return Err(IrqError::Busy);
    }
    slot.call_once(|| Box::new(handler));
    arch::enable_line(line).map_err(|()| IrqError::NoSuchLine)
}

/// How often a line has fired.
pub fn count(line: u32) -> u64 {
    COUNTS.get(line as usize).map_or(0, |c| c.load(Ordering::Relaxed))
}

/// What a back end calls when a line fires.
pub(crate) fn on_line(line: u32) {
    if let Some(c) = COUNTS.get(line as usize) {
        c.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(h) = LINES.get(line as usize).and_then(|l| l.get()) {
        h();
    }
}

/// What a back end calls when another processor asked this one to reschedule.
pub(crate) fn on_reschedule() {
    arch::set_need_resched(true);
}

static PENDING: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

/// Who runs softirqs: `sched` installs one.
pub trait SoftirqRunner: Sync {
    /// Runs the vectors of `bits`, interrupts on, context marked as serving softirqs.
    fn run(&self, cpu: CpuId, bits: u32);
    /// Too many rounds: hand the rest to `ksoftirqd`.
    fn defer(&self, cpu: CpuId);
}

static RUNNER: Once<&'static dyn SoftirqRunner> = Once::new();

/// Installs the runner.
pub fn install_softirqs(r: &'static dyn SoftirqRunner) {
    RUNNER.call_once(|| r);
}

/// Marks softirq `n` pending on this processor. It runs at the end of this interrupt, or when softirqs are let go again;
/// from plain task context `ksoftirqd` is asked (through `defer`).
pub fn raise_softirq(n: u32) {
    debug_assert!(n < 32);
    let _g = context::IrqGuard::new();
    let cpu = arch::cpu_id();
    PENDING[cpu as usize].fetch_or(1 << n, Ordering::Relaxed);
    if context::word() & !context::PREEMPT_MASK == 0
        && let Some(r) = RUNNER.get()
    {
        r.defer(CpuId::new_unchecked(cpu));
    }
}

/// Which softirqs wait on a processor.
pub fn pending_softirqs(cpu: CpuId) -> u32 {
    PENDING[cpu.index()].load(Ordering::Relaxed)
}

/// Takes what is pending on a processor that has halted for good.
pub fn take_softirqs(of: &crate::cpu::hotplug::DeadCpu) -> u32 {
    PENDING[of.cpu().index()].swap(0, Ordering::Relaxed)
}

/// Leaves what is pending on this processor to `ksoftirqd`. Interrupts are off.
pub(crate) fn defer_pending_softirqs() {
    let cpu = arch::cpu_id();
    if PENDING[cpu as usize].load(Ordering::Relaxed) != 0
        && let Some(r) = RUNNER.get()
    {
        r.defer(CpuId::new_unchecked(cpu));
    }
}

/// Rounds before the rest goes to `ksoftirqd`: Linux's `MAX_SOFTIRQ_RESTART`.
const MAX_ROUNDS: u32 = 10;

/// Runs what is pending. Called with softirqs allowed; interrupts in any state, which comes back.
pub fn run_pending_softirqs() {
    let cpu = arch::cpu_id();
    if PENDING[cpu as usize].load(Ordering::Relaxed) == 0 {
        return;
    }
    let Some(r) = RUNNER.get() else { return };
    let id = CpuId::new_unchecked(cpu);
    let on = arch::irqs_enabled();
    arch::irq_disable();
    arch::preempt_add(SOFTIRQ_OFFSET);
    let mut rounds = 0;
    loop {
        let bits = PENDING[cpu as usize].swap(0, Ordering::Relaxed);
        if bits == 0 {
            break;
        }
        arch::irq_enable();
        r.run(id, bits);
        arch::irq_disable();
        rounds += 1;
        if rounds == MAX_ROUNDS {
            if PENDING[cpu as usize].load(Ordering::Relaxed) != 0 {
                r.defer(id);
            }
            break;
        }
    }
    arch::preempt_sub(SOFTIRQ_OFFSET);
    if on {
        arch::irq_enable();
    }
}
