//! The page allocator: zones, buddy lists, watermarks, per-processor lists.
//!
//! # Buddies
//! Free memory of a zone is kept as aligned blocks of `2^order` frames, order 0 to 10. Two blocks that are halves of one aligned larger
//! block are *buddies*. An allocation takes the smallest block that is large enough and gives the unused halves back; a free joins
//! buddies as long as both are free. So a block is free exactly if it is on a list, and no two buddies ever are ([`area`]).
//!
//! # Zones
//! Devices with few address bits need low frames: `DMA` is below 16 MiB, `DMA32` below 4 GiB, `Normal` the rest. Allocations that do not care
//! begin at the highest zone; `lowmem_reserve` keeps them from using up the lower ones.
//!
//! # Watermarks ([`watermark`])
//! ```text
//!   high   reclaim in the background stops          min    allocations for user space stop here: shrinkers, then the OOM killer
//!   low    reclaim in the background would start    below  kernel memory down to 1/2, ATOMIC to 3/8; who frees memory or dies: all of it
//! ```
//! Linux lets kernel allocations below `min` only if they may not sleep, and makes the others reclaim. This allocator is called with
//! locks held, so it cannot; the half that kernel memory may use is what keeps the kernel going while user programs are stopped at `min`.
//!
//! # Per-processor lists ([`pcp`])
//! Most requests are single pages. Each processor keeps some blocks of order 0 to 3; it takes and returns them in batches.
//! As on Linux, these count as neither free (`MemFree`) nor used.
//!
//! Locks: per-processor list → zone. Both hold interrupts off; nothing is allocated or called under them.

mod area;
mod pcp;
#[cfg(test)]
mod tests;
pub mod watermark;

use alloc::vec::Vec;

use frame::{
    atomic::{AtomicU64, Ordering},
    boot::{self, RegionKind},
    cpu::{self, PerCpu},
    page::{self, AllocFlags, FreeRun, MAX_ORDER, PageAllocator, Pfn},
    sync::{LockClass, SpinLockIrq, once::Once},
};

use crate::{PAGE_SHIFT, fault, overcommit, stat};
use area::FreeArea;
use pcp::Pcp;
use watermark::Watermarks;

static ZONE: LockClass = LockClass::new("zone");

/// Names of the zones and the first frame above each.
const ZONES: [(&str, Pfn); 3] =
    [("DMA", 16 << (20 - PAGE_SHIFT)), ("DMA32", 4 << (30 - PAGE_SHIFT)), ("Normal", Pfn::MAX)];
const ALLOC_ITEM: [stat::Item; 3] = [stat::Item::AllocDma, stat::Item::AllocDma32, stat::Item::AllocNormal];

struct Zone {
    start: Pfn,
    end: Pfn,
    /// Frames of RAM in it, those of the kernel image included.
    present: u64,
    /// Frames that this allocator was given.
    managed: AtomicU64,
    /// Frames on the buddy lists; changed under the lock, read without.
    free: AtomicU64,
    area: SpinLockIrq<FreeArea>,
    min: AtomicU64,
    low: AtomicU64,
    high: AtomicU64,
    /// Frames that allocations which could use a higher zone must leave, by the highest zone they can use.
    protection: [AtomicU64; 3],
}

/// The allocator.
struct Buddy {
    zones: [Zone; 3],
    pcp: PerCpu<SpinLockIrq<Pcp>>,
    batch: AtomicU64,
}

static BUDDY: Once<Buddy> = Once::new();
/// `vm.min_free_kbytes` and `vm.watermark_scale_factor`.
pub(crate) static MIN_FREE_KBYTES: AtomicU64 = AtomicU64::new(0);
pub(crate) static SCALE_FACTOR: AtomicU64 = AtomicU64::new(10);

impl Zone {
    fn new(i: usize) -> Zone {
        let start = if i == 0 { 0 } else { ZONES[i - 1].1 };
        let end = ZONES[i].1.min(page::max_pfn()).max(start);
        let present = boot::info()
            .memory
            .iter()
            .filter(|r| matches!(r.kind, RegionKind::Usable | RegionKind::Kernel | RegionKind::Initrd))
            .map(|r| (r.end >> PAGE_SHIFT).min(end).saturating_sub((r.start >> PAGE_SHIFT).max(start)))
            .sum();
        Zone {
            start,
            end,
            present,
            managed: AtomicU64::new(0),
            free: AtomicU64::new(0),
            area: SpinLockIrq::new(&ZONE, FreeArea::new(start, end)),
            min: AtomicU64::new(0),
            low: AtomicU64::new(0),
            high: AtomicU64::new(0),
            protection: [const { AtomicU64::new(0) }; 3],
        }
    }

    /// Whether a request may take `2^order` frames here.
    #[inline]
    fn allows(&self, order: u32, flags: AllocFlags, highest: usize) -> bool {
        let min = self.min.load(Ordering::Relaxed);
        let mark = watermark::mark(min, flags);
        let kept = if flags.contains(AllocFlags::MEMALLOC) {
            0
        } else {
            self.protection[highest].load(Ordering::Relaxed)
        };
        self.free.load(Ordering::Relaxed) >= mark + kept + (1 << order)
    }

    fn free(&self, run: FreeRun) {
        let n = 1u64 << run.order();
        let mut a = self.area.lock();
        a.put(run);
        self.free.fetch_add(n, Ordering::Relaxed);
    }
}

impl Buddy {
    #[inline]
    fn zone_of(&self, pfn: Pfn) -> &Zone {
        let i = usize::from(pfn >= ZONES[0].1) + usize::from(pfn >= ZONES[1].1);
        &self.zones[i]
    }

    /// Takes up to `n` blocks of one order from the best zone, and hands them to `sink`; how many.
    fn take(&self, order: u32, flags: AllocFlags, n: usize, mut sink: impl FnMut(FreeRun)) -> usize {
        let highest = if flags.contains(AllocFlags::DMA32) { 1 } else { 2 };
        for i in (0..=highest).rev() {
            let z = &self.zones[i];
            if !z.allows(order, flags, highest) {
                continue;
            }
            let mut got = 0;
            let mut a = z.area.lock();
            while got < n && (got == 0 || z.allows(order, flags, highest)) {
                let Some(run) = a.take(order) else { break };
                z.free.fetch_sub(1 << order, Ordering::Relaxed);
                got += 1;
                sink(run);
            }
            drop(a);
            if got > 0 {
                stat::add(ALLOC_ITEM[i], (got as i64) << order);
                return got;
            }
        }
        0
    }
}

impl Buddy {
    fn take_one(&self, order: u32, flags: AllocFlags) -> Option<FreeRun> {
        let mut out = None;
        self.take(order, flags, 1, |run| out = Some(run));
        out
    }
    /// Once more, with what lies on the processors' lists given back: it may join to larger blocks.
    #[cold]
    fn take_drained(&self, order: u32, flags: AllocFlags) -> Option<FreeRun> {
        if flags.contains(AllocFlags::NORETRY) {
            return None;
        }
        drain_all();
        self.take_one(order, flags)
    }
}

struct Policy;
static POLICY: Policy = Policy;

impl PageAllocator for Policy {
    #[inline]
    fn alloc(&self, order: u32, flags: AllocFlags) -> Option<FreeRun> {
        let b = BUDDY.get()?;
        if order < pcp::ORDERS && !flags.contains(AllocFlags::DMA32) {
            let mut p = b.pcp.any().lock();
            if let Some(run) = p.pop(order) {
                return Some(run);
            }
            let n = p.refill_size(order);
            let mut out = None;
            b.take(order, flags, n, |run| match out {
                None => out = Some(run),
                Some(_) => p.refill(run),
            });
            drop(p);
            out.or_else(|| b.take_drained(order, flags))
        } else {
            b.take_one(order, flags).or_else(|| b.take_drained(order, flags))
        }
    }

    #[inline]
    fn free(&self, run: FreeRun) {
        let order = run.order();
        if let Some(p) = page::page(run.pfn()) {
            // Whoever gets the page next finds no trace of what it was.
            p.flags.store(0, Ordering::Relaxed);
            p.mapping.store(0, Ordering::Relaxed);
            p.mapcount.store(0, Ordering::Relaxed);
        }
        // Runs exist only once frame has memory, and frame asks only after `install`.
        let Some(b) = BUDDY.get() else { return };
        stat::add(stat::Item::Free, 1 << order);
        if order >= pcp::ORDERS {
            return b.zone_of(run.pfn()).free(run);
        }
        let mut p = b.pcp.any().lock();
        if let Some(run) = p.push(run) {
            p.drain(order, |r| b.zone_of(r.pfn()).free(r));
            if let Some(run) = p.push(run) {
                b.zone_of(run.pfn()).free(run);
            }
        }
    }
}

/// Takes over all free memory.
pub(crate) fn init() {
    stat::init();
    let b = BUDDY.call_once(|| Buddy {
        zones: core::array::from_fn(Zone::new),
        pcp: PerCpu::new(|_| SpinLockIrq::new(&pcp::CLASS, Pcp::new())),
        batch: AtomicU64::new(1),
    });
    page::install_allocator(&POLICY);
    for run in page::take_boot_memory() {
        add_run(b, run);
    }
    set_watermarks(None);
    let managed = managed_pages();
    let biggest = b.zones.iter().map(|z| z.managed.load(Ordering::Relaxed)).max().unwrap_or(0);
    let batch = watermark::batch(biggest);
    b.batch.store(batch, Ordering::Relaxed);
    share_lists(b, cpu::possible() as u64);
    overcommit::init(managed);
    assert!(fault::init(), "no memory for the zero page");
}

fn add_run(b: &Buddy, run: FreeRun) {
    let z = b.zone_of(run.pfn());
    z.managed.fetch_add(1 << run.order(), Ordering::Relaxed);
    z.free(run);
}

/// Takes the memory of the initial RAM file system, once that is unpacked; how many pages.
pub fn take_initrd() -> u64 {
    let Some(b) = BUDDY.get() else { return 0 };
    let mut n = 0;
    for run in page::take_initrd_memory() {
        n += 1 << run.order();
        add_run(b, run);
    }
    set_watermarks(None);
    n
}

/// Computes the watermarks anew; with a number, `min_free_kbytes` is that from now on.
pub(crate) fn set_watermarks(min_free_kbytes: Option<u64>) {
    let Some(b) = BUDDY.get() else { return };
    let managed: [u64; 3] = core::array::from_fn(|i| b.zones[i].managed.load(Ordering::Relaxed));
    let kb = match min_free_kbytes {
        Some(kb) => kb,
        None => watermark::default_min_free_kbytes(managed.iter().sum()),
    };
    MIN_FREE_KBYTES.store(kb, Ordering::Relaxed);
    let protection = watermark::protections(managed);
    for (i, z) in b.zones.iter().enumerate() {
        let w =
            Watermarks::of_zone(managed[i], managed.iter().sum(), kb, SCALE_FACTOR.load(Ordering::Relaxed));
        z.min.store(w.min, Ordering::Relaxed);
        z.low.store(w.low, Ordering::Relaxed);
        z.high.store(w.high, Ordering::Relaxed);
        for (cell, p) in z.protection.iter().zip(protection[i]) {
            cell.store(p, Ordering::Relaxed);
        }
    }
}

/// Pages that the allocator manages: `MemTotal`.
pub fn managed_pages() -> u64 {
    BUDDY.get().map_or(0, |b| b.zones.iter().map(|z| z.managed.load(Ordering::Relaxed)).sum())
}
/// Pages on the buddy lists: `MemFree`.
pub fn free_pages() -> u64 {
    BUDDY.get().map_or(0, |b| b.zones.iter().map(|z| z.free.load(Ordering::Relaxed)).sum())
}
/// True if an allocation for user space would find a page.
pub(crate) fn is_above_min() -> bool {
    BUDDY.get().is_some_and(|b| b.zones.iter().any(|z| z.allows(0, AllocFlags::USER, 2)))
}
/// Pages that programs could get without anything being written out: `MemAvailable`, with no more page cache than is counted in `cache`.
pub fn available_pages(cache: u64, reclaimable: u64) -> u64 {
    let Some(b) = BUDDY.get() else { return 0 };
    let (mut reserve, mut low) = (0, 0);
    for z in &b.zones {
        let most = z.protection.iter().map(|p| p.load(Ordering::Relaxed)).max().unwrap_or(0);
        reserve += (most + z.high.load(Ordering::Relaxed)).min(z.managed.load(Ordering::Relaxed));
        low += z.low.load(Ordering::Relaxed);
    }
    free_pages().saturating_sub(reserve)
        + (cache - (cache / 2).min(low))
        + (reclaimable - (reclaimable / 2).min(low))
}
/// Gives all blocks on per-processor lists back to their zones: before it is said that there is no memory.
pub fn drain_all() {
    let Some(b) = BUDDY.get() else { return };
    b.pcp.iter().for_each(|(_, p)| drain(b, p));
}
/// Sizes the per-processor lists anew, for so many processors that share what these may hold.
pub(crate) fn resize_lists(cpus: u32) {
    if let Some(b) = BUDDY.get() {
        share_lists(b, cpus.into());
    }
}
fn share_lists(b: &Buddy, cpus: u64) {
    let low: u64 = b.zones.iter().map(|z| z.low.load(Ordering::Relaxed)).sum();
    for (_, p) in b.pcp.iter() {
        // Made outside of the lock: the heap asks this allocator. What it held goes back to the zones.
        let mut lists = Pcp::make_lists(b.batch.load(Ordering::Relaxed), low / cpus.max(1));
        core::mem::swap(&mut *p.lock(), &mut lists);
        lists.take_all(|run| b.zone_of(run.pfn()).free(run));
    }
}
/// Gives the blocks of a processor that has gone back to their zones.
pub(crate) fn drain_cpu(c: cpu::CpuId) {
    if let Some(b) = BUDDY.get() {
        drain(b, b.pcp.of(c));
    }
}
fn drain(b: &Buddy, p: &SpinLockIrq<Pcp>) {
    let mut p = p.lock();
    for order in 0..pcp::ORDERS {
        while let Some(run) = p.pop(order) {
            b.zone_of(run.pfn()).free(run);
        }
    }
}

/// One zone, as `/proc/zoneinfo` and `/proc/buddyinfo` show it. Pages.
#[derive(Clone, Debug)]
pub struct ZoneStats {
    pub name: &'static str,
    pub start_pfn: Pfn,
    pub spanned: u64,
    pub present: u64,
    pub managed: u64,
    pub free: u64,
    pub min: u64,
    pub low: u64,
    pub high: u64,
    pub protection: [u64; 3],
    /// Free blocks by order.
    pub blocks: [u64; MAX_ORDER as usize + 1],
}

/// All zones that have memory.
pub fn zone_stats() -> Vec<ZoneStats> {
    let Some(b) = BUDDY.get() else { return Vec::new() };
    let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
    b.zones
        .iter()
        .zip(ZONES)
        .filter(|(z, _)| get(&z.managed) != 0)
        .map(|(z, (name, _))| ZoneStats {
            name,
            start_pfn: z.start,
            spanned: z.end - z.start,
            present: z.present,
            managed: get(&z.managed),
            free: get(&z.free),
            min: get(&z.min),
            low: get(&z.low),
            high: get(&z.high),
            protection: core::array::from_fn(|i| get(&z.protection[i])),
            blocks: z.area.lock().blocks(),
        })
        .collect()
}
/// Blocks that a processor takes from a zone at once, and what its lists hold now, in pages.
pub fn pcp_stats() -> (u64, Vec<u64>) {
    let Some(b) = BUDDY.get() else { return (0, Vec::new()) };
    (b.batch.load(Ordering::Relaxed), b.pcp.iter().map(|(_, p)| p.lock().pages()).collect())
}
