//! The clock and each processor's one-shot timer. All times are nanoseconds since boot.

use crate::{arch, sync::once::Once};

static HANDLER: Once<fn()> = Once::new();

/// Nanoseconds since boot, monotonic over all processors.
#[inline]
pub fn now_ns() -> u64 {
    arch::now_ns()
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
    arch::set_timer(at_ns);
}
/// What a back end calls when the timer fires.
pub(crate) fn on_timer() {
    if let Some(f) = HANDLER.get() {
        f();
    }
}
/// Spins; for hardware that needs a pause of microseconds.
pub fn spin_ns(ns: u64) {
    let end = now_ns() + ns;
    while now_ns() < end {
        arch::relax();
    }
}
