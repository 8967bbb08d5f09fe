//! The real-time class: FIFO and round robin, by priority. Pure policy.
//!
//! The highest priority runs. Within a priority tasks stand in a line: who was displaced by a higher priority goes
//! back to its head, who yields or has used up its round-robin quantum to its tail (POSIX.1-2017, "Scheduling
//! Policies").
//!
//! # Bandwidth
//! A real-time task that never blocks would shut every other task out for ever, the shell that could stop it
//! included. While fair tasks wait, real-time tasks together get [`RT_RUNTIME_NS`] of each [`RT_PERIOD_NS`] on a
//! processor; the rest is for the others. Where nothing fair waits there is no limit.

use alloc::boxed::Box;

use crate::{
    policy::STOP_RANK,
    tree::{Node, Tree},
};

/// How long a round-robin task runs before others of its priority: Linux's default.
pub const RR_QUANTUM_NS: u64 = 100_000_000;
/// `sched_rt_period_us` and `sched_rt_runtime_us` of Linux: 95 %.
pub const RT_PERIOD_NS: u64 = 1_000_000_000;
pub const RT_RUNTIME_NS: u64 = 950_000_000;

/// Waiting real-time tasks of one processor.
#[derive(Debug)]
pub struct RtQueue<T> {
    tree: Tree<T>,
    /// Next places at the head and the tail of any line.
    head: u64,
    tail: u64,
}

/// Which end of its priority's line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Head,
    Tail,
}

impl<T> Default for RtQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> RtQueue<T> {
    pub const fn new() -> Self {
        RtQueue { tree: Tree::new(), head: 1 << 40, tail: (1 << 40) + 1 }
    }
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }
    #[inline]
    pub fn len(&self) -> usize {
        self.tree.len()
    }
    /// Queues a task of `priority`: 1 to 99, or [`STOP_RANK`].
    pub fn insert(&mut self, n: Box<Node<T>>, priority: u8, end: End) {
        let seq = match end {
            End::Head => {
                self.head -= 1;
                self.head
            }
            End::Tail => {
                self.tail += 1;
                self.tail
            }
        };
        self.tree.insert(n, (STOP_RANK - priority) as u64, seq, 0);
    }
    /// The highest waiting priority.
    #[inline]
    pub fn top(&self) -> Option<u8> {
        self.tree.first().map(|n| STOP_RANK - n.key() as u8)
    }
    pub fn pop(&mut self) -> Option<Box<Node<T>>> {
        self.tree.pop_first()
    }
    pub fn remove(&mut self, key: u64, seq: u64) -> Option<Box<Node<T>>> {
        self.tree.remove(key, seq)
    }
    /// See [`Tree::find`].
    pub fn find(&self, pred: impl FnMut(&T) -> bool) -> Option<(u64, u64)> {
        self.tree.find(pred)
    }
}

/// What real-time tasks used of this period.
#[derive(Debug, Default)]
pub struct Bandwidth {
    period_end: u64,
    used: u64,
}

impl Bandwidth {
    pub const fn new() -> Self {
        Bandwidth { period_end: 0, used: 0 }
    }
    /// A real-time task has run for `ns` until `now`.
    pub fn charge(&mut self, ns: u64, now: u64) {
        self.roll(now);
        self.used += ns;
    }
    /// True while others have their turn.
    pub fn is_exhausted(&mut self, now: u64) -> bool {
        self.roll(now);
        self.used >= RT_RUNTIME_NS
    }
    fn roll(&mut self, now: u64) {
        if now >= self.period_end {
            self.period_end = now + RT_PERIOD_NS;
            self.used = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_by_priority() {
        let mut q = RtQueue::new();
        for (v, p) in [("a", 10), ("b", 50), ("c", 50), ("d", 99)] {
            q.insert(Box::new(Node::new(v)), p, End::Tail);
        }
        q.insert(Box::new(Node::new("e")), 50, End::Head);
        let order: Vec<_> = core::iter::from_fn(|| q.pop().map(|n| n.value)).collect();
        assert_eq!(order, ["d", "e", "b", "c", "a"]);
    }

    #[test]
    fn bandwidth_refills_each_period() {
        let mut b = Bandwidth::new();
        b.charge(RT_RUNTIME_NS, 1);
        assert!(b.is_exhausted(2));
        assert!(!b.is_exhausted(2 + RT_PERIOD_NS));
    }
}
