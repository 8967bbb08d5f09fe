//! Values that are read often and without any store: the clock, for one. A reader copies the value and looks at a counter
//! before and after; a writer makes the counter odd while it stores. Readers may be anywhere, NMIs excepted.

use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
};

use super::{
    lockdep::LockClass,
    spin::{SpinLockIrq, SpinLockIrqGuard},
};
use crate::{
    arch,
    atomic::{AtomicU32, Ordering, fence},
};

/// A small value with lock-free readers.
pub struct SeqLock<T: Copy> {
    seq: AtomicU32,
    writers: SpinLockIrq<()>,
    value: UnsafeCell<T>,
}

// SAFETY: readers only copy; what they copied is used only if no writer was there meanwhile. Writers exclude each other.
unsafe impl<T: Copy + Send> Sync for SeqLock<T> {}

impl<T: Copy> SeqLock<T> {
    pub const fn new(class: &'static LockClass, value: T) -> Self {
        Self { seq: AtomicU32::new(0), writers: SpinLockIrq::new(class, ()), value: UnsafeCell::new(value) }
    }

    /// A copy that some writer left. Spins while one stores.
    #[inline]
    pub fn read(&self) -> T {
        loop {
            let before = self.seq.load(Ordering::Acquire);
            if before & 1 == 0 {
                // SAFETY: in bounds and aligned; possibly torn, so it stays `MaybeUninit` until the counter has vouched for it.
                // Volatile, so that the copy is made here and only once.
                let v = unsafe { self.value.get().cast::<MaybeUninit<T>>().read_volatile() };
                fence(Ordering::Acquire);
                if self.seq.load(Ordering::Relaxed) == before {
                    // SAFETY: no store overlapped the copy.
                    return unsafe { v.assume_init() };
                }
            }
            arch::relax();
        }
    }

    /// Excludes other writers and gives a copy to change; it becomes the value when the guard is dropped.
    #[track_caller]
    pub fn write(&self) -> SeqWriteGuard<'_, T> {
        let held = self.writers.lock();
        // SAFETY: only writers store, and the lock keeps them out.
        let value = unsafe { *self.value.get() };
        SeqWriteGuard { lock: self, value, _held: held }
    }
}

/// The writer's copy. Dropping it publishes the value.
#[must_use]
pub struct SeqWriteGuard<'a, T: Copy> {
    lock: &'a SeqLock<T>,
    value: T,
    _held: SpinLockIrqGuard<'a, ()>,
}

impl<T: Copy> Deref for SeqWriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
impl<T: Copy> DerefMut for SeqWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
impl<T: Copy> Drop for SeqWriteGuard<'_, T> {
    fn drop(&mut self) {
        let s = self.lock.seq.load(Ordering::Relaxed);
        self.lock.seq.store(s.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        // SAFETY: the only writer; readers discard what they see now.
        unsafe { self.lock.value.get().write_volatile(self.value) };
        self.lock.seq.store(s.wrapping_add(2), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static C: LockClass = LockClass::new("test_seq");

    #[test]
    fn readers_see_what_was_published() {
        let s = SeqLock::new(&C, (1, 2));
        {
            let mut w = s.write();
            w.0 = 10;
            assert_eq!(s.read(), (1, 2));
        }
        assert_eq!(s.read(), (10, 2));
    }
}
