//! What an event's record must be like to be kept: the language of `filter`, compiled.
//!
//! ```text
//!   expression:  ! expression | ( expression ) | expression && expression | expression || expression | predicate
//!   predicate:   field == != < <= > >= & number        field == != ~ "string" or 'string' (~: a glob of * ? [abc])
//! ```
//! Fields are the event's own, the common ones, and `comm` and `cpu` of the task that hits the trace point. Documented:
//! Linux `Documentation/trace/events.rst`, "Event filtering".
//!
//! A filter runs inside the trace point, in any context, so it is compiled to a flat list of predicates, each of which
//! says where to go on when it holds and when not: no recursion and no allocation, whatever the expression.

use alloc::{sync::Arc, vec::Vec};

use frame::cpu::CpuId;

use super::{
    Event, Field, FieldDef,
    emit::Who,
    errors,
    field::{self, Kind},
};
use crate::{Errno, Result, tree::Out};

mod parse;
pub use parse::{Error, compile};

/// How a predicate compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Any bit in common.
    And,
    Glob,
}

/// Where a predicate's value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Number {
        at: usize,
        size: usize,
        signed: bool,
    },
    Chars {
        at: usize,
        len: usize,
    },
    Text {
        at: usize,
    },
    /// The running task's name.
    Comm,
    Cpu,
}

#[derive(PartialEq, Eq, Debug)]
enum Value {
    Number(i64),
    Text(Vec<u8>),
}

#[derive(Debug)]
struct Pred {
    source: Source,
    op: Op,
    value: Value,
}

/// A predicate, and where to go on.
#[derive(Debug)]
struct Step {
    pred: Pred,
    if_true: u32,
    if_false: u32,
}

const ACCEPT: u32 = u32::MAX;
const REFUSE: u32 = u32::MAX - 1;

/// A compiled filter.
#[derive(Debug)]
pub struct Filter {
    steps: Vec<Step>,
    entry: u32,
}

impl Filter {
    /// What it says of a record that nobody hit: for tests and fuzzing.
    #[doc(hidden)]
    pub fn try_on(&self, record: &[u8]) -> bool {
        self.accepts(record, &Who { pid: 0, comm: [0; super::COMM_LEN] }, CpuId::BOOT)
    }
    /// Whether a record is kept.
    pub(super) fn accepts(&self, record: &[u8], who: &Who, cpu: CpuId) -> bool {
        let mut at = self.entry;
        // Each step leads to a later one of the expression, so this ends; the bound is for a mistake in the compiler.
        for _ in 0..=self.steps.len() {
            if at == ACCEPT {
                return true;
            }
            let Some(s) = self.steps.get(at as usize) else { return false };
            at = if s.pred.holds(record, who, cpu) { s.if_true } else { s.if_false };
        }
        false
    }
}

impl Pred {
    fn holds(&self, record: &[u8], who: &Who, cpu: CpuId) -> bool {
        let text = match self.source {
            Source::Number { at, size, signed } => {
                return self.compare(number(record, at, size, signed), signed);
            }
            Source::Cpu => return self.compare(i64::from(cpu.get()), true),
            Source::Chars { at, len } => {
                field::until_nul(record.get(at..).unwrap_or_default().get(..len).unwrap_or_default())
            }
            Source::Text { at } => field::text_at(record, at),
            Source::Comm => field::until_nul(&who.comm),
        };
        let Value::Text(want) = &self.value else { return false };
        match self.op {
            Op::Eq => text == want,
            Op::Ne => text != want,
            _ => glob(want, text),
        }
    }
    fn compare(&self, have: i64, signed: bool) -> bool {
        let Value::Number(want) = self.value else { return false };
        let order = if signed { have.cmp(&want) } else { (have as u64).cmp(&(want as u64)) };
        match self.op {
            Op::Eq => order.is_eq(),
            Op::Ne => order.is_ne(),
            Op::Lt => order.is_lt(),
            Op::Le => order.is_le(),
            Op::Gt => order.is_gt(),
            Op::Ge => order.is_ge(),
            Op::And => have & want != 0,
            Op::Glob => false,
        }
    }
}

/// A field's value, extended to 64 bits.
fn number(record: &[u8], at: usize, size: usize, signed: bool) -> i64 {
    match (size, signed) {
        (1, false) => u8::get(record, at).into(),
        (1, true) => i8::get(record, at).into(),
        (2, false) => u16::get(record, at).into(),
        (2, true) => i16::get(record, at).into(),
        (4, false) => u32::get(record, at).into(),
        (4, true) => i32::get(record, at).into(),
        _ => i64::get(record, at),
    }
}

/// Cuts a number as the field of this size would have held it, so that `== -1` means what it says for a `u32` too.
fn cut(v: i64, size: usize, signed: bool) -> i64 {
    match (size, signed) {
        (1, false) => (v as u8).into(),
        (1, true) => (v as i8).into(),
        (2, false) => (v as u16).into(),
        (2, true) => (v as i16).into(),
        (4, false) => (v as u32).into(),
        (4, true) => (v as i32).into(),
        _ => v,
    }
}

/// `*`, `?`, `[a-c]`, `[!a]`, `\x`. Goes back to the last star only, so the work is at most the product of the lengths.
pub(super) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            back = Some((p + 1, t));
            p += 1;
            continue;
        }
        if let Some(after) = one(pattern, p, text[t]) {
            (p, t) = (after, t + 1);
            continue;
        }
        let Some((star, from)) = back else { return false };
        (p, t) = (star, from + 1);
        back = Some((star, from + 1));
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// Matches one character at `p`; where the pattern goes on.
fn one(pattern: &[u8], p: usize, c: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => match class(pattern, p, c) {
            Some((true, after)) => Some(after),
            Some((false, _)) => None,
            // Without its end it is a character like others.
            None => (c == b'[').then_some(p + 1),
        },
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == c).then_some(p + 2),
        x => (x == c).then_some(p + 1),
    }
}

/// Whether `c` is in the class at `p`, and where the class ends.
fn class(pattern: &[u8], p: usize, c: u8) -> Option<(bool, usize)> {
    let negated = pattern.get(p + 1) == Some(&b'!');
    let first = p + 1 + usize::from(negated);
    let mut i = first;
    let mut is_in = false;
    loop {
        let a = *pattern.get(i)?;
        if a == b']' && i > first {
            return Some((is_in != negated, i + 1));
        }
        let b = match pattern.get(i + 1..i + 3) {
            Some([b'-', b]) if *b != b']' => {
                i += 2;
                *b
            }
            _ => a,
        };
        is_in |= (a..=b).contains(&c);
        i += 1;
    }
}

/// The field that a filter names.
fn find(event: &Event, name: &str) -> Option<(Source, bool)> {
    let number = |at, size, signed| Some((Source::Number { at, size, signed }, false));
    let of = |f: &FieldDef, at| match f.kind {
        Kind::Number => number(at, f.size, f.signed),
        Kind::Chars(len) => Some((Source::Chars { at, len }, true)),
        Kind::Text => Some((Source::Text { at }, true)),
        // Linux knows the field but no operation fits it.
        Kind::Array(_) => None,
    };
    if let Some(i) = event.fields().iter().position(|f| f.name == name) {
        return of(&event.fields()[i], field::offset(event.fields(), i));
    }
    match name {
        "common_type" => number(0, 2, false),
        "common_flags" => number(2, 1, false),
        "common_preempt_count" => number(3, 1, false),
        "common_pid" => number(4, 4, true),
        "comm" | "COMM" => Some((Source::Comm, true)),
        "cpu" | "CPU" => Some((Source::Cpu, false)),
        _ => None,
    }
}

/// Sets an event's filter to what was written to its file: "0" takes it away. Whatever is wrong is kept for the file to show,
/// and the event is recorded unfiltered. EINVAL, ENOMEM.
pub fn set(event: &Event, written: &[u8]) -> Result<()> {
    let text = core::str::from_utf8(written.trim_ascii()).map_err(|_| Errno::EINVAL)?;
    if text == "0" {
        store(event, None, Vec::new());
        return Ok(());
    }
    match compile(event, text) {
        Ok(f) => {
            let f = frame::heap::try_arc(f).ok_or(Errno::ENOMEM)?;
            store(event, Some(f), copy(text.as_bytes())?);
            Ok(())
        }
        Err(e) => {
            // Linux has no words for some, and takes these.
            let what = e.what.unwrap_or(parse::NO_MEMORY);
            errors::log("event filter parse error", what, text.as_bytes(), e.at)?;
            store(event, None, complaint(text, e.at, e.what)?);
            Err(Errno::EINVAL)
        }
    }
}

/// Sets the filters of all events of a system. Those that it does not fit lose theirs, and say so. As on Linux that is no error.
pub fn set_system(system: &str, written: &[u8]) -> Result<()> {
    let text = core::str::from_utf8(written.trim_ascii()).map_err(|_| Errno::EINVAL)?;
    for e in super::events().into_iter().filter(|e| e.system() == system) {
        match set(e, written) {
            Err(Errno::EINVAL) => {
                const WHY: &str = "Couldn't find or set field in one of a subsystem's events";
                store(e, None, complaint(text, 0, Some(WHY))?);
            }
            other => other?,
        }
    }
    Ok(())
}

fn store(event: &Event, filter: Option<Arc<Filter>>, text: Vec<u8>) {
    let old = core::mem::replace(&mut *event.filter_text.lock(), text);
    event.filter.replace(filter);
    drop(old);
}

fn copy(b: &[u8]) -> Result<Vec<u8>> {
    let mut v = Vec::new();
    v.try_reserve_exact(b.len())?;
    v.extend_from_slice(b);
    Ok(v)
}

/// A filter's text with what is wrong with it.
fn complaint(text: &str, at: usize, what: Option<&str>) -> Result<Vec<u8>> {
    let mut out = Out::new();
    match what {
        Some(w) => writeln!(out, "{text}\n{:at$}^\nparse_error: {w}", "")?,
        None => writeln!(out, "{text}\nError: (0)")?,
    }
    Ok(out.into_vec())
}

/// What an event's `filter` file shows.
pub fn show(event: &Event, out: &mut Out) -> Result<()> {
    {
        let text = event.filter_text.lock();
        out.push(if text.is_empty() { b"none" } else { &text })?;
    }
    out.push(b"\n")
}

#[cfg(test)]
mod tests;
