//! The regions of an address space, sorted by address.
//!
//! A two-level array: a sorted vector of *chunks*, each a sorted vector of at most [`CHUNK`] regions held by value.
//!
//! ```text
//!   chunks:  [ a b c d . . ]  [ e f g . . . ]  [ h i . . . . ]      every region of a chunk lies below the next chunk
//! ```
//! A typical program has 10 to 40 regions, that is one or two chunks: a look-up is a binary search in contiguous memory,
//! with no pointers to follow. At Linux's limit of 65530 regions it is 11 + 5 steps, and an insertion moves at most half a chunk
//! plus, rarely, the outer array of 24-byte entries.
//!
//! Why not `BTreeMap`: an insertion there allocates and cannot fail cleanly. Here [`VmaTree::reserve`] allocates first and says
//! `ENOMEM`; what follows cannot fail. Each chunk also remembers the largest hole between its regions, so that the search
//! for a free range skips full stretches.

use alloc::vec::Vec;

use base::{Errno, Result};

use crate::Vma;

#[cfg(test)]
mod tests;

/// Regions in a chunk: 2 KiB of them, one slab object.
const CHUNK: usize = 32;
/// Insertions that one [`VmaTree::reserve`] covers near each of its two addresses: a split at each end of a range and one new region.
const SLACK: usize = 3;
/// A hole size that is not known: may be anything.
const UNKNOWN: usize = usize::MAX;

struct Chunk {
    /// Never empty; capacity [`CHUNK`].
    vmas: Vec<Vma>,
    /// At least the largest hole between neighbours inside the chunk.
    hole: usize,
}

/// Where a region stands. Valid until the next change of the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pos {
    chunk: usize,
    at: usize,
}

/// Sorted, non-overlapping regions.
pub(crate) struct VmaTree {
    chunks: Vec<Chunk>,
    spare: Vec<Vec<Vma>>,
    len: usize,
}

fn new_chunk() -> Result<Vec<Vma>> {
    let mut v = Vec::new();
    v.try_reserve_exact(CHUNK).map_err(|_| Errno::ENOMEM)?;
    Ok(v)
}

impl VmaTree {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), spare: Vec::new(), len: 0 }
    }
    /// How many regions there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first region that ends above `va`: the one that contains it, or the next one.
    #[inline]
    pub(crate) fn find(&self, va: usize) -> Option<Pos> {
        let chunk = if self.chunks.len() == 1 {
            0
        } else {
            self.chunks.partition_point(|c| c.vmas.last().is_none_or(|v| v.end <= va))
        };
        let at = self.chunks.get(chunk)?.vmas.partition_point(|v| v.end <= va);
        if at < self.chunks[chunk].vmas.len() { Some(Pos { chunk, at }) } else { None }
    }
    /// The region that contains `va`.
    #[inline]
    pub(crate) fn containing(&self, va: usize) -> Option<&Vma> {
        self.find(va).and_then(|p| self.get(p)).filter(|v| v.start <= va)
    }
    #[inline]
    pub(crate) fn get(&self, p: Pos) -> Option<&Vma> {
        self.chunks.get(p.chunk)?.vmas.get(p.at)
    }
    /// For changing flags, or the ends within the hole around the region.
    #[inline]
    pub(crate) fn get_mut(&mut self, p: Pos) -> Option<&mut Vma> {
        let c = self.chunks.get_mut(p.chunk)?;
        c.hole = UNKNOWN;
        c.vmas.get_mut(p.at)
    }
    #[inline]
    pub(crate) fn next(&self, p: Pos) -> Option<Pos> {
        if p.at + 1 < self.chunks.get(p.chunk)?.vmas.len() {
            Some(Pos { chunk: p.chunk, at: p.at + 1 })
        } else if p.chunk + 1 < self.chunks.len() {
            Some(Pos { chunk: p.chunk + 1, at: 0 })
        } else {
            None
        }
    }
    /// The region before `p`; of `None`, the last one.
    #[inline]
    pub(crate) fn prev(&self, p: Option<Pos>) -> Option<Pos> {
        match p {
            Some(Pos { chunk, at }) if at > 0 => Some(Pos { chunk, at: at - 1 }),
            Some(Pos { chunk: 0, .. }) => None,
            Some(Pos { chunk, .. }) => self.last_of(chunk - 1),
            None => self.last_of(self.chunks.len().checked_sub(1)?),
        }
    }
    fn last_of(&self, chunk: usize) -> Option<Pos> {
        Some(Pos { chunk, at: self.chunks.get(chunk)?.vmas.len() - 1 })
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.chunks.iter().flat_map(|c| c.vmas.iter())
    }
    /// The regions that touch `start..end`.
    pub(crate) fn range(&self, start: usize, end: usize) -> impl Iterator<Item = &Vma> {
        let mut p = self.find(start);
        core::iter::from_fn(move || {
            let v = self.get(p?).filter(|v| v.start < end)?;
            p = self.next(p?);
            Some(v)
        })
    }
    /// True if some region touches `start..end`.
    #[inline]
    pub(crate) fn overlaps(&self, start: usize, end: usize) -> bool {
        self.find(start).and_then(|p| self.get(p)).is_some_and(|v| v.start < end)
    }

    /// Makes sure that the next insertions near `a` and near `b` (three at each) need no memory.
    ///
    /// # Errors
    /// `ENOMEM`; nothing has changed.
    #[inline]
    pub(crate) fn reserve(&mut self, a: usize, b: usize) -> Result<()> {
        if self.chunks.len() == 1 && self.chunks[0].vmas.len() + 2 * SLACK <= CHUNK {
            return Ok(());
        }
        self.reserve_slow(a, b)
    }

    #[cold]
    fn reserve_slow(&mut self, a: usize, b: usize) -> Result<()> {
        let near = |t: &Self, va| {
            let c = t.chunks.partition_point(|c| c.vmas.last().is_none_or(|v| v.end <= va));
            // An insertion between two chunks goes into the lower one.
            [c.checked_sub(1), Some(c)]
        };
        let mut wanted = 0;
        let mut seen = [None; 4];
        for (i, c) in near(self, a).into_iter().chain(near(self, b)).enumerate() {
            let Some(n) = c else { continue };
            if seen[..i].contains(&Some(n)) {
                continue;
            }
            seen[i] = Some(n);
            if self.chunks.get(n).is_none_or(|c| c.vmas.len() + 2 * SLACK > CHUNK) {
                wanted += 1;
            }
        }
        self.chunks.try_reserve(wanted).map_err(|_| Errno::ENOMEM)?;
        self.spare.try_reserve(wanted).map_err(|_| Errno::ENOMEM)?;
        while self.spare.len() < wanted {
            self.spare.push(new_chunk()?);
        }
        Ok(())
    }

    /// Inserts a region into a hole; where it stands. A [`VmaTree::reserve`] near it came before.
    ///
    /// # Panics
    /// If it overlaps another region (checked builds).
    pub(crate) fn insert(&mut self, v: Vma) -> Pos {
        let p = self.find(v.start);
        debug_assert!(p.and_then(|p| self.get(p)).is_none_or(|n| v.end <= n.start), "regions overlap");
        self.len += 1;
        // At the front of a chunk: prefer the end of the one before, if it has room, which keeps ascending mappings packed.
        let p = match p {
            Some(Pos { chunk, at: 0 }) if chunk > 0 && self.chunks[chunk - 1].vmas.len() < CHUNK => {
                Pos { chunk: chunk - 1, at: self.chunks[chunk - 1].vmas.len() }
            }
            Some(p) => p,
            None => match self.chunks.len() {
                0 => {
                    let mut vmas = self.take_spare();
                    vmas.push(v);
                    self.chunks.push(Chunk { vmas, hole: 0 });
                    return Pos { chunk: 0, at: 0 };
                }
                n => Pos { chunk: n - 1, at: self.chunks[n - 1].vmas.len() },
            },
        };
        self.insert_at(p, v)
    }

    /// Inserts a new region, which has no pages yet, as [`VmaTree::insert`] does; or makes it part of a neighbour that is alike.
    pub(crate) fn add(&mut self, v: Vma) {
        let next = self.find(v.start);
        let prev = self.prev(next);
        let joins_prev = prev.and_then(|p| self.get(p)).is_some_and(|a| a.can_join(&v, a));
        let joins_next = next.and_then(|p| self.get(p)).is_some_and(|b| v.can_join(b, b));
        match (prev, next) {
            // Growing into a hole makes no hole larger: what the chunk knows stays true.
            (Some(p), _) if joins_prev && !joins_next => self.chunks[p.chunk].vmas[p.at].end = v.end,
            (_, Some(n)) if joins_next && !joins_prev => {
                let up = &mut self.chunks[n.chunk].vmas[n.at];
                up.start = v.start;
                up.pgoff = v.pgoff;
            }
            _ => {
                let p = self.insert(v);
                self.merge_around(p);
            }
        }
    }

    fn take_spare(&mut self) -> Vec<Vma> {
        // The fallback allocates infallibly; `reserve` is there so that it is not reached.
        debug_assert!(!self.spare.is_empty(), "insertion without reserve");
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK))
    }

    fn insert_at(&mut self, mut p: Pos, v: Vma) -> Pos {
        if self.chunks[p.chunk].vmas.len() == CHUNK {
            let mut upper = self.take_spare();
            let c = &mut self.chunks[p.chunk];
            // Appending leaves the lower chunk full: regions made in ascending order fill their chunks.
            let cut = if p.at == CHUNK { CHUNK } else { CHUNK / 2 };
            upper.extend(c.vmas.drain(cut..));
            c.hole = UNKNOWN;
            self.chunks.insert(p.chunk + 1, Chunk { vmas: upper, hole: UNKNOWN });
            if p.at >= cut {
                p = Pos { chunk: p.chunk + 1, at: p.at - cut };
            }
        }
        let c = &mut self.chunks[p.chunk];
        c.vmas.insert(p.at, v);
        c.hole = UNKNOWN;
        p
    }

    /// Splits the region at `p` in two at `at`, which lies inside it; the upper part stands after `p`.
    pub(crate) fn split(&mut self, p: Pos, at: usize) {
        if let Some(v) = self.get_mut(p) {
            let upper = v.split_off(at);
            self.len += 1;
            self.insert_at(Pos { chunk: p.chunk, at: p.at + 1 }, upper);
        }
    }

    /// Takes out all regions that lie within `start..end`, which no region straddles.
    pub(crate) fn remove_range(&mut self, start: usize, end: usize, mut gone: impl FnMut(Vma)) {
        while let Some(Pos { chunk, at }) = self.find(start) {
            let c = &mut self.chunks[chunk];
            let to = at + c.vmas[at..].partition_point(|v| v.start < end);
            if to == at {
                return;
            }
            let more = to == c.vmas.len();
            self.len -= to - at;
            c.vmas.drain(at..to).for_each(&mut gone);
            c.hole = UNKNOWN;
            self.tidy(chunk);
            if !more {
                return;
            }
        }
    }

    /// Drops an empty chunk, or joins a thin one with its neighbour.
    fn tidy(&mut self, chunk: usize) {
        let n = self.chunks[chunk].vmas.len();
        if n == 0 {
            let c = self.chunks.remove(chunk);
            if self.spare.is_empty() && self.spare.capacity() > 0 {
                self.spare.push(c.vmas);
            }
        } else if n < CHUNK / 4
            && chunk + 1 < self.chunks.len()
            && n + self.chunks[chunk + 1].vmas.len() <= CHUNK / 2
        {
            let upper = self.chunks.remove(chunk + 1);
            let c = &mut self.chunks[chunk];
            c.vmas.extend(upper.vmas);
            c.hole = UNKNOWN;
        }
    }

    /// Appends a region above all others, allocating as needed: how fork builds the child's tree.
    pub(crate) fn push(&mut self, v: Vma) -> Result<()> {
        if self.chunks.last().is_none_or(|c| c.vmas.len() == CHUNK) {
            self.chunks.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let vmas = match self.spare.pop() {
                Some(v) => v,
                None => new_chunk()?,
            };
            self.chunks.push(Chunk { vmas, hole: UNKNOWN });
        }
        if let Some(c) = self.chunks.last_mut() {
            debug_assert!(c.vmas.last().is_none_or(|l| l.end <= v.start));
            c.vmas.push(v);
            c.hole = UNKNOWN;
            self.len += 1;
        }
        Ok(())
    }

    /// Joins the region at `p` with the one before and the one after it, where they are alike; where the result stands.
    /// `p` is the newer one.
    pub(crate) fn merge_around(&mut self, mut p: Pos) -> Pos {
        if let Some(q) = self.prev(Some(p))
            && let (Some(a), Some(b)) = (self.get(q), self.get(p))
            && a.can_join(b, a)
        {
            self.join(q, p);
            p = q;
        }
        if let Some(n) = self.next(p)
            && let (Some(a), Some(b)) = (self.get(p), self.get(n))
            && a.can_join(b, b)
        {
            self.join(p, n);
        }
        p
    }

    /// Makes `lower` cover `upper` too, which follows it.
    fn join(&mut self, lower: Pos, upper: Pos) {
        let gone = self.remove_quietly(upper);
        if let Some(v) = self.get_mut(lower) {
            v.end = gone.end;
            if v.anon.is_none() {
                v.anon = gone.anon;
            }
        }
        // Only the chunk of `upper` has shrunk; it stands at or after that of `lower`, whose position stays valid.
        if upper.chunk != lower.chunk && self.chunks[upper.chunk].vmas.is_empty() {
            self.tidy(upper.chunk);
        }
    }
    fn remove_quietly(&mut self, p: Pos) -> Vma {
        self.len -= 1;
        let c = &mut self.chunks[p.chunk];
        c.hole = UNKNOWN;
        c.vmas.remove(p.at)
    }

    /// The highest free range of `len` bytes within `low..high`; its start. `guard` is the distance that a region wants to be kept free
    /// below it (a growing stack).
    pub(crate) fn highest_hole(
        &mut self,
        low: usize,
        high: usize,
        len: usize,
        guard: impl Fn(&Vma) -> usize,
    ) -> Option<usize> {
        // `top` is the upper end of the hole that is looked at.
        let mut top = high;
        let mut chunk = match self.find(high.saturating_sub(1)) {
            Some(p) => p.chunk,
            None => self.chunks.len().wrapping_sub(1),
        };
        while let Some(c) = self.chunks.get_mut(chunk) {
            let last_end = c.vmas.last().map_or(0, |v| v.end);
            let skip = c.hole < len && last_end <= top && top - last_end < len;
            if !skip {
                let mut widest = 0;
                let mut above: Option<usize> = None;
                for v in c.vmas.iter().rev() {
                    if let Some(a) = above {
                        widest = widest.max(a - v.end);
                    }
                    above = Some(v.start);
                    if v.end < top && top - v.end >= len && top - len >= low {
                        return Some(top - len);
                    }
                    if v.start < top {
                        top = v.start.saturating_sub(guard(v));
                    }
                    if top < low + len {
                        return None;
                    }
                }
                c.hole = widest;
            } else if let Some(v) = c.vmas.first() {
                top = top.min(v.start.saturating_sub(guard(v)));
            }
            chunk = chunk.wrapping_sub(1);
        }
        (top >= low && top - low >= len).then(|| top - len)
    }
    /// The lowest free range of `len` bytes within `low..high`.
    pub(crate) fn lowest_hole(
        &self,
        low: usize,
        high: usize,
        len: usize,
        guard: impl Fn(&Vma) -> usize,
    ) -> Option<usize> {
        let mut at = low;
        for v in self.range(low, high) {
            let free_to = v.start.saturating_sub(guard(v));
            if free_to > at && free_to - at >= len {
                return Some(at);
            }
            at = at.max(v.end);
        }
        (high >= at && high - at >= len).then_some(at)
    }

    /// Everything is in order: for tests.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let mut end = 0;
        let mut n = 0;
        for c in &self.chunks {
            assert!(!c.vmas.is_empty() && c.vmas.len() <= CHUNK && c.vmas.capacity() >= CHUNK);
            if c.hole != UNKNOWN {
                for w in c.vmas.windows(2) {
                    assert!(w[1].start - w[0].end <= c.hole);
                }
            }
            for v in &c.vmas {
                assert!(end <= v.start && v.start < v.end);
                end = v.end;
                n += 1;
            }
        }
        assert_eq!(n, self.len);
    }
}
