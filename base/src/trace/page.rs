//! Records as Linux's ring buffer lays them out in pages: what `trace_pipe_raw` gives, and what tools such as trace-cmd read.
//!
//! ```text
//!   0     time of the page (nanoseconds of the trace clock)
//!   8     bytes of events, with MISSED_EVENTS and MISSED_STORED where records before this page were lost
//!   16    events: each a word of type_len (5 bits) and the time since the one before (27 bits), then the record
//! ```
//! A record of up to 112 bytes has a quarter of its length as type_len; a longer one type_len 0, and a word with its length and 4. Where
//! the time does not fit, an event of its own (type 30) goes before. Behind the last event stands how many records were lost, if there
//! is room. The layout is described to tools by `events/header_page` and `events/header_event`.

use alloc::{boxed::Box, vec::Vec};

use crate::Result;

/// Bytes of a page.
pub const SIZE: usize = 4096;
/// Bytes in front of the events.
const HEAD: usize = 16;
/// The longest record whose length is in its type.
const MAX_SMALL: usize = 28 * 4;
const TIME_EXTEND: u32 = 30;
const DELTA_BITS: u32 = 27;
const MISSED_EVENTS: u64 = 1 << 31;
const MISSED_STORED: u64 = 1 << 30;

/// `events/header_page`.
pub const HEADER_PAGE: &str = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;
";
/// `events/header_event`.
pub const HEADER_EVENT: &str = "# compressed entry header
\ttype_len    :    5 bits
\ttime_delta  :   27 bits
\tarray       :   32 bits

\tpadding     : type == 29
\ttime_extend : type == 30
\ttime_stamp : type == 31
\tdata max type_len  == 28
";

/// A page that is being filled.
pub struct RawPage {
    bytes: Box<[u8]>,
    used: usize,
    /// Time of the last event.
    last: u64,
    lost: u64,
}

impl RawPage {
    /// An empty one. ENOMEM.
    pub fn new() -> Result<RawPage> {
        let mut v = Vec::new();
        v.try_reserve_exact(SIZE)?;
        v.resize(SIZE, 0);
        Ok(RawPage { bytes: v.into_boxed_slice(), used: HEAD, last: 0, lost: 0 })
    }
    pub fn is_empty(&self) -> bool {
        self.used == HEAD
    }
    /// Makes it empty again.
    pub fn reset(&mut self) {
        self.bytes.fill(0);
        (self.used, self.last, self.lost) = (HEAD, 0, 0);
    }
    fn word(&mut self, w: u32) {
        self.bytes[self.used..self.used + 4].copy_from_slice(&w.to_ne_bytes());
        self.used += 4;
    }
    /// Appends a record before which `lost` others were lost: those can be told at the beginning of a page only. False, and nothing is
    /// done, if it does not fit.
    pub fn push(&mut self, ts: u64, lost: u64, record: &[u8]) -> bool {
        let first = self.is_empty();
        if lost != 0 && !first {
            return false;
        }
        let delta = if first { 0 } else { ts.saturating_sub(self.last) };
        let extend = delta >> DELTA_BITS != 0;
        let len = record.len().max(1).next_multiple_of(4);
        let small = len <= MAX_SMALL;
        let need = len + if small { 4 } else { 8 } + if extend { 8 } else { 0 };
        if self.used + need > SIZE {
            return false;
        }
        if first {
            self.bytes[..8].copy_from_slice(&ts.to_ne_bytes());
            self.lost = lost;
        }
        let low = delta as u32 & ((1 << DELTA_BITS) - 1);
        if extend {
            self.word(TIME_EXTEND | low << 5);
            self.word((delta >> DELTA_BITS) as u32);
        }
        let rest = if extend { 0 } else { low };
        if small {
            self.word((len as u32 / 4) | (rest << 5));
        } else {
            self.word(rest << 5);
            self.word(len as u32 + 4);
        }
        self.bytes[self.used..self.used + record.len()].copy_from_slice(record);
        self.used += len;
        self.last = ts;
        true
    }
    /// The page, finished.
    pub fn finish(&mut self) -> &[u8] {
        let mut commit = (self.used - HEAD) as u64;
        if self.lost != 0 {
            commit |= MISSED_EVENTS;
            if self.used + 8 <= SIZE {
                self.bytes[self.used..self.used + 8].copy_from_slice(&self.lost.to_ne_bytes());
                commit = (commit | MISSED_STORED) + 8;
            }
        }
        self.bytes[8..HEAD].copy_from_slice(&commit.to_ne_bytes());
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a reader that knows the two headers alone finds: records lost before it, and times and records.
    fn decode(page: &[u8]) -> (u64, Vec<(u64, Vec<u8>)>) {
        assert_eq!(page.len(), 4096);
        let u64_at = |at: usize| u64::from_ne_bytes(page[at..at + 8].try_into().unwrap());
        let u32_at = |at: usize| u32::from_ne_bytes(page[at..at + 4].try_into().unwrap());
        let (mut time, commit) = (u64_at(0), u64_at(8));
        let mut end = 16 + (commit & 0xf_ffff) as usize;
        let mut lost = 0;
        if commit >> 30 & 1 != 0 {
            end -= 8;
            lost = u64_at(end);
            assert!(commit >> 31 & 1 != 0);
        }
        let (mut at, mut all) = (16, Vec::new());
        while at < end {
            let (kind, delta) = (u32_at(at) & 31, u64::from(u32_at(at) >> 5));
            at += 4;
            time += delta;
            let len = match kind {
                30 => {
                    time += u64::from(u32_at(at)) << 27;
                    at += 4;
                    continue;
                }
                0 => {
                    at += 4;
                    u32_at(at - 4) as usize - 4
                }
                n @ 1..=28 => 4 * n as usize,
                n => panic!("type {n}"),
            };
            all.push((time, page[at..at + len].to_vec()));
            at += len;
        }
        assert_eq!(at, end);
        (lost, all)
    }

    #[test]
    fn a_page_as_linux_makes_it() {
        let mut p = RawPage::new().unwrap();
        // sched_switch of Linux 6.12, as the machine gave it.
        assert!(p.push(0xdba7_87a7, 0, &[7; 64]));
        let b = p.finish();
        assert_eq!(b[..20], *b"\xa7\x87\xa7\xdb\0\0\0\0\x44\0\0\0\0\0\0\0\x10\0\0\0");
        assert_eq!(decode(b), (0, vec![(0xdba7_87a7, vec![7; 64])]));
    }

    #[test]
    fn what_was_lost_is_told_at_the_beginning_of_a_page() {
        let mut p = RawPage::new().unwrap();
        assert!(p.push(5, 3, b"abcd") && !p.push(6, 1, b"efgh") && p.push(6, 0, b"efgh"));
        assert_eq!(decode(p.finish()), (3, vec![(5, b"abcd".to_vec()), (6, b"efgh".to_vec())]));
        p.reset();
        assert!(p.is_empty() && p.push(9, 1, &[1; 4072]));
        let b = p.finish();
        // No room for the number.
        assert_eq!(u64::from_ne_bytes(b[8..16].try_into().unwrap()), 4080 | 1 << 31);
        assert!(!p.push(9, 0, b""));
    }

    proptest! {
        #[test]
        fn what_is_put_in_comes_out(
            records in prop::collection::vec((0u64..1 << 40, prop::collection::vec(any::<u8>(), 1..300)), 1..60),
            start in 0u64..1 << 62,
        ) {
            let (mut p, mut ts, mut want, mut got) = (RawPage::new().unwrap(), start, Vec::new(), Vec::new());
            for (delta, mut r) in records {
                ts += delta;
                if !p.push(ts, 0, &r) {
                    got.extend(decode(p.finish()).1);
                    p.reset();
                    prop_assert!(p.push(ts, 0, &r));
                }
                r.resize(r.len().next_multiple_of(4), 0);
                want.push((ts, r));
            }
            got.extend(decode(p.finish()).1);
            prop_assert_eq!(got, want);
        }
    }
}
