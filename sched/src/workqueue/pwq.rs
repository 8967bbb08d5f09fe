//! A queue's place in a pool (`pool_workqueue`): how many of its items are active there, and those that must wait.
//!
//! The state changes under the pool's lock alone; its own lock only tells the compiler so, and is never contended.
//!
//! An unbound queue has a place for each pod, and its limit is for all of them: they take their turns in a line ([`super::slots`]). Places
//! of other queues have the limit for themselves.
//!
//! An item counts in flight from being queued to its end, in one of two colours. A flush turns the colour and waits until none
//! of the old one is in flight; flushes of a queue take turns, so two are enough.

use alloc::sync::Arc;

use frame::{
    atomic::{AtomicU64, Ordering},
    containers::{Link, List},
    sync::{LockClass, SpinLockIrq},
};

use super::{
    fault,
    pool::{Pool, PoolState},
    queue::{Core, Flags},
    trace, watchdog,
    work::{At, Work},
};

pub(super) struct Pwq {
    pub(super) queue: Arc<Core>,
    pub(super) pool: Arc<Pool>,
    pub(super) state: SpinLockIrq<PwqState>,
    pub(super) mayday: Link<Pwq>,
    line: Link<Pwq>,
    pub(super) stats: Stats,
}
frame::list_node!(Pwq, mayday);
frame::list_node!(Pwq, line, InLine);

/// Tells the links apart: that of the queue's line, and (the plain one) that of its calls for help.
pub(super) struct InLine;

pub(super) struct PwqState {
    pub(super) active: u32,
    /// By colour.
    in_flight: [u32; 2],
    color: usize,
    /// The colour whose end a flush waits for.
    flushing: Option<usize>,
    pub(super) inactive: List<Work>,
    /// An ordered queue's: nothing may start until those before it are through with theirs.
    plugged: bool,
    /// New items go elsewhere; gone when the last is done.
    retired: bool,
    dead: bool,
}

impl PwqState {
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight[0] + self.in_flight[1]
    }
    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }
    pub(super) fn is_retired(&self) -> bool {
        self.retired
    }
}

/// Counters, as `tools/workqueue/wq_monitor.py` knows them.
#[derive(Default)]
pub(super) struct Stats {
    pub(super) started: AtomicU64,
    pub(super) completed: AtomicU64,
    pub(super) cpu_intensive: AtomicU64,
    pub(super) cm_wakeup: AtomicU64,
    pub(super) mayday: AtomicU64,
    pub(super) rescued: AtomicU64,
}

impl Stats {
    fn all(&self) -> [&AtomicU64; 6] {
        [&self.started, &self.completed, &self.cpu_intensive, &self.cm_wakeup, &self.mayday, &self.rescued]
    }
    /// Takes over what was counted in a place that goes.
    pub(super) fn add(&self, other: &Stats) {
        for (to, from) in self.all().into_iter().zip(other.all()) {
            to.fetch_add(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// Counts one.
#[inline]
pub(super) fn count(c: &AtomicU64) {
    c.fetch_add(1, Ordering::Relaxed);
}

static CLASS: LockClass = LockClass::new("pool_workqueue");

/// What is left to do when the pool's lock has been let go.
#[must_use]
pub(super) struct Then {
    release: bool,
    /// Whose turn it is to start an item.
    next: Option<Arc<Pwq>>,
}

impl Then {
    pub(super) fn act(self) {
        let mut next = self.next;
        while let Some(p) = next {
            let mut pool = p.pool.lock();
            next = p.serve(&mut pool);
            p.pool.kick(&mut pool);
        }
        if self.release {
            super::attrs::schedule_release();
        }
    }
}

impl Pwq {
    pub(super) fn new(queue: Arc<Core>, pool: Arc<Pool>) -> Pwq {
        let state = PwqState {
            active: 0,
            in_flight: [0; 2],
            color: 0,
            flushing: None,
            inactive: List::new(),
            plugged: false,
            retired: false,
            dead: false,
        };
        Pwq {
            queue,
            pool,
            state: SpinLockIrq::new(&CLASS, state),
            mayday: Link::new(),
            line: Link::new(),
            stats: Stats::default(),
        }
    }
    fn limit(&self) -> u32 {
        if fault::is(fault::bits::DISORDER) && self.queue.flags.contains(Flags::ORDERED) {
            return 2;
        }
        self.queue.max_active.load(Ordering::Relaxed)
    }
    /// The same for what waits.
    fn limit_of_waiting(&self) -> u32 {
        if fault::is(fault::bits::NO_LIMIT) { u32::MAX } else { self.limit() }
    }
    /// Whether another item may start; without that it waits, the place in the queue's line.
    fn may_start(self: &Arc<Self>, s: &PwqState) -> bool {
        match &self.queue.slots {
            Some(l) => l.take_or_wait(self, self.limit()),
            None => s.active < self.limit(),
        }
    }

    /// Takes in an item that the caller owns. False if nothing is taken in any more.
    pub(super) fn add(self: &Arc<Self>, pool: &mut PoolState, work: &Arc<Work>) -> bool {
        let active = {
            let mut s = self.state.lock();
            if s.dead {
                return false;
            }
            let color = s.color;
            s.in_flight[color] += 1;
            work.data.lock().color = color;
            let active = s.inactive.is_empty() && !s.plugged && self.may_start(&s);
            if active {
                s.active += 1;
            } else {
                work.put(At::Inactive(self.clone()));
                s.inactive.push_back(work.clone());
            }
            active
        };
        if active {
            self.activate(pool, work.clone());
        }
        true
    }
    fn activate(self: &Arc<Self>, pool: &mut PoolState, work: Arc<Work>) {
        trace::activate_work(&work);
        work.put(At::Listed(self.clone()));
        if pool.worklist.is_empty() {
            pool.progress_ns = frame::time::now_ns();
            watchdog::watch();
        }
        pool.worklist.push_back(work);
    }
    /// It is the place's turn: starts one item. Whose turn is next, if there are more slots. The caller kicks the pool.
    fn serve(self: &Arc<Self>, pool: &mut PoolState) -> Option<Arc<Pwq>> {
        let slots = self.queue.slots.as_ref()?;
        let limit = self.limit_of_waiting();
        let first = {
            let mut s = self.state.lock();
            // What waited may have been taken back.
            if !s.inactive.is_empty() {
                if !slots.take_or_stay(self, limit) {
                    return None;
                }
                s.active += 1;
            }
            let first = s.inactive.pop_front();
            if !s.inactive.is_empty() {
                slots.wait(self);
            }
            first
        };
        if let Some(w) = first {
            self.activate(pool, w);
        }
        slots.next(limit)
    }
    /// Starts what the place's own limit allows. The caller kicks the pool.
    fn activate_more(self: &Arc<Self>, pool: &mut PoolState) {
        loop {
            let next = {
                let mut s = self.state.lock();
                if s.plugged || s.active >= self.limit_of_waiting() {
                    return;
                }
                let Some(w) = s.inactive.pop_front() else { return };
                s.active += 1;
                w
            };
            self.activate(pool, next);
        }
    }
    /// An item has ended, or was taken back.
    pub(super) fn finished(self: &Arc<Self>, pool: &mut PoolState, color: usize, active: bool) -> Then {
        let release = {
            let mut s = self.state.lock();
            s.in_flight[color] -= 1;
            if active {
                s.active -= 1;
            }
            if s.flushing == Some(color) && s.in_flight[color] == 0 {
                s.flushing = None;
                self.queue.flushed_one();
            }
            let release = s.retired && s.in_flight() == 0;
            s.dead |= release;
            release
        };
        let mut next = None;
        match &self.queue.slots {
            Some(l) => {
                if active {
                    l.give_back();
                }
                if release {
                    l.leave(self);
                }
                next = l.next(self.limit_of_waiting());
                while let Some(p) = next.take_if(|p| Arc::ptr_eq(p, self)) {
                    next = p.serve(pool);
                }
                if fault::is(fault::bits::LOSE_SLOT) {
                    next = None;
                }
            }
            None => self.activate_more(pool),
        }
        Then { release, next }
    }
    /// Turns the colour. If items of the old one are in flight, the queue will be told of their end ([`Core::flushed_one`]).
    pub(super) fn begin_flush(&self) {
        let _pool = self.pool.lock();
        let mut s = self.state.lock();
        let old = s.color;
        s.color = 1 - old;
        if s.in_flight[old] > 0 {
            s.flushing = Some(old);
            self.queue.flush_left.fetch_add(1, Ordering::SeqCst);
        }
    }
    /// Whether something of the queue has been started here and has not ended.
    pub(super) fn is_active(&self) -> bool {
        let _pool = self.pool.lock();
        self.state.lock().active > 0
    }
    /// Whether nothing of the queue is here.
    pub(super) fn is_empty(&self) -> bool {
        let _pool = self.pool.lock();
        self.state.lock().in_flight() == 0
    }
    /// New items go elsewhere. True if there are none left here.
    pub(super) fn retire(self: &Arc<Self>) -> bool {
        let _pool = self.pool.lock();
        let mut s = self.state.lock();
        s.retired = true;
        s.dead = s.in_flight() == 0;
        if s.dead
            && let Some(l) = &self.queue.slots
        {
            l.leave(self);
        }
        s.dead
    }
    pub(super) fn plug(&self) {
        self.state.lock().plugged = true;
    }
    pub(super) fn unplug(self: &Arc<Self>) {
        let mut pool = self.pool.lock();
        self.state.lock().plugged = false;
        self.activate_more(&mut pool);
        self.pool.kick(&mut pool);
    }
    /// The limit has changed.
    pub(super) fn adjust(self: &Arc<Self>) {
        if let Some(l) = &self.queue.slots {
            return Then { release: false, next: l.next(self.limit_of_waiting()) }.act();
        }
        let mut pool = self.pool.lock();
        self.activate_more(&mut pool);
        self.pool.kick(&mut pool);
    }
}
