//! What the PVH boot protocol hands over, copied out before any memory is reused.
//!
//! The structures lie in RAM that the memory map calls usable, so everything is copied into static storage first.
//! Layout: Xen's `start_info.h` (`struct hvm_start_info` version 1).

use super::memory::phys_to_ptr;
use crate::boot::{Region, RegionKind};

const MAGIC: u32 = 0x336e_c578;
const PAGE: u64 = 4096;
/// Longest command line that is kept; Linux's `COMMAND_LINE_SIZE` on x86.
const CMDLINE: usize = 2048;
/// Entries of the map with everything cut out of it. PC firmware reports at most some twenty.
const REGIONS: usize = 96;

/// The copy.
pub(super) struct Handover {
    pub(super) cmdline: [u8; CMDLINE],
    pub(super) cmdline_len: usize,
    pub(super) initrd: Option<(u64, u64)>,
    pub(super) rsdp: u64,
    pub(super) map: Map,
}

/// A sorted memory map without a heap.
#[derive(Clone, Copy)]
pub(super) struct Map {
    regions: [Region; REGIONS],
    len: usize,
}

impl Map {
    pub(super) const fn new() -> Self {
        Self { regions: [Region { start: 0, end: 0, kind: RegionKind::Reserved }; REGIONS], len: 0 }
    }
    pub(super) fn as_slice(&self) -> &[Region] {
        &self.regions[..self.len]
    }
    fn push(&mut self, r: Region) {
        if r.start >= r.end {
            return;
        }
        if let Some(last) = self.regions[..self.len].last_mut()
            && last.end == r.start
            && last.kind == r.kind
        {
            last.end = r.end;
        } else if self.len < REGIONS {
            self.regions[self.len] = r;
            self.len += 1;
        }
    }
    /// Puts `new` over whatever its range was before.
    pub(super) fn overlay(&mut self, new: Region) {
        if new.start >= new.end {
            return;
        }
        let old = *self;
        self.len = 0;
        let mut put = false;
        for r in old.as_slice() {
            self.push(Region { end: r.end.min(new.start), ..*r });
            if !put && r.end > new.start {
                // Here or in the hole before this region.
                self.push(new);
                put = true;
            }
            self.push(Region { start: r.start.max(new.end), ..*r });
        }
        if !put {
            self.push(new);
        }
    }
}

fn read<const N: usize>(pa: u64) -> Option<[u8; N]> {
    // The boot tables map the first GiB.
    if pa == 0 || pa.checked_add(N as u64)? > 1 << 30 {
        return None;
    }
    // SAFETY: the range lies in the part of physical memory that is mapped, and is only read, once.
    Some(unsafe { phys_to_ptr(pa).cast::<[u8; N]>().read_unaligned() })
}
fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}
fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

/// Reads it all. A wrong magic gives an empty map, which the caller reports.
pub(super) fn parse(pa: u64, out: &mut Handover) {
    let Some(info) = read::<56>(pa) else { return };
    if u32_at(&info, 0) != MAGIC {
        return;
    }
    let version = u32_at(&info, 4);
    let modules = u32_at(&info, 12);
    out.rsdp = u64_at(&info, 32);
    let cmdline = u64_at(&info, 24);
    while out.cmdline_len < CMDLINE {
        match read::<1>(cmdline + out.cmdline_len as u64) {
            Some([c]) if c != 0 => out.cmdline[out.cmdline_len] = c,
            _ => break,
        }
        out.cmdline_len += 1;
    }
    if modules > 0
        && let Some(m) = read::<32>(u64_at(&info, 16))
    {
        let (start, size) = (u64_at(&m, 0), u64_at(&m, 8));
        if size != 0 && start.checked_add(size).is_some() {
            out.initrd = Some((start, start + size));
        }
    }
    if version < 1 {
        return;
    }
    let (table, count) = (u64_at(&info, 40), u64::from(u32_at(&info, 48)).min(REGIONS as u64));
    // Usable memory first, shrunk inwards to pages; then everything else over it, grown outwards.
    for pass in 0..2 {
        for i in 0..count {
            let Some(e) = read::<24>(table + i * 24) else { break };
            let (start, size, kind) = (u64_at(&e, 0), u64_at(&e, 8), u32_at(&e, 16));
            let Some(end) = start.checked_add(size) else { continue };
            if size == 0 {
                continue;
            }
            let r = match (pass, kind) {
                (0, 1) => Region {
                    start: start.next_multiple_of(PAGE),
                    end: end / PAGE * PAGE,
                    kind: RegionKind::Usable,
                },
                (1, 3 | 4) => outwards(start, end, RegionKind::Acpi),
                (1, k) if k != 1 && k != 3 && k != 4 => outwards(start, end, RegionKind::Reserved),
                _ => continue,
            };
            out.map.overlay(r);
        }
    }
}

pub(super) fn outwards(start: u64, end: u64, kind: RegionKind) -> Region {
    Region { start: start / PAGE * PAGE, end: end.next_multiple_of(PAGE), kind }
}
