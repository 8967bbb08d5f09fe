//! What tells the lockup detectors that a processor which does not get on is not stuck: it does something long that must be.
//!
//! The detectors are a room above (`sched::watchdog`); printing, which may be slow on a serial console, is here. So the marks
//! are here: set by whoever is slow, taken by the detector.
//!
//! Linux's `touch_softlockup_watchdog()`, `touch_nmi_watchdog()`, `touch_all_softlockup_watchdogs()`.

use frame::{
    atomic::{AtomicBool, Ordering::Relaxed},
    cpu::{CpuId, MAX_CPUS},
};

static SOFT: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
static HARD: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

fn set(mark: &AtomicBool) {
    // Most are set already in a long report; a shared cache line is not written again.
    if !mark.load(Relaxed) {
        mark.store(true, Relaxed);
    }
}

/// This processor will not have scheduled for a while: counting begins anew. From any context.
pub fn touch_softlockup_watchdog() {
    set(&SOFT[frame::cpu::raw_id().index()]);
}
/// Nor taken interrupts.
pub fn touch_nmi_watchdog() {
    set(&HARD[frame::cpu::raw_id().index()]);
    touch_softlockup_watchdog();
}
/// For a report that makes all processors wait.
pub fn touch_all_softlockup_watchdogs() {
    frame::cpu::online().iter().for_each(|c| set(&SOFT[c.index()]));
}

/// For the detector: whether there was a mark, which is gone now.
pub fn take_soft(c: CpuId) -> bool {
    let m = &SOFT[c.index()];
    m.load(Relaxed) && m.swap(false, Relaxed)
}
/// The same of the other kind.
pub fn take_hard(c: CpuId) -> bool {
    let m = &HARD[c.index()];
    m.load(Relaxed) && m.swap(false, Relaxed)
}
/// For a detector that begins with a processor, and for one whose neighbour comes or goes.
pub fn touch_hard(c: CpuId) {
    set(&HARD[c.index()]);
}
