//! A record on its way into the ring: built on the stack of whoever hits the trace point, then committed.

use super::Event;

/// Bytes of the common fields in front of an event's own: type, flags, preemption count, PID.
pub const COMMON: usize = 8;
/// The longest record of an event: longer strings are cut.
pub(super) const MAX: usize = 512;

/// A record under construction.
pub struct Record {
    bytes: [u8; MAX],
    len: usize,
}

impl Record {
    /// A record whose structure ends at `fixed`.
    #[inline]
    pub fn new(fixed: usize) -> Record {
        Record { bytes: [0; MAX], len: fixed }
    }
    /// Writes at a place inside the structure.
    #[inline]
    pub fn set(&mut self, at: usize, b: &[u8]) {
        self.bytes[at..at + b.len()].copy_from_slice(b);
    }
    /// Appends a string with its NUL, cut to what fits; gives its `__data_loc` word.
    pub fn append(&mut self, s: &[u8]) -> u32 {
        let room = (MAX - self.len).saturating_sub(1);
        let n = s.len().min(room);
        let (from, len) = (self.len, n + 1);
        if from + len > MAX {
            return 0;
        }
        self.bytes[from..from + n].copy_from_slice(&s[..n]);
        self.bytes[from + n] = 0;
        self.len += len;
        (len as u32) << 16 | from as u32
    }
    /// Hands it over.
    pub fn commit(&mut self, event: &'static Event) {
        let len = self.len.next_multiple_of(4).min(MAX);
        super::emit::commit(event, &mut self.bytes[..len]);
    }
    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
