//! RCU whose readers may sleep.
//!
//! Two counters of readers; the index says which one newcomers use. A reader counts itself in and looks again whether the
//! index is still the same; if not, it counts itself out and tries the other. So once the index has been flipped, the
//! old counter holds the readers from before and soon reaches zero: then all of them are gone.

use super::{Mutex, WaitQueue, lockdep::LockClass};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};

static CLASS: LockClass = LockClass::new("srcu_synchronize");

/// A domain of sleepable readers, each independent of the others.
pub struct Srcu {
    index: AtomicU32,
    readers: [AtomicU64; 2],
    /// One grace period at a time.
    one: Mutex<()>,
    drained: WaitQueue,
}

impl Default for Srcu {
    fn default() -> Self {
        Self::new()
    }
}

impl Srcu {
    pub const fn new() -> Self {
        Self {
            index: AtomicU32::new(0),
            readers: [const { AtomicU64::new(0) }; 2],
            one: Mutex::new(&CLASS, ()),
            drained: WaitQueue::new(),
        }
    }

    /// Begins a read section, in which the task may sleep (but not call [`Srcu::synchronize`] of the same domain).
    pub fn read(&self) -> SrcuGuard<'_> {
        loop {
            let i = self.index.load(Ordering::Relaxed) as usize & 1;
            self.readers[i].fetch_add(1, Ordering::SeqCst);
            let g = SrcuGuard { srcu: self, index: i };
            if self.index.load(Ordering::SeqCst) as usize & 1 == i {
                return g;
            }
        }
    }

    /// Waits until all readers that are inside now have left.
    #[track_caller]
    pub fn synchronize(&self) {
        let _one = self.one.lock();
        let old = self.index.fetch_xor(1, Ordering::SeqCst) as usize & 1;
        self.drained.wait(|| (self.readers[old].load(Ordering::SeqCst) == 0).then_some(()));
    }
}

/// A read section.
#[must_use]
pub struct SrcuGuard<'a> {
    srcu: &'a Srcu,
    index: usize,
}

impl Drop for SrcuGuard<'_> {
    fn drop(&mut self) {
        if self.srcu.readers[self.index].fetch_sub(1, Ordering::SeqCst) == 1 {
            self.srcu.drained.wake_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_readers_do_not_delay() {
        let s = Srcu::new();
        drop(s.read());
        s.synchronize();
        let g = s.read();
        assert_eq!(g.index, 1);
        drop(g);
        s.synchronize();
    }

    #[test]
    #[should_panic(expected = "no scheduler")]
    fn a_reader_inside_is_waited_for() {
        let s = Srcu::new();
        let _g = s.read();
        s.synchronize();
    }
}
