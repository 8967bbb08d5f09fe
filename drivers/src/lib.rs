//! Device drivers: the serial port and terminals, the memory devices, random numbers, PCI and virtio, cooling devices.
//!
//! A driver claims its ports and interrupt line from `frame`, and registers what programs open with `base::device`.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod acpi;
mod cpu_latency;
pub mod hw_random;
pub mod input;
pub mod kmsg;
mod lkdtm;
pub mod mem;
pub mod misc;
pub mod pci;
mod physical;
pub mod platform;
mod proc_irq;
pub mod random;
pub mod rtc;
pub mod serial;
pub mod sysrq;
pub mod thermal;
pub mod tty;
pub mod virtio;
pub mod watchdog;

use base::Result;

/// Starts the drivers. Needs kernel threads.
pub fn init() -> Result<()> {
    frame::irq::install_complaint(|n| {
        base::pr_err!("irq {n}: nobody cared");
        base::pr_emerg!("Disabling IRQ #{n}");
    });
    misc::init()?;
    sysrq::init()?;
    lkdtm::init()?;
    mem::init()?;
    kmsg::init()?;
    physical::init()?;
    cpu_latency::init()?;
    random::init()?;
    proc_irq::init()?;
    thermal::powerclamp::init()?;
    platform::init()?;
    pci::init()?;
    virtio::init()?;
    hw_random::init()?;
    input::init()?;
    acpi::init()?;
    tty::nodes::register_current()?;
    rtc::init()?;
    tty::pty::init()?;
    serial::init()?;
    tty::drivers::declare()?;
    watchdog::init()
}

/// Whether the calling process has a capability; true for the kernel itself.
pub(crate) fn caller_has_cap(cap: u32) -> bool {
    tty::job::caller_has_cap(cap)
}
