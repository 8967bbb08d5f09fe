//! The sleeping mutex.
//!
//! Free and uncontended, locking and unlocking are one compare-and-exchange each. Once somebody waits, the bit `WAITERS`
//! makes both fail, and everything happens under the lock of the wait list.
//!
//! Unlocking wakes the first waiter but leaves the mutex free: whoever runs now may take it, which saves a switch. A
//! waiter that was woken for nothing is *starved*, and the next unlock hands the mutex to it directly. So nobody is
//! overtaken by more than those who come between its first wake-up and the unlock after it.

use alloc::sync::Arc;
use core::{
    cell::{Cell, UnsafeCell},
    marker::PhantomData,
    ops::{Deref, DerefMut},
    ptr,
};

use super::{
    Interrupted,
    lockdep::{self, How, Kind, LockClass},
    queue::{NoUnwind, Node, Queue},
    spin::SpinLock,
    wait::{interrupted, wait_without_tasks, without_tasks},
};
use crate::{
    atomic::{AtomicU32, Ordering},
    context,
    task::{self, State, Task},
};

const LOCKED: u32 = 1;
/// Somebody is on the list. While it is set, the word changes only under the list's lock.
const WAITERS: u32 = 2;

struct Waiter {
    task: Arc<Task>,
    granted: Cell<bool>,
    woken: Cell<bool>,
    starved: Cell<bool>,
}

static LIST_CLASS: LockClass = LockClass::unchecked("mutex_waiters");

/// A lock that sleeps. Not for interrupt handlers or softirqs.
pub struct Mutex<T: ?Sized> {
    class: &'static LockClass,
    word: AtomicU32,
    waiters: SpinLock<Queue<Waiter>>,
    value: UnsafeCell<T>,
}

// SAFETY: one holder at a time has the value.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: owns its value.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    pub const fn new(class: &'static LockClass, value: T) -> Self {
        Self {
            class,
            word: AtomicU32::new(0),
            waiters: SpinLock::new(&LIST_CLASS, Queue::new()),
            value: UnsafeCell::new(value),
        }
    }
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    fn addr(&self) -> usize {
        &raw const self.word as usize
    }

    /// Sleeps until the mutex is ours.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        match self.lock_as(State::UNINTERRUPTIBLE, How::Block) {
            Ok(g) => g,
            Err(Interrupted) => unreachable!("nothing ends an uninterruptible wait"),
        }
    }
    /// Like [`Mutex::lock`] where another one of the class is held and the caller has an order of its own among them.
    #[inline]
    #[track_caller]
    pub fn lock_nested(&self) -> MutexGuard<'_, T> {
        match self.lock_as(State::UNINTERRUPTIBLE, How::Nested) {
            Ok(g) => g,
            Err(Interrupted) => unreachable!("nothing ends an uninterruptible wait"),
        }
    }
    /// Gives up when the task has work waiting.
    #[inline]
    #[track_caller]
    pub fn lock_interruptible(&self) -> Result<MutexGuard<'_, T>, Interrupted> {
        self.lock_as(State::INTERRUPTIBLE, How::Block)
    }
    /// Gives up when the task is being killed.
    #[inline]
    #[track_caller]
    pub fn lock_killable(&self) -> Result<MutexGuard<'_, T>, Interrupted> {
        self.lock_as(State::KILLABLE, How::Block)
    }

    #[inline]
    #[track_caller]
    fn lock_as(&self, state: State, how: How) -> Result<MutexGuard<'_, T>, Interrupted> {
        context::might_sleep();
        lockdep::acquire(self.class, self.addr(), Kind::Sleep, how);
        if self.word.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_slow(state)?;
        }
        Ok(MutexGuard { lock: self, _not_send: PhantomData })
    }

    /// Takes the mutex if it is free.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.word.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).ok()?;
        lockdep::acquire(self.class, self.addr(), Kind::Sleep, How::Try);
        Some(MutexGuard { lock: self, _not_send: PhantomData })
    }

    /// True while somebody holds it. A hint.
    pub fn is_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) & LOCKED != 0
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    #[cold]
    #[track_caller]
    fn lock_slow(&self, state: State) -> Result<(), Interrupted> {
        let mut q = self.waiters.lock();
        // From here on the word is ours to change.
        if self.word.fetch_or(WAITERS, Ordering::Acquire) & LOCKED == 0 {
            // Free, perhaps with a woken waiter on its way: it will find itself starved, and be next.
            self.word.store(if q.is_empty() { LOCKED } else { LOCKED | WAITERS }, Ordering::Relaxed);
            return Ok(());
        }
        if without_tasks() {
            drop(q);
            wait_without_tasks(|| {
                self.word.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
            });
            return Ok(());
        }
        let me = task::current();
        let node = Node::new(Waiter {
            task: me.arc(),
            granted: Cell::new(false),
            woken: Cell::new(false),
            starved: Cell::new(false),
        });
        let w = &node.data;
        // SAFETY: taken off below or by `unlock_slow`, before this function returns; `NoUnwind` covers panics.
        unsafe { q.push_back(&node) };
        drop(q);
        let no_unwind = NoUnwind;
        let result = loop {
            me.set_state(state);
            let mut q = self.waiters.lock();
            if w.granted.get() {
                break Ok(());
            }
            let first = ptr::eq(q.front(), &node);
            let free = self.word.load(Ordering::Relaxed) & LOCKED == 0;
            if first && free {
                // SAFETY: not granted, so still on the list.
                unsafe { q.remove(&node) };
                self.word.store(if q.is_empty() { LOCKED } else { LOCKED | WAITERS }, Ordering::Relaxed);
                break Ok(());
            }
            if w.woken.replace(false) {
                w.starved.set(true);
            }
            if interrupted(state, me.work()) {
                // SAFETY: as above.
                unsafe { q.remove(&node) };
                if q.is_empty() {
                    // Not first or not free, and alone: so it is held.
                    self.word.store(LOCKED, Ordering::Relaxed);
                }
                break Err(Interrupted);
            }
            drop(q);
            task::schedule();
        };
        core::mem::forget(no_unwind);
        me.set_running();
        if result.is_err() {
            lockdep::release(self.class, self.addr());
        }
        result
    }

    #[cold]
    fn unlock_slow(&self) {
        let mut q = self.waiters.lock();
        let first = q.front();
        // SAFETY: nodes on the list are alive while its lock is held.
        let Some(n) = (unsafe { first.as_ref() }) else {
            self.word.store(0, Ordering::Release);
            return;
        };
        if n.data.starved.get() {
            // SAFETY: it is on the list.
            unsafe { q.remove(first) };
            n.data.granted.set(true);
            self.word.store(if q.is_empty() { LOCKED } else { LOCKED | WAITERS }, Ordering::Relaxed);
        } else {
            n.data.woken.set(true);
            self.word.store(WAITERS, Ordering::Release);
        }
        // Under the list's lock, without which the waiter does not leave.
        task::wake(&n.data.task, State::NORMAL);
    }
}

/// The value of a held mutex. The task that locked it unlocks it.
#[must_use]
pub struct MutexGuard<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives only `&T`.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while the lock is held.
        unsafe { &*self.lock.value.get() }
    }
}
impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}
impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        lockdep::release(self.lock.class, self.lock.addr());
        if self.lock.word.compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.lock.unlock_slow();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static C: LockClass = LockClass::new("test_mutex");

    #[test]
    fn excludes_and_gives_back() {
        let m = Mutex::new(&C, 1);
        let mut g = m.lock();
        *g = 2;
        assert!(m.try_lock().is_none() && m.is_locked());
        drop(g);
        assert_eq!(*m.lock_interruptible().unwrap(), 2);
        assert_eq!(m.into_inner(), 2);
    }

    #[test]
    #[should_panic(expected = "no scheduler")]
    fn contended_without_a_scheduler() {
        let m = Mutex::new(&C, ());
        let _g = m.lock();
        let _h = m.lock();
    }
}
