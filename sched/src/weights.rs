//! Nice values as weights.
//!
//! One step of nice is a factor of 1.25: two tasks one step apart share a processor about 55:45, a difference of
//! ten percentage points at equal starting shares. Nice 0 weighs 1024. The values are part of the interface:
//! programs measure shares, and control groups name weights in these units, so the table is Linux's, value for
//! value.

/// The weight of nice 0, and the scale of virtual time: at this weight it runs as fast as the clock.
pub const NICE_0_WEIGHT: u64 = 1024;

/// Weight of `SCHED_IDLE` tasks: a fifth of nice 19.
pub const IDLE_WEIGHT: u32 = 3;

const TABLE: [u32; 40] = [
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904, 3906, 3121,
    2501, 1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87, 70, 56, 45, 36, 29,
    23, 18, 15,
];

/// The weight of a nice value, which is clamped to −20..=19.
pub fn of_nice(nice: i8) -> u32 {
    TABLE[(nice.clamp(-20, 19) + 20) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_about_a_quarter() {
        for n in -20..19i8 {
            let r = of_nice(n) as f64 / of_nice(n + 1) as f64;
            assert!((1.19..1.30).contains(&r), "nice {n}: {r}");
        }
        assert_eq!(of_nice(0) as u64, NICE_0_WEIGHT);
        assert_eq!(of_nice(127), 15);
    }
}
