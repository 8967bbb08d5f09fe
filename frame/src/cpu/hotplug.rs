//! Taking processors out of use and bringing them back.
//!
//! ```text
//!   alive ── die() on its own idle task ──► dead ── DeadCpu::start ──► alive again, on the stack that it had
//! ```
//! A dead processor executes nothing, and nobody else uses what is its own. [`DeadCpu`] is the proof of both for one holder at a
//! time: while it exists the processor cannot be started, so what it left behind (its free objects, its pending softirqs) may be
//! taken over. Who decides, and in which order the rest of the kernel lets go of a processor, is `sched`'s business.

use super::{ALIVE, CpuId};
use crate::{
    arch,
    atomic::{AtomicU64, Ordering},
};

/// Dead processors for which there is no [`DeadCpu`]. All but the boot processor begin so.
static DEAD: AtomicU64 = AtomicU64::new(!1);

/// A processor that does not execute, and will not while this exists.
pub struct DeadCpu(CpuId);

impl DeadCpu {
    /// `None` if the processor is alive, or someone else holds its proof.
    pub fn get(cpu: CpuId) -> Option<DeadCpu> {
        let bit = 1 << cpu.get();
        (cpu.index() < super::possible() && DEAD.fetch_and(!bit, Ordering::SeqCst) & bit != 0)
            .then_some(DeadCpu(cpu))
    }
    pub fn cpu(&self) -> CpuId {
        self.0
    }
    /// Starts the processor: it runs `entry` on its own boot stack with interrupts off, with the current task that it had when
    /// it died, if any. Gives the proof back if the processor does not answer.
    pub fn start(self, entry: fn(CpuId) -> !) -> Result<(), DeadCpu> {
        if arch::start_cpu(self.0.get(), entry) {
            core::mem::forget(self);
            Ok(())
        } else {
            Err(self)
        }
    }
}

impl Drop for DeadCpu {
    fn drop(&mut self) {
        DEAD.fetch_or(1 << self.0.get(), Ordering::SeqCst);
    }
}

/// True once the processor has halted for good.
pub fn is_dead(cpu: CpuId) -> bool {
    DEAD.load(Ordering::SeqCst) & 1 << cpu.get() != 0
}

pub(super) fn note_started(cpus: core::ops::RangeInclusive<u32>) {
    for c in cpus {
        DEAD.fetch_and(!(1 << c), Ordering::SeqCst);
    }
}

/// Ends this processor's execution, until [`DeadCpu::start`]. For its idle task, when nothing can come here any more: no task is
/// queued, and it is no longer on line.
///
/// # Panics
/// If the processor is on line, or (as everything that does not return) with a guard or a lock held.
pub fn die() -> ! {
    arch::irq_disable();
    let me = super::raw_id();
    assert!(!super::online().contains(me), "processor {me} dies while it is on line");
    assert!(arch::preempt_count() == 0 && arch::irq_depth_add(0) == 0, "processor {me} dies while atomic");
    crate::sync::lockdep::assert_none_held("a processor dies");
    // The interrupt that would run it does not come any more.
    super::work::run_pending();
    crate::paging::leave_user_table();
    crate::time::set_timer(None);
    // No read sections from here.
    crate::sync::rcu::note_idle_enter();
    ALIVE.fetch_and(!(1 << me.get()), Ordering::SeqCst);
    arch::die(|| {
        DEAD.fetch_or(1 << me.get(), Ordering::SeqCst);
    })
}
