//! Memory: the page allocator, user address spaces, faults, and what happens when there is no memory left.
//!
//! | module | gives |
//! |---|---|
//! | [`buddy`] | zones with watermarks, buddy lists, per-processor lists; the allocator behind `frame::page` |
//! | [`Mm`] | one user address space: its regions ([`Vma`]), page tables, counters |
//! | [`fault`] | what a page fault does: demand zero, file pages, copy on write, stack growth |
//! | [`object`] | what can be mapped: the trait that files implement, and shared anonymous memory |
//! | [`overcommit`] | how much memory may be promised |
//! | [`oom`] | who is killed when memory is gone |
//! | [`stat`] | the event and state counters behind `/proc/vmstat` and `/proc/meminfo` |
//! | [`report`] | the text of `/proc/meminfo`, `vmstat`, `zoneinfo`, `buddyinfo`, `slabinfo` |
//!
//! # Lock order
//! `Mm` region lock (sleeping) → page-table lock (spinning) → zone lock (spinning, interrupts off).
//! A mapped object's own locks come between the first two: its `page` is called with the region lock held for
//! reading, and never with a page-table lock. Nothing here calls an object with the region lock held for writing,
//! except its cheap identity functions.
//!
//! # What is not here yet
//! Reclaim of pages in use (LRU lists, swap), huge pages, memory control groups, NUMA placement. Without reclaim,
//! an allocation for user space that meets the `min` watermark asks the registered shrinkers once and then the OOM killer.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod buddy;
pub mod fault;
pub mod flags;
mod fork;
pub mod layout;
mod madvise;
mod mlock;
mod mm;
mod mmap;
mod mprotect;
mod mremap;
pub mod object;
pub mod oom;
pub mod overcommit;
mod remote;
pub mod report;
pub mod slab;
mod special;
pub mod stat;
mod store;
mod teardown;
mod vma;
mod vma_tree;

pub use fault::{Access, Fault};
pub use flags::{MapFlags, Prot, VmFlags};
pub use mm::{ExecInfo, Limits, Mm, Rss, VmaInfo, VmaName};
pub use mmap::{FileMapping, MapRequest};
pub use mremap::{Remap, RemapFlags};
pub use object::{MapIdent, MapObject, Mappings};
pub use special::Special;
pub use store::{PageStore, SharedAnon, enter_shmem, leave_shmem};
pub use vma::Vma;

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// First address that user space cannot have: the 47-bit limit less one guard page, as on Linux.
pub const TASK_SIZE: usize = 0x7fff_ffff_f000;

/// `addr` rounded up to a page; 0 where that overflows.
#[inline]
pub const fn page_align(addr: usize) -> usize {
    addr.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1)
}
/// `addr` rounded down to a page.
#[inline]
pub const fn page_floor(addr: usize) -> usize {
    addr & !(PAGE_SIZE - 1)
}

/// Takes over all free memory from the boot allocator and declares the knobs and files. Called once, on the boot processor.
pub fn init() {
    buddy::init();
    let gone = |c| {
        buddy::drain_cpu(c);
        Ok(())
    };
    // It counts as on line in both directions.
    let comes = |_| {
        buddy::resize_lists(frame::cpu::online().count());
        Ok(())
    };
    let goes = |_| {
        buddy::resize_lists(frame::cpu::online().count() - 1);
        Ok(())
    };
    use sched::cpuhp::{Section, register};
    register(Section::Prepare, "mm/page_alloc:dead", None, Some(gone))
        .and_then(|_| register(Section::Online, "mm/page_alloc:pcp", Some(comes), Some(goes)))
        .expect("the table of states has room at boot");
    report::register();
}
