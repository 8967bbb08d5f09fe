//! Virtio over registers in memory (VIRTIO 1.2, section 4.2): the driver `virtio-mmio`, for machines without PCI.
//!
//! Where the devices are says the command line (`virtio_mmio.device=SIZE@ADDRESS:LINE[:ID]`, as QEMU's microvm appends it), or ACPI:
//! devices `LNRO0005` of the DSDT. AML is not interpreted; their resources are found by the encoding that QEMU uses, a fixed
//! 32-bit memory range and an extended interrupt behind the name.

use alloc::{format, string::String, sync::Arc, vec::Vec};

use base::{Errno, Result, model, params};
use frame::{
    boot,
    io::Mmio,
    irq::{self, Handled, Irq, Share},
    sync::{LockClass, Mutex},
};

use super::{
    device,
    queue::Layout,
    transport::{Callback, Transport},
};
use crate::platform;

/// `virt` in little-endian, and the version of devices that follow the standard.
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;

/// Registers.
mod reg {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 4;
    pub(super) const DEVICE_ID: usize = 8;
    pub(super) const VENDOR_ID: usize = 0xc;
    pub(super) const DEVICE_FEATURES: usize = 0x10;
    pub(super) const DEVICE_FEATURES_SEL: usize = 0x14;
    pub(super) const DRIVER_FEATURES: usize = 0x20;
    pub(super) const DRIVER_FEATURES_SEL: usize = 0x24;
    pub(super) const QUEUE_SEL: usize = 0x30;
    pub(super) const QUEUE_NUM_MAX: usize = 0x34;
    pub(super) const QUEUE_NUM: usize = 0x38;
    pub(super) const QUEUE_READY: usize = 0x44;
    pub(super) const QUEUE_NOTIFY: usize = 0x50;
    pub(super) const INTERRUPT_STATUS: usize = 0x60;
    pub(super) const INTERRUPT_ACK: usize = 0x64;
    pub(super) const STATUS: usize = 0x70;
    pub(super) const QUEUE_RINGS: [usize; 3] = [0x80, 0x90, 0xa0];
    pub(super) const GENERATION: usize = 0xfc;
    pub(super) const CONFIG: usize = 0x100;
}

/// Where a device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    address: u64,
    len: u64,
    line: u32,
}

struct Registers {
    io: Arc<Mmio>,
    line: u32,
    select: Mutex<()>,
    irq: Mutex<Option<Irq>>,
}

static SELECT: LockClass = LockClass::new("virtio_mmio_select");
static IRQ: LockClass = LockClass::new("virtio_mmio_irq");

impl Transport for Registers {
    fn device_features(&self) -> u64 {
        let _g = self.select.lock();
        let word = |i| {
            self.io.write32(reg::DEVICE_FEATURES_SEL, i);
            u64::from(self.io.read32(reg::DEVICE_FEATURES))
        };
        word(0) | word(1) << 32
    }
    fn accept_features(&self, features: u64) {
        let _g = self.select.lock();
        for i in 0..2 {
            self.io.write32(reg::DRIVER_FEATURES_SEL, i);
            self.io.write32(reg::DRIVER_FEATURES, (features >> (32 * i)) as u32);
        }
    }
    fn status(&self) -> u8 {
        self.io.read32(reg::STATUS) as u8
    }
    fn set_status(&self, status: u8) {
        self.io.write32(reg::STATUS, status.into());
    }
    fn reset(&self) -> Result<()> {
        // The reset is done when the write is (4.2.3.1.1 asks for no wait, but reading shows a device that is gone).
        self.set_status(0);
        if self.status() == 0 { Ok(()) } else { Err(Errno::EIO) }
    }
    fn read_config(&self, off: usize, out: &mut [u8]) -> Result<()> {
        let start = reg::CONFIG.checked_add(off).ok_or(Errno::EINVAL)?;
        if start.checked_add(out.len()).is_none_or(|e| e > self.io.len()) {
            return Err(Errno::EINVAL);
        }
        out.iter_mut().enumerate().for_each(|(i, b)| *b = self.io.read8(start + i));
        Ok(())
    }
    fn write_config(&self, off: usize, bytes: &[u8]) -> Result<()> {
        let start = reg::CONFIG.checked_add(off).ok_or(Errno::EINVAL)?;
        if start.checked_add(bytes.len()).is_none_or(|e| e > self.io.len()) {
            return Err(Errno::EINVAL);
        }
        bytes.iter().enumerate().for_each(|(i, &b)| self.io.write8(start + i, b));
        Ok(())
    }
    fn generation(&self) -> u32 {
        self.io.read32(reg::GENERATION)
    }
    fn queue_limit(&self, queue: u16) -> u16 {
        let _g = self.select.lock();
        self.io.write32(reg::QUEUE_SEL, queue.into());
        self.io.read32(reg::QUEUE_NUM_MAX).min(1 << 15) as u16
    }
    fn start_queue(&self, q: Layout) -> Result<()> {
        let _g = self.select.lock();
        self.io.write32(reg::QUEUE_SEL, q.number.into());
        if self.io.read32(reg::QUEUE_READY) != 0 {
            return Err(Errno::EBUSY);
        }
        self.io.write32(reg::QUEUE_NUM, q.size.into());
        for (off, address) in reg::QUEUE_RINGS.into_iter().zip(q.rings) {
            self.io.write32(off, address as u32);
            self.io.write32(off + 4, (address >> 32) as u32);
        }
        self.io.write32(reg::QUEUE_READY, 1);
        Ok(())
    }
    fn notify(&self, queue: u16) {
        self.io.write32(reg::QUEUE_NOTIFY, queue.into());
    }
    fn connect(&self, name: &str, configuration: Callback, queues: Vec<(String, Callback)>) -> Result<()> {
        let io = self.io.clone();
        let handler = move || {
            let why = io.read32(reg::INTERRUPT_STATUS);
            if why == 0 {
                return Handled::No;
            }
            io.write32(reg::INTERRUPT_ACK, why);
            if why & 2 != 0 {
                configuration();
            }
            if why & 1 != 0 {
                queues.iter().for_each(|q| (q.1)());
            }
            Handled::Yes
        };
        let irq = irq::request_line(self.line, name, Share::Shared, handler).map_err(|_| Errno::EBUSY)?;
        *self.irq.lock() = Some(irq);
        Ok(())
    }
    fn disconnect(&self) {
        let gone = self.irq.lock().take();
        drop(gone);
    }
}

/// `virtio-mmio`.
struct Driver;
static CHILDREN: LockClass = LockClass::new("virtio_mmio_children");
static MADE: Mutex<Vec<(String, Arc<model::Device>)>> = Mutex::new(&CHILDREN, Vec::new());

impl model::Driver for Driver {
    fn name(&self) -> &str {
        "virtio-mmio"
    }
    fn matches(&self, dev: &model::Device) -> bool {
        dev.data::<Place>().is_some()
    }
    fn probe(&self, dev: &Arc<model::Device>) -> Result<()> {
        let p = dev.data::<Place>().ok_or(Errno::ENODEV)?;
        let len = usize::try_from(p.len).map_err(|_| Errno::ENODEV)?;
        let io = Arc::new(Mmio::claim(p.address, len).ok_or(Errno::EBUSY)?);
        if io.read32(reg::MAGIC) != MAGIC || io.read32(reg::VERSION) != VERSION {
            return Err(Errno::ENODEV);
        }
        let (kind, vendor) = (io.read32(reg::DEVICE_ID), io.read32(reg::VENDOR_ID));
        if kind == 0 {
            // A slot without a device.
            return Err(Errno::ENODEV);
        }
        let select = Mutex::new(&SELECT, ());
        let t = Arc::new(Registers { io, line: p.line, select, irq: Mutex::new(&IRQ, None) });
        let v = device::register(dev, kind, vendor, t)?;
        MADE.lock().push((dev.name().into(), v));
        Ok(())
    }
    fn remove(&self, dev: &Arc<model::Device>) {
        let mut all = MADE.lock();
        let Some(i) = all.iter().position(|m| m.0 == dev.name()) else { return };
        let (_, v) = all.swap_remove(i);
        drop(all);
        v.remove();
    }
}

/// `SIZE@ADDRESS:LINE[:ID]`; the size may end in K or M.
fn parse_place(s: &str) -> Option<Place> {
    let (len, rest) = s.split_once('@')?;
    let mut parts = rest.split(':');
    let number = |s: &str| match s.strip_prefix("0x") {
        Some(h) => u64::from_str_radix(h, 16).ok(),
        None => s.parse().ok(),
    };
    let (digits, shift) = match len.strip_suffix(['K', 'k']) {
        Some(d) => (d, 10),
        None => len.strip_suffix(['M', 'm']).map_or((len, 0), |d| (d, 20)),
    };
    let len = number(digits)?.checked_mul(1 << shift)?;
    let (address, line) = (number(parts.next()?)?, number(parts.next()?)?);
    // The registers of the standard must be there.
    (len >= reg::CONFIG as u64 && len <= 1 << 20).then_some(Place {
        address,
        len,
        line: u32::try_from(line).ok()?,
    })
}

/// The devices that a DSDT describes.
fn find_in_dsdt(t: &[u8]) -> Vec<Place> {
    const NAME: &[u8] = b"LNRO0005";
    /// Resources stand this close behind the name.
    const NEAR: usize = 64;
    let mut found = Vec::new();
    let starts = t.windows(NAME.len()).enumerate().filter(|(_, w)| *w == NAME).map(|(i, _)| i);
    for at in starts {
        let near = &t[at..t.len().min(at + NAME.len() + NEAR)];
        let word = |b: &[u8]| b.try_into().map(u32::from_le_bytes).ok();
        // Memory32Fixed: tag, length 9, flags, base, length. Extended interrupt: tag, length 6, flags, count 1, line.
        let memory = near.windows(12).find(|w| w[..3] == [0x86, 9, 0]);
        let line = near.windows(9).find(|w| w[..3] == [0x89, 6, 0] && w[4] == 1);
        if let (Some(m), Some(l)) = (memory, line)
            && let (Some(address), Some(len), Some(line)) = (word(&m[4..8]), word(&m[8..12]), word(&l[5..9]))
            && len as usize >= reg::CONFIG
        {
            found.push(Place { address: address.into(), len: len.into(), line });
        }
    }
    found
}

/// Gives the devices to the platform bus, and the driver after them.
pub(super) fn init() -> Result<()> {
    let mut places: Vec<(String, Place)> = Vec::new();
    let named = params::params().iter().filter(|(k, _)| *k == "virtio_mmio.device");
    for (i, p) in named.filter_map(|(_, v)| parse_place(v?)).enumerate() {
        places.push((format!("virtio-mmio.{i}"), p));
    }
    if places.is_empty() {
        let dsdt = boot::acpi_table(b"DSDT", 0);
        let found = dsdt.as_deref().map(find_in_dsdt).unwrap_or_default();
        places.extend(found.into_iter().enumerate().map(|(i, p)| (format!("LNRO0005:{i:02}"), p)));
    }
    if places.is_empty() {
        return Ok(());
    }
    for (name, p) in places {
        platform::add(&name, Some(Arc::new(p)))?.announce();
    }
    platform::BUS.add_driver(Arc::new(Driver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_devices() {
        let p = Place { address: 0xfeb0_0e00, len: 512, line: 12 };
        assert_eq!(parse_place("512@0xfeb00e00:12"), Some(p));
        assert_eq!(parse_place("4K@0x1000:5:7"), Some(Place { address: 0x1000, len: 4096, line: 5 }));
        for bad in
            ["", "512", "512@", "512@0x10", "1@0x10:5", "x@1:2", "9999999M@0x0:1", "99999999999999999999@0:1"]
        {
            assert_eq!(parse_place(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_dsdt_names_devices() {
        let mut t = b"junkLNRO0005\0\x08_CRS\x11\x1a\x0a\x17".to_vec();
        t.extend_from_slice(&[0x86, 9, 0, 1]);
        t.extend_from_slice(&0xfeb0_0e00u32.to_le_bytes());
        t.extend_from_slice(&512u32.to_le_bytes());
        t.extend_from_slice(&[0x89, 6, 0, 1, 1]);
        t.extend_from_slice(&12u32.to_le_bytes());
        t.extend_from_slice(&[0x79, 0]);
        assert_eq!(find_in_dsdt(&t), [Place { address: 0xfeb0_0e00, len: 512, line: 12 }]);
        for cut in 0..t.len() - 2 {
            assert!(find_in_dsdt(&t[..cut]).is_empty(), "cut at {cut}");
        }
    }
}
