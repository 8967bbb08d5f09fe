//! The event registers. Each block has a status half, where writing a one clears an event, and an enable half.

use frame::io::Ports;

use super::fadt::Fadt;

/// Fixed events. 16 bits wide: QEMU ignores narrower accesses.
pub(super) struct Pm1 {
    ports: Ports,
    enable_at: u16,
}

impl Pm1 {
    pub(super) fn claim(f: &Fadt) -> Option<Pm1> {
        Some(Pm1 { ports: Ports::claim(f.pm1_events, f.pm1_len)?, enable_at: f.pm1_len / 2 })
    }
    /// Events that have come and are enabled; they are cleared.
    pub(super) fn take(&self) -> u16 {
        let pending = self.ports.read16(0) & self.ports.read16(self.enable_at);
        if pending != 0 {
            self.ports.write16(0, pending);
        }
        pending
    }
    /// From now on: what came before is forgotten.
    pub(super) fn enable(&self, events: u16) {
        self.ports.write16(0, events);
        self.ports.write16(self.enable_at, self.ports.read16(self.enable_at) | events);
    }
}

/// General-purpose events of the first block, by number. Accessed bytewise.
pub(super) struct Gpe0 {
    ports: Ports,
    enable_at: u16,
}

impl Gpe0 {
    /// `None` if there is none.
    pub(super) fn claim(f: &Fadt) -> Option<Gpe0> {
        Some(Gpe0 { ports: Ports::claim(f.gpe0, f.gpe0_len)?, enable_at: f.gpe0_len / 2 })
    }
    /// True if the event has come and is enabled; it is cleared. False for one that the block does not have.
    pub(super) fn take(&self, event: u16) -> bool {
        let (at, bit) = (event / 8, 1 << (event % 8));
        if at >= self.enable_at || self.ports.read8(at) & self.ports.read8(self.enable_at + at) & bit == 0 {
            return false;
        }
        self.ports.write8(at, bit);
        true
    }
    /// From now on: what came before is forgotten.
    pub(super) fn enable(&self, event: u16) {
        let (at, bit) = (event / 8, 1 << (event % 8));
        if at < self.enable_at {
            self.ports.write8(at, bit);
            self.ports.write8(self.enable_at + at, self.ports.read8(self.enable_at + at) | bit);
        }
    }
}
