//! PCI and PCI Express: finding devices, their resources and interrupts, `/sys/bus/pci`.
//!
//! # Theory
//! Every function of every device has a *configuration space*, reached through the window that the firmware's MCFG table names
//! (ECAM), else through the ports 0xcf8 and 0xcfc. It says who the device is, and holds the *base address registers* (BARs) that
//! place its registers in memory or ports. The firmware has usually placed them; what it left out is placed here.
//!
//! A driver is given its device ([`Device`]), enables it, maps BARs, and asks for [`Vectors`]: MSI-X messages if it has them, else
//! one MSI message, else its line.
//!
//! | file | what |
//! |---|---|
//! | `config` | the ways to configuration space |
//! | `bar` | sizes and places of BARs |
//! | `scan` | the walk over buses and bridges |
//! | `device` | one function: enable, map, capabilities |
//! | `vectors` | MSI-X, MSI, lines |
//! | `sysfs` | attributes, `/proc/bus/pci/devices` |
//!
//! What configuration space says is a device's word: every offset, size and list from there is checked.
//! Not here: hot plug, power states, SR-IOV, expansion ROMs, AER. Registers: PCI Local Bus Specification 3.0, chapter 6, and PCI
//! Express Base Specification, chapter 7; MSI-X in the former's 6.8.

mod bar;
mod config;
mod device;
mod scan;
mod sysfs;
mod vectors;

use alloc::sync::Arc;

use base::{
    Result,
    model::{self, Bus},
};
use frame::sync::LockClass;

pub use bar::{Bar, BarKind};
pub use config::Address;
pub use device::{Capability, Device};
pub use vectors::Vectors;

static BIND: LockClass = LockClass::new("pci_bind");
/// The bus `pci`. Drivers register with [`Bus::add_driver`] and get their device by [`of`].
pub static BUS: Bus = Bus::new("pci", &BIND);

/// The PCI side of a device of [`BUS`].
pub fn of(dev: &model::Device) -> Option<Arc<Device>> {
    dev.data()
}

/// Finds all devices. A machine without PCI has none, and no `/sys/bus/pci`.
pub fn init() -> Result<()> {
    if !config::init() {
        return Ok(());
    }
    BUS.register()?;
    scan::scan()?;
    sysfs::init()
}
