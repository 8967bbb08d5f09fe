//! Intrusive lists of `Arc` nodes: an object carries a [`Link`] for each kind of list it can be on, and the list owns
//! one reference of each object on it. Nothing is allocated, and an object is taken out of the middle in constant time.
//!
//! ```
//! use std::sync::Arc;
//! use frame::containers::{Link, List};
//! struct Page { number: u32, lru: Link<Page> }
//! frame::list_node!(Page, lru);
//!
//! let p = Arc::new(Page { number: 7, lru: Link::new() });
//! let mut lru = List::<Page>::new();
//! assert!(lru.push_back(p.clone()));
//! assert!(!lru.push_back(p.clone()), "it is on a list already");
//! assert!(lru.remove(&p));
//! ```
//!
//! # Why this is safe for any implementation of [`ListNode`]
//! A link is claimed by an atomic change of `owner` from 0 to the list's number, which no other list has; only with a `&mut`
//! to that list are its pointers changed, and it notes the object it was claimed for. Every step along the list checks that
//! the link belongs to this list and to that object, so a `link` function that gives now one link and now another
//! is a panic, not a corrupted list.

use alloc::sync::Arc;
use core::{cell::UnsafeCell, marker::PhantomData, ptr};

use crate::atomic::{AtomicU64, Ordering};

/// An object's place in one kind of list.
pub struct Link<N> {
    /// The number of the list that it is on; 0: none.
    owner: AtomicU64,
    at: UnsafeCell<Place<N>>,
}

struct Place<N> {
    node: *const N,
    next: *const N,
    prev: *const N,
}

impl<N> Clone for Place<N> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<N> Copy for Place<N> {}

// SAFETY: `at` is touched only by the holder of the list that `owner` names, see the module.
unsafe impl<N> Send for Link<N> {}
// SAFETY: as above.
unsafe impl<N> Sync for Link<N> {}

impl<N> Default for Link<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N> Link<N> {
    pub const fn new() -> Self {
        Self {
            owner: AtomicU64::new(0),
            at: UnsafeCell::new(Place { node: ptr::null(), next: ptr::null(), prev: ptr::null() }),
        }
    }
    /// True while it is on some list. A hint, unless the caller holds what guards the lists it can be on.
    pub fn is_linked(&self) -> bool {
        self.owner.load(Ordering::Acquire) != 0
    }
}

/// An object that can be on a list. `Tag` tells several links of one type apart. Written by [`crate::list_node!`].
pub trait ListNode<Tag = ()>: Sized {
    fn link(&self) -> &Link<Self>;
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A list of objects.
pub struct List<N: ListNode<Tag>, Tag = ()> {
    /// Its number, given when the first object comes.
    id: u64,
    head: *const N,
    tail: *const N,
    len: usize,
    _owns: PhantomData<Arc<N>>,
    _tag: PhantomData<fn() -> Tag>,
}

// SAFETY: it owns counted references, which are `Send` and `Sync` where `Arc<N>` is; the pointers change under `&mut` only.
unsafe impl<N: ListNode<Tag> + Send + Sync, Tag> Send for List<N, Tag> {}
// SAFETY: as above.
unsafe impl<N: ListNode<Tag> + Send + Sync, Tag> Sync for List<N, Tag> {}

impl<N: ListNode<Tag>, Tag> Default for List<N, Tag> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: ListNode<Tag>, Tag> List<N, Tag> {
    pub const fn new() -> Self {
        Self { id: 0, head: ptr::null(), tail: ptr::null(), len: 0, _owns: PhantomData, _tag: PhantomData }
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The link of an object that is on this list, checked. Good as long as the object is on it.
    fn link_of(&self, n: *const N) -> *const Link<N> {
        // SAFETY: pointers on the list are to objects of which it owns a reference.
        let link = unsafe { (*n).link() };
        assert!(
            self.id != 0 && link.owner.load(Ordering::Relaxed) == self.id,
            "ListNode::link gave a link of another list"
        );
        // SAFETY: this list owns the link, and is borrowed by the caller.
        assert!(ptr::eq(unsafe { (*link.at.get()).node }, n), "ListNode::link gave another object's link");
        link
    }
    /// The place of an object that is on this list, checked.
    fn place(&self, n: *const N) -> *mut Place<N> {
        // SAFETY: just checked.
        unsafe { (*self.link_of(n)).at.get() }
    }
    fn next_of(&self, n: *const N) -> *const N {
        // SAFETY: checked by `place`.
        unsafe { (*self.place(n)).next }
    }

    /// Puts `n` between two neighbours, either of which may be null: the end. False if it is on a list.
    fn insert(&mut self, n: Arc<N>, prev: *const N, next: *const N) -> bool {
        if self.id == 0 {
            self.id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        }
        // All checks come before the first change.
        let before = (!prev.is_null()).then(|| self.place(prev));
        let after = (!next.is_null()).then(|| self.place(next));
        let link = n.link();
        if link.owner.compare_exchange(0, self.id, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        let node = Arc::as_ptr(&n);
        let at = link.at.get();
        // SAFETY: just claimed for this list, which is borrowed mutably. Neighbours are on the list.
        unsafe {
            *at = Place { node, next, prev };
            match before {
                Some(p) => (*p).next = node,
                None => self.head = node,
            }
            match after {
                Some(p) => (*p).prev = node,
                None => self.tail = node,
            }
        }
        let _ = Arc::into_raw(n);
        self.len += 1;
        true
    }

    /// Takes out an object that is on this list.
    fn unlink(&mut self, n: *const N) -> Arc<N> {
        // `link` may give another one at the next call, so this one is kept.
        let link = self.link_of(n);
        // SAFETY: checked by `link_of`; the list's reference, given up last, keeps it alive.
        let link = unsafe { &*link };
        let p = link.at.get();
        // SAFETY: this list owns the link.
        let Place { node, next, prev } = unsafe { *p };
        let before = (!prev.is_null()).then(|| self.place(prev));
        let after = (!next.is_null()).then(|| self.place(next));
        // SAFETY: all three places belong to this list, which is borrowed mutably.
        unsafe {
            match before {
                Some(b) => (*b).next = next,
                None => self.head = next,
            }
            match after {
                Some(a) => (*a).prev = prev,
                None => self.tail = prev,
            }
            *p = Place { node: ptr::null(), next: ptr::null(), prev: ptr::null() };
        }
        self.len -= 1;
        link.owner.store(0, Ordering::Release);
        // SAFETY: the list's own reference, and the pointer it came with, from `insert`.
        unsafe { Arc::from_raw(node) }
    }

    /// False (and nothing done) if `n` is on a list already.
    pub fn push_back(&mut self, n: Arc<N>) -> bool {
        let tail = self.tail;
        self.insert(n, tail, ptr::null())
    }
    pub fn push_front(&mut self, n: Arc<N>) -> bool {
        let head = self.head;
        self.insert(n, ptr::null(), head)
    }
    pub fn pop_front(&mut self) -> Option<Arc<N>> {
        (!self.head.is_null()).then(|| self.unlink(self.head))
    }
    pub fn pop_back(&mut self) -> Option<Arc<N>> {
        (!self.tail.is_null()).then(|| self.unlink(self.tail))
    }

    /// Whether `n` is on this list.
    pub fn contains(&self, n: &N) -> bool {
        let link = n.link();
        // SAFETY: an owned link's place is ours to read.
        self.id != 0
            && link.owner.load(Ordering::Acquire) == self.id
            && ptr::eq(unsafe { (*link.at.get()).node }, n)
    }
    /// Takes `n` out, in constant time. False if it is not on this list.
    pub fn remove(&mut self, n: &Arc<N>) -> bool {
        let found = self.contains(n);
        if found {
            drop(self.unlink(Arc::as_ptr(n)));
        }
        found
    }
    /// Puts `n` before `at`. False if `n` is on a list, or `at` not on this one.
    pub fn insert_before(&mut self, at: &N, n: Arc<N>) -> bool {
        if !self.contains(at) {
            return false;
        }
        // SAFETY: checked by `place`.
        let Place { node, prev, .. } = unsafe { *self.place(at) };
        self.insert(n, prev, node)
    }
    /// Moves `n` to the end. False if it is not on this list.
    pub fn move_to_back(&mut self, n: &Arc<N>) -> bool {
        self.contains(n) && {
            let n = self.unlink(Arc::as_ptr(n));
            self.push_back(n)
        }
    }
    /// Moves `n` to the front. False if it is not on this list.
    pub fn move_to_front(&mut self, n: &Arc<N>) -> bool {
        self.contains(n) && {
            let n = self.unlink(Arc::as_ptr(n));
            self.push_front(n)
        }
    }
    /// Moves all of `other` behind what is here, one by one.
    pub fn append(&mut self, other: &mut List<N, Tag>) {
        while let Some(n) = other.pop_front() {
            self.push_back(n);
        }
    }

    /// The first object.
    pub fn front(&self) -> Option<&N> {
        // SAFETY: the list owns a reference, and cannot change while borrowed.
        unsafe { self.head.as_ref() }
    }
    /// The last object.
    pub fn back(&self) -> Option<&N> {
        // SAFETY: as above.
        unsafe { self.tail.as_ref() }
    }
    /// A counted reference of an object that is on this list.
    pub fn arc_of(&self, n: &N) -> Option<Arc<N>> {
        self.contains(n).then(|| {
            // SAFETY: `contains` found it in the place where `insert` noted the `Arc`'s own pointer, and the list's reference
            // keeps it alive.
            let p = unsafe { (*self.place(n)).node };
            // SAFETY: as above.
            unsafe {
                Arc::increment_strong_count(p);
                Arc::from_raw(p)
            }
        })
    }
    /// From front to back.
    pub fn iter(&self) -> Iter<'_, N, Tag> {
        Iter { list: self, at: self.head }
    }
    /// Stands at the front, to walk along and take out.
    pub fn cursor_mut(&mut self) -> CursorMut<'_, N, Tag> {
        let at = self.head;
        CursorMut { list: self, at }
    }
    pub fn clear(&mut self) {
        while self.pop_front().is_some() {}
    }
}

impl<N: ListNode<Tag>, Tag> Drop for List<N, Tag> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// See [`List::iter`].
pub struct Iter<'a, N: ListNode<Tag>, Tag> {
    list: &'a List<N, Tag>,
    at: *const N,
}

impl<'a, N: ListNode<Tag>, Tag> Iterator for Iter<'a, N, Tag> {
    type Item = &'a N;
    fn next(&mut self) -> Option<&'a N> {
        // SAFETY: on the list, which cannot change while borrowed.
        let n = unsafe { self.at.as_ref()? };
        self.at = self.list.next_of(n);
        Some(n)
    }
}

/// A place on a list: at an object, or past the end.
pub struct CursorMut<'a, N: ListNode<Tag>, Tag> {
    list: &'a mut List<N, Tag>,
    at: *const N,
}

impl<N: ListNode<Tag>, Tag> CursorMut<'_, N, Tag> {
    /// The object here; `None` past the end.
    pub fn current(&self) -> Option<&N> {
        // SAFETY: on the list, which the cursor borrows.
        unsafe { self.at.as_ref() }
    }
    /// One further. Stays past the end.
    pub fn move_next(&mut self) {
        if !self.at.is_null() {
            self.at = self.list.next_of(self.at);
        }
    }
    /// Takes out the object here, and stands at the next.
    pub fn remove(&mut self) -> Option<Arc<N>> {
        if self.at.is_null() {
            return None;
        }
        let n = self.at;
        self.at = self.list.next_of(n);
        Some(self.list.unlink(n))
    }
    /// Puts `n` before this place. False if it is on a list.
    pub fn insert_before(&mut self, n: Arc<N>) -> bool {
        let prev = if self.at.is_null() {
            self.list.tail
        } else {
            // SAFETY: checked by `place`.
            unsafe { (*self.list.place(self.at)).prev }
        };
        self.list.insert(n, prev, self.at)
    }
}

#[cfg(test)]
mod tests;
