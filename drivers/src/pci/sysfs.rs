//! What user space sees of a function: attributes, uevent variables, `/proc/bus/pci/devices` (`Documentation/ABI/testing/sysfs-bus-pci`).

use alloc::{boxed::Box, format, string::String, sync::Arc};

use base::{Errno, Result, model, tree};

use super::{BUS, device::Device, scan};

/// Rows of `resource`: six BARs, the ROM, six of SR-IOV.
const ROWS: usize = 13;

fn modalias(d: &Device) -> String {
    format!(
        "pci:v{:08X}d{:08X}sv{:08X}sd{:08X}bc{:02X}sc{:02X}i{:02X}",
        d.vendor,
        d.device,
        d.subsystem_vendor,
        d.subsystem_device,
        d.class >> 16 & 0xff,
        d.class >> 8 & 0xff,
        d.class & 0xff
    )
}

/// The variables of its uevents.
pub(super) fn variables(d: &Arc<Device>) -> Box<dyn Fn(&mut model::Env) + Send + Sync> {
    let d = d.clone();
    Box::new(move |env| {
        env.add("PCI_CLASS", format!("{:04X}", d.class));
        env.add("PCI_ID", format!("{:04X}:{:04X}", d.vendor, d.device));
        env.add("PCI_SUBSYS_ID", format!("{:04X}:{:04X}", d.subsystem_vendor, d.subsystem_device));
        env.add("PCI_SLOT_NAME", format!("{}", d.address));
        env.add("MODALIAS", modalias(&d));
    })
}

/// Adds the attributes to a function's folder.
pub(super) fn attributes(dev: &model::Device, d: &Arc<Device>) -> Result<()> {
    let show = |name: &str, f: fn(&Device) -> String| {
        let d = d.clone();
        dev.attribute(name, 0o444, move |o| Ok(writeln!(o, "{}", f(&d))?))
    };
    show("vendor", |d| format!("{:#06x}", d.vendor))?;
    show("device", |d| format!("{:#06x}", d.device))?;
    show("subsystem_vendor", |d| format!("{:#06x}", d.subsystem_vendor))?;
    show("subsystem_device", |d| format!("{:#06x}", d.subsystem_device))?;
    show("class", |d| format!("{:#08x}", d.class))?;
    show("revision", |d| format!("{:#04x}", d.revision))?;
    show("modalias", modalias)?;
    show("irq", |d| {
        let message = d.state.lock().messages.first().map(|m| m.0).filter(|_| d.capability(0x11).is_none());
        format!("{}", message.unwrap_or(d.line()))
    })?;
    let r = d.clone();
    dev.attribute("resource", 0o444, move |o| {
        for i in 0..ROWS {
            let (start, end, flags) = match r.bars.get(i).copied().flatten() {
                Some(b) if b.address != 0 => (b.address, b.address.saturating_add(b.size - 1), b.flags()),
                _ => (0, 0, 0),
            };
            writeln!(o, "{start:#018x} {end:#018x} {flags:#018x}")?;
        }
        Ok(())
    })?;
    let c = d.clone();
    dev.attribute("config", 0o644, move |o| {
        o.reserve(c.config_size())?;
        (0..c.config_size()).step_by(4).try_for_each(|off| o.push(&c.config_read32(off).to_le_bytes()))
    })?;
    let (shown, set) = (d.clone(), d.clone());
    dev.knob(
        "enable",
        0o644,
        move |o| Ok(writeln!(o, "{}", shown.enable_count())?),
        move |b| match tree::kstrto::<u64>(b)? {
            0 if set.enable_count() == 0 => Err(Errno::EIO),
            0 => {
                set.disable();
                Ok(())
            }
            _ => {
                set.enable();
                Ok(())
            }
        },
    )
}

/// One line per function: address, identity, line, BARs, their sizes, driver.
pub(super) fn init() -> Result<()> {
    tree::proc().file("bus/pci/devices", 0o444, |o| {
        let objects = BUS.devices();
        for d in scan::all() {
            write!(
                o,
                "{:02x}{:02x}\t{:04x}{:04x}\t{:x}",
                d.address.bus,
                d.address.devfn(),
                d.vendor,
                d.device,
                d.line()
            )?;
            for i in 0..7 {
                let bar = d.bars.get(i).copied().flatten();
                write!(o, "\t{:16x}", bar.map_or(0, |b| b.address | b.flags() & 0xf))?;
            }
            for i in 0..7 {
                let bar = d.bars.get(i).copied().flatten();
                write!(o, "\t{:16x}", bar.map_or(0, |b| b.size))?;
            }
            let object = objects.iter().find(|x| super::of(x).is_some_and(|x| Arc::ptr_eq(&x, &d)));
            writeln!(o, "\t{}", object.and_then(|x| x.driver_name()).unwrap_or_default())?;
        }
        Ok(())
    })
}
