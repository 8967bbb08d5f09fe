//! A box of a type that only its owner's user knows, with the cheapest possible question.
//!
//! `Box<dyn Any>` asks the value for its type through the vtable, an indirect call at each look. What hangs on a task is looked
//! at several times in every system call, so here the type's identity lies beside the pointer.

use alloc::boxed::Box;
use core::any::{Any, TypeId};

/// An owned value of some type.
pub struct Typed {
    /// The type of what `value` points to.
    of: TypeId,
    value: Box<dyn Any + Send + Sync>,
}

impl Typed {
    pub fn new(value: Box<dyn Any + Send + Sync>) -> Self {
        Self { of: (*value).type_id(), value }
    }
    /// The value, if it is a `T`.
    #[inline]
    pub fn get<T: Any>(&self) -> Option<&T> {
        if self.of == TypeId::of::<T>() {
            // SAFETY: `of` is the type of the boxed value, and neither field ever changes.
            Some(unsafe { &*(&raw const *self.value).cast::<T>() })
        } else {
            None
        }
    }
    pub fn into_inner(self) -> Box<dyn Any + Send + Sync> {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_only_what_it_is() {
        let t = Typed::new(Box::new(7u32));
        assert_eq!((t.get::<u32>(), t.get::<i32>(), t.get::<Box<u32>>()), (Some(&7), None, None));
        assert_eq!(t.into_inner().downcast_ref::<u32>(), Some(&7));
    }
}
