//! The life of a virtio device, and the bus `virtio` in sysfs.
//!
//! ```text
//!   begin (reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK) → queue … → connect → start … → ready (DRIVER_OK)
//!   → stop (reset: the device touches no memory any more)
//! ```

use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};

use base::{
    Errno, Result,
    model::{self, Bus, Spec, Subsystem},
};
use frame::{
    atomic::{AtomicU32, AtomicU64, Ordering},
    sync::LockClass,
};

use super::{
    Queue, feature,
    queue::Layout,
    transport::{Callback, Transport},
};

static BIND: LockClass = LockClass::new("virtio_bind");
/// The bus `virtio`. A driver registers with [`Bus::add_driver`] and gets its device by [`of`].
pub static BUS: Bus = Bus::new("virtio", &BIND);

/// The virtio side of a device of [`BUS`].
pub fn of(dev: &model::Device) -> Option<Arc<Device>> {
    dev.data()
}

/// Bits of the device status.
mod status {
    pub(super) const ACKNOWLEDGE: u8 = 1;
    pub(super) const DRIVER: u8 = 2;
    pub(super) const DRIVER_OK: u8 = 4;
    pub(super) const FEATURES_OK: u8 = 8;
    pub(super) const FAILED: u8 = 128;
}

/// A device.
pub struct Device {
    index: u32,
    /// What it is: see [`super::kind`].
    pub kind: u32,
    pub vendor: u32,
    transport: Arc<dyn Transport>,
    features: AtomicU64,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Gives a device to the bus, below the device of its transport.
pub(super) fn register(
    parent: &Arc<model::Device>,
    kind: u32,
    vendor: u32,
    transport: Arc<dyn Transport>,
) -> Result<Arc<model::Device>> {
    let index = NEXT.fetch_add(1, Ordering::Relaxed);
    let d = Arc::new(Device { index, kind, vendor, transport, features: AtomicU64::new(0) });
    // As Linux does before any driver: the device is known to be one.
    d.transport.reset()?;
    d.transport.set_status(status::ACKNOWLEDGE);
    let modalias = format!("virtio:d{kind:08X}v{vendor:08X}");
    let alias = modalias.clone();
    let dev = model::Device::new(Spec {
        name: format!("virtio{index}"),
        parent: Some(parent.clone()),
        subsystem: Subsystem::Bus(&BUS),
        variables: Some(Box::new(move |e| e.add("MODALIAS", alias.clone()))),
        data: Some(d.clone()),
    })?;
    let s = d.clone();
    dev.attribute("status", 0o444, move |o| Ok(writeln!(o, "{:#010x}", s.transport.status())?))?;
    dev.attribute("device", 0o444, move |o| Ok(writeln!(o, "{kind:#06x}")?))?;
    dev.attribute("vendor", 0o444, move |o| Ok(writeln!(o, "{vendor:#06x}")?))?;
    dev.attribute("modalias", 0o444, move |o| Ok(writeln!(o, "{modalias}")?))?;
    let f = d.clone();
    dev.attribute("features", 0o444, move |o| {
        let bits = f.features.load(Ordering::Relaxed);
        (0..64).try_for_each(|i| o.push(if bits >> i & 1 != 0 { b"1" } else { b"0" }))?;
        o.push(b"\n")
    })?;
    dev.announce();
    Ok(dev)
}

impl Device {
    /// `virtio0`.
    pub fn name(&self) -> String {
        format!("virtio{}", self.index)
    }
    fn add_status(&self, bits: u8) {
        self.transport.set_status(self.transport.status() | bits);
    }

    /// Resets the device and agrees on features: of `wanted`, those that it offers. ENODEV if it is older than 1.0 or refuses.
    pub fn begin(&self, wanted: u64) -> Result<u64> {
        let t = &self.transport;
        t.reset()?;
        self.add_status(status::ACKNOWLEDGE);
        self.add_status(status::DRIVER);
        let offered = t.device_features();
        if offered & feature::VERSION_1 == 0 {
            return Err(self.fail(Errno::ENODEV));
        }
        let agreed = offered & (wanted | feature::VERSION_1 | feature::EVENT_IDX);
        t.accept_features(agreed);
        self.add_status(status::FEATURES_OK);
        if t.status() & status::FEATURES_OK == 0 {
            return Err(self.fail(Errno::ENODEV));
        }
        self.features.store(agreed, Ordering::Relaxed);
        Ok(agreed)
    }
    /// The features agreed on.
    pub fn features(&self) -> u64 {
        self.features.load(Ordering::Relaxed)
    }

    /// A queue of at most `limit` descriptors, not started. ENOENT if the device has none of that number.
    pub fn queue<T>(&self, number: u16, limit: u16) -> Result<Queue<T>> {
        let most = self.transport.queue_limit(number).min(limit);
        if most == 0 {
            return Err(Errno::ENOENT);
        }
        Queue::new(number, most, self.features() & feature::EVENT_IDX != 0)
    }
    /// Connects interrupts: for changes of the configuration, and for queues 0, 1, … with the names that `/proc/interrupts` shows
    /// behind the device's.
    pub fn connect(&self, configuration: Callback, queues: Vec<(&str, Callback)>) -> Result<()> {
        let name = self.name();
        let queues = queues.into_iter().map(|(n, f)| (format!("{name}-{n}"), f)).collect();
        self.transport.connect(&name, configuration, queues)
    }
    /// Starts a queue. After [`Device::connect`].
    pub fn start(&self, q: Layout) -> Result<()> {
        self.transport.start_queue(q)
    }
    /// The driver is ready: the device may work.
    pub fn ready(&self) {
        self.add_status(status::DRIVER_OK);
    }
    /// Rings a queue's bell. Any context.
    pub fn notify(&self, queue: u16) {
        self.transport.notify(queue);
    }
    /// The device's configuration, read as one state.
    pub fn read_config(&self, off: usize, out: &mut [u8]) -> Result<()> {
        /// A device that changes it all the time is not waited for.
        const TRIES: usize = 8;
        for _ in 0..TRIES {
            let before = self.transport.generation();
            self.transport.read_config(off, out)?;
            if self.transport.generation() == before {
                return Ok(());
            }
        }
        Err(Errno::EIO)
    }
    pub fn write_config(&self, off: usize, bytes: &[u8]) -> Result<()> {
        self.transport.write_config(off, bytes)
    }
    /// Tells the device that the driver gives up, and returns `e`.
    pub fn fail(&self, e: Errno) -> Errno {
        self.add_status(status::FAILED);
        e
    }
    /// Stops the device: no callback runs and it touches no memory afterwards.
    pub fn stop(&self) {
        if self.transport.reset().is_err() {
            base::pr_err!("{}: the device does not stop", self.name());
        }
        self.transport.disconnect();
        self.transport.set_status(status::ACKNOWLEDGE);
    }
}
