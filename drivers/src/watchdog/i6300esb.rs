//! The watchdog timer of Intel's 6300ESB I/O controller hub, a PCI device; QEMU has it as `-device i6300esb`.
//!
//! Two stages count down one after the other, each half of the time-out, in steps of 2^15 cycles of the PCI clock, nearly a
//! millisecond. The first can interrupt, the second resets the machine. Registers in memory take a write only after two magic
//! ones; whether the timer runs stands in configuration space, with a lock bit that only a reset takes back.
//!
//! Boot parameters: `i6300esb.heartbeat` (seconds), `i6300esb.nowayout`. Reference: Intel 6300ESB data sheet (300641), section 16.

use alloc::{boxed::Box, string::String, sync::Arc};

use base::{
    Errno, Result,
    model::{self, Driver},
    params,
};
use frame::io::Mmio;

use super::{Description, Hardware, bool_param, option};
use crate::pci;

const VENDOR: u16 = 0x8086;
const DEVICE: u16 = 0x25ab;

/// Configuration space.
mod config {
    /// 16 bits.
    pub(super) const CONTROL: usize = 0x60;
    /// 8 bits.
    pub(super) const LOCK: usize = 0x68;
}
/// Control: no interrupt after the first stage; the output (reset) is on and the clock the slow one where bits are 0.
const NO_INTERRUPT: u16 = 3;
const LOCKED: u8 = 1;
const ENABLED: u8 = 2;

/// Registers in memory.
mod reg {
    pub(super) const STAGE1: usize = 0;
    pub(super) const STAGE2: usize = 4;
    /// 16 bits.
    pub(super) const RELOAD: usize = 0xc;
}
const UNLOCK1: u16 = 0x80;
const UNLOCK2: u16 = 0x86;
const RELOAD: u16 = 1 << 8;
/// The timer has bitten. Writing it takes it back.
const BITTEN: u16 = 1 << 9;

/// Seconds.
const DEFAULT: u32 = 30;
const MOST: u32 = 2046;
/// Steps of each stage for a second: 512, because a step is about a millisecond and there are two stages.
const STEPS: u32 = 9;

struct Timer {
    device: Arc<pci::Device>,
    registers: Arc<Mmio>,
}

impl Timer {
    fn unlock(&self) {
        self.registers.write16(reg::RELOAD, UNLOCK1);
        self.registers.write16(reg::RELOAD, UNLOCK2);
    }
    fn reload(&self, also: u16) {
        self.unlock();
        self.registers.write16(reg::RELOAD, RELOAD | also);
    }
    /// Whether it has bitten since it was asked last.
    fn take_bitten(&self) -> bool {
        let bitten = self.registers.read16(reg::RELOAD) & BITTEN != 0;
        self.reload(BITTEN);
        bitten
    }
}

impl Hardware for Timer {
    fn start(&self, _timeout_s: u32, nowayout: bool) -> Result<()> {
        self.reload(0);
        self.device.config_write8(config::LOCK, ENABLED | if nowayout { LOCKED } else { 0 });
        Ok(())
    }
    fn stop(&self) -> Result<()> {
        self.reload(0);
        self.device.config_write8(config::LOCK, 0);
        // A locked timer stays enabled.
        if self.device.config_read8(config::LOCK) & ENABLED != 0 { Err(Errno::EOPNOTSUPP) } else { Ok(()) }
    }
    fn ping(&self, _timeout_s: u32) -> Result<()> {
        self.reload(0);
        Ok(())
    }
    fn set_timeout(&self, timeout_s: u32) -> Result<u32> {
        let steps = timeout_s << STEPS;
        for r in [reg::STAGE1, reg::STAGE2] {
            self.unlock();
            self.registers.write32(r, steps);
        }
        // The new time counts from here on.
        self.reload(0);
        Ok(timeout_s)
    }
}

struct I6300esb;

impl Driver for I6300esb {
    fn name(&self) -> &str {
        "i6300ESB timer"
    }
    fn matches(&self, dev: &model::Device) -> bool {
        pci::of(dev).is_some_and(|d| (d.vendor, d.device) == (VENDOR, DEVICE))
    }
    fn probe(&self, dev: &Arc<model::Device>) -> Result<()> {
        let device = pci::of(dev).ok_or(Errno::ENODEV)?;
        device.enable();
        let started = begin(dev, &device);
        if started.is_err() {
            device.disable();
        }
        started
    }
    /// Watchdogs stay once they are registered: an open file may rely on this one.
    fn remove(&self, _dev: &Arc<model::Device>) {}
}

fn begin(dev: &Arc<model::Device>, device: &Arc<pci::Device>) -> Result<()> {
    let timer = Timer { registers: device.map_bar(0)?, device: device.clone() };
    if timer.registers.len() < reg::RELOAD + 2 {
        return Err(Errno::ENODEV);
    }
    let heartbeat: Option<u32> = params::get("i6300esb.heartbeat").and_then(|v| v.parse().ok());
    let heartbeat = match heartbeat {
        Some(s) if (1..=MOST).contains(&s) => s,
        None => DEFAULT,
        Some(_) => {
            base::pr_info!(
                "i6300ESB timer {}: heartbeat value must be 1<heartbeat<2046, using {DEFAULT}",
                dev.name()
            );
            DEFAULT
        }
    };
    device.config_write16(config::CONTROL, NO_INTERRUPT);
    let mut nowayout = bool_param("i6300esb.nowayout", false);
    let lock = device.config_read8(config::LOCK);
    if lock & LOCKED != 0 {
        base::pr_warn!("i6300ESB timer {}: nowayout already set", dev.name());
        nowayout = true;
    } else {
        device.config_write8(config::LOCK, 0);
    }
    let bitten = timer.take_bitten();
    timer.set_timeout(heartbeat)?;
    let description = Description {
        identity: "i6300ESB timer",
        firmware: 0,
        options: option::SET_TIMEOUT | option::KEEPALIVE_PING | option::MAGIC_CLOSE,
        timeout: heartbeat,
        min_timeout: 1,
        max_timeout: MOST,
        min_heartbeat_ms: 0,
        max_heartbeat_ms: 0,
        nowayout,
        running: lock & (LOCKED | ENABLED) == LOCKED | ENABLED,
        boot_status: if bitten { option::CARD_RESET } else { 0 },
    };
    super::register(description, Box::new(timer), Some(dev.clone()))?;
    let name = String::from(dev.name());
    base::pr_info!(
        "i6300ESB timer {name}: initialized. heartbeat={heartbeat} sec (nowayout={})",
        u32::from(nowayout)
    );
    Ok(())
}

/// Registers the driver where there is PCI.
pub(super) fn init() -> Result<()> {
    if pci::BUS.devices().is_empty() {
        return Ok(());
    }
    pci::BUS.add_driver(Arc::new(I6300esb))
}
