//! `set_event`: the events that are on, one a line; and `set_event_pid`, the tasks that they are recorded of.
//!
//! As on Linux one write takes one word and says how long it was, so that the writer goes on with the rest; a word that names
//! nothing is `EINVAL`, and what stood before it has been done.

use alloc::{sync::Arc, vec::Vec};

use base::{
    Errno, Result,
    trace::{Event, events, pids::PidSet},
    tree::Out,
};
use vfs::{File, FileOps, IoDst, IoSrc};

use super::knob::switch;
use crate::knobs::TextFile;

/// The longest word, as on Linux.
const LONGEST: usize = 127;

struct SetEvent(TextFile);

pub(super) fn open(truncate: bool) -> Arc<dyn FileOps> {
    if truncate {
        let _ = switch(false, |_| true);
    }
    Arc::new(SetEvent(TextFile::new(
        || {
            let mut out = Out::new();
            for e in events().into_iter().filter(|e| e.is_on()) {
                writeln!(out, "{}:{}", e.system(), e.name())?;
            }
            Ok(out.into_vec())
        },
        |_| Err(Errno::EINVAL),
    )))
}

impl FileOps for SetEvent {
    fn read_at(&self, file: &File, off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        self.0.read_at(file, off, dst)
    }
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        let bytes = start_of(src)?;
        let (word, used) = first_word(&bytes);
        if word.len() > LONGEST {
            return Err(Errno::EINVAL);
        }
        if !word.is_empty() {
            apply(core::str::from_utf8(word).map_err(|_| Errno::EINVAL)?)?;
        }
        Ok(used)
    }
}

/// As much of what is written as a page holds.
fn start_of(src: &mut IoSrc<'_>) -> Result<Vec<u8>> {
    const PAGE: usize = 4096;
    let want = src.len().min(PAGE);
    let mut b = Vec::new();
    b.try_reserve_exact(want)?;
    b.resize(want, 0);
    let n = src.take(&mut b)?;
    b.truncate(n);
    Ok(b)
}

/// The first word, and how many bytes it and the white space around it take: one behind it, all before it.
fn first_word(b: &[u8]) -> (&[u8], usize) {
    let is_space = |c: &u8| c.is_ascii_whitespace() || *c == 0;
    let from = b.iter().position(|c| !is_space(c)).unwrap_or(b.len());
    let len = b[from..].iter().position(is_space).unwrap_or(b.len() - from);
    (&b[from..from + len], (from + len + 1).min(b.len()))
}

/// Switches on what `word` names, or off with `!` in front. EINVAL if that is nothing.
fn apply(word: &str) -> Result<()> {
    let (on, name) = match word.strip_prefix('!') {
        Some(n) => (false, n),
        None => (true, word),
    };
    if !events().into_iter().any(|e| matches(e, name)) {
        return Err(Errno::EINVAL);
    }
    switch(on, |e| matches(e, name))
}

/// `SYSTEM:EVENT`, where `*` or nothing is any; or one name, of a system or an event.
fn matches(e: &Event, name: &str) -> bool {
    let is = |want: &str, have: &str| want.is_empty() || want == "*" || want == have;
    match name.split_once(':') {
        Some((system, event)) => is(system, e.system()) && is(event, e.name()),
        None => name == e.system() || name == e.name(),
    }
}

struct SetPids(TextFile, &'static PidSet);

pub(super) fn open_pids(set: &'static PidSet, truncate: bool) -> Arc<dyn FileOps> {
    if truncate {
        set.clear();
    }
    let show = move || {
        let mut out = Out::new();
        for p in set.get().iter().flat_map(|v| v.iter()) {
            writeln!(out, "{p}")?;
        }
        Ok(out.into_vec())
    };
    Arc::new(SetPids(TextFile::new(show, |_| Err(Errno::EINVAL)), set))
}

impl FileOps for SetPids {
    fn read_at(&self, file: &File, off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        self.0.read_at(file, off, dst)
    }
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        let bytes = start_of(src)?;
        let mut list = Vec::new();
        let mut rest = &bytes[..];
        loop {
            let (word, used) = first_word(rest);
            if word.is_empty() {
                break;
            }
            let text = core::str::from_utf8(word).map_err(|_| Errno::EINVAL)?;
            list.try_reserve(1)?;
            list.push(text.parse().map_err(|_| Errno::EINVAL)?);
            rest = &rest[used..];
        }
        if !list.is_empty() {
            self.1.add(&list)?;
        }
        Ok(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_one_by_one() {
        assert_eq!(first_word(b"sched:sched_switch nosuch\n"), (&b"sched:sched_switch"[..], 19));
        assert_eq!(first_word(b"  a\n"), (&b"a"[..], 4));
        assert_eq!(first_word(b"a"), (&b"a"[..], 1));
        assert_eq!(first_word(b" \n"), (&b""[..], 2));
        assert_eq!(first_word(b""), (&b""[..], 0));
    }
}
