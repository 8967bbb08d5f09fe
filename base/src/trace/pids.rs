//! `set_event_pid` and `set_event_notrace_pid`: only the events of these tasks are recorded, or none of them.
//!
//! As on Linux a switch is recorded if either side is, and a wake-up if either the waker or the one woken is.

use alloc::{sync::Arc, vec::Vec};

use frame::{
    atomic::{AtomicBool, Ordering},
    sync::{
        LockClass, Mutex,
        rcu::{self, Rcu},
    },
};

use super::{Event, Field, field};
use crate::{Errno, Result};

static CLASS: LockClass = LockClass::new("trace_pids");
/// Held while a set is changed.
static CHANGE: Mutex<()> = Mutex::new(&CLASS, ());

/// A set of tasks, by number.
pub struct PidSet {
    on: AtomicBool,
    pids: Rcu<Option<Arc<Vec<u32>>>>,
}

/// Nothing is recorded but of these.
pub static ONLY: PidSet = PidSet::new();
/// Nothing is recorded of these.
pub static NOT: PidSet = PidSet::new();

#[inline]
pub(super) fn is_filtering() -> bool {
    ONLY.on.load(Ordering::Relaxed) || NOT.on.load(Ordering::Relaxed)
}

/// The other task that a scheduler event is about.
fn other(event: &Event, record: &[u8]) -> Option<u32> {
    let name = match event.name() {
        "sched_switch" => "next_pid",
        "sched_waking" | "sched_wakeup" | "sched_wakeup_new" => "pid",
        _ => return None,
    };
    let i = event.fields().iter().position(|f| f.name == name)?;
    Some(u32::get(record, field::offset(event.fields(), i)))
}

pub(super) fn accepts(event: &Event, record: &[u8], pid: u32) -> bool {
    let section = rcu::read();
    let (only, not) = (ONLY.pids.load(&section), NOT.pids.load(&section));
    let is_in = |set: &[u32], p| set.binary_search(&p).is_ok();
    let wanted = |p| only.is_none_or(|s| is_in(s, p)) && !not.is_some_and(|s| is_in(s, p));
    wanted(pid) || other(event, record).is_some_and(wanted)
}

impl PidSet {
    const fn new() -> PidSet {
        PidSet { on: AtomicBool::new(false), pids: Rcu::none() }
    }
    /// The set, sorted; `None` where it says nothing.
    pub fn get(&self) -> Option<Arc<Vec<u32>>> {
        self.pids.get()
    }
    /// Adds to the set. ENOMEM.
    pub fn add(&self, more: &[u32]) -> Result<()> {
        let _one = CHANGE.lock();
        let mut v = Vec::new();
        let old = self.pids.get();
        let old = old.as_deref().map_or(&[][..], |p| &p[..]);
        v.try_reserve(old.len() + more.len())?;
        v.extend(old);
        v.extend(more);
        v.sort_unstable();
        v.dedup();
        self.pids.replace(Some(frame::heap::try_arc(v).ok_or(Errno::ENOMEM)?));
        self.on.store(true, Ordering::Relaxed);
        Ok(())
    }
    /// Records as if there were no set.
    pub fn clear(&self) {
        let _one = CHANGE.lock();
        self.on.store(false, Ordering::Relaxed);
        self.pids.replace(None);
    }
}
