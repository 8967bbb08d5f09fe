//! The kernel half: device memory for drivers.
//!
//! Top-level slots are shared by all tables and never change; below them one lock guards the tree. The image itself is mapped by the back
//! end: text read and execute, constants read, data and the direct map read and write without execute. Nothing is ever unmapped here, so
//! nothing needs a shoot-down.

use super::{ENTRIES, Flags, MapError, entry, new_table};
use crate::{
    arch,
    page::{AllocFlags, PAGE_SHIFT, PAGE_SIZE, Pfn, lock::IrqSpin},
};

struct Kernel {
    /// First address of the device window that is not given out.
    next: usize,
}
static KERNEL: IrqSpin<Kernel> = IrqSpin::new(Kernel { next: 0 });

/// The leaf entry of a kernel address; makes missing tables. Called with the lock held.
fn walk(va: usize) -> Result<entry::Slot, MapError> {
    let mut table = arch::kernel_root();
    if table == 0 || va >> 47 != (1 << 17) - 1 {
        return Err(MapError::BadAddress);
    }
    for level in [3u32, 2, 1] {
        let s = entry::slot(table, va >> (12 + 9 * level) & (ENTRIES - 1));
        let mut e = entry::load(s);
        if e == 0 {
            if level == 3 {
                return Err(MapError::BadAddress);
            }
            // Kernel tables are never freed, so nobody counts their entries.
            let t = new_table(AllocFlags::ATOMIC).ok_or(MapError::NoMemory)?;
            e = t << PAGE_SHIFT | entry::P | entry::W;
            entry::store(s, e);
        }
        const LARGE: u64 = 1 << 7;
        if e & LARGE != 0 {
            return Err(MapError::Busy);
        }
        table = entry::pfn(e);
    }
    Ok(entry::slot(table, va >> 12 & (ENTRIES - 1)))
}

fn map_locked(va: usize, pfn: Pfn, flags: Flags) -> Result<(), MapError> {
    let s = walk(va)?;
    if entry::load(s) != 0 {
        return Err(MapError::Busy);
    }
    entry::store(s, entry::make(pfn, flags.difference(Flags::USER) | Flags::ACCESSED | Flags::DIRTY));
    Ok(())
}

/// Maps device memory, uncached, for good, and says where. `None` if the window or memory is used up, or there are no devices
/// (hosted). The caller, `io::Mmio`, has checked that the range is not empty, does not wrap and has no RAM.
pub(crate) fn map_device(pa: u64, len: usize) -> Option<usize> {
    let end = pa.checked_add(len as u64)?;
    let (first, last) = (pa >> PAGE_SHIFT, (end - 1) >> PAGE_SHIFT);
    let pages = usize::try_from(last - first + 1).ok()?;
    let window = arch::device_window();
    let base = KERNEL.with(|k| {
        let base = k.next.max(window.start);
        // One page stays free behind each range: running over the end faults.
        let next = base.checked_add((pages + 1).checked_mul(PAGE_SIZE)?)?;
        if next > window.end {
            return None;
        }
        k.next = next;
        for i in 0..pages {
            map_locked(base + i * PAGE_SIZE, first + i as u64, Flags::READ | Flags::WRITE | Flags::NOCACHE)
                .ok()?;
        }
        Some(base)
    })?;
    Some(base + (pa as usize & (PAGE_SIZE - 1)))
}
