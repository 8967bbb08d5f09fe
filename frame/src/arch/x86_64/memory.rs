//! Physical memory at boot, and the kernel's own half of the address space.
//!
//! ```text
//!   0xffff888000000000  all physical memory, at least the first 4 GiB (1 GiB or 2 MiB pages, never executable)
//!   0xffffc90000000000  kernel stacks (4 KiB pages, `stack.rs`)
//!   0xffffd10000000000  device mappings (`paging::kernel`)
//!   0xffffffff80000000  the image, + its physical address (4 KiB pages; text R-X, rodata and symbols R--, data RW-)
//! ```
//! Devices below 4 GiB are reached through the first area too: the firmware's MTRRs keep them uncached there.
//! The image can still be written through its alias in the direct map; only wild writes by `frame` itself could.
//!
//! Memory is taken by [`boot_alloc`], upwards from the end of the image, until [`early_memory`] hands the rest to `page`;
//! after that by `page::alloc_page`.

use core::{cell::UnsafeCell, ops::Range, ptr};

use super::{
    cpu::features,
    start_info::{self, Handover, Map, outwards},
};
use crate::{
    atomic::{AtomicBool, AtomicU64, Ordering},
    boot::{Region, RegionKind},
};

pub(super) const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
const DIRECT_BASE: u64 = 0xffff_8880_0000_0000;
/// The direct map may grow to 64 TiB, as on Linux.
const DIRECT_MAX: u64 = 1 << 46;
pub(super) const STACK_BASE: usize = 0xffff_c900_0000_0000;
const DEVICE_BASE: usize = 0xffff_d100_0000_0000;
/// One slot of the top-level table.
const SLOT: usize = 1 << 39;
const PAGE: u64 = 4096;
/// The start of other processors copies its code to 0x8000; the rest holds what the firmware left.
const LOW_RESERVED: u64 = 0x1_0000;

const P: u64 = 1;
const W: u64 = 2;
const HUGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
pub(super) const NX: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

// SAFETY: the names are defined by the linker script; only their addresses are used.
unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __data_end: u8;
    static __smap_clac_start: u8;
    static __smap_clac_end: u8;
    static __smap_stac_start: u8;
    static __smap_stac_end: u8;
    static boot_stack_guard: u8;
}

struct Shared(UnsafeCell<Handover>);
// SAFETY: written by the boot processor before any other runs and before the first reader; only read after that.
unsafe impl Sync for Shared {}
static HANDOVER: Shared = Shared(UnsafeCell::new(Handover {
    cmdline: [0; 2048],
    cmdline_len: 0,
    initrd: None,
    rsdp: 0,
    map: Map::new(),
}));

static ROOT: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(1 << 30);
static NEXT: AtomicU64 = AtomicU64::new(0);
static NEXT_END: AtomicU64 = AtomicU64::new(0);
static SEALED: AtomicBool = AtomicBool::new(false);

/// Where a physical address is readable. Addresses beyond [`phys_limit`] are not mapped.
#[inline]
pub fn phys_to_ptr(pa: u64) -> *mut u8 {
    ptr::with_exposed_provenance_mut((DIRECT_BASE + pa) as usize)
}
/// The inverse of [`phys_to_ptr`]; also takes addresses inside the image.
#[inline]
pub fn ptr_to_phys(p: *const u8) -> u64 {
    let va = p.addr() as u64;
    if va >= KERNEL_BASE { va - KERNEL_BASE } else { va - DIRECT_BASE }
}
/// The end of the direct map.
pub fn phys_limit() -> u64 {
    LIMIT.load(Ordering::Relaxed)
}
/// Frame number of the kernel's own top-level table, whose user half is empty.
pub fn kernel_root() -> u64 {
    ROOT.load(Ordering::Relaxed) / PAGE
}
/// Kernel addresses kept free for device mappings; the top-level slot has its table.
pub fn device_window() -> Range<usize> {
    DEVICE_BASE..DEVICE_BASE + SLOT
}

/// True in the unmapped page below the boot stack.
pub(super) fn is_boot_guard(va: usize) -> bool {
    let guard = at(&raw const boot_stack_guard) as usize;
    (guard..guard + PAGE as usize).contains(&va)
}

pub(super) fn handover() -> &'static Handover {
    // SAFETY: see `Shared`; the calls that change it (`init`, the first `early_memory`) end before others start.
    unsafe { &*HANDOVER.0.get() }
}

fn at(symbol: *const u8) -> u64 {
    symbol.addr() as u64
}

/// The end of the image in memory, the symbol table included.
fn image_end() -> u64 {
    super::symbols::end().next_multiple_of(PAGE) - KERNEL_BASE
}

/// Copies what the firmware said, chooses where early allocations come from, and switches to the final tables.
///
/// # Safety
/// Once, on the boot processor, on the tables of `boot.s`.
pub(super) unsafe fn init(start_info: u64) {
    // SAFETY: nothing else runs, nothing has read the cell yet.
    let h = unsafe { &mut *HANDOVER.0.get() };
    start_info::parse(start_info, h);
    let image = outwards(0x20_0000, image_end(), RegionKind::Kernel);
    h.map.overlay(outwards(0, LOW_RESERVED, RegionKind::Reserved));
    if let Some((start, end)) = h.initrd {
        h.map.overlay(outwards(start, end, RegionKind::Initrd));
    }
    h.map.overlay(image);
    let pool = h
        .map
        .as_slice()
        .iter()
        .filter(|r| r.kind == RegionKind::Usable && r.start < 1 << 30)
        .map(|r| (r.start, r.end.min(1 << 30)))
        .max_by_key(|&(s, e)| e - s);
    let Some((start, end)) = pool else { panic!("the boot loader reported no usable memory below 1 GiB") };
    NEXT.store(start, Ordering::Relaxed);
    NEXT_END.store(end, Ordering::Relaxed);
    patch_smap();
    let top = h
        .map
        .as_slice()
        .iter()
        .filter(|r| {
            matches!(r.kind, RegionKind::Usable | RegionKind::Initrd | RegionKind::Kernel | RegionKind::Acpi)
        })
        .map(|r| r.end)
        .max();
    // SAFETY: the tables built map what the boot tables map and the kernel uses, at the same addresses.
    unsafe { build_tables(top.unwrap_or(0).clamp(1 << 32, DIRECT_MAX)) };
}

/// `n` bytes of zeroed physical memory, page aligned, that are never given back. Before [`early_memory`] only.
///
/// # Panics
/// After it, or when memory runs out.
pub(super) fn boot_alloc(n: u64) -> u64 {
    assert!(!SEALED.load(Ordering::Relaxed), "boot memory has been handed over");
    let n = n.next_multiple_of(PAGE);
    let pa = NEXT.load(Ordering::Relaxed);
    assert!(pa + n <= NEXT_END.load(Ordering::Relaxed), "out of memory while booting");
    NEXT.store(pa + n, Ordering::Relaxed);
    // SAFETY: usable memory that nothing else has, mapped by the boot tables and the final ones.
    unsafe { phys_to_ptr(pa).write_bytes(0, n as usize) };
    pa
}

/// The physical memory map: sorted, disjoint, page aligned; only `Usable` ranges are free. Ends boot allocations.
pub fn early_memory() -> &'static [Region] {
    if !SEALED.swap(true, Ordering::Relaxed) {
        // SAFETY: the first call comes from the boot processor before the map has other readers.
        let h = unsafe { &mut *HANDOVER.0.get() };
        let next = NEXT.load(Ordering::Relaxed);
        if let Some(r) = h
            .map
            .as_slice()
            .iter()
            .find(|r| r.kind == RegionKind::Usable && r.end >= next && r.start < next)
            .copied()
        {
            h.map.overlay(Region { start: r.start, end: next, kind: RegionKind::Kernel });
        }
    }
    handover().map.as_slice()
}

/// Makes `stac` and `clac` of the marked no-ops, where there is SMAP. The text is still writable.
fn patch_smap() {
    if !features().smap {
        return;
    }
    for (start, end, code) in [
        (&raw const __smap_clac_start, &raw const __smap_clac_end, [0x0f, 0x01, 0xca]),
        (&raw const __smap_stac_start, &raw const __smap_stac_end, [0x0f, 0x01, 0xcb]),
    ] {
        let n = (at(end) - at(start)) / 8;
        for i in 0..n as usize {
            // SAFETY: the linker gathers the addresses of three-byte no-ops between these symbols; no other processor runs,
            // and `mov cr3` follows before they are executed.
            unsafe {
                let site = start.cast::<u64>().add(i).read();
                ptr::with_exposed_provenance_mut::<[u8; 3]>(site as usize).write(code);
            }
        }
    }
}

/// # Safety
/// `pa` is a page table.
unsafe fn entry(pa: u64, index: usize) -> *mut u64 {
    // SAFETY: the caller's promise; the index is below 512.
    unsafe { phys_to_ptr(pa).cast::<u64>().add(index & 511) }
}

/// The table below an entry, made if there is none.
///
/// # Safety
/// `table` is a page table that nothing else changes meanwhile.
unsafe fn below(table: u64, index: usize, alloc: &mut dyn FnMut() -> Option<u64>) -> Option<u64> {
    // SAFETY: the caller's promise.
    unsafe {
        let e = entry(table, index);
        if *e & P == 0 {
            *e = alloc()? | P | W;
        }
        Some(*e & ADDRESS)
    }
}

/// # Safety
/// As for [`init`].
unsafe fn build_tables(top: u64) {
    let root = boot_alloc(PAGE);
    let mut alloc = || Some(boot_alloc(PAGE));
    let global = if features().pge { GLOBAL } else { 0 };
    let step = if features().gigabyte_pages { 1u64 << 30 } else { 2 << 20 };
    let top = top.next_multiple_of(step);
    // SAFETY: the tables are new and this function's own until `cr3` is loaded. The image's addresses come from the linker.
    unsafe {
        let mut pa = 0;
        while pa < top {
            let va = (DIRECT_BASE + pa) as usize;
            let l3 = below(root, va >> 39, &mut alloc).expect("boot memory");
            let e = if step == 1 << 30 {
                entry(l3, va >> 30)
            } else {
                entry(below(l3, va >> 30, &mut alloc).expect("boot memory"), va >> 21)
            };
            *e = pa | P | W | HUGE | NX | global;
            pa += step;
        }
        for va in [STACK_BASE, DEVICE_BASE] {
            below(root, va >> 39, &mut alloc);
        }
        let guard = at(&raw const boot_stack_guard);
        for (start, end, flags) in [
            (at(&raw const __text_start), at(&raw const __text_end), P),
            (at(&raw const __rodata_start), at(&raw const __rodata_end), P | NX),
            (at(&raw const __data_start), at(&raw const __data_end), P | W | NX),
            (super::symbols::start(), super::symbols::end(), P | NX),
        ] {
            let mut va = start / PAGE * PAGE;
            while va < end {
                if va != guard {
                    map_in(root, va as usize, va - KERNEL_BASE, flags | global, &mut alloc)
                        .expect("boot memory");
                }
                va += PAGE;
            }
        }
        ROOT.store(root, Ordering::Relaxed);
        super::insn::set_cr3(root);
    }
    LIMIT.store(top, Ordering::Relaxed);
}

/// # Safety
/// `root` is a top-level table that nothing else changes meanwhile; the mapping breaks nothing that is in use.
unsafe fn map_in(
    root: u64,
    va: usize,
    pa: u64,
    flags: u64,
    alloc: &mut dyn FnMut() -> Option<u64>,
) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let l3 = below(root, va >> 39, alloc)?;
        let l2 = below(l3, va >> 30, alloc)?;
        let l1 = below(l2, va >> 21, alloc)?;
        *entry(l1, va >> 12) = pa | flags;
    }
    Some(())
}

/// Maps a page of the stack area, writable. `None` without memory for a table.
///
/// # Safety
/// `va` lies in the stack area, is unmapped, and the caller keeps others out; `pa` is a frame that it owns.
pub(super) unsafe fn map_stack_page(va: usize, pa: u64) -> Option<()> {
    let mut alloc = || {
        let p = crate::page::alloc_page(crate::page::AllocFlags::ATOMIC | crate::page::AllocFlags::ZERO)?;
        let pa = p.pfn() * PAGE;
        // Tables of the kernel half are never given back.
        core::mem::forget(p);
        Some(pa)
    };
    let global = if features().pge { GLOBAL } else { 0 };
    // SAFETY: the caller's promise.
    unsafe { map_in(ROOT.load(Ordering::Relaxed), va, pa, P | W | NX | global, &mut alloc) }
}

/// True if the kernel can read a byte there, as the live tables have it.
pub(super) fn is_mapped(va: usize) -> bool {
    let mut table = super::insn::cr3() & ADDRESS;
    for shift in [39, 30, 21, 12] {
        // SAFETY: the live tables are in RAM; each entry is read once.
        let e = unsafe { entry(table, va >> shift).read_volatile() };
        if e & P == 0 {
            return false;
        }
        if e & HUGE != 0 && shift < 39 {
            return true;
        }
        table = e & ADDRESS;
    }
    true
}

/// Maps device registers, uncached, for good; says where. Not those of the interrupt controllers, which are this back end's own.
pub fn map_device(pa: u64, len: usize) -> Option<usize> {
    let end = pa.checked_add(len as u64)?;
    let own = super::ioapic::registers().chain([super::apic::REGISTERS]);
    if own.into_iter().any(|r| pa < r.end && r.start < end) {
        return None;
    }
    crate::paging::kernel::map_device(pa, len)
}

/// Loads this processor's translation root. The tables keep the kernel half as it is.
#[inline]
pub fn load_page_table(root_pfn: u64) {
    // SAFETY: roots are made by `paging` (or are the kernel's own), and all share the kernel half.
    unsafe { super::insn::set_cr3(root_pfn * PAGE) };
}
/// Drops this processor's translation of one page.
#[inline]
pub fn flush_page(va: usize) {
    // SAFETY: forgetting a translation is always allowed.
    unsafe { core::arch::asm!("invlpg [{}]", in(reg) va, options(nostack, preserves_flags)) };
}
/// Drops all of this processor's translations but the global ones (the kernel half).
#[inline]
pub fn flush_all() {
    // SAFETY: loads the value that is there.
    unsafe { super::insn::set_cr3(super::insn::cr3()) };
}
