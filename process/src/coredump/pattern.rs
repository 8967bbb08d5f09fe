//! `core_pattern`: where a core dump goes. `core(5)`, "Naming of core dump files".
//!
//! A plain structure and two functions: what is known of the crash, and the text that the pattern makes of it. A pattern that begins
//! with `|` names a program and its arguments: it is split at blanks first and each piece is expanded by itself, so that a process's
//! name cannot add an argument. What comes from the process cannot lead out of the directory that the pattern names either: `/`
//! becomes `!`, and so does a name that is empty or made of dots only.

use alloc::vec::Vec;

use base::{Errno, Result};

/// Longest pattern with its NUL (`CORENAME_MAX_SIZE`).
pub const PATTERN_LEN: usize = 128;
/// More than this does not come of a pattern: a path's most.
const MOST: usize = 4096;

/// What is known of a crash.
#[derive(Clone, Default, Debug)]
pub struct Facts<'a> {
    pub pid: u32,
    pub tid: u32,
    pub uid: u32,
    pub gid: u32,
    pub dumpable: u32,
    pub signal: u32,
    /// Seconds since 1970.
    pub time: u64,
    pub hostname: &'a [u8],
    /// The thread's name.
    pub comm: &'a [u8],
    /// The program's path, as from the root.
    pub exe: &'a [u8],
    /// `RLIMIT_CORE`, soft.
    pub limit: u64,
    pub cpu: u32,
}

/// Where a dump goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    File(Vec<u8>),
    /// A program and its arguments, itself the first.
    Pipe(Vec<Vec<u8>>),
}

/// What the pattern says for this crash. `add_pid`: `core_uses_pid`. `ENOMEM`; `ENAMETOOLONG`.
pub fn expand(pattern: &[u8], add_pid: bool, f: &Facts<'_>) -> Result<Target> {
    match pattern.strip_prefix(b"|") {
        Some(rest) => {
            let mut words = Vec::new();
            for piece in rest.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()) {
                words.try_reserve(1)?;
                words.push(name(piece, f)?.0);
            }
            if words.is_empty() { Err(Errno::ENOMEM) } else { Ok(Target::Pipe(words)) }
        }
        None => {
            let (mut path, has_pid) = name(pattern, f)?;
            if add_pid && !has_pid {
                push(&mut path, b".")?;
                number(&mut path, u64::from(f.pid))?;
            }
            Ok(Target::File(path))
        }
    }
}

fn push(out: &mut Vec<u8>, b: &[u8]) -> Result<()> {
    if out.len() + b.len() > MOST {
        return Err(Errno::ENAMETOOLONG);
    }
    out.try_reserve(b.len())?;
    out.extend_from_slice(b);
    Ok(())
}

fn number(out: &mut Vec<u8>, n: u64) -> Result<()> {
    push(out, alloc::format!("{n}").as_bytes())
}

/// Text of the process's choice: one component, never a way elsewhere.
fn component(out: &mut Vec<u8>, text: &[u8]) -> Result<()> {
    let start = out.len();
    push(out, text)?;
    let added = &mut out[start..];
    if matches!(&*added, b"." | b"..") {
        added[0] = b'!';
    }
    added.iter_mut().filter(|c| **c == b'/').for_each(|c| *c = b'!');
    // An empty one would make `//`, and end up a directory higher.
    if added.is_empty() { push(out, b"!") } else { Ok(()) }
}

/// Expands; and whether the process's number is in it.
fn name(pattern: &[u8], f: &Facts<'_>) -> Result<(Vec<u8>, bool)> {
    let (mut out, mut has_pid) = (Vec::new(), false);
    let mut bytes = pattern.iter();
    while let Some(&b) = bytes.next() {
        if b != b'%' {
            push(&mut out, &[b])?;
            continue;
        }
        // A lone one at the end is dropped, as is one before a letter that means nothing.
        match bytes.next() {
            Some(b'%') => push(&mut out, b"%")?,
            Some(b'p' | b'P') => {
                has_pid = true;
                number(&mut out, u64::from(f.pid))?;
            }
            Some(b'i' | b'I') => number(&mut out, u64::from(f.tid))?,
            Some(b'u') => number(&mut out, u64::from(f.uid))?,
            Some(b'g') => number(&mut out, u64::from(f.gid))?,
            Some(b'd') => number(&mut out, u64::from(f.dumpable))?,
            Some(b's') => number(&mut out, u64::from(f.signal))?,
            Some(b't') => number(&mut out, f.time)?,
            Some(b'c') => number(&mut out, f.limit)?,
            Some(b'C') => number(&mut out, u64::from(f.cpu))?,
            Some(b'h') => component(&mut out, f.hostname)?,
            Some(b'e') => component(&mut out, f.comm)?,
            Some(b'f') => component(&mut out, f.exe.rsplit(|&b| b == b'/').next().unwrap_or(f.exe))?,
            Some(b'E') => component(&mut out, f.exe)?,
            _ => {}
        }
    }
    Ok((out, has_pid))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts<'a>() -> Facts<'a> {
        Facts {
            pid: 77,
            tid: 78,
            uid: 1000,
            gid: 100,
            dumpable: 1,
            signal: 11,
            time: 1_700_000_000,
            hostname: b"box",
            comm: b"a b/c",
            exe: b"/usr/bin/thing",
            limit: u64::MAX,
            cpu: 3,
        }
    }
    fn file(p: &[u8], add: bool) -> Vec<u8> {
        match expand(p, add, &facts()).unwrap() {
            Target::File(f) => f,
            t => panic!("{t:?}"),
        }
    }

    #[test]
    fn letters_mean_what_core_5_says() {
        assert_eq!(file(b"core", false), b"core");
        assert_eq!(file(b"core", true), b"core.77");
        assert_eq!(file(b"core.%p", true), b"core.77");
        assert_eq!(file(b"%p %P %i %I %u %g %d %s %t %C", false), b"77 77 78 78 1000 100 1 11 1700000000 3");
        assert_eq!(
            file(b"/v/%h-%e-%f-%E-%c", false),
            b"/v/box-a b!c-thing-!usr!bin!thing-18446744073709551615"
        );
        assert_eq!(file(b"a%%b%xc%", false), b"a%bc");
        assert_eq!(file(b"", true), b".77");
    }

    #[test]
    fn a_pipe_is_split_before_it_is_expanded() {
        let t = expand(b"|/h  %p %e\tx%s ", true, &facts()).unwrap();
        assert_eq!(t, Target::Pipe([&b"/h"[..], b"77", b"a b!c", b"x11"].map(<[u8]>::to_vec).to_vec()));
        assert_eq!(expand(b"|  ", false, &facts()), Err(Errno::ENOMEM));
    }

    #[test]
    fn names_stay_in_their_directory() {
        for (comm, want) in
            [(&b".."[..], &b"/d/!."[..]), (b".", b"/d/!"), (b"", b"/d/!"), (b"...", b"/d/...")]
        {
            let f = Facts { comm, ..facts() };
            assert_eq!(expand(b"/d/%e", false, &f), Ok(Target::File(want.to_vec())));
        }
    }

    proptest! {
        #[test]
        fn no_name_adds_a_component_or_an_argument(comm in prop::collection::vec(1u8.., 0..16), n in 0usize..4) {
            let f = Facts { comm: &comm, exe: &comm, hostname: &comm, ..facts() };
            let pattern = [b"/d", &b"/%e%h"[..]].concat();
            let Target::File(p) = expand(&pattern, false, &f).unwrap() else { unreachable!() };
            let last = p.strip_prefix(b"/d/").unwrap();
            prop_assert!(!last.contains(&b'/') && last != b".." && last != b"." && !last.is_empty());
            let mut pipe = b"|/h".to_vec();
            for _ in 0..n { pipe.extend_from_slice(b" %e"); }
            let Target::Pipe(a) = expand(&pipe, true, &f).unwrap() else { unreachable!() };
            prop_assert_eq!(a.len(), n + 1);
        }

        #[test]
        fn any_pattern_is_answered(p in prop::collection::vec(any::<u8>(), 0..PATTERN_LEN)) {
            let _ = expand(&p, true, &facts());
        }
    }
}
