//! A sparse array indexed by `u64`, as a radix tree of 64-way nodes.
//!
//! Height follows the largest index, so a file of 64 pages is one node and a look-up there one step; each further level
//! multiplies by 64. Every node keeps words with one bit per slot: in use, full below, and three marks. So the next value,
//! the next marked value and the first free index are found by counting zeros, whole empty subtrees at a time.
//!
//! The value type is usually an `Arc` or another counted pointer: [`XArray::get`] clones.
//!
//! Locking is the caller's: readers hold it shared, writers exclusively. (Linux lets readers go under RCU instead; here the page cache
//! has an `RwSpinLock`, or clones what it needs.)

use alloc::boxed::Box;
use core::ops::RangeInclusive;

use super::node::{BITS, Node, Slots, slot_of};

/// No memory for a node. What was to be inserted is dropped, the array is as before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

/// Three bits per value that can be searched for: the page cache uses them for dirty, writeback and to-write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    Mark0,
    Mark1,
    Mark2,
}

impl Mark {
    pub(super) const COUNT: usize = 3;
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// See the module.
pub struct XArray<T> {
    root: Option<Box<Node<T>>>,
    /// Each slot of the root spans `1 << shift` indices.
    shift: u32,
    len: usize,
}

impl<T> Default for XArray<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> XArray<T> {
    pub const fn new() -> Self {
        Self { root: None, shift: 0, len: 0 }
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the tree is high enough for `index`.
    #[inline]
    fn covers(&self, index: u64) -> bool {
        self.shift + BITS >= u64::BITS || index >> (self.shift + BITS) == 0
    }

    #[inline]
    pub fn get_ref(&self, index: u64) -> Option<&T> {
        let mut node = self.root.as_deref()?;
        if !self.covers(index) {
            return None;
        }
        let mut shift = self.shift;
        loop {
            match &node.slots {
                Slots::Leaf(v) => return v[slot_of(index, shift)].as_ref(),
                Slots::Inner(v) => node = v[slot_of(index, shift)].as_deref()?,
            }
            shift -= BITS;
        }
    }
    pub fn get_mut(&mut self, index: u64) -> Option<&mut T> {
        if !self.covers(index) {
            return None;
        }
        let mut node = self.root.as_deref_mut()?;
        let mut shift = self.shift;
        loop {
            match &mut node.slots {
                Slots::Leaf(v) => return v[slot_of(index, shift)].as_mut(),
                Slots::Inner(v) => node = v[slot_of(index, shift)].as_deref_mut()?,
            }
            shift -= BITS;
        }
    }
    /// A copy of the value at `index`.
    #[inline]
    pub fn get(&self, index: u64) -> Option<T>
    where
        T: Clone,
    {
        self.get_ref(index).cloned()
    }
    pub fn contains(&self, index: u64) -> bool {
        self.get_ref(index).is_some()
    }

    /// Puts a value in and gives the old one back, whose marks stay.
    pub fn insert(&mut self, index: u64, value: T) -> Result<Option<T>, NoMemory> {
        self.grow(index)?;
        let Some(root) = &mut self.root else { return Err(NoMemory) };
        let r = root.insert(index, self.shift, value);
        match &r {
            Ok(None) => self.len += 1,
            Ok(Some(_)) => {}
            // The levels that were added for it go again.
            Err(NoMemory) => self.shrink(),
        }
        r
    }
    /// Puts a value in only where none is. `Ok(false)` if one is.
    pub fn insert_new(&mut self, index: u64, value: T) -> Result<bool, NoMemory> {
        if self.contains(index) {
            return Ok(false);
        }
        self.insert(index, value).map(|_| true)
    }
    /// Exchanges the value at `index`, keeping its marks. Gives `value` back if there is none. Allocates nothing.
    pub fn replace(&mut self, index: u64, value: T) -> Result<T, T> {
        match self.get_mut(index) {
            Some(v) => Ok(core::mem::replace(v, value)),
            None => Err(value),
        }
    }
    /// Takes a value out, marks and all.
    pub fn remove(&mut self, index: u64) -> Option<T> {
        if !self.covers(index) {
            return None;
        }
        let v = self.root.as_mut()?.remove(index, self.shift)?;
        self.len -= 1;
        self.shrink();
        Some(v)
    }
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Adds levels until `index` fits.
    fn grow(&mut self, index: u64) -> Result<(), NoMemory> {
        if self.root.is_none() {
            self.shift = 0;
            while !self.covers(index) {
                self.shift += BITS;
            }
            self.root = Some(if self.shift == 0 { Node::leaf() } else { Node::inner() }.try_box()?);
        }
        while !self.covers(index) {
            let mut top = Node::inner().try_box()?;
            if let Some(old) = self.root.take() {
                top.present = 1;
                top.full = u64::from(old.is_full());
                for (m, below) in top.marks.iter_mut().zip(old.marks) {
                    *m = u64::from(below != 0);
                }
                if let Slots::Inner(v) = &mut top.slots {
                    v[0] = Some(old);
                }
            }
            self.root = Some(top);
            self.shift += BITS;
        }
        Ok(())
    }

    /// Removes levels of which only the first slot is used.
    fn shrink(&mut self) {
        while let Some(root) = &mut self.root {
            match &mut root.slots {
                _ if root.present == 0 => {
                    self.root = None;
                    self.shift = 0;
                }
                Slots::Inner(v) if root.present == 1 => {
                    self.root = v[0].take();
                    self.shift -= BITS;
                }
                _ => return,
            }
        }
    }

    /// Sets a mark. False if there is no value.
    pub fn set_mark(&mut self, index: u64, m: Mark) -> bool {
        self.covers(index) && self.root.as_mut().is_some_and(|r| r.mark(index, self.shift, m, true))
    }
    /// Clears a mark. False if there is no value.
    pub fn clear_mark(&mut self, index: u64, m: Mark) -> bool {
        self.covers(index) && self.root.as_mut().is_some_and(|r| r.mark(index, self.shift, m, false))
    }
    /// Whether the value at `index` has the mark.
    pub fn get_mark(&self, index: u64, m: Mark) -> bool {
        let Some(mut node) = self.root.as_deref().filter(|_| self.covers(index)) else { return false };
        let mut shift = self.shift;
        loop {
            let s = slot_of(index, shift);
            if node.marks[m.index()] >> s & 1 == 0 {
                return false;
            }
            match &node.slots {
                Slots::Leaf(_) => return true,
                Slots::Inner(v) => match &v[s] {
                    Some(c) => node = c,
                    None => return false,
                },
            }
            shift -= BITS;
        }
    }
    /// Whether any value has the mark.
    pub fn any_marked(&self, m: Mark) -> bool {
        self.root.as_ref().is_some_and(|r| r.marks[m.index()] != 0)
    }

    fn find(&self, from: u64, m: Option<Mark>) -> Option<(u64, &T)> {
        self.root.as_ref().filter(|_| self.covers(from))?.next(from, self.shift, m)
    }
    /// The first value at or after `from`, by reference.
    pub fn next_ref(&self, from: u64) -> Option<(u64, &T)> {
        self.find(from, None)
    }
    /// The first value at or after `from`.
    pub fn next(&self, from: u64) -> Option<(u64, T)>
    where
        T: Clone,
    {
        self.find(from, None).map(|(i, v)| (i, v.clone()))
    }
    /// The first value at or after `from` that has the mark.
    pub fn next_marked(&self, from: u64, m: Mark) -> Option<(u64, T)>
    where
        T: Clone,
    {
        self.find(from, Some(m)).map(|(i, v)| (i, v.clone()))
    }
    /// All values of a range, in order.
    pub fn range(&self, r: RangeInclusive<u64>) -> impl Iterator<Item = (u64, &T)> {
        let (mut at, end) = (Some(*r.start()), *r.end());
        core::iter::from_fn(move || {
            let (i, v) = self.find(at?, None).filter(|&(i, _)| i <= end)?;
            at = i.checked_add(1);
            Some((i, v))
        })
    }
    /// All values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.range(0..=u64::MAX)
    }
    /// The first index of a range that has no value.
    pub fn first_free(&self, r: RangeInclusive<u64>) -> Option<u64> {
        let (start, end) = (*r.start(), *r.end());
        if start > end {
            return None;
        }
        let free = match &self.root {
            Some(root) if self.covers(start) => match root.first_free(start, self.shift) {
                Some(i) => i,
                // All of the tree from `start` on is taken: the index after it, if there is one.
                None => 1u64.checked_shl(self.shift + BITS).filter(|_| self.shift + BITS < u64::BITS)?,
            },
            _ => start,
        };
        (free <= end).then_some(free)
    }
}

#[cfg(test)]
mod tests;
