//! Device drivers: the serial port and terminals, the memory devices, random numbers.
//!
//! A driver claims its ports and interrupt line from `frame`, and registers what programs open with `base::device`.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod mem;
pub mod random;
pub mod serial;
pub mod tty;

use base::{Result, device::DevNum};

/// Starts the drivers. Needs kernel threads.
pub fn init() -> Result<()> {
    mem::init()?;
    random::init()?;
    tty::nodes::register_current()?;
    tty::pty::init()?;
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
    Ok(())
}
