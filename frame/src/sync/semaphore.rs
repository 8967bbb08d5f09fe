//! Counting: permits to take and give back ([`Semaphore`]), and events to wait for ([`Completion`]).

use super::{Interrupted, WaitQueue};
use crate::atomic::{AtomicU32, Ordering};

/// Takes one from a counter that is not zero. `u32::MAX` stands for "without end" and stays.
fn take(n: &AtomicU32) -> Option<()> {
    let mut v = n.load(Ordering::Relaxed);
    loop {
        match v {
            0 => return None,
            u32::MAX => {
                // Pairs with the release of whoever set it.
                n.load(Ordering::Acquire);
                return Some(());
            }
            _ => match n.compare_exchange_weak(v, v - 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(()),
                Err(now) => v = now,
            },
        }
    }
}

/// Adds one, below "without end".
fn give(n: &AtomicU32) {
    let mut v = n.load(Ordering::Relaxed);
    while v < u32::MAX - 1 {
        match n.compare_exchange_weak(v, v + 1, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => v = now,
        }
    }
}

/// A number of permits.
pub struct Semaphore {
    count: AtomicU32,
    queue: WaitQueue,
}

impl Semaphore {
    /// Starts with `n` permits, below `u32::MAX`.
    pub const fn new(n: u32) -> Self {
        assert!(n < u32::MAX);
        Self { count: AtomicU32::new(n), queue: WaitQueue::new() }
    }
    /// Takes a permit.
    #[track_caller]
    pub fn down(&self) {
        self.queue.wait_exclusive(|| take(&self.count));
    }
    #[track_caller]
    pub fn down_interruptible(&self) -> Result<(), Interrupted> {
        self.queue.wait_exclusive_interruptible(|| take(&self.count))
    }
    #[track_caller]
    pub fn down_killable(&self) -> Result<(), Interrupted> {
        self.queue.wait_exclusive_killable(|| take(&self.count))
    }
    pub fn try_down(&self) -> bool {
        take(&self.count).is_some()
    }
    /// Gives a permit back. From any context but an NMI.
    pub fn up(&self) {
        give(&self.count);
        self.queue.wake_one();
    }
    /// The permits left. A hint.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Something that happens, once or several times, and that others wait for.
pub struct Completion {
    done: AtomicU32,
    queue: WaitQueue,
}

impl Default for Completion {
    fn default() -> Self {
        Self::new()
    }
}

impl Completion {
    pub const fn new() -> Self {
        Self { done: AtomicU32::new(0), queue: WaitQueue::new() }
    }
    /// It happened: one waiter, now or later, goes on. From any context but an NMI.
    pub fn complete(&self) {
        give(&self.done);
        self.queue.wake_one();
    }
    /// It happened for all, until [`Completion::reinit`].
    pub fn complete_all(&self) {
        self.done.store(u32::MAX, Ordering::Release);
        self.queue.wake_all();
    }
    #[track_caller]
    pub fn wait(&self) {
        self.queue.wait_exclusive(|| take(&self.done));
    }
    #[track_caller]
    pub fn wait_interruptible(&self) -> Result<(), Interrupted> {
        self.queue.wait_exclusive_interruptible(|| take(&self.done))
    }
    #[track_caller]
    pub fn wait_killable(&self) -> Result<(), Interrupted> {
        self.queue.wait_exclusive_killable(|| take(&self.done))
    }
    /// Takes one event if there is one.
    pub fn try_wait(&self) -> bool {
        take(&self.done).is_some()
    }
    /// True if a wait would return at once.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire) != 0
    }
    /// Forgets what happened. Nobody may be waiting.
    pub fn reinit(&self) {
        self.done.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_counted() {
        let s = Semaphore::new(1);
        s.down();
        assert!(!s.try_down());
        s.up();
        assert_eq!(s.down_killable(), Ok(()));
        assert_eq!(s.count(), 0);
    }

    #[test]
    fn completions_count_until_for_all() {
        let c = Completion::new();
        c.complete();
        c.complete();
        c.wait();
        assert!(c.try_wait() && !c.try_wait());
        c.complete_all();
        c.wait();
        c.complete();
        assert!(c.try_wait() && c.is_done());
        c.reinit();
        assert!(!c.try_wait());
    }
}
