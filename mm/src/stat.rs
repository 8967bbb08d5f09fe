//! Event and state counters: what `/proc/vmstat` and `/proc/meminfo` show.
//!
//! One array of cells per processor, summed when read. A state counter (`nr_…`) may be negative on one processor and is never
//! negative in the sum, but for the moment between two additions.

use frame::{
    atomic::{AtomicI64, Ordering},
    cpu::PerCpu,
    sync::once::Once,
};

macro_rules! items {
    ($($(#[$doc:meta])* $item:ident = $name:literal,)*) => {
        /// What is counted. Each has its line in `/proc/vmstat`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Item { $($(#[$doc])* $item,)* }
        /// Items and their names.
        pub const ALL: &[(Item, &str)] = &[$((Item::$item, $name),)*];
    };
}

items! {
    /// Anonymous pages mapped somewhere.
    AnonMapped = "nr_anon_pages",
    /// Pages of files and of shared memory mapped somewhere.
    FileMapped = "nr_mapped",
    /// Pages in page caches, shared memory included.
    FilePages = "nr_file_pages",
    /// Pages of tmpfs and shared anonymous memory.
    Shmem = "nr_shmem",
    /// Pages given out, by zone.
    AllocDma = "pgalloc_dma",
    AllocDma32 = "pgalloc_dma32",
    AllocNormal = "pgalloc_normal",
    Free = "pgfree",
    Fault = "pgfault",
    /// Allocations that had to free memory themselves.
    AllocStallDma32 = "allocstall_dma32",
    AllocStallNormal = "allocstall_normal",
    OomKill = "oom_kill",
}

const N: usize = ALL.len();
type Cells = [AtomicI64; N];
static CELLS: Once<PerCpu<Cells>> = Once::new();

/// Makes the cells. Before, counting does nothing.
pub(crate) fn init() {
    CELLS.call_once(|| PerCpu::new(|_| [const { AtomicI64::new(0) }; N]));
}

/// Counts.
#[inline]
pub fn add(item: Item, n: i64) {
    if let Some(c) = CELLS.get() {
        c.any()[item as usize].fetch_add(n, Ordering::Relaxed);
    }
}

/// The sum over all processors.
pub fn get(item: Item) -> u64 {
    CELLS.get().map_or(0, |c| {
        c.iter().map(|(_, c)| c[item as usize].load(Ordering::Relaxed)).sum::<i64>().max(0) as u64
    })
}
