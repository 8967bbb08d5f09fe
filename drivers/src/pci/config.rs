//! The ways to configuration space: memory that MCFG names, or two ports.

use core::fmt;

use frame::{
    boot,
    io::{Mmio, Ports},
    sync::{LockClass, SpinLockIrq, once::Once},
};

/// Where a function is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Address {
    pub bus: u8,
    pub device: u8,
    pub function: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0000:{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

impl Address {
    /// As `/proc/bus/pci/devices` has it.
    pub fn devfn(self) -> u8 {
        self.device << 3 | self.function
    }
}

/// Bytes of configuration space of one function, by ECAM and by ports.
pub(super) const EXTENDED: usize = 4096;
pub(super) const LEGACY: usize = 256;

/// Access to one function's configuration space; what tests imitate.
pub(super) trait Space {
    fn read32(&self, off: usize) -> u32;
    fn write32(&self, off: usize, v: u32);
    fn read16(&self, off: usize) -> u16 {
        (self.read32(off & !3) >> (8 * (off & 2))) as u16
    }
    fn read8(&self, off: usize) -> u8 {
        (self.read32(off & !3) >> (8 * (off & 3))) as u8
    }
    fn write16(&self, off: usize, v: u16);
    /// One access of 8 bits, for registers that take no other.
    fn write8(&self, off: usize, v: u8);
}

static CLASS: LockClass = LockClass::new("pci_config");
/// Buses whose window is mapped.
static BUSES: [Once<Option<Mmio>>; 256] = [const { Once::new() }; 256];
static WAY: Once<Way> = Once::new();

enum Way {
    /// Where the window of the first bus begins, and which buses have one.
    Ecam { base: u64, first: u8, last: u8 },
    /// Address, then data: one at a time.
    Ports(SpinLockIrq<Ports>),
}

/// The first allocation of an MCFG table: base address, segment, first and last bus.
fn parse_mcfg(t: &[u8]) -> Option<(u64, u8, u8)> {
    // 36 bytes of header, 8 reserved, then entries of 16.
    t.get(44..)?.chunks_exact(16).find_map(|e| {
        let base = u64::from_le_bytes(e[..8].try_into().ok()?);
        let segment = u16::from_le_bytes([e[8], e[9]]);
        (segment == 0 && base != 0 && e[10] <= e[11]).then_some((base, e[10], e[11]))
    })
}

/// Finds the way. False if the machine has no PCI.
pub(super) fn init() -> bool {
    if let Some((base, first, last)) = boot::acpi_table(b"MCFG", 0).as_deref().and_then(parse_mcfg) {
        WAY.call_once(|| Way::Ecam { base, first, last });
        base::pr_info!("PCI: ECAM [mem {base:#x}-] for domain 0000 [bus {first:02x}-{last:02x}]");
        return window(first).is_some();
    }
    let Some(p) = Ports::claim(0xcf8, 8) else { return false };
    // The address register keeps what is written; without a host bridge the port floats.
    p.write32(0, ENABLE);
    let there = p.read32(0) == ENABLE;
    WAY.call_once(|| Way::Ports(SpinLockIrq::new(&CLASS, p)));
    if there {
        base::pr_info!("PCI: Using configuration type 1 for base access");
    }
    there
}

/// Bit 31 of the address port.
const ENABLE: u32 = 1 << 31;
const BUS_BYTES: usize = 1 << 20;

fn window(bus: u8) -> Option<&'static Mmio> {
    let Some(Way::Ecam { base, first, last }) = WAY.get() else { return None };
    if !(*first..=*last).contains(&bus) {
        return None;
    }
    let at = base + u64::from(bus - first) * BUS_BYTES as u64;
    BUSES[usize::from(bus)].call_once(|| Mmio::claim(at, BUS_BYTES)).as_ref()
}

/// Bytes that a function's space has here.
pub(super) fn size() -> usize {
    if matches!(WAY.get(), Some(Way::Ecam { .. })) { EXTENDED } else { LEGACY }
}

fn ecam_offset(at: Address, off: usize) -> usize {
    usize::from(at.devfn()) * EXTENDED + off
}
fn port_address(at: Address, off: usize) -> u32 {
    ENABLE | u32::from(at.bus) << 16 | u32::from(at.devfn()) << 8 | (off as u32 & 0xfc)
}

impl Space for Address {
    fn read32(&self, off: usize) -> u32 {
        match WAY.get() {
            Some(Way::Ecam { .. }) if off + 4 <= EXTENDED => {
                window(self.bus).map_or(u32::MAX, |w| w.read32(ecam_offset(*self, off & !3)))
            }
            Some(Way::Ports(p)) if off + 4 <= LEGACY => {
                let p = p.lock();
                p.write32(0, port_address(*self, off));
                p.read32(4)
            }
            _ => u32::MAX,
        }
    }
    fn write32(&self, off: usize, v: u32) {
        match WAY.get() {
            Some(Way::Ecam { .. }) if off + 4 <= EXTENDED => {
                if let Some(w) = window(self.bus) {
                    w.write32(ecam_offset(*self, off & !3), v);
                }
            }
            Some(Way::Ports(p)) if off + 4 <= LEGACY => {
                let p = p.lock();
                p.write32(0, port_address(*self, off));
                p.write32(4, v);
            }
            _ => {}
        }
    }
    /// One access of 16 bits: the other half may have bits that a write of ones clears (the status register).
    fn write16(&self, off: usize, v: u16) {
        match WAY.get() {
            Some(Way::Ecam { .. }) if off + 2 <= EXTENDED => {
                if let Some(w) = window(self.bus) {
                    w.write16(ecam_offset(*self, off & !1), v);
                }
            }
            Some(Way::Ports(p)) if off + 2 <= LEGACY => {
                let p = p.lock();
                p.write32(0, port_address(*self, off));
                p.write16(4 + (off as u16 & 2), v);
            }
            _ => {}
        }
    }
    fn write8(&self, off: usize, v: u8) {
        match WAY.get() {
            Some(Way::Ecam { .. }) if off < EXTENDED => {
                if let Some(w) = window(self.bus) {
                    w.write8(ecam_offset(*self, off), v);
                }
            }
            Some(Way::Ports(p)) if off < LEGACY => {
                let p = p.lock();
                p.write32(0, port_address(*self, off));
                p.write8(4 + (off as u16 & 3), v);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mcfg_names_the_window_of_segment_0() {
        let mut t = vec![0u8; 44];
        assert_eq!(parse_mcfg(&t), None);
        for (base, segment) in [(0x1000u64, 1u16), (0xb000_0000, 0)] {
            t.extend_from_slice(&base.to_le_bytes());
            t.extend_from_slice(&segment.to_le_bytes());
            t.extend_from_slice(&[0, 255, 0, 0, 0, 0]);
        }
        assert_eq!(parse_mcfg(&t), Some((0xb000_0000, 0, 255)));
        assert_eq!(parse_mcfg(&t[..60]), None);
        assert_eq!(parse_mcfg(&t[..10]), None);
    }

    #[test]
    fn addresses_print_as_linux_does() {
        let a = Address { bus: 0, device: 31, function: 2 };
        assert_eq!(std::format!("{a}"), "0000:00:1f.2");
        assert_eq!(a.devfn(), 0xfa);
    }
}
