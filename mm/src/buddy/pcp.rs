//! One processor's own blocks: stacks of order 0 to 3, so that a single page costs a pop.

use alloc::vec::Vec;

use frame::{page::FreeRun, sync::LockClass};

/// Orders kept: up to Linux's `PAGE_ALLOC_COSTLY_ORDER`, which covers slabs and kernel stacks.
pub(super) const ORDERS: u32 = 4;
/// Pages of order 0 that a processor keeps at most: 4 MiB.
const MOST: u64 = 1024;

pub(super) static CLASS: LockClass = LockClass::new("pcp");

pub(super) struct Pcp {
    lists: [Vec<FreeRun>; ORDERS as usize],
    batch: usize,
}

impl Pcp {
    /// Keeps nothing: until memory is there to make lists from.
    pub(super) const fn new() -> Self {
        Self { lists: [const { Vec::new() }; ORDERS as usize], batch: 1 }
    }
    /// Lists for `batch` and a share of `high` pages. A list that there is no memory for keeps nothing.
    pub(super) fn make_lists(batch: u64, high: u64) -> Self {
        let mut p = Self { batch: batch as usize, ..Self::new() };
        let most = high.clamp(batch * 4, MOST.max(batch * 4)) as usize;
        for (order, l) in p.lists.iter_mut().enumerate() {
            // A failure leaves the capacity at 0, which is a valid list.
            let _ = l.try_reserve_exact((most >> (order * 2)).max(4));
        }
        p
    }
    #[inline]
    pub(super) fn pop(&mut self, order: u32) -> Option<FreeRun> {
        self.lists[order as usize].pop()
    }
    /// Keeps a freed block, or gives it back if the list is full.
    #[inline]
    pub(super) fn push(&mut self, run: FreeRun) -> Option<FreeRun> {
        let l = &mut self.lists[run.order() as usize];
        if l.len() < l.capacity() {
            l.push(run);
            None
        } else {
            Some(run)
        }
    }
    /// How many blocks to fetch at once: the one that is wanted, and as many more as there is room for.
    pub(super) fn refill_size(&self, order: u32) -> usize {
        (self.batch >> order).clamp(1, self.lists[order as usize].capacity().max(1))
    }
    /// A block fetched beyond the one that is wanted. The list is empty before, so [`Pcp::refill_size`] has seen to the room:
    /// growing here would ask this allocator for memory, under its own lock.
    pub(super) fn refill(&mut self, run: FreeRun) {
        debug_assert!(self.lists[run.order() as usize].len() < self.lists[run.order() as usize].capacity());
        self.lists[run.order() as usize].push(run);
    }
    /// Gives a batch of the coldest blocks to `out`.
    pub(super) fn drain(&mut self, order: u32, out: impl FnMut(FreeRun)) {
        let l = &mut self.lists[order as usize];
        let n = (self.batch >> order).max(1).min(l.len());
        l.drain(..n).for_each(out);
    }
    /// Gives everything to `out`.
    pub(super) fn take_all(&mut self, mut out: impl FnMut(FreeRun)) {
        self.lists.iter_mut().for_each(|l| l.drain(..).for_each(&mut out));
    }
    pub(super) fn pages(&self) -> u64 {
        self.lists.iter().enumerate().map(|(o, l)| (l.len() as u64) << o).sum()
    }
}
