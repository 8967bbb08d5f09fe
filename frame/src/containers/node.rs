//! One node of an [`XArray`](super::XArray): 64 slots, and words with a bit for each.

use alloc::boxed::Box;

use super::xarray::{Mark, NoMemory};

/// Index bits that one level decides.
pub(super) const BITS: u32 = 6;
pub(super) const SLOTS: usize = 1 << BITS;

#[expect(clippy::large_enum_variant, reason = "both are full nodes; large values are kept behind pointers")]
pub(super) enum Slots<T> {
    Inner([Option<Box<Node<T>>>; SLOTS]),
    Leaf([Option<T>; SLOTS]),
}

pub(super) struct Node<T> {
    /// Slots in use.
    pub(super) present: u64,
    /// Slots below which no index is free.
    pub(super) full: u64,
    /// Slots that carry, or lead to, a mark.
    pub(super) marks: [u64; Mark::COUNT],
    pub(super) slots: Slots<T>,
}

/// The slot for `index` in a node whose slots span `1 << shift` indices each.
#[inline]
pub(super) fn slot_of(index: u64, shift: u32) -> usize {
    (index >> shift) as usize & (SLOTS - 1)
}
/// Bits of slots from `s` on.
#[inline]
fn from(s: usize) -> u64 {
    !0 << s
}

impl<T> Node<T> {
    pub(super) fn leaf() -> Self {
        Self { present: 0, full: 0, marks: [0; Mark::COUNT], slots: Slots::Leaf([const { None }; SLOTS]) }
    }
    pub(super) fn inner() -> Self {
        Self { present: 0, full: 0, marks: [0; Mark::COUNT], slots: Slots::Inner([const { None }; SLOTS]) }
    }
    pub(super) fn try_box(self) -> Result<Box<Self>, NoMemory> {
        crate::heap::try_box(self).ok_or(NoMemory)
    }
    pub(super) fn is_full(&self) -> bool {
        self.full == !0
    }

    /// Puts a value in; gives the old one back. A new value has no marks, a replaced one keeps them.
    pub(super) fn insert(&mut self, index: u64, shift: u32, value: T) -> Result<Option<T>, NoMemory> {
        let s = slot_of(index, shift);
        let bit = 1 << s;
        match &mut self.slots {
            Slots::Leaf(v) => {
                self.present |= bit;
                self.full |= bit;
                Ok(v[s].replace(value))
            }
            Slots::Inner(v) => {
                let made;
                let child = match &mut v[s] {
                    Some(c) => {
                        made = false;
                        c
                    }
                    empty => {
                        made = true;
                        empty.insert(if shift == BITS { Node::leaf() } else { Node::inner() }.try_box()?)
                    }
                };
                let r = child.insert(index, shift - BITS, value);
                if r.is_err() && made {
                    v[s] = None;
                    return r;
                }
                if child.is_full() {
                    self.full |= bit;
                }
                self.present |= bit;
                r
            }
        }
    }

    /// Takes a value out. The caller frees this node if nothing is left in it.
    pub(super) fn remove(&mut self, index: u64, shift: u32) -> Option<T> {
        let s = slot_of(index, shift);
        let bit = 1 << s;
        let value;
        match &mut self.slots {
            Slots::Leaf(v) => {
                value = v[s].take()?;
                self.present &= !bit;
                self.marks.iter_mut().for_each(|m| *m &= !bit);
            }
            Slots::Inner(v) => {
                let child = v[s].as_mut()?;
                value = child.remove(index, shift - BITS)?;
                for (mine, below) in self.marks.iter_mut().zip(child.marks) {
                    if below == 0 {
                        *mine &= !bit;
                    }
                }
                if child.present == 0 {
                    v[s] = None;
                    self.present &= !bit;
                }
            }
        }
        self.full &= !bit;
        Some(value)
    }

    /// Sets or clears a mark. False if there is no value.
    pub(super) fn mark(&mut self, index: u64, shift: u32, m: Mark, on: bool) -> bool {
        let s = slot_of(index, shift);
        let bit = 1 << s;
        let on = match &mut self.slots {
            Slots::Leaf(v) if v[s].is_none() => return false,
            Slots::Leaf(_) => on,
            Slots::Inner(v) => match &mut v[s] {
                Some(c) => {
                    if !c.mark(index, shift - BITS, m, on) {
                        return false;
                    }
                    c.marks[m.index()] != 0
                }
                None => return false,
            },
        };
        if on {
            self.marks[m.index()] |= bit;
        } else {
            self.marks[m.index()] &= !bit;
        }
        true
    }

    /// The first value at or after `index`, with that mark if one is asked for. `index` is within this node.
    pub(super) fn next(&self, index: u64, shift: u32, m: Option<Mark>) -> Option<(u64, &T)> {
        let first = slot_of(index, shift);
        let mut candidates = m.map_or(self.present, |m| self.marks[m.index()]) & from(first);
        // What lies above this node's part of the index.
        let base = index & !(((SLOTS as u64) << shift).wrapping_sub(1));
        // At the top level of a full-height tree the span is 2^64 or more: nothing lies above.
        let base = if shift + BITS >= u64::BITS { 0 } else { base };
        while candidates != 0 {
            let s = candidates.trailing_zeros() as usize;
            candidates &= candidates - 1;
            let start = base | (s as u64) << shift;
            match &self.slots {
                Slots::Leaf(v) => return v[s].as_ref().map(|v| (start, v)),
                Slots::Inner(v) => {
                    let at = if s == first { index } else { start };
                    if let Some(found) = v[s].as_ref().and_then(|c| c.next(at, shift - BITS, m)) {
                        return Some(found);
                    }
                }
            }
        }
        None
    }

    /// The first index without a value at or after `index`, within this node.
    pub(super) fn first_free(&self, index: u64, shift: u32) -> Option<u64> {
        let first = slot_of(index, shift);
        let base =
            if shift + BITS >= u64::BITS { 0 } else { index & !(((SLOTS as u64) << shift).wrapping_sub(1)) };
        let mut candidates = !self.full & from(first);
        while candidates != 0 {
            let s = candidates.trailing_zeros() as usize;
            candidates &= candidates - 1;
            // Slots beyond the 64th bit of the index do not exist.
            let start = base | (s as u64).checked_shl(shift).filter(|b| b >> shift == s as u64)?;
            let at = if s == first { index } else { start };
            match &self.slots {
                Slots::Leaf(_) => return Some(at),
                Slots::Inner(v) => match &v[s] {
                    None => return Some(at),
                    Some(c) => {
                        if let Some(found) = c.first_free(at, shift - BITS) {
                            return Some(found);
                        }
                    }
                },
            }
        }
        None
    }
}
