//! A list of waiters whose nodes live on the stacks of those who wait. Internal to the sleeping primitives.
//!
//! Waiting must not allocate, so a node is a local variable of the waiting function, linked by raw pointers while the
//! function sleeps. Whoever owns the queue keeps it under a lock, and the waiting function does not return before it has
//! seen, under that lock, that its node is off the list. No node points to the queue itself, which may therefore move.

use core::{cell::Cell, ptr};

pub(super) struct Node<T> {
    next: Cell<*const Node<T>>,
    prev: Cell<*const Node<T>>,
    pub(super) data: T,
}

impl<T> Node<T> {
    pub(super) const fn new(data: T) -> Self {
        Self { next: Cell::new(ptr::null()), prev: Cell::new(ptr::null()), data }
    }
}

pub(super) struct Queue<T> {
    head: *const Node<T>,
    tail: *const Node<T>,
}

// SAFETY: the nodes behind the pointers are touched only by the holder of the lock around the queue; what they carry
// must therefore be `Send`.
unsafe impl<T: Send> Send for Queue<T> {}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self { head: ptr::null(), tail: ptr::null() }
    }
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// # Safety
    /// The node is on no queue, and stays alive and in place until it has been removed.
    pub(super) unsafe fn push_back(&mut self, n: *const Node<T>) {
        // SAFETY: by contract `n` is alive, and so is every node on the list.
        unsafe {
            (*n).next.set(ptr::null());
            (*n).prev.set(self.tail);
            match self.tail.as_ref() {
                Some(t) => t.next.set(n),
                None => self.head = n,
            }
        }
        self.tail = n;
    }

    /// # Safety
    /// As for [`Queue::push_back`].
    pub(super) unsafe fn push_front(&mut self, n: *const Node<T>) {
        // SAFETY: as in `push_back`.
        unsafe {
            (*n).prev.set(ptr::null());
            (*n).next.set(self.head);
            match self.head.as_ref() {
                Some(h) => h.prev.set(n),
                None => self.tail = n,
            }
        }
        self.head = n;
    }

    /// # Safety
    /// The node is on this queue.
    pub(super) unsafe fn remove(&mut self, n: *const Node<T>) {
        // SAFETY: nodes on the list are alive, so its neighbours are.
        unsafe {
            let (next, prev) = ((*n).next.get(), (*n).prev.get());
            match prev.as_ref() {
                Some(p) => p.next.set(next),
                None => self.head = next,
            }
            match next.as_ref() {
                Some(x) => x.prev.set(prev),
                None => self.tail = prev,
            }
        }
    }

    /// The first node. The pointer is good while the queue's lock is held and the node on it.
    pub(super) fn front(&self) -> *const Node<T> {
        self.head
    }

    /// # Safety
    /// The node is on this queue.
    pub(super) unsafe fn next(&self, n: *const Node<T>) -> *const Node<T> {
        // SAFETY: by contract.
        unsafe { (*n).next.get() }
    }
}

/// Turns an unwinding panic out of a sleeping function into an abort: its frame holds a node that others still see.
pub(super) struct NoUnwind;
impl Drop for NoUnwind {
    fn drop(&mut self) {
        panic!("a panic left a function that still stands on a wait list");
    }
}
