//! Waiting for files to become ready.
//!
//! A file's `poll` says what is ready and, given a [`PollTable`], first registers on the queues that will announce changes. Who
//! waits asks once without a table; only if nothing is ready does it ask again with one, and sleeps. Registrations end with
//! the table.
//!
//! A queue that can be polled is shared ([`PollQueue`]): the table keeps it alive as long as it stands in it.

use alloc::{sync::Arc, vec::Vec};

use bitflags::bitflags;
use frame::{
    sync::{WaitEntry, WaitQueue},
    task,
};
use linux_raw_sys::general as raw;

bitflags! {
    /// Readiness, in the bits of poll(2) and epoll.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct PollFlags: u32 {
        const IN = raw::POLLIN;
        const PRI = raw::POLLPRI;
        const OUT = raw::POLLOUT;
        const ERR = raw::POLLERR;
        const HUP = raw::POLLHUP;
        const NVAL = raw::POLLNVAL;
        const RDNORM = raw::POLLRDNORM;
        const RDBAND = raw::POLLRDBAND;
        const WRNORM = raw::POLLWRNORM;
        const WRBAND = raw::POLLWRBAND;
        const RDHUP = raw::POLLRDHUP;
    }
}

impl PollFlags {
    /// What a file without an opinion is: readable and writable.
    pub const DEFAULT: PollFlags =
        PollFlags::IN.union(PollFlags::OUT).union(PollFlags::RDNORM).union(PollFlags::WRNORM);
    pub const READABLE: PollFlags = PollFlags::IN.union(PollFlags::RDNORM);
    pub const WRITABLE: PollFlags = PollFlags::OUT.union(PollFlags::WRNORM);
}

/// A queue that can be polled.
pub type PollQueue = Arc<WaitQueue>;

enum Queue {
    Shared(PollQueue),
    Static(&'static WaitQueue),
}

/// Makes the entries that are put on queues.
enum Maker {
    /// They wake the task that polls.
    Task(Arc<task::Task>),
    /// They call back (epoll).
    Callback(Arc<dyn Fn() -> Arc<WaitEntry> + Send + Sync>),
}

/// The registrations of one waiter.
pub struct PollTable {
    maker: Maker,
    entries: Vec<(Queue, Arc<WaitEntry>)>,
    out_of_memory: bool,
}

impl PollTable {
    /// Entries that wake the current task.
    pub fn for_current() -> PollTable {
        Self::with(Maker::Task(task::current().arc()))
    }
    /// Entries made by `f`.
    pub fn with_callbacks(f: Arc<dyn Fn() -> Arc<WaitEntry> + Send + Sync>) -> PollTable {
        Self::with(Maker::Callback(f))
    }
    fn with(maker: Maker) -> PollTable {
        PollTable { maker, entries: Vec::new(), out_of_memory: false }
    }
    /// Registers on a shared queue.
    pub fn register(&mut self, q: &PollQueue) {
        self.add(Queue::Shared(q.clone()));
    }
    /// Registers on a queue that lives for ever.
    pub fn register_static(&mut self, q: &'static WaitQueue) {
        self.add(Queue::Static(q));
    }
    fn add(&mut self, q: Queue) {
        if self.entries.try_reserve(1).is_err() {
            self.out_of_memory = true;
            return;
        }
        let e = match &self.maker {
            Maker::Task(t) => WaitEntry::new_task(t.clone()),
            Maker::Callback(f) => f(),
        };
        q.get().add(&e);
        self.entries.push((q, e));
    }
    /// A registration failed: the waiter must not sleep.
    pub fn is_out_of_memory(&self) -> bool {
        self.out_of_memory
    }
    /// True if any queue announced something since the last call.
    pub fn take_triggered(&self) -> bool {
        // All flags are taken back, or a second event would end the next sleep for nothing.
        self.entries.iter().fold(false, |any, (_, e)| e.take_triggered() | any)
    }
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Queue {
    fn get(&self) -> &WaitQueue {
        match self {
            Queue::Shared(q) => q,
            Queue::Static(q) => q,
        }
    }
}

impl Drop for PollTable {
    fn drop(&mut self) {
        for (q, e) in self.entries.drain(..) {
            q.get().remove(&e);
        }
    }
}
