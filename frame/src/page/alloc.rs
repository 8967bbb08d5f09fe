//! Where pages come from: the installed policy, or early memory before there is one.

use super::{FreeRun, MAX_ORDER, PageRef, boot};
use crate::sync::once::Once;

bitflags::bitflags! {
    /// What the allocator may do to find memory, and for whom it is: Linux's `gfp_t` in words. None set is `GFP_KERNEL`: may
    /// sleep, reclaim and do I/O.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct AllocFlags: u32 {
        /// Must not sleep; may use part of the reserve.
        const ATOMIC   = 1 << 0;
        /// Contents are zero.
        const ZERO     = 1 << 1;
        /// May use part of the reserve.
        const HIGHPRIO = 1 << 2;
        /// Fail rather than try hard.
        const NORETRY  = 1 << 3;
        /// For a user program: counts against it, and may call the OOM killer.
        const USER     = 1 << 4;
        /// Reclaim must not call into file systems.
        const NOFS     = 1 << 5;
        /// Reclaim must not start I/O.
        const NOIO     = 1 << 6;
        /// Can be moved or reclaimed: goes to a movable block.
        const MOVABLE  = 1 << 7;
        /// Kernel memory that a shrinker can free.
        const RECLAIMABLE = 1 << 8;
        /// No message when it fails.
        const NOWARN   = 1 << 9;
        /// May use all of the reserve: frees memory, or dies soon.
        const MEMALLOC = 1 << 10;
        /// Below 4 GiB, for devices with 32-bit addresses.
        const DMA32    = 1 << 11;
    }
}

/// The policy that `mm` provides. Both functions are called from any context (hard interrupts, with any lock held), and must not use
/// the heap.
pub trait PageAllocator: Sync {
    /// A run of exactly this order.
    fn alloc(&self, order: u32, flags: AllocFlags) -> Option<FreeRun>;
    /// Takes a run back.
    fn free(&self, run: FreeRun);
}

static ALLOCATOR: Once<&'static dyn PageAllocator> = Once::new();

/// Installs the policy; the first call decides. Early memory goes on serving what the policy cannot, until
/// [`super::take_boot_memory`] hands it over: install first, then take.
pub fn install_allocator(a: &'static dyn PageAllocator) {
    ALLOCATOR.call_once(|| a);
}

/// A run of exactly this order.
///
/// # Panics
/// If the installed policy answers with another order.
#[inline]
pub(crate) fn alloc_run(order: u32, flags: AllocFlags) -> Option<FreeRun> {
    if order > MAX_ORDER {
        return None;
    }
    let Some(a) = ALLOCATOR.get() else { return boot::alloc(order) };
    match a.alloc(order, flags) {
        Some(run) => {
            assert!(run.order() == order, "asked for order {order}, got {}", run.order());
            Some(run)
        }
        None => boot::alloc(order),
    }
}

/// Gives a run back.
pub(crate) fn free(run: FreeRun) {
    // A simulation checks that no processor uses a translation to them any more.
    #[cfg(not(target_os = "none"))]
    crate::arch::note_frames_freed(run.pfn(), run.order());
    match ALLOCATOR.get() {
        Some(a) => a.free(run),
        None => boot::free(run),
    }
}

/// One page.
#[inline]
pub fn alloc_page(flags: AllocFlags) -> Option<PageRef> {
    alloc_pages(0, flags)
}

/// A page of `2^order` frames.
#[inline]
pub fn alloc_pages(order: u32, flags: AllocFlags) -> Option<PageRef> {
    let p = alloc_run(order, flags)?.into_page();
    if flags.contains(AllocFlags::ZERO) {
        p.zero();
    }
    Some(p)
}
