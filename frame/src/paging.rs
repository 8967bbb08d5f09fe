//! User address spaces as the processor sees them, and what must happen before a page may be used again.
//!
//! A [`PageTable`] is one four-level x86-64 tree in page frames; hosted, the same tree is walked in software. Its lower half maps user
//! memory, its upper half is the kernel's and is shared by all tables through their top-level entries.
//!
//! # Ownership
//! A leaf entry *owns* the reference of the page it maps: [`Cursor::map`] takes a [`PageRef`](crate::page::PageRef) over, and whatever removes the
//! entry hands the reference to a [`TlbBatch`]. A batch shoots down before it drops a single page, so no processor can reach a
//! freed page through a stale translation. The same holds for table pages. Entries marked [`Flags::SPECIAL`] map an
//! [`Immortal`](crate::page::Immortal) page and own nothing.
//!
//! # Locking
//! One spin lock per table ([`PageTable::lock`] gives the [`Cursor`] that does everything). It never sleeps: table pages come from
//! [`AllocFlags::ATOMIC`] memory, or from a [`TableReserve`] made before. The processor sets accessed and dirty bits without the lock, so what
//! clears or changes a present entry does it in one atomic step. Lock order: table lock, then the page allocator's.
//!
//! # Which processors use a table
//! `cpus` has a bit for each processor that has the table loaded, kernel threads that borrow it included.
//!
//! ```text
//!   a processor loading the table        one changing it
//!   set own bit in `cpus`                clear the entry
//!   load the root (empties the TLB)      fence; read `cpus`; interrupt those, wait
//! ```
//! Either the reader of `cpus` sees the bit, or the loading processor's walks see the cleared entry. A processor told to flush
//! a table that it merely borrows loads the kernel's own table instead and clears its bit: it is asked once, not each time.
//!
//! | | load | shoot down | drop of the table |
//! |---|---|---|---|
//! | load | own processor, interrupts off | order above | owner holds an `Arc`, so not at once |
//! | shoot down | | slots are per sender; senders serve each other while they wait | as left |
//! | drop | | | once, by the last `Arc` |

use alloc::sync::Arc;
use core::ptr;

use crate::{
    arch,
    atomic::{AtomicU64, Ordering},
    context::IrqGuard,
    cpu::CpuMask,
    heap,
    page::{self, AllocFlags, FreeRun, Kind, Pfn},
    sync::{LockClass, SpinLock},
};

mod active;
mod cursor;
mod entry;
mod fault;
mod fork;
#[cfg(target_os = "none")]
pub(crate) mod kernel;
mod moving;
mod range;
#[cfg(test)]
mod tests;
mod tlb;

pub use active::leave_user_table;
pub use cursor::Cursor;
pub use entry::{Entry, Flags, MAX_SWAP, Mapping};
pub use fault::{
    Access, Fault, FaultError, FaultHandler, Origin, handle_user_fault, install_fault_handler, on_fault,
};
pub(crate) use tlb::on_shootdown;
pub use tlb::{TlbBatch, TlbStats, tlb_stats};

/// Why something could not be mapped. The page that came with the request is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// A page table is missing and there is no memory for one: unlock, make a [`TableReserve`], give it to the cursor.
    NoMemory,
    /// Something is mapped there already.
    Busy,
    /// Not an address of the user half.
    BadAddress,
}

static CLASS: LockClass = LockClass::new("page_table");

/// One user address space's translations.
pub struct PageTable {
    root: Pfn,
    cpus: AtomicU64,
    lock: SpinLock<()>,
}

/// Entries of a table.
pub(crate) const ENTRIES: usize = 512;
/// Where the kernel's half begins in a top-level table.
const KERNEL_HALF: usize = 256;

impl PageTable {
    /// An empty address space. `None` without memory.
    pub fn new() -> Option<Arc<PageTable>> {
        let root = new_table(AllocFlags::empty())?;
        let pt = heap::try_arc(PageTable { root, cpus: AtomicU64::new(0), lock: SpinLock::new(&CLASS, ()) });
        let kernel = arch::kernel_root();
        if kernel != 0 && pt.is_some() {
            for i in KERNEL_HALF..ENTRIES {
                let e = entry::load(entry::slot(kernel, i));
                entry::store(entry::slot(root, i), e);
            }
        }
        // Without memory for the `Arc`, the value and with it the root are gone already: `drop` has run.
        pt
    }

    /// Locks the table. Preemption is off while the cursor lives.
    #[inline]
    pub fn lock(&self) -> Cursor<'_> {
        Cursor::new(self, self.lock.lock())
    }

    /// Locks a second table while another one is locked (parent before child, in `fork`).
    #[inline]
    pub fn lock_second(&self) -> Cursor<'_> {
        Cursor::new(self, self.lock.lock_nested())
    }

    /// Memory for the three tables that one address can need, allocated where sleeping is allowed.
    pub fn reserve() -> Option<TableReserve> {
        let mut r = TableReserve { tables: [0; 3], left: 0 };
        while r.left < 3 {
            r.tables[r.left] = new_table(AllocFlags::empty())?;
            r.left += 1;
        }
        Some(r)
    }

    /// Processors that have this table loaded, borrowers included.
    #[inline]
    pub fn cpus(&self) -> CpuMask {
        CpuMask(self.cpus.load(Ordering::SeqCst))
    }

    /// Loads the table on this processor.
    pub fn activate(&self, _g: &IrqGuard) {
        self.activate_switch();
    }

    /// As [`PageTable::activate`], for the middle of a task switch. Interrupts are off.
    #[inline]
    pub fn activate_switch(&self) {
        active::load(self);
    }

    /// The root's frame number, what the processor is loaded with.
    pub fn root(&self) -> Pfn {
        self.root
    }

    /// Pages that the user half's tables take, the top one included. Counted by a walk: for reports.
    pub fn table_pages(&self) -> u64 {
        fn below(table: Pfn, entries: usize, levels: u32) -> u64 {
            (0..entries)
                .map(|i| entry::load(entry::slot(table, i)))
                .filter(|&e| entry::is_page(e))
                .map(|e| 1 + if levels > 1 { below(entry::pfn(e), ENTRIES, levels - 1) } else { 0 })
                .sum()
        }
        let _held = self.lock.lock();
        // Three levels of tables hang below the top one; the last level's entries are pages, not tables.
        1 + below(self.root, KERNEL_HALF, 3)
    }
}

impl Drop for PageTable {
    fn drop(&mut self) {
        tlb::evict(self);
        range::free_all(self.root);
    }
}

impl core::fmt::Debug for PageTable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PageTable({:#x}, processors {:#x})", self.root, self.cpus().0)
    }
}

/// Table pages made in advance.
pub struct TableReserve {
    tables: [Pfn; 3],
    left: usize,
}

impl TableReserve {
    fn take(&mut self) -> Option<Pfn> {
        self.left = self.left.checked_sub(1)?;
        Some(self.tables[self.left])
    }
}

impl Drop for TableReserve {
    fn drop(&mut self) {
        while let Some(t) = self.take() {
            // SAFETY: a reserve owns its tables and no entry points to them.
            unsafe { free_table(t) };
        }
    }
}

/// A zeroed table page with an entry count of 0.
fn new_table(flags: AllocFlags) -> Option<Pfn> {
    let run = page::alloc_run(0, flags)?;
    // SAFETY: the run owns the frame.
    unsafe { page::copy::fill(page::frame_ptr(run.pfn()), 0, page::PAGE_SIZE) };
    TABLES.fetch_add(1, Ordering::Relaxed);
    Some(run.into_owned(Kind::Table))
}

/// Gives a table page back.
///
/// # Safety
/// No entry points to it, and no processor can still walk it.
unsafe fn free_table(pfn: Pfn) {
    TABLES.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: the caller's promise.
    page::free_run(unsafe { FreeRun::from_owned(pfn, Kind::Table) });
}

static TABLES: AtomicU64 = AtomicU64::new(0);

/// Table pages in use, all address spaces together: `PageTables` of `/proc/meminfo`.
pub fn table_pages() -> u64 {
    TABLES.load(Ordering::Relaxed)
}

/// True if both are the same table.
#[inline]
fn same(a: &PageTable, b: &PageTable) -> bool {
    ptr::eq(a, b)
}
