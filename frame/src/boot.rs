//! What the firmware handed over, copied out before any memory is touched.

use alloc::{string::String, vec::Vec};

use crate::sync::once::Once;

/// One range of physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    pub start: u64,
    pub end: u64,
    pub kind: RegionKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionKind {
    /// Free for the page allocator.
    Usable,
    /// Memory that the firmware keeps.
    Reserved,
    /// ACPI tables; readable, never allocated.
    Acpi,
    /// The kernel's image and what `frame` took before `mm` started.
    Kernel,
    /// The initial RAM file system; `mm` may have it once it is unpacked.
    Initrd,
}

/// The boot facts.
#[derive(Debug)]
pub struct BootInfo {
    pub command_line: String,
    /// Sorted, not overlapping, page aligned (usable ranges shrunk inwards).
    pub memory: Vec<Region>,
    /// Physical range of the initial RAM file system.
    pub initrd: Option<core::ops::Range<u64>>,
}

pub(crate) static INFO: Once<BootInfo> = Once::new();

/// The boot facts.
///
/// # Panics
/// Before the back end has set them.
pub fn info() -> &'static BootInfo {
    INFO.get().expect("boot facts are not there yet")
}

/// Reads part of the initial RAM file system; the number of bytes read, 0 at or after its end.
pub fn read_initrd(offset: usize, out: &mut [u8]) -> usize {
    let Some(r) = info().initrd.clone() else { return 0 };
    let len = (r.end - r.start) as usize;
    let n = out.len().min(len.saturating_sub(offset));
    crate::page::read_phys(r.start + offset as u64, &mut out[..n]);
    n
}

/// A copy of the `n`th ACPI table of that name (`MCFG`, `FACP`, `DSDT` …), header included; its checksum is right.
pub fn acpi_table(signature: &[u8; 4], n: usize) -> Option<Vec<u8>> {
    crate::arch::acpi_table(signature, n)
}

/// Ends the machine.
pub fn power_off() -> ! {
    crate::arch::power_off()
}
/// Restarts the machine.
pub fn reset() -> ! {
    crate::arch::reset()
}
/// Stops this machine for ever, without ending it (`halt -f`).
pub fn halt() -> ! {
    crate::arch::halt_forever()
}
