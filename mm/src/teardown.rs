//! Taking pages out of an address space: `munmap`, truncation, exit, the OOM reaper.
//!
//! Pages go through a [`TlbBatch`]: all processors forget the translations first, then the pages are freed. Counters change as
//! entries go, before the call returns, so `VmRSS` and `AnonPages` are exact.

use alloc::vec::Vec;
use core::ops::Range;

use frame::{
    atomic::{AtomicI64, Ordering},
    page::{self, Page},
    paging::{Entry, Flags, Mapping, PageTable, TlbBatch},
};

use crate::{
    Mm, PAGE_SIZE, TASK_SIZE, VmFlags,
    mm::{OOM_SKIP, OOM_UNSTABLE, RssKind},
    overcommit, stat,
};

/// Which pages of a range go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Zap {
    All,
    /// Only the object's own pages; private copies stay.
    Shared,
}

/// Bits of [`Page::flags`] that this crate gives meaning to.
pub(crate) mod page_flags {
    /// Belongs to address spaces only: a private copy or zero-filled memory.
    pub(crate) const ANON: u64 = 1;
    /// Belongs to a memory file system or shared anonymous memory.
    pub(crate) const SHMEM: u64 = 2;
}

/// How a page counts.
#[inline]
pub(crate) fn kind_of(p: &Page) -> RssKind {
    match p.flags.load(Ordering::Relaxed) & 3 {
        page_flags::ANON => RssKind::Anon,
        page_flags::SHMEM => RssKind::Shmem,
        _ => RssKind::File,
    }
}

/// Notes one more mapping of a page.
#[inline]
pub(crate) fn mapped(p: &Page, kind: RssKind) {
    if p.mapcount.fetch_add(1, Ordering::Relaxed) == 0 {
        stat::add(if kind == RssKind::Anon { stat::Item::AnonMapped } else { stat::Item::FileMapped }, 1);
    }
}
/// Notes one mapping less.
#[inline]
pub(crate) fn unmapped(p: &Page, kind: RssKind) {
    if p.mapcount.fetch_sub(1, Ordering::Relaxed) == 1 {
        stat::add(if kind == RssKind::Anon { stat::Item::AnonMapped } else { stat::Item::FileMapped }, -1);
    }
}

/// The page behind an entry that counts; `None` for the zero page and the like.
#[inline]
pub(crate) fn counted(m: &Mapping) -> Option<&'static Page> {
    if m.flags.contains(Flags::SPECIAL) { None } else { page::page(m.pfn) }
}

/// Pages unmapped under one hold of the table lock: others wait that long at most, and one batch holds their list.
const STRETCH: usize = 1024 * PAGE_SIZE;

/// Counts what leaves.
#[derive(Default)]
struct Gone {
    /// Entries, by kind.
    entries: [i64; 3],
    /// Pages whose last mapping went: anonymous ones and others.
    anon: i64,
    other: i64,
}

impl Gone {
    #[inline]
    fn entry(&mut self, e: Entry) {
        if let Entry::Page(m) = e
            && let Some(p) = counted(&m)
        {
            let kind = kind_of(p);
            self.entries[kind as usize] += 1;
            if p.mapcount.fetch_sub(1, Ordering::Relaxed) == 1 {
                let n = if kind == RssKind::Anon { &mut self.anon } else { &mut self.other };
                *n += 1;
            }
        }
    }
    fn settle(&self, rss: &[AtomicI64; 3]) {
        for (c, n) in rss.iter().zip(self.entries) {
            if n != 0 {
                c.fetch_sub(n, Ordering::Relaxed);
            }
        }
        for (item, n) in [(stat::Item::AnonMapped, self.anon), (stat::Item::FileMapped, self.other)] {
            if n != 0 {
                stat::add(item, -n);
            }
        }
    }
}

/// Unmaps a whole user half.
pub(crate) fn zap_all(pt: &PageTable, rss: &[AtomicI64; 3]) {
    zap_pages(pt, rss, 0..TASK_SIZE);
}

fn zap_pages(pt: &PageTable, rss: &[AtomicI64; 3], range: Range<usize>) {
    let mut gone = Gone::default();
    let mut batch = TlbBatch::new(pt);
    if range.len() <= STRETCH || range.end == TASK_SIZE {
        // At exit nobody else wants the lock, and empty stretches are skipped by whole tables.
        pt.lock().unmap_range_with(range, &mut batch, |_, e| gone.entry(e));
    } else {
        let mut at = range.start;
        while at < range.end {
            let mut c = pt.lock();
            let Some(first) = c.next_table(at, range.end) else { break };
            at = (first + STRETCH).min(range.end);
            c.unmap_range_with(first..at, &mut batch, |_, e| gone.entry(e));
        }
    }
    batch.flush();
    gone.settle(rss);
}

impl Mm {
    /// Unmaps pages. The caller holds the region lock, either way.
    pub(crate) fn zap(&self, range: Range<usize>, which: Zap) {
        self.note_peak();
        if which == Zap::All {
            return zap_pages(&self.pt, self.rss_cells(), range);
        }
        let mut gone = Gone::default();
        let mut batch = TlbBatch::new(&self.pt);
        let mut at = range.start;
        while at < range.end {
            let mut shared = [0usize; 64];
            let mut n = 0;
            let mut c = self.pt.lock();
            let Some(first) = c.next_table(at, range.end) else { break };
            at = first;
            let end = (at + 64 * PAGE_SIZE).min(range.end);
            c.for_each_mapped(at..end, |va, m| {
                if counted(m).is_some_and(|p| kind_of(p) != RssKind::Anon) {
                    shared[n] = va;
                    n += 1;
                }
            });
            for &va in &shared[..n] {
                gone.entry(c.unmap(va, &mut batch));
            }
            at = end;
        }
        batch.flush();
        gone.settle(self.rss_cells());
    }

    /// The last program that used this address space is gone (or executes another file): everything is unmapped, all promises
    /// are taken back. Others that hold the `Mm` find it empty. Sleeps.
    pub fn release(&self) {
        self.note_peak();
        let mut space = self.space.write();
        if space.is_released {
            return;
        }
        space.is_released = true;
        zap_all(&self.pt, self.rss_cells());
        let vmas = core::mem::replace(&mut space.vmas, crate::vma_tree::VmaTree::new());
        space.total_vm = 0;
        (space.data_vm, space.exec_vm, space.stack_vm, space.locked_vm) = (0, 0, 0, 0);
        drop(space);
        let promised: usize =
            vmas.iter().filter(|v| v.flags.contains(VmFlags::ACCOUNT)).map(|v| v.pages()).sum();
        overcommit::uncharge(promised);
        // Files are let go of without the lock: the last reference may have to do much.
        drop(vmas);
        self.oom.fetch_or(OOM_SKIP, Ordering::Relaxed);
    }

    /// Takes all private memory from a program that has been killed, before it gets to do so itself. False if its region lock is
    /// busy. From here on its faults fail: a page that was taken must not come back as zeroes and be copied somewhere.
    pub(crate) fn reap(&self) -> bool {
        let Some(space) = self.space.try_read() else { return false };
        self.oom.fetch_or(OOM_UNSTABLE, Ordering::SeqCst);
        for v in space.vmas.iter() {
            if v.is_private() && !v.flags.intersects(VmFlags::PFNMAP | VmFlags::LOCKED) {
                self.zap(v.start..v.end, Zap::All);
            }
        }
        drop(space);
        self.oom.fetch_or(OOM_SKIP, Ordering::Relaxed);
        true
    }
}

/// Regions that have left the tree; their files are let go of when the region lock is no longer held.
pub(crate) type Removed = Vec<crate::Vma>;
