//! Virtio over PCI (VIRTIO 1.2, section 4.1): the driver `virtio-pci`.
//!
//! Vendor-specific capabilities say in which BARs the four groups of registers are: common, notification, interrupt status, and
//! the device's own. With enough MSI-X messages each queue has one, else all share one; without MSI-X the line.

use alloc::{format, string::String, sync::Arc, vec::Vec};

use base::{Errno, Result, model};
use frame::{
    atomic::{AtomicU32, Ordering},
    cpu::CpuMask,
    io::Mmio,
    irq::{Handled, Irq},
    sync::{LockClass, Mutex},
};

use super::{
    device,
    queue::Layout,
    transport::{Callback, Transport},
};
use crate::pci::{self, Vectors};

const VENDOR: u16 = 0x1af4;
const VENDOR_CAPABILITY: u8 = 0x09;
/// Offsets in a capability.
const CAP_KIND: usize = 3;
const CAP_BAR: usize = 4;
const CAP_OFFSET: usize = 8;
const CAP_LENGTH: usize = 12;
const CAP_MULTIPLIER: usize = 16;
const NO_VECTOR: u16 = 0xffff;
const NO_BELL: u32 = u32::MAX;

/// Registers of the common group.
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: usize = 0;
    pub(super) const DEVICE_FEATURE: usize = 4;
    pub(super) const DRIVER_FEATURE_SELECT: usize = 8;
    pub(super) const DRIVER_FEATURE: usize = 12;
    pub(super) const CONFIG_VECTOR: usize = 16;
    pub(super) const NUM_QUEUES: usize = 18;
    pub(super) const STATUS: usize = 20;
    pub(super) const GENERATION: usize = 21;
    pub(super) const QUEUE_SELECT: usize = 22;
    pub(super) const QUEUE_SIZE: usize = 24;
    pub(super) const QUEUE_VECTOR: usize = 26;
    pub(super) const QUEUE_ENABLE: usize = 28;
    pub(super) const QUEUE_NOTIFY_OFF: usize = 30;
    pub(super) const QUEUE_RINGS: [usize; 3] = [32, 40, 48];
    pub(super) const LEN: usize = 56;
}

/// A group of registers: part of a BAR.
struct Group {
    bar: Arc<Mmio>,
    at: usize,
    len: usize,
}

impl Group {
    /// The group that a capability describes, if it lies inside its BAR and has at least `least` bytes.
    fn read(d: &pci::Device, cap: usize, least: usize) -> Result<Group> {
        let bar = usize::from(d.config_read8(cap + CAP_BAR));
        let at = d.config_read32(cap + CAP_OFFSET) as usize;
        let len = d.config_read32(cap + CAP_LENGTH) as usize;
        let bar = d.map_bar(bar)?;
        if len < least || !at.is_multiple_of(4) || at.checked_add(len).is_none_or(|e| e > bar.len()) {
            return Err(Errno::EINVAL);
        }
        Ok(Group { bar, at, len })
    }
    fn read8(&self, off: usize) -> u8 {
        self.bar.read8(self.at + off)
    }
    fn read16(&self, off: usize) -> u16 {
        self.bar.read16(self.at + off)
    }
    fn read32(&self, off: usize) -> u32 {
        self.bar.read32(self.at + off)
    }
    fn write8(&self, off: usize, v: u8) {
        self.bar.write8(self.at + off, v);
    }
    fn write16(&self, off: usize, v: u16) {
        self.bar.write16(self.at + off, v);
    }
    fn write32(&self, off: usize, v: u32) {
        self.bar.write32(self.at + off, v);
    }
}

/// Interrupts in use; the handles go before the vectors.
#[derive(Default)]
struct Interrupts {
    irqs: Vec<Irq>,
    vectors: Option<Vectors>,
    /// The vector of each queue.
    of_queue: Vec<u16>,
}

/// A device of version 1.
struct Modern {
    pci: Arc<pci::Device>,
    common: Group,
    notify: Group,
    multiplier: usize,
    isr: Arc<Group>,
    config: Option<Group>,
    /// Selecting a queue or a feature word, and using what was selected, are one step.
    select: Mutex<()>,
    /// Where the bell of each queue is, once it is started.
    bells: Vec<AtomicU32>,
    interrupts: Mutex<Interrupts>,
}

static SELECT: LockClass = LockClass::new("virtio_pci_select");
static INTERRUPTS: LockClass = LockClass::new("virtio_pci_interrupts");

impl Modern {
    fn new(d: &Arc<pci::Device>) -> Result<Modern> {
        let caps: Vec<usize> =
            d.capabilities().iter().filter(|c| c.id == VENDOR_CAPABILITY).map(|c| c.at).collect();
        // Of several of one kind the first that can be used counts.
        let find = |kind: u8, least: usize| {
            let mut of_kind = caps.iter().filter(|&&c| d.config_read8(c + CAP_KIND) == kind);
            of_kind.find_map(|&c| Some((c, Group::read(d, c, least).ok()?)))
        };
        let (_, common) = find(1, common::LEN).ok_or(Errno::ENODEV)?;
        let (notify_cap, notify) = find(2, 2).ok_or(Errno::ENODEV)?;
        let (_, isr) = find(3, 1).ok_or(Errno::ENODEV)?;
        let queues = usize::from(common.read16(common::NUM_QUEUES));
        let mut bells = Vec::new();
        bells.try_reserve_exact(queues)?;
        bells.resize_with(queues, || AtomicU32::new(NO_BELL));
        Ok(Modern {
            pci: d.clone(),
            common,
            notify,
            multiplier: d.config_read32(notify_cap + CAP_MULTIPLIER) as usize,
            isr: Arc::new(isr),
            config: find(4, 1).map(|c| c.1),
            select: Mutex::new(&SELECT, ()),
            bells,
            interrupts: Mutex::new(&INTERRUPTS, Interrupts::default()),
        })
    }

    /// One message for everything, or the line: all callbacks are called.
    fn connect_one(&self, v: &Vectors, name: &str, all: Vec<Callback>) -> Result<Irq> {
        let (isr, ask) = (self.isr.clone(), !v.is_msix());
        v.request(0, name, CpuMask::ALL, move || {
            // Reading says whether it was this device, and quiets its line.
            if ask && isr.read8(0) == 0 {
                return Handled::No;
            }
            all.iter().for_each(|f| f());
            Handled::Yes
        })
    }
}

impl Transport for Modern {
    fn device_features(&self) -> u64 {
        let _g = self.select.lock();
        let word = |i| {
            self.common.write32(common::DEVICE_FEATURE_SELECT, i);
            u64::from(self.common.read32(common::DEVICE_FEATURE))
        };
        word(0) | word(1) << 32
    }
    fn accept_features(&self, features: u64) {
        let _g = self.select.lock();
        for i in 0..2 {
            self.common.write32(common::DRIVER_FEATURE_SELECT, i);
            self.common.write32(common::DRIVER_FEATURE, (features >> (32 * i)) as u32);
        }
    }
    fn status(&self) -> u8 {
        self.common.read8(common::STATUS)
    }
    fn set_status(&self, status: u8) {
        self.common.write8(common::STATUS, status);
    }
    fn reset(&self) -> Result<()> {
        self.set_status(0);
        let end = sched::time::now_ns() + 1_000_000_000;
        while self.status() != 0 {
            if sched::time::now_ns() > end {
                return Err(Errno::EIO);
            }
            sched::time::sleep_ns(1_000_000);
        }
        Ok(())
    }
    fn read_config(&self, off: usize, out: &mut [u8]) -> Result<()> {
        let g = self.config.as_ref().ok_or(Errno::EINVAL)?;
        if off.checked_add(out.len()).is_none_or(|e| e > g.len) {
            return Err(Errno::EINVAL);
        }
        out.iter_mut().enumerate().for_each(|(i, b)| *b = g.read8(off + i));
        Ok(())
    }
    fn write_config(&self, off: usize, bytes: &[u8]) -> Result<()> {
        let g = self.config.as_ref().ok_or(Errno::EINVAL)?;
        if off.checked_add(bytes.len()).is_none_or(|e| e > g.len) {
            return Err(Errno::EINVAL);
        }
        bytes.iter().enumerate().for_each(|(i, &b)| g.write8(off + i, b));
        Ok(())
    }
    fn generation(&self) -> u32 {
        self.common.read8(common::GENERATION).into()
    }
    fn queue_limit(&self, queue: u16) -> u16 {
        let _g = self.select.lock();
        if usize::from(queue) >= self.bells.len() {
            return 0;
        }
        self.common.write16(common::QUEUE_SELECT, queue);
        self.common.read16(common::QUEUE_SIZE)
    }
    fn start_queue(&self, q: Layout) -> Result<()> {
        let queue = q.number;
        let vector = self.interrupts.lock().of_queue.get(usize::from(queue)).copied().unwrap_or(NO_VECTOR);
        let bell = self.bells.get(usize::from(queue)).ok_or(Errno::ENOENT)?;
        let _g = self.select.lock();
        let c = &self.common;
        c.write16(common::QUEUE_SELECT, queue);
        if c.read16(common::QUEUE_ENABLE) != 0 {
            return Err(Errno::EBUSY);
        }
        let at = usize::from(c.read16(common::QUEUE_NOTIFY_OFF)).saturating_mul(self.multiplier);
        if at.checked_add(2).is_none_or(|e| e > self.notify.len) || !at.is_multiple_of(2) {
            return Err(Errno::EINVAL);
        }
        c.write16(common::QUEUE_SIZE, q.size);
        for (off, address) in common::QUEUE_RINGS.into_iter().zip(q.rings) {
            c.write32(off, address as u32);
            c.write32(off + 4, (address >> 32) as u32);
        }
        if vector != NO_VECTOR {
            c.write16(common::QUEUE_VECTOR, vector);
            if c.read16(common::QUEUE_VECTOR) != vector {
                return Err(Errno::EBUSY);
            }
        }
        bell.store(at as u32, Ordering::Release);
        c.write16(common::QUEUE_ENABLE, 1);
        Ok(())
    }
    fn notify(&self, queue: u16) {
        let at = self.bells.get(usize::from(queue)).map_or(NO_BELL, |b| b.load(Ordering::Acquire));
        if at != NO_BELL {
            self.notify.write16(at as usize, queue);
        }
    }
    fn connect(&self, name: &str, configuration: Callback, queues: Vec<(String, Callback)>) -> Result<()> {
        let n = queues.len();
        let vectors = Vectors::new(&self.pci, n + 1)?;
        let (mut irqs, of_queue) = (Vec::new(), if vectors.is_msix() && vectors.len() > n { 1 } else { 0 });
        if of_queue == 1 {
            irqs.push(vectors.request(0, &format!("{name}-config"), CpuMask::ALL, called(configuration))?);
            for (i, (name, f)) in queues.into_iter().enumerate() {
                irqs.push(vectors.request(i + 1, &name, CpuMask::ALL, called(f))?);
            }
        } else {
            let all = core::iter::once(configuration).chain(queues.into_iter().map(|q| q.1)).collect();
            irqs.push(self.connect_one(&vectors, name, all)?);
        }
        let vector_of = |i| if vectors.is_msix() { of_queue * (i + 1) } else { NO_VECTOR };
        let of_queue = (0..n as u16).map(vector_of).collect();
        if vectors.is_msix() {
            self.common.write16(common::CONFIG_VECTOR, 0);
            if self.common.read16(common::CONFIG_VECTOR) != 0 {
                return Err(Errno::EBUSY);
            }
        }
        *self.interrupts.lock() = Interrupts { irqs, vectors: Some(vectors), of_queue };
        Ok(())
    }
    fn disconnect(&self) {
        let gone = core::mem::take(&mut *self.interrupts.lock());
        drop(gone.irqs);
        drop(gone.vectors);
    }
}

/// A handler of an interrupt that is one callback's alone.
fn called(f: Callback) -> impl Fn() -> Handled + Send + Sync {
    move || {
        f();
        Handled::Yes
    }
}

/// `virtio-pci`.
struct Driver;

static CHILDREN: LockClass = LockClass::new("virtio_pci_children");
/// The devices that the driver made, by the PCI device below them.
static MADE: Mutex<Vec<(Arc<pci::Device>, Arc<model::Device>)>> = Mutex::new(&CHILDREN, Vec::new());

impl model::Driver for Driver {
    fn name(&self) -> &str {
        "virtio-pci"
    }
    fn matches(&self, dev: &model::Device) -> bool {
        pci::of(dev).is_some_and(|d| d.vendor == VENDOR && (0x1000..0x1080).contains(&d.device))
    }
    fn probe(&self, dev: &Arc<model::Device>) -> Result<()> {
        let d = pci::of(dev).ok_or(Errno::ENODEV)?;
        d.enable();
        let made = Modern::new(&d).and_then(|m| {
            d.set_master(true);
            // Transitional devices keep the type elsewhere.
            let kind = if d.device < 0x1040 { d.subsystem_device } else { d.device - 0x1040 };
            device::register(dev, kind.into(), d.subsystem_vendor.into(), Arc::new(m))
        });
        match made {
            Ok(v) => {
                MADE.lock().push((d, v));
                Ok(())
            }
            Err(e) => {
                d.disable();
                Err(e)
            }
        }
    }
    fn remove(&self, dev: &Arc<model::Device>) {
        let Some(d) = pci::of(dev) else { return };
        let mut all = MADE.lock();
        let Some(i) = all.iter().position(|m| Arc::ptr_eq(&m.0, &d)) else { return };
        let (_, v) = all.swap_remove(i);
        drop(all);
        v.remove();
        d.disable();
    }
}

pub(super) fn init() -> Result<()> {
    if pci::BUS.devices().is_empty() {
        return Ok(());
    }
    pci::BUS.add_driver(Arc::new(Driver))
}
