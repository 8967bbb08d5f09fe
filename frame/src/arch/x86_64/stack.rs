//! Kernel stacks: pages mapped in an area of their own, with an unmapped page below each.
//!
//! The area is cut into equal slots. A stack that is dropped stays mapped and goes to a cache, from which the next one of its
//! size comes: making a thread then touches no page table, and no translation ever has to be shot down. The price is that the
//! memory of the most stacks that ever existed at a time stays theirs.

use core::{ops::Range, ptr};

use super::memory::{STACK_BASE, map_stack_page};
use crate::{
    context,
    page::{self, AllocFlags},
    sync::{LockClass, SpinLockIrq},
};

const PAGE: usize = 4096;
/// Pages in a slot: the guard and the largest stack.
const SLOT_PAGES: usize = 8;
const MAX_PAGES: usize = SLOT_PAGES - 1;
/// Slots in the area's 512 GiB; as many as there can be tasks with Linux's `PID_MAX_LIMIT`, and more.
const SLOTS: usize = 1 << 23;

struct Area {
    /// First slot never used.
    next: usize,
    /// Tops of unused stacks by size: each holds the next one's top in its highest word. 0 ends the list.
    free: [usize; MAX_PAGES + 1],
}

impl Area {
    /// An unused stack of this size from the cache: its top.
    fn take(&mut self, pages: usize) -> Option<usize> {
        let top = self.free[pages];
        if top == 0 {
            return None;
        }
        // SAFETY: an unused stack: mapped, and its highest word is the link.
        self.free[pages] = unsafe { link(top).read() };
        Some(top)
    }
}

static CLASS: LockClass = LockClass::new("kernel_stacks");
static AREA: SpinLockIrq<Area> = SpinLockIrq::new(&CLASS, Area { next: 0, free: [0; MAX_PAGES + 1] });

/// A kernel stack. Dropping it puts it into the cache.
pub struct Stack {
    top: usize,
    pages: usize,
}

fn link(top: usize) -> *mut usize {
    ptr::with_exposed_provenance_mut(top - size_of::<usize>())
}

impl Stack {
    /// A stack of 1 to 7 pages. `None` without memory.
    pub fn new(pages: usize) -> Option<Stack> {
        assert!((1..=MAX_PAGES).contains(&pages), "kernel stack of {pages} pages");
        if let Some(top) = AREA.lock().take(pages) {
            return Some(Stack { top, pages });
        }
        // Outside the lock, so that reclaim may make room where the caller can wait for it.
        let flags = if context::in_atomic() { AllocFlags::ATOMIC } else { AllocFlags::empty() };
        let mut frames = [const { None }; MAX_PAGES];
        for f in &mut frames[..pages] {
            *f = Some(page::alloc_page(flags)?);
        }
        let mut a = AREA.lock();
        if a.next == SLOTS {
            return None;
        }
        let top = STACK_BASE + (a.next + 1) * SLOT_PAGES * PAGE;
        for (i, f) in frames.iter().flatten().enumerate() {
            // SAFETY: the slot is new and the lock held. A slot does not straddle last-level tables, so if memory for a table is
            // short it is at the first page, before anything of the slot is mapped.
            unsafe { map_stack_page(top - (i + 1) * PAGE, f.pfn() * PAGE as u64)? };
        }
        a.next += 1;
        // The frames belong to the area from here.
        core::mem::forget(frames);
        Some(Stack { top, pages })
    }
    /// One past the highest address.
    pub fn top(&self) -> usize {
        self.top
    }
    /// Its addresses.
    pub fn range(&self) -> Range<usize> {
        self.top - self.pages * PAGE..self.top
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut a = AREA.lock();
        // SAFETY: nothing runs on the stack any more; its owner gives it up.
        unsafe { link(self.top).write(a.free[self.pages]) };
        a.free[self.pages] = self.top;
    }
}

/// True for an address in the unmapped part of a stack's slot (or of the area beyond).
pub(super) fn is_guard(va: usize) -> bool {
    (STACK_BASE..STACK_BASE + SLOTS * SLOT_PAGES * PAGE).contains(&va) || super::memory::is_boot_guard(va)
}
