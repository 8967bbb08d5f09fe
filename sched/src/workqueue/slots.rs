//! How many items of an unbound queue are active, all its places together; and the places that wait for one of theirs to be.
//!
//! A place takes a slot for each item that it starts. One that finds none has a place in the line, and when an item ends, the slot goes
//! to the first of the line: so no pod's items wait for ever behind those of another. A place is in the line if it has items that wait,
//! or somebody is just about to serve it. The lock comes after those of pools and places.

use alloc::sync::Arc;

use frame::{
    containers::List,
    sync::{LockClass, SpinLockIrq},
};

use super::pwq::{InLine, Pwq};

static CLASS: LockClass = LockClass::new("wq_slots");

struct Line {
    taken: u32,
    waiting: List<Pwq, InLine>,
}

pub(super) struct Slots(SpinLockIrq<Line>);

impl Slots {
    pub(super) const fn new() -> Slots {
        Slots(SpinLockIrq::new(&CLASS, Line { taken: 0, waiting: List::new() }))
    }
    /// Takes a slot for the place; without one it is put at the end of the line.
    pub(super) fn take_or_wait(&self, p: &Arc<Pwq>, limit: u32) -> bool {
        self.take(limit, |line| line.push_back(p.clone()))
    }
    /// Takes a slot for a place that was taken out of the line; without one it is put back at its beginning.
    pub(super) fn take_or_stay(&self, p: &Arc<Pwq>, limit: u32) -> bool {
        self.take(limit, |line| line.push_front(p.clone()))
    }
    fn take(&self, limit: u32, or: impl FnOnce(&mut List<Pwq, InLine>) -> bool) -> bool {
        let mut l = self.0.lock();
        let has_room = l.taken < limit;
        if has_room {
            l.taken += 1;
        } else {
            or(&mut l.waiting);
        }
        has_room
    }
    /// More of the place wait.
    pub(super) fn wait(&self, p: &Arc<Pwq>) {
        self.0.lock().waiting.push_back(p.clone());
    }
    pub(super) fn give_back(&self) {
        self.0.lock().taken -= 1;
    }
    /// Takes the first out of the line if there is a slot for it. The caller serves it.
    pub(super) fn next(&self, limit: u32) -> Option<Arc<Pwq>> {
        let mut l = self.0.lock();
        if l.taken < limit { l.waiting.pop_front() } else { None }
    }
    /// Nothing of the place waits, and nothing ever will.
    pub(super) fn leave(&self, p: &Arc<Pwq>) {
        self.0.lock().waiting.remove(p);
    }
}
