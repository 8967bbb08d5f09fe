//! The fair class: EEVDF, earliest eligible virtual deadline first. Pure policy: no clock, no locks, no tasks.
//!
//! # Theory
//! (Stoica and Abdel-Wahab, "Earliest Eligible Virtual Deadline First", 1995.)
//!
//! Each task of weight *w* has a virtual run time *v* that advances by `ran · 1024 / w`. The queue's virtual time
//! is the weighted mean
//!
//! ```text
//!   V = Σ wᵢ·vᵢ / Σ wᵢ        lag of i = wᵢ·(V − vᵢ)        Σ lag = 0
//! ```
//! A task with lag ≥ 0 (`v ≤ V`) has had no more than its share: it is *eligible*. It asks for slices of equal real
//! length; its virtual deadline is `v + slice · 1024 / w` at the start of each. Of the eligible tasks the one with
//! the earliest deadline runs. A larger weight gives a larger share; a shorter slice gives an earlier deadline,
//! thus lower latency at the same share.
//!
//! # Sums
//! Only differences of virtual times mean anything, and `Σ w·v` would overflow: the queue keeps `Σ w·(v − base)`
//! and moves `base` along with the least `v`.
//!
//! # Coming and going
//! A task that leaves keeps its lag (bounded by two slices), and is placed with the same lag when it comes back:
//! sleeping neither forgives a debt nor earns a credit. Adding a task with lag *l* moves *V* by `w·l / (W + w)`, so
//! the placement inflates the lag by `(W + w) / W` first; it then is *l* as measured afterwards. A new task starts
//! with lag 0 and half a slice.
//!
//! Different from Linux 6.12 on purpose: a task that blocks with negative lag leaves at once (as in Linux 6.6),
//! where 6.12 keeps it on the queue until its debt has decayed.
//!
//! # Run to parity
//! A running task that is still eligible keeps the processor until its slice is used up, else tasks with close
//! deadlines would switch at each wake-up.

use alloc::boxed::Box;

use crate::{
    tree::{Node, Tree, before},
    weights::NICE_0_WEIGHT,
};

/// Linux's normalised base slice, 0.75 ms, grows with the processors that share the work.
pub const BASE_SLICE_NS: u64 = 750_000;

/// `BASE_SLICE_NS · (1 + log2 cpus)`, where more than eight processors count as eight: with more of them each has
/// its own tasks, and longer slices would only make them late.
pub fn slice_ns(cpus: u32) -> u64 {
    BASE_SLICE_NS * (1 + cpus.clamp(1, 8).ilog2() as u64)
}

/// What the fair class knows of a task.
#[derive(Debug, Clone)]
pub struct Fair {
    pub weight: u32,
    /// 2^32 / weight: the division of virtual time as a multiplication.
    inv_weight: u32,
    pub vruntime: u64,
    pub deadline: u64,
    /// `V − v` when it left the queue.
    pub vlag: i64,
    /// Real time it asks for at once.
    pub slice_ns: u64,
    /// The deadline with which it was picked: while it stands, run to parity protects the task.
    protected: u64,
    /// It has never been on a queue.
    is_new: bool,
}

impl Fair {
    pub fn new(weight: u32, slice_ns: u64) -> Self {
        Fair {
            weight,
            inv_weight: inverse(weight),
            vruntime: 0,
            deadline: 0,
            vlag: 0,
            slice_ns,
            protected: 0,
            is_new: true,
        }
    }
    /// Real to virtual time.
    #[inline]
    pub fn virt(&self, ns: u64) -> u64 {
        if self.weight as u64 == NICE_0_WEIGHT {
            ns
        } else {
            ((ns as u128 * self.inv_weight as u128) >> 22) as u64
        }
    }
    /// Changes the weight; the lag in real time (weight times virtual lag) stays.
    fn set_weight(&mut self, weight: u32) {
        let (old, new) = (self.weight as i64, weight as i64);
        self.vlag = (self.vlag as i128 * old as i128 / new as i128) as i64;
        self.weight = weight;
        self.inv_weight = inverse(weight);
    }
}

fn inverse(weight: u32) -> u32 {
    ((1u64 << 32) / weight.max(2) as u64) as u32
}

/// What is queued: anything that carries a [`Fair`].
pub trait HasFair {
    fn fair(&self) -> &Fair;
    fn fair_mut(&mut self) -> &mut Fair;
}

/// The queue of one processor, without the task that runs there: `curr` is given to each function that needs it.
#[derive(Debug)]
pub struct FairQueue<T> {
    tree: Tree<T>,
    base: u64,
    /// Σ w·(v − base) and Σ w over the tree.
    sum: i64,
    load: u64,
    next_seq: u64,
}

/// What to run.
#[derive(Debug, PartialEq, Eq)]
pub enum Pick<N> {
    /// The running task goes on.
    Current,
    Other(N),
    Nothing,
}

impl<T: HasFair> Default for FairQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: HasFair> FairQueue<T> {
    pub const fn new() -> Self {
        FairQueue { tree: Tree::new(), base: 0, sum: 0, load: 0, next_seq: 0 }
    }
    #[inline]
    pub fn len(&self) -> usize {
        self.tree.len()
    }
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }
    /// Sum of the weights that wait.
    pub fn load(&self) -> u64 {
        self.load
    }
    /// See [`Tree::find`].
    pub fn find(&self, pred: impl FnMut(&T) -> bool) -> Option<(u64, u64)> {
        self.tree.find(pred)
    }

    #[inline]
    fn sums(&self, curr: Option<&Fair>) -> (i64, u64) {
        match curr {
            None => (self.sum, self.load),
            Some(c) => {
                let w = c.weight as i64;
                (self.sum + w * c.vruntime.wrapping_sub(self.base) as i64, self.load + w as u64)
            }
        }
    }

    /// `V`, rounded down.
    pub fn virtual_time(&self, curr: Option<&Fair>) -> u64 {
        let (sum, load) = self.sums(curr);
        if load == 0 { self.base } else { self.base.wrapping_add(sum.div_euclid(load as i64) as u64) }
    }

    /// Whether a task at virtual time `v` has had no more than its share; exact, without division.
    #[inline]
    fn eligible_at(sums: (i64, u64), base: u64, v: u64) -> bool {
        (v.wrapping_sub(base) as i64) as i128 * sums.1 as i128 <= sums.0 as i128
    }

    /// Moves `base` up to the least virtual time.
    fn advance(&mut self, curr: Option<&Fair>) {
        let mut least = match (curr, self.tree.min_aug()) {
            (Some(c), _) => c.vruntime,
            (None, Some(m)) => m,
            (None, None) => return,
        };
        if let Some(m) = self.tree.min_aug()
            && before(m, least)
        {
            least = m;
        }
        let d = least.wrapping_sub(self.base) as i64;
        if d > 0 {
            self.sum -= self.load as i64 * d;
            self.base = least;
        }
    }

    /// The running task has run for `ns`. True if it has used its slice up and another one waits.
    #[inline]
    pub fn charge(&mut self, curr: &mut Fair, ns: u64) -> bool {
        curr.vruntime = curr.vruntime.wrapping_add(curr.virt(ns));
        let done = !before(curr.vruntime, curr.deadline);
        if done {
            curr.deadline = curr.vruntime.wrapping_add(curr.virt(curr.slice_ns));
        }
        self.advance(Some(curr));
        done && !self.is_empty()
    }

    /// Gives a task that comes to this queue its virtual time and deadline.
    pub fn place(&self, t: &mut Fair, curr: Option<&Fair>) {
        let v = self.virtual_time(curr);
        let (_, load) = self.sums(curr);
        let mut lag = 0;
        if load != 0 && t.vlag != 0 {
            let total = (load + t.weight as u64) as i64;
            lag = match t.vlag.checked_mul(total) {
                Some(x) => x / load as i64,
                None => (t.vlag as i128 * total as i128 / load as i128) as i64,
            };
        }
        t.vruntime = v.wrapping_sub(lag as u64);
        let mut request = t.virt(t.slice_ns);
        if t.is_new {
            t.is_new = false;
            request /= 2;
        }
        t.deadline = t.vruntime.wrapping_add(request);
    }

    /// Queues a task that [`Self::place`] has placed, or that ran until now.
    pub fn insert(&mut self, n: Box<Node<T>>) {
        let f = n.value.fair();
        let (v, deadline, w) = (f.vruntime, f.deadline, f.weight);
        self.sum += w as i64 * v.wrapping_sub(self.base) as i64;
        self.load += w as u64;
        self.next_seq += 1;
        self.tree.insert(n, deadline, self.next_seq, v);
    }

    fn forget(&mut self, f: &Fair) {
        self.sum -= f.weight as i64 * f.vruntime.wrapping_sub(self.base) as i64;
        self.load -= f.weight as u64;
    }

    /// Remembers the lag of a task that is about to leave. `curr` is the running task, which may be `t` itself.
    pub fn keep_lag(&self, t: &Fair, curr: Option<&Fair>) -> i64 {
        let limit = t.virt((2 * t.slice_ns).max(crate::TICK_NS)) as i64;
        (self.virtual_time(curr).wrapping_sub(t.vruntime) as i64).clamp(-limit, limit)
    }

    /// Takes a waiting task out for good (it goes to another queue, or changes). Its lag is kept.
    pub fn remove(&mut self, key: u64, seq: u64, curr: Option<&Fair>) -> Option<Box<Node<T>>> {
        let v = self.virtual_time(curr);
        let mut n = self.tree.remove(key, seq)?;
        let f = n.value.fair_mut();
        let limit = f.virt((2 * f.slice_ns).max(crate::TICK_NS)) as i64;
        f.vlag = (v.wrapping_sub(f.vruntime) as i64).clamp(-limit, limit);
        self.forget(n.value.fair());
        self.advance(curr);
        Some(n)
    }

    /// Chooses. `curr` is the running task if it may go on.
    #[inline]
    pub fn pick(&mut self, curr: Option<&Fair>) -> Pick<Box<Node<T>>> {
        if self.is_empty() {
            return if curr.is_some() { Pick::Current } else { Pick::Nothing };
        }
        let sums = self.sums(curr);
        let base = self.base;
        let mut keep = None;
        if let Some(c) = curr
            && Self::eligible_at(sums, base, c.vruntime)
        {
            if c.protected == c.deadline {
                return Pick::Current;
            }
            keep = Some(c);
        }
        let best = self.tree.first_fit(|v| Self::eligible_at(sums, base, v)).map(|n| (n.key(), n.seq()));
        let (key, seq) = match (keep, best) {
            (Some(c), Some((key, _))) if !before(key, c.deadline) => return Pick::Current,
            (Some(_), None) => return Pick::Current,
            (_, Some(at)) => at,
            // Rounding aside there is always an eligible task; take the first deadline then.
            (None, None) => match self.tree.first() {
                Some(n) => (n.key(), n.seq()),
                None => return Pick::Nothing,
            },
        };
        let mut n = self.tree.remove(key, seq).expect("just found");
        self.forget(n.value.fair());
        let f = n.value.fair_mut();
        f.protected = f.deadline;
        Pick::Other(n)
    }

    /// Whether the waiting task that was inserted last should displace `curr`: it is what [`Self::pick`] would
    /// take.
    #[inline]
    pub fn displaces(&self, curr: &Fair, newcomer_seq: u64) -> bool {
        let sums = self.sums(Some(curr));
        let base = self.base;
        let curr_eligible = Self::eligible_at(sums, base, curr.vruntime);
        if curr_eligible && curr.protected == curr.deadline {
            return false;
        }
        match self.tree.first_fit(|v| Self::eligible_at(sums, base, v)) {
            Some(n) => n.seq() == newcomer_seq && (!curr_eligible || before(n.key(), curr.deadline)),
            None => false,
        }
    }
    /// The `seq` of the last insertion.
    pub fn last_seq(&self) -> u64 {
        self.next_seq
    }

    /// The running task yields: its next deadline is a slice later, so others come first.
    pub fn yield_current(&self, curr: &mut Fair) {
        curr.deadline = curr.deadline.wrapping_add(curr.virt(curr.slice_ns));
    }

    /// Changes the weight of a task that is on no tree; of the running one if `curr` is true.
    pub fn reweigh(&self, t: &mut Fair, weight: u32, running: bool) {
        if t.weight == weight {
            return;
        }
        if !running {
            t.set_weight(weight);
            return;
        }
        let v = self.virtual_time(Some(t));
        let left = t.deadline.wrapping_sub(t.vruntime) as i64;
        let old = t.weight as i128;
        t.vlag = v.wrapping_sub(t.vruntime) as i64;
        t.set_weight(weight);
        t.vruntime = v.wrapping_sub(t.vlag as u64);
        t.deadline = t.vruntime.wrapping_add((left as i128 * old / weight as i128) as u64);
    }
}

#[cfg(test)]
mod tests;
