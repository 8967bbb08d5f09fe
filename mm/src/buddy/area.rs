//! The buddy lists of one zone. They link frame numbers through the pages' own words, so they need no memory.

use frame::{
    atomic::Ordering,
    page::{self, FreeRun, MAX_ORDER, Page, Pfn},
};

/// Frame 0 is never given out, so it ends lists.
const NONE: u32 = 0;
const ORDERS: usize = MAX_ORDER as usize + 1;

/// Free blocks by order, within one zone.
pub(super) struct FreeArea {
    start: Pfn,
    end: Pfn,
    heads: [u32; ORDERS],
    counts: [u64; ORDERS],
}

fn at(pfn: u32) -> Option<&'static Page> {
    if pfn == NONE { None } else { page::page(Pfn::from(pfn)) }
}

impl FreeArea {
    pub(super) const fn new(start: Pfn, end: Pfn) -> Self {
        Self { start, end, heads: [NONE; ORDERS], counts: [0; ORDERS] }
    }
    pub(super) fn blocks(&self) -> [u64; ORDERS] {
        self.counts
    }

    /// Puts a block on its list, joined with its free buddies.
    pub(super) fn put(&mut self, mut run: FreeRun) {
        while run.order() < MAX_ORDER {
            let order = run.order();
            let buddy = run.pfn() ^ (1 << order);
            if buddy < self.start
                || buddy >= self.end
                || !page::page(buddy).is_some_and(|p| p.is_free() && p.order() == order)
            {
                break;
            }
            let Some(other) = FreeRun::claim(buddy, order) else { break };
            self.unlink(buddy as u32, order as usize);
            match FreeRun::join(run, other) {
                Ok(joined) => run = joined,
                Err((a, b)) => {
                    // Not reached: they are buddies. Both stay free.
                    self.link(b);
                    run = a;
                    break;
                }
            }
        }
        self.link(run);
    }

    /// A block of exactly this order, split off a larger one if need be.
    pub(super) fn take(&mut self, order: u32) -> Option<FreeRun> {
        let from = (order as usize..ORDERS).find(|&o| self.heads[o] != NONE)?;
        let head = self.heads[from];
        let mut run = FreeRun::claim(Pfn::from(head), from as u32)?;
        self.unlink(head, from);
        while run.order() > order {
            match run.split() {
                Ok((low, high)) => {
                    self.link(high);
                    run = low;
                }
                Err(whole) => return Some(whole),
            }
        }
        Some(run)
    }

    fn link(&mut self, run: FreeRun) {
        let order = run.order() as usize;
        let pfn = run.into_free_entry() as u32;
        let old = self.heads[order];
        if let Some(p) = at(pfn) {
            p.prev.store(NONE, Ordering::Relaxed);
            p.next.store(old, Ordering::Relaxed);
        }
        if let Some(o) = at(old) {
            o.prev.store(pfn, Ordering::Relaxed);
        }
        self.heads[order] = pfn;
        self.counts[order] += 1;
    }

    fn unlink(&mut self, pfn: u32, order: usize) {
        let Some(p) = at(pfn) else { return };
        let (prev, next) = (p.prev.load(Ordering::Relaxed), p.next.load(Ordering::Relaxed));
        match at(prev) {
            Some(q) => q.next.store(next, Ordering::Relaxed),
            None => self.heads[order] = next,
        }
        if let Some(n) = at(next) {
            n.prev.store(prev, Ordering::Relaxed);
        }
        self.counts[order] -= 1;
    }
}
