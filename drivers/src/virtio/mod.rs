//! Virtio 1.x: devices that a hypervisor makes for guests. The core that all of its drivers share.
//!
//! # Theory
//! A virtio device is reached by a *transport* (PCI, or registers in memory), which is the same few operations either way: agree on
//! features, read the device's configuration, start queues, ring a queue's bell, be interrupted. A *queue* is memory that driver
//! and device share ([`queue`]); everything a driver wants from the device it puts there as chains of buffers, and gets them back used.
//!
//! ```text
//!   driver (hw_random, later block and net)      probe: begin → queue(s) → connect → ready
//!   ─ bus `virtio` ─ Device ──────────────── Transport: pci::Modern | mmio::Registers
//!   Queue<T> ── DmaBuffer ── device
//! ```
//! The device is not trusted: it is the word of another program. What it writes into shared memory is read once, by copy, and
//! checked against what this side remembers in memory of its own: which chains are out, how long they are, how many there can be.
//! A device that breaks the rules is marked broken and gets no more work; its driver answers its users with EIO.
//!
//! | file | what |
//! |---|---|
//! | [`queue`] | split queues with event indices |
//! | `device` | life of a device, the bus, sysfs |
//! | `transport` | what a transport does |
//! | `pci`, `mmio` | the two transports |
//!
//! Not here: packed queues, indirect descriptors, legacy (pre-1.0) devices, `VIRTIO_F_ACCESS_PLATFORM`.
//! Reference: OASIS, Virtual I/O Device (VIRTIO) Version 1.2.

mod device;
mod mmio;
mod pci;
pub mod queue;
mod transport;

pub use device::{BUS, Device, of};
pub use queue::{Queue, Segment};
pub use transport::{Callback, Transport};

use base::Result;

/// Feature bits that belong to the core.
pub mod feature {
    pub const EVENT_IDX: u64 = 1 << 29;
    pub const VERSION_1: u64 = 1 << 32;
}

/// Device types, as the specification numbers them.
pub mod kind {
    pub const NET: u32 = 1;
    pub const BLOCK: u32 = 2;
    pub const CONSOLE: u32 = 3;
    pub const ENTROPY: u32 = 4;
    pub const SCSI: u32 = 8;
}

/// Registers the bus and the drivers of both transports. After PCI.
pub fn init() -> Result<()> {
    BUS.register()?;
    pci::init()?;
    mmio::init()
}
