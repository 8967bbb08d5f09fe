//! ACPI: power buttons and the event interrupt, without an interpreter for the firmware's code.
//!
//! # Theory
//! The table FADT names the *fixed* hardware: a status and an enable register for events (PM1), a control register, and the
//! interrupt that says that an enabled event has come (SCI). The power button is one of those events. The interrupt's handler
//! takes note and quiets the register; the thread [`kapmd`] does the rest.
//!
//! | file | what |
//! |---|---|
//! | `fadt` | what the table says |
//! | `button` | the power button as an input device, `/sys/bus/acpi` |
//! | `kapmd` | the thread |
//!
//! Not here: AML, so no general-purpose events, batteries or thermal zones; machines with reduced hardware (microvm), which have no
//! PM1 registers. Reference: ACPI Specification 6.5, chapter 4.8.

mod button;
mod fadt;
mod kapmd;

use alloc::sync::Arc;

use base::{Result, pr_info, pr_warn};
use frame::{
    atomic::{AtomicU64, Ordering},
    boot,
    io::Ports,
    irq::{self, Handled, Share},
};

use fadt::Fadt;

/// Bits of PM1 status and enable.
const POWER_BUTTON: u16 = 1 << 8;
/// In PM1 control: events come as SCI, not to the firmware.
const SCI_ENABLE: u16 = 1;

/// The PM1 registers. 16 bits wide: QEMU ignores narrower accesses.
struct Pm1 {
    events: Ports,
    /// Offset of the enable register: half of the block.
    enable_at: u16,
}

impl Pm1 {
    /// Events that have come and are enabled.
    fn pending(&self) -> u16 {
        self.events.read16(0) & self.events.read16(self.enable_at)
    }
    /// Writing ones clears them.
    fn clear(&self, events: u16) {
        self.events.write16(0, events);
    }
    fn enable(&self, events: u16) {
        self.events.write16(self.enable_at, self.events.read16(self.enable_at) | events);
    }
}

/// Interrupts, and presses of the button.
static SCI_COUNT: AtomicU64 = AtomicU64::new(0);
static PRESSES: AtomicU64 = AtomicU64::new(0);

/// Takes over the fixed hardware, if there is some.
pub fn init() -> Result<()> {
    let Some(fadt) = boot::acpi_table(b"FACP", 0).as_deref().and_then(Fadt::parse) else { return Ok(()) };
    pr_info!("ACPI: PM: (supports S0 S5)");
    if fadt.hardware_reduced {
        return Ok(());
    }
    let Some(pm1) = claim(&fadt) else {
        pr_warn!("ACPI: the event registers cannot be used");
        return Ok(());
    };
    let pm1 = Arc::new(pm1);
    let asked = pm1.clone();
    let sci = irq::request_line(irq::isa_line(fadt.sci), "acpi", Share::Shared, move || {
        let pending = asked.pending();
        if pending == 0 {
            return Handled::No;
        }
        asked.clear(pending);
        SCI_COUNT.fetch_add(1, Ordering::Relaxed);
        if pending & POWER_BUTTON != 0 {
            PRESSES.fetch_add(1, Ordering::Release);
            kapmd::wake();
        }
        Handled::Yes
    });
    match sci {
        // It is never given back.
        Ok(irq) => core::mem::forget(irq),
        Err(e) => {
            pr_warn!("ACPI: SCI {} cannot be used: {e:?}", fadt.sci);
            return Ok(());
        }
    }
    switch_to_acpi(&fadt);
    let button = fadt.fixed_power_button.then(button::register).transpose()?;
    kapmd::start(button)?;
    pm1.clear(POWER_BUTTON);
    pm1.enable(POWER_BUTTON);
    Ok(())
}

fn claim(fadt: &Fadt) -> Option<Pm1> {
    let enable_at = fadt.pm1_len / 2;
    Some(Pm1 { events: Ports::claim(fadt.pm1_events, fadt.pm1_len)?, enable_at })
}

/// Asks the firmware to hand the events over. It answers by setting a bit of the control register.
fn switch_to_acpi(fadt: &Fadt) {
    /// The specification gives no limit; Linux waits three seconds.
    const PATIENCE_NS: u64 = 3_000_000_000;
    let Some(control) = Ports::claim(fadt.pm1_control, 2) else { return };
    let done = || control.read16(0) & SCI_ENABLE != 0;
    if done() || fadt.smi_command == 0 || fadt.acpi_enable == 0 {
        return;
    }
    let Some(command) = Ports::claim(fadt.smi_command, 1) else { return };
    command.write8(0, fadt.acpi_enable);
    let end = sched::time::now_ns() + PATIENCE_NS;
    while !done() {
        if sched::time::now_ns() > end {
            pr_warn!("ACPI: the firmware does not hand over the events");
            return;
        }
        sched::time::sleep_ns(1_000_000);
    }
}
