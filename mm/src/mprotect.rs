//! `mprotect`: changing what may be done with memory.

use base::{Errno, Result};
use frame::paging::{Flags, Mapping, TlbBatch};

use crate::{
    Limits, Mm, PAGE_SHIFT, PAGE_SIZE, Prot, VmFlags,
    fault::leaf_flags,
    mm::{RssKind, Space},
    overcommit, page_align,
    teardown::{counted, kind_of},
};

/// Bytes changed under one hold of the table lock.
const STRETCH: usize = 1024 * PAGE_SIZE;

impl Mm {
    /// Changes the permissions of a range.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM` (a gap; what comes before it is changed), `EACCES` (more than the file's open mode allows).
    pub fn mprotect(&self, addr: usize, len: usize, prot: Prot, limits: &Limits) -> Result<()> {
        let grows = prot & (Prot::GROWSDOWN | Prot::GROWSUP);
        if grows == Prot::GROWSDOWN | Prot::GROWSUP || !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let len = page_align(len);
        let mut start = addr;
        let Some(end) = start.checked_add(len).filter(|&e| e > start) else { return Err(Errno::ENOMEM) };
        if prot.bits() & !(Prot::READ | Prot::WRITE | Prot::EXEC | Prot::SEM | grows).bits() != 0 {
            return Err(Errno::EINVAL);
        }
        let mut space = self.space.write();
        let Some(v) = space.vmas.find(start).and_then(|p| space.vmas.get(p)) else {
            return Err(Errno::ENOMEM);
        };
        if grows == Prot::GROWSDOWN {
            if v.start >= end {
                return Err(Errno::ENOMEM);
            }
            if !v.flags.contains(VmFlags::GROWSDOWN) {
                return Err(Errno::EINVAL);
            }
            start = v.start;
        } else {
            if v.start > start {
                return Err(Errno::ENOMEM);
            }
            if grows == Prot::GROWSUP {
                // No region grows up on this architecture.
                return Err(Errno::EINVAL);
            }
        }
        let access = VmFlags::from_prot(prot);
        let mut at = start;
        while at < end {
            let found = space.vmas.find(at).and_then(|p| space.vmas.get(p));
            let Some(v) = found.filter(|v| v.start <= at) else { return Err(Errno::ENOMEM) };
            let to = v.end.min(end);
            let new = (v.flags - VmFlags::ACCESS) | access;
            if new.exceeds_may() {
                return Err(Errno::EACCES);
            }
            self.protect_region(&mut space, at, to, new, limits)?;
            at = to;
        }
        Ok(())
    }

    /// `start..end` lies in one region.
    fn protect_region(
        &self,
        space: &mut Space,
        start: usize,
        end: usize,
        mut new: VmFlags,
        limits: &Limits,
    ) -> Result<()> {
        let Some(v) = space.vmas.containing(start) else { return Err(Errno::ENOMEM) };
        let (old, straddles) = (v.flags, v.start < start || v.end > end);
        if new == old {
            return Ok(());
        }
        let pages = (end - start) >> PAGE_SHIFT;
        let mut promised = 0;
        if new.contains(VmFlags::WRITE) {
            if !space.may_expand(new, pages, limits) && new.is_data() && !old.is_data() {
                return Err(Errno::ENOMEM);
            }
            if !old.intersects(VmFlags::ACCOUNT | VmFlags::WRITE | VmFlags::SHARED | VmFlags::NORESERVE) {
                overcommit::charge(pages, space.total_vm, limits.is_admin)?;
                promised = pages;
                new |= VmFlags::ACCOUNT;
            }
        }
        if straddles && !space.has_room_for_region() {
            overcommit::uncharge(promised);
            return Err(Errno::ENOMEM);
        }
        if let Err(e) = space.isolate(start, end) {
            overcommit::uncharge(promised);
            return Err(e);
        }
        space.unaccount(old, pages);
        space.account(new, pages);
        if let Some(p) = space.vmas.find(start) {
            if let Some(v) = space.vmas.get_mut(p) {
                v.flags = new;
                self.protect_pages(start, end, new, v.file.as_ref().is_some_and(|o| o.tracks_dirty()));
            }
            space.vmas.merge_around(p);
        }
        Ok(())
    }

    /// Brings the page table in line. A private page becomes writable at once only if nobody else has it; a page whose first
    /// write must be seen, only if it is dirty already; all others wait for the fault.
    fn protect_pages(&self, start: usize, end: usize, vm: VmFlags, tracks_dirty: bool) {
        let flags = leaf_flags(vm);
        let shared = vm.contains(VmFlags::SHARED);
        let mut batch = TlbBatch::new(&self.pt);
        let rights = |m: &Mapping| {
            let writable = flags.contains(Flags::WRITE)
                && counted(m).is_some_and(|p| {
                    if shared {
                        !tracks_dirty || m.writable()
                    } else {
                        kind_of(p) == RssKind::Anon && p.refs() == 1
                    }
                });
            Some(if writable { flags } else { flags - Flags::WRITE })
        };
        let mut at = start;
        while at < end {
            let mut c = self.pt.lock();
            let Some(first) = c.next_table(at, end) else { break };
            at = (first + STRETCH).min(end);
            c.update_range(first..at, &mut batch, |_, m| rights(m));
        }
    }
}
