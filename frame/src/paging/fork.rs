//! Copying a range of one table into another, as `fork` does it: leaf table by leaf table.

use core::ops::Range;

use super::{Cursor, Entry, MapError, TlbBatch, entry, range::clamp};
use crate::page::{PAGE_SIZE, PageRef};

impl<'pt> Cursor<'pt> {
    /// Maps in `child` what is mapped here, and counts a reference for each page. With `write_protect` both sides lose write permission (the
    /// pages are to be copied when written); this side's batch flushes what was writable. The child's entries are not accessed yet.
    /// Returns how many entries were copied. After an error the child holds a part; unmap it.
    pub fn copy_range(
        &mut self,
        child: &mut Cursor<'_>,
        range: Range<usize>,
        write_protect: bool,
        batch: &mut TlbBatch<'pt>,
    ) -> Result<usize, MapError> {
        self.copy_range_with(child, range, write_protect, batch, |_, _| true)
    }

    /// As [`Cursor::copy_range`]; `f` sees each entry first, and may keep it from being copied (it is left as it is).
    pub fn copy_range_with(
        &mut self,
        child: &mut Cursor<'_>,
        range: Range<usize>,
        write_protect: bool,
        batch: &mut TlbBatch<'pt>,
        mut f: impl FnMut(usize, Entry) -> bool,
    ) -> Result<usize, MapError> {
        batch.check(self.pt);
        let range = clamp(range);
        let (mut va, mut total) = (range.start, 0);
        while let Some((from, part)) = self.next_leaf(va, range.end) {
            va = part.end;
            if from.page.is_some_and(|p| p.aux() == 0) {
                continue;
            }
            let to = child.make_leaf(part.start)?;
            let fresh = to.count(0) == 0;
            let (mut n, mut protected, mut busy) = (0, false, false);
            let (whole, mut left) = (part.clone(), from.count(0));
            for va in part.step_by(PAGE_SIZE) {
                let s = from.slot(va);
                let mut e = entry::load(s);
                if e == 0 {
                    continue;
                }
                let d = to.slot(va);
                if !fresh && entry::load(d) != 0 {
                    busy = true;
                    break;
                }
                if f(va, entry::decode(e)) {
                    if entry::owns_page(e) {
                        // SAFETY: the entry here holds a reference and the lock keeps it; the new reference goes into the child's entry.
                        unsafe { PageRef::dup_raw(entry::pfn(e)) };
                    }
                    if entry::is_page(e) {
                        if write_protect && e & entry::W != 0 {
                            e = entry::clear_bits(s, entry::W) & !entry::W;
                            protected = true;
                        }
                        e &= !entry::A;
                    }
                    entry::store(d, e);
                    n += 1;
                }
                left -= 1;
                if left == 0 {
                    break;
                }
            }
            to.count(n);
            total += n as usize;
            if protected {
                batch.range(whole.start, whole.len());
            }
            if busy {
                return Err(MapError::Busy);
            }
        }
        Ok(total)
    }
}
