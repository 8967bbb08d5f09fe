//! The small files: one value or list each, read and written in one piece.

use alloc::{collections::BTreeMap, sync::Arc};

use base::{
    Errno, Result,
    trace::{Comm, Event, Field, buffer, clock, errors, events, filter, options, page, text},
    tree::{Out, kstrto},
};
use frame::cpu::CpuId;
use vfs::{File, FileOps, IoDst, IoSrc};

use super::{node::What, raw};
use crate::knobs::TextFile;

pub(super) fn open(what: What) -> Arc<dyn FileOps> {
    match what {
        What::Marker => Arc::new(Marker),
        _ => Arc::new(TextFile::new(
            move || {
                let mut out = Out::new();
                show(what, &mut out)?;
                Ok(out.into_vec())
            },
            move |b| store(what, b),
        )),
    }
}

fn show(what: What, out: &mut Out) -> Result<()> {
    match what {
        What::Stats(c) => stats(c, out)?,
        What::SizeKb(c) => size(c, out)?,
        What::TotalSizeKb => {
            let total: u64 = buffer::cpus().map(buffer::size_kb).sum();
            let grown = buffer::DEFAULT_KB * buffer::cpus().count() as u64;
            kb(out, total, grown)?;
        }
        What::AvailableEvents => {
            for e in events() {
                writeln!(out, "{}:{}", e.system(), e.name())?;
            }
        }
        What::SavedCmdlines => saved_cmdlines(out)?,
        What::ErrorLog => errors::show(out)?,
        What::TracingOn => writeln!(out, "{}", u8::from(buffer::is_on()))?,
        What::CurrentTracer | What::AvailableTracers => out.push(b"nop\n")?,
        What::Clock => clocks(out)?,
        What::TraceOptions => {
            for (i, name) in options::NAMES.iter().enumerate() {
                writeln!(out, "{}{name}", if options::is_set(i) { "" } else { "no" })?;
            }
        }
        What::Option(i) => writeln!(out, "{}", u8::from(options::is_set(i)))?,
        What::EnableAll => out.push(&summary(|_| true))?,
        What::EnableSystem(s) => out.push(&summary(|e| e.system() == s))?,
        What::FilterSystem(_) => out.push(SYSTEM_FILTER)?,
        What::Enable(e) => writeln!(out, "{}", u8::from(e.is_on()))?,
        What::Filter(e) => filter::show(e, out)?,
        What::Format(e) => text::format(e, out)?,
        What::Id(e) => writeln!(out, "{}", e.id())?,
        What::PrintFormat => text::mark_format(out)?,
        What::PrintId => writeln!(out, "{}", base::trace::MARK_ID)?,
        What::HeaderPage => out.push(page::HEADER_PAGE.as_bytes())?,
        What::HeaderEvent => out.push(page::HEADER_EVENT.as_bytes())?,
        // Strings in the kernel that records point to: there are none.
        What::PrintkFormats => {}
        What::Trace(_)
        | What::Pipe(_)
        | What::PipeRaw(_)
        | What::SetEvent
        | What::SetEventPid
        | What::SetEventNotracePid
        | What::Marker => {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

const SYSTEM_FILTER: &[u8] = b"\
### global filter ###
# Use this to set filters for multiple events.
# Only events with the given fields will be affected.
# If no events are modified, an error message will be displayed here
";

fn store(what: What, b: &[u8]) -> Result<()> {
    match what {
        What::SizeKb(c) => buffer::resize(c, kstrto::<u64>(b)?),
        What::TracingOn => {
            buffer::switch(kstrto::<u64>(b)? != 0);
            Ok(())
        }
        // Opening for writing empties it; what is written means nothing.
        What::ErrorLog => Ok(()),
        What::CurrentTracer if b.trim_ascii() == b"nop" => Ok(()),
        What::Clock => clock::choose(word(b)?),
        What::TraceOptions => options::set_by_name(word(b)?),
        What::Option(i) => {
            options::set(i, zero_or_one(b)?);
            Ok(())
        }
        What::EnableAll => switch(zero_or_one(b)?, |_| true),
        What::EnableSystem(s) => switch(zero_or_one(b)?, |e| e.system() == s),
        What::Enable(one) => switch(zero_or_one(b)?, |e| core::ptr::eq(e, one)),
        What::Filter(e) => filter::set(e, b),
        What::FilterSystem(s) => filter::set_system(s, b),
        _ => Err(Errno::EINVAL),
    }
}

/// The tasks whose records are in the rings, or were taken out of them as they are, each with the name of its last one. Idle tasks have
/// none.
fn saved_cmdlines(out: &mut Out) -> Result<()> {
    let mut looker = buffer::Looker::new(None)?;
    let mut names = BTreeMap::new();
    raw::for_each_name(|(pid, comm)| {
        names.insert(pid, comm);
    });
    while let Some(e) = looker.take() {
        let (pid, comm) = raw::name_of(e);
        names.insert(pid, comm);
    }
    names.remove(&0);
    names.iter().try_for_each(|(pid, comm)| Ok(writeln!(out, "{pid} {}", Comm::get(comm, 0))?))
}

fn word(b: &[u8]) -> Result<&str> {
    core::str::from_utf8(b.trim_ascii()).map_err(|_| Errno::EINVAL)
}

fn zero_or_one(b: &[u8]) -> Result<bool> {
    match kstrto::<u64>(b)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}

/// Switches the events that `which` picks.
pub(super) fn switch(on: bool, which: impl Fn(&Event) -> bool) -> Result<()> {
    if on {
        buffer::expand()?;
    }
    for e in events().into_iter().filter(|e| which(e)) {
        e.switch(on);
    }
    Ok(())
}

/// All on, none, or some.
fn summary(which: impl Fn(&Event) -> bool) -> [u8; 2] {
    let (on, off) = events()
        .into_iter()
        .filter(|e| which(e))
        .fold((false, false), |(on, off), e| (on | e.is_on(), off | !e.is_on()));
    match (on, off) {
        (true, true) => *b"X\n",
        (true, false) => *b"1\n",
        _ => *b"0\n",
    }
}

fn kb(out: &mut Out, now: u64, grown: u64) -> Result<()> {
    if buffer::is_expanded() {
        writeln!(out, "{now}")?
    } else {
        writeln!(out, "{now} (expanded: {grown})")?
    };
    Ok(())
}

fn size(c: Option<CpuId>, out: &mut Out) -> Result<()> {
    if let Some(c) = c {
        return kb(out, buffer::size_kb(c), buffer::DEFAULT_KB);
    }
    let mut sizes = buffer::cpus().map(buffer::size_kb);
    let first = sizes.next().unwrap_or(0);
    if sizes.all(|s| s == first) { kb(out, first, buffer::DEFAULT_KB) } else { out.push(b"X\n") }
}

fn stats(c: CpuId, out: &mut Out) -> Result<()> {
    let s = buffer::stats(c);
    writeln!(out, "entries: {}\noverrun: {}\ncommit overrun: 0\nbytes: {}", s.entries, s.overrun, s.bytes)?;
    for (name, t) in [("oldest event", s.oldest), ("now", clock::read())] {
        if clock::is_time() {
            let us = t.saturating_add(500) / 1000;
            writeln!(out, "{name} ts: {:5}.{:06}", us / 1_000_000, us % 1_000_000)?;
        } else {
            writeln!(out, "{name} ts: {t}")?;
        }
    }
    writeln!(out, "dropped events: {}\nread events: {}", s.dropped, s.read)?;
    Ok(())
}

fn clocks(out: &mut Out) -> Result<()> {
    for (i, name) in clock::NAMES.iter().enumerate() {
        let space = if i == 0 { "" } else { " " };
        if i == clock::chosen() {
            write!(out, "{space}[{name}]")?
        } else {
            write!(out, "{space}{name}")?
        };
    }
    out.push(b"\n")
}

/// `trace_marker`: what is written becomes a record.
struct Marker;

impl FileOps for Marker {
    fn read_at(&self, _file: &File, _off: u64, _dst: &mut IoDst<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        if !options::is_set(options::MARKERS) {
            return Err(Errno::EINVAL);
        }
        let mut b = alloc::vec::Vec::new();
        let want = src.len().min(base::trace::MAX_MARK);
        b.try_reserve_exact(want)?;
        b.resize(want, 0);
        let n = src.take(&mut b)?;
        // As if the file were not open for writing, as on Linux.
        if base::trace::mark(&b[..n]) { Ok(n) } else { Err(Errno::EBADF) }
    }
}
