//! Port and memory-mapped I/O for drivers. Safe, because a range must be claimed first and frame refuses ranges that
//! belong to itself or to RAM.

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
        let taken = [(0x20u16, 0x22u16), (0xa0, 0xa2), (0x40, 0x44), (0xcf8, 0xd00)];
        if len == 0 || taken.iter().any(|&(a, b)| base < b && a < end) {
            return None;
        }
        Some(Ports { base, len })
    }
    fn at(&self, off: u16) -> u16 {
        assert!(off < self.len, "port offset out of range");
        self.base + off
    }
    pub fn read8(&self, off: u16) -> u8 {
        arch::port_read8(self.at(off))
    }
    pub fn write8(&self, off: u16, v: u8) {
        arch::port_write8(self.at(off), v);
    }
}
