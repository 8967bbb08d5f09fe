//! How much memory is kept free: pure functions, with Linux's figures (`mm/page_alloc.c`).

use frame::page::AllocFlags;

use crate::PAGE_SHIFT;

/// A zone's watermarks, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watermarks {
    pub min: u64,
    pub low: u64,
    pub high: u64,
}

/// `min_free_kbytes` for that many pages: the square root of 16 times the memory in KiB, so that large machines keep a smaller share.
pub fn default_min_free_kbytes(pages: u64) -> u64 {
    let kb = pages << (PAGE_SHIFT - 10);
    (kb * 16).isqrt().clamp(128, 262_144)
}

impl Watermarks {
    /// The zone's share of `min_free_kbytes`; the distances to `low` and `high` are a quarter of it, or `scale` ten-thousandths of the zone.
    pub fn of_zone(managed: u64, all_managed: u64, min_free_kbytes: u64, scale: u64) -> Watermarks {
        let min = (min_free_kbytes >> (PAGE_SHIFT - 10)) * managed / all_managed.max(1);
        let step = (min >> 2).max(managed * scale / 10_000);
        Watermarks { min, low: min + step, high: min + 2 * step }
    }
}

/// How far down a request may go.
#[inline]
pub fn mark(min: u64, flags: AllocFlags) -> u64 {
    if flags.contains(AllocFlags::MEMALLOC) {
        0
    } else if flags.contains(AllocFlags::ATOMIC) {
        // Linux's two reliefs: half for high priority, a quarter of the rest for not being able to wait.
        min - min / 2 - (min - min / 2) / 4
    } else if !flags.contains(AllocFlags::USER) || flags.contains(AllocFlags::HIGHPRIO) {
        min - min / 2
    } else {
        min
    }
}

/// `lowmem_reserve_ratio`: a zone keeps 1/256 of the memory above it for those who need low frames.
const RATIO: u64 = 256;

/// `protection` of each zone, by the highest zone that a request can use.
pub fn protections(managed: [u64; 3]) -> [[u64; 3]; 3] {
    let mut out = [[0; 3]; 3];
    for (i, row) in out.iter_mut().enumerate() {
        for (j, p) in row.iter_mut().enumerate().skip(i + 1) {
            *p = managed[i + 1..=j].iter().sum::<u64>() / RATIO;
        }
    }
    out
}

/// Pages that a processor moves at once: a quarter of a thousandth of the zone, at most 256 KiB, one less than a power of two, so that
/// batches do not stay aligned with caches.
pub fn batch(managed: u64) -> u64 {
    let b = ((managed >> 10).min(256) / 4).max(1);
    let rounded = 1u64 << (b + b / 2).ilog2();
    rounded.saturating_sub(1).max(1)
}
