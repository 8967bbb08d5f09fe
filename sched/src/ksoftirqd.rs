//! # ksoftirqd/N
//! * **What for**: runs the softirqs that may not run where they were raised: those left after ten rounds at the
//!   end of an interrupt (so that a flood of packets cannot shut out every task), and those raised from plain task
//!   context.
//! * **Woken by**: frame's softirq code, through [`crate::softirq`], on its own processor.
//! * **Never**: leaves its processor, sleeps while bits are pending.
//! * **Shows as**: `[ksoftirqd/N]`, nice 0; `/proc/softirqs` counts what ran.
//! * **Documented**: Linux `kernel/softirq.c`.

use base::{Result, daemon::Card};
use frame::{
    atomic::{AtomicU64, Ordering},
    context::PreemptGuard,
    cpu::CpuId,
    sync::once::Once,
};

use crate::{
    kthread::{PerCpuThread, PerCpuThreads, because},
    softirq,
};

pub(crate) static CARD: Card = Card {
    name: "ksoftirqd",
    purpose: "runs softirqs that were too many for the end of an interrupt, or raised outside of one",
    woken_by: "the softirq code of its processor",
    never: "leaves its processor, or sleeps while softirqs are pending there",
    documented: "Linux kernel/softirq.c",
};

static THREADS: Once<PerCpuThreads> = Once::new();

static ROW: PerCpuThread = PerCpuThread {
    name: "ksoftirqd",
    setup: |_| (),
    should_run: |cpu| frame::irq::pending_softirqs(cpu) != 0,
    work,
    park: |_| (),
    unpark: |_| (),
};

/// Softirqs that ran in these threads.
static DONE: AtomicU64 = AtomicU64::new(0);

fn work(me: CpuId) {
    let _g = PreemptGuard::new();
    let count = || (0..softirq::VECTORS).map(|v| softirq::count(me, v)).sum::<u64>();
    let before = count();
    because("softirqs");
    frame::irq::run_pending_softirqs();
    DONE.fetch_add(count() - before, Ordering::Relaxed);
}

pub(crate) fn done() -> u64 {
    DONE.load(Ordering::Relaxed)
}

/// Wakes the thread of a processor. Softirqs raised before there is one run at the next interrupt.
pub(crate) fn wake(cpu: CpuId) {
    if let Some(t) = THREADS.get() {
        t.wake(cpu);
    }
}

pub(crate) fn start() -> Result<()> {
    let t = PerCpuThreads::start(&ROW)?;
    THREADS.call_once(|| t);
    Ok(())
}
