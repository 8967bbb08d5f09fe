//! Reader-writer spin locks. Worth it only where readers are many and long; else a plain spin lock or RCU is better.
//!
//! A waiting writer keeps new readers out, and a leaving writer lets all who wait try again on equal terms: neither side
//! can shut the other out for ever. Because of that a reader must not read-lock again what it holds already.

use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use super::{
    lockdep::{self, How, Kind, LockClass},
    spin::{Hold, Irq, Preempt},
};
use crate::{
    arch,
    atomic::{AtomicU32, Ordering},
};

const WRITER: u32 = 1 << 31;
/// A writer waits: no new readers.
const WAITING: u32 = 1 << 30;

/// Holds off preemption.
pub type RwSpinLock<T> = RwSpin<T, Preempt>;
/// Holds off interrupts.
pub type RwSpinLockIrq<T> = RwSpin<T, Irq>;

/// A spin lock that many may hold for reading. Use it through its two names.
pub struct RwSpin<T: ?Sized, H: Hold> {
    class: &'static LockClass,
    word: AtomicU32,
    _hold: PhantomData<fn() -> H>,
    value: UnsafeCell<T>,
}

// SAFETY: shared between readers (`Sync`), handed to a writer (`Send`).
unsafe impl<T: ?Sized + Send + Sync, H: Hold> Sync for RwSpin<T, H> {}
// SAFETY: owns its value.
unsafe impl<T: ?Sized + Send, H: Hold> Send for RwSpin<T, H> {}

impl<T, H: Hold> RwSpin<T, H> {
    pub const fn new(class: &'static LockClass, value: T) -> Self {
        Self { class, word: AtomicU32::new(0), _hold: PhantomData, value: UnsafeCell::new(value) }
    }
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized, H: Hold> RwSpin<T, H> {
    fn addr(&self) -> usize {
        &raw const self.word as usize
    }

    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwSpinReadGuard<'_, T, H> {
        let hold = H::hold();
        lockdep::acquire(self.class, self.addr(), Kind::Spin, How::Block);
        while !self.get_read() {
            arch::relax();
        }
        RwSpinReadGuard { lock: self, _hold: hold }
    }

    #[inline]
    #[track_caller]
    pub fn try_read(&self) -> Option<RwSpinReadGuard<'_, T, H>> {
        let hold = H::hold();
        if !self.get_read() {
            return None;
        }
        lockdep::acquire(self.class, self.addr(), Kind::Spin, How::Try);
        Some(RwSpinReadGuard { lock: self, _hold: hold })
    }

    #[inline]
    fn get_read(&self) -> bool {
        let w = self.word.load(Ordering::Relaxed);
        w & (WRITER | WAITING) == 0
            && self.word.compare_exchange_weak(w, w + 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwSpinWriteGuard<'_, T, H> {
        let hold = H::hold();
        lockdep::acquire(self.class, self.addr(), Kind::Spin, How::Block);
        while !self.get_write() {
            if self.word.load(Ordering::Relaxed) & WAITING == 0 {
                self.word.fetch_or(WAITING, Ordering::Relaxed);
            }
            arch::relax();
        }
        RwSpinWriteGuard { lock: self, _hold: hold }
    }

    #[inline]
    #[track_caller]
    pub fn try_write(&self) -> Option<RwSpinWriteGuard<'_, T, H>> {
        let hold = H::hold();
        if !self.get_write() {
            return None;
        }
        lockdep::acquire(self.class, self.addr(), Kind::Spin, How::Try);
        Some(RwSpinWriteGuard { lock: self, _hold: hold })
    }

    #[inline]
    fn get_write(&self) -> bool {
        let w = self.word.load(Ordering::Relaxed);
        w & !WAITING == 0
            && self.word.compare_exchange(w, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// Shared access.
#[must_use]
pub struct RwSpinReadGuard<'a, T: ?Sized, H: Hold> {
    lock: &'a RwSpin<T, H>,
    _hold: H::Guard,
}
/// Exclusive access.
#[must_use]
pub struct RwSpinWriteGuard<'a, T: ?Sized, H: Hold> {
    lock: &'a RwSpin<T, H>,
    _hold: H::Guard,
}

impl<T: ?Sized, H: Hold> Deref for RwSpinReadGuard<'_, T, H> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: held for reading: no writer.
        unsafe { &*self.lock.value.get() }
    }
}
impl<T: ?Sized, H: Hold> Deref for RwSpinWriteGuard<'_, T, H> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: held for writing: nobody else.
        unsafe { &*self.lock.value.get() }
    }
}
impl<T: ?Sized, H: Hold> DerefMut for RwSpinWriteGuard<'_, T, H> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: held for writing: nobody else.
        unsafe { &mut *self.lock.value.get() }
    }
}
impl<T: ?Sized, H: Hold> Drop for RwSpinReadGuard<'_, T, H> {
    #[inline]
    fn drop(&mut self) {
        lockdep::release(self.lock.class, self.lock.addr());
        self.lock.word.fetch_sub(1, Ordering::Release);
    }
}
impl<T: ?Sized, H: Hold> Drop for RwSpinWriteGuard<'_, T, H> {
    #[inline]
    fn drop(&mut self) {
        lockdep::release(self.lock.class, self.lock.addr());
        // Other waiting writers announce themselves again; until then waiting readers have their chance.
        self.lock.word.fetch_and(!(WRITER | WAITING), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static C: LockClass = LockClass::new("test_rwspin");

    #[test]
    fn readers_share_writers_do_not() {
        let l = RwSpinLock::new(&C, 5);
        let a = l.read();
        let b = l.try_read().unwrap();
        assert_eq!(*a + *b, 10);
        assert!(l.try_write().is_none());
        drop((a, b));
        *l.write() = 6;
        let w = l.try_write().unwrap();
        assert!(l.try_read().is_none());
        drop(w);
        assert_eq!(l.into_inner(), 6);
    }
}
