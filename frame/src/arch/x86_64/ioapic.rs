//! Device lines: those of the I/O APICs (global system interrupts). The old 8259s are masked.

use super::{
    acpi::platform,
    apic,
    insn::port_write8,
    memory::{phys_limit, phys_to_ptr},
};
use crate::{
    irq::{LINE_VECTORS, LineMode, MAX_LINES},
    sync::{LockClass, SpinLockIrq},
};

const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;

fn read(base: u64, reg: u32) -> u32 {
    // SAFETY: an I/O APIC that the firmware names, inside the direct map; index, then data. Callers are serialised
    // (by `ACCESS`, or boot).
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

/// Where the registers of all of them are.
pub(super) fn registers() -> impl Iterator<Item = core::ops::Range<u64>> {
    platform().ioapics.iter().flatten().map(|&(a, _)| a..a + 0x1000)
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

/// Between writing the index and using the data register.
static ACCESS: SpinLockIrq<()> = SpinLockIrq::new(&CLASS, ());
static CLASS: LockClass = LockClass::new("ioapic");

/// Lines that the I/O APICs have together.
pub fn line_count() -> u32 {
    let _g = ACCESS.lock();
    chips().map(|(a, first)| first + lines(a)).max().unwrap_or(0).min(MAX_LINES as u32)
}

/// The line of an ISA interrupt: what an override says, else the same number.
pub fn isa_line(irq: u32) -> u32 {
    let p = platform();
    p.overrides[..p.n_overrides].iter().find(|o| u32::from(o.irq) == irq).map_or(irq, |o| o.gsi)
}

/// How a line signals: what an override says, else ISA lines are edge-triggered and active high, PCI lines level and low.
pub fn line_mode(line: u32) -> LineMode {
    let p = platform();
    let isa = line < 16;
    let flags = p.overrides[..p.n_overrides].iter().find(|o| o.gsi == line).map_or(0, |o| o.flags);
    let active_low = match flags & 3 {
        1 => false,
        3 => true,
        _ => !isa,
    };
    let level = match flags >> 2 & 3 {
        1 => false,
        3 => true,
        _ => !isa,
    };
    LineMode { level, active_low }
}

/// Sends a line to a processor, or masks it. `Err` if no I/O APIC has it.
pub fn route_line(line: u32, cpu: u32, mode: LineMode, masked: bool) -> Result<(), ()> {
    let _g = ACCESS.lock();
    if line as usize >= MAX_LINES {
        return Err(());
    }
    let (base, first) = chips().find(|&(a, first)| (first..first + lines(a)).contains(&line)).ok_or(())?;
    let reg = REDIRECTION + (line - first) * 2;
    let bits = [(mode.level, LEVEL), (mode.active_low, ACTIVE_LOW), (masked, MASKED)];
    let low = bits.iter().filter(|b| b.0).fold(u32::from(LINE_VECTORS) + line, |w, b| w | b.1);
    // The destination first, without masking: the vector is the same everywhere, and an edge that comes while masked is lost.
    write(base, reg + 1, apic::id_of(cpu) << 24);
    write(base, reg, low);
    Ok(())
}
