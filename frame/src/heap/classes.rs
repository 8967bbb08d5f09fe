//! The global allocator: size classes over pools, and runs of pages for what is larger.

use alloc::alloc::Layout;
use core::{alloc::GlobalAlloc, ptr, ptr::NonNull};

use super::{
    check,
    slab::{Pool, Source},
};
use crate::{
    arch,
    atomic::{AtomicU64, Ordering},
    page::{self, AllocFlags, FreeRun, Kind, MAX_ORDER, PAGE_SHIFT, PAGE_SIZE, Page},
};

/// Slabs in page frames.
pub(super) struct Frames;

impl Source for Frames {
    fn get(&self, order: u32) -> Option<NonNull<u8>> {
        let pfn = page::alloc_run(order, AllocFlags::ATOMIC)?.into_owned(Kind::Slab);
        NonNull::new(page::frame_ptr(pfn))
    }
    unsafe fn put(&self, base: NonNull<u8>, _order: u32) {
        let pfn = arch::ptr_to_phys(base.as_ptr()) >> PAGE_SHIFT;
        // SAFETY: the caller's promise.
        page::free_run(unsafe { FreeRun::from_owned(pfn, Kind::Slab) });
    }
    #[inline]
    fn meta(&self, base: *mut u8) -> &Page {
        page::page_at(arch::ptr_to_phys(base) >> PAGE_SHIFT)
    }
}

/// Linux's `kmalloc` sizes.
const SIZES: [usize; 13] = [8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192];
const NAMES: [&str; 13] = [
    "kmalloc-8",
    "kmalloc-16",
    "kmalloc-32",
    "kmalloc-64",
    "kmalloc-96",
    "kmalloc-128",
    "kmalloc-192",
    "kmalloc-256",
    "kmalloc-512",
    "kmalloc-1k",
    "kmalloc-2k",
    "kmalloc-4k",
    "kmalloc-8k",
];
const LARGEST: usize = 8192;

pub(super) static POOLS: [Pool; SIZES.len()] = {
    let mut pools = [const { Pool::new(8, 8) }; SIZES.len()];
    let mut i = 0;
    while i < SIZES.len() {
        pools[i] = Pool::new(SIZES[i], 8);
        i += 1;
    }
    pools
};

/// The class for sizes up to 256, by (size + 7) / 8.
const SMALL: [u8; 33] = {
    let mut t = [0; 33];
    let mut i = 1;
    while i < 33 {
        let mut c = 0;
        while SIZES[c] < i * 8 {
            c += 1;
        }
        t[i] = c as u8;
        i += 1;
    }
    t
};

/// Bytes that a block takes: with its red zone in checked builds.
#[inline]
fn padded(size: usize) -> usize {
    if check::ON && size < 2048 { size + 8 } else { size }
}

/// The class for a layout; `None` if it is a large one.
#[inline]
pub(super) fn class_of(layout: Layout) -> Option<usize> {
    let size = padded(layout.size()).max(layout.align());
    if size > LARGEST {
        return None;
    }
    let c = if size <= 256 { SMALL[size.div_ceil(8)] as usize } else { (size - 1).ilog2() as usize };
    // 96 and 192 are the sizes that are not powers of two; the next class is.
    Some(if SIZES[c].is_multiple_of(layout.align()) { c } else { c + 1 })
}

/// The order of a large layout.
fn order_of(layout: Layout) -> u32 {
    layout.size().max(layout.align()).div_ceil(PAGE_SIZE).next_power_of_two().trailing_zeros()
}

static LARGE: AtomicU64 = AtomicU64::new(0);

/// Pages in blocks of over 8 KiB.
pub fn large_pages() -> u64 {
    LARGE.load(Ordering::Relaxed)
}

pub(super) fn class_stats() -> impl Iterator<Item = super::CacheStats> {
    POOLS.iter().zip(NAMES).map(|(p, n)| p.stats(n))
}

/// The heap. On the machine an instance of this is the global allocator; hosted, tests use it directly.
pub struct Heap;

// SAFETY: blocks come from pools and runs that own their memory, are as large and as aligned as asked for, and are nobody else's until
// they are freed.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(c) = class_of(layout) else { return alloc_large(layout) };
        let p = POOLS[c].alloc(&Frames);
        if check::ON && !p.is_null() {
            // SAFETY: a block of this class.
            unsafe { check::set_redzone(p, layout.size(), SIZES[c]) };
        }
        p
    }

    #[inline]
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise: `p` came from `alloc` with this layout.
        unsafe {
            let Some(c) = class_of(layout) else { return free_large(p, layout) };
            if check::ON {
                check::verify_redzone(p, layout.size(), SIZES[c]);
            }
            POOLS[c].free(&Frames, p);
        }
    }

    unsafe fn realloc(&self, p: *mut u8, old: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise: `new_size` is valid for the alignment, `p` is a block with the old layout.
        unsafe {
            let new = Layout::from_size_align_unchecked(new_size, old.align());
            match (class_of(old), class_of(new)) {
                (Some(a), Some(b)) if a == b => {
                    if check::ON {
                        check::verify_redzone(p, old.size(), SIZES[a]);
                        check::set_redzone(p, new_size, SIZES[a]);
                    }
                    return p;
                }
                (None, None) if order_of(old) == order_of(new) => return p,
                _ => {}
            }
            let q = self.alloc(new);
            if !q.is_null() {
                ptr::copy_nonoverlapping(p, q, old.size().min(new_size));
                self.dealloc(p, old);
            }
            q
        }
    }
}

#[cold]
fn alloc_large(layout: Layout) -> *mut u8 {
    let order = order_of(layout);
    if order > MAX_ORDER {
        return ptr::null_mut();
    }
    match page::alloc_run(order, AllocFlags::ATOMIC | AllocFlags::NOWARN) {
        Some(run) => {
            LARGE.fetch_add(1 << order, Ordering::Relaxed);
            page::frame_ptr(run.into_owned(Kind::Large))
        }
        None => ptr::null_mut(),
    }
}

/// # Safety
/// `p` came from [`alloc_large`] with this layout and is not used any more.
#[cold]
unsafe fn free_large(p: *mut u8, layout: Layout) {
    LARGE.fetch_sub(1 << order_of(layout), Ordering::Relaxed);
    // SAFETY: the caller's promise; the kind word is checked too.
    page::free_run(unsafe { FreeRun::from_owned(arch::ptr_to_phys(p) >> PAGE_SHIFT, Kind::Large) });
}

#[cfg(target_os = "none")]
#[global_allocator]
static HEAP: Heap = Heap;
