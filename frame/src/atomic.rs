//! The atomics that kernel code uses.
//!
//! On the machine these are `core::sync::atomic`'s own types. Hosted, [`crate::sim`] would not see a race in which no
//! frame primitive is called between two accesses, so there each access is a seeded preemption point.

pub use core::sync::atomic::Ordering;

#[cfg(target_os = "none")]
pub use core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
    fence,
};

#[cfg(not(target_os = "none"))]
pub use hosted::*;

#[cfg(not(target_os = "none"))]
mod hosted {
    use super::Ordering;
    use crate::arch::preempt_point;

    /// A fence, and a preemption point.
    #[inline]
    pub fn fence(o: Ordering) {
        preempt_point();
        core::sync::atomic::fence(o);
    }

    macro_rules! common {
        ($name:ident, $t:ty) => {
            #[doc = concat!("`core::sync::atomic::", stringify!($name), "` with a preemption point before each access.")]
            #[derive(Default, Debug)]
            #[repr(transparent)]
            pub struct $name(core::sync::atomic::$name);
            impl $name {
                pub const fn new(v: $t) -> Self {
                    Self(core::sync::atomic::$name::new(v))
                }
                #[inline]
                pub fn load(&self, o: Ordering) -> $t {
                    preempt_point();
                    self.0.load(o)
                }
                #[inline]
                pub fn store(&self, v: $t, o: Ordering) {
                    preempt_point();
                    self.0.store(v, o)
                }
                #[inline]
                pub fn swap(&self, v: $t, o: Ordering) -> $t {
                    preempt_point();
                    self.0.swap(v, o)
                }
                #[inline]
                pub fn compare_exchange(&self, a: $t, b: $t, s: Ordering, f: Ordering) -> Result<$t, $t> {
                    preempt_point();
                    self.0.compare_exchange(a, b, s, f)
                }
                #[inline]
                pub fn compare_exchange_weak(&self, a: $t, b: $t, s: Ordering, f: Ordering) -> Result<$t, $t> {
                    preempt_point();
                    self.0.compare_exchange(a, b, s, f)
                }
                #[inline]
                pub fn fetch_update(&self, s: Ordering, f: Ordering, g: impl FnMut($t) -> Option<$t>) -> Result<$t, $t> {
                    preempt_point();
                    self.0.fetch_update(s, f, g)
                }
                pub fn get_mut(&mut self) -> &mut $t {
                    self.0.get_mut()
                }
                pub fn into_inner(self) -> $t {
                    self.0.into_inner()
                }
            }
        };
    }
    macro_rules! bits {
        ($name:ident, $t:ty, $($op:ident)*) => {
            common!($name, $t);
            impl $name {
                $(#[inline]
                pub fn $op(&self, v: $t, o: Ordering) -> $t {
                    preempt_point();
                    self.0.$op(v, o)
                })*
            }
        };
    }
    bits!(AtomicBool, bool, fetch_and fetch_or fetch_xor);
    bits!(AtomicU8, u8, fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_max fetch_min);
    bits!(AtomicU16, u16, fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_max fetch_min);
    bits!(AtomicU32, u32, fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_max fetch_min);
    bits!(AtomicU64, u64, fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_max fetch_min);
    bits!(AtomicUsize, usize, fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_max fetch_min);
    bits!(AtomicI32, i32, fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_max fetch_min);
    bits!(AtomicI64, i64, fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_max fetch_min);

    /// `core::sync::atomic::AtomicPtr` with a preemption point before each access.
    #[repr(transparent)]
    pub struct AtomicPtr<T>(core::sync::atomic::AtomicPtr<T>);
    impl<T> AtomicPtr<T> {
        pub const fn new(p: *mut T) -> Self {
            Self(core::sync::atomic::AtomicPtr::new(p))
        }
        #[inline]
        pub fn load(&self, o: Ordering) -> *mut T {
            preempt_point();
            self.0.load(o)
        }
        #[inline]
        pub fn store(&self, p: *mut T, o: Ordering) {
            preempt_point();
            self.0.store(p, o)
        }
        #[inline]
        pub fn swap(&self, p: *mut T, o: Ordering) -> *mut T {
            preempt_point();
            self.0.swap(p, o)
        }
        #[inline]
        pub fn compare_exchange(
            &self,
            a: *mut T,
            b: *mut T,
            s: Ordering,
            f: Ordering,
        ) -> Result<*mut T, *mut T> {
            preempt_point();
            self.0.compare_exchange(a, b, s, f)
        }
    }
}
