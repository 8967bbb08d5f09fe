//! The lock under the allocators: interrupts off, test and test-and-set. It has no class and keeps no records, because the
//! lock checker itself stands on memory that these allocators hand out. It guards a few loads and stores and is taken last.

use core::cell::UnsafeCell;

use crate::{
    arch,
    atomic::{AtomicBool, Ordering},
};

pub(crate) struct IrqSpin<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `with` gives the value to one caller at a time.
unsafe impl<T: Send> Sync for IrqSpin<T> {}

impl<T> IrqSpin<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `f` with the value, alone. `f` must not take the same lock (it would spin for ever).
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        without_irqs(|| {
            while self.locked.swap(true, Ordering::Acquire) {
                while self.locked.load(Ordering::Relaxed) {
                    arch::relax();
                }
            }
            // SAFETY: `locked` was false and is ours now.
            let r = f(unsafe { &mut *self.value.get() });
            self.locked.store(false, Ordering::Release);
            r
        })
    }
}

/// Runs `f` with interrupts off. Cheaper than an `IrqGuard`; whoever asked for a reschedule meanwhile did it by an
/// interrupt, which arrives when they are on again.
#[inline]
pub(crate) fn without_irqs<R>(f: impl FnOnce() -> R) -> R {
    let on = arch::irqs_enabled();
    if on {
        arch::irq_disable();
    }
    let r = f();
    if on {
        arch::irq_enable();
    }
    r
}
