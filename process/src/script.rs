//! `#!` scripts: the first line names the program that runs them (`execve(2)`).
//!
//! The line ends at the first newline within [`HEAD`] bytes. Blanks around the name are skipped; everything after the name, less
//! trailing blanks, is *one* argument. A name that does not end within the bytes read cannot be trusted: `ENOEXEC`.

/// Bytes of the file that are looked at: Linux's `BINPRM_BUF_SIZE`.
pub const HEAD: usize = 256;

/// The parts of a script's first line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line<'a> {
    pub interp: &'a [u8],
    pub arg: Option<&'a [u8]>,
}

/// Takes the line apart. `None`: not a script, or not one that can be run.
pub fn parse(head: &[u8]) -> Option<Line<'_>> {
    let body = head.get(..head.len().min(HEAD))?.strip_prefix(b"#!")?;
    let nul = |b: &u8| *b == b'\n' || *b == 0;
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let end = body.iter().position(nul);
    let line = &body[..end.unwrap_or(body.len())];
    let from = line.iter().position(|b| !blank(b))?;
    let line = &line[from..];
    let (interp, rest) = match line.iter().position(blank) {
        Some(n) => line.split_at(n),
        // A file shorter than the buffer ends its line with its end.
        None if end.is_none() && head.len() >= HEAD => return None,
        None => (line, &[][..]),
    };
    let arg = rest
        .iter()
        .position(|b| !blank(b))
        .map(|n| &rest[n..rest.iter().rposition(|b| !blank(b)).map_or(n, |l| l + 1)]);
    Some(Line { interp, arg })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_split_as_on_linux() {
        assert_eq!(parse(b"#!/bin/sh\n"), Some(Line { interp: b"/bin/sh", arg: None }));
        assert_eq!(parse(b"#! /bin/sh  -e x \t\nfoo"), Some(Line { interp: b"/bin/sh", arg: Some(b"-e x") }));
        assert_eq!(parse(b"#!/bin/sh"), Some(Line { interp: b"/bin/sh", arg: None }));
        assert_eq!(parse(b"#!\n"), None);
        assert_eq!(parse(b"#!   "), None);
        assert_eq!(parse(b"#"), None);
    }

    #[test]
    fn a_name_that_is_cut_off_is_not_run() {
        let mut long = b"#!/".to_vec();
        long.resize(300, b'x');
        assert_eq!(parse(&long[..HEAD]), None);
        long[200] = b' ';
        assert_eq!(parse(&long[..HEAD]).unwrap().interp.len(), 198);
    }
}
