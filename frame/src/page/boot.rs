//! Early memory: the metadata array comes out of it, then a first-fit allocator serves from the rest until `mm` takes it all.

use alloc::vec::Vec;

use super::{ARRAY, FreeRun, MAX_ORDER, MAX_PFN, PAGE_SHIFT, PAGE_SIZE, Page, Pfn, copy, lock::IrqSpin};
use crate::{
    arch,
    atomic::Ordering,
    boot::{Region, RegionKind},
};

/// Ranges that the early allocator can note down. A machine has fewer than 20 usable ranges; alignment gaps and what is freed
/// before `mm` starts need some more. What does not fit is lost, and counted.
const MAX_RANGES: usize = 256;

struct Early {
    /// Frames `[start, end)` that nobody has.
    ranges: [(Pfn, Pfn); MAX_RANGES],
    used: usize,
    lost: u64,
    initrd: Option<(Pfn, Pfn)>,
    ready: bool,
}

static EARLY: IrqSpin<Early> =
    IrqSpin::new(Early { ranges: [(0, 0); MAX_RANGES], used: 0, lost: 0, initrd: None, ready: false });

impl Early {
    fn add(&mut self, start: Pfn, end: Pfn) {
        if start >= end {
            return;
        }
        // Joining with both neighbours keeps the list short and the ranges long: what is freed in any order becomes whole again.
        let before = self.ranges[..self.used].iter().position(|r| r.1 == start);
        let after = self.ranges[..self.used].iter().position(|r| r.0 == end);
        match (before, after) {
            (Some(b), Some(a)) => {
                self.ranges[b].1 = self.ranges[a].1;
                self.used -= 1;
                self.ranges[a] = self.ranges[self.used];
                return;
            }
            (Some(b), None) => return self.ranges[b].1 = end,
            (None, Some(a)) => return self.ranges[a].0 = start,
            (None, None) => {}
        }
        if self.used == MAX_RANGES {
            self.lost += end - start;
            return;
        }
        self.ranges[self.used] = (start, end);
        self.used += 1;
    }

    /// Cuts `n` frames aligned to `align` out of the first range that has them.
    fn take(&mut self, n: u64, align: u64) -> Option<Pfn> {
        for i in 0..self.used {
            let (start, end) = self.ranges[i];
            let at = start.next_multiple_of(align);
            if at + n > end {
                continue;
            }
            if at == start {
                self.ranges[i].0 = at + n;
            } else {
                self.ranges[i].1 = at;
                // Not `add`: it would join the gap again.
                if at + n < end {
                    if self.used < MAX_RANGES {
                        self.ranges[self.used] = (at + n, end);
                        self.used += 1;
                    } else {
                        self.lost += end - at - n;
                    }
                }
            }
            if self.ranges[i].0 == self.ranges[i].1 {
                self.used -= 1;
                self.ranges[i] = self.ranges[self.used];
            }
            return Some(at);
        }
        None
    }
}

fn frames(r: &Region) -> (Pfn, Pfn) {
    let round_up = (PAGE_SIZE - 1) as u64;
    (((r.start + round_up) >> PAGE_SHIFT).max(1), r.end >> PAGE_SHIFT)
}

/// Makes the metadata array. The back end calls it once the memory map is known and `phys_to_ptr` works, before the first
/// allocation; further calls do nothing.
///
/// # Panics
/// If no usable range can hold the array, 1/64 of all memory.
pub(crate) fn init(regions: &[Region]) {
    EARLY.with(|e| {
        if core::mem::replace(&mut e.ready, true) {
            return;
        }
        let mut max = 0;
        for r in regions {
            let (start, end) = frames(r);
            match r.kind {
                RegionKind::Usable => e.add(start, end),
                RegionKind::Initrd => e.initrd = Some((start, end)),
                _ => continue,
            }
            max = max.max(end);
        }
        let bytes = max as usize * size_of::<Page>();
        let n = bytes.div_ceil(PAGE_SIZE) as u64;
        let at = e.take(n, 1).expect("no range of memory can hold the page array");
        let p = arch::phys_to_ptr(at << PAGE_SHIFT);
        // Simulated memory is fresh from the host and so zero already; to touch it all would be most of a short run's cost.
        if cfg!(target_os = "none") {
            // SAFETY: the frames were free and are the array's from now on; all-zero `Page`s are valid.
            unsafe { copy::fill(p, 0, n as usize * PAGE_SIZE) };
        }
        ARRAY.store(p.cast(), Ordering::Release);
        MAX_PFN.store(max, Ordering::Release);
    });
}

pub(super) fn alloc(order: u32) -> Option<FreeRun> {
    let n = 1u64 << order;
    let pfn = EARLY.with(|e| e.take(n, n))?;
    // SAFETY: the frames were in the list of those that nobody has, and are out of it now.
    Some(unsafe { FreeRun::new(pfn, order) })
}

pub(super) fn free(run: FreeRun) {
    let (pfn, order) = run.into_raw();
    EARLY.with(|e| e.add(pfn, pfn + (1 << order)));
}

/// The largest order of an aligned run that starts at `start` and ends at or before `end`.
fn best_order(start: Pfn, end: Pfn) -> u32 {
    start.trailing_zeros().min((end - start).ilog2()).min(MAX_ORDER)
}

fn runs(mut start: Pfn, end: Pfn, out: &mut Vec<FreeRun>) {
    while start < end {
        let order = best_order(start, end);
        // SAFETY: the caller took the frames out of the list of those that nobody has.
        out.push(unsafe { FreeRun::new(start, order) });
        start += 1 << order;
    }
}

/// All usable memory that `frame` has not used, as maximal aligned runs of at most 2^[`MAX_ORDER`] frames. A second call gives
/// what was freed to early memory in between. Install the allocator first ([`super::install_allocator`]): from here on early memory is empty.
pub fn take_boot_memory() -> Vec<FreeRun> {
    // The room for the answer comes from early memory too, so it is made before the ranges are taken.
    let (total, ranges) = EARLY.with(|e| (e.ranges[..e.used].iter().map(|r| r.1 - r.0).sum::<u64>(), e.used));
    let mut out = Vec::with_capacity((total >> MAX_ORDER) as usize + (ranges + 4) * 2 * MAX_ORDER as usize);
    let mut taken = Vec::with_capacity(MAX_RANGES);
    EARLY.with(|e| {
        taken.extend_from_slice(&e.ranges[..e.used]);
        e.used = 0;
    });
    for (start, end) in taken {
        runs(start, end, &mut out);
    }
    out
}

/// The memory of the initial RAM file system, once; `boot::read_initrd` panics afterwards.
pub fn take_initrd_memory() -> Vec<FreeRun> {
    let mut out = Vec::new();
    if let Some((start, end)) = EARLY.with(|e| e.initrd.take()) {
        runs(start, end, &mut out);
    }
    out
}

/// Copies physical memory that nobody can be using: firmware tables and the initial RAM file system.
///
/// # Panics
/// If any of it is RAM that the page allocator has or had, or no memory at all.
pub fn read_phys(pa: u64, out: &mut [u8]) {
    if out.is_empty() {
        return;
    }
    let end = pa.checked_add(out.len() as u64).expect("physical range wraps around");
    let initrd_taken = EARLY.with(|e| e.initrd.is_none());
    let inside = arch::early_memory().iter().any(|r| {
        let readable = match r.kind {
            RegionKind::Usable => false,
            RegionKind::Initrd => !initrd_taken,
            _ => true,
        };
        readable && r.start <= pa && end <= r.end
    });
    assert!(inside, "read of physical memory {pa:#x}..{end:#x}, which is not readable firmware memory");
    // SAFETY: the range lies in one region that is never allocated, and the direct map covers all regions.
    unsafe { copy::copy(out.as_mut_ptr(), arch::phys_to_ptr(pa), out.len()) }
}
