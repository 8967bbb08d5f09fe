//! Spin locks. The type says what is held off while one is held, so that it cannot be forgotten:
//!
//! | type | holds off | for data shared with |
//! |---|---|---|
//! | [`SpinLock`] | preemption | tasks only |
//! | [`SpinLockBh`] | softirqs, preemption | softirqs |
//! | [`SpinLockIrq`] | interrupts (and so everything) | interrupt handlers |
//!
//! The lock word is test-and-test-and-set, not a ticket: a virtual processor that the host has descheduled while it
//! stands in a queue would stop everyone behind it.

use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use super::lockdep::{self, How, Kind, LockClass};
use crate::{
    arch,
    atomic::{AtomicBool, Ordering},
    context::{IrqGuard, PreemptGuard, SoftirqGuard},
};

/// What a spin lock holds off while it is held.
pub trait Hold {
    /// Holds it off until dropped.
    type Guard;
    fn hold() -> Self::Guard;
}

/// Preemption.
pub struct Preempt;
/// Softirqs, and with them preemption.
pub struct Bh;
/// Interrupts, and with them all else.
pub struct Irq;

impl Hold for Preempt {
    type Guard = PreemptGuard;
    #[inline]
    fn hold() -> PreemptGuard {
        PreemptGuard::new()
    }
}
impl Hold for Bh {
    type Guard = SoftirqGuard;
    #[inline]
    fn hold() -> SoftirqGuard {
        SoftirqGuard::new()
    }
}
impl Hold for Irq {
    type Guard = IrqGuard;
    #[inline]
    fn hold() -> IrqGuard {
        IrqGuard::new()
    }
}

/// Holds off preemption.
pub type SpinLock<T> = Spin<T, Preempt>;
/// Holds off softirqs and preemption.
pub type SpinLockBh<T> = Spin<T, Bh>;
/// Holds off interrupts.
pub type SpinLockIrq<T> = Spin<T, Irq>;
/// What [`SpinLock::lock`] gives.
pub type SpinLockGuard<'a, T> = SpinGuard<'a, T, Preempt>;
/// What [`SpinLockBh::lock`] gives.
pub type SpinLockBhGuard<'a, T> = SpinGuard<'a, T, Bh>;
/// What [`SpinLockIrq::lock`] gives.
pub type SpinLockIrqGuard<'a, T> = SpinGuard<'a, T, Irq>;

/// A spin lock around a value. Use it through its three names.
pub struct Spin<T: ?Sized, H: Hold> {
    class: &'static LockClass,
    locked: AtomicBool,
    _hold: PhantomData<fn() -> H>,
    value: UnsafeCell<T>,
}

// SAFETY: one holder at a time has the value; it may be another thread than the maker.
unsafe impl<T: ?Sized + Send, H: Hold> Sync for Spin<T, H> {}
// SAFETY: owns its value.
unsafe impl<T: ?Sized + Send, H: Hold> Send for Spin<T, H> {}

impl<T, H: Hold> Spin<T, H> {
    pub const fn new(class: &'static LockClass, value: T) -> Self {
        Self { class, locked: AtomicBool::new(false), _hold: PhantomData, value: UnsafeCell::new(value) }
    }
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized, H: Hold> Spin<T, H> {
    fn addr(&self) -> usize {
        &raw const self.locked as usize
    }

    /// Waits for the lock.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> SpinGuard<'_, T, H> {
        self.lock_how(How::Block)
    }

    /// Like [`Spin::lock`] where another lock of the same class is held and the caller has an order of its own among
    /// them. Without it the second lock must lie at the higher address (see [`lockdep`]).
    #[inline]
    #[track_caller]
    pub fn lock_nested(&self) -> SpinGuard<'_, T, H> {
        self.lock_how(How::Nested)
    }

    #[inline]
    #[track_caller]
    pub(super) fn lock_how(&self, how: How) -> SpinGuard<'_, T, H> {
        let hold = H::hold();
        lockdep::acquire(self.class, self.addr(), Kind::Spin, how);
        while self.locked.swap(true, Ordering::Acquire) {
            while self.locked.load(Ordering::Relaxed) {
                arch::relax();
            }
        }
        SpinGuard { lock: self, _hold: hold }
    }

    /// Takes the lock if it is free.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T, H>> {
        let hold = H::hold();
        if self.locked.load(Ordering::Relaxed) || self.locked.swap(true, Ordering::Acquire) {
            return None;
        }
        lockdep::acquire(self.class, self.addr(), Kind::Spin, How::Try);
        Some(SpinGuard { lock: self, _hold: hold })
    }

    /// True while somebody holds it. A hint.
    pub fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed)
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// The value of a held spin lock. Bound to its processor: neither `Send` nor `Sync`.
#[must_use]
pub struct SpinGuard<'a, T: ?Sized, H: Hold> {
    lock: &'a Spin<T, H>,
    _hold: H::Guard,
}

impl<T: ?Sized, H: Hold> Deref for SpinGuard<'_, T, H> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while the lock is held.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, H: Hold> DerefMut for SpinGuard<'_, T, H> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized, H: Hold> Drop for SpinGuard<'_, T, H> {
    #[inline]
    fn drop(&mut self) {
        lockdep::release(self.lock.class, self.lock.addr());
        self.lock.locked.store(false, Ordering::Release);
        // What was held off comes back when the fields are dropped, after this.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static C: LockClass = LockClass::new("test_spin");

    #[test]
    fn excludes_and_gives_back() {
        static L: SpinLock<u32> = SpinLock::new(&C, 1);
        let mut g = L.lock();
        assert!(L.try_lock().is_none());
        *g += 1;
        drop(g);
        assert_eq!(*L.try_lock().unwrap(), 2);
    }

    #[test]
    fn unsized_values_fit() {
        let l: &SpinLockIrq<[u8]> = &SpinLockIrq::new(&C, [1, 2, 3]);
        l.lock()[1] = 7;
        assert_eq!(l.lock()[..], [1, 7, 3]);
    }
}
