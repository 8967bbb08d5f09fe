//! Device lines: those of the I/O APICs (global system interrupts). All go to the boot processor. The old 8259s are masked.

use super::{
    acpi::platform,
    apic::{self, LINE_BASE},
    insn::port_write8,
    memory::{phys_limit, phys_to_ptr},
};
use crate::irq::MAX_LINES;

const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;

fn read(base: u64, reg: u32) -> u32 {
    // SAFETY: an I/O APIC that the firmware names, inside the direct map; index, then data. Callers are serialised
    // (`irq::request`'s lock, or boot).
    unsafe {
        phys_to_ptr(base).cast::<u32>().write_volatile(reg);
        phys_to_ptr(base + 0x10).cast::<u32>().read_volatile()
    }
}
fn write(base: u64, reg: u32, v: u32) {
    // SAFETY: as in `read`.
    unsafe {
        phys_to_ptr(base).cast::<u32>().write_volatile(reg);
        phys_to_ptr(base + 0x10).cast::<u32>().write_volatile(v);
    }
}
/// Lines that an I/O APIC has; 0 if nothing answers there (versions are 0x11 and 0x20 in practice).
fn lines(base: u64) -> u32 {
    let v = read(base, 1);
    if v == 0 || v == u32::MAX { 0 } else { (v >> 16 & 0xff) + 1 }
}

/// Address and first line of each usable I/O APIC.
fn chips() -> impl Iterator<Item = (u64, u32)> {
    platform().ioapics.iter().flatten().copied().filter(|&(a, _)| a + 0x20 <= phys_limit())
}

/// Masks everything.
pub(super) fn init() {
    // Initialise both 8259s (vectors 0x20 and 0x28, in case a spurious one comes), then mask all of their lines.
    for (port, v) in [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, 0x20),
        (0xa1, 0x28),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0x21, 0xff),
        (0xa1, 0xff),
    ] {
        port_write8(port, v);
    }
    for (base, _) in chips() {
        for i in 0..lines(base) {
            write(base, REDIRECTION + i * 2, MASKED);
        }
    }
}

/// How a line signals: what an override says, else ISA lines are edge-triggered and active high, PCI lines level and low.
fn mode(line: u32) -> u32 {
    let p = platform();
    let isa = line < 16;
    let flags = p.overrides[..p.n_overrides].iter().find(|o| o.gsi == line).map_or(0, |o| o.flags);
    let low = match flags & 3 {
        1 => false,
        3 => true,
        _ => !isa,
    };
    let level = match flags >> 2 & 3 {
        1 => false,
        3 => true,
        _ => !isa,
    };
    let polarity = if low { ACTIVE_LOW } else { 0 };
    let trigger = if level { LEVEL } else { 0 };
    polarity | trigger
}

/// Unmasks a line, towards the boot processor. `Err` if no I/O APIC has it.
pub fn enable_line(line: u32) -> Result<(), ()> {
    if line as usize >= MAX_LINES {
        return Err(());
    }
    let (base, first) = chips().find(|&(a, first)| (first..first + lines(a)).contains(&line)).ok_or(())?;
    let reg = REDIRECTION + (line - first) * 2;
    write(base, reg + 1, apic::id_of(0) << 24);
    write(base, reg, mode(line) | (u32::from(LINE_BASE) + line));
    Ok(())
}
