//! `mremap`: growing, shrinking and moving a mapping. Moving carries page-table entries over, not contents.

use alloc::sync::Arc;

use base::{Errno, Result};
use frame::paging::{MapError, PageTable, TlbBatch};

use crate::{
    Limits, MapFlags, Mm, PAGE_SHIFT, PAGE_SIZE, TASK_SIZE, VmFlags, Vma, mm::Space, overcommit, page_align,
    teardown::Removed,
};

/// Bytes moved under one hold of the table lock.
const STRETCH: usize = 4096 * PAGE_SIZE;

bitflags::bitflags! {
    /// `MREMAP_*`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct RemapFlags: u32 {
        const MAYMOVE = 1;
        const FIXED = 2;
        const DONTUNMAP = 4;
        const _ = !0;
    }
}

/// What `mremap` is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Remap {
    pub old: usize,
    pub old_len: usize,
    pub new_len: usize,
    pub flags: RemapFlags,
    /// With `FIXED`.
    pub new_addr: usize,
    pub limits: Limits,
}

impl Mm {
    /// Changes the size or the place of a mapping; the new address.
    ///
    /// # Errors
    /// As Linux's `mremap(2)`: `EINVAL`, `EFAULT`, `ENOMEM`, `EAGAIN`.
    pub fn mremap(self: &Arc<Self>, r: &Remap) -> Result<usize> {
        let known = RemapFlags::MAYMOVE | RemapFlags::FIXED | RemapFlags::DONTUNMAP;
        let f = r.flags;
        if f.bits() & !known.bits() != 0
            || f.contains(RemapFlags::FIXED) && !f.contains(RemapFlags::MAYMOVE)
            || f.contains(RemapFlags::DONTUNMAP)
                && (!f.contains(RemapFlags::MAYMOVE) || r.old_len != r.new_len)
            || !r.old.is_multiple_of(PAGE_SIZE)
        {
            return Err(Errno::EINVAL);
        }
        let (old_len, new_len) = (page_align(r.old_len), page_align(r.new_len));
        if new_len == 0 {
            return Err(Errno::EINVAL);
        }
        let mut removed = Removed::new();
        let mut space = self.space.write();
        let result = self.remap_locked(&mut space, r, old_len, new_len, &mut removed);
        drop(space);
        drop(removed);
        let (addr, populate) = result?;
        if populate && new_len > old_len {
            let _ = self.populate(addr + old_len, new_len - old_len);
        }
        Ok(addr)
    }

    fn remap_locked(
        &self,
        space: &mut Space,
        r: &Remap,
        old_len: usize,
        new_len: usize,
        removed: &mut Removed,
    ) -> Result<(usize, bool)> {
        let old = r.old;
        let Some(v) = space.vmas.containing(old) else { return Err(Errno::EFAULT) };
        let (flags, end) = (v.flags, v.end);
        let locked = flags.contains(VmFlags::LOCKED);
        let moves = r.flags.intersects(RemapFlags::FIXED | RemapFlags::DONTUNMAP);
        if moves {
            // What lies behind the mapping is found out later; the sums there must not overflow.
            old.checked_add(old_len).filter(|&e| e <= TASK_SIZE).ok_or(Errno::EINVAL)?;
            return self.remap_to(space, r, old_len, new_len, removed).map(|a| (a, locked));
        }
        if old_len >= new_len {
            if old_len > new_len {
                let last = old.checked_add(old_len).filter(|&e| e <= TASK_SIZE).ok_or(Errno::EINVAL)?;
                self.unmap_locked(space, old + new_len, last, removed)?;
            }
            return Ok((old, false));
        }
        self.check_resize(space, old, old_len, new_len, &r.limits)?;
        // In place, if the mapping ends here and there is room behind it.
        let more = new_len - old_len;
        let free = old.checked_add(new_len).is_some_and(|e| e <= TASK_SIZE) && {
            let next = space.vmas.find(end).and_then(|p| space.vmas.get(p));
            next.is_none_or(|n| end + more <= n.start.saturating_sub(crate::mmap::guard_of(n)))
        };
        if old + old_len == end && free {
            let pages = more >> PAGE_SHIFT;
            if flags.contains(VmFlags::ACCOUNT) {
                overcommit::charge(pages, space.total_vm, r.limits.is_admin)?;
            }
            if let Some(p) = space.vmas.find(old) {
                if let Some(v) = space.vmas.get_mut(p) {
                    v.end += more;
                }
                space.vmas.merge_around(p);
            }
            space.account(flags, pages);
            if locked {
                space.locked_vm += pages;
            }
            return Ok((old, locked));
        }
        if !r.flags.contains(RemapFlags::MAYMOVE) {
            return Err(Errno::ENOMEM);
        }
        let to = space.place(0, new_len, MapFlags::empty(), &r.limits)?;
        self.move_region(space, old, old_len, new_len, to, false, &r.limits, removed).map(|a| (a, locked))
    }

    /// `FIXED` or `DONTUNMAP`: to a place of its own.
    fn remap_to(
        &self,
        space: &mut Space,
        r: &Remap,
        old_len: usize,
        new_len: usize,
        removed: &mut Removed,
    ) -> Result<usize> {
        let fixed = r.flags.contains(RemapFlags::FIXED);
        let keep = r.flags.contains(RemapFlags::DONTUNMAP);
        if fixed {
            if !r.new_addr.is_multiple_of(PAGE_SIZE)
                || new_len > TASK_SIZE
                || r.new_addr > TASK_SIZE - new_len
            {
                return Err(Errno::EINVAL);
            }
            if r.old + old_len > r.new_addr && r.new_addr + new_len > r.old {
                return Err(Errno::EINVAL);
            }
        }
        // Splitting at both ends of the new place.
        if space.vmas.len() as u64 + 2 >= crate::mm::MAX_MAP_COUNT.load(frame::atomic::Ordering::Relaxed) {
            return Err(Errno::ENOMEM);
        }
        if fixed {
            self.unmap_locked(space, r.new_addr, r.new_addr + new_len, removed)?;
        }
        let mut old_len = old_len;
        if old_len > new_len {
            self.unmap_locked(space, r.old + new_len, r.old + old_len, removed)?;
            old_len = new_len;
        }
        self.check_resize(space, r.old, old_len, new_len, &r.limits)?;
        if keep && !space.may_expand(VmFlags::empty(), old_len >> PAGE_SHIFT, &r.limits) {
            return Err(Errno::ENOMEM);
        }
        let to = match fixed {
            true => r.new_addr,
            false => space.place(r.new_addr, new_len, MapFlags::empty(), &r.limits)?,
        };
        self.move_region(space, r.old, old_len, new_len, to, keep, &r.limits, removed)
    }

    /// Whether a mapping may become this long (`vma_to_resize`).
    fn check_resize(
        &self,
        space: &Space,
        old: usize,
        old_len: usize,
        new_len: usize,
        limits: &Limits,
    ) -> Result<()> {
        let Some(v) = space.vmas.containing(old) else { return Err(Errno::EFAULT) };
        if old_len == 0 && !v.flags.contains(VmFlags::SHARED) && !v.flags.contains(VmFlags::MAYSHARE) {
            return Err(Errno::EINVAL);
        }
        if old_len > v.end - old {
            return Err(Errno::EFAULT);
        }
        if new_len == old_len {
            return Ok(());
        }
        if v.index_of(old).checked_add((new_len >> PAGE_SHIFT) as u64).is_none() {
            return Err(Errno::EINVAL);
        }
        if v.flags.intersects(VmFlags::DONTEXPAND | VmFlags::PFNMAP) {
            return Err(Errno::EFAULT);
        }
        let more = new_len.saturating_sub(old_len) >> PAGE_SHIFT;
        if v.flags.contains(VmFlags::LOCKED) {
            space.may_lock(more, false, limits)?;
        }
        if !space.may_expand(v.flags, more, limits) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one place and size to another, under a lock that the caller holds"
    )]
    fn move_region(
        &self,
        space: &mut Space,
        old: usize,
        old_len: usize,
        new_len: usize,
        to: usize,
        keep: bool,
        limits: &Limits,
        removed: &mut Removed,
    ) -> Result<usize> {
        let Some(v) = space.vmas.containing(old) else { return Err(Errno::EFAULT) };
        let (flags, file) = (v.flags, v.file.clone());
        // Private memory that has no pages yet has no past: its index follows its address, so that it merges at the new place.
        let fresh = file.is_none() && v.anon.is_none();
        let pgoff = if fresh { (to >> PAGE_SHIFT) as u64 } else { v.index_of(old) };
        let family = v.anon.copy();
        let (pages, new_pages) = (old_len >> PAGE_SHIFT, new_len >> PAGE_SHIFT);
        // Both ends of the old place and the new region: Linux leaves room for so many. Split first, so that nothing can fail once pages move.
        if space.vmas.len() as u64 + 3 >= crate::mm::MAX_MAP_COUNT.load(frame::atomic::Ordering::Relaxed) {
            return Err(Errno::ENOMEM);
        }
        if old_len != 0 {
            space.isolate(old, old + old_len)?;
        }
        space.vmas.reserve(to, to + new_len)?;
        // What stays behind with DONTUNMAP is as large again; otherwise only the difference is new.
        let account = flags.contains(VmFlags::ACCOUNT);
        if account {
            overcommit::charge(new_pages, space.total_vm, limits.is_admin)?;
        }
        let mut new = Vma::new(to, to + new_len, flags, pgoff, file);
        new.anon = family;
        let p = space.vmas.insert(new);
        space.vmas.merge_around(p);
        space.account(flags, new_pages);
        if flags.contains(VmFlags::LOCKED) {
            space.locked_vm += new_pages;
        }
        if let Err(e) = self.move_pages(old, to, old_len) {
            // The old tables are still there: this cannot fail.
            let _ = self.move_pages(to, old, old_len);
            let _ = self.unmap_locked(space, to, to + new_len, removed);
            return Err(e);
        }
        if keep || pages == 0 {
            return Ok(to);
        }
        self.unmap_locked(space, old, old + old_len, removed)?;
        Ok(to)
    }

    /// Moves the entries of `len` bytes. Pages keep their counts. All faults wait for the region lock, which is held until the old
    /// translations are shot down.
    fn move_pages(&self, from: usize, to: usize, len: usize) -> Result<()> {
        let mut batch = TlbBatch::new(&self.pt);
        let mut reserve = None;
        let mut done = 0;
        while done < len {
            let n = (len - done).min(STRETCH);
            let mut c = self.pt.lock();
            if let Some(r) = reserve.take() {
                c.give(r);
            }
            match c.move_range(from + done, to + done, n, &mut batch) {
                Ok(()) => done += n,
                Err(MapError::NoMemory) => {
                    drop(c);
                    reserve = Some(PageTable::reserve().ok_or(Errno::ENOMEM)?);
                }
                Err(_) => return Err(Errno::ENOMEM),
            }
        }
        Ok(())
    }
}
