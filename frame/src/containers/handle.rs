//! Numbers for objects. A number is reused, but with another generation, so an old handle finds nothing.

use alloc::vec::Vec;

use super::NoMemory;

/// Names a value in a [`HandleTable`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Handle(u64);

impl Handle {
    /// As one word, to pass through interfaces that carry one.
    pub const fn to_raw(self) -> u64 {
        self.0
    }
    /// Any word is a handle; most find nothing.
    pub const fn from_raw(w: u64) -> Self {
        Self(w)
    }
    const fn index(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

struct Slot<T> {
    /// Counts up each time the slot is emptied.
    generation: u32,
    /// The next free slot, while empty.
    next_free: u32,
    value: Option<T>,
}

const END: u32 = u32::MAX;

/// Values under stable numbers.
pub struct HandleTable<T> {
    slots: Vec<Slot<T>>,
    free: u32,
    len: usize,
}

impl<T> Default for HandleTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> HandleTable<T> {
    pub const fn new() -> Self {
        Self { slots: Vec::new(), free: END, len: 0 }
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn insert(&mut self, value: T) -> Result<Handle, NoMemory> {
        let i = if self.free != END {
            let i = self.free;
            self.free = self.slots[i as usize].next_free;
            i
        } else {
            let i = u32::try_from(self.slots.len()).ok().filter(|&i| i != END).ok_or(NoMemory)?;
            self.slots.try_reserve(1).map_err(|_| NoMemory)?;
            self.slots.push(Slot { generation: 0, next_free: END, value: None });
            i
        };
        let s = &mut self.slots[i as usize];
        s.value = Some(value);
        self.len += 1;
        Ok(Handle(u64::from(s.generation) << 32 | u64::from(i)))
    }

    fn slot(&self, h: Handle) -> Option<&Slot<T>> {
        self.slots.get(h.index()).filter(|s| u64::from(s.generation) == h.0 >> 32)
    }
    pub fn get(&self, h: Handle) -> Option<&T> {
        self.slot(h)?.value.as_ref()
    }
    pub fn get_mut(&mut self, h: Handle) -> Option<&mut T> {
        self.slot(h)?;
        self.slots[h.index()].value.as_mut()
    }
    pub fn remove(&mut self, h: Handle) -> Option<T> {
        self.slot(h)?;
        let s = &mut self.slots[h.index()];
        let v = s.value.take()?;
        self.len -= 1;
        s.generation = s.generation.wrapping_add(1);
        // After 2^32 uses a slot rests for ever: its handles would begin to repeat.
        if s.generation != 0 {
            s.next_free = self.free;
            self.free = h.index() as u32;
        }
        Some(v)
    }
    pub fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        self.slots.iter().enumerate().filter_map(|(i, s)| {
            s.value.as_ref().map(|v| (Handle(u64::from(s.generation) << 32 | i as u64), v))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_handle_finds_nothing() {
        let mut t = HandleTable::new();
        let a = t.insert("a").unwrap();
        let b = t.insert("b").unwrap();
        assert_eq!(t.remove(a), Some("a"));
        let c = t.insert("c").unwrap();
        assert_eq!(a.index(), c.index());
        assert_eq!((t.get(a), t.get(b), t.get(c)), (None, Some(&"b"), Some(&"c")));
        assert_eq!(t.remove(a), None);
        assert_eq!(t.get(Handle::from_raw(!0)), None);
        assert_eq!((t.iter().count(), t.len()), (2, 2));
    }
}
