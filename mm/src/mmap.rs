//! `mmap`, `munmap`, `brk`: making and removing regions.
//!
//! Checks come in Linux's order, since programs (and tests) see which error wins.

use alloc::sync::Arc;

use base::{Errno, Result};
use frame::atomic::Ordering;

use crate::{
    Limits, MapFlags, MapObject, Mm, PAGE_SHIFT, PAGE_SIZE, Prot, SharedAnon, TASK_SIZE, VmFlags, Vma,
    layout::{self, STACK_GUARD_GAP},
    mm::Space,
    overcommit, page_align,
    teardown::{Removed, Zap},
};

/// A file to map, with what its open mode allows.
#[derive(Clone)]
pub struct FileMapping {
    pub object: Arc<dyn MapObject>,
    /// In bytes, a multiple of the page size.
    pub offset: u64,
    /// Opened for reading.
    pub readable: bool,
    /// Opened for writing.
    pub writable: bool,
    /// Not on a `noexec` mount.
    pub executable: bool,
}

/// What `mmap` is asked for.
#[derive(Clone)]
pub struct MapRequest {
    pub addr: usize,
    pub len: usize,
    pub prot: Prot,
    pub flags: MapFlags,
    pub file: Option<FileMapping>,
    pub limits: Limits,
}

/// The flags that `MAP_SHARED_VALIDATE` knows.
const KNOWN: MapFlags = MapFlags::from_bits_retain(0x17_ffff & !0x8_0000);

/// What one leaf page table maps, and the size of the processor's large pages.
const LARGE_PAGE: usize = 2 << 20;

/// The distance that a region keeps free below it.
pub(crate) fn guard_of(v: &Vma) -> usize {
    if v.flags.contains(VmFlags::GROWSDOWN) { STACK_GUARD_GAP } else { 0 }
}

impl Mm {
    /// Maps memory or a file; the address.
    ///
    /// # Errors
    /// As Linux's `mmap(2)`: `EINVAL`, `ENOMEM`, `EACCES`, `EPERM`, `EEXIST`, `EOVERFLOW`, `EAGAIN` (locked memory), `EOPNOTSUPP`.
    pub fn mmap(self: &Arc<Self>, req: &MapRequest) -> Result<usize> {
        let flags = req.flags;
        if req.len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = page_align(req.len);
        if len == 0 {
            return Err(Errno::ENOMEM);
        }
        let offset = req.file.as_ref().map_or(0, |f| f.offset);
        if !offset.is_multiple_of(PAGE_SIZE as u64) {
            return Err(Errno::EINVAL);
        }
        if (offset >> PAGE_SHIFT)
            .checked_add((len >> PAGE_SHIFT) as u64)
            .is_none_or(|end| end > i64::MAX as u64 >> PAGE_SHIFT)
        {
            return Err(Errno::EOVERFLOW);
        }
        let shared_anon = |len: usize| -> Result<Arc<dyn MapObject>> {
            Ok(SharedAnon::new(len, !flags.contains(MapFlags::NORESERVE), req.limits.is_admin)?
                as Arc<dyn MapObject>)
        };
        let mut space = self.space.write();
        if space.is_released || !space.has_room_for_region() {
            return Err(Errno::ENOMEM);
        }
        let addr = match &req.file {
            None => space.place_memory(req.addr, len, flags, &req.limits)?,
            Some(_) => space.place(req.addr, len, flags, &req.limits)?,
        };
        let mut vm = VmFlags::from_prot(req.prot) | space.def_flags | VmFlags::MAYALL;
        if flags.contains(MapFlags::GROWSDOWN) {
            vm |= VmFlags::GROWSDOWN;
        }
        if flags.contains(MapFlags::STACK) {
            vm |= VmFlags::NOHUGEPAGE;
        }
        if flags.contains(MapFlags::LOCKED) {
            vm |= VmFlags::LOCKED;
        }
        if vm.contains(VmFlags::LOCKED) {
            space.may_lock(len >> PAGE_SHIFT, flags.contains(MapFlags::LOCKED), &req.limits)?;
        }
        let kind = flags & MapFlags::TYPE;
        let shared = kind == MapFlags::SHARED || kind == MapFlags::SHARED_VALIDATE;
        if !shared && kind != MapFlags::PRIVATE {
            return Err(Errno::EINVAL);
        }
        if flags.contains(MapFlags::HUGETLB) {
            // There is no pool of huge pages.
            return Err(Errno::ENOMEM);
        }
        let mut object = None;
        let mut pgoff = (addr >> PAGE_SHIFT) as u64;
        if let Some(f) = &req.file {
            if kind == MapFlags::SHARED_VALIDATE && !KNOWN.contains(flags) {
                return Err(Errno::EOPNOTSUPP);
            }
            if shared {
                if req.prot.contains(Prot::WRITE) && !f.writable {
                    return Err(Errno::EACCES);
                }
                vm |= VmFlags::SHARED | VmFlags::MAYSHARE;
                if !f.writable {
                    vm -= VmFlags::MAYWRITE | VmFlags::SHARED;
                }
            }
            if !f.readable {
                return Err(Errno::EACCES);
            }
            if !f.executable {
                if vm.contains(VmFlags::EXEC) {
                    return Err(Errno::EPERM);
                }
                vm -= VmFlags::MAYEXEC;
            }
            if flags.contains(MapFlags::GROWSDOWN) {
                return Err(Errno::EINVAL);
            }
            pgoff = offset >> PAGE_SHIFT;
            object = Some(f.object.clone());
        } else if shared {
            if flags.contains(MapFlags::GROWSDOWN) {
                return Err(Errno::EINVAL);
            }
            vm |= VmFlags::SHARED | VmFlags::MAYSHARE;
            pgoff = 0;
        }
        if flags.contains(MapFlags::NORESERVE) && overcommit::mode() != overcommit::Mode::Never {
            vm |= VmFlags::NORESERVE;
        }
        // What is replaced does not count against the limits.
        let pages = len >> PAGE_SHIFT;
        if !space.may_expand(vm, pages, &req.limits) {
            let replaced: usize = space
                .vmas
                .range(addr, addr + len)
                .map(|v| (v.end.min(addr + len) - v.start.max(addr)) >> PAGE_SHIFT)
                .sum();
            if !space.may_expand(vm, pages - replaced, &req.limits) {
                return Err(Errno::ENOMEM);
            }
        }
        let mut removed = Removed::new();
        if space.vmas.overlaps(addr, addr + len) {
            self.unmap_locked(&mut space, addr, addr + len, &mut removed)?;
        }
        let r = (|| -> Result<()> {
            space.vmas.reserve(addr, addr + len)?;
            if shared && object.is_none() {
                object = Some(shared_anon(len)?);
            }
            if let Some(m) = object.as_ref().and_then(|o| o.mappings()) {
                m.add(&Arc::downgrade(self))?;
            }
            if vm.is_private_writable() && !vm.contains(VmFlags::NORESERVE) {
                overcommit::charge(pages, space.total_vm, req.limits.is_admin)?;
                vm |= VmFlags::ACCOUNT;
            }
            space.vmas.add(Vma::new(addr, addr + len, vm, pgoff, object.take()));
            space.account(vm, pages);
            if vm.contains(VmFlags::LOCKED) {
                space.locked_vm += pages;
            }
            Ok(())
        })();
        let populate = vm.contains(VmFlags::LOCKED) && !vm.contains(VmFlags::LOCKONFAULT)
            || flags.contains(MapFlags::POPULATE) && !flags.contains(MapFlags::NONBLOCK);
        drop(space);
        drop(removed);
        r?;
        if populate {
            // As on Linux, failing to fill is not failing to map.
            let _ = self.populate(addr, len);
        }
        Ok(addr)
    }

    /// Removes what is mapped in a range.
    ///
    /// # Errors
    /// `EINVAL` for a bad range; `ENOMEM` where a split would make one region too many.
    pub fn munmap(&self, addr: usize, len: usize) -> Result<()> {
        if !addr.is_multiple_of(PAGE_SIZE) || addr > TASK_SIZE || len > TASK_SIZE - addr {
            return Err(Errno::EINVAL);
        }
        let len = page_align(len);
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let mut removed = Removed::new();
        let mut space = self.space.write();
        let r = self.unmap_locked(&mut space, addr, addr + len, &mut removed);
        drop(space);
        drop(removed);
        r
    }

    /// Removes the regions of `start..end`; those with files go to `removed`, which the caller drops without the region lock.
    pub(crate) fn unmap_locked(
        &self,
        space: &mut Space,
        start: usize,
        end: usize,
        removed: &mut Removed,
    ) -> Result<()> {
        let Some(first) = space.vmas.find(start) else { return Ok(()) };
        let Some(v) = space.vmas.get(first).filter(|v| v.start < end) else { return Ok(()) };
        if v.start < start && v.end > end && !space.has_room_for_region() {
            return Err(Errno::ENOMEM);
        }
        let files = space.vmas.range(start, end).filter(|v| v.file.is_some()).count();
        removed.try_reserve(files).map_err(|_| Errno::ENOMEM)?;
        space.isolate(start, end)?;
        self.zap(start..end, Zap::All);
        let (mut promised, mut locked) = (0, 0);
        // Sizes first: the tree cannot be walked and charged at once.
        let Space { vmas, total_vm, data_vm, exec_vm, stack_vm, .. } = space;
        vmas.remove_range(start, end, |v| {
            let pages = v.pages();
            *total_vm -= pages;
            if v.flags.is_exec() {
                *exec_vm -= pages;
            } else if v.flags.contains(VmFlags::GROWSDOWN) {
                *stack_vm -= pages;
            } else if v.flags.is_data() {
                *data_vm -= pages;
            }
            if v.flags.contains(VmFlags::ACCOUNT) {
                promised += pages;
            }
            if v.flags.contains(VmFlags::LOCKED) {
                locked += pages;
            }
            if v.file.is_some() {
                removed.push(v);
            }
        });
        space.locked_vm -= locked;
        overcommit::uncharge(promised);
        Ok(())
    }

    /// Where the heap starts; also its end, for now.
    pub fn set_brk_base(&self, addr: usize) {
        let mut s = self.space.write();
        s.start_brk = addr;
        s.brk = addr;
    }

    /// Moves the end of the heap; what it is now, changed or not (as the system call does: no error but the old value).
    pub fn brk(&self, new: usize, limits: &Limits) -> usize {
        let mut space = self.space.write();
        let old = space.brk;
        if new < space.start_brk || new > TASK_SIZE - PAGE_SIZE || space.is_released {
            return old;
        }
        let data = space.exec.end_data.saturating_sub(space.exec.start_data);
        if limits.data != u64::MAX && (new - space.start_brk + data) as u64 > limits.data {
            return old;
        }
        let (from, to) = (page_align(old), page_align(new));
        if to < from {
            let mut removed = Removed::new();
            if self.unmap_locked(&mut space, to, from, &mut removed).is_err() {
                return old;
            }
            space.brk = new;
            drop(space);
            return new;
        }
        if to > from && space.grow_heap(from, to, limits).is_err() {
            return old;
        }
        space.brk = new;
        let locked = space.def_flags.contains(VmFlags::LOCKED);
        drop(space);
        if locked && to > from {
            let _ = self.populate(from, to - from);
        }
        new
    }

    /// Makes the region of a new program's stack, `start..end`, which grows down as far as the limit allows.
    pub fn set_stack(&self, start: usize, end: usize, limits: &Limits) -> Result<()> {
        let mut space = self.space.write();
        if start >= end
            || !start.is_multiple_of(PAGE_SIZE)
            || !end.is_multiple_of(PAGE_SIZE)
            || end > TASK_SIZE
        {
            return Err(Errno::EINVAL);
        }
        if space.vmas.overlaps(start, end) {
            return Err(Errno::EEXIST);
        }
        space.vmas.reserve(start, end)?;
        let pages = (end - start) >> PAGE_SHIFT;
        overcommit::charge(pages, space.total_vm, limits.is_admin)?;
        let vm = VmFlags::STACK | space.def_flags;
        space.vmas.insert(Vma::new(start, end, vm, (start >> PAGE_SHIFT) as u64, None));
        space.account(vm, pages);
        if vm.contains(VmFlags::LOCKED) {
            space.locked_vm += pages;
        }
        self.stack_limit.store(limits.stack, Ordering::Relaxed);
        Ok(())
    }
}

impl Space {
    /// Splits the regions that straddle an end of `start..end`.
    pub(crate) fn isolate(&mut self, start: usize, end: usize) -> Result<()> {
        self.vmas.reserve(start, end)?;
        for at in [start, end] {
            if let Some(p) = self.vmas.find(at)
                && self.vmas.get(p).is_some_and(|v| v.start < at)
            {
                self.vmas.split(p, at);
            }
        }
        Ok(())
    }

    /// Where a new mapping goes (`get_unmapped_area`).
    pub(crate) fn place(
        &mut self,
        addr: usize,
        len: usize,
        flags: MapFlags,
        limits: &Limits,
    ) -> Result<usize> {
        if len > TASK_SIZE {
            return Err(Errno::ENOMEM);
        }
        let min = if limits.may_map_low { 0 } else { layout::mmap_min_addr() };
        if flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE) {
            if addr > TASK_SIZE - len {
                return Err(Errno::ENOMEM);
            }
            if !addr.is_multiple_of(PAGE_SIZE) {
                return Err(Errno::EINVAL);
            }
            if addr < min {
                return Err(Errno::EPERM);
            }
            if flags.contains(MapFlags::FIXED_NOREPLACE) && self.vmas.overlaps(addr, addr + len) {
                return Err(Errno::EEXIST);
            }
            return Ok(addr);
        }
        let low = layout::mmap_min_addr().max(PAGE_SIZE);
        let hint = if addr == 0 { 0 } else { page_align(addr).max(low) };
        if hint != 0 && hint <= TASK_SIZE - len {
            let next = self.vmas.find(hint).and_then(|p| self.vmas.get(p));
            if next.is_none_or(|v| hint + len <= v.start.saturating_sub(guard_of(v))) {
                return Ok(hint);
            }
        }
        if flags.contains(MapFlags::LOW_32BIT) {
            // The first GiB above 1 GiB, as Linux has it.
            return self.vmas.lowest_hole(0x4000_0000, 0x8000_0000, len, guard_of).ok_or(Errno::ENOMEM);
        }
        let base = self.mmap_base;
        self.vmas
            .highest_hole(low, base, len, guard_of)
            // A large stack limit leaves little below the base: bottom up, then, from a third of the space.
            .or_else(|| self.vmas.lowest_hole(page_align(TASK_SIZE / 3), TASK_SIZE, len, guard_of))
            .ok_or(Errno::ENOMEM)
    }

    /// As [`Space::place`] for memory without a file: whole large pages start at the address of one, so that their tables, and later
    /// large pages, fit. Linux has it so since 6.7, for lengths that are a multiple since 6.12.
    pub(crate) fn place_memory(
        &mut self,
        addr: usize,
        len: usize,
        flags: MapFlags,
        limits: &Limits,
    ) -> Result<usize> {
        let free_choice =
            addr == 0 && !flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE | MapFlags::LOW_32BIT);
        if free_choice && len.is_multiple_of(LARGE_PAGE) && len < TASK_SIZE - LARGE_PAGE {
            let low = layout::mmap_min_addr().max(PAGE_SIZE);
            let slack = LARGE_PAGE - PAGE_SIZE;
            if let Some(at) = self.vmas.highest_hole(low, self.mmap_base, len + slack, guard_of) {
                return Ok((at + slack) & !(LARGE_PAGE - 1));
            }
        }
        self.place(addr, len, flags, limits)
    }

    fn grow_heap(&mut self, from: usize, to: usize, limits: &Limits) -> Result<()> {
        let next = self.vmas.find(from).and_then(|p| self.vmas.get(p));
        if next.is_some_and(|v| v.start.saturating_sub(guard_of(v)) < to + PAGE_SIZE) {
            return Err(Errno::ENOMEM);
        }
        let pages = (to - from) >> PAGE_SHIFT;
        let vm = VmFlags::DATA | self.def_flags;
        if vm.contains(VmFlags::LOCKED) {
            self.may_lock(pages, false, limits)?;
        }
        if !self.may_expand(vm, pages, limits) || !self.has_room_for_region() {
            return Err(Errno::ENOMEM);
        }
        self.vmas.reserve(from, to)?;
        overcommit::charge(pages, self.total_vm, limits.is_admin)?;
        self.vmas.add(Vma::new(from, to, vm, (from >> PAGE_SHIFT) as u64, None));
        self.account(vm, pages);
        if vm.contains(VmFlags::LOCKED) {
            self.locked_vm += pages;
        }
        Ok(())
    }
}
