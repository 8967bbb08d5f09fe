//! [`Cursor`]: a locked page table, one address at a time.

use super::{
    Entry, Flags, MapError, Mapping, PageTable, TableReserve, TlbBatch,
    entry::{self, Slot},
    new_table,
};
use crate::{
    page::{self, AllocFlags, Immortal, Page, PageRef, Pfn},
    sync::SpinLockGuard,
    user,
};

/// Bytes that one leaf table maps.
pub(super) const LEAF_SPAN: usize = 2 << 20;

/// The leaf table that the cursor used last: neighbouring addresses need no walk.
#[derive(Clone, Copy)]
pub(super) struct Leaf {
    /// First address; an odd number when there is none.
    base: usize,
    first: Slot,
    pub(super) page: Option<&'static Page>,
}

impl Leaf {
    pub(super) const NONE: Leaf = Leaf { base: 1, first: Slot::NULL, page: None };

    fn new(table: Pfn, va: usize) -> Leaf {
        Leaf { base: va & !(LEAF_SPAN - 1), first: entry::slot(table, 0), page: Some(page::page_at(table)) }
    }
    /// The entry for an address of this leaf's span.
    #[inline]
    pub(super) fn slot(&self, va: usize) -> Slot {
        // SAFETY: nine bits of index, and `first` is the first of 512 entries.
        unsafe { self.first.at(va >> 12 & 511) }
    }
    /// Adds to the number of entries that are not empty, and gives it.
    #[inline]
    pub(super) fn count(&self, n: i32) -> u32 {
        self.page.map_or(0, |p| p.aux_add(n))
    }
}

/// A locked page table. Everything that changes a translation other processors may have cached takes a [`TlbBatch`] of the same table.
///
/// Addresses are rounded down to their page.
pub struct Cursor<'pt> {
    pub(super) pt: &'pt PageTable,
    pub(super) leaf: Leaf,
    reserve: Option<TableReserve>,
    _guard: SpinLockGuard<'pt, ()>,
}

/// Index of an address in the table of a level; level 0 has the leaves.
#[inline]
pub(super) fn index(va: usize, level: u32) -> usize {
    va >> (12 + 9 * level) & 511
}

impl<'pt> Cursor<'pt> {
    #[inline]
    pub(super) fn new(pt: &'pt PageTable, guard: SpinLockGuard<'pt, ()>) -> Self {
        Cursor { pt, leaf: Leaf::NONE, reserve: None, _guard: guard }
    }

    /// The table that this locks.
    pub fn table(&self) -> &'pt PageTable {
        self.pt
    }

    /// Gives the cursor memory for missing tables.
    pub fn give(&mut self, r: TableReserve) {
        self.reserve = Some(r);
    }

    /// The leaf table for an address, if there is one. The address is of the user half.
    #[inline]
    pub(super) fn find_leaf(&mut self, va: usize) -> Option<Leaf> {
        if va & !(LEAF_SPAN - 1) == self.leaf.base {
            return Some(self.leaf);
        }
        let mut table = self.pt.root;
        for level in [3, 2, 1] {
            let e = entry::load(entry::slot(table, index(va, level)));
            if e == 0 {
                return None;
            }
            table = entry::pfn(e);
        }
        self.leaf = Leaf::new(table, va);
        Some(self.leaf)
    }

    /// The leaf table for an address; makes what is missing.
    #[inline]
    pub(super) fn make_leaf(&mut self, va: usize) -> Result<Leaf, MapError> {
        if va >= user::END {
            return Err(MapError::BadAddress);
        }
        if va & !(LEAF_SPAN - 1) == self.leaf.base {
            return Ok(self.leaf);
        }
        let mut table = self.pt.root;
        for level in [3, 2, 1] {
            let s = entry::slot(table, index(va, level));
            let e = entry::load(s);
            let below = if e != 0 { entry::pfn(e) } else { self.add_table(table, s)? };
            table = below;
        }
        self.leaf = Leaf::new(table, va);
        Ok(self.leaf)
    }

    /// The table above the leaf tables for an address of the user half, and its entry for the address; makes what is missing.
    pub(super) fn make_above_leaf(&mut self, va: usize) -> Result<(Pfn, Slot), MapError> {
        if va >= user::END {
            return Err(MapError::BadAddress);
        }
        let mut table = self.pt.root;
        for level in [3, 2] {
            let s = entry::slot(table, index(va, level));
            let e = entry::load(s);
            table = if e != 0 { entry::pfn(e) } else { self.add_table(table, s)? };
        }
        Ok((table, entry::slot(table, index(va, 1))))
    }

    #[cold]
    fn add_table(&mut self, above: Pfn, s: Slot) -> Result<Pfn, MapError> {
        let new = match self.reserve.as_mut().and_then(|r| r.take()) {
            Some(t) => t,
            None => new_table(AllocFlags::ATOMIC).ok_or(MapError::NoMemory)?,
        };
        entry::store(s, new << page::PAGE_SHIFT | entry::TABLE);
        page::page_at(above).aux_add(1);
        Ok(new)
    }

    #[inline]
    fn entry_slot(&mut self, va: usize) -> Option<(Leaf, Slot)> {
        if va >= user::END {
            return None;
        }
        let leaf = self.find_leaf(va)?;
        Some((leaf, leaf.slot(va)))
    }

    /// Makes sure that mapping at `va` will find its tables.
    pub fn prepare(&mut self, va: usize) -> Result<(), MapError> {
        self.make_leaf(va).map(|_| ())
    }

    #[inline]
    fn install(&mut self, va: usize, e: u64) -> Result<(), MapError> {
        let leaf = self.make_leaf(va)?;
        let s = leaf.slot(va);
        if entry::load(s) != 0 {
            return Err(MapError::Busy);
        }
        entry::store(s, e);
        leaf.count(1);
        Ok(())
    }

    /// Maps a page where nothing is, and takes the reference over. A large page is mapped with its first frame: see [`Cursor::map_part`].
    #[inline]
    pub fn map(&mut self, va: usize, page: PageRef, flags: Flags) -> Result<(), MapError> {
        self.install(va, entry::make(page.pfn(), flags.difference(Flags::SPECIAL)))?;
        let _ = page.into_raw();
        Ok(())
    }

    /// Maps frame `part` of a large page.
    ///
    /// # Panics
    /// If the page has no such frame.
    pub fn map_part(&mut self, va: usize, page: PageRef, part: usize, flags: Flags) -> Result<(), MapError> {
        assert!(part < 1 << page.order(), "frame {part} of a page of order {}", page.order());
        self.install(va, entry::make(page.pfn() + part as u64, flags.difference(Flags::SPECIAL)))?;
        let _ = page.into_raw();
        Ok(())
    }

    /// Maps a page that is never freed, without a reference (the zero page, the vDSO). Its entry carries [`Flags::SPECIAL`].
    pub fn map_special(&mut self, va: usize, page: Immortal, flags: Flags) -> Result<(), MapError> {
        self.install(va, entry::make(page.pfn(), flags | Flags::SPECIAL))
    }

    /// What is at an address.
    #[inline]
    pub fn query(&mut self, va: usize) -> Entry {
        match self.entry_slot(va) {
            Some((_, s)) => entry::decode(entry::load(s)),
            None => Entry::None,
        }
    }

    /// The mapping at an address, if there is a page.
    #[inline]
    pub fn mapping(&mut self, va: usize) -> Option<Mapping> {
        match self.query(va) {
            Entry::Page(m) => Some(m),
            _ => None,
        }
    }

    /// A reference to the page at an address (to the whole of it, if it is a large one).
    #[inline]
    pub fn page(&mut self, va: usize) -> Option<PageRef> {
        let m = self.mapping(va)?;
        // SAFETY: the entry holds a reference (or the page is immortal), and the lock keeps the entry.
        Some(unsafe { PageRef::clone_raw(m.pfn) })
    }

    /// Changes how the page at `va` is mapped; accessed and dirty bits that are set stay set. False if there is no page.
    #[inline]
    pub fn protect(&mut self, va: usize, flags: Flags, batch: &mut TlbBatch<'pt>) -> bool {
        batch.check(self.pt);
        let Some((_, s)) = self.entry_slot(va) else { return false };
        if !entry::is_page(entry::load(s)) {
            return false;
        }
        protect_slot(s, flags, va, batch);
        true
    }

    /// Puts another page in place of whatever is at `va`. What was there goes to the batch.
    #[inline]
    pub fn replace(
        &mut self,
        va: usize,
        page: PageRef,
        flags: Flags,
        batch: &mut TlbBatch<'pt>,
    ) -> Result<(), MapError> {
        let e = entry::make(page.pfn(), flags.difference(Flags::SPECIAL));
        self.put(va, e, batch)?;
        let _ = page.into_raw();
        Ok(())
    }

    /// Leaves a swap value at `va`; what was there goes to the batch and is returned.
    pub fn set_swap(&mut self, va: usize, value: u64, batch: &mut TlbBatch<'pt>) -> Result<Entry, MapError> {
        self.put(va, entry::swap(value), batch)
    }

    fn put(&mut self, va: usize, e: u64, batch: &mut TlbBatch<'pt>) -> Result<Entry, MapError> {
        batch.check(self.pt);
        let leaf = self.make_leaf(va)?;
        let old = entry::exchange(leaf.slot(va), e);
        if old == 0 {
            leaf.count(1);
        }
        batch.removed(va, old);
        Ok(entry::decode(old))
    }

    /// Removes what is at `va` and gives it; a page goes to the batch.
    #[inline]
    pub fn unmap(&mut self, va: usize, batch: &mut TlbBatch<'pt>) -> Entry {
        batch.check(self.pt);
        let Some((leaf, s)) = self.entry_slot(va) else { return Entry::None };
        if entry::load(s) == 0 {
            return Entry::None;
        }
        let old = entry::exchange(s, 0);
        leaf.count(-1);
        batch.removed(va, old);
        entry::decode(old)
    }

    /// Clears the accessed bit; true if it was set. No shoot-down: a cached translation only makes the page look idle until
    /// it is evicted, as on Linux.
    #[inline]
    pub fn clear_accessed(&mut self, va: usize) -> bool {
        let Some((_, s)) = self.entry_slot(va) else { return false };
        let e = entry::load(s);
        entry::is_page(e) && e & entry::A != 0 && entry::clear_bits(s, entry::A) & entry::A != 0
    }

    /// Clears the dirty bit; true if it was set. Writes after the batch is flushed set it again.
    pub fn test_and_clear_dirty(&mut self, va: usize, batch: &mut TlbBatch<'pt>) -> bool {
        batch.check(self.pt);
        let Some((_, s)) = self.entry_slot(va) else { return false };
        let e = entry::load(s);
        if !entry::is_page(e) || e & entry::D == 0 {
            return false;
        }
        entry::clear_bits(s, entry::D);
        batch.range(va, page::PAGE_SIZE);
        true
    }
}

/// Gives a page's entry new flags.
#[inline]
pub(super) fn protect_slot(s: Slot, flags: Flags, va: usize, batch: &mut TlbBatch<'_>) {
    const KEPT: u64 = 0x000f_ffff_ffff_f000 | entry::A | entry::D | entry::SPECIAL;
    let bits = entry::bits(flags.difference(Flags::SPECIAL));
    let (old, new) = entry::update(s, |e| e & KEPT | bits);
    if entry::must_flush(old, new) {
        batch.range(va, page::PAGE_SIZE);
    }
}
