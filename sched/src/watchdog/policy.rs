//! What the lockup detectors decide, as functions of what they have seen.

use frame::cpu::{CpuId, CpuMask};

/// The highest threshold, in seconds.
pub const THRESH_MAX: i64 = 60;
/// A processor is looked at so often within the time after which it counts as stuck.
const SAMPLES: u64 = 5;
/// Hard lockups are looked for at each such sample: three are 1.2 times the threshold.
const HARD_SAMPLES: u32 = 3;

/// After how many seconds without the stop class a processor counts as stuck.
pub fn softlockup_thresh(thresh_s: u64) -> u64 {
    2 * thresh_s
}
/// Nanoseconds between two samples.
pub fn sample_period_ns(thresh_s: u64) -> u64 {
    softlockup_thresh(thresh_s) * (1_000_000_000 / SAMPLES)
}
/// The seconds of the detector, which are a little long: a shift is all that an interrupt has to do.
pub fn seconds(ns: u64) -> u64 {
    ns >> 30
}

/// How long a processor has been stuck, if it is to be reported now. `touched`: when its stop class last ran; `period`: since when
/// it is counted, later than that after a report or where slow work was announced. All in [`seconds`].
pub fn stuck_for(touched: u64, period: u64, now: u64, thresh_s: u64) -> Option<u64> {
    let late = now > period.saturating_add(softlockup_thresh(thresh_s));
    (thresh_s != 0 && late).then(|| now.saturating_sub(touched))
}

/// Whether the `n`th sample of a processor looks at its neighbour too.
pub fn looks_at_neighbour(n: u32) -> bool {
    n.is_multiple_of(HARD_SAMPLES)
}
/// Whom a processor looks after: the next one that is watched, round the ring. `None` if it is alone.
pub fn next_cpu(me: CpuId, watched: CpuMask) -> Option<CpuId> {
    let above = CpuMask(watched.0 & !(u64::MAX >> (63 - me.get())));
    above.first().or_else(|| watched.without(me).first())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cpu(n: u32) -> CpuId {
        CpuId::new(n).unwrap()
    }

    #[test]
    fn ten_seconds_are_reported_after_twenty() {
        assert_eq!(sample_period_ns(10), 4_000_000_000);
        assert_eq!(stuck_for(5, 5, 25, 10), None);
        assert_eq!(stuck_for(5, 5, 26, 10), Some(21));
        // Again after as long, and then it is the whole time that is told.
        assert_eq!(stuck_for(5, 26, 46, 10), None);
        assert_eq!(stuck_for(5, 26, 48, 10), Some(43));
        assert_eq!(stuck_for(5, 5, 1000, 0), None);
    }

    #[test]
    fn each_looks_after_the_next() {
        let m = CpuMask(0b1011);
        assert_eq!(next_cpu(cpu(0), m), Some(cpu(1)));
        assert_eq!(next_cpu(cpu(1), m), Some(cpu(3)));
        assert_eq!(next_cpu(cpu(3), m), Some(cpu(0)));
        assert_eq!(next_cpu(cpu(63), CpuMask(1 << 63)), None);
        assert_eq!(next_cpu(cpu(2), CpuMask::NONE), None);
    }

    proptest! {
        #[test]
        fn the_ring_is_closed(bits in 1u64..) {
            let m = CpuMask(bits);
            prop_assume!(m.count() > 1);
            let start = m.first().unwrap();
            let (mut at, mut seen) = (start, CpuMask::NONE);
            for _ in 0..m.count() {
                at = next_cpu(at, m).unwrap();
                prop_assert!(!seen.contains(at));
                seen = seen.or(CpuMask::one(at));
            }
            prop_assert_eq!((at, seen), (start, m));
        }
        #[test]
        fn who_is_touched_in_time_is_never_reported(thresh in 1u64..=60, touched in 0u64..1 << 40, late in 0u64..200) {
            let r = stuck_for(touched, touched, touched + late, thresh);
            prop_assert_eq!(r.is_some(), late > 2 * thresh);
            prop_assert!(sample_period_ns(thresh) * SAMPLES == softlockup_thresh(thresh) * 1_000_000_000);
        }
    }
}
