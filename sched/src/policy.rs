//! Scheduling policies, with Linux's numbers.

use crate::weights;

/// How a task competes for processors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// `SCHED_OTHER`: the fair class.
    Other,
    /// `SCHED_BATCH`: fair, but a wake-up never displaces a running task.
    Batch,
    /// `SCHED_IDLE`: fair with the least weight; displaced by every other.
    Idle,
    /// `SCHED_FIFO` with priority 1 to 99, higher first: runs until it blocks or yields.
    Fifo(u8),
    /// `SCHED_RR`: the same, taking turns with others of its priority every [`crate::rt::RR_QUANTUM_NS`].
    Rr(u8),
    /// What each processor's `migration` thread has: above every other, without limit. User space sees FIFO 99 and
    /// can neither give it nor take it away.
    Stop,
}

/// The rank of [`Policy::Stop`]: one above the highest real-time priority.
pub const STOP_RANK: u8 = 100;

impl Policy {
    /// The number that `sched_setscheduler` takes.
    pub const fn number(self) -> u32 {
        match self {
            Policy::Other => 0,
            Policy::Fifo(_) | Policy::Stop => 1,
            Policy::Rr(_) => 2,
            Policy::Batch => 3,
            Policy::Idle => 5,
        }
    }
    /// From a number and a priority; `None` for what does not exist or has a priority out of range.
    pub const fn from_number(n: u32, priority: u32) -> Option<Policy> {
        match (n, priority) {
            (0, 0) => Some(Policy::Other),
            (1, 1..=99) => Some(Policy::Fifo(priority as u8)),
            (2, 1..=99) => Some(Policy::Rr(priority as u8)),
            (3, 0) => Some(Policy::Batch),
            (5, 0) => Some(Policy::Idle),
            _ => None,
        }
    }
    /// Real-time priority, 1 to 99; 0 for the fair class.
    pub const fn rt_priority(self) -> u8 {
        match self {
            Policy::Fifo(p) | Policy::Rr(p) => p,
            Policy::Stop => 99,
            _ => 0,
        }
    }
    /// Its place above the fair class: 1 to 99 real-time, 100 stop; 0 for the fair class.
    pub const fn rank(self) -> u8 {
        match self {
            Policy::Stop => STOP_RANK,
            p => p.rt_priority(),
        }
    }
    /// True for what runs before every fair task.
    pub const fn is_rt(self) -> bool {
        self.rank() != 0
    }
    /// The weight in the fair class.
    pub fn weight(self, nice: i8) -> u32 {
        match self {
            Policy::Idle => weights::IDLE_WEIGHT,
            _ => weights::of_nice(nice),
        }
    }
    /// `prio` as trace events show it: 0 to 98 real-time (lower is more urgent), 100 + 20 + nice otherwise.
    pub const fn prio(self, nice: i8) -> i32 {
        match self.rt_priority() {
            0 => 120 + nice as i32,
            p => 99 - p as i32,
        }
    }
    /// For one atomic word: policy number, priority, nice.
    pub(crate) const fn pack(self, nice: i8) -> u32 {
        self.number() | (self.rank() as u32) << 8 | (nice as u8 as u32) << 16
    }
    pub(crate) const fn unpack(w: u32) -> (Policy, i8) {
        let nice = (w >> 16) as u8 as i8;
        match Policy::from_number(w & 0xff, w >> 8 & 0xff) {
            None if w >> 8 & 0xff == STOP_RANK as u32 => (Policy::Stop, nice),
            Some(p) => (p, nice),
            None => (Policy::Other, nice),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_and_unpacks() {
        for p in [Policy::Other, Policy::Batch, Policy::Idle, Policy::Fifo(1), Policy::Rr(99), Policy::Stop] {
            for nice in [-20i8, 0, 19] {
                assert_eq!(Policy::unpack(p.pack(nice)), (p, nice));
            }
        }
        assert_eq!(Policy::from_number(1, 0), None);
        assert_eq!(Policy::from_number(0, 1), None);
        assert_eq!(Policy::from_number(1, 100), None);
        assert_eq!(Policy::Fifo(99).prio(0), 0);
        assert_eq!(Policy::Other.prio(-5), 115);
    }
}
