//! Control messages: pieces of the buffer, in order, none overlapping; an error ends them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use net::cmsg;

fuzz_target!(|data: &[u8]| {
    let start = data.as_ptr().addr();
    let mut at = 0;
    let mut failed = false;
    for m in cmsg::messages(data) {
        assert!(!failed, "a message after an error");
        let Ok(m) = m else {
            failed = true;
            continue;
        };
        let from = m.data.as_ptr().addr() - start;
        assert_eq!(from, at + cmsg::HEADER, "not behind its header");
        assert!(from + m.data.len() <= data.len());
        let head = cmsg::header(m.level as u32, m.kind as u32, m.data.len());
        assert_eq!(head, data[at..from], "the header says something else");
        at += cmsg::space(m.data.len());
    }
    // What is left is padding, unless the last header was wrong.
    assert!(failed || data.len().saturating_sub(at) < cmsg::HEADER);
});
