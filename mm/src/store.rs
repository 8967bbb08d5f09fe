//! Pages by index, made when first used: shared anonymous memory, and what memory file systems build on.

use alloc::sync::Arc;
use core::{fmt, ops::Range};

use base::{Errno, Result};
use frame::{
    atomic::{AtomicU64, Ordering},
    containers::XArray,
    page::{self, AllocFlags, PageRef},
    sync::{LockClass, SpinLock},
};

use crate::{MapIdent, MapObject, PAGE_SHIFT, overcommit, page_align, stat, teardown::page_flags};

static CLASS: LockClass = LockClass::new("page_store");

/// A sparse array of pages that live nowhere else. They count as shared memory.
pub struct PageStore {
    pages: SpinLock<XArray<PageRef>>,
    count: AtomicU64,
}

impl Default for PageStore {
    fn default() -> Self {
        Self::new()
    }
}

/// A page joins the shared memory of the system, as part of a file without a disk: it counts as `Shmem` and `Cached`, and as
/// `RssShmem` where it is mapped. Call it before the page can be found.
pub fn enter_shmem(page: &PageRef, index: u64) {
    page.page().flags.store(page_flags::SHMEM, Ordering::Relaxed);
    page.page().index.store(index, Ordering::Relaxed);
    stat::add(stat::Item::Shmem, 1);
    stat::add(stat::Item::FilePages, 1);
}
/// `n` pages have left it.
pub fn leave_shmem(n: u64) {
    stat::add(stat::Item::Shmem, -(n as i64));
    stat::add(stat::Item::FilePages, -(n as i64));
}

impl PageStore {
    pub const fn new() -> Self {
        Self { pages: SpinLock::new(&CLASS, XArray::new()), count: AtomicU64::new(0) }
    }
    /// The page at `index`, if it has been made.
    pub fn get(&self, index: u64) -> Option<PageRef> {
        self.pages.lock().get(index)
    }
    /// The page at `index`; a zeroed one is made if there is none.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn get_or_zero(&self, index: u64) -> Result<PageRef> {
        if let Some(p) = self.get(index) {
            return Ok(p);
        }
        let new =
            page::alloc_page(AllocFlags::USER | AllocFlags::ZERO | AllocFlags::MOVABLE | AllocFlags::NOWARN)
                .ok_or(Errno::ENOMEM)?;
        let mut pages = self.pages.lock();
        if let Some(p) = pages.get(index) {
            return Ok(p);
        }
        pages.insert(index, new.clone()).map_err(|_| Errno::ENOMEM)?;
        drop(pages);
        self.count.fetch_add(1, Ordering::Relaxed);
        enter_shmem(&new, index);
        Ok(new)
    }
    /// Lets go of the pages of `range`; how many there were. Unmap them afterwards (see [`crate::object`]).
    pub fn remove(&self, range: Range<u64>) -> u64 {
        let mut n = 0;
        let mut at = range.start;
        loop {
            let gone = {
                let mut pages = self.pages.lock();
                match pages.next(at) {
                    Some((i, _)) if i < range.end => {
                        at = i;
                        pages.remove(i)
                    }
                    _ => break,
                }
            };
            n += u64::from(gone.is_some());
        }
        self.count.fetch_sub(n, Ordering::Relaxed);
        leave_shmem(n);
        n
    }
    /// Lets go of all pages from `from` on.
    pub fn truncate(&self, from: u64) -> u64 {
        self.remove(from..u64::MAX)
    }
    /// How many pages there are.
    pub fn pages(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
    /// Hands out the pages of `range` that are there, for [`MapObject::map_around`].
    pub fn each(&self, range: Range<u64>, f: &mut dyn FnMut(u64, PageRef) -> bool) {
        let pages = self.pages.lock();
        let mut at = range.start;
        while let Some((i, p)) = pages.next(at) {
            if i >= range.end || !f(i, p) {
                return;
            }
            at = i + 1;
        }
    }
}

impl Drop for PageStore {
    fn drop(&mut self) {
        self.truncate(0);
    }
}

static NEXT_INO: AtomicU64 = AtomicU64::new(1);

/// `MAP_SHARED | MAP_ANONYMOUS`: memory that a program shares with its children.
pub struct SharedAnon {
    store: PageStore,
    size: u64,
    promised: usize,
    ino: u64,
}

impl SharedAnon {
    /// `len` bytes. With `reserve` the pages are promised at once.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(len: usize, reserve: bool, is_admin: bool) -> Result<Arc<SharedAnon>> {
        let pages = page_align(len) >> PAGE_SHIFT;
        let promised = if reserve { pages } else { 0 };
        overcommit::charge(promised, 0, is_admin)?;
        let ino = NEXT_INO.fetch_add(1, Ordering::Relaxed);
        // From here on the promise is taken back by drop, also if there is no memory for the box.
        let object =
            SharedAnon { store: PageStore::new(), size: (pages as u64) << PAGE_SHIFT, promised, ino };
        frame::heap::try_arc(object).ok_or(Errno::ENOMEM)
    }
}

impl Drop for SharedAnon {
    fn drop(&mut self) {
        overcommit::uncharge(self.promised);
    }
}

impl MapObject for SharedAnon {
    fn page(&self, index: u64, _write: bool) -> Result<PageRef> {
        if index >= self.size >> PAGE_SHIFT {
            return Err(Errno::ENXIO);
        }
        self.store.get_or_zero(index)
    }
    fn size(&self) -> u64 {
        self.size
    }
    fn ident(&self) -> MapIdent {
        // Linux's internal tmpfs mount is the first anonymous device.
        MapIdent { dev: (0, 1), ino: self.ino }
    }
    fn path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("/dev/zero (deleted)")
    }
    fn is_shmem(&self) -> bool {
        true
    }
    fn map_around(&self, range: Range<u64>, each: &mut dyn FnMut(u64, PageRef) -> bool) {
        self.store.each(range, each);
    }
    fn is_resident(&self, index: u64) -> bool {
        self.store.get(index).is_some()
    }
}
