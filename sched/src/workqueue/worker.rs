//! # kworker/CPU:ID, kworker/CPU:IDH, kworker/uPOOL:ID
//! * **What for**: executes work items, so that what an interrupt, a timer or a program has begun can be finished in a context
//!   that may sleep, without a thread for each purpose.
//! * **Woken by**: the queueing of an item on its pool; a worker of the pool that goes to sleep while work waits.
//! * **Never**: executes an item that another worker executes; goes to work without an idle one behind it; leaves its
//!   processor (`u`: its pool's processors) while that is online.
//! * **Shows as**: `[kworker/0:1-events]` when it last worked for `events`, `+events` while it does; state `I` when it idles.
//!   `H`: nice −20. Its flags have PF_WQ_WORKER, and its affinity cannot be changed from outside.
//! * **Knobs**: `/sys/devices/virtual/workqueue/`, `/sys/module/workqueue/parameters/`; what it does:
//!   `/sys/kernel/nightshift/daemons/kworker/{queues,pools}`, trace events `workqueue:*`.
//! * **Documented**: Linux `Documentation/core-api/workqueue.rst`.
//!
//! # Concurrency
//! The pool counts the workers that execute and do not sleep. The scheduler tells when one goes to sleep ([`sleeping`]) and is
//! back ([`running`]). A worker counts unless it has one of the flags [`flags::NOT_RUNNING`].

use alloc::sync::Arc;

use base::{Result, daemon::Card};
use frame::{
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    containers::{Link, List},
    sync::{LockClass, SpinLockIrq, once::Once},
    task::{self, State},
};

use super::{
    fault, intensive, manager,
    pool::{Locked, Pool, PoolState},
    pwq::{Pwq, count},
    queue::{Core, Flags},
    trace,
    work::{At, Work},
};
use crate::{
    figures::{self, Reason},
    kthread,
    thread::{TaskRef, Thread, thread},
};

pub(super) static CARD: Card = Card {
    name: "kworker",
    purpose: "executes work items, so that what an interrupt or a timer began is finished where sleeping is allowed",
    woken_by: "the queueing of an item; a worker of its pool that goes to sleep while work waits",
    never: "executes what another worker executes, or goes to work without an idle worker behind it",
    documented: "Linux Documentation/core-api/workqueue.rst",
};

/// What a worker is doing, bits as Linux has them.
pub(super) mod flags {
    /// It has to end.
    pub(crate) const DIE: u32 = 1 << 1;
    pub(crate) const IDLE: u32 = 1 << 2;
    /// It is between items, or manages, or is a rescuer.
    pub(crate) const PREP: u32 = 1 << 3;
    /// Its item takes long: others need not wait for it.
    pub(crate) const CPU_INTENSIVE: u32 = 1 << 6;
    /// It may run on other processors than its pool's.
    pub(crate) const UNBOUND: u32 = 1 << 7;
    /// Its processor came back; it counts again from its next item.
    pub(crate) const REBOUND: u32 = 1 << 8;
    pub(crate) const NOT_RUNNING: u32 = PREP | CPU_INTENSIVE | UNBOUND | REBOUND;
}

/// Tells a worker's two links apart: its pool's list of all, and (the plain one) of the idle.
pub(super) struct InPool;

pub(crate) struct Worker {
    id: u32,
    /// `None`: a rescuer, which helps in one pool after the other.
    home: Option<Arc<Pool>>,
    /// A rescuer's queue.
    rescues: Option<Arc<Core>>,
    /// Changed under its pool's lock.
    flags: AtomicU32,
    /// It told the pool that it sleeps, and has not come back. Its own.
    sleeping: AtomicBool,
    /// How long it had run when it began its item, or last woke in it. Its own.
    ran_at: AtomicU64,
    /// When it last became idle.
    pub(super) idle_since: AtomicU64,
    pub(super) state: SpinLockIrq<WorkerState>,
    idle: Link<Worker>,
    in_pool: Link<Worker>,
}
frame::list_node!(Worker, idle);
frame::list_node!(Worker, in_pool, InPool);

/// Changed under the pool's lock, by itself or by those who find its item.
pub(super) struct WorkerState {
    pub(super) current: Option<(Arc<Work>, Arc<Pwq>)>,
    /// Items that are for this worker alone, because it executes them just now.
    pub(super) scheduled: List<Work>,
    /// The queue that it last worked for.
    desc: Option<Arc<Core>>,
    /// Cleared when it ends: task and worker hold each other.
    task: Option<TaskRef>,
    /// Where a rescuer helps.
    visits: Option<Arc<Pool>>,
}

static CLASS: LockClass = LockClass::new("kworker");

impl Worker {
    fn make(id: u32, home: Option<Arc<Pool>>, rescues: Option<Arc<Core>>) -> Option<Arc<Worker>> {
        frame::heap::try_arc(Worker {
            id,
            home,
            rescues,
            flags: AtomicU32::new(flags::PREP),
            sleeping: AtomicBool::new(false),
            ran_at: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            state: SpinLockIrq::new(
                &CLASS,
                WorkerState { current: None, scheduled: List::new(), desc: None, task: None, visits: None },
            ),
            idle: Link::new(),
            in_pool: Link::new(),
        })
    }
    pub(super) fn new(id: u32, home: Arc<Pool>) -> Option<Arc<Worker>> {
        Self::make(id, Some(home), None)
    }
    pub(super) fn rescuer(queue: Arc<Core>) -> Option<Arc<Worker>> {
        Self::make(0, None, Some(queue))
    }
    pub(crate) fn is_rescuer(&self) -> bool {
        self.rescues.is_some()
    }
    pub(super) fn task(&self) -> Option<TaskRef> {
        self.state.lock().task.clone()
    }
    /// Ties it to its task, which is not started yet.
    pub(super) fn adopt(self: &Arc<Self>, t: &TaskRef) {
        self.state.lock().task = Some(t.clone());
        thread(t).set_worker(self.clone());
    }
    /// The other way; for one that is about to end.
    pub(super) fn orphan(&self) {
        let (t, d) = {
            let mut s = self.state.lock();
            (s.task.take(), s.desc.take())
        };
        drop((t, d));
    }
    pub(super) fn has(&self, f: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & f != 0
    }
    /// It executes, awake, and counts.
    pub(super) fn is_running(&self) -> bool {
        !self.has(flags::NOT_RUNNING | flags::IDLE) && !self.sleeping.load(Ordering::Relaxed)
    }
    /// Raises flags without counting: for one that does not run, or whose pool's count is set otherwise.
    pub(super) fn mark(&self, set: u32, clear: u32) {
        let f = self.flags.load(Ordering::Relaxed);
        self.flags.store(f & !clear | set, Ordering::Relaxed);
    }
    /// Raises flags; it may stop counting by that.
    pub(super) fn set_flags(&self, p: &mut PoolState, set: u32) {
        let old = self.flags.load(Ordering::Relaxed);
        if set & flags::NOT_RUNNING != 0 && old & flags::NOT_RUNNING == 0 {
            p.running -= 1;
        }
        self.flags.store(old | set, Ordering::Relaxed);
    }
    /// Lowers flags; it may count again by that.
    pub(super) fn clear_flags(&self, p: &mut PoolState, clear: u32) {
        let old = self.flags.load(Ordering::Relaxed);
        let new = old & !clear;
        self.flags.store(new, Ordering::Relaxed);
        if old & flags::NOT_RUNNING != 0 && new & flags::NOT_RUNNING == 0 {
            p.running += 1;
        }
    }
    /// Processor time of its item since it began or last woke.
    pub(super) fn ran(&self, t: &Thread) -> u64 {
        runtime(t).saturating_sub(self.ran_at.load(Ordering::Relaxed))
    }
    /// Its task's number and the function that it executes.
    pub(super) fn at_work(&self) -> Option<(u32, &'static str)> {
        let s = self.state.lock();
        let (work, _) = s.current.as_ref()?;
        Some((thread(s.task.as_ref()?).pid(), work.name()))
    }
    pub(super) fn visit(&self, pool: Option<Arc<Pool>>) {
        let old = core::mem::replace(&mut self.state.lock().visits, pool);
        drop(old);
    }

    fn enter_idle(self: &Arc<Self>, pool: &Pool, p: &mut PoolState) {
        self.mark(flags::IDLE, 0);
        self.idle_since.store(frame::time::now_ns(), Ordering::Relaxed);
        p.idle.push_front(self.clone());
        manager::watch_idle(pool, p);
    }
    fn leave_idle(self: &Arc<Self>, p: &mut PoolState) {
        if self.has(flags::IDLE) {
            self.mark(0, flags::IDLE);
            p.idle.remove(self);
        }
    }
    /// Joins the pool, idle, and begins to live. The pool is locked.
    pub(super) fn join(self: &Arc<Self>, pool: &Pool, p: &mut PoolState, t: &TaskRef) {
        self.mark(pool.unbound_flag(p), 0);
        p.workers.push_back(self.clone());
        p.nr_workers += 1;
        if p.retired {
            self.condemn(p);
        } else {
            self.enter_idle(pool, p);
        }
        t.start();
    }
    /// It has to end, and does when it is woken; it belongs to the pool no more.
    pub(super) fn condemn(self: &Arc<Self>, p: &mut PoolState) {
        self.mark(flags::DIE, 0);
        p.idle.remove(self);
        if p.workers.remove(self) {
            p.nr_workers -= 1;
        }
    }
}

/// Processor time of a task.
fn runtime(t: &Thread) -> u64 {
    let t = t.times();
    t.user_ns + t.system_ns
}

/// The loop of a worker.
pub(super) fn main(me: &Arc<Worker>, pool: &Arc<Pool>) {
    task::watch_sleep(true);
    loop {
        let mut p = pool.lock();
        if me.has(flags::DIE) {
            break;
        }
        me.leave_idle(&mut p);
        p = work(me, pool, p);
        if p.retired {
            me.condemn(&mut p);
            break;
        }
        me.enter_idle(pool, &mut p);
        task::current().set_state(State::IDLE);
        drop(p);
        task::schedule();
        figures::note(Reason::Event);
    }
    task::watch_sleep(false);
    pool.give_id(me.id);
    me.orphan();
}

/// Works while there is work for one more.
fn work<'a>(me: &Arc<Worker>, pool: &'a Arc<Pool>, mut p: Locked<'a>) -> Locked<'a> {
    while p.snapshot().need_more_worker() {
        if !p.snapshot().may_start_working() && !p.managing {
            p = manager::manage(pool, p);
            continue;
        }
        me.clear_flags(&mut p, flags::PREP | flags::REBOUND);
        loop {
            let Some(next) = p.worklist.pop_front() else { break };
            p.progress_ns = frame::time::now_ns();
            assign(next, me);
            p = execute_scheduled(me, pool, p);
            if !p.snapshot().keep_working() {
                break;
            }
        }
        me.set_flags(&mut p, flags::PREP);
        break;
    }
    p
}

/// Gives an item of the pool's list to `me`; but to the worker that executes it, if one of this pool does. The pool is locked.
pub(super) fn assign(work: Arc<Work>, me: &Arc<Worker>) {
    let (pwq, busy) = {
        let d = work.data.lock();
        let Some(pwq) = d.at.pwq().cloned() else { unreachable!("a listed item has its queue") };
        let busy = d.on.as_ref().filter(|(_, q)| Arc::ptr_eq(&q.pool, &pwq.pool)).map(|(w, _)| w.clone());
        (pwq, busy)
    };
    let to = match busy {
        Some(w) if !fault::is(fault::bits::REENTER) => w,
        _ => me.clone(),
    };
    work.put(At::Scheduled(pwq, to.clone()));
    to.state.lock().scheduled.push_back(work);
}

/// Executes what was given to `me`.
pub(super) fn execute_scheduled<'a>(me: &Arc<Worker>, pool: &'a Arc<Pool>, mut p: Locked<'a>) -> Locked<'a> {
    loop {
        let next = me.state.lock().scheduled.pop_front();
        match next {
            Some(w) => p = execute(me, pool, p, w),
            None => return p,
        }
    }
}

/// Executes one item. The pool is locked before and after.
fn execute<'a>(me: &Arc<Worker>, pool: &'a Arc<Pool>, mut p: Locked<'a>, work: Arc<Work>) -> Locked<'a> {
    let (pwq, color) = {
        let mut d = work.data.lock();
        let Some(pwq) = d.at.pwq().cloned() else { unreachable!("a scheduled item has its queue") };
        let color = d.color;
        // The reference that the state had of its queue is not the last.
        drop(d.begin(me, &pwq));
        (pwq, color)
    };
    let old = {
        let mut s = me.state.lock();
        s.current = Some((work.clone(), pwq.clone()));
        s.desc.replace(pwq.queue.clone())
    };
    me.ran_at.store(runtime(&crate::me()), Ordering::Relaxed);
    if pwq.queue.flags.contains(Flags::CPU_INTENSIVE) {
        me.set_flags(&mut p, flags::CPU_INTENSIVE);
    }
    // For pools that do not count, and for intensive items: nobody else would.
    pool.kick(&mut p);
    count(&pwq.stats.started);
    drop(p);
    drop(old);
    trace::execute_start(&work);
    kthread::because(work.name());
    let begun = pwq.queue.items.begin();
    work.call();
    pwq.queue.items.end(begun);
    ITEMS.inc();
    trace::execute_end(&work);
    check_context(&work);
    // A chain of items must not keep others from the processor.
    crate::cond_resched();

    p = pool.lock();
    count(&pwq.stats.completed);
    intensive::account(me, &work, &pwq);
    me.clear_flags(&mut p, flags::CPU_INTENSIVE);
    let current = me.state.lock().current.take();
    work.ended();
    let then = pwq.finished(&mut p, color, true);
    drop(p);
    // What may be the last reference, or takes other locks, is let go without this one.
    then.act();
    drop((current, work, pwq));
    pool.lock()
}

/// Items that workers and rescuers have executed.
pub(super) static ITEMS: base::stat::Counter = base::stat::Counter::new("workqueue_items");

/// An item that returns with a lock or guard held would poison whatever comes next.
fn check_context(work: &Work) {
    let word = frame::context::word();
    if word != 0 || frame::context::in_atomic() {
        let (comm, pid) = (crate::me().comm(), crate::me().pid());
        panic!(
            "BUG: workqueue leaked atomic, lock or RCU: {comm}[{pid}] preempt={word:#010x} workfn={}",
            work.name()
        );
    }
}

/// A watched task, that is, a worker, announced a sleep and is about to leave its processor.
pub(crate) fn sleeping(t: &Thread) {
    let Some(me) = t.worker() else { return };
    if me.has(flags::NOT_RUNNING) || me.sleeping.load(Ordering::Relaxed) {
        return;
    }
    let Some(pool) = &me.home else { return };
    let mut p = pool.lock();
    if me.has(flags::NOT_RUNNING) {
        return;
    }
    me.sleeping.store(true, Ordering::Relaxed);
    p.running -= 1;
    if fault::is(fault::bits::LOSE_WAKEUP) {
        return;
    }
    if pool.kick(&mut p)
        && let Some((_, pwq)) = &me.state.lock().current
    {
        count(&pwq.stats.cm_wakeup);
    }
}

/// It is back.
pub(crate) fn running(t: &Thread) {
    let Some(me) = t.worker() else { return };
    if !me.sleeping.load(Ordering::Relaxed) {
        return;
    }
    let Some(pool) = &me.home else { return };
    let mut p = pool.lock();
    if !me.has(flags::NOT_RUNNING) {
        p.running += 1;
    }
    me.ran_at.store(runtime(t), Ordering::Relaxed);
    me.sleeping.store(false, Ordering::Relaxed);
}

/// The queue for which the running task executes an item.
pub(super) fn current_queue() -> Option<Arc<Core>> {
    if frame::context::in_interrupt() || !task::has_current() {
        return None;
    }
    let t = crate::me();
    let s = t.worker()?.state.lock();
    s.current.as_ref().map(|(_, q)| q.queue.clone())
}

/// Writes a worker's name as `/proc` shows it: with the queue that it works for (`+`), or last worked for (`-`).
pub(crate) fn write_name(w: &Worker, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
    let (desc, busy, visits) = {
        let s = w.state.lock();
        (s.desc.clone(), s.current.is_some(), s.visits.is_some())
    };
    match (&w.rescues, &w.home) {
        (Some(q), _) => super::rescuer::write_name(q, out)?,
        (None, _) if w.has(flags::DIE) => return out.write_str("kworker/dying"),
        (None, Some(p)) => write!(out, "kworker/{}:{}{}", p.name(), w.id, p.suffix())?,
        (None, None) => {}
    }
    match desc {
        Some(q) if w.home.is_some() || visits => {
            write!(out, "{}{}", if busy { '+' } else { '-' }, q.name)
        }
        _ => Ok(()),
    }
}

/// Tells where it may run anew. Its pool is locked.
pub(super) fn rebind(w: &Worker, mask: frame::cpu::CpuMask) -> Result<()> {
    match w.task() {
        Some(t) => crate::attr::change_affinity(&t, mask),
        None => Ok(()),
    }
}

/// What a task that is a worker has of it.
pub(crate) type Slot = Once<Arc<Worker>>;
