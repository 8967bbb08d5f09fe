//! Values made once: [`Once`] when the first caller brings the initialiser, [`Lazy`] when the place does.
//!
//! The initialiser runs with preemption held off and must not sleep: whoever comes meanwhile spins, and on one
//! processor a spinner must never be in the way of the one it waits for. It must not touch the same place again either,
//! nor be needed by an interrupt handler that may come while it runs.

use core::{cell::UnsafeCell, mem::MaybeUninit, ops::Deref};

use crate::{
    arch,
    atomic::{AtomicU32, Ordering},
    context::PreemptGuard,
};

const EMPTY: u32 = 0;
const RUNNING: u32 = 1;
const DONE: u32 = 2;

/// A value that is made at most once.
pub struct Once<T> {
    state: AtomicU32,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value is written once, before `DONE` is published with release, and only shared afterwards; the thread that
// makes it may not be the one that drops it, hence `Send`.
unsafe impl<T: Send + Sync> Sync for Once<T> {}
// SAFETY: owns its value.
unsafe impl<T: Send> Send for Once<T> {}

impl<T> Once<T> {
    #[expect(clippy::new_without_default, reason = "for statics, which need the const function")]
    pub const fn new() -> Self {
        Self { state: AtomicU32::new(EMPTY), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// The value, if it has been made.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.state.load(Ordering::Acquire) == DONE {
            // SAFETY: `DONE` is stored after the value is complete, and never taken back.
            Some(unsafe { (*self.value.get()).assume_init_ref() })
        } else {
            None
        }
    }

    /// The value, made by `make` if nobody has yet. Spins while another makes it.
    #[inline]
    pub fn call_once(&self, make: impl FnOnce() -> T) -> &T {
        match self.get() {
            Some(v) => v,
            None => self.slow(make),
        }
    }

    #[cold]
    fn slow(&self, make: impl FnOnce() -> T) -> &T {
        /// Lets another try if the initialiser panicked.
        struct Reset<'a>(&'a AtomicU32);
        impl Drop for Reset<'_> {
            fn drop(&mut self) {
                self.0.store(EMPTY, Ordering::Release);
            }
        }
        let _held = loop {
            let held = PreemptGuard::new();
            if self.state.compare_exchange(EMPTY, RUNNING, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                break held;
            }
            drop(held);
            if let Some(v) = self.get() {
                return v;
            }
            arch::relax();
        };
        let reset = Reset(&self.state);
        let v = make();
        core::mem::forget(reset);
        // SAFETY: `RUNNING` makes this the only writer, and nobody reads before `DONE`.
        let v = unsafe { (*self.value.get()).write(v) };
        self.state.store(DONE, Ordering::Release);
        v
    }
}

impl<T> Drop for Once<T> {
    fn drop(&mut self) {
        if *self.state.get_mut() == DONE {
            // SAFETY: complete, and exclusively ours.
            unsafe { self.value.get_mut().assume_init_drop() }
        }
    }
}

/// A value that its own initialiser makes at the first use.
pub struct Lazy<T, F = fn() -> T> {
    once: Once<T>,
    make: F,
}

impl<T, F: Fn() -> T> Lazy<T, F> {
    pub const fn new(make: F) -> Self {
        Self { once: Once::new(), make }
    }
    /// Makes the value now.
    pub fn force(this: &Self) -> &T {
        this.once.call_once(|| (this.make)())
    }
}

impl<T, F: Fn() -> T> Deref for Lazy<T, F> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        Self::force(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_dropped_once() {
        let n = alloc::sync::Arc::new(());
        let o = Once::new();
        assert!(o.get().is_none());
        o.call_once(|| n.clone());
        o.call_once(|| unreachable!());
        assert_eq!(alloc::sync::Arc::strong_count(&n), 2);
        drop(o);
        assert_eq!(alloc::sync::Arc::strong_count(&n), 1);
    }

    #[test]
    fn a_panicking_initialiser_leaves_it_empty() {
        let o = Once::<u32>::new();
        assert!(
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| o.call_once(|| panic!("no")))).is_err()
        );
        assert_eq!(*o.call_once(|| 7), 7);
    }

    #[test]
    fn lazy_makes_at_first_use() {
        static L: Lazy<u32> = Lazy::new(|| 41 + 1);
        assert_eq!(*L, 42);
    }
}
