//! The filter language of trace events: whatever is written is compiled or refused at a place inside of it, and a compiled filter
//! answers for any record, however short.
#![no_main]

use base::trace::{Comm, Ptr, Str, filter};
use libfuzzer_sys::fuzz_target;

base::trace_event! {
    /// One field of each kind.
    pub struct fuzzed in "fuzz" {
        comm: Comm = "char",
        pid: i32 = "pid_t",
        small: u8 = "u8",
        wide: u64 = "u64",
        args: [u64; 2] = "unsigned long",
        name: Str = "char",
        at: Ptr = "void *",
        yes: bool = "bool",
    }
    format r#""""#;
    print "{comm} {pid} {small} {wide} {:?} {name} {at} {yes}", args
}

fuzz_target!(|data: (&str, &[u8])| {
    let (text, record) = data;
    match filter::compile(fuzzed::event(), text) {
        Ok(f) => {
            let first = f.try_on(record);
            assert_eq!(first, f.try_on(record));
            // Putting it into parentheses changes nothing; its negation is its opposite.
            let wrapped = filter::compile(fuzzed::event(), &format!("({text})"));
            if let Ok(w) = wrapped {
                assert_eq!(w.try_on(record), first);
                if let Ok(n) = filter::compile(fuzzed::event(), &format!("!({text})")) {
                    assert_eq!(n.try_on(record), !first);
                }
            }
        }
        Err(e) => assert!(e.at <= text.len()),
    }
    let mut out = String::new();
    fuzzed::event().print(record, &mut out).unwrap();
});
