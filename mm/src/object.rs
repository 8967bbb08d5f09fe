//! What can be mapped into an address space.
//!
//! A file system gives a [`MapObject`] for a file. Its pages are page-cache pages: the object and every mapping hold a
//! reference each. When a file shrinks, its owner first stores the new size, then takes the pages out of its cache,
//! then calls [`Mappings::unmap`]. A fault holds the region lock for reading from the look-up of the page until it is
//! mapped, and `unmap` takes that lock for writing, so no mapping of a removed page can survive it.

use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};
use core::{fmt, ops::Range};

use base::{Errno, Result};
use frame::{
    page::{Immortal, PageRef},
    sync::{LockClass, Mutex},
};

use crate::{Mm, PAGE_SHIFT, vma::same_object};

/// What `/proc/PID/maps` says about a mapped file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MapIdent {
    /// Device: major, minor.
    pub dev: (u32, u32),
    pub ino: u64,
}

/// Something that has pages by index. Implemented by files; called in task context, where sleeping is allowed.
pub trait MapObject: Send + Sync + 'static {
    /// The page at `index`, read in and up to date; made if the object is sparse there. `write` says that a shared
    /// mapping is about to write to it.
    ///
    /// # Errors
    /// `ENXIO` beyond the end, `EIO` and others where it cannot be read: the program gets SIGBUS. `ENOMEM`: the OOM killer is asked.
    fn page(&self, index: u64, write: bool) -> Result<PageRef>;
    /// Length in bytes.
    fn size(&self) -> u64;
    fn ident(&self) -> MapIdent;
    /// Writes the path as `/proc/PID/maps` shows it.
    fn path(&self, out: &mut dyn fmt::Write) -> fmt::Result;
    /// A shared mapping is about to make page `index` writable: mark it dirty, reserve space.
    fn mkwrite(&self, _index: u64) -> Result<()> {
        Ok(())
    }
    /// True if `mkwrite` must see the first write to each clean page; false (memory file systems) maps pages writable at once.
    fn tracks_dirty(&self) -> bool {
        false
    }
    /// The pages count as shared memory (tmpfs, `SharedAnon`), not as file cache.
    fn is_shmem(&self) -> bool {
        false
    }
    /// The page at `index`, if it never goes away and is not to be counted. Then [`MapObject::page`] is not asked for mappings. A region
    /// of such an object is `PFNMAP` and can never be written.
    fn special(&self, _index: u64) -> Option<Immortal> {
        None
    }
    /// Hands out those pages of `range` that are there and up to date, without sleeping, until `each` returns false.
    /// For mapping the surroundings of a read fault; doing nothing is correct.
    fn map_around(&self, _range: Range<u64>, _each: &mut dyn FnMut(u64, PageRef) -> bool) {}
    /// True if page `index` is in memory, for `mincore`.
    fn is_resident(&self, _index: u64) -> bool {
        false
    }
    /// Brings pages `range` to stable storage, for `msync(MS_SYNC)`.
    fn sync(&self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }
    /// Frees the pages and the room of `range` (`MADV_REMOVE`).
    fn punch_hole(&self, _range: Range<u64>) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// Where the object keeps the address spaces that map it; `None` if it never shrinks.
    fn mappings(&self) -> Option<&Mappings> {
        None
    }
    /// Set by the owner if the pages are written back by `fsync`-like means; shown by nobody. Lets `process` compare an
    /// executable with a mapping.
    fn as_any(&self) -> Option<&dyn core::any::Any> {
        None
    }
}

static MAPPINGS: LockClass = LockClass::new("i_mmap");

/// The address spaces that map an object. Entries may be stale; they are dropped when noticed.
pub struct Mappings {
    mms: Mutex<List>,
}

struct List {
    mms: Vec<Weak<Mm>>,
    /// Calls of [`Mappings::unmap`] that are under way: nothing may move meanwhile, or one would be passed over. Additions come last, so a
    /// child that fork copies pages into is always visited after its parent was looked for.
    walkers: usize,
}

impl Default for Mappings {
    fn default() -> Self {
        Self::new()
    }
}

impl Mappings {
    pub const fn new() -> Self {
        Self { mms: Mutex::new(&MAPPINGS, List { mms: Vec::new(), walkers: 0 }) }
    }

    /// Notes that `mm` maps the object.
    pub(crate) fn add(&self, mm: &Weak<Mm>) -> Result<()> {
        let mut list = self.mms.lock();
        let List { mms, walkers } = &mut *list;
        // The last one added is the likeliest.
        if mms.iter().rev().any(|m| Weak::ptr_eq(m, mm)) {
            return Ok(());
        }
        if mms.len() == mms.capacity() {
            if *walkers == 0 {
                mms.retain(|m| m.strong_count() != 0);
            }
            mms.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        }
        mms.push(mm.clone());
        Ok(())
    }

    /// True if no address space maps it (as far as is known).
    pub fn is_empty(&self) -> bool {
        self.mms.lock().mms.iter().all(|m| m.strong_count() == 0)
    }

    /// Removes the pages `range` of `object` from every address space; `even_private` also removes the private copies that were
    /// made from them, as truncation must. Sleeps.
    pub fn unmap(&self, object: &Arc<dyn MapObject>, range: Range<u64>, even_private: bool) {
        let mut i = 0;
        self.mms.lock().walkers += 1;
        loop {
            // One at a time: the region lock is outside this one.
            let next = {
                let mut list = self.mms.lock();
                loop {
                    match list.mms.get(i) {
                        None => {
                            list.walkers -= 1;
                            break None;
                        }
                        Some(m) => match m.upgrade() {
                            None => i += 1,
                            Some(mm) => break Some(mm),
                        },
                    }
                }
            };
            let Some(mm) = next else { return };
            mm.unmap_object(object, range.clone(), even_private);
            i += 1;
        }
    }
}

impl Mm {
    fn unmap_object(&self, object: &Arc<dyn MapObject>, range: Range<u64>, even_private: bool) {
        let space = self.space.write();
        let object = Some(object.clone());
        for v in space.vmas.iter() {
            if !same_object(&v.file, &object) {
                continue;
            }
            let last = v.pgoff + v.pages() as u64;
            let (from, to) = (range.start.max(v.pgoff), range.end.min(last));
            if from < to {
                let at = |i: u64| v.start + (((i - v.pgoff) as usize) << PAGE_SHIFT);
                self.zap(
                    at(from)..at(to),
                    if even_private { crate::teardown::Zap::All } else { crate::teardown::Zap::Shared },
                );
            }
        }
    }
}
