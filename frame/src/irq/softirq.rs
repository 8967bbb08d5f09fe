//! Softirqs: the bits that say which are pending on each processor, and when they run. `sched` knows what they do.

use crate::{
    arch,
    atomic::{AtomicU32, Ordering},
    context::{self, SOFTIRQ_OFFSET},
    cpu::{CpuId, MAX_CPUS},
    sync::once::Once,
};

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
