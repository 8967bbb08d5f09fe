//! `/proc/kallsyms`: the kernel's functions, address, type and name, as `proc(5)` has it; a blank in a name is an underscore here.
//! Who lacks `CAP_SYSLOG` sees no addresses.

use base::{Result, cred::cap, tree};

use crate::process::try_current;

fn kallsyms(out: &mut tree::Out) -> Result<()> {
    let may = try_current().is_none_or(|me| me.cred().has_cap(cap::SYSLOG));
    for (name, at) in frame::report::symbols() {
        write!(out, "{:016x} t ", if may { at } else { 0 })?;
        for (i, part) in name.split(' ').enumerate() {
            write!(out, "{}{part}", if i == 0 { "" } else { "_" })?;
        }
        out.push(b"\n")?;
    }
    Ok(())
}

/// Declares the file.
pub(crate) fn init() -> Result<()> {
    tree::proc().file("kallsyms", 0o444, kallsyms)
}
