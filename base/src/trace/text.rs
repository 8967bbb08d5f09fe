//! The text of a trace: Linux's, to the column.

use alloc::string::String;
use core::fmt::{self, Write};

use super::Event;
use super::{
    FieldDef, Kind, Text, buffer::Entry, clock, emit::MARK_TEXT, event, field, flag, options, record::COMMON,
};
use crate::tree::Out;

/// What `trace` begins with.
pub fn header(out: &mut Out) -> crate::Result<()> {
    out.push(b"# tracer: nop\n#\n")?;
    if !options::is_set(options::CONTEXT_INFO) {
        return Ok(());
    }
    let (entries, written) = super::buffer::totals();
    writeln!(
        out,
        "# entries-in-buffer/entries-written: {entries}/{written}   #P:{}",
        frame::cpu::online().count()
    )?;
    out.push(b"#\n")?;
    out.push(if options::is_set(options::IRQ_INFO) { IRQ_LEGEND } else { LEGEND })
}

const IRQ_LEGEND: &[u8] = b"\
#                                _-----=> irqs-off/BH-disabled
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| / _-=> migrate-disable
#                              |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
";
const LEGEND: &[u8] = b"\
#           TASK-PID     CPU#     TIMESTAMP  FUNCTION
#              | |         |         |         |
";

/// One record's line, or lines: a mark may have several.
pub fn entry(e: &Entry, out: &mut Out) -> crate::Result<()> {
    let r = e.record();
    if options::is_set(options::CONTEXT_INFO) {
        context(e, r, out)?;
    }
    let id = u16::from_ne_bytes([byte(r, 0), byte(r, 1)]);
    if id == super::emit::MARK_ID {
        let text = field::until_nul(r.get(MARK_TEXT..).unwrap_or_default());
        out.push(b"tracing_mark_write: ")?;
        out.push(text)?;
        if text.last() != Some(&b'\n') {
            out.push(b"\n")?;
        }
        return Ok(());
    }
    match event::by_id(id) {
        Some(event) => {
            write!(out, "{}: ", event.name())?;
            event.print(r, out)?;
        }
        None => write!(out, "Unknown type {id}")?,
    }
    out.push(b"\n")
}

fn byte(r: &[u8], at: usize) -> u8 {
    r.get(at).copied().unwrap_or(0)
}

/// Who, where, how, when.
fn context(e: &Entry, r: &[u8], out: &mut Out) -> crate::Result<()> {
    let pid = i32::from_ne_bytes([byte(r, 4), byte(r, 5), byte(r, 6), byte(r, 7)]);
    let mut comm = Fixed::<64>::new();
    match pid {
        0 => comm.write_str("<idle>")?,
        _ => write!(comm, "{}", Text(e.comm()))?,
    }
    write!(out, "{:>16}-{pid:<7} [{:03}] ", comm.as_str(), e.cpu.get())?;
    if options::is_set(options::IRQ_INFO) {
        out.push(&flags(byte(r, 2), byte(r, 3)))?;
    }
    if clock::is_time() {
        let us = e.ts.saturating_add(500) / 1000;
        write!(out, " {:5}.{:06}: ", us / 1_000_000, us % 1_000_000)?;
    } else {
        write!(out, " {:12}: ", e.ts)?;
    }
    Ok(())
}

/// The five columns: interrupts or softirqs off, a switch asked for, the kind of interrupt, how deep preemption is held
/// off, and whether migration is (which this kernel never does by itself).
fn flags(f: u8, preempt: u8) -> [u8; 5] {
    let has = |bit| f & bit != 0;
    [
        match (has(flag::IRQS_OFF), has(flag::BH_OFF)) {
            (true, true) => b'D',
            (true, false) => b'd',
            (false, true) => b'b',
            (false, false) => b'.',
        },
        if has(flag::NEED_RESCHED) { b'N' } else { b'.' },
        match (has(flag::NMI), has(flag::HARDIRQ), has(flag::SOFTIRQ)) {
            (true, true, _) => b'Z',
            (true, false, _) => b'z',
            (_, true, true) => b'H',
            (_, true, false) => b'h',
            (_, _, true) => b's',
            _ => b'.',
        },
        match preempt & 15 {
            0 => b'.',
            n => b"0123456789abcdef"[n as usize],
        },
        b'.',
    ]
}

/// What `trace_pipe` says of records that were overwritten before they could be read.
pub fn lost(e: &Entry, out: &mut Out) -> crate::Result<()> {
    if e.lost != 0 {
        writeln!(out, "CPU:{} [LOST {} EVENTS]", e.cpu, e.lost)?;
    }
    Ok(())
}

/// What `trace` says where another processor's records begin, if any have been overwritten.
pub fn started(e: &Entry, out: &mut Out) -> crate::Result<()> {
    Ok(writeln!(out, "##### CPU {} buffer started ####", e.cpu)?)
}

/// An event's `format` file.
pub fn format(e: &Event, out: &mut Out) -> crate::Result<()> {
    writeln!(out, "name: {}\nID: {}\nformat:", e.name(), e.id())?;
    common_fields(out)?;
    for (i, f) in e.fields().iter().enumerate() {
        out.push(b"\tfield:")?;
        declaration(f, out)?;
        let at = field::offset(e.fields(), i);
        writeln!(out, ";\toffset:{at};\tsize:{};\tsigned:{};", f.size, u8::from(f.signed))?;
    }
    Ok(writeln!(out, "\nprint fmt: {}", e.format())?)
}

/// The `format` file of marks: no event, but a type of record.
pub fn mark_format(out: &mut Out) -> crate::Result<()> {
    writeln!(out, "name: print\nID: {}\nformat:", super::emit::MARK_ID)?;
    common_fields(out)?;
    writeln!(out, "\tfield:unsigned long ip;\toffset:{COMMON};\tsize:8;\tsigned:0;")?;
    writeln!(out, "\tfield:char buf[];\toffset:{MARK_TEXT};\tsize:0;\tsigned:0;")?;
    Ok(writeln!(out, "\nprint fmt: \"%ps: %s\", (void *)REC->ip, REC->buf")?)
}

fn common_fields(out: &mut Out) -> crate::Result<()> {
    Ok(out.write_str(
        "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
         \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
         \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
         \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n",
    )?)
}

fn declaration(f: &FieldDef, out: &mut Out) -> fmt::Result {
    match f.kind {
        Kind::Number => write!(out, "{} {}", f.c_type, f.name),
        Kind::Array(n) | Kind::Chars(n) => write!(out, "{} {}[{n}]", f.c_type, f.name),
        Kind::Text => write!(out, "__data_loc {}[] {}", f.c_type, f.name),
    }
}

/// A short string on the stack; what does not fit is cut.
struct Fixed<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Fixed<N> {
    fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl<const N: usize> Write for Fixed<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + s.len()) {
            room.copy_from_slice(s.as_bytes());
            self.len += s.len();
        }
        Ok(())
    }
}

/// A value that an event prints by a name: `__print_symbolic`. Numbers without one are printed in hexadecimal.
pub struct Symbolic(pub u64, pub &'static [(u64, &'static str)]);

impl fmt::Display for Symbolic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1.iter().find(|(v, _)| *v == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

/// A set of bits that an event prints by their names: `__print_flags`.
pub struct Flags(pub u64, pub &'static [(u64, &'static str)]);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut first = true;
        for (bit, name) in self.1 {
            if rest & bit == *bit {
                rest &= !bit;
                f.write_str(if first { "" } else { "|" })?;
                f.write_str(name)?;
                first = false;
            }
        }
        if rest != 0 {
            write!(f, "{}{rest:#x}", if first { "" } else { "|" })?;
        }
        Ok(())
    }
}

/// A line's text, for tests and for those who want one string.
pub fn to_string(e: &Entry) -> crate::Result<String> {
    let mut out = Out::new();
    entry(e, &mut out)?;
    Ok(String::from_utf8_lossy(&out.into_vec()).into_owned())
}
