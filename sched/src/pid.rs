//! Task numbers.
//!
//! A number is reserved first, then attached to its task, and stays taken until it is released: a process does that
//! when its zombie is reaped, a kernel thread when it ends. Numbers are handed out in a circle, so that one is not
//! used again soon after it was let go; below 300 only on the first round (Linux's `RESERVED_PIDS`).
//!
//! 0 is every processor's idle task and is not in the table; 1 is init, 2 kthreadd.

use alloc::{collections::BTreeMap, vec::Vec};

use base::{Errno, Result};
use frame::{
    atomic::{AtomicU32, Ordering},
    sync::{LockClass, SpinLockIrq},
    task::Task,
};

use crate::thread::{Ext, TaskRef, thread};

/// Linux's default `kernel.pid_max` up to 32 processors: numbers are below it.
pub const PID_MAX_DEFAULT: u32 = 32768;
/// The highest `pid_max` on 64-bit machines.
pub const PID_MAX_LIMIT: u32 = 4 << 20;
const RESERVED: u32 = 300;
pub const INIT: u32 = 1;
pub const KTHREADD: u32 = 2;

struct Table {
    /// `None`: reserved, or its task is gone from the table.
    map: BTreeMap<u32, Option<TaskRef>>,
    last: u32,
}

static CLASS: LockClass = LockClass::new("pid_table");
static TABLE: SpinLockIrq<Table> = SpinLockIrq::new(&CLASS, Table { map: BTreeMap::new(), last: 0 });
static PID_MAX: AtomicU32 = AtomicU32::new(PID_MAX_DEFAULT);

/// A number that is taken and has no task yet. Dropped, it is free again.
#[derive(Debug)]
#[must_use]
pub struct PidReservation {
    pid: u32,
}

impl PidReservation {
    pub fn number(&self) -> u32 {
        self.pid
    }
    /// Makes [`find`] find the task.
    pub(crate) fn attach(self, t: &TaskRef) {
        TABLE.lock().map.insert(self.pid, Some(t.clone()));
        core::mem::forget(self);
    }
}

impl Drop for PidReservation {
    fn drop(&mut self) {
        TABLE.lock().map.remove(&self.pid);
    }
}

/// Takes the next free number. EAGAIN if there is none.
pub fn reserve() -> Result<PidReservation> {
    let max = PID_MAX.load(Ordering::Relaxed);
    let mut t = TABLE.lock();
    let pid = next_free(&t.map, t.last, max).ok_or(Errno::EAGAIN)?;
    t.last = pid;
    t.map.insert(pid, None);
    Ok(PidReservation { pid })
}

/// Takes this very number. EEXIST if it is taken, EINVAL if it cannot be.
pub fn reserve_exactly(pid: u32) -> Result<PidReservation> {
    if pid == 0 || pid >= PID_MAX.load(Ordering::Relaxed) {
        return Err(Errno::EINVAL);
    }
    let mut t = TABLE.lock();
    if t.map.contains_key(&pid) {
        return Err(Errno::EEXIST);
    }
    t.map.insert(pid, None);
    t.last = t.last.max(pid.min(RESERVED));
    Ok(PidReservation { pid })
}

/// First number after `last` that is not in the map, going round once.
fn next_free<T>(map: &BTreeMap<u32, T>, last: u32, max: u32) -> Option<u32> {
    let gap = |from: u32, to: u32| {
        let mut want = from;
        for (&k, _) in map.range(from..to.max(from)) {
            if k != want {
                break;
            }
            want += 1;
        }
        (want < to).then_some(want)
    };
    gap(last + 1, max).or_else(|| gap(RESERVED.min(max), max)).or_else(|| gap(1, RESERVED.min(max)))
}

/// The task with this number. A zombie is found until it is released.
pub fn find(pid: u32) -> Option<TaskRef> {
    TABLE.lock().map.get(&pid)?.clone()
}

/// Frees a number and the table's reference to its task.
pub fn release(pid: u32) {
    let gone = TABLE.lock().map.remove(&pid);
    drop(gone);
}

/// True while the table holds this task.
pub fn is_attached(t: &Task) -> bool {
    let ext = t.ext::<Ext>();
    let table = TABLE.lock();
    matches!(table.map.get(&ext.thread.pid()), Some(Some(x)) if core::ptr::eq(&**x, t))
}

/// Exchanges the numbers of two tasks: what `exec` in a thread that does not lead its group needs.
pub fn exchange(a: &TaskRef, b: &TaskRef) {
    let mut t = TABLE.lock();
    let (pa, pb) = (thread(a).pid(), thread(b).pid());
    t.map.insert(pa, Some(b.clone()));
    t.map.insert(pb, Some(a.clone()));
    thread(a).set_pid(pb);
    thread(b).set_pid(pa);
}

/// Calls `f` for each task in order of its number. `f` may sleep: the table is read in pieces, and a task that
/// comes or goes meanwhile may or may not be seen.
pub fn for_each(mut f: impl FnMut(&TaskRef)) {
    let mut from = 1;
    while let Some(t) = next(from) {
        from = thread(&t).pid().max(from) + 1;
        f(&t);
    }
}

/// The task with the least number that is at least `from`.
pub fn next(from: u32) -> Option<TaskRef> {
    TABLE.lock().map.range(from..).find_map(|(_, t)| t.clone())
}

/// Numbers in use.
pub fn count() -> usize {
    TABLE.lock().map.len()
}

/// The number handed out last: the fifth figure of `/proc/loadavg`.
pub fn last() -> u32 {
    TABLE.lock().last
}

/// Every task at one moment.
pub fn all() -> Vec<TaskRef> {
    TABLE.lock().map.values().flatten().cloned().collect()
}

pub fn pid_max() -> u32 {
    PID_MAX.load(Ordering::Relaxed)
}
/// EINVAL outside 301..=4194304.
pub fn set_pid_max(n: u32) -> Result<()> {
    if !(RESERVED + 1..=PID_MAX_LIMIT).contains(&n) {
        return Err(Errno::EINVAL);
    }
    PID_MAX.store(n, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round_and_skips_what_is_taken() {
        let mut m = BTreeMap::new();
        assert_eq!(next_free(&m, 0, 1000), Some(1));
        m.insert(1, ());
        m.insert(2, ());
        assert_eq!(next_free(&m, 0, 1000), Some(3));
        assert_eq!(next_free(&m, 999, 1000), Some(300));
        for i in 300..1000 {
            m.insert(i, ());
        }
        assert_eq!(next_free(&m, 999, 1000), Some(3));
        for i in 3..300 {
            m.insert(i, ());
        }
        assert_eq!(next_free(&m, 50, 1000), None);
    }
}
