//! Port and memory-mapped I/O for drivers. Safe, because a range must be claimed first and frame refuses ranges that
//! belong to itself or to RAM.

mod mmio;

pub use mmio::Mmio;

use crate::arch;

/// A claimed range of I/O ports.
pub struct Ports {
    base: u16,
    len: u16,
}

impl Ports {
    /// Claims `len` ports. `None` if they belong to frame (interrupt controllers, timers) or wrap around.
    pub fn claim(base: u16, len: u16) -> Option<Ports> {
        let end = base.checked_add(len)?;
        let taken = [(0x20u16, 0x22u16), (0xa0, 0xa2), (0x40, 0x44)];
        if len == 0 || taken.iter().any(|&(a, b)| base < b && a < end) {
            return None;
        }
        Some(Ports { base, len })
    }
    /// The first port.
    pub fn base(&self) -> u16 {
        self.base
    }
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(&self) -> u16 {
        self.len
    }
    fn at(&self, off: u16, size: u16) -> u16 {
        assert!(off < self.len && size <= self.len - off, "port offset out of range");
        self.base + off
    }
    pub fn read8(&self, off: u16) -> u8 {
        arch::port_read8(self.at(off, 1))
    }
    pub fn write8(&self, off: u16, v: u8) {
        arch::port_write8(self.at(off, 1), v);
    }
    pub fn read16(&self, off: u16) -> u16 {
        arch::port_read16(self.at(off, 2))
    }
    pub fn write16(&self, off: u16, v: u16) {
        arch::port_write16(self.at(off, 2), v);
    }
    pub fn read32(&self, off: u16) -> u32 {
        arch::port_read32(self.at(off, 4))
    }
    pub fn write32(&self, off: u16, v: u32) {
        arch::port_write32(self.at(off, 4), v);
    }
}
