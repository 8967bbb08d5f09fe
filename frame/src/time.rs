//! The clock and each processor's one-shot timer. All times are nanoseconds since boot, less those for which the clock was stopped
//! ([`stop`], for a suspend); [`boot_ns`] goes on through that.
//!
//! The two words that a stop changes are no points of preemption for simulations: a reader that a stop overtakes looks again.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::{arch, sync::once::Once};

static HANDLER: Once<fn()> = Once::new();
/// What the clock shows while it is stopped; 0: it runs.
static STOPPED_AT: AtomicU64 = AtomicU64::new(0);
/// For how long it has been stopped, in all.
static STOPPED_FOR: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds since boot that the clock ran, monotonic over all processors.
#[inline]
pub fn now_ns() -> u64 {
    loop {
        let stopped_for = STOPPED_FOR.load(Ordering::Acquire);
        let now = arch::now_ns();
        let at = STOPPED_AT.load(Ordering::Acquire);
        if at != 0 {
            return at;
        }
        if STOPPED_FOR.load(Ordering::Acquire) == stopped_for {
            return now.saturating_sub(stopped_for);
        }
    }
}
/// Nanoseconds since boot, whether the clock ran or not.
#[inline]
pub fn boot_ns() -> u64 {
    arch::now_ns()
}
/// For how long the clock has been stopped, in all, in nanoseconds. While it is stopped: before that.
pub fn stopped_ns() -> u64 {
    STOPPED_FOR.load(Ordering::Acquire)
}
/// Stops the clock: [`now_ns`] stands still. Timers set for later do not fire; those that are set already should be put off.
pub fn stop() {
    let stopped_for = STOPPED_FOR.load(Ordering::Relaxed);
    loop {
        // A little ahead, so that no other processor has read more by the time it sees the clock stopped.
        const AHEAD_NS: u64 = 100_000;
        let at = arch::now_ns().saturating_sub(stopped_for) + AHEAD_NS;
        STOPPED_AT.store(at, Ordering::SeqCst);
        if arch::now_ns().saturating_sub(stopped_for) < at {
            return;
        }
    }
}
/// Lets the clock go on from where it stood. For how long it was stopped, in nanoseconds. Each processor must set its timer again.
pub fn go_on() -> u64 {
    let at = STOPPED_AT.load(Ordering::Relaxed);
    if at == 0 {
        return 0;
    }
    let before = STOPPED_FOR.load(Ordering::Relaxed);
    let total = arch::now_ns().saturating_sub(at).max(before);
    STOPPED_FOR.store(total, Ordering::SeqCst);
    STOPPED_AT.store(0, Ordering::SeqCst);
    total - before
}
/// Seconds since 1970 at boot, in nanoseconds, from the machine's real-time clock; 0 if it has none.
pub fn wall_clock_at_boot_ns() -> u64 {
    arch::wall_clock_at_boot_ns()
}
/// Installs what runs, in hardware-interrupt context, when a processor's timer fires.
pub fn install_timer_handler(f: fn()) {
    HANDLER.call_once(|| f);
}
/// Sets this processor's timer to an absolute time (a past one fires at once), or stops it. Interrupts must be off.
pub fn set_timer(at_ns: Option<u64>) {
    debug_assert!(!arch::irqs_enabled());
    let stopped_at = STOPPED_AT.load(Ordering::Acquire);
    let due = |at: &u64| stopped_at == 0 || *at <= stopped_at;
    arch::set_timer(at_ns.filter(due).map(|at| at.saturating_add(STOPPED_FOR.load(Ordering::Acquire))));
}
/// What a back end calls when the timer fires.
pub(crate) fn on_timer() {
    if let Some(f) = HANDLER.get() {
        f();
    }
}
/// Spins; for hardware that needs a pause of microseconds.
pub fn spin_ns(ns: u64) {
    let end = arch::now_ns() + ns;
    while arch::now_ns() < end {
        arch::relax();
    }
}
