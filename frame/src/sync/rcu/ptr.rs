//! Pointers under RCU.

use alloc::{boxed::Box, sync::Arc};
use core::{marker::PhantomData, mem::ManuallyDrop, ptr};

use super::ReadGuard;
use crate::atomic::{AtomicPtr, Ordering};

mod sealed {
    pub trait Sealed {}
}

/// What an [`Rcu`] can hold: `Arc<T>` and `Option<Arc<T>>`.
pub trait RcuPtr: sealed::Sealed + Clone + Send + 'static {
    type Target: Send + Sync + 'static;
    /// What a reader sees.
    type Ref<'g>: Copy;
    #[doc(hidden)]
    fn into_raw(self) -> *mut Self::Target;
    /// # Safety
    /// `p` came from [`RcuPtr::into_raw`], and its reference is given up to the result.
    #[doc(hidden)]
    unsafe fn from_raw(p: *mut Self::Target) -> Self;
    /// # Safety
    /// `p` came from [`RcuPtr::into_raw`], and its target lives for `'g`.
    #[doc(hidden)]
    unsafe fn borrow<'g>(p: *mut Self::Target) -> Self::Ref<'g>;
}

impl<T> sealed::Sealed for Arc<T> {}
impl<T: Send + Sync + 'static> RcuPtr for Arc<T> {
    type Target = T;
    type Ref<'g> = &'g T;
    fn into_raw(self) -> *mut T {
        Arc::into_raw(self).cast_mut()
    }
    unsafe fn from_raw(p: *mut T) -> Self {
        // SAFETY: by contract.
        unsafe { Arc::from_raw(p) }
    }
    unsafe fn borrow<'g>(p: *mut T) -> &'g T {
        // SAFETY: by contract.
        unsafe { &*p }
    }
}

impl<T> sealed::Sealed for Option<Arc<T>> {}
impl<T: Send + Sync + 'static> RcuPtr for Option<Arc<T>> {
    type Target = T;
    type Ref<'g> = Option<&'g T>;
    fn into_raw(self) -> *mut T {
        self.map_or(ptr::null_mut(), |a| Arc::into_raw(a).cast_mut())
    }
    unsafe fn from_raw(p: *mut T) -> Self {
        // SAFETY: by contract, if not null.
        (!p.is_null()).then(|| unsafe { Arc::from_raw(p) })
    }
    unsafe fn borrow<'g>(p: *mut T) -> Option<&'g T> {
        // SAFETY: by contract, if not null.
        unsafe { p.as_ref() }
    }
}

/// A pointer that readers follow without a lock. What it pointed to is let go a grace period after it was replaced.
pub struct Rcu<P: RcuPtr> {
    ptr: AtomicPtr<P::Target>,
    _owns: PhantomData<P>,
}

// SAFETY: it hands out shared references and counted pointers to a `Send + Sync` target.
unsafe impl<P: RcuPtr> Sync for Rcu<P> {}
// SAFETY: as above.
unsafe impl<P: RcuPtr> Send for Rcu<P> {}

impl<T: Send + Sync + 'static> Rcu<Option<Arc<T>>> {
    /// Null, for statics.
    pub const fn none() -> Self {
        Self { ptr: AtomicPtr::new(ptr::null_mut()), _owns: PhantomData }
    }
}

impl<P: RcuPtr> Rcu<P> {
    pub fn new(p: P) -> Self {
        Self { ptr: AtomicPtr::new(p.into_raw()), _owns: PhantomData }
    }

    /// What it points to now, for as long as both the section and the borrow of `self` last.
    #[inline]
    pub fn load<'g>(&'g self, _section: &'g ReadGuard) -> P::Ref<'g> {
        // SAFETY: the pointer's reference is dropped a grace period after its replacement at the earliest, which cannot end
        // inside the section; and `self` itself cannot be dropped while borrowed.
        unsafe { P::borrow(self.ptr.load(Ordering::Acquire)) }
    }

    /// A counted copy, that outlives any section.
    #[inline]
    pub fn get(&self) -> P {
        let _section = super::read();
        // SAFETY: the reference in the pointer is alive throughout the section; `ManuallyDrop` leaves it there.
        let p = ManuallyDrop::new(unsafe { P::from_raw(self.ptr.load(Ordering::Acquire)) });
        (*p).clone()
    }

    /// Points to `new` from now on. The old reference is dropped after a grace period. Writers that need to exclude each
    /// other do so themselves, or use [`Rcu::update`].
    pub fn replace(&self, new: P) {
        let old = self.ptr.swap(new.into_raw(), Ordering::AcqRel);
        // SAFETY: swapped out exactly once, so the reference is ours.
        defer_drop(unsafe { P::from_raw(old) });
    }

    /// Replaces the value by what `f` makes of it, again and again until nobody came between. `f` runs in a read section.
    pub fn update(&self, mut f: impl FnMut(P::Ref<'_>) -> P) {
        let section = super::read();
        loop {
            let old = self.ptr.load(Ordering::Acquire);
            // SAFETY: as in `load`.
            let new = f(unsafe { P::borrow(old) }).into_raw();
            if self.ptr.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                drop(section);
                // SAFETY: exchanged out exactly once.
                return defer_drop(unsafe { P::from_raw(old) });
            }
            // SAFETY: made above and published to nobody.
            drop(unsafe { P::from_raw(new) });
        }
    }
}

fn defer_drop<P: RcuPtr>(p: P) {
    super::call(Box::new(move || drop(p)));
}

impl<P: RcuPtr> Drop for Rcu<P> {
    fn drop(&mut self) {
        // SAFETY: no reader borrows `self` any more, so none has loaded from it; the reference is ours.
        drop(unsafe { P::from_raw(self.ptr.load(Ordering::Acquire)) });
    }
}
