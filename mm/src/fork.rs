//! `fork`: a second address space with the same contents, sharing every page until one side writes it.

use alloc::sync::Arc;

use base::{Errno, Result};
use frame::{
    atomic::Ordering,
    paging::{Entry, MapError, PageTable, TlbBatch},
};

use crate::{
    Mm, PAGE_SIZE, VmFlags, Vma, overcommit,
    teardown::{counted, kind_of, mapped},
};

/// Bytes copied under one hold of the table locks, aligned: what one leaf table maps, so that a reserve of three tables is enough.
const STRETCH: usize = 512 * PAGE_SIZE;

impl Mm {
    /// A copy for a new process. Private pages are shared read-only by both and copied by whoever writes first; pages of shared
    /// mappings that can be found again by a fault are not copied.
    ///
    /// # Errors
    /// `ENOMEM`: no memory, or the promise (see [`overcommit`]) cannot be given twice.
    pub fn fork(&self) -> Result<Arc<Mm>> {
        let child = Mm::new()?;
        let space = self.space.write();
        {
            let mut cs = child.space.write_nested();
            cs.start_brk = space.start_brk;
            cs.brk = space.brk;
            cs.mmap_base = space.mmap_base;
            cs.exec = space.exec;
            for v in space.vmas.iter() {
                if v.flags.contains(VmFlags::DONTCOPY) {
                    continue;
                }
                let pages = v.pages();
                if v.flags.contains(VmFlags::ACCOUNT) {
                    overcommit::charge(pages, space.total_vm, true)?;
                }
                let copy = v.for_child();
                let flags = copy.flags;
                if let Err(e) = cs.vmas.push(copy) {
                    if flags.contains(VmFlags::ACCOUNT) {
                        overcommit::uncharge(pages);
                    }
                    return Err(e);
                }
                cs.account(flags, pages);
                if let Some(m) = v.file.as_ref().and_then(|o| o.mappings()) {
                    m.add(&Arc::downgrade(&child))?;
                }
            }
        }
        let mut batch = TlbBatch::new(&self.pt);
        for v in space.vmas.iter() {
            if v.flags.intersects(VmFlags::DONTCOPY | VmFlags::WIPEONFORK) || !needs_pages(v) {
                continue;
            }
            self.copy_pages(&child, v, &mut batch)?;
        }
        // Before this lock is dropped: until the translations are gone, this side could write pages that the child shares.
        batch.flush();
        drop(space);
        child.stack_limit.store(self.stack_limit.load(Ordering::Relaxed), Ordering::Relaxed);
        child.set_exe(self.exe());
        Ok(child)
    }

    fn copy_pages<'a>(&'a self, child: &Mm, v: &Vma, batch: &mut TlbBatch<'a>) -> Result<()> {
        let mut at = v.start;
        let mut reserve = None;
        while at < v.end {
            let end = ((at + STRETCH) & !(STRETCH - 1)).min(v.end);
            let mut copied = [0i64; 3];
            let mut from = self.pt.lock();
            let mut to = child.pt.lock_second();
            if let Some(r) = reserve.take() {
                to.give(r);
            }
            let r = from.copy_range_with(&mut to, at..end, v.is_private(), batch, |_, e| {
                if let Entry::Page(m) = e
                    && let Some(p) = counted(&m)
                {
                    let kind = kind_of(p);
                    mapped(p, kind);
                    copied[kind as usize] += 1;
                }
                true
            });
            drop(to);
            drop(from);
            for (cell, n) in child.rss_cells().iter().zip(copied) {
                cell.fetch_add(n, Ordering::Relaxed);
            }
            match r {
                Ok(_) => at = end,
                Err(MapError::NoMemory) => {
                    // What is copied already is taken out again, or the second try would find it in the way.
                    child.zap(at..end, crate::teardown::Zap::All);
                    reserve = Some(PageTable::reserve().ok_or(Errno::ENOMEM)?);
                }
                Err(_) => return Err(Errno::ENOMEM),
            }
        }
        Ok(())
    }
}

/// False for regions whose pages faults find again in the object.
fn needs_pages(v: &Vma) -> bool {
    v.flags.contains(VmFlags::PFNMAP) || v.is_private() && (v.file.is_none() || !v.anon.is_none())
}
