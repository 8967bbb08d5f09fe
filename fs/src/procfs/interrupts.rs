//! `/proc/interrupts` and `/proc/softirqs`: `proc_interrupts(5)`, `proc_softirqs(5)`.

use base::{Result, tree::Out};
use frame::{
    cpu::{self, CpuId},
    irq::{self, Internal},
};

/// Width of an interrupt's number, as Linux chooses it for fewer than a thousand.
const NUMBER: usize = 3;

pub(super) fn interrupts(o: &mut Out) -> Result<()> {
    write!(o, "{:1$}", "", NUMBER + 8)?;
    heading(o, cpu::online().iter())?;
    for i in irq::list() {
        write!(o, "{:1$}:", i.number, NUMBER)?;
        // Only processors that are online have a column.
        for c in cpu::online().iter() {
            write!(o, " {:10}", i.counts.get(c.index()).copied().unwrap_or(0))?;
        }
        write!(o, " {:>8} {:2$}-{3:<8}", i.chip, i.index, NUMBER, i.flow)?;
        for (n, name) in i.handlers.iter().enumerate() {
            write!(o, "{}{name}", if n == 0 { "  " } else { ", " })?;
        }
        writeln!(o)?;
    }
    for what in Internal::ALL {
        let (label, text) = what.text();
        write!(o, "{label:>0$}:", NUMBER)?;
        for c in cpu::online().iter() {
            write!(o, " {:10}", irq::internal_count(what, c))?;
        }
        writeln!(o, "  {text}")?;
    }
    Ok(writeln!(o, "{:>1$}: {2:10}", "ERR", NUMBER, irq::spurious_count())?)
}

fn heading(o: &mut Out, cpus: impl Iterator<Item = CpuId>) -> Result<()> {
    for c in cpus {
        write!(o, "CPU{:<8}", c.get())?;
    }
    Ok(writeln!(o)?)
}

/// All possible processors have a column here.
pub(super) fn softirqs(o: &mut Out) -> Result<()> {
    let all = || (0..cpu::possible() as u32).filter_map(CpuId::new);
    write!(o, "{:20}", "")?;
    heading(o, all())?;
    for (v, name) in sched::softirq::NAMES.iter().enumerate() {
        write!(o, "{name:>12}:")?;
        for c in all() {
            write!(o, " {:10}", sched::softirq::count(c, v))?;
        }
        writeln!(o)?;
    }
    Ok(())
}
