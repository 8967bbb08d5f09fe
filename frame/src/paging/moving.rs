//! Moving entries within one table, as `mremap` does it: what an entry owns goes along, and no reference changes. Where both
//! places allow it a leaf table moves as a whole, 2 MiB for the price of one entry.

use super::{
    Cursor, MapError, TlbBatch,
    cursor::{LEAF_SPAN, Leaf},
    entry,
};
use crate::page::{self, PAGE_SIZE};

impl<'pt> Cursor<'pt> {
    /// Moves everything in `len` bytes from `from` to `to`, where nothing may be. The ranges do not overlap. Tables that become empty
    /// stay, and a leaf table that moves leaves those above it, so that moving back needs no memory; unmapping the old range frees them.
    ///
    /// After `NoMemory` a part has been moved; the same call with a reserve moves the rest.
    pub fn move_range(
        &mut self,
        from: usize,
        to: usize,
        len: usize,
        batch: &mut TlbBatch<'pt>,
    ) -> Result<(), MapError> {
        batch.check(self.pt);
        let end = from + len;
        let mut at = from;
        while let Some((src, part)) = self.next_leaf(at, end) {
            let into = to + (part.start - from);
            let n = part.len().min(LEAF_SPAN - (into & (LEAF_SPAN - 1)));
            at = part.start + n;
            if src.count(0) == 0 {
                continue;
            }
            if n == LEAF_SPAN {
                self.move_leaf(part.start, into, batch)?;
                continue;
            }
            let dst = self.make_leaf(into)?;
            let (mut moved, mut busy) = (0, false);
            for off in (0..n).step_by(PAGE_SIZE) {
                let s = src.slot(part.start + off);
                if entry::load(s) == 0 {
                    continue;
                }
                let d = dst.slot(into + off);
                if entry::load(d) != 0 {
                    busy = true;
                    break;
                }
                let e = entry::exchange(s, 0);
                entry::store(d, e);
                if e & entry::P != 0 {
                    batch.range(part.start + off, PAGE_SIZE);
                }
                moved += 1;
            }
            src.count(-moved);
            dst.count(moved);
            if busy {
                return Err(MapError::Busy);
            }
        }
        Ok(())
    }
    /// Moves the leaf table of one 2 MiB span to another, where there is no table or an empty one, which then takes the old place.
    fn move_leaf(&mut self, from: usize, to: usize, batch: &mut TlbBatch<'pt>) -> Result<(), MapError> {
        let (above_to, dst) = self.make_above_leaf(to)?;
        let (above_from, src) = self.make_above_leaf(from)?;
        let there = entry::load(dst);
        if there != 0 && page::page_at(entry::pfn(there)).aux() != 0 {
            return Err(MapError::Busy);
        }
        self.leaf = Leaf::NONE;
        // An empty table in the new place may still be in a processor's cache of upper levels: both spans are shot down.
        entry::store(dst, entry::exchange(src, there));
        if there == 0 {
            page::page_at(above_from).aux_add(-1);
            page::page_at(above_to).aux_add(1);
        } else {
            batch.range(to, PAGE_SIZE);
        }
        batch.range(from, LEAF_SPAN);
        Ok(())
    }
}
