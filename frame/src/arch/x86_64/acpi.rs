//! The static ACPI tables: which processors and interrupt controllers there are, how to power off and reset.
//!
//! Read once at boot, before memory is handed out. Every length and checksum is checked; a table that fails is as good as
//! absent, and a machine without ACPI has one processor and a local APIC at its usual place. AML is not interpreted: the one
//! value needed from it (`_S5_`) is found by its encoding. Layouts: ACPI specification 6.5, chapter 5.2.

use alloc::vec::Vec;

use super::memory::{early_memory, handover, phys_limit, phys_to_ptr};
use crate::{
    boot::{Region, RegionKind},
    cpu::MAX_CPUS,
    sync::once::Once,
};

/// I/O APICs that are used.
const MAX_IOAPICS: usize = 4;

/// An interrupt-source override: an ISA line arrives at `gsi`, with MPS INTI flags.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Override {
    pub(super) irq: u8,
    pub(super) gsi: u32,
    pub(super) flags: u16,
}

/// Where a register is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Register {
    Port(u16),
    Memory(u64),
}

/// What the tables say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Platform {
    /// Of the processors that can be used, those first that can be used now.
    pub(super) apic_ids: [u32; MAX_CPUS],
    pub(super) cpus: usize,
    /// How many can be used now; the others may be plugged in.
    pub(super) enabled: usize,
    pub(super) lapic: u64,
    /// Address and first line of each I/O APIC.
    pub(super) ioapics: [Option<(u64, u32)>; MAX_IOAPICS],
    pub(super) overrides: [Override; 16],
    pub(super) n_overrides: usize,
    /// PM1a and PM1b control ports, with the value for S5.
    pub(super) s5: Option<(u16, u16, u16)>,
    /// Sleep control of hardware-reduced machines.
    pub(super) sleep_control: Option<Register>,
    pub(super) reset: Option<(Register, u8)>,
}

static PLATFORM: Once<Platform> = Once::new();

/// What the tables say; reads them the first time.
pub(super) fn platform() -> &'static Platform {
    PLATFORM.call_once(read_platform)
}

fn phys(pa: u64, len: usize) -> Option<&'static [u8]> {
    if pa == 0 || pa.checked_add(len as u64)? > phys_limit() {
        return None;
    }
    // SAFETY: the range is in the direct map. Firmware tables do not change, and lie in memory that is never handed out; those
    // that lie elsewhere are only read at boot, before memory is.
    Some(unsafe { core::slice::from_raw_parts(phys_to_ptr(pa), len) })
}
fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(b.get(at..at + 2)?.try_into().ok()?))
}
fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?))
}
fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?))
}
fn sum_is_zero(b: &[u8]) -> bool {
    b.iter().fold(0u8, |a, &x| a.wrapping_add(x)) == 0
}

/// Longest table believed: QEMU's DSDT has some 8 KiB, real ones up to some hundred.
const MAX_TABLE: usize = 1 << 22;

fn table(pa: u64) -> Option<&'static [u8]> {
    let len = u32_at(phys(pa, 36)?, 4)? as usize;
    if !(36..=MAX_TABLE).contains(&len) {
        return None;
    }
    let t = phys(pa, len)?;
    sum_is_zero(t).then_some(t)
}

/// Calls `f` with each table that the root table lists.
fn for_each_table(mut f: impl FnMut(&'static [u8])) {
    let rsdp = handover().rsdp;
    let Some(r) = phys(rsdp, 20) else { return };
    if &r[..8] != b"RSD PTR " || !sum_is_zero(r) {
        return;
    }
    let xsdt = (r[15] >= 2)
        .then(|| phys(rsdp, 36).filter(|x| sum_is_zero(x)).and_then(|x| u64_at(x, 24)))
        .flatten()
        .and_then(table)
        .filter(|t| &t[..4] == b"XSDT");
    let (root, width) = match xsdt {
        Some(t) => (Some(t), 8),
        None => (u32_at(r, 16).and_then(|p| table(p.into())).filter(|t| &t[..4] == b"RSDT"), 4),
    };
    let Some(root) = root else { return };
    for e in root[36..].chunks_exact(width) {
        let pa = if width == 8 { u64_at(e, 0) } else { u32_at(e, 0).map(u64::from) };
        if let Some(t) = pa.and_then(table) {
            f(t);
        }
    }
}

/// A copy of the `n`th table of that name, header included; the DSDT is the one that the FADT names. `None` also for a table in
/// memory that has been handed out.
pub fn acpi_table(signature: &[u8; 4], n: usize) -> Option<Vec<u8>> {
    let mut found = None;
    let mut left = n;
    let mut look = |t: &'static [u8]| {
        if found.is_none() && t[..4] == signature[..] {
            match left.checked_sub(1) {
                Some(l) => left = l,
                None => found = Some(t),
            }
        }
    };
    for_each_table(&mut look);
    if signature == b"DSDT" {
        for_each_table(|t| {
            if &t[..4] == b"FACP"
                && let Some(d) = dsdt_of(t)
            {
                look(d);
            }
        });
    }
    let t = found?;
    let (start, end) = (super::ptr_to_phys(t.as_ptr()), super::ptr_to_phys(t.as_ptr()) + t.len() as u64);
    let usable = |r: &&Region| r.kind == RegionKind::Usable && start < r.end && r.start < end;
    early_memory().iter().find(usable).is_none().then(|| t.into())
}

fn dsdt_of(fadt: &[u8]) -> Option<&'static [u8]> {
    let pa = u64_at(fadt, 140).filter(|&a| a != 0).or(u32_at(fadt, 40).map(u64::from))?;
    table(pa)
}

fn read_platform() -> Platform {
    let mut p = Platform {
        apic_ids: [0; MAX_CPUS],
        cpus: 0,
        enabled: 0,
        lapic: 0xfee0_0000,
        ioapics: [None; MAX_IOAPICS],
        overrides: [Override::default(); 16],
        n_overrides: 0,
        s5: None,
        sleep_control: None,
        reset: None,
    };
    for_each_table(|t| match &t[..4] {
        b"APIC" => madt(t, &mut p),
        b"FACP" => {
            fadt(t, &mut p);
        }
        _ => {}
    });
    if p.cpus == 0 {
        // No MADT: the I/O APIC is where it always was, if there is one (see `ioapic`).
        p.ioapics[0] = Some((0xfec0_0000, 0));
    }
    p
}

fn madt(t: &[u8], p: &mut Platform) {
    if let Some(a) = u32_at(t, 36) {
        p.lapic = a.into();
    }
    let mut rest = t.get(44..).unwrap_or(&[]);
    while let [kind, len, ..] = *rest {
        let Some(e) = rest.get(..len as usize).filter(|e| e.len() >= 2) else { return };
        rest = &rest[e.len()..];
        let cpu = match kind {
            // The last number of each kind means all processors.
            0 => e.get(3).filter(|&&id| id != u8::MAX).map(|&id| u32::from(id)).zip(u32_at(e, 4)),
            9 => u32_at(e, 4).filter(|&id| id != u32::MAX).zip(u32_at(e, 8)),
            _ => None,
        };
        if let Some((id, flags)) = cpu {
            processor(p, id, flags, t[8]);
        }
        match kind {
            1 => {
                if let (Some(a), Some(base), Some(slot)) =
                    (u32_at(e, 4), u32_at(e, 8), p.ioapics.iter_mut().find(|s| s.is_none()))
                {
                    *slot = Some((a.into(), base));
                }
            }
            2 => {
                if let (Some(&irq), Some(gsi), Some(flags)) = (e.get(3), u32_at(e, 4), u16_at(e, 8))
                    && p.n_overrides < p.overrides.len()
                {
                    p.overrides[p.n_overrides] = Override { irq, gsi, flags };
                    p.n_overrides += 1;
                }
            }
            5 => {
                if let Some(a) = u64_at(e, 4) {
                    p.lapic = a;
                }
            }
            _ => {}
        }
    }
}

/// A processor of the MADT, of this revision. One that is not enabled can be plugged in; since revision 5 a flag says if that is so.
fn processor(p: &mut Platform, id: u32, flags: u32, revision: u8) {
    const ENABLED: u32 = 1;
    const ONLINE_CAPABLE: u32 = 2;
    let enabled = flags & ENABLED != 0;
    let known = p.cpus == MAX_CPUS || p.apic_ids[..p.cpus].contains(&id);
    if known || !(enabled || revision < 5 || flags & ONLINE_CAPABLE != 0) {
        return;
    }
    p.apic_ids[p.cpus] = id;
    if enabled {
        p.apic_ids[p.enabled..=p.cpus].rotate_right(1);
        p.enabled += 1;
    }
    p.cpus += 1;
}

/// A generic address structure that is 8 bits wide.
fn gas(t: &[u8], at: usize) -> Option<Register> {
    let addr = u64_at(t, at + 4)?;
    match t.get(at)? {
        0 if addr != 0 && addr < phys_limit() => Some(Register::Memory(addr)),
        1 if addr != 0 => Some(Register::Port(u16::try_from(addr).ok()?)),
        _ => None,
    }
}

fn fadt(t: &[u8], p: &mut Platform) -> Option<()> {
    const HW_REDUCED: u32 = 1 << 20;
    const RESET_SUPPORTED: u32 = 1 << 10;
    let flags = u32_at(t, 112)?;
    if flags & RESET_SUPPORTED != 0 {
        p.reset = gas(t, 116).zip(t.get(128).copied());
    }
    let s5 = dsdt_of(t).and_then(find_s5);
    if flags & HW_REDUCED != 0 {
        p.sleep_control = gas(t, 244);
        // Without `_S5_` in sight: 5, which QEMU uses.
        p.s5 = Some((0, 0, s5.map_or(5, |(a, _)| a)));
    } else if let Some((a, _)) = s5 {
        p.s5 = Some((u16::try_from(u32_at(t, 64)?).ok()?, u16::try_from(u32_at(t, 68)?).ok()?, a));
    }
    Some(())
}

/// `SLP_TYPa` and `SLP_TYPb` of `Name (_S5_, Package () { a, b, … })`.
fn find_s5(dsdt: &[u8]) -> Option<(u16, u16)> {
    let at = dsdt.windows(5).position(|w| w == b"_S5_\x12")? + 5;
    // PkgLength: the top two bits of its first byte count the bytes that follow; then the number of elements.
    let lead = usize::from(*dsdt.get(at)? >> 6);
    let mut rest = dsdt.get(at + 1 + lead + 1..)?;
    let mut values = [0u16; 2];
    for v in &mut values {
        let used = match *rest {
            [0x0a, b, ..] => {
                *v = b.into();
                2
            }
            [b @ (0 | 1), ..] => {
                *v = b.into();
                1
            }
            _ => return None,
        };
        rest = &rest[used..];
    }
    Some((values[0], values[1]))
}
