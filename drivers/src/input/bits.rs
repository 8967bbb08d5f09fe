//! Sets of event types and codes.

use alloc::{format, string::String, vec::Vec};

use super::code::{EV_KEY, EV_MSC, EV_REL, EV_SYN};

/// Codes end at `KEY_MAX`, the largest of all types.
pub const CODES: usize = 0x300;
const WORDS: usize = CODES / 64;

/// A set of codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Set([u64; WORDS]);

impl Set {
    #[expect(clippy::new_without_default, reason = "const, for statics")]
    pub const fn new() -> Set {
        Set([0; WORDS])
    }
    /// The set of these codes; those beyond the last possible one are left out.
    pub fn of(codes: impl IntoIterator<Item = u16>) -> Set {
        let mut s = Set::new();
        codes.into_iter().for_each(|c| s.put(c, true));
        s
    }
    pub fn contains(&self, code: u16) -> bool {
        self.0.get(usize::from(code / 64)).is_some_and(|w| w >> (code % 64) & 1 != 0)
    }
    pub fn put(&mut self, code: u16, on: bool) {
        if let Some(w) = self.0.get_mut(usize::from(code / 64)) {
            *w = *w & !(1 << (code % 64)) | u64::from(on) << (code % 64);
        }
    }
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&w| w == 0)
    }
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        (0..CODES as u16).filter(|&c| self.contains(c))
    }
    /// As an ioctl gives it: little-endian words up to the last code of the type.
    pub fn bytes(&self, last: u16) -> Vec<u8> {
        let words = usize::from(last).div_ceil(64).max(1);
        self.0[..words.min(WORDS)].iter().flat_map(|w| w.to_le_bytes()).collect()
    }
    /// As `/proc` and sysfs print it: words in hexadecimal from the highest that is not 0.
    pub fn text(&self) -> String {
        let top = self.0.iter().rposition(|&w| w != 0).unwrap_or(0);
        let words: Vec<_> = self.0[..=top].iter().rev().map(|w| format!("{w:x}")).collect();
        words.join(" ")
    }
}

/// What a device can report.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    pub key: Set,
    pub rel: Set,
    pub msc: Set,
}

impl Capabilities {
    pub const NONE: Capabilities = Capabilities { key: Set::new(), rel: Set::new(), msc: Set::new() };

    /// Types: synchronisation always.
    pub fn types(&self) -> Set {
        let mut t = Set::of([EV_SYN]);
        t.put(EV_KEY, !self.key.is_empty());
        t.put(EV_REL, !self.rel.is_empty());
        t.put(EV_MSC, !self.msc.is_empty());
        t
    }
    /// Codes of a type, and the last possible one; `None` for a type without codes.
    pub fn of(&self, kind: u16) -> Option<(Set, u16)> {
        // The last codes: EV_MAX, KEY_MAX, REL_MAX, ABS_MAX, MSC_MAX, SW_MAX, LED_MAX, SND_MAX, FF_MAX.
        Some(match kind {
            0 => (self.types(), 0x1f),
            1 => (self.key, 0x2ff),
            2 => (self.rel, 0x0f),
            3 => (Set::new(), 0x3f),
            4 => (self.msc, 0x07),
            5 => (Set::new(), 0x10),
            0x11 => (Set::new(), 0x0f),
            0x12 => (Set::new(), 0x07),
            0x15 => (Set::new(), 0x7f),
            _ => return None,
        })
    }
    pub(super) fn allows(&self, kind: u16, code: u16) -> bool {
        matches!(kind, EV_KEY | EV_REL | EV_MSC) && self.of(kind).is_some_and(|(s, _)| s.contains(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_print_like_linux() {
        let power = Set::of([116]);
        assert_eq!(power.text(), "10000000000000 0");
        assert_eq!(power.bytes(0x2ff).len(), 96);
        assert_eq!(power.bytes(0x2ff)[14], 1 << 4);
        assert_eq!(Set::new().text(), "0");
        let c = Capabilities { key: power, ..Capabilities::NONE };
        assert_eq!(c.types().text(), "3");
        assert_eq!(c.types().bytes(0x1f).len(), 8);
        assert!(c.allows(EV_KEY, 116) && !c.allows(EV_KEY, 30) && !c.allows(EV_SYN, 0) && !c.allows(9, 116));
    }

    #[test]
    fn codes_out_of_range_are_left_out() {
        let s = Set::of([0, 0x2ff, 0x300, u16::MAX]);
        assert_eq!(s.iter().collect::<Vec<_>>(), [0, 0x2ff]);
        assert!(!s.contains(u16::MAX));
    }
}
