//! Which tasks hang, when to look, and what the allowance of reports permits.

use frame::task::State;

/// Seconds in nanoseconds.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Sleeps that may hang: uninterruptible ones that neither a fatal signal ends, nor count as waiting for work, nor are the
/// freezer's.
pub fn is_candidate(s: State) -> bool {
    s.contains(State::UNINTERRUPTIBLE) && !s.intersects(State::WAKEKILL | State::NOLOAD | State::FROZEN)
}

/// What was seen of a task: its switches, and since when it has had so many.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Seen {
    pub switches: u64,
    pub since_ns: u64,
}

/// Looks at a candidate. What is to be remembered of it, and for how many seconds it has been seen without a switch, if that is as
/// long as the time-out. A task that never ran is being made; it is none.
pub fn judge(seen: Seen, switches: u64, now_ns: u64, timeout_s: u64) -> (Seen, Option<u64>) {
    if switches == 0 {
        return (seen, None);
    }
    if switches != seen.switches {
        return (Seen { switches, since_ns: now_ns }, None);
    }
    let ns = now_ns.saturating_sub(seen.since_ns);
    (seen, (ns >= timeout_s.saturating_mul(SECOND_NS)).then_some(ns / SECOND_NS))
}

/// When to look next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Now,
    /// In so many nanoseconds.
    In(u64),
    /// Not before something is set.
    Never,
}

/// `interval_s` 0: as often as the time-out, which is also the longest. `timeout_s` 0: not at all.
pub fn next_look(last_ns: u64, now_ns: u64, timeout_s: u64, interval_s: u64) -> Next {
    let interval = if interval_s == 0 { timeout_s } else { interval_s.min(timeout_s) };
    if interval == 0 {
        return Next::Never;
    }
    let due = last_ns.saturating_add(interval.saturating_mul(SECOND_NS));
    if now_ns >= due { Next::Now } else { Next::In(due - now_ns) }
}

/// What is left after one report; `None` if there is none to be made. Negative: without limit.
pub fn spend(warnings: i32) -> Option<i32> {
    match warnings {
        0 => None,
        n => Some(if n > 0 { n - 1 } else { n }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_can_hang() {
        assert!(is_candidate(State::UNINTERRUPTIBLE));
        for s in
            [State::KILLABLE, State::IDLE, State::INTERRUPTIBLE, State::FROZEN, State::empty(), State::NEW]
        {
            assert!(!is_candidate(s), "{s:?}");
        }
        assert!(!is_candidate(State::UNINTERRUPTIBLE | State::FROZEN));
    }
    #[test]
    fn when_to_look() {
        let s = SECOND_NS;
        assert_eq!(next_look(5 * s, 6 * s, 120, 0), Next::In(119 * s));
        assert_eq!(next_look(5 * s, 6 * s, 120, 10), Next::In(9 * s));
        assert_eq!(next_look(5 * s, 6 * s, 3, 10), Next::In(2 * s));
        assert_eq!(next_look(5 * s, 8 * s, 3, 0), Next::Now);
        assert_eq!(next_look(5 * s, 8 * s, 0, 10), Next::Never);
        assert_eq!(next_look(5 * s, 8 * s, u64::MAX, 0), Next::In(u64::MAX - 8 * s));
    }
    #[test]
    fn allowance() {
        assert_eq!((spend(10), spend(1), spend(0), spend(-1)), (Some(9), Some(0), None, Some(-1)));
    }

    proptest! {
        /// Whatever it did, a task is told only after it was seen without a switch for the whole time-out.
        #[test]
        fn never_too_early(steps in proptest::collection::vec((0u64..40, any::<bool>()), 1..50), timeout in 1u64..60) {
            let (mut seen, mut now, mut switches) = (Seen::default(), 0, 1);
            let mut still_since = None;
            for (dt, ran) in steps {
                now += dt * SECOND_NS;
                if ran {
                    switches += 1;
                    still_since = None;
                }
                let (next, hung) = judge(seen, switches, now, timeout);
                seen = next;
                let since = *still_since.get_or_insert(now);
                prop_assert_eq!(hung.is_some(), now > since && now - since >= timeout * SECOND_NS);
                if let Some(s) = hung {
                    prop_assert_eq!(s, (now - since) / SECOND_NS);
                }
            }
        }
        #[test]
        fn the_allowance_is_spent_to_the_last(n in 0i32..100) {
            let mut left = n;
            let mut made = 0;
            while let Some(l) = spend(left) {
                left = l;
                made += 1;
            }
            prop_assert_eq!((made, left), (n, 0));
        }
    }
}
