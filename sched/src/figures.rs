//! What kernel threads do, for their cards: see [`base::daemon`].
//!
//! Each thread counts the ends of its waits itself, with the reason and the time ([`Activity`]); its processor time is accounted anyway. A
//! thread belongs to the card of its name up to the first `/`, a worker to `kworker`, a rescuer to `kworker-R`; `swapper` is each
//! processor's idle task; any other card that has the name of a work queue speaks of that queue's items.
//!
//! A thread that ends leaves the table of tasks and joins the sums under one lock, under which readers look at both, so the sums
//! never fall.

use alloc::vec::Vec;

use base::{
    Result,
    daemon::{self, Registered, Row},
};
use frame::{
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    sync::{LockClass, SpinLock, SpinLockIrq},
};

use crate::{
    core, pid, stat, swapper,
    thread::{TaskRef, Thread, thread},
    workqueue,
};

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    Event = 1,
    TimedOut,
    Stop,
    Park,
    Freeze,
    /// Of an idle task.
    Interrupt,
}

const NAMES: [&str; 6] = ["event", "time-out", "stop", "park", "freeze", "interrupt"];

/// A thread's wake-ups. Written by the thread alone.
pub(crate) struct Activity {
    wakeups: AtomicU64,
    reason: AtomicU32,
    at_ns: AtomicU64,
    /// A better word for the reason, and of which wake-up.
    detail: SpinLockIrq<(u64, &'static str)>,
}

static DETAIL: LockClass = LockClass::new("wake_reason");

impl Activity {
    pub(crate) const fn new() -> Activity {
        Activity {
            wakeups: AtomicU64::new(0),
            reason: AtomicU32::new(0),
            at_ns: AtomicU64::new(0),
            detail: SpinLockIrq::new(&DETAIL, (0, "")),
        }
    }
    /// A wait has ended.
    #[inline]
    pub(crate) fn note(&self, why: Reason) {
        self.wakeups.store(self.wakeups.load(Relaxed) + 1, Relaxed);
        self.reason.store(why as u32, Relaxed);
        self.at_ns.store(frame::time::now_ns(), Relaxed);
    }
    fn last(&self) -> Option<(&'static str, u64)> {
        let (nth, detail) = *self.detail.lock();
        let why = (self.reason.load(Relaxed) as usize).checked_sub(1)?;
        let is_of_this = !detail.is_empty() && nth == self.wakeups.load(Relaxed);
        Some((if is_of_this { detail } else { NAMES.get(why)? }, self.at_ns.load(Relaxed)))
    }
    /// Gives the reason of the last wake-up a better word.
    pub(crate) fn because(&self, why: &'static str) {
        *self.detail.lock() = (self.wakeups.load(Relaxed), why);
    }
}

/// The running thread's wait has ended.
#[inline]
pub(crate) fn note(why: Reason) {
    crate::me().activity.note(why);
}

static CLASS: LockClass = LockClass::new("daemon_threads");
/// Held while a thread goes from the table to the sums, and while both are looked at.
static ENDING: SpinLock<()> = SpinLock::new(&CLASS, ());

fn busy_ns(t: &Thread) -> u64 {
    let t = t.times();
    t.user_ns + t.system_ns
}

/// Whether a thread is the card's.
fn belongs(t: &Thread, card: &str) -> bool {
    match t.worker() {
        Some(w) if w.is_rescuer() => card == "kworker-R",
        Some(_) => card == "kworker",
        None => t.is_kthread() && t.comm().full().split(|&b| b == b'/').next() == Some(card.as_bytes()),
    }
}

/// The running kernel thread ends: it leaves the table.
pub(crate) fn ended(t: &Thread) {
    let name = t.comm();
    let card = match t.worker() {
        Some(w) => daemon::find(if w.is_rescuer() { b"kworker-R" } else { b"kworker" }),
        None => daemon::find(name.full().split(|&b| b == b'/').next().unwrap_or_default()),
    };
    let busy = busy_ns(t);
    let _g = ENDING.lock();
    if let Some(c) = card {
        c.add_ended(t.activity.wakeups.load(Relaxed), busy);
    }
    pid::release(t.pid());
}

fn row(t: &TaskRef) -> Row {
    let th = thread(t);
    Row {
        thread: Some((th.comm().full().iter().map(|&b| char::from(b)).collect(), th.pid())),
        wakeups: th.activity.wakeups.load(Relaxed),
        busy_ns: (!th.is_idle()).then(|| busy_ns(th)),
        last: th.activity.last(),
    }
}

/// The rows of a card.
fn rows(r: &Registered) -> Result<Vec<Row>> {
    let name = r.card.name;
    if name == swapper::CARD.name {
        return Ok(stat::possible_cpus().filter_map(|c| Some(row(core::cpu(c).idle.get()?))).collect());
    }
    let (tasks, ended) = {
        let _g = ENDING.lock();
        (pid::all(), r.ended())
    };
    let mut rows = Vec::new();
    for t in tasks.iter().filter(|t| belongs(thread(t), name)) {
        rows.try_reserve(1)?;
        rows.push(row(t));
    }
    rows.try_reserve(2)?;
    rows.extend(ended);
    rows.extend(workqueue::figures(name));
    Ok(rows)
}

/// Makes the figures known to the cards.
pub(crate) fn init() {
    daemon::install_source(rows);
}

/// A work queue's items.
#[derive(Default)]
pub(crate) struct Items {
    executed: AtomicU64,
    busy_ns: AtomicU64,
    last_ns: AtomicU64,
}

impl Items {
    /// A worker begins one; what [`Items::end`] is given.
    pub(crate) fn begin(&self) -> u64 {
        self.last_ns.fetch_max(frame::time::now_ns(), Relaxed);
        busy_ns(&crate::me())
    }
    /// It is done.
    pub(crate) fn end(&self, begun: u64) {
        self.busy_ns.fetch_add(busy_ns(&crate::me()).saturating_sub(begun), Relaxed);
        self.executed.fetch_add(1, Relaxed);
    }
    pub(crate) fn row(&self) -> Row {
        let at = self.last_ns.load(Relaxed);
        Row {
            thread: None,
            wakeups: self.executed.load(Relaxed),
            busy_ns: Some(self.busy_ns.load(Relaxed)),
            last: (at != 0).then_some(("item", at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_names() {
        let a = Activity::new();
        assert_eq!(a.last(), None);
        for (r, name) in
            [(Reason::Event, "event"), (Reason::TimedOut, "time-out"), (Reason::Interrupt, "interrupt")]
        {
            a.note(r);
            assert_eq!(a.last().map(|l| l.0), Some(name));
        }
        assert_eq!(a.wakeups.load(Relaxed), 3);
        a.because("button");
        assert_eq!(a.last().map(|l| l.0), Some("button"));
        a.note(Reason::TimedOut);
        assert_eq!(a.last().map(|l| l.0), Some("time-out"), "a word belongs to one wake-up");
    }
}
