//! What a pool should do, as functions of a snapshot: the whole policy of concurrency management.
//!
//! One worker of a per-processor pool executes at a time. It needs no successor while it runs; when it sleeps and work
//! waits, an idle one takes over; when the last idle one starts to work, it first makes another. So the pool is as
//! large as its items sleep deep. Workers that have become superfluous go after [`IDLE_TIMEOUT_NS`], slowly: a pool keeps two
//! idle ones, and a quarter of its busy ones.

/// An idle worker that is too many goes after 5 minutes.
pub const IDLE_TIMEOUT_NS: u64 = 300_000_000_000;
/// Rescuers are called when creating a worker takes longer than this, and again at the interval.
pub const MAYDAY_INITIAL_NS: u64 = 10_000_000;
pub const MAYDAY_INTERVAL_NS: u64 = 100_000_000;
/// After a failed creation, until the next try.
pub const CREATE_COOLDOWN_NS: u64 = 1_000_000_000;
/// Idle workers that are never too many, and how many busy ones justify one more.
const SPARE_IDLE: u32 = 2;
const BUSY_PER_IDLE: u32 = 4;

/// A pool at one moment, under its lock.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Snapshot {
    /// Items wait on the pool's list.
    pub waiting: bool,
    /// Workers that execute and do not sleep. Always 0 in unbound pools, which manage no concurrency.
    pub running: u32,
    pub workers: u32,
    pub idle: u32,
    /// One worker is away creating another.
    pub managing: bool,
}

impl Snapshot {
    /// Work waits and nobody attends to it.
    pub fn need_more_worker(&self) -> bool {
        self.waiting && self.running == 0
    }
    /// A worker may start to execute only while another stays idle behind it.
    pub fn may_start_working(&self) -> bool {
        self.idle > 0
    }
    /// Whether a worker that has finished an item takes the next: not if another runs already.
    pub fn keep_working(&self) -> bool {
        self.waiting && self.running <= 1
    }
    pub fn need_to_create_worker(&self) -> bool {
        self.need_more_worker() && !self.may_start_working()
    }
    /// More idle ones than the pool may need again. The manager counts as idle: it is about to be.
    pub fn too_many_workers(&self) -> bool {
        let idle = self.idle + self.managing as u32;
        let busy = self.workers.saturating_sub(idle);
        idle > SPARE_IDLE && (idle - SPARE_IDLE) * BUSY_PER_IDLE >= busy
    }
    /// What to do about the worker that has idled longest, since `since_ns`.
    pub fn cull(&self, since_ns: u64, now_ns: u64) -> Cull {
        let at = since_ns.saturating_add(IDLE_TIMEOUT_NS);
        if !self.too_many_workers() {
            Cull::Nobody
        } else if now_ns < at {
            Cull::LookAgain(at - now_ns)
        } else {
            Cull::Oldest
        }
    }
}

/// See [`Snapshot::cull`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cull {
    Nobody,
    /// In so many nanoseconds.
    LookAgain(u64),
    Oldest,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pools() -> impl Strategy<Value = Snapshot> {
        (any::<bool>(), 0u32..5, 0u32..400, 0u32..400, any::<bool>()).prop_map(
            |(waiting, running, workers, idle, managing)| Snapshot {
                waiting,
                running,
                workers: workers + idle + running,
                idle,
                managing,
            },
        )
    }

    proptest! {
        /// Work that waits is either attended to, or somebody idle can be called, or a worker must be made.
        #[test]
        fn waiting_work_is_nobody_s_orphan(s in pools()) {
            if s.waiting {
                prop_assert!(s.running > 0 || s.idle > 0 || s.need_to_create_worker());
            } else {
                prop_assert!(!s.need_more_worker() && !s.keep_working());
            }
        }
        /// Culling never takes one of the last two idle workers, and ends.
        #[test]
        fn culling_leaves_two_and_ends(mut s in pools(), now in IDLE_TIMEOUT_NS..1 << 60) {
            while s.cull(now - IDLE_TIMEOUT_NS, now) == Cull::Oldest {
                s.idle -= 1;
                s.workers -= 1;
            }
            prop_assert!(!s.too_many_workers());
            prop_assert!(s.idle + s.managing as u32 >= 2 || s.idle + (s.managing as u32) < 3);
        }
        /// Nobody goes before the time-out.
        #[test]
        fn culling_waits(s in pools(), since in 0u64..1 << 60, ns in 0..IDLE_TIMEOUT_NS) {
            match s.cull(since, since + ns) {
                Cull::Oldest => prop_assert!(false),
                Cull::LookAgain(n) => prop_assert_eq!(n, IDLE_TIMEOUT_NS - ns),
                Cull::Nobody => prop_assert!(!s.too_many_workers()),
            }
        }
    }

    #[test]
    fn two_idle_and_a_quarter_of_the_busy_may_stay() {
        let s = |workers, idle| Snapshot { workers, idle, ..Snapshot::default() };
        assert!(!s(2, 2).too_many_workers());
        assert!(s(3, 3).too_many_workers());
        assert!(!s(8, 3).too_many_workers());
        assert!(s(7, 3).too_many_workers());
        assert!(Snapshot { managing: true, ..s(3, 2) }.too_many_workers());
    }
}
