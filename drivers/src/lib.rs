//! Device drivers: the serial port and terminals, the memory devices, random numbers, PCI and virtio.
//!
//! A driver claims its ports and interrupt line from `frame`, and registers what programs open with `base::device`.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

mod cpu_latency;
pub mod hw_random;
pub mod mem;
pub mod misc;
pub mod pci;
mod physical;
pub mod platform;
pub mod random;
pub mod rtc;
pub mod serial;
pub mod tty;
pub mod virtio;
pub mod watchdog;

use base::{Result, device::DevNum};

/// Starts the drivers. Needs kernel threads.
pub fn init() -> Result<()> {
    misc::init()?;
    mem::init()?;
    physical::init()?;
    cpu_latency::init()?;
    random::init()?;
    platform::init()?;
    pci::init()?;
    virtio::init()?;
    hw_random::init()?;
    tty::nodes::register_current()?;
    rtc::init()?;
    if let Some(port) = serial::Serial::probe() {
        let console = port.clone();
        let tty = tty::Tty::new("ttyS0", DevNum::new(4, 64), port)?;
        tty::nodes::register(&tty, 0o660)?;
        tty::nodes::register_console(&tty)?;
        base::tree::proc().file("tty/driver/serial", 0o400, move |o| {
            let (tx, rx, oe) = console.statistics();
            writeln!(o, "serinfo:1.0 driver revision:")?;
            Ok(writeln!(o, "0: uart:16550A port:000003F8 irq:4 tx:{tx} rx:{rx} oe:{oe}")?)
        })?;
    }
    watchdog::init()
}

/// Whether the calling process has a capability; true for the kernel itself.
pub(crate) fn caller_has_cap(cap: u32) -> bool {
    tty::job::caller_has_cap(cap)
}
