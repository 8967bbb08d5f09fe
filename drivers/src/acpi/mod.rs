//! ACPI: power buttons, processors that are plugged in, and the event interrupt, without an interpreter for the firmware's code.
//!
//! # Theory
//! The table FADT names the *fixed* hardware: a status and an enable register for events (PM1), a control register, another pair for
//! general-purpose events (GPE0), and the interrupt that says that an enabled event has come (SCI). The power button is an event of
//! PM1, news of a processor slot one of GPE0. The interrupt's handler takes note and quiets the register; the thread [`kapmd`] and a
//! work item do the rest.
//!
//! | file | what |
//! |---|---|
//! | `fadt` | what the table says |
//! | `events` | the event registers |
//! | `button` | the power button as an input device, `/sys/bus/acpi` |
//! | `kapmd` | the thread |
//! | `slots` | the registers of the processor slots |
//! | `processors` | what comes and goes there |
//!
//! Not here: AML, so of the general-purpose events only that of the processor slots, and no batteries or thermal zones; machines with
//! reduced hardware (microvm), which have none of these registers. Reference: ACPI Specification 6.5, chapter 4.8.

mod button;
mod events;
mod fadt;
mod kapmd;
mod processors;
mod slots;

use alloc::sync::Arc;

use base::{Result, pr_info, pr_warn};
use frame::{
    atomic::{AtomicU64, Ordering},
    boot,
    io::Ports,
    irq::{self, Handled, Share},
};

use events::{Gpe0, Pm1};
use fadt::Fadt;

/// In PM1 status and enable.
const POWER_BUTTON: u16 = 1 << 8;
/// In PM1 control: events come as SCI, not to the firmware.
const SCI_ENABLE: u16 = 1;

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
    let Some(pm1) = Pm1::claim(&fadt) else {
        pr_warn!("ACPI: the event registers cannot be used");
        return Ok(());
    };
    let (pm1, gpe) = (Arc::new(pm1), Gpe0::claim(&fadt).map(Arc::new));
    let (asked, asked_too) = (pm1.clone(), gpe.clone());
    let sci = irq::request_line(irq::isa_line(fadt.sci), "acpi", Share::Shared, move || {
        let fixed = asked.take();
        let slots = asked_too.as_ref().is_some_and(|g| g.take(processors::EVENT));
        if fixed == 0 && !slots {
            return Handled::No;
        }
        SCI_COUNT.fetch_add(1, Ordering::Relaxed);
        if fixed & POWER_BUTTON != 0 {
            PRESSES.fetch_add(1, Ordering::Release);
            kapmd::wake();
        }
        if slots {
            processors::notice();
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
    pm1.enable(POWER_BUTTON);
    if let Some(gpe) = gpe
        && let Some(dsdt) = boot::acpi_table(b"DSDT", 0)
        && processors::start(&dsdt)?
    {
        gpe.enable(processors::EVENT);
        // What came before.
        processors::notice();
    }
    Ok(())
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
