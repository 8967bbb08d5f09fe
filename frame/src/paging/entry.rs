//! The bits of a table entry (Intel SDM volume 3, 4.5), and what they mean to `mm`.
//!
//! ```text
//!   present   63 NX | 52,53 for mm | 51..12 frame | 11,10,9 for mm | 6 D | 5 A | 4,3 cache | 2 user | 1 write | 0 = 1
//!   hidden    as above, with bit 0 = 0 and bit 8 = 1: no access, but the page is still owned (PROT_NONE)
//!   swap      bits 63..10 value | bit 8 = 0 | bit 1 = 1 | bit 0 = 0
//! ```

use core::sync::atomic::{AtomicU64, Ordering};

use crate::page::{PAGE_SHIFT, Pfn, frame_ptr};

bitflags::bitflags! {
    /// How a page is mapped. The bits are those of the entry, except that `EXEC` is stored inverted.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Flags: u64 {
        /// Without any of `READ`, `WRITE`, `EXEC` the page is kept but cannot be touched.
        const READ    = 1 << 0;
        const WRITE   = 1 << 1;
        const USER    = 1 << 2;
        /// Uncached, strongly ordered.
        const NOCACHE = 1 << 3 | 1 << 4;
        const ACCESSED = 1 << 5;
        const DIRTY   = 1 << 6;
        /// For `mm`: the page is shared until written. `protect_range` leaves such entries read-only.
        const COW     = 1 << 9;
        /// The entry owns no reference: see [`Cursor::map_special`](super::Cursor::map_special), the only way to set it.
        const SPECIAL = 1 << 10;
        /// For `mm`.
        const SOFT    = 1 << 11;
        /// For `mm`: write-protected for `userfaultfd`.
        const UFFD_WP = 1 << 52;
        /// For `mm`: written since the last look of `/proc/PID/clear_refs`.
        const SOFT_DIRTY = 1 << 53;
        const EXEC    = 1 << 63;
    }
}

pub(crate) const P: u64 = 1;
pub(crate) const W: u64 = 1 << 1;
pub(crate) const U: u64 = 1 << 2;
pub(crate) const A: u64 = 1 << 5;
pub(crate) const D: u64 = 1 << 6;
const HIDDEN: u64 = 1 << 8;
pub(crate) const SPECIAL: u64 = 1 << 10;
const NX: u64 = 1 << 63;
const SWAP: u64 = 1 << 1;
const SWAP_SHIFT: u32 = 10;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// What an entry that points to a lower table says: everything is decided by the leaf.
pub(crate) const TABLE: u64 = P | W | U;

/// Swap values are below this.
pub const MAX_SWAP: u64 = 1 << (64 - SWAP_SHIFT);

/// One mapped page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    pub pfn: Pfn,
    pub flags: Flags,
}

impl Mapping {
    #[inline]
    pub fn accessed(&self) -> bool {
        self.flags.contains(Flags::ACCESSED)
    }
    #[inline]
    pub fn dirty(&self) -> bool {
        self.flags.contains(Flags::DIRTY)
    }
    #[inline]
    pub fn writable(&self) -> bool {
        self.flags.contains(Flags::WRITE)
    }
}

/// What is at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    None,
    Page(Mapping),
    /// A value that `mm` left in place of a page.
    Swap(u64),
}

#[inline]
pub(crate) fn is_page(e: u64) -> bool {
    e & (P | HIDDEN) != 0
}
/// True if the entry owns a page reference.
#[inline]
pub(crate) fn owns_page(e: u64) -> bool {
    is_page(e) && e & SPECIAL == 0
}
#[inline]
pub(crate) fn pfn(e: u64) -> Pfn {
    (e & FRAME) >> PAGE_SHIFT
}

/// The entry's bits for these flags, without a frame number.
#[inline]
pub(crate) fn bits(f: Flags) -> u64 {
    let b = (f.bits() ^ NX) & !P;
    if f.intersects(Flags::READ.union(Flags::WRITE).union(Flags::EXEC)) { b | P } else { b | HIDDEN }
}
#[inline]
pub(crate) fn make(pfn: Pfn, f: Flags) -> u64 {
    pfn << PAGE_SHIFT | bits(f)
}
#[inline]
pub(crate) fn flags(e: u64) -> Flags {
    if e & P != 0 { Flags::from_bits_truncate(e ^ NX) } else { Flags::from_bits_truncate((e ^ NX) & !NX) }
}
#[inline]
pub(crate) fn mapping(e: u64) -> Mapping {
    Mapping { pfn: pfn(e), flags: flags(e) }
}
#[inline]
pub(crate) fn decode(e: u64) -> Entry {
    if e == 0 {
        Entry::None
    } else if is_page(e) {
        Entry::Page(mapping(e))
    } else {
        Entry::Swap(e >> SWAP_SHIFT)
    }
}
#[inline]
pub(crate) fn swap(value: u64) -> u64 {
    assert!(value < MAX_SWAP, "swap value {value:#x} is too large for an entry");
    value << SWAP_SHIFT | SWAP
}

/// True if a translation cached from `old` may allow what `new` does not, or lead elsewhere.
#[inline]
pub(crate) fn must_flush(old: u64, new: u64) -> bool {
    const ALLOWS: u64 = P | W | U;
    // Dropping D matters too: a cached dirty translation is written through without setting the bit again.
    old & P != 0
        && (old & !new & (ALLOWS | D) != 0
            || new & !old & NX != 0
            || (old ^ new) & (FRAME | Flags::NOCACHE.bits()) != 0)
}

/// One entry of a table. `core`'s atomics: the processor's own walks and bit updates happen at any moment anyway.
#[derive(Clone, Copy)]
pub(crate) struct Slot(*const AtomicU64);

impl Slot {
    pub(crate) const NULL: Slot = Slot(core::ptr::null());
    /// The `i`th entry from this one.
    ///
    /// # Safety
    /// It is in the same table.
    #[inline]
    pub(crate) unsafe fn at(self, i: usize) -> Slot {
        // SAFETY: the caller's promise.
        Slot(unsafe { self.0.add(i) })
    }
    #[inline]
    fn get(&self) -> &AtomicU64 {
        // SAFETY: slots are made only for entries of table pages, under the lock of the tree that has them, and are used
        // only while that lock is held or the tree is exclusively owned; `NULL` is replaced before use.
        unsafe { &*self.0 }
    }
}

/// Entry `i` of the table in frame `table`.
#[inline]
pub(crate) fn slot(table: Pfn, i: usize) -> Slot {
    debug_assert!(i < super::ENTRIES);
    // SAFETY: a table has 512 entries.
    Slot(unsafe { frame_ptr(table).cast::<AtomicU64>().add(i) })
}
#[inline]
pub(crate) fn load(s: Slot) -> u64 {
    s.get().load(Ordering::Relaxed)
}
/// Writes an entry that no processor can be changing: it was not present.
#[inline]
pub(crate) fn store(s: Slot, e: u64) {
    s.get().store(e, Ordering::Release);
}
/// Replaces an entry and gives what it was, the bits that the processor set at the last moment included.
#[inline]
pub(crate) fn exchange(s: Slot, e: u64) -> u64 {
    s.get().swap(e, Ordering::AcqRel)
}
#[inline]
pub(crate) fn clear_bits(s: Slot, bits: u64) -> u64 {
    s.get().fetch_and(!bits, Ordering::AcqRel)
}
/// Changes an entry without losing bits that the processor sets meanwhile. Gives the old and the new value.
#[inline]
pub(crate) fn update(s: Slot, mut f: impl FnMut(u64) -> u64) -> (u64, u64) {
    let mut old = load(s);
    loop {
        let new = f(old);
        match s.get().compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return (old, new),
            Err(now) => old = now,
        }
    }
}
