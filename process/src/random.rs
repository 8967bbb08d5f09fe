//! Random words for address-space layout and `AT_RANDOM`.
//!
//! The random driver installs the real source. Before it does (the first programs of a boot without one), words come from the
//! clock through a mixing function: they differ between runs, and are no secret.

use frame::{
    atomic::{AtomicU64, Ordering::Relaxed},
    sync::once::Once,
};

static SOURCE: Once<fn(&mut [u8])> = Once::new();
static STATE: AtomicU64 = AtomicU64::new(0);

/// Installs the source.
pub fn install(f: fn(&mut [u8])) {
    SOURCE.call_once(|| f);
}

/// Fills `out`.
pub(crate) fn fill(out: &mut [u8]) {
    if let Some(f) = SOURCE.get() {
        return f(out);
    }
    for c in out.chunks_mut(8) {
        let n = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed).wrapping_add(frame::time::now_ns());
        c.copy_from_slice(&mix(n).to_le_bytes()[..c.len()]);
    }
}

/// One word.
pub(crate) fn word() -> u64 {
    let mut b = [0; 8];
    fill(&mut b);
    u64::from_le_bytes(b)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}
