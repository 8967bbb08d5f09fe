//! Page frames: who owns each one, how often it is referenced, and what is in it.
//!
//! Each frame of RAM has one 64-byte [`Page`] in a flat array. Two words of it are `frame`'s own, the reference count and the
//! *kind word*; the others are plain atomics whose meaning `mm` decides. `page(pfn)` works for any number, so that lists which link
//! frame numbers (LRU, buddy, compaction, KSM) need no `unsafe`: a wrong number finds a wrong page, never a wrong address.
//!
//! # Ownership
//! The kind word of a run's first frame (its *head*) says who has the run; every change is one atomic step that checks the state
//! it leaves, so that safe code can neither have a frame twice nor free it twice, whatever the policy above does.
//!
//! ```text
//!              into_free_entry                     into_page
//!       FREE ◄──────────────── HELD (a FreeRun) ──────────────► PAGE (PageRefs, counted)
//!            ────────────────►   │  ▲  split, join  ◄──────────      last drop, try_unwrap
//!                 claim          │  │
//!                                ▼  │  (inside frame only; reference count stays 0)
//!                          TABLE, SLAB, LARGE
//! ```
//! The other frames of a run say `TAIL` with the order of the page that they belong to; in a free run that order may be stale,
//! which [`PageRef::try_from_pfn`] finds out by asking the head after it has a reference.
//!
//! # Before `mm`
//! `init` takes the array from early memory, and a first-fit allocator over early memory serves until `mm` installs a
//! [`PageAllocator`]. `mm` calls [`install_allocator`], then [`take_boot_memory`] and frees every run of it into itself.
//!
//! # Contents
//! Only by copying. User space and devices may write at any time, so no reference into a page is ever given out.

use core::sync::atomic::{AtomicPtr as CorePtr, AtomicU64 as CoreU64};

use crate::{
    arch,
    atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering},
};

mod alloc;
mod boot;
mod contents;
pub(crate) mod copy;
pub(crate) mod lock;
mod refs;
mod run;
#[cfg(test)]
mod tests;

pub use alloc::{AllocFlags, PageAllocator, alloc_page, alloc_pages, install_allocator};
pub(crate) use alloc::{alloc_run, free as free_run};
pub(crate) use boot::init;
pub use boot::{read_phys, take_boot_memory, take_initrd_memory};
pub use refs::{Immortal, PageRef};
pub use run::FreeRun;

/// A page frame number: a physical address divided by [`PAGE_SIZE`].
pub type Pfn = u64;

pub const PAGE_SHIFT: u32 = 12;
/// Bytes of a page frame.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
/// The largest run is `2^MAX_ORDER` frames, 4 MiB, as Linux's buddy allocator has it.
pub const MAX_ORDER: u32 = 10;

/// What is known about one page frame. The public words belong to `mm`; `frame` never reads them.
#[repr(C, align(64))]
pub struct Page {
    refs: AtomicU32,
    kind: AtomicU32,
    pub flags: AtomicU64,
    pub mapping: AtomicU64,
    pub index: AtomicU64,
    pub private: AtomicU64,
    pub mapcount: AtomicI32,
    pub next: AtomicU32,
    pub prev: AtomicU32,
    pub extra: AtomicU32,
    /// What the owner inside `frame` keeps with a run: see `heap::slab`.
    owner: AtomicU64,
}
const _: () = assert!(size_of::<Page>() == 64);

/// Who has a frame. All zeroes is `Tail` of order 0: also what holes and firmware memory say, so a fresh array needs no set-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Not the head of anything.
    Tail = 0,
    /// A [`FreeRun`] value has it.
    Held = 1,
    /// Free, in the allocator's books; nobody has a value for it.
    Free = 2,
    /// [`PageRef`]s have it.
    Page = 3,
    /// A page table.
    Table = 4,
    /// Objects of the heap.
    Slab = 5,
    /// One large block of the heap.
    Large = 6,
}

/// A kind word: kind in bits 0..8, order in bits 8..16, the owner's count in bits 16..32.
pub(crate) const fn word(kind: Kind, order: u32) -> u32 {
    kind as u32 | order << 8
}
const ORDER_SHIFT: u32 = 8;
const AUX_SHIFT: u32 = 16;

impl Page {
    /// A frame that nobody has.
    #[cfg(test)]
    pub(crate) const fn empty() -> Self {
        Self {
            refs: AtomicU32::new(0),
            kind: AtomicU32::new(0),
            flags: AtomicU64::new(0),
            mapping: AtomicU64::new(0),
            index: AtomicU64::new(0),
            private: AtomicU64::new(0),
            mapcount: AtomicI32::new(0),
            next: AtomicU32::new(0),
            prev: AtomicU32::new(0),
            extra: AtomicU32::new(0),
            owner: AtomicU64::new(0),
        }
    }

    /// The frame's number.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        let base = ARRAY.load(Ordering::Relaxed) as usize;
        ((core::ptr::from_ref(self) as usize - base) / size_of::<Page>()) as Pfn
    }
    /// Counted references; 0 for free frames and for those that `frame` itself uses.
    #[inline]
    pub fn refs(&self) -> u32 {
        self.refs.load(Ordering::Relaxed)
    }
    /// True if this is the head of an allocated page that can be referenced.
    #[inline]
    pub fn is_allocated(&self) -> bool {
        self.kind.load(Ordering::Acquire) & 0xff == Kind::Page as u32
    }
    /// True if this is the head of a run that [`FreeRun::into_free_entry`] put away, and not claimed since.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.kind.load(Ordering::Acquire) & 0xff == Kind::Free as u32
    }
    /// True if a page table, the heap, or a part of it lives here: never movable.
    pub fn is_kernel(&self) -> bool {
        matches!(self.kind.load(Ordering::Acquire) & 0xff, 4..=6)
    }
    /// Order of the run that this frame heads (or, for a tail, belonged to when that run was last a page).
    #[inline]
    pub fn order(&self) -> u32 {
        self.kind.load(Ordering::Acquire) >> ORDER_SHIFT & 0xff
    }

    /// The owner's count. Only whoever holds the owner's lock calls the functions below.
    #[inline]
    pub(crate) fn aux(&self) -> u32 {
        self.kind.load(Ordering::Relaxed) >> AUX_SHIFT
    }
    /// Adds to the owner's count (wrapping, so that adding a negative number works) and gives the new one.
    #[inline]
    pub(crate) fn aux_add(&self, n: i32) -> u32 {
        let w = self.kind.load(Ordering::Relaxed).wrapping_add((n as u32) << AUX_SHIFT);
        self.kind.store(w, Ordering::Relaxed);
        w >> AUX_SHIFT
    }
    #[inline]
    pub(crate) fn owner(&self) -> u64 {
        self.owner.load(Ordering::Relaxed)
    }
    #[inline]
    pub(crate) fn set_owner(&self, v: u64) {
        self.owner.store(v, Ordering::Relaxed);
    }
    #[cfg(test)]
    pub(crate) fn kind_word(&self) -> u32 {
        self.kind.load(Ordering::Relaxed)
    }
}

/// The array and its length. `core`'s atomics: both are set once, before there is anything to race with.
static ARRAY: CorePtr<Page> = CorePtr::new(core::ptr::null_mut());
static MAX_PFN: CoreU64 = CoreU64::new(0);

/// One more than the largest frame number of RAM.
#[inline]
pub fn max_pfn() -> Pfn {
    MAX_PFN.load(Ordering::Relaxed)
}

/// The metadata of a frame. `None` from [`max_pfn`] on. Below it, holes have metadata too, which say that nobody has them.
#[inline]
pub fn page(pfn: Pfn) -> Option<&'static Page> {
    if pfn >= max_pfn() {
        return None;
    }
    // SAFETY: `init` made the array with `MAX_PFN` zeroed elements, never freed; all-zero atomics are valid.
    Some(unsafe { &*ARRAY.load(Ordering::Relaxed).add(pfn as usize) })
}

/// The metadata of a frame that is known to be RAM.
#[inline]
pub(crate) fn page_at(pfn: Pfn) -> &'static Page {
    page(pfn).expect("frame number beyond RAM")
}

/// Where a frame's contents are.
#[inline]
pub(crate) fn frame_ptr(pfn: Pfn) -> *mut u8 {
    arch::phys_to_ptr(pfn << PAGE_SHIFT)
}
