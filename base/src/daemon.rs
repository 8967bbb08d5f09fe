//! Identity cards of the daemons: what each thread is for, in `/sys/kernel/nightshift/daemons/NAME/card`.

use core::fmt::Write;

use crate::{errno::Result, tree};

/// What a daemon says of itself. Its source file opens with the same facts.
#[derive(Debug)]
pub struct Card {
    /// As `ps` shows it, without the processor's number.
    pub name: &'static str,
    /// One sentence.
    pub purpose: &'static str,
    /// Who or what wakes it.
    pub woken_by: &'static str,
    /// What it must never do.
    pub never: &'static str,
    /// Where Linux's behaviour is documented.
    pub documented: &'static str,
}

/// Registers a card; afterwards it can be read in the running machine.
pub fn register(card: &'static Card) -> Result<()> {
    let mut path = alloc::string::String::new();
    write!(path, "kernel/nightshift/daemons/{}/card", card.name.replace('/', "!"))?;
    tree::sys().file(&path, 0o444, move |out| {
        writeln!(out, "name:       {}", card.name)?;
        writeln!(out, "purpose:    {}", card.purpose)?;
        writeln!(out, "woken by:   {}", card.woken_by)?;
        writeln!(out, "never:      {}", card.never)?;
        writeln!(out, "documented: {}", card.documented)?;
        Ok(())
    })
}
