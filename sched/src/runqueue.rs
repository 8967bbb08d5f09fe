//! One processor's run queue: the classes together, and the task that runs. Pure: time is given, tasks are a
//! payload.
//!
//! Order of the classes: real-time above fair above idle (the idle task is what runs when [`RunQueue::pick`] finds
//! nothing). The running task is in `curr` and in no tree; what waits is in one. So "may it be moved to another
//! processor" is "is it in a tree", and the box of the running task can be changed in place.

use alloc::boxed::Box;

use frame::cpu::CpuMask;

use crate::{
    fair::{Fair, FairQueue, HasFair, Pick},
    policy::Policy,
    rt::{Bandwidth, End, RR_QUANTUM_NS, RtQueue},
    tree::Node,
};

/// What the scheduler knows of a task, in one box that is on a queue, running, or at home with its sleeping task.
#[derive(Debug)]
pub struct Entity<P> {
    pub fair: Fair,
    pub policy: Policy,
    pub nice: i8,
    pub affinity: CpuMask,
    /// What is left of its round-robin quantum.
    rr_left_ns: u64,
    pub payload: P,
}

pub type Ent<P> = Box<Node<Entity<P>>>;

impl<P> HasFair for Entity<P> {
    #[inline]
    fn fair(&self) -> &Fair {
        &self.fair
    }
    #[inline]
    fn fair_mut(&mut self) -> &mut Fair {
        &mut self.fair
    }
}

impl<P> Entity<P> {
    pub fn new(policy: Policy, nice: i8, affinity: CpuMask, slice_ns: u64, payload: P) -> Self {
        Entity {
            fair: Fair::new(policy.weight(nice), slice_ns),
            policy,
            nice,
            affinity,
            rr_left_ns: RR_QUANTUM_NS,
            payload,
        }
    }
    /// Changes policy and nice of a task that is on no tree and does not run.
    pub fn set_policy(&mut self, policy: Policy, nice: i8) {
        let q = FairQueue::<Entity<P>>::new();
        q.reweigh(&mut self.fair, policy.weight(nice), false);
        (self.policy, self.nice) = (policy, nice);
        self.rr_left_ns = RR_QUANTUM_NS;
    }
}

/// The queue.
#[derive(Debug)]
pub struct RunQueue<P> {
    fair: FairQueue<Entity<P>>,
    rt: RtQueue<Entity<P>>,
    bandwidth: Bandwidth,
    curr: Option<Ent<P>>,
    /// Until when `curr` has been charged.
    charged_ns: u64,
    /// `curr` must go behind its equals at the next pick.
    to_tail: bool,
}

/// The answer of [`RunQueue::pick`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Picked {
    /// `curr` is what it was before.
    Same,
    /// `curr` is another task.
    Switched,
    /// Nothing to run.
    Idle,
}

impl<P> Default for RunQueue<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> RunQueue<P> {
    pub const fn new() -> Self {
        RunQueue {
            fair: FairQueue::new(),
            rt: RtQueue::new(),
            bandwidth: Bandwidth::new(),
            curr: None,
            charged_ns: 0,
            to_tail: false,
        }
    }

    /// Runnable tasks, the running one included.
    #[inline]
    pub fn len(&self) -> usize {
        self.fair.len() + self.rt.len() + self.curr.is_some() as usize
    }
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Tasks that wait.
    #[inline]
    pub fn waiting(&self) -> usize {
        self.fair.len() + self.rt.len()
    }
    #[inline]
    pub fn current(&self) -> Option<&Entity<P>> {
        self.curr.as_ref().map(|n| &n.value)
    }
    /// The running task, if it is a fair one.
    pub fn fair_current(&self) -> Option<&Entity<P>> {
        self.current().filter(|e| !e.policy.is_rt())
    }
    /// Until when the running task has been charged.
    pub fn charged_ns(&self) -> u64 {
        self.charged_ns
    }
    #[inline]
    pub fn current_mut(&mut self) -> Option<&mut Entity<P>> {
        self.curr.as_mut().map(|n| &mut n.value)
    }
    /// Sum of the weights of its fair tasks, the running one included.
    pub fn load(&self) -> u64 {
        self.fair.load()
            + self
                .curr
                .as_ref()
                .map_or(0, |c| if c.value.policy.is_rt() { 0 } else { c.value.fair.weight as u64 })
    }

    /// True if the task that runs has others to take turns with, so that time has to be watched.
    #[inline]
    pub fn needs_tick(&self) -> bool {
        match &self.curr {
            None => false,
            Some(c) if c.value.policy.is_rt() => {
                !self.fair.is_empty() || matches!(c.value.policy, Policy::Rr(p) if self.rt.top() == Some(p))
            }
            Some(_) => self.waiting() != 0,
        }
    }

    /// Charges the running task up to `now`. True if it should make way.
    pub fn charge(&mut self, now: u64) -> bool {
        let ns = now.saturating_sub(self.charged_ns);
        self.charged_ns = now;
        let Some(c) = &mut self.curr else { return false };
        let e = &mut c.value;
        if !e.policy.is_rt() {
            return self.fair.charge(&mut e.fair, ns)
                || (!self.rt.is_empty() && !self.bandwidth.is_exhausted(now));
        }
        self.bandwidth.charge(ns, now);
        if let Policy::Rr(p) = e.policy {
            e.rr_left_ns = e.rr_left_ns.saturating_sub(ns);
            if e.rr_left_ns == 0 {
                e.rr_left_ns = RR_QUANTUM_NS;
                if self.rt.top() == Some(p) {
                    self.to_tail = true;
                    return true;
                }
            }
        }
        !self.fair.is_empty() && self.bandwidth.is_exhausted(now)
    }

    /// Adds a task that was on no queue. True if the processor should reschedule.
    #[inline]
    pub fn enqueue(&mut self, mut n: Ent<P>, now: u64) -> bool {
        let due = self.charge(now);
        let policy = n.value.policy;
        if policy.is_rt() {
            let p = policy.rt_priority();
            self.rt.insert(n, p, End::Tail);
            return match &self.curr {
                None => true,
                Some(c) => {
                    p > c.value.policy.rt_priority()
                        && !(c.value.policy.rt_priority() == 0 && self.bandwidth.is_exhausted(now))
                }
            };
        }
        let Some(c) = &self.curr else {
            self.fair.place(&mut n.value.fair, None);
            self.fair.insert(n);
            return true;
        };
        let c = &c.value;
        if c.policy.is_rt() {
            self.fair.place(&mut n.value.fair, None);
            self.fair.insert(n);
            return due;
        }
        self.fair.place(&mut n.value.fair, Some(&c.fair));
        self.fair.insert(n);
        due || match (policy, c.policy) {
            (Policy::Idle, _) => false,
            (_, Policy::Idle) => true,
            (Policy::Batch, _) => false,
            _ => self.fair.displaces(&c.fair, self.fair.last_seq()),
        }
    }

    /// The running task stops being runnable here: it sleeps, ends or moves. Its lag is kept.
    #[inline]
    pub fn take_current(&mut self, now: u64) -> Option<Ent<P>> {
        self.charge(now);
        let mut c = self.curr.take()?;
        self.to_tail = false;
        if !c.value.policy.is_rt() {
            c.value.fair.vlag = self.fair.keep_lag(&c.value.fair, Some(&c.value.fair));
        }
        Some(c)
    }

    /// The running task lets others go first.
    pub fn yield_current(&mut self, now: u64) {
        self.charge(now);
        if let Some(c) = &mut self.curr {
            if c.value.policy.is_rt() {
                self.to_tail = true;
            } else {
                self.fair.yield_current(&mut c.value.fair);
            }
        }
    }

    /// Chooses what runs from `now` on. If the running task is displaced, it is queued, after `put` has seen its
    /// payload.
    pub fn pick(&mut self, now: u64, put: impl FnOnce(&mut P)) -> Picked {
        if now != self.charged_ns {
            self.charge(now);
        }
        let to_tail = core::mem::take(&mut self.to_tail);
        let has_rt = !self.rt.is_empty() || self.curr.as_ref().is_some_and(|c| c.value.policy.is_rt());
        let rt_may_run = has_rt && {
            let fair_waits =
                !self.fair.is_empty() || self.curr.as_ref().is_some_and(|c| !c.value.policy.is_rt());
            !(fair_waits && self.bandwidth.is_exhausted(now))
        };
        let next = match &mut self.curr {
            Some(c) if c.value.policy.is_rt() => {
                let mine = c.value.policy.rt_priority();
                if !rt_may_run {
                    self.pick_fair_alone()
                } else if self.rt.top().is_some_and(|t| t > mine || (to_tail && t == mine)) {
                    self.rt.pop()
                } else {
                    return Picked::Same;
                }
            }
            Some(_) | None if rt_may_run => self.rt.pop(),
            Some(c) => match self.fair.pick(Some(&c.value.fair)) {
                Pick::Current => return Picked::Same,
                Pick::Other(n) => Some(n),
                Pick::Nothing => None,
            },
            None => self.pick_fair_alone(),
        };
        let Some(next) = next else {
            return if self.curr.is_some() { Picked::Same } else { Picked::Idle };
        };
        if let Some(mut old) = self.curr.replace(next) {
            put(&mut old.value.payload);
            if old.value.policy.is_rt() {
                let end = if to_tail { End::Tail } else { End::Head };
                let p = old.value.policy.rt_priority();
                self.rt.insert(old, p, end);
            } else {
                self.fair.insert(old);
            }
        }
        Picked::Switched
    }

    fn pick_fair_alone(&mut self) -> Option<Ent<P>> {
        match self.fair.pick(None) {
            Pick::Other(n) => Some(n),
            Pick::Current | Pick::Nothing => None,
        }
    }

    /// Takes a waiting task out that `pred` accepts, real-time tasks first.
    pub fn take_waiting(&mut self, mut pred: impl FnMut(&Entity<P>) -> bool) -> Option<Ent<P>> {
        if let Some((k, s)) = self.rt.find(&mut pred) {
            return self.rt.remove(k, s);
        }
        let (k, s) = self.fair.find(&mut pred)?;
        let curr = self.curr.as_ref().filter(|c| !c.value.policy.is_rt()).map(|c| &c.value.fair);
        self.fair.remove(k, s, curr)
    }

    /// Changes policy and nice of the running task.
    pub fn set_current_policy(&mut self, now: u64, policy: Policy, nice: i8) {
        self.charge(now);
        let Some(c) = &mut self.curr else { return };
        let e = &mut c.value;
        match (e.policy.is_rt(), policy.is_rt()) {
            (false, false) => self.fair.reweigh(&mut e.fair, policy.weight(nice), true),
            (false, true) => {
                e.fair.vlag = self.fair.keep_lag(&e.fair, Some(&e.fair));
                self.fair.reweigh(&mut e.fair, policy.weight(nice), false);
            }
            (true, false) => {
                self.fair.reweigh(&mut e.fair, policy.weight(nice), false);
                self.fair.place(&mut e.fair, None);
            }
            (true, true) => {}
        }
        (e.policy, e.nice) = (policy, nice);
        e.rr_left_ns = RR_QUANTUM_NS;
    }
}
