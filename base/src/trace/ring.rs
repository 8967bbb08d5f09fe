//! One processor's ring: records in pages, the newest kept.
//!
//! # Theory
//! ```text
//!   pages of the ring, numbered for ever:   head ─────────────► tail
//!                                           [ . . r r r][r r r r r][r r . . .]
//!                                              ^ consumed up to         ^ records are appended
//! ```
//! A record never crosses a page. When the last page is full the ring goes on in the next; if that is the oldest, all that
//! stands there is lost at once, and counted. So a reader either finds a whole record or learns how many it has missed:
//! every record has a number, each page knows that of its first.
//!
//! Two kinds of readers: the one that *consumes* (`trace_pipe`) moves `head`; the one that *looks* (`trace`) keeps a [`Pos`]
//! of its own, which may fall behind `head`.
//!
//! The ring is a plain structure; [`super::buffer`] puts a lock around it that is held with interrupts off, for the copying
//! of one record at most.

use alloc::{boxed::Box, vec::Vec};

use crate::{Result, errno::Errno};

/// Bytes of a page of the ring: a page of memory less what Linux's header takes, so that the same settings hold as much.
pub const PAGE: usize = 4080;
/// In front of each record: its time (8 bytes) and length (2 bytes), then 6 unused.
const HEADER: usize = 16;
/// The longest record.
pub const MAX_RECORD: usize = PAGE - HEADER;
/// A ring has at least that many pages: one is written while another is read.
pub const MIN_PAGES: usize = 2;

/// A page.
pub struct Page {
    data: Box<[u8]>,
    used: usize,
    /// Records in it.
    entries: u64,
    /// The number of its first record.
    first: u64,
}

impl Page {
    fn new() -> Result<Page> {
        let mut v = Vec::new();
        v.try_reserve_exact(PAGE)?;
        v.resize(PAGE, 0);
        Ok(Page { data: v.into_boxed_slice(), used: 0, entries: 0, first: 0 })
    }
    /// The record at `at`: its time, where it lies, and where the next one begins.
    fn record(&self, at: usize) -> Option<(u64, &[u8], usize)> {
        if at >= self.used {
            return None;
        }
        let head = self.data.get(at..at + HEADER)?;
        let (ts, rest) = head.split_first_chunk::<8>()?;
        let len = u16::from_ne_bytes([rest[0], rest[1]]) as usize;
        let body = self.data.get(at + HEADER..at + HEADER + len)?;
        Some((u64::from_ne_bytes(*ts), body, at + HEADER + len.next_multiple_of(8)))
    }
}

/// Pages for a ring. ENOMEM.
pub fn pages(n: usize) -> Result<Vec<Page>> {
    let mut v = Vec::new();
    v.try_reserve_exact(n)?;
    for _ in 0..n {
        v.push(Page::new()?);
    }
    Ok(v)
}

/// Where a looking reader stands.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Pos {
    page: u64,
    at: usize,
    /// The number of the record that it wants.
    want: u64,
}

impl Pos {
    /// True if there is something before number `until`.
    pub fn is_before(&self, until: u64) -> bool {
        self.want < until
    }
}

/// A record that was copied out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item {
    /// Of the trace clock.
    pub ts: u64,
    /// Bytes that were copied.
    pub len: usize,
    /// Records that were overwritten between the reader's last one and this.
    pub lost: u64,
}

/// What `per_cpu/cpuN/stats` shows.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Records in the ring.
    pub entries: u64,
    /// Overwritten before they were consumed.
    pub overrun: u64,
    /// Bytes in use.
    pub bytes: u64,
    /// Not recorded, because the ring was full and may not overwrite, or the context did not allow it.
    pub dropped: u64,
    /// Consumed.
    pub read: u64,
    /// Time of the oldest record.
    pub oldest: u64,
}

/// The ring.
pub struct Ring {
    pages: Vec<Page>,
    head: u64,
    tail: u64,
    /// In page `head`: what lies before it is consumed, and how many records that is.
    consumed: usize,
    consumed_entries: u64,
    /// The number of the next record.
    next: u64,
    /// Numbers below were taken out on purpose: nobody has missed them.
    cleared: u64,
    /// Overwritten since the consumer was last told.
    untold: u64,
    overwrite: bool,
    overrun: u64,
    dropped: u64,
    read: u64,
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

impl Ring {
    /// A ring without pages: it drops everything.
    pub const fn new() -> Ring {
        Ring {
            pages: Vec::new(),
            head: 0,
            tail: 0,
            consumed: 0,
            consumed_entries: 0,
            next: 0,
            cleared: 0,
            untold: 0,
            overwrite: true,
            overrun: 0,
            dropped: 0,
            read: 0,
        }
    }
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }
    /// Whether a full ring gives up its oldest records, or takes no new ones.
    pub fn set_overwrite(&mut self, on: bool) {
        self.overwrite = on;
    }
    fn page(&self, n: u64) -> &Page {
        &self.pages[(n % self.pages.len() as u64) as usize]
    }
    fn page_mut(&mut self, n: u64) -> &mut Page {
        let len = self.pages.len() as u64;
        &mut self.pages[(n % len) as usize]
    }

    /// Appends a record of two parts. False if it was dropped.
    pub fn push(&mut self, ts: u64, head: &[u8], body: &[u8]) -> bool {
        let len = head.len() + body.len();
        let need = HEADER + len.next_multiple_of(8);
        if self.pages.is_empty() || need > PAGE || !self.make_room(need) {
            self.dropped += 1;
            return false;
        }
        let (next, tail) = (self.next, self.tail);
        self.next += 1;
        let p = self.page_mut(tail);
        if p.entries == 0 {
            p.first = next;
        }
        let (at, from) = (p.used, p.used + HEADER);
        p.data[at..at + 8].copy_from_slice(&ts.to_ne_bytes());
        p.data[at + 8..at + 10].copy_from_slice(&(len as u16).to_ne_bytes());
        p.data[from..from + head.len()].copy_from_slice(head);
        p.data[from + head.len()..from + len].copy_from_slice(body);
        p.used += need;
        p.entries += 1;
        true
    }

    /// Makes `tail` a page with `need` free bytes.
    fn make_room(&mut self, need: usize) -> bool {
        if self.page(self.tail).used + need <= PAGE {
            return true;
        }
        if self.tail + 1 - self.head == self.pages.len() as u64 {
            if !self.overwrite {
                return false;
            }
            let gone = self.page(self.head).entries - self.consumed_entries;
            self.overrun += gone;
            self.untold += gone;
            self.leave_head();
        }
        self.tail += 1;
        let (tail, next) = (self.tail, self.next);
        let p = self.page_mut(tail);
        (p.used, p.entries, p.first) = (0, 0, next);
        true
    }

    fn leave_head(&mut self) {
        self.head += 1;
        (self.consumed, self.consumed_entries) = (0, 0);
    }

    /// The consumer's next record: its time.
    pub fn peek(&mut self) -> Option<u64> {
        if self.pages.is_empty() {
            return None;
        }
        while self.consumed >= self.page(self.head).used && self.head < self.tail {
            self.leave_head();
        }
        self.page(self.head).record(self.consumed).map(|r| r.0)
    }

    /// Takes the oldest record out. `out` has room for any record.
    pub fn consume(&mut self, out: &mut [u8]) -> Option<Item> {
        self.peek()?;
        let (ts, body, after) = self.page(self.head).record(self.consumed)?;
        let len = body.len();
        out[..len].copy_from_slice(body);
        self.consumed = after;
        self.consumed_entries += 1;
        self.read += 1;
        Some(Item { ts, len, lost: core::mem::take(&mut self.untold) })
    }

    /// Copies the record that `pos` wants, or the oldest after it, and moves on. `None` at the end, or at number `until`.
    pub fn look(&self, pos: &mut Pos, until: u64, out: &mut [u8]) -> Option<Item> {
        if self.pages.is_empty() {
            return None;
        }
        let mut lost = 0;
        if pos.page < self.head || (pos.page == self.head && pos.at < self.consumed) {
            let oldest = self.page(self.head).first + self.consumed_entries;
            // What was consumed or cleared is not lost, but what was overwritten is. (Consumed records count as lost to one
            // who looks at the same time; Linux has the same two readers disturb each other.)
            lost = oldest.saturating_sub(pos.want.max(self.cleared));
            *pos = Pos { page: self.head, at: self.consumed, want: oldest };
        }
        while pos.at >= self.page(pos.page).used && pos.page < self.tail {
            *pos = Pos { page: pos.page + 1, at: 0, want: self.page(pos.page + 1).first };
        }
        if pos.want >= until {
            return None;
        }
        let (ts, body, after) = self.page(pos.page).record(pos.at)?;
        out[..body.len()].copy_from_slice(body);
        (pos.at, pos.want) = (after, pos.want + 1);
        Some(Item { ts, len: body.len(), lost })
    }

    /// Where the oldest record stands, and the number that the next one will get: the span of one look at it all.
    pub fn span(&self) -> (Pos, u64) {
        if self.pages.is_empty() {
            return (Pos::default(), 0);
        }
        let want = self.page(self.head).first + self.consumed_entries;
        (Pos { page: self.head, at: self.consumed, want }, self.next)
    }

    /// Takes everything out, and sets the counters back.
    pub fn clear(&mut self) {
        if !self.pages.is_empty() {
            self.tail += 1;
            self.head = self.tail;
            let (tail, next) = (self.tail, self.next);
            let p = self.page_mut(tail);
            (p.used, p.entries, p.first) = (0, 0, next);
        }
        (self.consumed, self.consumed_entries) = (0, 0);
        self.cleared = self.next;
        (self.untold, self.overrun, self.dropped, self.read) = (0, 0, 0, 0);
    }

    /// Puts the newest of what it holds onto `fresh` pages and gives the rest back, to be freed outside of the lock.
    pub fn resize(&mut self, mut fresh: Vec<Page>) -> Vec<Page> {
        let (old, new) = (self.pages.len() as u64, fresh.len() as u64);
        if old == 0 {
            (self.head, self.tail) = (self.tail, self.tail);
            if let Some(p) = fresh.get_mut((self.tail.checked_rem(new).unwrap_or(0)) as usize) {
                p.first = self.next;
            }
            return core::mem::replace(&mut self.pages, fresh);
        }
        while self.tail + 1 - self.head > new && self.head < self.tail {
            let gone = self.page(self.head).entries - self.consumed_entries;
            self.overrun += gone;
            self.untold += gone;
            self.leave_head();
        }
        for n in self.head..=self.tail {
            if let Some(p) = fresh.get_mut((n.checked_rem(new).unwrap_or(0)) as usize) {
                core::mem::swap(p, &mut self.pages[(n % old) as usize]);
            }
        }
        core::mem::replace(&mut self.pages, fresh)
    }

    /// Records that are in it.
    pub fn entries(&self) -> u64 {
        if self.pages.is_empty() {
            return 0;
        }
        self.next - (self.page(self.head).first + self.consumed_entries)
    }
    pub fn stats(&self) -> Stats {
        let mut s = Stats {
            entries: self.entries(),
            overrun: self.overrun,
            dropped: self.dropped,
            read: self.read,
            ..Stats::default()
        };
        if self.pages.is_empty() {
            return s;
        }
        s.bytes =
            (self.head..=self.tail).map(|n| self.page(n).used as u64).sum::<u64>() - self.consumed as u64;
        let mut pos = self.span().0;
        while pos.at >= self.page(pos.page).used && pos.page < self.tail {
            pos = Pos { page: pos.page + 1, at: 0, want: 0 };
        }
        s.oldest = self.page(pos.page).record(pos.at).map_or(0, |r| r.0);
        s
    }
}

/// Pages that hold `kb` KiB: at least [`MIN_PAGES`]. EINVAL for nothing, ENOMEM for more than any machine has.
pub fn pages_for(kb: u64) -> Result<usize> {
    if kb == 0 {
        return Err(Errno::EINVAL);
    }
    let bytes = kb.checked_mul(1024).filter(|&b| b < 1 << 46).ok_or(Errno::ENOMEM)?;
    Ok((bytes as usize).div_ceil(PAGE).max(MIN_PAGES))
}

#[cfg(test)]
mod tests;
