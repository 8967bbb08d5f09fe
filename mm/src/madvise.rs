//! `madvise`, `mincore`, `msync`.

use base::{Errno, Result};
use frame::paging::Entry;

use crate::{Access, Fault, Mm, PAGE_SHIFT, PAGE_SIZE, TASK_SIZE, VmFlags, page_align, teardown::Zap};

const NORMAL: i32 = 0;
const RANDOM: i32 = 1;
const SEQUENTIAL: i32 = 2;
const WILLNEED: i32 = 3;
const DONTNEED: i32 = 4;
const REMOVE: i32 = 9;
const DONTFORK: i32 = 10;
const DOFORK: i32 = 11;
const HUGEPAGE: i32 = 14;
const NOHUGEPAGE: i32 = 15;
const DONTDUMP: i32 = 16;
const DODUMP: i32 = 17;
const WIPEONFORK: i32 = 18;
const KEEPONFORK: i32 = 19;
const POPULATE_READ: i32 = 22;
const POPULATE_WRITE: i32 = 23;
const DONTNEED_LOCKED: i32 = 24;

const MS_ASYNC: u32 = 1;
const MS_INVALIDATE: u32 = 2;
const MS_SYNC: u32 = 4;

impl Mm {
    /// Advice about a range.
    ///
    /// Not supported, with `EINVAL` as from a Linux built without them: `MADV_FREE`, `COLD`, `PAGEOUT` (there is no reclaim), `MERGEABLE`,
    /// `COLLAPSE`, `HWPOISON`.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM` (a gap; the rest has been done), `EAGAIN`, `EFAULT`, `EIO`.
    pub fn madvise(&self, addr: usize, len: usize, advice: i32) -> Result<()> {
        let known = [
            NORMAL,
            RANDOM,
            SEQUENTIAL,
            WILLNEED,
            DONTNEED,
            REMOVE,
            DONTFORK,
            DOFORK,
            HUGEPAGE,
            NOHUGEPAGE,
            DONTDUMP,
            DODUMP,
            WIPEONFORK,
            KEEPONFORK,
            POPULATE_READ,
            POPULATE_WRITE,
            DONTNEED_LOCKED,
        ];
        if !known.contains(&advice) || !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let rounded = page_align(len);
        if len != 0 && rounded == 0 {
            return Err(Errno::EINVAL);
        }
        let Some(end) = addr.checked_add(rounded) else { return Err(Errno::EINVAL) };
        if addr == end {
            return Ok(());
        }
        if addr >= TASK_SIZE {
            return Err(Errno::ENOMEM);
        }
        let end = end.min(TASK_SIZE);
        match advice {
            POPULATE_READ | POPULATE_WRITE => self.advise_populate(addr, end, advice == POPULATE_WRITE),
            DONTNEED | DONTNEED_LOCKED => self.advise_dontneed(addr, end, advice == DONTNEED_LOCKED),
            WILLNEED => self.each_region(addr, end, |_| Ok(())),
            REMOVE => self.advise_remove(addr, end),
            _ => self.advise_flags(addr, end, advice),
        }
    }

    /// Visits the regions of a range, then reports a gap: Linux's order.
    fn each_region(
        &self,
        start: usize,
        end: usize,
        mut f: impl FnMut(&crate::Vma) -> Result<()>,
    ) -> Result<()> {
        let space = self.space.read();
        for v in space.vmas.range(start, end) {
            f(v)?;
        }
        if space.is_covered(start, end) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    fn advise_dontneed(&self, start: usize, end: usize, even_locked: bool) -> Result<()> {
        self.each_region(start, end, |v| {
            let refused = VmFlags::PFNMAP | if even_locked { VmFlags::empty() } else { VmFlags::LOCKED };
            if v.flags.intersects(refused) {
                return Err(Errno::EINVAL);
            }
            self.zap(v.start.max(start)..v.end.min(end), Zap::All);
            Ok(())
        })
    }

    fn advise_populate(&self, start: usize, end: usize, write: bool) -> Result<()> {
        self.populate_as(start, end - start, Some(if write { Access::Write } else { Access::Read })).map_err(
            |f| match f {
                Fault::SegvMaperr | Fault::OutOfMemory => Errno::ENOMEM,
                // Not accessible like that.
                Fault::SegvAccerr => Errno::EINVAL,
                Fault::Bus => Errno::EFAULT,
            },
        )
    }

    fn advise_remove(&self, start: usize, end: usize) -> Result<()> {
        let mut at = start;
        while at < end {
            let found = {
                let space = self.space.read();
                let Some(v) = space.vmas.find(at).and_then(|p| space.vmas.get(p)).filter(|v| v.start < end)
                else {
                    return Err(Errno::ENOMEM);
                };
                if v.start > at {
                    return Err(Errno::ENOMEM);
                }
                if v.flags.contains(VmFlags::LOCKED) {
                    return Err(Errno::EINVAL);
                }
                let Some(object) = v.file.clone() else { return Err(Errno::EINVAL) };
                if v.flags & (VmFlags::SHARED | VmFlags::WRITE) != VmFlags::SHARED | VmFlags::WRITE {
                    return Err(Errno::EACCES);
                }
                let to = v.end.min(end);
                let first = v.index_of(at);
                (object, first..first + ((to - at) >> PAGE_SHIFT) as u64, to)
            };
            // The object unmaps the pages everywhere, which takes the region lock.
            found.0.punch_hole(found.1)?;
            at = found.2;
        }
        Ok(())
    }

    fn advise_flags(&self, start: usize, end: usize, advice: i32) -> Result<()> {
        let mut space = self.space.write();
        if matches!(advice, WIPEONFORK)
            && space.vmas.range(start, end).any(|v| v.file.is_some() || v.flags.contains(VmFlags::SHARED))
        {
            return Err(Errno::EINVAL);
        }
        let covered = space.is_covered(start, end);
        let readahead = VmFlags::SEQ_READ | VmFlags::RAND_READ;
        space.change_flags(start, end, |f| match advice {
            NORMAL => f - readahead,
            RANDOM => (f - readahead) | VmFlags::RAND_READ,
            SEQUENTIAL => (f - readahead) | VmFlags::SEQ_READ,
            DONTFORK => f | VmFlags::DONTCOPY,
            DOFORK => f - VmFlags::DONTCOPY,
            HUGEPAGE => (f - VmFlags::NOHUGEPAGE) | VmFlags::HUGEPAGE,
            NOHUGEPAGE => (f - VmFlags::HUGEPAGE) | VmFlags::NOHUGEPAGE,
            DONTDUMP => f | VmFlags::DONTDUMP,
            DODUMP => f - VmFlags::DONTDUMP,
            WIPEONFORK => f | VmFlags::WIPEONFORK,
            KEEPONFORK => f - VmFlags::WIPEONFORK,
            _ => f,
        })?;
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// For each page of the range one byte, 1 if it is in memory; handed to `out` in pieces.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`, and what `out` returns.
    pub fn mincore(
        &self,
        addr: usize,
        len: usize,
        mut out: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let end = addr.checked_add(len).filter(|&e| e <= TASK_SIZE).ok_or(Errno::ENOMEM)?;
        let end = page_align(end);
        let mut at = addr;
        let mut piece = [0u8; 256];
        while at < end {
            let n = ((end - at) >> PAGE_SHIFT).min(piece.len());
            let stop = at + (n << PAGE_SHIFT);
            {
                let space = self.space.read();
                if !space.is_covered(at, stop) {
                    return Err(Errno::ENOMEM);
                }
                piece[..n].fill(0);
                self.pt.lock().for_each(at..stop, |va, e| {
                    if matches!(e, Entry::Page(_)) {
                        piece[(va - at) >> PAGE_SHIFT] = 1;
                    }
                });
                for v in space.vmas.range(at, stop) {
                    let Some(o) = &v.file else { continue };
                    let mut va = v.start.max(at);
                    while va < v.end.min(stop) {
                        let cell = &mut piece[(va - at) >> PAGE_SHIFT];
                        if *cell == 0 && o.is_resident(v.index_of(va)) {
                            *cell = 1;
                        }
                        va += PAGE_SIZE;
                    }
                }
            }
            out((at - addr) >> PAGE_SHIFT, &piece[..n])?;
            at = stop;
        }
        Ok(())
    }

    /// Writes changes of shared file mappings back.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM` (a gap), `EBUSY` (`MS_INVALIDATE` of locked memory), and what the object reports.
    pub fn msync(&self, addr: usize, len: usize, flags: u32) -> Result<()> {
        if flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) != 0
            || !addr.is_multiple_of(PAGE_SIZE)
            || flags & MS_ASYNC != 0 && flags & MS_SYNC != 0
        {
            return Err(Errno::EINVAL);
        }
        let end = addr
            .checked_add(page_align(len))
            .filter(|_| len == 0 || page_align(len) != 0)
            .ok_or(Errno::ENOMEM)?;
        let mut at = addr;
        let mut gap = false;
        while at < end {
            let found = {
                let space = self.space.read();
                let Some(v) = space.vmas.find(at).and_then(|p| space.vmas.get(p)).filter(|v| v.start < end)
                else {
                    return Err(Errno::ENOMEM);
                };
                gap |= v.start > at;
                let from = v.start.max(at);
                let to = v.end.min(end);
                if flags & MS_INVALIDATE != 0 && v.flags.contains(VmFlags::LOCKED) {
                    return Err(Errno::EBUSY);
                }
                at = to;
                let first = v.index_of(from);
                let shared = v.flags.contains(VmFlags::SHARED);
                v.file
                    .clone()
                    .filter(|_| shared)
                    .map(|o| (o, first..first + ((to - from) >> PAGE_SHIFT) as u64))
            };
            if let Some((object, range)) = found
                && flags & MS_SYNC != 0
            {
                object.sync(range)?;
            }
        }
        if gap { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}
