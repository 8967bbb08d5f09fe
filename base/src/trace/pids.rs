//! `set_event_pid`: only the events of these tasks are recorded.
//!
//! As on Linux a switch is recorded if either side is in the set, and a wake-up if either the waker or the one woken is.

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

static ON: AtomicBool = AtomicBool::new(false);
static CLASS: LockClass = LockClass::new("trace_pids");
/// Held while the set is changed.
static CHANGE: Mutex<()> = Mutex::new(&CLASS, ());
static PIDS: Rcu<Option<Arc<Vec<u32>>>> = Rcu::none();

#[inline]
pub(super) fn is_filtering() -> bool {
    ON.load(Ordering::Relaxed)
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
    let Some(set) = PIDS.load(&section) else { return true };
    let has = |p| set.binary_search(&p).is_ok();
    has(pid) || other(event, record).is_some_and(has)
}

/// The set, sorted; `None` where all tasks are recorded.
pub fn get() -> Option<Arc<Vec<u32>>> {
    PIDS.get()
}
/// Adds to the set. ENOMEM.
pub fn add(more: &[u32]) -> Result<()> {
    let _one = CHANGE.lock();
    let mut v = Vec::new();
    let old = PIDS.get();
    let old = old.as_deref().map_or(&[][..], |p| &p[..]);
    v.try_reserve(old.len() + more.len())?;
    v.extend(old);
    v.extend(more);
    v.sort_unstable();
    v.dedup();
    PIDS.replace(Some(frame::heap::try_arc(v).ok_or(Errno::ENOMEM)?));
    ON.store(true, Ordering::Relaxed);
    Ok(())
}
/// Records all tasks again.
pub fn clear() {
    let _one = CHANGE.lock();
    ON.store(false, Ordering::Relaxed);
    PIDS.replace(None);
}
