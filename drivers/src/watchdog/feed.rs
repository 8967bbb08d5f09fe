//! When a watchdog's hardware is fed: the policy, apart from the thread that follows it.
//!
//! Two clocks run. The *promise*: user space has said that it will write at least every `timeout`. The *hardware*: it bites
//! when it was not fed for its own heartbeat, which may be shorter (some count a second at most) and must not be fed more
//! often than it bears. Writes go on to the hardware; in between the kernel feeds it, but only so long that the bite still
//! comes when the promise is broken:
//!
//! ```text
//!   user's last write ├──────────────── timeout ────────────────┤ the machine must be reset here
//!   kernel's feeds     ▲       ▲       ▲       ▲        ├─ heartbeat ─┤
//!                      every half heartbeat             last feed
//! ```
//! Before anyone has opened the device, hardware that counts already (the firmware started it) is fed for as long as
//! `watchdog.open_timeout` says.

/// Nanoseconds of a millisecond.
pub const MS: u64 = 1_000_000;
/// "Never" as a point in time.
pub const NEVER: u64 = u64::MAX;

/// What is known of one watchdog's clocks. Times are nanoseconds, on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The promise, in nanoseconds; 0: none.
    pub timeout: u64,
    /// Longest and shortest time between two feeds of the hardware; 0: no limit.
    pub max_heartbeat: u64,
    pub min_heartbeat: u64,
    /// User space watches.
    pub active: bool,
    /// The hardware counts although nobody asked (started by the firmware, or it cannot be stopped).
    pub running: bool,
    pub last_promise: u64,
    pub last_feed: u64,
    /// Until when hardware that runs by itself is fed without a user; [`NEVER`]: for good.
    pub open_deadline: u64,
    /// A feed came too early for the hardware and is owed to it.
    pub owed: bool,
}

impl Feed {
    /// Whether the thread has to feed at all.
    fn needs_thread(&self) -> bool {
        if self.active {
            self.max_heartbeat != 0 && self.timeout > self.max_heartbeat
        } else {
            self.running && self.timeout != 0
        }
    }

    /// When the thread feeds next; a point that has passed means now. `None`: not before something else happens.
    /// Never before the hardware bears it: the last feed may so come late, and the bite after the promise rather than before.
    pub fn next(&self) -> Option<u64> {
        let earliest = self.last_feed.saturating_add(self.min_heartbeat);
        let regular = self.needs_thread().then(|| self.next_regular()).flatten();
        if self.owed { Some(earliest) } else { regular.map(|t| t.max(earliest)) }
    }

    fn next_regular(&self) -> Option<u64> {
        let heartbeat =
            if self.max_heartbeat == 0 { self.timeout } else { self.max_heartbeat.min(self.timeout) };
        let must_bite =
            if self.active { self.last_promise.saturating_add(self.timeout) } else { self.open_deadline };
        // After this one the hardware counts its last heartbeat.
        let last = if must_bite == NEVER { NEVER } else { must_bite.saturating_sub(heartbeat) };
        (self.last_feed < last).then(|| self.last_feed.saturating_add(heartbeat / 2).min(last))
    }

    /// User space keeps its promise at `now`. True: the hardware is to be fed at once, by whoever says so.
    #[must_use]
    pub fn promise(&mut self, now: u64) -> bool {
        self.last_promise = now;
        self.may_feed(now)
    }

    /// Whether the hardware bears a feed at `now`; if not, one is owed.
    #[must_use]
    pub fn may_feed(&mut self, now: u64) -> bool {
        self.owed = now < self.last_feed.saturating_add(self.min_heartbeat);
        if !self.owed {
            self.last_feed = now;
        }
        !self.owed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn watch(timeout: u64, max: u64, min: u64) -> Feed {
        Feed {
            timeout,
            max_heartbeat: max,
            min_heartbeat: min,
            active: true,
            running: false,
            last_promise: 0,
            last_feed: 0,
            open_deadline: NEVER,
            owed: false,
        }
    }

    /// Plays a user who writes after each of `gaps` and then never again, against hardware that bites `heartbeat` after its
    /// last feed. Gives when it bit, and the closest two feeds. `next` is the policy.
    fn play(mut f: Feed, gaps: &[u64], next: fn(&Feed) -> Option<u64>) -> (u64, u64) {
        let heartbeat = if f.max_heartbeat == 0 { f.timeout } else { f.max_heartbeat.min(f.timeout) };
        let (mut writes, mut at) = (Vec::new(), 0);
        for g in gaps {
            at += g;
            writes.push(at);
        }
        let (mut writes, mut fed, mut closest) = (writes.into_iter().peekable(), 0, NEVER);
        loop {
            let bite = fed + heartbeat;
            let thread = next(&f).unwrap_or(NEVER);
            let write = writes.peek().copied().unwrap_or(NEVER);
            let now = thread.min(write).max(fed);
            if now > bite || now == NEVER {
                return (bite, closest);
            }
            let feeds = if write <= thread {
                writes.next();
                f.promise(now)
            } else {
                f.may_feed(now)
            };
            if feeds {
                closest = closest.min(now - fed);
                fed = now;
            }
        }
    }

    fn lives_by_the_promise(
        timeout: u64,
        max: u64,
        gaps: &[u64],
        next: fn(&Feed) -> Option<u64>,
    ) -> Result<(), TestCaseError> {
        let last: u64 = gaps.iter().sum();
        let (bite, _) = play(watch(timeout, max, 0), gaps, next);
        prop_assert!(bite >= last, "bitten at {bite}, before the last write at {last}");
        prop_assert_eq!(bite, last + timeout, "exactly when the promise is broken");
        Ok(())
    }

    proptest! {
        #[test]
        fn the_bite_comes_when_the_promise_is_broken(
            timeout in 2u64..10_000, max in 0u64..2000, seeds in prop::collection::vec(0u64..10_000, 0..20)
        ) {
            let max = if max == 1 { 2 } else { max };
            let gaps: Vec<u64> = seeds.iter().map(|s| s % timeout).collect();
            lives_by_the_promise(timeout, max, &gaps, Feed::next)?;
        }

        #[test]
        fn hardware_is_never_fed_too_early(
            timeout in 100u64..10_000, max in 100u64..2000, min in 0u64..40,
            seeds in prop::collection::vec(0u64..10_000, 0..20)
        ) {
            let gaps: Vec<u64> = seeds.iter().map(|s| s % (timeout / 2) + 1).collect();
            let (bite, closest) = play(watch(timeout, max, min), &gaps, Feed::next);
            prop_assert!(closest >= min);
            prop_assert!(bite >= gaps.iter().sum());
        }
    }

    /// Policies that look right and are not.
    #[test]
    fn wrong_policies_are_caught() {
        // Feeds for ever: a dead user space is never noticed.
        let for_ever = |f: &Feed| Some(f.last_feed + f.max_heartbeat / 2).filter(|&t| t < 100_000);
        // Stops half a heartbeat early.
        let early = |f: &Feed| f.next().filter(|&t| t + f.max_heartbeat + 1 < f.last_promise + f.timeout);
        // Feeds when the hardware is about to bite: too late.
        let late = |f: &Feed| Some(f.last_feed + f.max_heartbeat + 1);
        for wrong in [for_ever, early, late] {
            let bad = (1..20).any(|g| lives_by_the_promise(5000, 300, &[g * 200, 1000], wrong).is_err());
            assert!(bad);
        }
    }

    #[test]
    fn hardware_that_runs_by_itself_is_fed_until_the_deadline() {
        let mut f = watch(60, 0, 0);
        (f.active, f.running) = (false, true);
        assert_eq!(f.next(), Some(30));
        f.open_deadline = 70;
        assert_eq!(f.next(), Some(10));
        f.last_feed = 10;
        assert_eq!(f.next(), None, "the last heartbeat runs out at the deadline");
        f.running = false;
        assert_eq!(f.next(), None);
    }

    #[test]
    fn a_feed_that_comes_too_early_is_owed() {
        let mut f = watch(1000, 0, 100);
        assert!(!f.promise(50) && f.owed);
        assert_eq!(f.next(), Some(100));
        assert!(f.may_feed(100) && !f.owed);
        assert_eq!(f.next(), None, "long heartbeats need no thread");
    }
}
