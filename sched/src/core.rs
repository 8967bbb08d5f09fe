//! The scheduler that frame calls: run queues with their locks, placement of what wakes, switching.
//!
//! # Who owns a task's entity
//! Exactly one of: its home slot (asleep), one run queue (waiting or running), the stack of the code that carries
//! it from one to the other. All carrying happens with interrupts off and never waits for anything but a run-queue
//! lock, so whoever finds it in neither place may spin.
//!
//! # Locks
//! A run queue's lock, taken with interrupts off; a second one nested in the order of processor numbers; a task's
//! home slot innermost.
//!
//! # What runs when
//! | event | then |
//! |---|---|
//! | a task wakes | it is placed on an idle processor near its last one, else where it ran or where it was woken; that one reschedules if the newcomer displaces what runs |
//! | a second task comes to a processor | its tick starts; it stops by itself when it finds no more than one |
//! | a processor has nothing | it takes a waiting task from the busiest before it idles |
//! | a task's affinity excludes its processor | it is set aside when it is switched away, and moved in `switched_from` |

use alloc::sync::Arc;

use frame::{
    atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    cpu::{CpuId, CpuMask, MAX_CPUS},
    sync::{LockClass, SpinLock, once::Once},
    task::{Enqueue, Prev, Scheduler, State, Task},
};

use crate::{
    TICK_NS, account, balance, load,
    runqueue::{Ent, Picked, RunQueue},
    thread::{Ext, Payload, TaskRef, Thread, thread},
    timer, trace,
};

/// What the scheduler keeps per processor.
#[repr(align(64))]
pub(crate) struct Cpu {
    pub(crate) rq: SpinLock<Queue>,
    /// Copies for other processors: runnable tasks, and the running one's rank ([`rank`]).
    pub(crate) runnable: AtomicU32,
    pub(crate) rank: AtomicU32,
    pub(crate) idle: Once<TaskRef>,
    pub(crate) switches: AtomicU64,
    /// `outgoing` of the queue is full: for this processor alone.
    has_outgoing: AtomicBool,
    /// Its tick is on its way. Changed by this processor alone, under the queue's lock.
    ticking: AtomicBool,
    /// Tasks that went to sleep here, less those that were woken here: only the sums over all processors mean
    /// anything.
    pub(crate) uninterruptible: AtomicI64,
    pub(crate) iowait: AtomicI64,
    pub(crate) next_balance_ns: AtomicU64,
    pub(crate) times: account::CpuClock,
}

pub(crate) struct Queue {
    pub(crate) rq: RunQueue<Payload>,
    /// The task being switched away that must go to another processor.
    outgoing: Option<Ent<Payload>>,
}

static RQ: LockClass = LockClass::new("runqueue");
static CPUS: [Cpu; MAX_CPUS] = [const {
    Cpu {
        rq: SpinLock::new(&RQ, Queue { rq: RunQueue::new(), outgoing: None }),
        runnable: AtomicU32::new(0),
        rank: AtomicU32::new(0),
        idle: Once::new(),
        switches: AtomicU64::new(0),
        has_outgoing: AtomicBool::new(false),
        ticking: AtomicBool::new(false),
        uninterruptible: AtomicI64::new(0),
        iowait: AtomicI64::new(0),
        next_balance_ns: AtomicU64::new(0),
        times: account::CpuClock::new(),
    }
}; MAX_CPUS];

/// Processors that run their idle task and have not been chosen for a wake-up since.
static IDLE: AtomicU64 = AtomicU64::new(0);

#[inline]
pub(crate) fn cpu(c: CpuId) -> &'static Cpu {
    &CPUS[c.index()]
}

pub(crate) fn idle_cpus() -> CpuMask {
    CpuMask(IDLE.load(Ordering::Relaxed))
}

/// Rank of what runs, for placing real-time tasks: 0 idle, 1 fair, 1 + priority real-time.
fn rank(q: &RunQueue<Payload>) -> u32 {
    q.current().map_or(0, |e| 1 + e.policy.rt_priority() as u32)
}

/// Brings the copies up to date; under the queue's lock.
#[inline]
pub(crate) fn publish(c: &Cpu, q: &RunQueue<Payload>) {
    c.runnable.store(q.len() as u32, Ordering::Relaxed);
    c.rank.store(rank(q), Ordering::Relaxed);
}

/// The policy object that frame holds.
pub(crate) struct Sched;
pub(crate) static SCHED: Sched = Sched;

/// Where a waking task should go. `allowed` is not empty.
fn place(prev: CpuId, this: CpuId, allowed: CpuMask, rt_priority: u8) -> CpuId {
    if allowed.count() == 1 {
        return allowed.first().unwrap_or(prev);
    }
    let idle = idle_cpus().and(allowed);
    let target = if !idle.is_empty() {
        balance::pick_idle(idle, prev, this)
    } else if rt_priority != 0 {
        // The processor that does the least urgent thing; where it last ran if that is as good.
        let rank_of = |c: CpuId| cpu(c).rank.load(Ordering::Relaxed);
        let least = allowed.iter().min_by_key(|&c| (rank_of(c), c != prev)).unwrap_or(prev);
        if allowed.contains(prev) && rank_of(prev) <= rank_of(least) { prev } else { least }
    } else {
        let load = |c: CpuId| cpu(c).runnable.load(Ordering::Relaxed);
        match (allowed.contains(prev), allowed.contains(this)) {
            (true, true) => {
                if load(this) < load(prev) {
                    this
                } else {
                    prev
                }
            }
            (true, false) => prev,
            (false, true) => this,
            (false, false) => allowed.iter().min_by_key(|&c| load(c)).unwrap_or(prev),
        }
    };
    if idle.contains(target) {
        IDLE.fetch_and(!CpuMask::one(target).0, Ordering::Relaxed);
    }
    target
}

/// Where a task may run now: its affinity as far as it is online, else anywhere (as Linux does when its last
/// processor leaves).
pub(crate) fn allowed(affinity: CpuMask) -> CpuMask {
    let online = frame::cpu::online();
    let a = affinity.and(online);
    if a.is_empty() { online } else { a }
}

/// Queues a carried entity on a processor that may run it. Interrupts are off. Returns that processor if it must be
/// told.
pub(crate) fn activate(task: &TaskRef, mut ent: Ent<Payload>, how: Enqueue) -> Option<CpuId> {
    let this = frame::cpu::raw_id();
    let prev = task.cpu();
    let e = &mut ent.value;
    let target = place(prev, this, allowed(e.affinity), e.policy.rt_priority());
    let now = frame::time::now_ns();
    load::catch_up(now);
    let c = cpu(target);
    if e.payload.counted_load {
        e.payload.counted_load = false;
        c.uninterruptible.fetch_sub(1, Ordering::Relaxed);
    }
    if e.payload.counted_iowait {
        e.payload.counted_iowait = false;
        cpu(prev).iowait.fetch_sub(1, Ordering::Relaxed);
    }
    e.payload.task = Some(task.clone());
    if target != prev && how == Enqueue::Wakeup {
        trace::migrate(task, target);
    }
    let mut q = c.rq.lock();
    trace::runtime(&q.rq, now);
    let mut tell = q.rq.enqueue(ent, now);
    task.set_cpu(target);
    note_wakeup(task, how, target);
    publish(c, &q.rq);
    if !tell && q.rq.needs_tick() {
        if target == this {
            ensure_tick(c, this, now);
        } else {
            // It needed no tick until now; only it can start its own.
            tell = !c.ticking.load(Ordering::Relaxed);
        }
    }
    drop(q);
    tell.then_some(target)
}

/// [`activate`], and tells the processor.
pub(crate) fn activate_and_tell(task: &TaskRef, ent: Ent<Payload>) {
    if let Some(c) = activate(task, ent, Enqueue::Wakeup) {
        frame::task::resched(c);
    }
}

/// A wake-up begins: for the trace.
#[inline]
fn note_waking(task: &TaskRef) {
    base::trace!(trace::sched_waking {
        comm: trace::comm(thread(task)),
        pid: thread(task).pid() as i32,
        prio: thread(task).prio(),
        target_cpu: task.cpu().get() as i32,
    });
}

/// A task came onto a queue: for the trace. The queue is locked.
#[inline]
fn note_wakeup(task: &TaskRef, how: Enqueue, target: CpuId) {
    match how {
        Enqueue::Wakeup => base::trace!(trace::sched_wakeup {
            comm: trace::comm(thread(task)),
            pid: thread(task).pid() as i32,
            prio: thread(task).prio(),
            target_cpu: target.get() as i32,
        }),
        Enqueue::New => base::trace!(trace::sched_wakeup_new {
            comm: trace::comm(thread(task)),
            pid: thread(task).pid() as i32,
            prio: thread(task).prio(),
            target_cpu: target.get() as i32,
        }),
    }
}

/// A processor switches from `prev` to `next`: for the trace. The queue is locked.
#[inline]
fn note_switch(prev: &Thread, what: Prev, next: &Arc<Task>) {
    if !trace::sched_switch::event().is_on() || ::core::ptr::eq(prev, thread(next)) {
        return;
    }
    let state = match what {
        // An idle task gives way by itself.
        Prev::Runnable => trace::state(None, !prev.is_idle()),
        Prev::Sleeping(s) => trace::state(Some(s), false),
        Prev::Dead => trace::state(Some(State::DEAD), false),
    };
    trace::switch(prev, state, thread(next));
}

impl Scheduler for Sched {
    #[inline]
    fn enqueue(&self, task: &Arc<Task>, how: Enqueue) -> Option<CpuId> {
        if how == Enqueue::Wakeup {
            note_waking(task);
        }
        // The task has left its processor, so its entity is at home; only `attr` may look at it there, briefly, and
        // leaves it.
        let ent = task.ext::<Ext>().home.lock().take().expect("a sleeping task has its entity at home");
        activate(task, ent, how)
    }

    fn pick_next(&self, id: CpuId, prev: &Arc<Task>, what: Prev) -> Arc<Task> {
        let now = frame::time::now_ns();
        load::catch_up(now);
        let c = cpu(id);
        let ext = prev.ext::<Ext>();
        let t = &*ext.thread;
        let idle_task = c.idle.get().expect("every online processor has an idle task");
        let idle = &*idle_task.ext::<Ext>().thread;
        // Whose time runs.
        let mut from = t;
        let mut dead = None;
        let mut q = c.rq.lock();
        trace::runtime(&q.rq, now);
        match what {
            Prev::Runnable => {
                if t.yielding.load(Ordering::Relaxed) {
                    t.yielding.store(false, Ordering::Relaxed);
                    q.rq.yield_current(now);
                }
                if t.must_move.load(Ordering::Relaxed) {
                    t.must_move.store(false, Ordering::Relaxed);
                    q.outgoing = q.rq.take_current(now);
                    c.has_outgoing.store(true, Ordering::Relaxed);
                }
            }
            Prev::Sleeping(s) => {
                t.must_move.store(false, Ordering::Relaxed);
                if let Some(mut e) = q.rq.take_current(now) {
                    if s.contains(State::UNINTERRUPTIBLE) && !s.contains(State::NOLOAD) {
                        e.value.payload.counted_load = true;
                        c.uninterruptible.fetch_add(1, Ordering::Relaxed);
                    }
                    if t.iowait.load(Ordering::Relaxed) {
                        e.value.payload.counted_iowait = true;
                        c.iowait.fetch_add(1, Ordering::Relaxed);
                    }
                    *ext.home.lock() = Some(e);
                }
            }
            Prev::Dead => dead = q.rq.take_current(now),
        }
        let put = |p: &mut Payload| p.task = Some(prev.clone());
        let mut picked = q.rq.pick(now, put);
        if picked == Picked::Idle && frame::cpu::online().count() > 1 {
            publish(c, &q.rq);
            // While the lock is free the processor counts as idle.
            if !from.is_idle() {
                account::switch(c, id, from, idle, now);
                from = idle;
            }
            drop(q);
            balance::new_idle(id, now);
            q = c.rq.lock();
            picked = q.rq.pick(now, |_| ());
        }
        publish(c, &q.rq);
        if q.rq.needs_tick() {
            ensure_tick(c, id, now);
        }
        if picked == Picked::Same {
            drop(q);
            drop(dead);
            return prev.clone();
        }
        let next = match q.rq.current_mut() {
            Some(e) => {
                account::switch(c, id, from, &e.payload.thread, now);
                e.payload.task.take().expect("a waiting task is kept by its queue")
            }
            None => {
                if !from.is_idle() {
                    account::switch(c, id, from, idle, now);
                }
                idle_task.clone()
            }
        };
        if !(picked == Picked::Idle && t.is_idle()) {
            c.switches.store(c.switches.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        note_switch(t, what, &next);
        drop(q);
        drop(dead);
        match picked {
            Picked::Idle => {
                IDLE.fetch_or(CpuMask::one(id).0, Ordering::Relaxed);
            }
            _ if t.is_idle() => {
                IDLE.fetch_and(!CpuMask::one(id).0, Ordering::Relaxed);
            }
            _ => {}
        }
        next
    }

    #[inline]
    fn switched_from(&self, id: CpuId, prev: Arc<Task>, _what: Prev) {
        // Not asked of the task: it may run elsewhere by now.
        let c = cpu(id);
        if !c.has_outgoing.load(Ordering::Relaxed) {
            return;
        }
        c.has_outgoing.store(false, Ordering::Relaxed);
        let carried = c.rq.lock().outgoing.take();
        if let Some(ent) = carried {
            activate_and_tell(&prev, ent);
        }
    }

    fn sleeping(&self, me: frame::task::Current) {
        crate::workqueue::worker::sleeping(crate::thread::thread(&me));
    }
    fn running(&self, me: frame::task::Current) {
        crate::workqueue::worker::running(crate::thread::thread(&me));
    }
}

/// Moves one waiting task that may run there from one processor to another. Interrupts are off, no queue is locked.
/// True if one moved; then `to` may have to be told ([`frame::task::resched`]).
pub(crate) fn move_one(from: CpuId, to: CpuId, now: u64) -> bool {
    let (a, b) = (from.min(to), from.max(to));
    let mut first = cpu(a).rq.lock();
    let mut second = cpu(b).rq.lock_nested();
    let (src, dst) =
        if a == from { (&mut first.rq, &mut second.rq) } else { (&mut second.rq, &mut first.rq) };
    // What is being switched away there is still on that processor.
    let movable = |e: &crate::runqueue::Entity<Payload>| {
        e.affinity.contains(to) && e.payload.task.as_ref().is_some_and(|t| !t.is_on_cpu())
    };
    src.charge(now);
    let Some(ent) = src.take_waiting(movable) else { return false };
    if let Some(t) = &ent.value.payload.task {
        trace::migrate(t, to);
        t.set_cpu(to);
    }
    dst.enqueue(ent, now);
    publish(cpu(from), src);
    publish(cpu(to), dst);
    true
}

/// Starts this processor's tick unless it runs. Interrupts are off.
#[inline]
fn ensure_tick(c: &Cpu, id: CpuId, now: u64) {
    if !c.ticking.load(Ordering::Relaxed) {
        c.ticking.store(true, Ordering::Relaxed);
        timer::start_tick(id, now + TICK_NS);
    }
}

/// The scheduler's part of the timer interrupt. Says when it wants the next, if at all.
pub(crate) fn tick(id: CpuId, now: u64) -> Option<u64> {
    load::catch_up(now);
    let c = cpu(id);
    let (resched, needs) = {
        let mut q = c.rq.lock();
        trace::runtime(&q.rq, now);
        let resched = q.rq.charge(now);
        let needs = q.rq.needs_tick();
        c.ticking.store(needs, Ordering::Relaxed);
        (resched, needs)
    };
    if resched {
        frame::task::resched(id);
    }
    crate::rcu_sched::tick(id);
    if needs && now >= c.next_balance_ns.load(Ordering::Relaxed) {
        crate::softirq::raise(crate::softirq::Vector::Sched);
    }
    needs.then_some(now + TICK_NS)
}
