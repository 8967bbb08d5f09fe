//! The clock of the records: `trace_clock`.

use frame::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::{Errno, Result};

/// The clocks. All but two are this machine's one clock, which is the same on all processors and never goes back.
pub const NAMES: [&str; 8] = ["local", "global", "counter", "uptime", "perf", "mono", "mono_raw", "boot"];
const COUNTER: u32 = 2;
const UPTIME: u32 = 3;

static CHOSEN: AtomicU32 = AtomicU32::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The time for a record that is written now.
#[inline]
pub(super) fn now() -> u64 {
    match CHOSEN.load(Ordering::Relaxed) {
        COUNTER => COUNT.fetch_add(1, Ordering::Relaxed) + 1,
        // Ticks of user space: hundredths of a second.
        UPTIME => frame::time::now_ns() / 10_000_000,
        _ => frame::time::now_ns(),
    }
}
/// The clock's value, without disturbing it.
pub fn read() -> u64 {
    if CHOSEN.load(Ordering::Relaxed) == COUNTER { COUNT.load(Ordering::Relaxed) } else { now() }
}
/// Which of [`NAMES`] is in use.
pub fn chosen() -> usize {
    CHOSEN.load(Ordering::Relaxed) as usize
}
/// True if times are nanoseconds, to be shown as seconds.
pub fn is_time() -> bool {
    !matches!(CHOSEN.load(Ordering::Relaxed), COUNTER | UPTIME)
}
/// Chooses one. The rings are cleared: times of two clocks cannot stand in one. EINVAL.
pub fn choose(name: &str) -> Result<()> {
    let n = NAMES.iter().position(|&n| n == name).ok_or(Errno::EINVAL)?;
    CHOSEN.store(n as u32, Ordering::Relaxed);
    super::buffer::clear(None);
    Ok(())
}
