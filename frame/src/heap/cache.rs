//! Typed caches: a pool of its own for objects that there are many of, seen by name in `/proc/slabinfo`.

use alloc::vec::Vec;
use core::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
    ptr::{self, NonNull},
};

use super::{
    CacheStats, classes,
    classes::{Frames, POOLS},
    slab::Pool,
};
use crate::{
    atomic::{AtomicBool, AtomicPtr, Ordering},
    cpu::hotplug::DeadCpu,
    page::lock::IrqSpin,
};

/// A cache of untyped objects of one size. A `static`.
pub struct RawCache {
    name: &'static str,
    pool: Pool,
    listed: AtomicBool,
    next: AtomicPtr<RawCache>,
}

/// All caches that were used, newest first. Caches are statics, so the chain only grows.
static CACHES: IrqSpin<Chain> = IrqSpin::new(Chain(ptr::null()));
struct Chain(*const RawCache);
// SAFETY: points to statics that are `Sync`.
unsafe impl Send for Chain {}

impl RawCache {
    /// A cache of objects of `size` bytes, at most 16 KiB, aligned to `align`.
    pub const fn new(name: &'static str, size: usize, align: usize) -> RawCache {
        RawCache {
            name,
            pool: Pool::new(size, align),
            listed: AtomicBool::new(false),
            next: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Bytes of an object, padding included.
    pub const fn size(&self) -> usize {
        self.pool.size()
    }

    /// An object with arbitrary contents.
    #[inline]
    pub fn alloc(&'static self) -> Option<NonNull<u8>> {
        if !self.listed.load(Ordering::Relaxed) {
            self.list();
        }
        NonNull::new(self.pool.alloc(&Frames))
    }

    /// Takes an object back.
    ///
    /// # Safety
    /// It came from [`RawCache::alloc`] of this cache and is not used any more.
    #[inline]
    pub unsafe fn free(&'static self, p: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { self.pool.free(&Frames, p.as_ptr()) }
    }

    #[cold]
    fn list(&'static self) {
        CACHES.with(|c| {
            if !self.listed.swap(true, Ordering::Relaxed) {
                self.next.store(c.0.cast_mut(), Ordering::Release);
                c.0 = self;
            }
        });
    }

    pub fn stats(&self) -> CacheStats {
        self.pool.stats(self.name)
    }
}

fn each(mut f: impl FnMut(&'static RawCache)) {
    let mut at = CACHES.with(|c| c.0);
    // SAFETY: the chain has only statics.
    while let Some(c) = unsafe { at.as_ref() } {
        f(c);
        at = c.next.load(Ordering::Acquire);
    }
}

/// All size classes, then all typed caches.
pub fn stats() -> Vec<CacheStats> {
    let mut out: Vec<_> = classes::class_stats().collect();
    each(|c| out.push(c.stats()));
    out
}

/// Gives this processor's free objects and all empty slabs back to the page allocator: a shrinker's work.
pub fn shrink() {
    POOLS.iter().for_each(|p| p.shrink(&Frames));
    each(|c| c.pool.shrink(&Frames));
}

/// Gives the free objects of a processor that does not execute back to the slabs.
pub fn drain_dead(of: &DeadCpu) {
    POOLS.iter().for_each(|p| p.drain(&Frames, of));
    each(|c| c.pool.drain(&Frames, of));
}

/// A cache of values of one type: `static C: Cache<Inode> = Cache::new("inode_cache")`.
pub struct Cache<T> {
    raw: RawCache,
    _of: PhantomData<fn(T) -> T>,
}

impl<T> Cache<T> {
    pub const fn new(name: &'static str) -> Cache<T> {
        Cache { raw: RawCache::new(name, size_of::<T>(), align_of::<T>()), _of: PhantomData }
    }
    /// A box in this cache, or `None` (and the value is dropped) without memory.
    #[inline]
    pub fn alloc(&'static self, value: T) -> Option<CacheBox<T>> {
        let p = self.raw.alloc()?.cast::<T>();
        // SAFETY: the object is large and aligned enough, and ours.
        unsafe { p.write(value) };
        Some(CacheBox { p, cache: self })
    }
    pub fn stats(&self) -> CacheStats {
        self.raw.stats()
    }
}

/// A value that lives in a [`Cache`].
pub struct CacheBox<T: 'static> {
    p: NonNull<T>,
    cache: &'static Cache<T>,
}

// SAFETY: owns its value, like a `Box`.
unsafe impl<T: Send> Send for CacheBox<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for CacheBox<T> {}

impl<T> Deref for CacheBox<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the value is initialised and lives until drop.
        unsafe { self.p.as_ref() }
    }
}
impl<T> DerefMut for CacheBox<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, borrowed mutably.
        unsafe { self.p.as_mut() }
    }
}
impl<T> Drop for CacheBox<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the value is dropped once, then its object goes back to where it came from.
        unsafe {
            self.p.drop_in_place();
            self.cache.raw.free(self.p.cast());
        }
    }
}
