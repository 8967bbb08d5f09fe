//! Shooting down stale translations.
//!
//! Each processor has one request slot, used while it waits. The sender writes what to flush, sets the receivers' bits in `pending`, sets its own
//! bit in each receiver's `INCOMING` word and interrupts it. A receiver takes its whole word, serves each sender in it and clears its bit in
//! that sender's `pending`. Nothing is allocated. A sender that waits has interrupts on, and also serves its own word in its
//! loop, so two senders cannot wait for each other, and a receiver with interrupts off delays the sender but needs nothing from it.
//!
//! Slots are taken with softirqs held off and never in a hard interrupt, so a processor has one request at a time.

use alloc::vec::Vec;
use core::{cell::UnsafeCell, mem::MaybeUninit, ptr};

use super::{PageTable, active, entry, free_table, same};
use crate::{
    arch,
    atomic::{AtomicU64, Ordering, fence},
    context::{self, PreemptGuard, SoftirqGuard},
    cpu::{CpuMask, MAX_CPUS},
    page::{PAGE_SIZE, PageRef, Pfn},
    task,
};

/// Pages that are flushed one by one; beyond, emptying the TLB is cheaper. Linux's `tlb_single_page_flush_ceiling`.
const SINGLE_MAX: usize = 33;
/// Separate ranges that a request names. Most batches have one; more than these empty the TLB.
const RANGES: usize = 4;

/// What to flush.
#[derive(Clone, Copy)]
struct Ranges {
    n: usize,
    all: bool,
    list: [(usize, usize); RANGES],
}

impl Ranges {
    const NONE: Ranges = Ranges { n: 0, all: false, list: [(0, 0); RANGES] };

    fn is_empty(&self) -> bool {
        self.n == 0 && !self.all
    }

    #[inline]
    fn add(&mut self, start: usize, end: usize) {
        if self.n > 0 {
            let last = &mut self.list[self.n - 1];
            if start >= last.0 && start <= last.1 {
                last.1 = last.1.max(end);
                return;
            }
        }
        if self.n == RANGES {
            self.all = true;
        } else {
            self.list[self.n] = (start, end);
            self.n += 1;
        }
    }

    /// Flushes them on this processor.
    fn flush_here(&self) {
        let list = &self.list[..self.n];
        if self.all || list.iter().map(|r| (r.1 - r.0) / PAGE_SIZE).sum::<usize>() > SINGLE_MAX {
            arch::flush_all();
            return;
        }
        for r in list {
            for va in (r.0..r.1).step_by(PAGE_SIZE) {
                arch::flush_page(va);
            }
        }
    }
}

#[derive(Clone, Copy)]
enum What {
    /// Translations of this table.
    User(*const PageTable),
    /// Stop using this table: it is about to go.
    Leave(*const PageTable),
}

#[derive(Clone, Copy)]
struct Request {
    what: What,
    ranges: Ranges,
}

#[repr(align(64))]
struct RequestSlot {
    /// Receivers that have not served it yet.
    pending: AtomicU64,
    request: UnsafeCell<Request>,
}

// SAFETY: the request is written by the slot's own processor while `pending` is 0, and read by processors in `pending`, which
// they leave with release order.
unsafe impl Sync for RequestSlot {}

static SLOTS: [RequestSlot; MAX_CPUS] = [const {
    RequestSlot {
        pending: AtomicU64::new(0),
        request: UnsafeCell::new(Request { what: What::Leave(ptr::null()), ranges: Ranges::NONE }),
    }
}; MAX_CPUS];

/// Senders that wait for each processor.
static INCOMING: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

static LOCAL: AtomicU64 = AtomicU64::new(0);
static REMOTE: AtomicU64 = AtomicU64::new(0);
static RECEIVED: AtomicU64 = AtomicU64::new(0);

/// Counters of `/proc/vmstat` and `/proc/interrupts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlbStats {
    /// Shoot-downs that needed no other processor.
    pub local: u64,
    /// Interrupts sent.
    pub remote: u64,
    /// Requests served.
    pub received: u64,
}

pub fn tlb_stats() -> TlbStats {
    TlbStats {
        local: LOCAL.load(Ordering::Relaxed),
        remote: REMOTE.load(Ordering::Relaxed),
        received: RECEIVED.load(Ordering::Relaxed),
    }
}

/// Serves one request. Interrupts are off.
fn serve(r: &Request) {
    match r.what {
        What::User(pt) if active::is_loaded(pt) => {
            if task::borrows_page_table() {
                active::leave();
            } else {
                r.ranges.flush_here();
            }
        }
        What::Leave(pt) if active::is_loaded(pt) => active::leave(),
        _ => {}
    }
}

/// What a back end calls when the interrupt of `arch::send_shootdown` arrives; also what a waiting sender does.
pub(crate) fn on_shootdown() {
    let me = arch::cpu_id() as usize;
    crate::page::lock::without_irqs(|| {
        let mut senders = INCOMING[me].swap(0, Ordering::SeqCst);
        while senders != 0 {
            let s = senders.trailing_zeros() as usize;
            senders &= senders - 1;
            // SAFETY: our bit in its `pending` keeps the sender from touching the request.
            serve(unsafe { &*SLOTS[s].request.get() });
            RECEIVED.fetch_add(1, Ordering::Relaxed);
            SLOTS[s].pending.fetch_and(!(1 << me), Ordering::Release);
        }
    });
}

/// Has `others` serve the request, and waits until they have.
///
/// # Panics
/// In a hard interrupt; checked builds, with interrupts off: another processor might wait for this one.
#[cold]
#[inline(never)]
fn send(others: CpuMask, request: Request) {
    assert!(!context::in_hardirq() && !context::in_nmi(), "TLB shoot-down in a hard interrupt");
    debug_assert!(arch::irqs_enabled(), "TLB shoot-down with interrupts off");
    let _g = SoftirqGuard::new();
    let me = arch::cpu_id() as usize;
    let slot = &SLOTS[me];
    // SAFETY: `pending` is 0 and this is our own slot: nobody reads it.
    unsafe { *slot.request.get() = request };
    slot.pending.store(others.0, Ordering::Release);
    for cpu in others.iter() {
        // Someone else's bit means that an interrupt is on its way, and its handler will find ours too.
        if INCOMING[cpu.index()].fetch_or(1 << me, Ordering::SeqCst) == 0 {
            REMOTE.fetch_add(1, Ordering::Relaxed);
            arch::send_shootdown(cpu.get());
        }
    }
    while slot.pending.load(Ordering::Acquire) != 0 {
        on_shootdown();
        arch::relax();
    }
}

/// Flushes a table's ranges wherever it is loaded.
fn shoot(pt: &PageTable, ranges: &Ranges) {
    // Between the changed entries and the look at who has the table loaded.
    fence(Ordering::SeqCst);
    let g = PreemptGuard::new();
    let me = g.cpu();
    let cpus = pt.cpus();
    if cpus.contains(me) {
        ranges.flush_here();
    }
    let others = cpus.without(me);
    if others.is_empty() {
        LOCAL.fetch_add(1, Ordering::Relaxed);
    } else {
        send(others, Request { what: What::User(pt), ranges: *ranges });
    }
}

/// Makes every processor stop using a table that is about to go.
pub(super) fn evict(pt: &PageTable) {
    let g = PreemptGuard::new();
    let me = g.cpu();
    if pt.cpus().contains(me) {
        crate::page::lock::without_irqs(|| {
            if active::is_loaded(pt) {
                active::leave();
            }
        });
    }
    let others = pt.cpus().without(me);
    if !others.is_empty() {
        send(others, Request { what: What::Leave(ptr::from_ref(pt)), ranges: Ranges::NONE });
    }
}

/// References that a batch holds without allocating.
const INLINE: usize = 32;
/// A batch flushes itself when it holds this many: 32 MiB of memory wait, and the list takes 64 KiB.
const MOST: usize = 8192;

/// Pages and tables that were unmapped, and the addresses at which processors may still see them. [`TlbBatch::flush`] (or drop) shoots down,
/// then lets go of them: never the other way round. Call it with interrupts on, outside of hard interrupts.
///
/// Forgetting a batch loses its pages, safely.
pub struct TlbBatch<'pt> {
    pt: &'pt PageTable,
    ranges: Ranges,
    n: usize,
    few: [MaybeUninit<u64>; INLINE],
    more: Vec<u64>,
}

/// Marks a table page in a batch's list.
const IS_TABLE: u64 = 1 << 63;

impl<'pt> TlbBatch<'pt> {
    #[inline]
    pub fn new(pt: &'pt PageTable) -> Self {
        TlbBatch { pt, ranges: Ranges::NONE, n: 0, few: [MaybeUninit::uninit(); INLINE], more: Vec::new() }
    }

    /// A batch of another table would flush the wrong translations.
    #[inline]
    pub(super) fn check(&self, pt: &PageTable) {
        assert!(same(self.pt, pt), "TLB batch of another page table");
    }

    /// Addresses whose translations changed.
    #[inline]
    pub(super) fn range(&mut self, va: usize, len: usize) {
        let va = va & !(PAGE_SIZE - 1);
        self.ranges.add(va, va + len);
    }

    /// An entry that is gone.
    #[inline]
    pub(super) fn removed(&mut self, va: usize, e: u64) {
        if e & entry::P != 0 {
            self.range(va, PAGE_SIZE);
        }
        if entry::owns_page(e) {
            self.push(entry::pfn(e));
        }
    }

    /// A table page that is out of the tree. Flushing any address also empties the processor's caches of upper levels (Intel SDM volume 3, 4.10.4.1).
    pub(super) fn removed_table(&mut self, va: usize, table: Pfn) {
        self.range(va, PAGE_SIZE);
        self.push(table | IS_TABLE);
    }

    #[inline]
    fn push(&mut self, item: u64) {
        if self.n < INLINE {
            self.few[self.n].write(item);
            self.n += 1;
        } else {
            self.push_more(item);
        }
    }

    #[cold]
    fn push_more(&mut self, item: u64) {
        if self.more.len() < MOST
            && (self.more.len() < self.more.capacity()
                || self.more.try_reserve(self.more.len().max(64)).is_ok())
        {
            self.more.push(item);
        } else {
            self.flush();
            self.few[0].write(item);
            self.n = 1;
        }
    }

    /// True if there is nothing to flush or to let go of.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.n == 0
    }

    /// Shoots down, then drops the pages.
    pub fn flush(&mut self) {
        if !self.ranges.is_empty() {
            shoot(self.pt, &self.ranges);
            self.ranges = Ranges::NONE;
        }
        for i in 0..core::mem::take(&mut self.n) {
            // SAFETY: the first `n` are written, and are let go of once.
            unsafe { release(self.few[i].assume_init()) };
        }
        for item in self.more.drain(..) {
            // SAFETY: as above.
            unsafe { release(item) };
        }
    }
}

/// # Safety
/// The item's entry is gone, and so are all cached translations of it; it is let go of once.
unsafe fn release(item: u64) {
    if item & IS_TABLE != 0 {
        // SAFETY: the caller's promise.
        unsafe { free_table(item & !IS_TABLE) };
    } else {
        // SAFETY: the caller's promise: the entry's reference is ours.
        drop(unsafe { PageRef::from_raw(item) });
    }
}

impl Drop for TlbBatch<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_empty() {
            self.flush();
        }
    }
}
