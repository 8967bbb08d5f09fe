//! `/proc/irq`: where each interrupt may go, and where it goes (`Documentation/core-api/irq/irq-affinity.rst`).

use alloc::{format, string::String};

use base::{Errno, Result, cpulist, cpumask, tree};
use frame::{cpu::CpuMask, irq};

/// ERANGE for processors that there cannot be.
fn parse_list(b: &[u8]) -> Result<CpuMask> {
    let m = cpulist::parse(b)?;
    if m.and(cpumask::all()) == m { Ok(m) } else { Err(Errno::ERANGE) }
}

fn set(number: u32, mask: CpuMask) -> Result<()> {
    // A set without any processor that is online is refused, lest the interrupt be lost.
    irq::set_affinity(number, mask).map_err(|e| match e {
        irq::IrqError::NoCpu => Errno::EINVAL,
        irq::IrqError::Exhausted => Errno::ENOSPC,
        _ => Errno::EIO,
    })
}

fn add(number: u32) -> Result<()> {
    let (t, home) = (tree::proc(), format!("irq/{number}"));
    let info = move || irq::info(number).ok_or(Errno::ENOENT);
    let knob = |name: &str, show: fn(CpuMask) -> String, parse: fn(&[u8]) -> Result<CpuMask>| {
        t.knob(
            &format!("{home}/{name}"),
            0o644,
            move |o| Ok(writeln!(o, "{}", show(info()?.affinity.and(cpumask::all())))?),
            move |b| set(number, parse(b)?),
        )
    };
    knob("smp_affinity", cpumask::text, cpumask::parse)?;
    knob("smp_affinity_list", cpulist::text, parse_list)?;
    let effective = |name: &str, show: fn(CpuMask) -> String| {
        t.file(&format!("{home}/{name}"), 0o444, move |o| {
            Ok(writeln!(o, "{}", show(CpuMask::one(info()?.effective)))?)
        })
    };
    effective("effective_affinity", cpumask::text)?;
    effective("effective_affinity_list", cpulist::text)?;
    for name in info()?.handlers {
        // Two handlers of one name share the folder.
        t.dir(&format!("{home}/{}", name.replace('/', "!")))?;
    }
    Ok(())
}

fn changed(number: u32, has_handlers: bool) {
    tree::proc().remove(&format!("irq/{number}"));
    if has_handlers {
        // Without memory for the files the interrupt still works.
        let _ = add(number);
    }
}

/// Makes the files of the interrupts that are there, and of those that come.
pub(crate) fn init() -> Result<()> {
    tree::proc().knob(
        "irq/default_smp_affinity",
        0o644,
        |o| Ok(writeln!(o, "{}", cpumask::text(irq::default_affinity().and(cpumask::all())))?),
        |b| irq::set_default_affinity(cpumask::parse(b)?).map_err(|_| Errno::EINVAL),
    )?;
    irq::listen(changed);
    irq::list().iter().for_each(|i| changed(i.number, true));
    Ok(())
}
