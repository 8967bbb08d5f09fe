//! One region of an address space: pages with the same permissions and the same origin.

use alloc::sync::Arc;

use frame::atomic::{AtomicU64, Ordering};

use crate::{MapObject, PAGE_SHIFT, VmFlags};

/// The family of private pages that a region belongs to; 0 is "none yet".
///
/// Two regions whose private pages come from different families do not merge, as on Linux, where a family is an
/// `anon_vma`: programs see this as separate lines in `/proc/PID/maps`. The lowest bit says that the region was
/// inherited by fork: such a region merges only within its own family.
#[derive(Debug)]
pub(crate) struct AnonFamily(AtomicU64);

static NEXT_FAMILY: AtomicU64 = AtomicU64::new(1);
const INHERITED: u64 = 1;

impl AnonFamily {
    pub(crate) const fn none() -> Self {
        Self(AtomicU64::new(0))
    }
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.get() == 0
    }
    /// Joins `with`, or founds a new family; nothing if there is one already. Faults call this at the same time, with the
    /// region lock held for reading.
    #[cold]
    pub(crate) fn found(&self, with: Option<u64>) {
        let id = with.unwrap_or_else(|| NEXT_FAMILY.fetch_add(1, Ordering::Relaxed) << 1);
        // Whoever is first decides; the others find a family.
        let _ = self.0.compare_exchange(0, id, Ordering::Relaxed, Ordering::Relaxed);
    }
    /// The family, if others may join it.
    pub(crate) fn shareable(&self) -> Option<u64> {
        let f = self.get();
        (f != 0 && f & INHERITED == 0).then_some(f)
    }
    pub(crate) fn copy(&self) -> Self {
        Self(AtomicU64::new(self.get()))
    }
    /// What a forked child gets: a family of its own.
    pub(crate) fn inherit(&self) -> Self {
        if self.is_none() {
            return Self::none();
        }
        Self(AtomicU64::new(NEXT_FAMILY.fetch_add(1, Ordering::Relaxed) << 1 | INHERITED))
    }
}

/// One region: `start..end`, page aligned, never empty.
#[derive(Debug)]
pub struct Vma {
    pub start: usize,
    pub end: usize,
    pub flags: VmFlags,
    /// Page index of `start` in the file; for private anonymous memory the page number at which it was first mapped.
    pub pgoff: u64,
    pub(crate) file: Option<Arc<dyn MapObject>>,
    pub(crate) anon: AnonFamily,
}

impl core::fmt::Debug for dyn MapObject {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let id = self.ident();
        write!(f, "{}:{} inode {}", id.dev.0, id.dev.1, id.ino)
    }
}

impl Vma {
    pub(crate) fn new(
        start: usize,
        end: usize,
        flags: VmFlags,
        pgoff: u64,
        file: Option<Arc<dyn MapObject>>,
    ) -> Vma {
        debug_assert!(start < end);
        Vma { start, end, flags, pgoff, file, anon: AnonFamily::none() }
    }
    /// Its length in pages.
    #[inline]
    pub fn pages(&self) -> usize {
        (self.end - self.start) >> PAGE_SHIFT
    }
    #[inline]
    pub fn contains(&self, va: usize) -> bool {
        self.start <= va && va < self.end
    }
    /// What is mapped; `None` for private anonymous memory.
    pub fn object(&self) -> Option<&Arc<dyn MapObject>> {
        self.file.as_ref()
    }
    /// Page index in the object of the page at `va`.
    #[inline]
    pub fn index_of(&self, va: usize) -> u64 {
        self.pgoff + ((va - self.start) >> PAGE_SHIFT) as u64
    }
    /// Writes go to copies that belong to this address space.
    #[inline]
    pub fn is_private(&self) -> bool {
        !self.flags.contains(VmFlags::MAYSHARE)
    }

    /// The upper part from `at` on; this region keeps the lower one.
    pub(crate) fn split_off(&mut self, at: usize) -> Vma {
        debug_assert!(self.start < at && at < self.end);
        let upper = Vma {
            start: at,
            end: self.end,
            flags: self.flags,
            pgoff: self.index_of(at),
            file: self.file.clone(),
            anon: self.anon.copy(),
        };
        self.end = at;
        upper
    }

    /// True if `next`, which begins where this one ends, could be one region with it. `grown` is the one that existed
    /// before: its family decides whether a region without one may join.
    pub(crate) fn can_join(&self, next: &Vma, grown: &Vma) -> bool {
        self.end == next.start
            && self.flags == next.flags
            && same_object(&self.file, &next.file)
            && self.pgoff + self.pages() as u64 == next.pgoff
            && families_agree(self.anon.get(), next.anon.get(), grown.anon.get())
    }
    /// A copy for a forked child.
    pub(crate) fn for_child(&self) -> Vma {
        Vma {
            start: self.start,
            end: self.end,
            flags: self.flags - VmFlags::LOCKED - VmFlags::LOCKONFAULT,
            pgoff: self.pgoff,
            file: self.file.clone(),
            anon: self.anon.inherit(),
        }
    }
}

/// Linux's rule: equal families agree; a missing one agrees with any that was not inherited from a parent.
fn families_agree(a: u64, b: u64, grown: u64) -> bool {
    a == b || ((a == 0 || b == 0) && grown & INHERITED == 0)
}

/// The same object, or none on both sides.
pub(crate) fn same_object(a: &Option<Arc<dyn MapObject>>, b: &Option<Arc<dyn MapObject>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => core::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b)),
        _ => false,
    }
}
