//! Memory for Rust's own values: boxes, vectors, `Arc`s, and typed caches.
//!
//! On the machine this is the global allocator; hosted, `std`'s is, and only [`RawCache`] and [`Cache`] run the code here.
//!
//! # How it works
//! ```text
//!   up to 8192 bytes: a size class ── slab::Pool ── per-processor list ── slabs of pages
//!   more:             one run of pages of a power of two, aligned to its size
//! ```
//! Allocation and release take the processor's own list with interrupts off for some ten instructions; they are legal in every
//! context but an NMI. Pages are asked for with [`AllocFlags::ATOMIC`], so the heap never sleeps and never enters reclaim: what it cannot get
//! at once it does not get. Blocks over 4 MiB (2^[`MAX_ORDER`] pages) do not exist; there is no virtually contiguous heap.
//!
//! Rust's collections abort when memory is missing. What user space can make grow uses `try_reserve`, [`try_box`], [`try_arc`] and [`try_vec`].
//!
//! # Checked builds
//! The slack behind a block is a red zone that is verified when the block is freed, freed objects are poisoned and verified when they are
//! handed out again, and a block that is freed twice in a row is reported. Blocks below 2 KiB get at least eight bytes of red zone.
//!
//! [`AllocFlags::ATOMIC`]: crate::page::AllocFlags::ATOMIC
//! [`MAX_ORDER`]: crate::page::MAX_ORDER

use alloc::{alloc::Layout, boxed::Box, sync::Arc, vec::Vec};

mod cache;
mod check;
mod classes;
mod slab;
#[cfg(test)]
mod tests;

pub use cache::{Cache, CacheBox, RawCache, drain_dead, shrink, stats};
pub use classes::{Heap, large_pages};

/// One cache or size class, for `/proc/slabinfo` and `Slab` of `/proc/meminfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheStats {
    pub name: &'static str,
    /// Bytes of an object.
    pub size: usize,
    /// Objects in use (those on per-processor lists are free).
    pub active: usize,
    /// Objects that there is room for.
    pub total: usize,
    /// Slabs, and pages of each.
    pub slabs: usize,
    pub pages_per_slab: usize,
}

/// Allocates raw memory; null if there is none. The layout is not empty.
fn raw(layout: Layout) -> *mut u8 {
    debug_assert!(layout.size() != 0);
    // SAFETY: the layout is not empty.
    unsafe { alloc::alloc::alloc(layout) }
}

/// A box, or `None` (and the value is dropped) without memory.
pub fn try_box<T>(value: T) -> Option<Box<T>> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        return Some(Box::new(value));
    }
    let p = raw(layout).cast::<T>();
    if p.is_null() {
        return None;
    }
    // SAFETY: freshly allocated by the global allocator for a `T`, and initialised here.
    unsafe {
        p.write(value);
        Some(Box::from_raw(p))
    }
}

/// An `Arc`, or `None` (and the value is dropped) without memory.
///
/// Stable Rust has no fallible `Arc`. This allocates a block of the same size, frees it, and calls `Arc::new` with interrupts off:
/// the block is then on top of this processor's list. For values over 8 KiB, which come from no list, another processor could take
/// the pages in between; keep large things boxed inside the `Arc`.
pub fn try_arc<T>(value: T) -> Option<Arc<T>> {
    /// Two counts in front of the value.
    const COUNTS: Layout = Layout::new::<[usize; 2]>();
    let (layout, _) = COUNTS.extend(Layout::new::<T>()).ok()?;
    let layout = layout.pad_to_align();
    // Without memory the value is dropped by the caller's rules, not with interrupts off: its drop may sleep.
    let mut value = Some(value);
    crate::page::lock::without_irqs(|| {
        let p = raw(layout);
        if p.is_null() {
            return None;
        }
        // SAFETY: just allocated with this layout.
        unsafe { alloc::alloc::dealloc(p, layout) };
        value.take().map(Arc::new)
    })
}

/// An empty vector with room for `cap` elements, or `None` without memory.
pub fn try_vec<T>(cap: usize) -> Option<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(cap).ok()?;
    Some(v)
}
