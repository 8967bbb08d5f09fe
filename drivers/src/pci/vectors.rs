//! A device's interrupts: MSI-X messages, one MSI message, or its line.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};
use frame::{
    cpu::CpuMask,
    io::Mmio,
    irq::{self, Handled, Irq, IrqError, Message, MessageSource, Share},
};

use super::{device::Device, scan::chip_name};

const MSI: u8 = 0x05;
const MSIX: u8 = 0x11;
/// In the control word of MSI-X.
const MSIX_ENABLE: u16 = 1 << 15;
const MSIX_MASK_ALL: u16 = 1 << 14;
const MSIX_SIZE: u16 = 0x7ff;
/// Bytes of a table entry, and its words.
const ENTRY: usize = 16;
const ENTRY_CONTROL: usize = 12;
/// In the control word of MSI.
const MSI_ENABLE: u16 = 1;
const MSI_WIDE: u16 = 1 << 7;
const MSI_MASKABLE: u16 = 1 << 8;
const MSI_MULTIPLE: u16 = 7 << 4;

enum Way {
    Msix { table: Arc<Mmio>, at: usize, capability: usize },
    Msi { capability: usize },
    Line(u32),
}

/// The interrupts of one device. Let go of the [`Irq`]s first.
pub struct Vectors {
    device: Arc<Device>,
    way: Way,
    count: usize,
}

fn errno(e: IrqError) -> Errno {
    match e {
        IrqError::NoSuchLine | IrqError::NoCpu => Errno::EINVAL,
        IrqError::Busy => Errno::EBUSY,
        IrqError::Exhausted => Errno::ENOSPC,
    }
}

impl Vectors {
    /// At most `want` interrupts of the device, which is enabled. ENOSPC if it has none that can be used.
    pub fn new(device: &Arc<Device>, want: usize) -> Result<Vectors> {
        let (way, count) = if let Some(m) = msix(device) {
            m
        } else if let Some(capability) = device.capability(MSI) {
            (Way::Msi { capability }, 1)
        } else if device.line() != 0 {
            device.set_line(true);
            (Way::Line(device.line()), 1)
        } else {
            return Err(Errno::ENOSPC);
        };
        if !matches!(way, Way::Line(_)) {
            device.set_line(false);
        }
        Ok(Vectors { device: device.clone(), way, count: count.min(want) })
    }
    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.count
    }
    /// True if each interrupt has a message of its own, and a device need not be asked why it interrupts.
    pub fn is_msix(&self) -> bool {
        matches!(self.way, Way::Msix { .. })
    }
    /// True for the line: a handler must ask the device, which may not be the one.
    pub fn is_line(&self) -> bool {
        matches!(self.way, Way::Line(_))
    }

    /// Connects a handler to interrupt `index`, which goes to a processor of `cpus`.
    pub fn request(
        &self,
        index: usize,
        name: &str,
        cpus: CpuMask,
        handler: impl Fn() -> Handled + Send + Sync + 'static,
    ) -> Result<Irq> {
        if index >= self.count {
            return Err(Errno::EINVAL);
        }
        let d = self.device.clone();
        let source: Arc<dyn MessageSource> = match &self.way {
            Way::Line(line) => {
                return irq::request_line(*line, name, Share::Shared, handler).map_err(errno);
            }
            Way::Msix { table, at, .. } => {
                Arc::new(MsixEntry { table: table.clone(), at: at + index * ENTRY })
            }
            Way::Msi { capability } => Arc::new(MsiMessage { device: d, at: *capability }),
        };
        let chip = chip_name(self.is_msix(), self.device.address);
        let irq = irq::request_message(&chip, index as u32, name, cpus, source, handler).map_err(errno)?;
        self.device.state.lock().messages.push((irq.number(), self.is_msix()));
        Ok(irq)
    }
}

impl Drop for Vectors {
    fn drop(&mut self) {
        match &self.way {
            Way::Msix { capability, .. } => {
                let c = self.device.config_read16(capability + 2);
                self.device.config_write16(capability + 2, c & !MSIX_ENABLE);
            }
            Way::Msi { capability } => {
                let c = self.device.config_read16(capability + 2);
                self.device.config_write16(capability + 2, c & !MSI_ENABLE);
            }
            Way::Line(_) => {}
        }
        let gone: Vec<_> = core::mem::take(&mut self.device.state.lock().messages);
        drop(gone);
    }
}

/// Turns MSI-X on, with every entry masked. `None` if the device has none, or its table does not lie in a BAR of it.
fn msix(device: &Arc<Device>) -> Option<(Way, usize)> {
    let capability = device.capability(MSIX)?;
    let control = device.config_read16(capability + 2);
    let place = device.config_read32(capability + 4);
    let count = usize::from(control & MSIX_SIZE) + 1;
    let (bar, at) = ((place & 7) as usize, (place & !7) as usize);
    let table = device.map_bar(bar).ok()?;
    if at.checked_add(count * ENTRY)? > table.len() {
        base::pr_warn!("pci {}: the MSI-X table is outside of BAR {bar}", device.address);
        return None;
    }
    device.config_write16(capability + 2, control | MSIX_ENABLE | MSIX_MASK_ALL);
    for i in 0..count {
        table.write32(at + i * ENTRY + ENTRY_CONTROL, 1);
    }
    device.config_write16(capability + 2, control & !MSIX_MASK_ALL | MSIX_ENABLE);
    Some((Way::Msix { table, at, capability }, count))
}

struct MsixEntry {
    table: Arc<Mmio>,
    at: usize,
}
impl MessageSource for MsixEntry {
    fn set(&self, m: Option<Message>) {
        let t = &self.table;
        let control = t.read32(self.at + ENTRY_CONTROL);
        // Masked while it changes: a message of two halves would go nowhere.
        t.write32(self.at + ENTRY_CONTROL, control | 1);
        if let Some(m) = m {
            t.write32(self.at, m.address as u32);
            t.write32(self.at + 4, (m.address >> 32) as u32);
            t.write32(self.at + 8, m.data);
            t.write32(self.at + ENTRY_CONTROL, control & !1);
        }
        // A read pushes the writes to the device.
        let _ = t.read32(self.at + ENTRY_CONTROL);
    }
}

struct MsiMessage {
    device: Arc<Device>,
    at: usize,
}
impl MessageSource for MsiMessage {
    fn set(&self, m: Option<Message>) {
        let (d, at) = (&self.device, self.at);
        let control = d.config_read16(at + 2);
        let data = if control & MSI_WIDE != 0 { at + 12 } else { at + 8 };
        if control & MSI_MASKABLE != 0 {
            d.config_write32(data + 4, u32::from(m.is_none()));
        }
        if let Some(m) = m {
            d.config_write32(at + 4, m.address as u32);
            if control & MSI_WIDE != 0 {
                d.config_write32(at + 8, (m.address >> 32) as u32);
            }
            d.config_write16(data, m.data as u16);
            d.config_write16(at + 2, control & !MSI_MULTIPLE | MSI_ENABLE);
        }
    }
}
