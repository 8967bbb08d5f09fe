//! Ranges of addresses: visiting, protecting, unmapping, and freeing what has become empty.

use core::ops::Range;

use super::{
    Cursor, ENTRIES, Entry, Flags, KERNEL_HALF, Mapping, TlbBatch,
    cursor::{LEAF_SPAN, Leaf, index, protect_slot},
    entry, free_table,
};
use crate::{
    page::{self, PAGE_SIZE, PageRef, Pfn},
    user,
};

/// The range in whole pages, inside the user half.
pub(super) fn clamp(r: Range<usize>) -> Range<usize> {
    let end = r.end.min(user::END).next_multiple_of(PAGE_SIZE);
    (r.start & !(PAGE_SIZE - 1)).min(end)..end
}

/// The end of `va`'s span at a level, or of the range.
fn span_end(va: usize, level: u32, end: usize) -> usize {
    let span = 1usize << (12 + 9 * level);
    ((va & !(span - 1)) + span).min(end)
}

impl<'pt> Cursor<'pt> {
    /// The first leaf table at or after `va` in the range, with the part of the range that it maps; skips what has no tables.
    pub(super) fn next_leaf(&mut self, mut va: usize, end: usize) -> Option<(Leaf, Range<usize>)> {
        'restart: while va < end {
            let mut table = self.pt.root;
            for level in [3, 2, 1] {
                let e = entry::load(entry::slot(table, index(va, level)));
                if e == 0 {
                    va = span_end(va, level, end);
                    continue 'restart;
                }
                table = entry::pfn(e);
            }
            let leaf = self.find_leaf(va)?;
            return Some((leaf, va..span_end(va, 1, end)));
        }
        None
    }

    /// The first address of the range at or after `va` that has a leaf table: lets long work on a sparse range go in pieces, with the
    /// lock let go between them, without visiting each empty piece.
    pub fn next_table(&mut self, va: usize, end: usize) -> Option<usize> {
        let r = clamp(va..end);
        self.next_leaf(r.start, r.end).map(|(_, part)| part.start)
    }

    /// Visits all that is not empty.
    pub fn for_each(&mut self, range: Range<usize>, mut f: impl FnMut(usize, Entry)) {
        let range = clamp(range);
        let mut va = range.start;
        while let Some((leaf, part)) = self.next_leaf(va, range.end) {
            va = part.end;
            for va in part.step_by(PAGE_SIZE) {
                let e = entry::load(leaf.slot(va));
                if e != 0 {
                    f(va, entry::decode(e));
                }
            }
        }
    }

    /// Visits all mapped pages.
    pub fn for_each_mapped(&mut self, range: Range<usize>, mut f: impl FnMut(usize, &Mapping)) {
        self.for_each(range, |va, e| {
            if let Entry::Page(m) = e {
                f(va, &m);
            }
        });
    }

    /// Gives each mapped page the flags that `f` answers; `None` leaves it alone.
    pub fn update_range(
        &mut self,
        range: Range<usize>,
        batch: &mut TlbBatch<'pt>,
        mut f: impl FnMut(usize, &Mapping) -> Option<Flags>,
    ) {
        batch.check(self.pt);
        let range = clamp(range);
        let mut va = range.start;
        while let Some((leaf, part)) = self.next_leaf(va, range.end) {
            va = part.end;
            for va in part.step_by(PAGE_SIZE) {
                let s = leaf.slot(va);
                let e = entry::load(s);
                if entry::is_page(e)
                    && let Some(flags) = f(va, &entry::mapping(e))
                {
                    protect_slot(s, flags, va, batch);
                }
            }
        }
    }

    /// Gives all mapped pages of the range these flags. Entries marked [`Flags::COW`] stay so and do not become writable.
    pub fn protect_range(&mut self, range: Range<usize>, flags: Flags, batch: &mut TlbBatch<'pt>) {
        self.update_range(range, batch, |_, m| {
            Some(if m.flags.contains(Flags::COW) {
                flags.difference(Flags::WRITE) | Flags::COW
            } else {
                flags
            })
        });
    }

    /// Removes everything in the range; pages go to the batch, and so do tables that become empty.
    pub fn unmap_range(&mut self, range: Range<usize>, batch: &mut TlbBatch<'pt>) {
        self.unmap_range_with(range, batch, |_, _| {});
    }

    /// As [`Cursor::unmap_range`]; `f` sees each entry as it was when it went, with its last accessed and dirty bits.
    pub fn unmap_range_with(
        &mut self,
        range: Range<usize>,
        batch: &mut TlbBatch<'pt>,
        mut f: impl FnMut(usize, Entry),
    ) {
        batch.check(self.pt);
        let range = clamp(range);
        let mut va = range.start;
        while let Some((leaf, part)) = self.next_leaf(va, range.end) {
            let first = part.start;
            va = part.end;
            let mut n = 0;
            for va in part.step_by(PAGE_SIZE) {
                let s = leaf.slot(va);
                if entry::load(s) == 0 {
                    continue;
                }
                let e = entry::exchange(s, 0);
                n += 1;
                f(va, entry::decode(e));
                batch.removed(va, e);
            }
            if leaf.count(-n) == 0 {
                self.remove_empty(first, 1, batch);
            }
        }
        // Leaf tables that moved away as a whole have left the tables above them, perhaps empty.
        let mut va = range.start;
        while range.len() >= LEAF_SPAN
            && let Some((at, table)) = self.next_above_leaves(va, range.end)
        {
            if page::page_at(table).aux() == 0 {
                self.remove_empty(at, 2, batch);
            }
            va = span_end(at, 2, range.end);
        }
    }

    /// The first table above leaf tables at or after `va` in the range, with the first address of the range that it maps.
    fn next_above_leaves(&self, mut va: usize, end: usize) -> Option<(usize, Pfn)> {
        'restart: while va < end {
            let mut table = self.pt.root;
            for level in [3, 2] {
                let e = entry::load(entry::slot(table, index(va, level)));
                if e == 0 {
                    va = span_end(va, level, end);
                    continue 'restart;
                }
                table = entry::pfn(e);
            }
            return Some((va, table));
        }
        None
    }

    /// Takes the empty table of a level's entry at `va` (1: a leaf table) out of the tree, and the tables above that become empty with it.
    fn remove_empty(&mut self, va: usize, lowest: usize, batch: &mut TlbBatch<'pt>) {
        self.leaf = Leaf::NONE;
        let mut tables = [self.pt.root; 4];
        for level in (lowest..=3).rev() {
            tables[level - 1] = entry::pfn(entry::load(entry::slot(tables[level], index(va, level as u32))));
        }
        for level in lowest..=3usize {
            entry::exchange(entry::slot(tables[level], index(va, level as u32)), 0);
            batch.removed_table(va, tables[level - 1]);
            if page::page_at(tables[level]).aux_add(-1) != 0 {
                break;
            }
        }
    }
}

/// Frees a whole tree. No processor has it loaded, and nobody else can reach it.
pub(super) fn free_all(root: Pfn) {
    for i in 0..KERNEL_HALF {
        free_below(entry::load(entry::slot(root, i)), 3);
    }
    // SAFETY: see above.
    unsafe { free_table(root) };
}

/// Frees the table that an entry of a table of `level` points to, with all below it.
fn free_below(e: u64, level: u32) {
    if e == 0 {
        return;
    }
    let table = entry::pfn(e);
    let mut left = page::page_at(table).aux();
    for i in 0..ENTRIES {
        if left == 0 {
            break;
        }
        let e = entry::load(entry::slot(table, i));
        if e == 0 {
            continue;
        }
        left -= 1;
        if level > 1 {
            free_below(e, level - 1);
        } else if entry::owns_page(e) {
            // SAFETY: the entry holds a reference, and goes with its table.
            drop(unsafe { PageRef::from_raw(entry::pfn(e)) });
        }
    }
    // SAFETY: as in `free_all`; everything below is gone.
    unsafe { free_table(table) };
}

const _: () = assert!(LEAF_SPAN == ENTRIES * PAGE_SIZE);
