//! `/proc/interrupts`: `proc_interrupts(5)`.

use base::{Result, tree::Out};
use frame::{
    cpu,
    irq::{self, Internal},
};

/// Width of an interrupt's number, as Linux chooses it for fewer than a thousand.
const NUMBER: usize = 3;

pub(super) fn interrupts(o: &mut Out) -> Result<()> {
    write!(o, "{:1$}", "", NUMBER + 8)?;
    for c in cpu::online().iter() {
        write!(o, "CPU{:<8}", c.get())?;
    }
    writeln!(o)?;
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
