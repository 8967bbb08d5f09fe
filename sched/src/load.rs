//! The load averages of `/proc/loadavg`, in Linux's fixed point.
//!
//! Every 5 s (and one tick, so that they drift against periodic work) each average moves towards the number of
//! active tasks: runnable ones and those that sleep uninterruptibly. Nothing needs to run at that moment: the
//! number is constant between events, so each event first makes good the periods that have passed since, with the
//! number that held meanwhile.

use frame::{
    atomic::{AtomicU64, Ordering},
    sync::{LockClass, SpinLock},
};

use crate::{JIFFY_NS, core::cpu, stat::possible_cpus};

/// Bits after the point.
pub const FSHIFT: u32 = 11;
const FIXED_1: u64 = 1 << FSHIFT;
/// `exp(−5 s / 1, 5, 15 min)` in that format.
const DECAY: [u64; 3] = [1884, 2014, 2037];
const PERIOD_NS: u64 = 5_000_000_000 + JIFFY_NS;

/// One step of an average. `active` has [`FSHIFT`] bits after the point. Rises round up, so that a constant load is
/// reached.
pub fn step(avg: u64, decay: u64, active: u64) -> u64 {
    let mut x = avg * decay + active * (FIXED_1 - decay);
    if active >= avg {
        x += FIXED_1 - 1;
    }
    x / FIXED_1
}

static CLASS: LockClass = LockClass::new("loadavg");
static AVERAGES: SpinLock<[u64; 3]> = SpinLock::new(&CLASS, [0; 3]);
static NEXT_NS: AtomicU64 = AtomicU64::new(PERIOD_NS);

/// Called before anything changes which tasks are active. Interrupts are off.
#[inline]
pub(crate) fn catch_up(now: u64) {
    if now >= NEXT_NS.load(Ordering::Relaxed) {
        periods(now);
    }
}

#[cold]
fn periods(now: u64) {
    // Whoever holds it does the same work.
    let Some(mut a) = AVERAGES.try_lock() else { return };
    let active = (active() as u64) << FSHIFT;
    let mut next = NEXT_NS.load(Ordering::Relaxed);
    while now >= next {
        for (avg, decay) in a.iter_mut().zip(DECAY) {
            *avg = step(*avg, decay, active);
        }
        next += PERIOD_NS;
    }
    NEXT_NS.store(next, Ordering::Relaxed);
}

fn active() -> u32 {
    crate::stat::nr_running() + crate::stat::nr_uninterruptible()
}

pub(crate) fn uninterruptible() -> u32 {
    let sum: i64 = possible_cpus().map(|c| cpu(c).uninterruptible.load(Ordering::Relaxed)).sum();
    sum.max(0) as u32
}

/// The averages over 1, 5 and 15 minutes, with [`FSHIFT`] bits after the point.
pub fn loadavg() -> [u64; 3] {
    let _g = frame::context::IrqGuard::new();
    catch_up(frame::time::now_ns());
    *AVERAGES.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn approaches_a_constant_load() {
        let mut a = [0; 3];
        for _ in 0..5000 {
            for (x, d) in a.iter_mut().zip(DECAY) {
                *x = step(*x, d, 3 << FSHIFT);
            }
        }
        assert_eq!(a, [3 << FSHIFT; 3]);
        // After one minute the 1-minute average of a load of 1 is 1 − 1/e.
        let mut x = 0;
        for _ in 0..12 {
            x = step(x, DECAY[0], 1 << FSHIFT);
        }
        assert!((x as f64 / 2048.0 - 0.632).abs() < 0.01, "{x}");
    }

    #[test]
    fn decays_to_nothing() {
        let mut x = 5 << FSHIFT;
        for _ in 0..20000 {
            x = step(x, DECAY[2], 0);
        }
        assert!(x < 20);
    }
}
