//! Simulated physical memory: one lazily touched mapping that starts at physical address 0.

use core::{
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::boot::{BootInfo, INFO, Region, RegionKind};

/// Memory of a lone thread's process, MiB.
const LONE_MIB: usize = 64;
/// The first frames stay reserved, so that physical address 0 is never a valid page.
const RESERVED_BYTES: u64 = 0x10_0000;
/// The same in each run, so that pointers into it are too.
const WISH: usize = 0x1000_0000_0000;

static BASE: AtomicUsize = AtomicUsize::new(0);
static LEN: AtomicUsize = AtomicUsize::new(0);
static MAKE: std::sync::Once = std::sync::Once::new();

fn map(len: usize) -> usize {
    // SAFETY: a fresh anonymous mapping; without MAP_FIXED the wish cannot replace anything.
    let p = unsafe {
        libc::mmap(
            ptr::without_provenance_mut(WISH),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    assert!(p != libc::MAP_FAILED, "no memory for the simulated memory");
    p as usize
}

/// Sets up the memory of a simulation. If a lone thread of the parent has used memory already, the run goes on with its copy.
pub(crate) fn set_up(mib: u32, command_line: &str) {
    if BASE.load(Ordering::Relaxed) == 0 {
        let len = (mib.max(4) as usize) << 20;
        LEN.store(len, Ordering::Relaxed);
        facts(command_line, len as u64);
        BASE.store(map(len), Ordering::Relaxed);
    }
    early_memory();
}

fn facts(command_line: &str, len: u64) {
    INFO.call_once(|| BootInfo {
        command_line: command_line.into(),
        memory: vec![
            Region { start: 0, end: RESERVED_BYTES, kind: RegionKind::Reserved },
            Region { start: RESERVED_BYTES, end: len, kind: RegionKind::Usable },
        ],
        initrd: None,
    });
}

fn base() -> usize {
    let b = BASE.load(Ordering::Acquire);
    if b != 0 {
        return b;
    }
    MAKE.call_once(|| {
        let len = LONE_MIB << 20;
        LEN.store(len, Ordering::Relaxed);
        facts("", len as u64);
        BASE.store(map(len), Ordering::Release);
    });
    BASE.load(Ordering::Acquire)
}

/// Bytes of simulated memory.
pub(crate) fn len() -> u64 {
    base();
    LEN.load(Ordering::Relaxed) as u64
}

/// Where a physical address is readable.
///
/// # Panics
/// For an address outside of the simulated memory.
#[inline]
pub fn phys_to_ptr(pa: u64) -> *mut u8 {
    let b = base();
    assert!((pa as usize) < LEN.load(Ordering::Relaxed), "physical address {pa:#x} is outside of memory");
    (b + pa as usize) as *mut u8
}

/// The physical address behind a pointer that [`phys_to_ptr`] made.
#[inline]
pub fn ptr_to_phys(p: *const u8) -> u64 {
    (p as usize - base()) as u64
}

/// There is no kernel page table: the kernel is host code.
pub fn kernel_root() -> u64 {
    0
}

/// No kernel addresses are kept for device mappings.
pub fn device_window() -> core::ops::Range<usize> {
    0..0
}

/// The memory map. The first call makes the memory and its page metadata.
pub fn early_memory() -> &'static [Region] {
    base();
    let map = &crate::boot::info().memory;
    crate::page::init(map);
    map
}
