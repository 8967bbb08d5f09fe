//! One function of a PCI device, as drivers see it.

use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};

use base::{Errno, Result};
use frame::{
    atomic::{AtomicU32, Ordering},
    io::Mmio,
    sync::{LockClass, Mutex},
};

use super::{
    bar::{self, Bar, BarKind, COMMAND},
    config::{self, Address, Space},
};

const CAPABILITIES: usize = 0x34;
const STATUS: usize = 6;
const STATUS_CAPABILITIES: u16 = 1 << 4;
const COMMAND_MASTER: u16 = 4;
const COMMAND_NO_LINE: u16 = 1 << 10;

/// An entry of the capability list: its kind and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capability {
    pub id: u8,
    pub at: usize,
}

/// A function.
pub struct Device {
    pub address: Address,
    pub vendor: u16,
    pub device: u16,
    pub subsystem_vendor: u16,
    pub subsystem_device: u16,
    /// Base class, subclass, programming interface.
    pub class: u32,
    pub revision: u8,
    pub bars: [Option<Bar>; 6],
    /// 0: none; 1 to 4: INTA to INTD.
    pub pin: u8,
    /// The number of its line, 0 if unknown: what sysfs shows as `irq`.
    pub(super) line: AtomicU32,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    enabled: u32,
    mapped: [Weak<Mmio>; 6],
    /// Numbers of its messages, and whether they are MSI-X.
    pub(super) messages: Vec<(u32, bool)>,
}

static STATE: LockClass = LockClass::new("pci_device");

impl Device {
    /// Reads who it is. `header`: the layout, 0 for a device, 1 for a bridge.
    pub(super) fn read(address: Address, header: u8) -> Device {
        let ids = address.read32(0);
        let class = address.read32(8);
        let (sv, sd) = if header == 0 { (address.read16(0x2c), address.read16(0x2e)) } else { (0, 0) };
        Device {
            address,
            vendor: ids as u16,
            device: (ids >> 16) as u16,
            subsystem_vendor: sv,
            subsystem_device: sd,
            class: class >> 8,
            revision: class as u8,
            bars: bar::probe(&address, if header == 0 { 6 } else { 2 }),
            pin: address.read8(0x3d).min(4),
            line: AtomicU32::new(0),
            state: Mutex::new(&STATE, State::default()),
        }
    }

    /// Configuration space. Offsets beyond it read as ones.
    pub fn config_read8(&self, off: usize) -> u8 {
        self.address.read8(off)
    }
    pub fn config_read16(&self, off: usize) -> u16 {
        self.address.read16(off)
    }
    pub fn config_read32(&self, off: usize) -> u32 {
        self.address.read32(off)
    }
    pub fn config_write8(&self, off: usize, v: u8) {
        self.address.write8(off, v);
    }
    pub fn config_write16(&self, off: usize, v: u16) {
        self.address.write16(off, v);
    }
    pub fn config_write32(&self, off: usize, v: u32) {
        self.address.write32(off, v);
    }
    /// Bytes of configuration space.
    pub fn config_size(&self) -> usize {
        config::size()
    }

    /// Its capabilities, in the device's order. A list that loops or leaves the space ends.
    pub fn capabilities(&self) -> Vec<Capability> {
        capabilities(&self.address)
    }
    /// The first capability of a kind.
    pub fn capability(&self, id: u8) -> Option<usize> {
        self.capabilities().iter().find(|c| c.id == id).map(|c| c.at)
    }

    fn command(&self, set: u16, clear: u16) {
        let c = self.address.read16(COMMAND);
        self.address.write16(COMMAND, c & !clear | set);
    }

    /// Lets it answer to its addresses. Counted: as often as [`Device::disable`].
    pub fn enable(&self) {
        let mut s = self.state.lock();
        s.enabled += 1;
        if s.enabled == 1 {
            let io = self.bars.iter().flatten().any(|b| b.kind == BarKind::Io && b.address != 0);
            let io = if io { bar::COMMAND_IO } else { 0 };
            self.command(io | bar::COMMAND_MEMORY, 0);
        }
    }
    /// Takes one [`Device::enable`] back. With the last one the device stops reaching memory.
    pub fn disable(&self) {
        let mut s = self.state.lock();
        s.enabled = s.enabled.saturating_sub(1);
        if s.enabled == 0 {
            self.command(0, COMMAND_MASTER);
        }
    }
    /// How often it is enabled: the file `enable`.
    pub fn enable_count(&self) -> u32 {
        self.state.lock().enabled
    }
    /// Lets it reach memory and send messages, or not.
    pub fn set_master(&self, on: bool) {
        if on { self.command(COMMAND_MASTER, 0) } else { self.command(0, COMMAND_MASTER) }
    }
    /// Lets it use its line, or not.
    pub(super) fn set_line(&self, on: bool) {
        if on { self.command(0, COMMAND_NO_LINE) } else { self.command(COMMAND_NO_LINE, 0) }
    }

    /// Maps a BAR with its whole length; a second call gives the same mapping. ENXIO without such a BAR in memory, EBUSY if its
    /// range cannot be claimed.
    pub fn map_bar(&self, index: usize) -> Result<Arc<Mmio>> {
        let bar = self.bars.get(index).copied().flatten().ok_or(Errno::ENXIO)?;
        if bar.kind == BarKind::Io || bar.address == 0 {
            return Err(Errno::ENXIO);
        }
        let mut s = self.state.lock();
        if let Some(m) = s.mapped[index].upgrade() {
            return Ok(m);
        }
        let len = usize::try_from(bar.size).map_err(|_| Errno::ENXIO)?;
        let m = Arc::new(Mmio::claim(bar.address, len).ok_or(Errno::EBUSY)?);
        s.mapped[index] = Arc::downgrade(&m);
        Ok(m)
    }

    /// The number of its line, 0 if it has none that is known.
    pub fn line(&self) -> u32 {
        self.line.load(Ordering::Relaxed)
    }
}

/// The most capabilities that fit between the header and the end of 256 bytes.
const MOST: usize = 48;

fn capabilities(space: &dyn Space) -> Vec<Capability> {
    let mut found = Vec::new();
    if space.read16(STATUS) & STATUS_CAPABILITIES == 0 {
        return found;
    }
    let mut at = usize::from(space.read8(CAPABILITIES)) & !3;
    while at >= 0x40 && found.len() < MOST {
        let id = space.read8(at);
        if id == 0xff {
            break;
        }
        found.push(Capability { id, at });
        at = usize::from(space.read8(at + 1)) & !3;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes([u8; 256]);
    impl Space for Bytes {
        fn read32(&self, off: usize) -> u32 {
            u32::from_le_bytes(self.0[off..off + 4].try_into().unwrap())
        }
        fn write32(&self, _off: usize, _v: u32) {}
        fn write16(&self, _off: usize, _v: u16) {}
        fn write8(&self, _off: usize, _v: u8) {}
    }

    #[test]
    fn a_list_is_followed_and_a_loop_ends() {
        let mut b = Bytes([0; 256]);
        assert!(capabilities(&b).is_empty());
        b.0[6] = 0x10;
        b.0[0x34] = 0x98;
        (b.0[0x98], b.0[0x99]) = (0x11, 0x40);
        (b.0[0x40], b.0[0x41]) = (0x09, 0);
        assert_eq!(capabilities(&b), [Capability { id: 0x11, at: 0x98 }, Capability { id: 9, at: 0x40 }]);
        b.0[0x41] = 0x98;
        assert_eq!(capabilities(&b).len(), MOST);
        b.0[0x34] = 0x3c;
        assert!(capabilities(&b).is_empty());
    }
}
