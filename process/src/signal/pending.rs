//! Signals that wait for delivery.
//!
//! Below 32 a signal is pending once at most; from 32 on (POSIX real-time) each one sent is queued, in order. The set says what
//! is pending; the queue holds the reasons. A signal whose reason could not be kept is still in the set.

use alloc::collections::VecDeque;

use super::{
    info::{Fields, SI_USER, SigInfo},
    set::{RTMIN, SigSet, Signo},
};

/// What waits for one thread, or for a process.
#[derive(Default, Debug)]
pub struct Pending {
    set: SigSet,
    queue: VecDeque<SigInfo>,
}

/// What became of an addition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Added {
    Yes,
    /// It was pending already and counts once.
    Merged,
    /// Pending, but without its reason: there was no room for it.
    Bare,
}

impl Pending {
    pub const fn new() -> Pending {
        Pending { set: SigSet::EMPTY, queue: VecDeque::new() }
    }
    #[inline]
    pub fn set(&self) -> SigSet {
        self.set
    }
    /// Reasons queued; what `RLIMIT_SIGPENDING` counts.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Makes a signal pending.
    pub fn add(&mut self, info: SigInfo) -> Added {
        let sig = info.signo;
        // A timer's signal always waits by itself: the timer has one at most, and rests until it is taken.
        let is_timer = matches!(info.fields, Fields::Timer { .. });
        if sig < RTMIN && self.set.contains(sig) && !is_timer {
            return Added::Merged;
        }
        self.set.add(sig);
        if self.queue.try_reserve(1).is_err() {
            return Added::Bare;
        }
        self.queue.push_back(info);
        Added::Yes
    }
    /// Makes a signal pending without a reason, as `SIGKILL` always is.
    pub fn add_bare(&mut self, sig: Signo) {
        self.set.add(sig);
    }

    /// Takes the first signal of `wanted`.
    pub fn take(&mut self, wanted: SigSet) -> Option<SigInfo> {
        let sig = self.set.and(wanted).first()?;
        let found = self.queue.iter().position(|i| i.signo == sig).and_then(|at| self.queue.remove(at));
        if !self.queue.iter().any(|i| i.signo == sig) {
            self.set.remove(sig);
        }
        Some(found.unwrap_or(SigInfo {
            signo: sig,
            errno: 0,
            code: SI_USER,
            fields: Fields::Kill { pid: 0, uid: 0 },
        }))
    }

    /// Forgets all of `sigs`.
    pub fn discard(&mut self, sigs: SigSet) {
        if self.set.and(sigs).is_empty() {
            return;
        }
        self.set = self.set.without(sigs);
        self.queue.retain(|i| !sigs.contains(i.signo));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info(signo: Signo, pid: u32) -> SigInfo {
        SigInfo::user(signo, 0, pid, 0)
    }

    #[test]
    fn classic_signals_merge_and_real_time_ones_queue() {
        let mut p = Pending::new();
        assert_eq!(p.add(info(10, 1)), Added::Yes);
        assert_eq!(p.add(info(10, 2)), Added::Merged);
        assert_eq!(p.add(info(40, 3)), Added::Yes);
        assert_eq!(p.add(info(40, 4)), Added::Yes);
        assert_eq!(p.take(SigSet::ALL), Some(info(10, 1)));
        assert_eq!(p.take(SigSet::ALL), Some(info(40, 3)));
        assert!(p.set().contains(40));
        assert_eq!(p.take(SigSet::ALL), Some(info(40, 4)));
        assert_eq!(p.take(SigSet::ALL), None);
    }

    #[test]
    fn discarding_forgets_reasons_too() {
        let mut p = Pending::new();
        p.add(info(19, 1));
        p.add(info(20, 1));
        p.discard(SigSet::of(&[19]));
        assert_eq!(p.queued(), 1);
        assert_eq!(p.take(SigSet::ALL).map(|i| i.signo), Some(20));
    }

    proptest! {
        #[test]
        fn the_set_is_what_can_be_taken(sends in prop::collection::vec((1u32..=64, any::<bool>()), 0..60), mask: u64) {
            let mut p = Pending::new();
            for (n, (sig, bare)) in sends.iter().enumerate() {
                if *bare { p.add_bare(*sig) } else { p.add(info(*sig, n as u32)); }
            }
            let before = p.set();
            let mut seen = SigSet::EMPTY;
            while let Some(i) = p.take(SigSet(mask)) {
                prop_assert!(SigSet(mask).contains(i.signo));
                seen.add(i.signo);
            }
            prop_assert_eq!(seen, before.and(SigSet(mask)));
            prop_assert_eq!(p.set(), before.without(SigSet(mask)));
        }
    }
}
