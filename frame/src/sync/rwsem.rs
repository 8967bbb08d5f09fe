//! The sleeping reader-writer lock.
//!
//! Without waiters each operation is one atomic step on the word. Once somebody waits, newcomers queue behind them, and
//! whoever releases last hands the lock to the front of the queue: one writer, or all the readers up to the next writer. It
//! is never free while somebody waits, so nobody is overtaken.

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

const WRITER: u32 = 1 << 31;
/// The list is not empty. Set and cleared under its lock.
const WAITERS: u32 = 1 << 30;
/// The readers inside.
const READERS: u32 = WAITERS - 1;

struct Waiter {
    task: Arc<Task>,
    write: bool,
    granted: Cell<bool>,
}

static LIST_CLASS: LockClass = LockClass::unchecked("rwsem_waiters");

/// A sleeping lock that many may hold for reading.
pub struct RwSemaphore<T: ?Sized> {
    class: &'static LockClass,
    word: AtomicU32,
    waiters: SpinLock<Queue<Waiter>>,
    value: UnsafeCell<T>,
}

// SAFETY: shared between readers (`Sync`), handed to a writer (`Send`).
unsafe impl<T: ?Sized + Send + Sync> Sync for RwSemaphore<T> {}
// SAFETY: owns its value.
unsafe impl<T: ?Sized + Send> Send for RwSemaphore<T> {}

impl<T> RwSemaphore<T> {
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

impl<T: ?Sized> RwSemaphore<T> {
    fn addr(&self) -> usize {
        &raw const self.word as usize
    }

    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwSemReadGuard<'_, T> {
        match self.read_as(State::UNINTERRUPTIBLE) {
            Ok(g) => g,
            Err(Interrupted) => unreachable!("nothing ends an uninterruptible wait"),
        }
    }
    /// Gives up when the task is being killed.
    #[inline]
    #[track_caller]
    pub fn read_killable(&self) -> Result<RwSemReadGuard<'_, T>, Interrupted> {
        self.read_as(State::KILLABLE)
    }
    #[inline]
    #[track_caller]
    fn read_as(&self, state: State) -> Result<RwSemReadGuard<'_, T>, Interrupted> {
        context::might_sleep();
        lockdep::acquire(self.class, self.addr(), Kind::Sleep, How::Block);
        if !self.get_read() {
            self.slow(false, state)?;
        }
        Ok(RwSemReadGuard { lock: self, _not_send: PhantomData })
    }
    #[inline]
    #[track_caller]
    pub fn try_read(&self) -> Option<RwSemReadGuard<'_, T>> {
        if !self.get_read() {
            return None;
        }
        lockdep::acquire(self.class, self.addr(), Kind::Sleep, How::Try);
        Some(RwSemReadGuard { lock: self, _not_send: PhantomData })
    }
    #[inline]
    fn get_read(&self) -> bool {
        let mut w = self.word.load(Ordering::Relaxed);
        while w & (WRITER | WAITERS) == 0 {
            match self.word.compare_exchange_weak(w, w + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => w = now,
            }
        }
        false
    }

    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwSemWriteGuard<'_, T> {
        match self.write_as(State::UNINTERRUPTIBLE, How::Block) {
            Ok(g) => g,
            Err(Interrupted) => unreachable!("nothing ends an uninterruptible wait"),
        }
    }
    /// Like [`RwSemaphore::write`] where another one of the class is held and the caller has an order of its own.
    #[inline]
    #[track_caller]
    pub fn write_nested(&self) -> RwSemWriteGuard<'_, T> {
        match self.write_as(State::UNINTERRUPTIBLE, How::Nested) {
            Ok(g) => g,
            Err(Interrupted) => unreachable!("nothing ends an uninterruptible wait"),
        }
    }
    /// Gives up when the task is being killed.
    #[inline]
    #[track_caller]
    pub fn write_killable(&self) -> Result<RwSemWriteGuard<'_, T>, Interrupted> {
        self.write_as(State::KILLABLE, How::Block)
    }
    #[inline]
    #[track_caller]
    fn write_as(&self, state: State, how: How) -> Result<RwSemWriteGuard<'_, T>, Interrupted> {
        context::might_sleep();
        lockdep::acquire(self.class, self.addr(), Kind::Sleep, how);
        if self.word.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.slow(true, state)?;
        }
        Ok(RwSemWriteGuard { lock: self, _not_send: PhantomData })
    }
    #[inline]
    #[track_caller]
    pub fn try_write(&self) -> Option<RwSemWriteGuard<'_, T>> {
        self.word.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).ok()?;
        lockdep::acquire(self.class, self.addr(), Kind::Sleep, How::Try);
        Some(RwSemWriteGuard { lock: self, _not_send: PhantomData })
    }

    /// True while anybody holds it. A hint.
    pub fn is_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) & (WRITER | READERS) != 0
    }
    /// True while a writer holds it. A hint.
    pub fn is_write_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) & WRITER != 0
    }
    /// True while somebody waits for it: a long holder may want to let go. A hint.
    pub fn is_contended(&self) -> bool {
        self.word.load(Ordering::Relaxed) & WAITERS != 0
    }
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    #[cold]
    #[track_caller]
    fn slow(&self, write: bool, state: State) -> Result<(), Interrupted> {
        let mut q = self.waiters.lock();
        let mut w = self.word.load(Ordering::Relaxed);
        loop {
            // Only holders that release still change the word, and those only towards free.
            let free = w & WAITERS == 0 && if write { w == 0 } else { w & WRITER == 0 };
            let new = match (free, write) {
                (true, true) => WRITER,
                (true, false) => w + 1,
                (false, _) => w | WAITERS,
            };
            match self.word.compare_exchange(w, new, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) if free => return Ok(()),
                Ok(_) => break,
                Err(now) => w = now,
            }
        }
        if without_tasks() {
            if q.is_empty() {
                self.word.fetch_and(!WAITERS, Ordering::Relaxed);
            }
            drop(q);
            wait_without_tasks(|| {
                let w = self.word.load(Ordering::Relaxed);
                let (free, new) = if write { (w == 0, WRITER) } else { (w & (WRITER | WAITERS) == 0, w + 1) };
                free && self.word.compare_exchange(w, new, Ordering::Acquire, Ordering::Relaxed).is_ok()
            });
            return Ok(());
        }
        let me = task::current();
        let node = Node::new(Waiter { task: me.arc(), write, granted: Cell::new(false) });
        // SAFETY: taken off below or by `grant`, before this function returns; `NoUnwind` covers panics.
        unsafe { q.push_back(&node) };
        drop(q);
        let no_unwind = NoUnwind;
        let result = loop {
            me.set_state(state);
            let mut q = self.waiters.lock();
            if node.data.granted.get() {
                break Ok(());
            }
            if interrupted(state, me.work()) {
                let first = ptr::eq(q.front(), &node);
                // SAFETY: not granted, so still on the list.
                unsafe { q.remove(&node) };
                if q.is_empty() {
                    self.word.fetch_and(!WAITERS, Ordering::Relaxed);
                } else if first {
                    // Readers behind a writer that gives up may join the readers inside.
                    let w = self.word.load(Ordering::Relaxed);
                    if w & WRITER == 0 && w & READERS != 0 {
                        self.grant_readers(&mut q);
                    }
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

    /// Lets in the readers at the front. No writer is inside, and the list's lock is held.
    fn grant_readers(&self, q: &mut Queue<Waiter>) {
        // SAFETY: nodes on the list are alive while its lock is held, and waiters do not leave without that lock.
        while let Some(n) = unsafe { q.front().as_ref() } {
            if n.data.write {
                return;
            }
            // SAFETY: the front is on the list.
            unsafe { q.remove(n) };
            self.word.fetch_add(1, Ordering::Acquire);
            if q.is_empty() {
                self.word.fetch_and(!WAITERS, Ordering::Relaxed);
            }
            n.data.granted.set(true);
            task::wake(&n.data.task, State::NORMAL);
        }
    }

    /// The lock is free and somebody waits: hands it on.
    #[cold]
    fn hand_on(&self) {
        let mut q = self.waiters.lock();
        if self.word.load(Ordering::Acquire) != WAITERS {
            // Readers let each other in meanwhile, or the last waiter gave up.
            return;
        }
        // SAFETY: as in `grant_readers`; `WAITERS` says that the list is not empty.
        match unsafe { q.front().as_ref() } {
            Some(n) if n.data.write => {
                // SAFETY: the front is on the list.
                unsafe { q.remove(n) };
                // With `WAITERS` alone in it nobody else changes the word.
                self.word.store(if q.is_empty() { WRITER } else { WRITER | WAITERS }, Ordering::Relaxed);
                n.data.granted.set(true);
                task::wake(&n.data.task, State::NORMAL);
            }
            _ => self.grant_readers(&mut q),
        }
    }
}

/// Shared access. The task that took it gives it back.
#[must_use]
pub struct RwSemReadGuard<'a, T: ?Sized> {
    lock: &'a RwSemaphore<T>,
    _not_send: PhantomData<*mut ()>,
}
/// Exclusive access. The task that took it gives it back.
#[must_use]
pub struct RwSemWriteGuard<'a, T: ?Sized> {
    lock: &'a RwSemaphore<T>,
    _not_send: PhantomData<*mut ()>,
}

impl<'a, T: ?Sized> RwSemWriteGuard<'a, T> {
    /// Goes on as a reader, letting in the readers that wait in front.
    pub fn downgrade(self) -> RwSemReadGuard<'a, T> {
        let lock = self.lock;
        core::mem::forget(self);
        if lock.word.compare_exchange(WRITER, 1, Ordering::Release, Ordering::Relaxed).is_err() {
            let mut q = lock.waiters.lock();
            // Exactly WRITER | WAITERS, as nobody else changes it; the last waiter may have given up before the lock was ours.
            lock.word.fetch_sub(WRITER - 1, Ordering::Release);
            lock.grant_readers(&mut q);
        }
        RwSemReadGuard { lock, _not_send: PhantomData }
    }
}

impl<T: ?Sized> Deref for RwSemReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: held for reading: no writer.
        unsafe { &*self.lock.value.get() }
    }
}
impl<T: ?Sized> Deref for RwSemWriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: held for writing: nobody else.
        unsafe { &*self.lock.value.get() }
    }
}
impl<T: ?Sized> DerefMut for RwSemWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: held for writing: nobody else.
        unsafe { &mut *self.lock.value.get() }
    }
}
impl<T: ?Sized> Drop for RwSemReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        lockdep::release(self.lock.class, self.lock.addr());
        if self.lock.word.fetch_sub(1, Ordering::Release) == WAITERS | 1 {
            self.lock.hand_on();
        }
    }
}
impl<T: ?Sized> Drop for RwSemWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        lockdep::release(self.lock.class, self.lock.addr());
        // Subtracting keeps `WAITERS`, which may come and go meanwhile.
        if self.lock.word.fetch_sub(WRITER, Ordering::Release) & WAITERS != 0 {
            self.lock.hand_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static C: LockClass = LockClass::new("test_rwsem");

    #[test]
    fn readers_share_writers_do_not() {
        let s = RwSemaphore::new(&C, 1);
        let (a, b) = (s.read(), s.try_read().unwrap());
        assert!(s.try_write().is_none());
        assert_eq!(*a + *b, 2);
        drop((a, b));
        let mut w = s.write();
        *w = 9;
        assert!(s.try_read().is_none() && s.is_write_locked());
        let r = w.downgrade();
        assert_eq!(*r, 9);
        assert_eq!(*s.try_read().unwrap(), 9);
        assert!(s.try_write().is_none());
        drop(r);
        assert!(s.write_killable().is_ok() && !s.is_locked());
    }
}
