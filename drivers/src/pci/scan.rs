//! The walk over buses: functions, bridges and what is behind them; BARs that the firmware did not place; lines.

use alloc::{format, string::ToString, sync::Arc, vec::Vec};

use base::{
    Result,
    model::{self, Spec, Subsystem},
    pr_info, pr_warn,
};
use frame::{
    atomic::Ordering,
    boot::{self, RegionKind},
    sync::{LockClass, SpinLock},
};

use super::{
    BUS,
    bar::{self, BarKind, COMMAND, Window},
    config::{Address, Space},
    device::Device,
    sysfs,
};

static CLASS: LockClass = LockClass::new("pci_devices");
static ALL: SpinLock<Vec<Arc<Device>>> = SpinLock::new(&CLASS, Vec::new());

/// All functions, in the order of their addresses.
pub(super) fn all() -> Vec<Arc<Device>> {
    ALL.lock().clone()
}

/// A function that was found, and behind which bridge (its place in the list).
struct Found {
    device: Device,
    behind: Option<usize>,
}

const NO_FUNCTION: u32 = u32::MAX;
const MULTIFUNCTION: u8 = 0x80;
const BUSES: usize = 0x18;

struct Walk {
    found: Vec<Found>,
    /// The highest bus number that is used.
    last_bus: u8,
}

/// Finds everything, places what has no place, and gives it to the device model.
pub(super) fn scan() -> Result<()> {
    let mut w = Walk { found: Vec::new(), last_bus: 0 };
    w.bus(0, None);
    place_bars(&mut w.found);
    let root = model::Device::new(Spec {
        name: "pci0000:00".into(),
        parent: None,
        subsystem: Subsystem::None,
        variables: None,
        data: None,
    })?;
    let q35 = w.found.iter().any(|f| is_q35(&f.device));
    let mut objects: Vec<Arc<model::Device>> = Vec::new();
    for f in w.found {
        let d = Arc::new(f.device);
        d.line.store(line_of(&d, q35), Ordering::Relaxed);
        pr_info!("pci {}: [{:04x}:{:04x}] class {:#08x}", d.address, d.vendor, d.device, d.class);
        let parent = f.behind.map_or(&root, |i| &objects[i]).clone();
        let dev = model::Device::new(Spec {
            name: d.address.to_string(),
            parent: Some(parent),
            subsystem: Subsystem::Bus(&BUS),
            variables: Some(sysfs::variables(&d)),
            data: Some(d.clone()),
        })?;
        sysfs::attributes(&dev, &d)?;
        ALL.lock().push(d);
        objects.push(dev);
    }
    objects.iter().for_each(model::Device::announce);
    Ok(())
}

impl Walk {
    fn bus(&mut self, bus: u8, behind: Option<usize>) {
        for device in 0..32 {
            for function in 0..8 {
                let at = Address { bus, device, function };
                let ids = at.read32(0);
                if ids == NO_FUNCTION || ids as u16 == 0 {
                    if function == 0 { break } else { continue }
                }
                let header = at.read8(0x0e);
                self.function(at, header & !MULTIFUNCTION, behind);
                if function == 0 && header & MULTIFUNCTION == 0 {
                    break;
                }
            }
        }
    }

    fn function(&mut self, at: Address, header: u8, behind: Option<usize>) {
        let device = Device::read(at, header);
        let bridge = header == 1 && device.class >> 8 == 0x0604;
        let me = self.found.len();
        self.found.push(Found { device, behind });
        if bridge {
            self.bridge(at, me);
        }
    }

    /// Goes on behind a bridge. Bus numbers are the firmware's if they make sense (each bus once, rising), else new ones.
    fn bridge(&mut self, at: Address, me: usize) {
        let buses = at.read32(BUSES);
        let (secondary, subordinate) = ((buses >> 8) as u8, (buses >> 16) as u8);
        let firmware = secondary > self.last_bus && subordinate >= secondary;
        let Some(bus) = (if firmware { Some(secondary) } else { self.last_bus.checked_add(1) }) else {
            pr_warn!("pci {at}: no bus number is left");
            return;
        };
        if !firmware {
            // Everything that follows passes, until it is known how far the numbers reach.
            at.write32(BUSES, buses & 0xff00_0000 | 0xff << 16 | u32::from(bus) << 8 | u32::from(at.bus));
        }
        self.last_bus = bus;
        self.bus(bus, Some(me));
        if firmware {
            self.last_bus = self.last_bus.max(subordinate);
        } else {
            let last = u32::from(self.last_bus);
            at.write32(BUSES, buses & 0xff00_0000 | last << 16 | u32::from(bus) << 8 | u32::from(at.bus));
        }
    }
}

/// Memory for BARs ends where the interrupt controllers begin.
const MEMORY_END: u64 = 0xfec0_0000;
/// QEMU's machines put nothing but RAM and the configuration window below this.
const MEMORY_START: u64 = 0xc000_0000;
const PORTS: (u64, u64) = (0xc000, 0x1_0000);

/// Puts BARs of devices on bus 0 that the firmware put nowhere. (Behind a bridge its windows would have to move as well.)
fn place_bars(found: &mut [Found]) {
    let (mut memory, mut ports) = (Window::new(MEMORY_START, MEMORY_END), Window::new(PORTS.0, PORTS.1));
    for r in boot::info().memory.iter().filter(|r| r.end > MEMORY_START && r.start < MEMORY_END) {
        debug_assert!(r.kind != RegionKind::Usable || r.start < MEMORY_END);
        memory.take(r.start, r.end);
    }
    for b in found.iter().flat_map(|f| f.device.bars.iter().flatten()).filter(|b| b.address != 0) {
        let w = if b.kind == BarKind::Io { &mut ports } else { &mut memory };
        w.take(b.address, b.address.saturating_add(b.size));
    }
    for f in found.iter_mut().filter(|f| f.device.address.bus == 0) {
        let d = &mut f.device;
        let at = d.address;
        for (i, slot) in d.bars.iter_mut().enumerate() {
            let Some(b) = slot.as_mut().filter(|b| b.address == 0) else { continue };
            let w = if b.kind == BarKind::Io { &mut ports } else { &mut memory };
            let Some(place) = w.find(b.size) else {
                pr_warn!("pci {at}: BAR {i} [size {:#x}]: can't assign; no space", b.size);
                continue;
            };
            // It must not answer at an address that is half written.
            let command = at.read16(COMMAND);
            at.write16(COMMAND, command & !(bar::COMMAND_IO | bar::COMMAND_MEMORY));
            bar::place(&at, i, b, place);
            at.write16(COMMAND, command);
            pr_info!("pci {at}: BAR {i} [{place:#x}-{:#x}]: assigned", place + b.size - 1);
        }
    }
}

/// QEMU's q35: its host bridge is Intel's 82G33.
fn is_q35(d: &Device) -> bool {
    (d.vendor, d.device) == (0x8086, 0x29c0) && d.address.bus == 0
}

/// The line of a device on bus 0 of q35, by the rule of its tables: devices 0 to 24 use lines 20 to 23 in turn. Elsewhere only
/// the firmware's AML knows, which is not interpreted: 0, and such a device needs MSI.
fn line_of(d: &Device, q35: bool) -> u32 {
    match d.pin {
        1..=4 if q35 && d.address.bus == 0 && d.address.device < 25 => {
            20 + (u32::from(d.address.device) + u32::from(d.pin) - 1) % 4
        }
        _ => 0,
    }
}

/// The name that `/proc/interrupts` shows for a device's messages.
pub(super) fn chip_name(msix: bool, at: Address) -> alloc::string::String {
    format!("PCI-MSI{}-{at}", if msix { "X" } else { "" })
}
