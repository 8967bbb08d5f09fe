//! Locked memory: `mlock`, `munlock`, `mlockall`, and filling a range beforehand (`MAP_POPULATE`).
//!
//! There is no reclaim that a page would have to be kept from; what locking does today is to bring all pages in, and to
//! count them against `RLIMIT_MEMLOCK`.

use base::{Errno, Result};

use crate::{Access, Fault, Limits, Mm, PAGE_SHIFT, PAGE_SIZE, VmFlags, mm::Space, page_align, page_floor};

/// Bits of `mlockall`.
const MCL_CURRENT: u32 = 1;
const MCL_FUTURE: u32 = 2;
const MCL_ONFAULT: u32 = 4;
/// The bit of `mlock2`.
const MLOCK_ONFAULT: u32 = 1;

impl Space {
    /// Whether `pages` more may be locked. `asked` is false for what `mlockall(MCL_FUTURE)` locks by itself.
    pub(crate) fn may_lock(&self, pages: usize, asked: bool, limits: &Limits) -> Result<()> {
        if limits.may_lock_all {
            return Ok(());
        }
        if asked && limits.memlock == 0 {
            return Err(Errno::EPERM);
        }
        if (self.locked_vm + pages) as u64 > limits.memlock >> PAGE_SHIFT {
            return Err(Errno::EAGAIN);
        }
        Ok(())
    }

    /// Sets the lock bits of all regions in the range, as far as they go without a gap.
    fn set_locked(&mut self, start: usize, end: usize, bits: VmFlags) -> Result<()> {
        let covered = self.is_covered(start, end);
        let both = VmFlags::LOCKED | VmFlags::LOCKONFAULT;
        self.change_flags(start, end, |f| (f - both) | bits)?;
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// True if regions cover all of the range.
    pub(crate) fn is_covered(&self, start: usize, end: usize) -> bool {
        let mut at = start;
        for v in self.vmas.range(start, end) {
            if v.start > at {
                return false;
            }
            at = v.end;
        }
        at >= end
    }

    /// Gives the regions of a range new flags; splits and merges as needed. Permissions are not changed through this.
    pub(crate) fn change_flags(
        &mut self,
        start: usize,
        end: usize,
        f: impl Fn(VmFlags) -> VmFlags,
    ) -> Result<()> {
        let mut at = start;
        // A region that was joined with the one after it reaches beyond the end, so the address has to stop the loop.
        while at < end {
            let Some(v) = self.vmas.find(at).and_then(|p| self.vmas.get(p)).filter(|v| v.start < end) else {
                break;
            };
            let (from, to, old) = (v.start.max(at), v.end.min(end), v.flags);
            let new = f(old);
            at = to;
            if new == old {
                continue;
            }
            let splits = usize::from(v.start < from) + usize::from(v.end > to);
            if splits > 0 && !self.has_room_for_region() {
                return Err(Errno::ENOMEM);
            }
            self.isolate(from, to)?;
            if let Some(p) = self.vmas.find(from) {
                if let Some(v) = self.vmas.get_mut(p) {
                    v.flags = new;
                }
                self.vmas.merge_around(p);
            }
            let pages = (to - from) >> PAGE_SHIFT;
            match (old.contains(VmFlags::LOCKED), new.contains(VmFlags::LOCKED)) {
                (false, true) => self.locked_vm += pages,
                (true, false) => self.locked_vm -= pages,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The pages that a byte range touches; `EINVAL` if it wraps around.
fn pages_of(addr: usize, len: usize) -> Result<(usize, usize)> {
    let start = page_floor(addr);
    let len = page_align(len.wrapping_add(addr - start));
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    Ok((start, end))
}

impl Mm {
    /// `mlock2`.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`, `ENOMEM` (above the limit, or a gap), `EAGAIN` (could not be filled).
    pub fn mlock(&self, addr: usize, len: usize, flags: u32, limits: &Limits) -> Result<()> {
        if flags & !MLOCK_ONFAULT != 0 {
            return Err(Errno::EINVAL);
        }
        if !limits.may_lock_all && limits.memlock == 0 {
            return Err(Errno::EPERM);
        }
        let (start, end) = pages_of(addr, len)?;
        if start == end {
            return Ok(());
        }
        let mut space = self.space.write();
        let already: usize = space
            .vmas
            .range(start, end)
            .filter(|v| v.flags.contains(VmFlags::LOCKED))
            .map(|v| (v.end.min(end) - v.start.max(start)) >> PAGE_SHIFT)
            .sum();
        let more = ((end - start) >> PAGE_SHIFT) - already;
        if !limits.may_lock_all && (space.locked_vm + more) as u64 > limits.memlock >> PAGE_SHIFT {
            return Err(Errno::ENOMEM);
        }
        let on_fault = flags & MLOCK_ONFAULT != 0;
        let bits = if on_fault { VmFlags::LOCKED | VmFlags::LOCKONFAULT } else { VmFlags::LOCKED };
        space.set_locked(start, end, bits)?;
        drop(space);
        if !on_fault {
            self.populate(start, end - start).map_err(|f| match f {
                Fault::OutOfMemory => Errno::EAGAIN,
                _ => Errno::ENOMEM,
            })?;
        }
        Ok(())
    }

    /// `munlock`.
    pub fn munlock(&self, addr: usize, len: usize) -> Result<()> {
        let (start, end) = pages_of(addr, len)?;
        if start == end {
            return Ok(());
        }
        self.space.write().set_locked(start, end, VmFlags::empty())
    }

    /// `mlockall`.
    pub fn mlockall(&self, flags: u32, limits: &Limits) -> Result<()> {
        if flags == 0 || flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0 || flags == MCL_ONFAULT {
            return Err(Errno::EINVAL);
        }
        if !limits.may_lock_all && limits.memlock == 0 {
            return Err(Errno::EPERM);
        }
        let bits =
            if flags & MCL_ONFAULT != 0 { VmFlags::LOCKED | VmFlags::LOCKONFAULT } else { VmFlags::LOCKED };
        let mut space = self.space.write();
        if flags & MCL_CURRENT != 0
            && !limits.may_lock_all
            && space.total_vm as u64 > limits.memlock >> PAGE_SHIFT
        {
            return Err(Errno::ENOMEM);
        }
        space.def_flags = if flags & MCL_FUTURE != 0 { bits } else { VmFlags::empty() };
        if flags & MCL_CURRENT == 0 {
            return Ok(());
        }
        let end = crate::TASK_SIZE;
        let both = VmFlags::LOCKED | VmFlags::LOCKONFAULT;
        space.change_flags(0, end, |f| if f.contains(VmFlags::PFNMAP) { f } else { (f - both) | bits })?;
        let spans = space.vmas.len();
        drop(space);
        if flags & MCL_ONFAULT == 0 {
            let mut at = 0;
            for _ in 0..spans {
                let Some((start, end)) = self.find_vma(at, |v| (v.start, v.end)) else { break };
                // Failing to fill is ignored, as on Linux.
                let _ = self.populate(start, end - start);
                at = end;
            }
        }
        Ok(())
    }

    /// `munlockall`.
    pub fn munlockall(&self) -> Result<()> {
        let mut space = self.space.write();
        space.def_flags = VmFlags::empty();
        let both = VmFlags::LOCKED | VmFlags::LOCKONFAULT;
        space.change_flags(0, crate::TASK_SIZE, |f| f - both)
    }

    /// Brings all pages of a range in, writable ones as if written to.
    ///
    /// # Errors
    /// The first page that cannot be had.
    pub fn populate(&self, addr: usize, len: usize) -> Result<(), Fault> {
        self.populate_as(addr, len, None)
    }

    pub(crate) fn populate_as(&self, addr: usize, len: usize, access: Option<Access>) -> Result<(), Fault> {
        let end = page_align(addr + len);
        let mut at = page_floor(addr);
        while at < end {
            let Some((start, stop, flags)) = self.find_vma(at, |v| (v.start, v.end, v.flags)) else {
                return Err(Fault::SegvMaperr);
            };
            if start > at {
                return Err(Fault::SegvMaperr);
            }
            let how = access.unwrap_or(if flags & (VmFlags::WRITE | VmFlags::SHARED) == VmFlags::WRITE {
                Access::Write
            } else if flags.contains(VmFlags::EXEC) && !flags.contains(VmFlags::READ) {
                Access::Exec
            } else {
                Access::Read
            });
            let stop = stop.min(end);
            if access.is_none() && !flags.intersects(VmFlags::ACCESS) {
                // `PROT_NONE`: nothing to bring in.
                return Err(Fault::SegvAccerr);
            }
            while at < stop {
                self.fault_in(at, how)?;
                at += PAGE_SIZE;
            }
        }
        Ok(())
    }
}
