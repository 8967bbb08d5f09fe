//! Wait queues: sleeping until a condition holds.
//!
//! # The protocol
//! ```text
//!   the waiter                         whoever makes it true
//!   enrol in the queue                 change the state
//!   announce the sleep (set_state)     wake_…(): full fence, then look for waiters
//!   condition? done                              wake those found
//!   schedule, and again
//! ```
//! Both sides store first and look second, with a full fence between, so at least one sees the other: no wake-up is
//! lost. A queue on which nobody waits costs its waker a fence and a load.
//!
//! # Exclusive waiters
//! Where one event is enough for one waiter, the waiters enrol exclusively. They stand behind the others, first come first
//! served; [`WaitQueue::wake_one`] wakes all that are not exclusive and the first exclusive one that sleeps or is about to.
//! An exclusive waiter that leaves, because of a signal or because its condition held already, passes on a wake-up that
//! chose it after it had announced its sleep: the event behind that one is not the one it leaves with.
//!
//! # Callbacks
//! A [`WaitEntry`] with a callback is how poll, epoll and io_uring listen to many queues. **The callback runs under the
//! queue's lock, with interrupts off**, possibly in an interrupt. It must be short, must not sleep, must not touch the same
//! queue, and whatever lock it takes must never be held around a wake-up of that queue.

use alloc::{boxed::Box, sync::Arc};

use super::{
    lockdep::{How, LockClass},
    queue::{Node, Queue},
    spin::{SpinLockIrq, SpinLockIrqGuard},
};
use crate::{
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
    context,
    task::{self, State, Task, Work},
};

/// A wait ended because the task has something more urgent to look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupted;

/// Whether work of the task ends a wait in this state.
pub(super) fn interrupted(state: State, work: Work) -> bool {
    if state.contains(State::INTERRUPTIBLE) {
        !work.is_empty()
    } else {
        state.contains(State::WAKEKILL) && work.contains(Work::KILL)
    }
}

/// Panics where the caller really has to sleep and cannot.
#[track_caller]
pub(super) fn must_be_able_to_sleep() {
    assert!(!without_tasks(), "this would have to sleep, but no scheduler runs here");
}

/// True where the caller cannot sleep since there is no scheduler yet.
pub(super) fn without_tasks() -> bool {
    !task::scheduling() || !task::has_current()
}

/// Waits there. On a machine there is one flow of control then, so what it waits for never happens. In a program for the host there may
/// be other threads: tests that run side by side.
#[track_caller]
pub(super) fn wait_without_tasks(mut done: impl FnMut() -> bool) {
    const TURNS: u32 = if cfg!(target_os = "none") { 0 } else { 1 << 20 };
    let mut left = TURNS;
    while left > 0 {
        if done() {
            return;
        }
        crate::arch::relax();
        left -= 1;
    }
    must_be_able_to_sleep();
}

/// The wait loop without a queue: for a caller that has enrolled by other means (several [`WaitEntry`]s, a timer).
#[track_caller]
pub fn sleep_until<R>(state: State, mut cond: impl FnMut() -> Option<R>) -> Result<R, Interrupted> {
    if let Some(r) = cond() {
        return Ok(r);
    }
    context::might_sleep();
    must_be_able_to_sleep();
    let me = task::current();
    loop {
        me.set_state(state);
        if let Some(r) = cond() {
            me.set_running();
            return Ok(r);
        }
        if interrupted(state, me.work()) {
            me.set_running();
            return Err(Interrupted);
        }
        task::schedule();
    }
}

enum Who {
    Task(Arc<Task>),
    Callback(Box<dyn Fn(u32) + Send + Sync>),
}

struct Waiter {
    who: Who,
    exclusive: bool,
    /// The node is the head of a `WaitEntry` of which the queue owns one reference.
    counted: bool,
    /// A waker has chosen it since it last announced its sleep. Set under the queue's lock.
    woken: AtomicBool,
}

/// A place in a queue that is not tied to a function's stack: how one task listens to many queues, or a callback to one.
/// It stands in one queue at a time.
#[repr(C)]
pub struct WaitEntry {
    /// First, so that a pointer to it is a pointer to the entry.
    node: Node<Waiter>,
    /// Which queue it stands in, by the queue's number; 0: none. Changed under that queue's lock.
    owner: AtomicU64,
    triggered: AtomicBool,
}

// SAFETY: the node's cells are touched only under the lock of the queue that `owner` names; the rest is `Sync`.
unsafe impl Sync for WaitEntry {}
// SAFETY: as above; callbacks and tasks are `Send`.
unsafe impl Send for WaitEntry {}

impl WaitEntry {
    fn with(who: Who) -> Arc<Self> {
        Arc::new(Self {
            node: Node::new(Waiter { who, exclusive: false, counted: true, woken: AtomicBool::new(false) }),
            owner: AtomicU64::new(0),
            triggered: AtomicBool::new(false),
        })
    }
    /// Wakes `task`.
    pub fn new_task(task: Arc<Task>) -> Arc<Self> {
        Self::with(Who::Task(task))
    }
    /// Runs `f` with the waker's key. See the module on what it may do.
    pub fn new_callback(f: Box<dyn Fn(u32) + Send + Sync>) -> Arc<Self> {
        Self::with(Who::Callback(f))
    }
    /// Does what a waker would do, without a queue.
    pub fn wake_key(&self, key: u32) {
        self.triggered.store(true, Ordering::Release);
        self.node.data.fire(key);
    }
    /// True if it was woken since the last call.
    pub fn take_triggered(&self) -> bool {
        self.triggered.swap(false, Ordering::AcqRel)
    }
    /// True while it stands in some queue.
    pub fn is_enrolled(&self) -> bool {
        self.owner.load(Ordering::Acquire) != 0
    }
}

impl Waiter {
    fn fire(&self, key: u32) -> bool {
        match &self.who {
            Who::Task(t) => task::wake(t, State::NORMAL),
            Who::Callback(f) => {
                f(key);
                true
            }
        }
    }
}

static DEFAULT_CLASS: LockClass = LockClass::new("wait_queue");
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Those who wait for something.
pub struct WaitQueue {
    /// Its number, given when the first entry comes: entries name their queue by it, since a queue may be moved.
    id: AtomicU64,
    /// How many stand in it; changed under the lock, read by wakers without.
    len: AtomicU32,
    queue: SpinLockIrq<Queue<Waiter>>,
    how: How,
}

// SAFETY: the waiters' cells are touched only under the lock.
unsafe impl Sync for WaitQueue {}
// SAFETY: as above.
unsafe impl Send for WaitQueue {}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitQueue {
    pub const fn new() -> Self {
        // Queues of the common class may wake one another from callbacks: their order among themselves is not checked.
        Self {
            id: AtomicU64::new(0),
            len: AtomicU32::new(0),
            queue: SpinLockIrq::new(&DEFAULT_CLASS, Queue::new()),
            how: How::Nested,
        }
    }
    /// A queue whose lock has a class of its own; for those woken from other queues' callbacks (epoll).
    pub const fn with_class(class: &'static LockClass) -> Self {
        Self {
            id: AtomicU64::new(0),
            len: AtomicU32::new(0),
            queue: SpinLockIrq::new(class, Queue::new()),
            how: How::Block,
        }
    }

    #[inline]
    fn lock(&self) -> SpinLockIrqGuard<'_, Queue<Waiter>> {
        self.queue.lock_how(self.how)
    }

    /// Waits, whatever comes, until `cond` gives a value.
    #[inline]
    #[track_caller]
    pub fn wait<R>(&self, cond: impl FnMut() -> Option<R>) -> R {
        match self.wait_as(State::UNINTERRUPTIBLE, cond) {
            Ok(r) => r,
            Err(Interrupted) => unreachable!("nothing ends an uninterruptible wait"),
        }
    }
    /// Like [`WaitQueue::wait`], but does not count as load: for kernel threads that wait for work.
    #[inline]
    #[track_caller]
    pub fn wait_idle<R>(&self, cond: impl FnMut() -> Option<R>) -> R {
        match self.wait_as(State::IDLE, cond) {
            Ok(r) => r,
            Err(Interrupted) => unreachable!("nothing ends an idle wait"),
        }
    }
    /// Ends early when the task has any [`Work`].
    #[inline]
    #[track_caller]
    pub fn wait_interruptible<R>(&self, cond: impl FnMut() -> Option<R>) -> Result<R, Interrupted> {
        self.wait_as(State::INTERRUPTIBLE, cond)
    }
    /// Ends early when the task is being killed.
    #[inline]
    #[track_caller]
    pub fn wait_killable<R>(&self, cond: impl FnMut() -> Option<R>) -> Result<R, Interrupted> {
        self.wait_as(State::KILLABLE, cond)
    }
    /// Waits in any state. `cond` is called without locks, several times, in the waiter's own context; should it sleep
    /// itself, the loop turns once more.
    #[inline]
    #[track_caller]
    pub fn wait_as<R>(&self, state: State, mut cond: impl FnMut() -> Option<R>) -> Result<R, Interrupted> {
        if let Some(r) = cond() {
            return Ok(r);
        }
        self.wait_slow(state, false, cond)
    }

    /// Exclusive and uninterruptible: [`WaitQueue::wake_one`] wakes only one of these.
    #[inline]
    #[track_caller]
    pub fn wait_exclusive<R>(&self, cond: impl FnMut() -> Option<R>) -> R {
        match self.wait_exclusive_as(State::UNINTERRUPTIBLE, cond) {
            Ok(r) => r,
            Err(Interrupted) => unreachable!("nothing ends an uninterruptible wait"),
        }
    }
    #[inline]
    #[track_caller]
    pub fn wait_exclusive_interruptible<R>(&self, cond: impl FnMut() -> Option<R>) -> Result<R, Interrupted> {
        self.wait_exclusive_as(State::INTERRUPTIBLE, cond)
    }
    #[inline]
    #[track_caller]
    pub fn wait_exclusive_killable<R>(&self, cond: impl FnMut() -> Option<R>) -> Result<R, Interrupted> {
        self.wait_exclusive_as(State::KILLABLE, cond)
    }
    /// Exclusive, in any state.
    #[inline]
    #[track_caller]
    pub fn wait_exclusive_as<R>(
        &self,
        state: State,
        mut cond: impl FnMut() -> Option<R>,
    ) -> Result<R, Interrupted> {
        if let Some(r) = cond() {
            return Ok(r);
        }
        self.wait_slow(state, true, cond)
    }

    #[track_caller]
    fn wait_slow<R>(
        &self,
        state: State,
        exclusive: bool,
        mut cond: impl FnMut() -> Option<R>,
    ) -> Result<R, Interrupted> {
        /// The node is on the queue exactly as long as this lives, a panicking condition included.
        struct Enrolled<'a> {
            wq: &'a WaitQueue,
            node: &'a Node<Waiter>,
        }
        impl Enrolled<'_> {
            /// Takes the node off; true if a waker had chosen it.
            fn leave(self) -> bool {
                let woken = self.off();
                core::mem::forget(self);
                woken
            }
            fn off(&self) -> bool {
                let mut q = self.wq.lock();
                // SAFETY: pushed when `self` was made.
                unsafe { q.remove(self.node) };
                self.wq.len.fetch_sub(1, Ordering::Relaxed);
                self.node.data.woken.load(Ordering::Relaxed)
            }
        }
        impl Drop for Enrolled<'_> {
            fn drop(&mut self) {
                self.off();
                task::current().set_running();
            }
        }

        context::might_sleep();
        must_be_able_to_sleep();
        let me = task::current();
        let node = Node::new(Waiter {
            who: Who::Task(me.arc()),
            exclusive,
            counted: false,
            woken: AtomicBool::new(false),
        });
        {
            let mut q = self.lock();
            // SAFETY: `Enrolled` takes it off before this frame ends.
            unsafe { if exclusive { q.push_back(&node) } else { q.push_front(&node) } };
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        let enrolled = Enrolled { wq: self, node: &node };
        loop {
            // A wake-up up to here is answered by the look that follows.
            node.data.woken.store(false, Ordering::Relaxed);
            me.set_state(state);
            if let Some(r) = cond() {
                me.set_running();
                if enrolled.leave() && exclusive {
                    // Chosen after (or while) the condition was met: that wake-up may be for another event.
                    self.wake_one();
                }
                return Ok(r);
            }
            if interrupted(state, me.work()) {
                me.set_running();
                if enrolled.leave() && exclusive {
                    // The wake-up that chose this waiter was meant for a condition that may hold by now: use it or pass it on.
                    if let Some(r) = cond() {
                        return Ok(r);
                    }
                    self.wake_one();
                }
                return Err(Interrupted);
            }
            task::schedule();
        }
    }

    /// Wakes those who are not exclusive, and one who is. Returns how many. From any context but an NMI.
    #[inline]
    pub fn wake_one(&self) -> usize {
        self.wake(1, 0)
    }
    /// Wakes those who are not exclusive, and up to `n` who are.
    #[inline]
    pub fn wake_up(&self, n: usize) -> usize {
        self.wake(n, 0)
    }
    /// Wakes everyone.
    #[inline]
    pub fn wake_all(&self) -> usize {
        self.wake(usize::MAX, 0)
    }
    /// Wakes everyone, telling callbacks which poll bits came up.
    #[inline]
    pub fn wake_all_key(&self, key: u32) -> usize {
        self.wake(usize::MAX, key)
    }
    /// [`WaitQueue::wake_one`] with poll bits.
    #[inline]
    pub fn wake_one_key(&self, key: u32) -> usize {
        self.wake(1, key)
    }

    #[inline]
    fn wake(&self, exclusive: usize, key: u32) -> usize {
        // Whatever the caller changed comes before the look at the queue.
        fence(Ordering::SeqCst);
        if self.len.load(Ordering::Relaxed) == 0 || exclusive == 0 {
            0
        } else {
            self.wake_slow(exclusive, key)
        }
    }

    fn wake_slow(&self, mut exclusive: usize, key: u32) -> usize {
        // Entries whose owner forgot them are let go here, but not under the lock: their callbacks may own anything.
        let mut forgotten = Queue::new();
        let mut count = 0;
        {
            let mut q = self.lock();
            let mut at = q.front();
            // SAFETY: nodes on the queue are alive while its lock is held.
            while let Some(n) = unsafe { at.as_ref() } {
                // SAFETY: `at` is on the queue.
                let next = unsafe { q.next(at) };
                if n.data.counted {
                    let e = at.cast::<WaitEntry>();
                    // SAFETY: a counted node is the head of an entry of which the queue owns a reference.
                    let (entry, refs) = unsafe { (&*e, refs_of(e)) };
                    if refs == 1 {
                        // SAFETY: it is on this queue, and moves to the local one.
                        unsafe {
                            q.remove(at);
                            forgotten.push_back(at);
                        }
                        self.len.fetch_sub(1, Ordering::Relaxed);
                        entry.owner.store(0, Ordering::Release);
                        at = next;
                        continue;
                    }
                    entry.triggered.store(true, Ordering::Release);
                }
                if n.data.fire(key) {
                    // Marked afterwards: a mark too many, if the waiter has turned round meanwhile, costs a look; one that it took
                    // back before this wake-up reached it would be lost.
                    n.data.woken.store(true, Ordering::Relaxed);
                    count += 1;
                    if n.data.exclusive {
                        exclusive -= 1;
                        if exclusive == 0 {
                            break;
                        }
                    }
                }
                at = next;
            }
        }
        release_all(forgotten);
        count
    }

    /// Enters `entry`, which keeps a reference to it until it is removed. Does nothing if it stands here already.
    /// The caller looks at its condition afterwards. An entry whose other references are all gone is let go at the next
    /// wake-up.
    ///
    /// # Panics
    /// If it stands in another queue.
    pub fn add(&self, entry: &Arc<WaitEntry>) {
        {
            let mut q = self.lock();
            let mut id = self.id.load(Ordering::Relaxed);
            if id == 0 {
                id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
                self.id.store(id, Ordering::Relaxed);
            }
            match entry.owner.compare_exchange(0, id, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    let n = Arc::into_raw(entry.clone()).cast::<Node<Waiter>>();
                    // SAFETY: `owner` was 0, so it is on no queue; the reference keeps it alive until it is taken off.
                    unsafe { q.push_front(n) };
                    self.len.fetch_add(1, Ordering::Relaxed);
                }
                Err(other) => assert!(other == id, "a wait entry was added to a second queue"),
            }
        }
        // The entry is visible before the caller looks at its condition.
        fence(Ordering::SeqCst);
    }

    /// Takes `entry` out. False if it does not stand here.
    pub fn remove(&self, entry: &Arc<WaitEntry>) -> bool {
        let mut q = self.lock();
        let id = self.id.load(Ordering::Relaxed);
        if id == 0 || entry.owner.load(Ordering::Acquire) != id {
            return false;
        }
        let n = Arc::as_ptr(entry).cast::<Node<Waiter>>();
        // SAFETY: `owner` says that it is on this queue, whose lock is held.
        unsafe { q.remove(n) };
        self.len.fetch_sub(1, Ordering::Relaxed);
        entry.owner.store(0, Ordering::Release);
        drop(q);
        // SAFETY: the reference that `add` gave to the queue. `entry` is another one, so nothing is dropped for good here.
        unsafe { Arc::decrement_strong_count(n.cast::<WaitEntry>()) };
        true
    }

    /// True if nobody waits. A hint, unless the caller's own protocol orders it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }
}

/// How many references there are to an entry.
///
/// # Safety
/// `e` came from `Arc::into_raw` and is alive.
unsafe fn refs_of(e: *const WaitEntry) -> usize {
    // SAFETY: by contract; `ManuallyDrop` leaves the count alone.
    Arc::strong_count(&core::mem::ManuallyDrop::new(unsafe { Arc::from_raw(e) }))
}

/// Drops the queue's references of a private list of counted nodes.
fn release_all(mut q: Queue<Waiter>) {
    while !q.is_empty() {
        let n = q.front();
        // SAFETY: each node on such a list is the head of an entry with a reference that came from `Arc::into_raw`.
        unsafe {
            q.remove(n);
            drop(Arc::from_raw(n.cast::<WaitEntry>()));
        }
    }
}

impl Drop for WaitQueue {
    fn drop(&mut self) {
        // Waiting functions borrow the queue, so only entries can be left.
        let q = core::mem::replace(self.queue.get_mut(), Queue::new());
        let mut at = q.front();
        // SAFETY: nodes on the queue are alive and counted.
        while let Some(n) = unsafe { at.cast::<WaitEntry>().as_ref() } {
            n.owner.store(0, Ordering::Release);
            // SAFETY: `at` is on the queue.
            at = unsafe { q.next(at) };
        }
        release_all(q);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter() -> (Arc<AtomicU32>, Arc<WaitEntry>) {
        let n = Arc::new(AtomicU32::new(0));
        let c = n.clone();
        let e = WaitEntry::new_callback(Box::new(move |key| {
            c.fetch_add(key, Ordering::Relaxed);
        }));
        (n, e)
    }

    #[test]
    fn a_true_condition_needs_no_scheduler() {
        let wq = WaitQueue::new();
        assert_eq!(wq.wait(|| Some(3)), 3);
        assert_eq!(wq.wait_exclusive_interruptible(|| Some(4)), Ok(4));
    }

    #[test]
    #[should_panic(expected = "no scheduler")]
    fn a_false_one_does() {
        WaitQueue::new().wait(|| None::<()>);
    }

    #[test]
    fn callbacks_get_the_key_until_removed() {
        let wq = WaitQueue::new();
        let (n, e) = counter();
        wq.add(&e);
        wq.add(&e);
        assert_eq!(wq.wake_all_key(5), 1);
        assert!(e.take_triggered());
        assert!(wq.remove(&e) && !wq.remove(&e));
        assert!(wq.is_empty() && !e.is_enrolled());
        wq.wake_all_key(5);
        assert_eq!(n.load(Ordering::Relaxed), 5);
        assert!(!WaitQueue::new().remove(&e));
    }

    #[test]
    fn a_moved_queue_keeps_its_entries() {
        let (n, e) = counter();
        let wq = WaitQueue::new();
        wq.add(&e);
        let moved = Box::new(wq);
        moved.wake_all_key(1);
        assert!(moved.remove(&e));
        assert_eq!(n.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn forgotten_entries_go_at_the_next_wake_up() {
        let wq = WaitQueue::new();
        let (n, e) = counter();
        let (m, f) = counter();
        wq.add(&e);
        wq.add(&f);
        drop(e);
        assert_eq!(wq.wake_all_key(1), 1);
        assert_eq!((n.load(Ordering::Relaxed), m.load(Ordering::Relaxed)), (0, 1));
        assert_eq!(Arc::strong_count(&n), 1, "its callback is dropped");
        drop(wq);
        assert!(!f.is_enrolled());
        assert_eq!(Arc::strong_count(&f), 1);
    }

    #[test]
    #[should_panic(expected = "second queue")]
    fn one_queue_at_a_time() {
        let (a, b) = (WaitQueue::new(), WaitQueue::new());
        let (_, e) = counter();
        a.add(&e);
        b.add(&e);
    }
}
