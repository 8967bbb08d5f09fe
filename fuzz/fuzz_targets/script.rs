//! The `#!` line: name and argument are pieces of the first bytes, in order, and none has blanks at its ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use process::script::{self, HEAD};

/// Where `part` lies in `whole`. It is a slice of it, so the addresses say.
fn position(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().checked_sub(whole.as_ptr().addr()).expect("not a piece of the file")
}

fuzz_target!(|data: &[u8]| {
    let head = &data[..data.len().min(HEAD)];
    let line = script::parse(data);
    assert_eq!(line, script::parse(head), "bytes after the head were looked at");
    // Only the first line counts.
    if let Some(n) = head.iter().position(|b| *b == b'\n') {
        assert_eq!(line, script::parse(&head[..=n]));
    }
    let Some(line) = line else { return };
    assert!(head.starts_with(b"#!"));
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let ends = |b: &u8| matches!(b, b'\n' | 0);
    assert!(!line.interp.is_empty() && !line.interp.iter().any(|b| blank(b) || ends(b)));
    let at = position(head, line.interp);
    let after = at + line.interp.len();
    assert!(at >= 2 && head[2..at].iter().all(blank) && after <= head.len());
    // The name ends where it ends in the file, not where the buffer did.
    assert!(after < HEAD, "the name may have been cut");
    if let Some(arg) = line.arg {
        assert!(!arg.is_empty() && !arg.iter().any(ends));
        assert!(!arg.first().is_some_and(blank) && !arg.last().is_some_and(blank));
        let from = position(head, arg);
        assert!(from > after && head[after..from].iter().all(blank) && from + arg.len() <= head.len());
    } else {
        let rest = head[after..].iter().take_while(|b| !ends(b));
        assert!(rest.copied().all(|b| blank(&b)), "an argument was lost");
    }
});
