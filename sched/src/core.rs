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
//! | a running task's affinity excludes its processor | that one's [`migration`](crate::migration) thread takes its place and moves it |
//! | a real-time task waits behind another | it is pushed to a processor that does something less urgent, by the one that passed it over; or pulled by one that is done with its own |

use alloc::sync::Arc;

use frame::{
    atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    cpu::{CpuId, CpuMask, MAX_CPUS},
    sync::{LockClass, SpinLock, once::Once},
    task::{Enqueue, Prev, Scheduler, State, Task},
};

use crate::{
    TICK_NS, account, balance, load, place,
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
    /// The copy in `RT_WAITING`; under the queue's lock.
    rt_waits: AtomicBool,
    pub(crate) idle: Once<TaskRef>,
    pub(crate) switches: AtomicU64,
    /// Real-time tasks wait here: to be pushed after the switch. For this processor alone.
    push_rt: AtomicBool,
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
}

static RQ: LockClass = LockClass::new("runqueue");
static CPUS: [Cpu; MAX_CPUS] = [const {
    Cpu {
        rq: SpinLock::new(&RQ, Queue { rq: RunQueue::new() }),
        runnable: AtomicU32::new(0),
        rank: AtomicU32::new(0),
        rt_waits: AtomicBool::new(false),
        idle: Once::new(),
        switches: AtomicU64::new(0),
        push_rt: AtomicBool::new(false),
        ticking: AtomicBool::new(false),
        uninterruptible: AtomicI64::new(0),
        iowait: AtomicI64::new(0),
        next_balance_ns: AtomicU64::new(0),
        times: account::CpuClock::new(),
    }
}; MAX_CPUS];

/// Processors that run their idle task and have not been chosen for a wake-up since.
pub(crate) static IDLE: AtomicU64 = AtomicU64::new(0);
/// Processors on which real-time tasks wait.
static RT_WAITING: AtomicU64 = AtomicU64::new(0);

#[inline]
pub(crate) fn cpu(c: CpuId) -> &'static Cpu {
    &CPUS[c.index()]
}

pub(crate) fn idle_cpus() -> CpuMask {
    CpuMask(IDLE.load(Ordering::Relaxed))
}

/// Rank of what runs, for placing real-time tasks: 0 idle, 1 fair, 1 + priority real-time, 101 stop.
fn rank(q: &RunQueue<Payload>) -> u32 {
    q.current().map_or(0, |e| 1 + e.policy.rank() as u32)
}

/// Brings the copies up to date; under the queue's lock.
#[inline]
pub(crate) fn publish(c: &Cpu, q: &RunQueue<Payload>) {
    c.runnable.store(q.len() as u32, Ordering::Relaxed);
    c.rank.store(rank(q), Ordering::Relaxed);
    let waits = q.waiting_rank() != 0;
    if waits != c.rt_waits.load(Ordering::Relaxed) {
        note_rt_waits(c, waits);
    }
}

#[cold]
fn note_rt_waits(c: &Cpu, waits: bool) {
    c.rt_waits.store(waits, Ordering::Relaxed);
    let bit = 1 << CPUS.iter().position(|x| core::ptr::eq(x, c)).unwrap_or(0);
    if waits {
        RT_WAITING.fetch_or(bit, Ordering::Relaxed);
    } else {
        RT_WAITING.fetch_and(!bit, Ordering::Relaxed);
    }
}

/// Processors on which real-time tasks wait, as a hint.
pub(crate) fn rt_waiting() -> CpuMask {
    CpuMask(RT_WAITING.load(Ordering::Relaxed))
}

/// The policy object that frame holds.
pub(crate) struct Sched;
pub(crate) static SCHED: Sched = Sched;

/// Queues a carried entity on a processor that may run it. Interrupts are off. Returns that processor if it must be
/// told.
/// `how` is `None` for one that was queued elsewhere.
pub(crate) fn activate(task: &TaskRef, mut ent: Ent<Payload>, how: Option<Enqueue>) -> Option<CpuId> {
    let prev = task.cpu();
    let e = &mut ent.value;
    let allowed = place::usable(e, prev);
    let liked = allowed.and(e.payload.thread.preferred());
    let allowed = if liked.is_empty() { allowed } else { liked };
    let target = place::place(prev, frame::cpu::raw_id(), allowed, e.policy.rank());
    activate_on(task, ent, how, target)
}

/// The same for a processor that has been chosen.
pub(crate) fn activate_on(
    task: &TaskRef,
    mut ent: Ent<Payload>,
    how: Option<Enqueue>,
    target: CpuId,
) -> Option<CpuId> {
    let this = frame::cpu::raw_id();
    let e = &mut ent.value;
    let now = frame::time::now_ns();
    load::catch_up(now);
    let c = cpu(target);
    if e.payload.counted_load {
        e.payload.counted_load = false;
        c.uninterruptible.fetch_sub(1, Ordering::Relaxed);
    }
    if e.payload.counted_iowait {
        e.payload.counted_iowait = false;
        account::io_done(cpu(task.cpu()), now);
    }
    e.payload.task = Some(task.clone());
    if target != task.cpu() && how != Some(Enqueue::New) {
        trace::migrate(task, target);
    }
    let mut q = c.rq.lock();
    trace::runtime(&q.rq, now);
    let mut tell = q.rq.enqueue(ent, now);
    task.set_cpu(target);
    if let Some(how) = how {
        note_wakeup(task, how, target);
    }
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

/// Queues one that was queued elsewhere, and tells the processor.
pub(crate) fn activate_and_tell(task: &TaskRef, ent: Ent<Payload>) {
    if let Some(c) = activate(task, ent, None) {
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
        activate(task, ent, Some(how))
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
        let goes_on_urgently = what == Prev::Runnable && t.policy().is_rt();
        if !rt_waiting().without(id).is_empty() && !goes_on_urgently {
            balance::pull_rt(id, now);
        }
        let mut q = c.rq.lock();
        trace::runtime(&q.rq, now);
        match what {
            Prev::Runnable => {
                if t.yielding.load(Ordering::Relaxed) {
                    t.yielding.store(false, Ordering::Relaxed);
                    q.rq.yield_current(now);
                }
            }
            Prev::Sleeping(s) => {
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
        if picked == Picked::Idle && place::active().contains(id) && frame::cpu::online().count() > 1 {
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
        if q.rq.waiting_rank() != 0 {
            c.push_rt.store(true, Ordering::Relaxed);
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
    fn switched_from(&self, id: CpuId, _prev: Arc<Task>, _what: Prev) {
        let c = cpu(id);
        if c.push_rt.load(Ordering::Relaxed) {
            c.push_rt.store(false, Ordering::Relaxed);
            balance::push_rt(id);
        }
    }

    fn sleeping(&self, me: frame::task::Current) {
        crate::workqueue::worker::sleeping(crate::thread::thread(&me));
    }
    fn running(&self, me: frame::task::Current) {
        crate::workqueue::worker::running(crate::thread::thread(&me));
    }
}

/// Which waiting tasks to move.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Real-time ones first.
    Any,
    Fair,
    /// Real-time ones that are more urgent than what the other processor runs or has waiting.
    Urgent,
}

/// Moves one waiting task that may run there from one processor to another. Interrupts are off, no queue is locked.
/// True if one moved; then `to` may have to be told ([`frame::task::resched`]).
pub(crate) fn move_one(from: CpuId, to: CpuId, now: u64, which: Which) -> bool {
    if !place::active().contains(to) {
        return false;
    }
    let (a, b) = (from.min(to), from.max(to));
    let mut first = cpu(a).rq.lock();
    let mut second = cpu(b).rq.lock_nested();
    let (src, dst) =
        if a == from { (&mut first.rq, &mut second.rq) } else { (&mut second.rq, &mut first.rq) };
    // What is being switched away there is still on that processor.
    let movable = |e: &crate::runqueue::Entity<Payload>| {
        e.affinity.contains(to) && e.payload.task.as_ref().is_some_and(|t| !t.is_on_cpu())
    };
    let there = dst.waiting_rank().max(dst.current().map_or(0, |e| e.policy.rank()));
    src.charge(now);
    let taken = match which {
        Which::Any => src.take_waiting(movable),
        Which::Fair => src.take_waiting_fair(movable),
        Which::Urgent => src.take_waiting_rt(|e| e.policy.rank() > there && movable(e)),
    };
    let Some(ent) = taken else { return false };
    if let Some(t) = &ent.value.payload.task {
        trace::migrate(t, to);
        t.set_cpu(to);
    }
    dst.enqueue(ent, now);
    publish(cpu(from), src);
    publish(cpu(to), dst);
    true
}

/// Takes a waiting task that `pred` accepts, and that has left its processor, off a queue. Interrupts are off.
pub(crate) fn take_waiting(
    from: CpuId,
    pred: impl Fn(&crate::runqueue::Entity<Payload>) -> bool,
) -> Option<(TaskRef, Ent<Payload>)> {
    let c = cpu(from);
    let mut q = c.rq.lock();
    q.rq.charge(frame::time::now_ns());
    let mut ent =
        q.rq.take_waiting(|e| pred(e) && e.payload.task.as_ref().is_some_and(|t| !t.is_on_cpu()))?;
    publish(c, &q.rq);
    let task = ent.value.payload.task.take()?;
    Some((task, ent))
}

/// Sends the waiting tasks of which `pred` says so to where they may go. On the processor itself, in a task that stays or with interrupts off.
pub(crate) fn push_all(from: CpuId, pred: impl Fn(&crate::Thread) -> bool) {
    #[cfg(not(target_os = "none"))]
    if crate::faults::LEAVE_TASKS.load(Ordering::Relaxed) {
        return;
    }
    loop {
        let _g = frame::context::IrqGuard::new();
        let Some((task, ent)) = take_waiting(from, |e| pred(&e.payload.thread)) else { return };
        activate_and_tell(&task, ent);
    }
}

/// The processor goes down: its tick has gone with its timers.
pub(crate) fn stop_ticking(id: CpuId) {
    cpu(id).ticking.store(false, Ordering::Relaxed);
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
    if needs && place::active().contains(id) && now >= c.next_balance_ns.load(Ordering::Relaxed) {
        crate::softirq::raise(crate::softirq::Vector::Sched);
    }
    needs.then_some(now + TICK_NS)
}
