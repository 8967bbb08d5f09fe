//! # migration/N
//! * **What for**: takes what runs on its processor off it, whatever it is: to move a running task to another processor, or
//!   to have the processor, or all of them, to itself for a moment.
//! * **Woken by**: a change of affinity that excludes the processor on which a task runs ([`crate::set_affinity`]), `exec` on a
//!   busy processor ([`exec`]), the balancer where only the running task can be moved ([`push_running`]), whoever calls
//!   [`stop_one_cpu`], [`stop_two_cpus`] or [`stop_machine`], and the lockup detector, which wants to see it run
//!   ([`crate::watchdog`]).
//! * **Never**: sleeps while it works, leaves its processor, decides where the load goes.
//! * **Shows as**: `[migration/N]`, SCHED_FIFO 99, though it is above that: nothing preempts it and no limit holds it. Its voluntary
//!   switches count its jobs; `sched:sched_migrate_task` shows the moves, with it as the current task.
//! * **Documented**: Linux `kernel/stop_machine.c`, `kernel/sched/core.c` (`migration_cpu_stop`).
//!
//! A running task cannot be moved by others: its registers are in a processor. When this thread runs there, the task has been
//! saved and stands on the queue like any other, and moving it is taking it from one queue to another. Between asking and
//! moving it may have gone to sleep, been moved, or ended; then there is nothing to do, since wherever it wakes its new
//! affinity holds.
//!
//! A job that concerns several processors could wait for a processor whose own thread waits for this one. There is only one such
//! job at a time, in a slot of its own, so nothing is allocated and nobody waits in a circle.

use alloc::{boxed::Box, collections::VecDeque, sync::Arc};

use base::{Errno, Result, daemon::Card};
use frame::{
    atomic::{AtomicU32, AtomicU64, Ordering},
    context::{IrqGuard, PreemptGuard},
    cpu::{CpuId, CpuMask, MAX_CPUS},
    sync::{Completion, LockClass, Mutex, SpinLockIrq, once::Once},
};

use crate::{
    attr,
    core::{self, activate_and_tell, activate_on, cpu, idle_cpus},
    kthread::{PerCpuThread, PerCpuThreads, because},
    place::{active, may_stay},
    policy::Policy,
    thread::{TaskRef, thread},
};

pub(crate) static CARD: Card = Card {
    name: "migration",
    purpose: "takes the running task off its processor, to move it or to stop the machine",
    woken_by: "changes of affinity, exec, the balancer, processor hotplug",
    never: "sleeps while it works, leaves its processor, or decides where load goes",
    documented: "Linux kernel/stop_machine.c",
};

type Job = Box<dyn FnOnce(CpuId) + Send>;

/// A job for one processor.
pub(crate) struct Work {
    job: SpinLockIrq<Option<Job>>,
    done: Completion,
}

static JOB: LockClass = LockClass::new("cpu_stop_job");

impl Work {
    /// ENOMEM.
    pub(crate) fn new(job: impl FnOnce(CpuId) + Send + 'static) -> Result<Arc<Work>> {
        let job: Job = frame::heap::try_box(job).ok_or(Errno::ENOMEM)?;
        let w = Work { job: SpinLockIrq::new(&JOB, Some(job)), done: Completion::new() };
        frame::heap::try_arc(w).ok_or(Errno::ENOMEM)
    }
}

/// What waits for one processor's thread.
struct Inbox {
    /// False while the processor is not there.
    enabled: bool,
    works: VecDeque<Arc<Work>>,
    multi: Option<Arc<Multi>>,
    /// Where the balancer wants the running task to go.
    balance: Option<CpuId>,
    /// The lockup detector wants to see that this thread gets on.
    touch: bool,
}

static INBOX: LockClass = LockClass::new("cpu_stopper");
static INBOXES: [SpinLockIrq<Inbox>; MAX_CPUS] = [const {
    SpinLockIrq::new(
        &INBOX,
        Inbox { enabled: false, works: VecDeque::new(), multi: None, balance: None, touch: false },
    )
}; MAX_CPUS];
static THREADS: Once<PerCpuThreads> = Once::new();
/// Jobs done by each processor's thread.
static DONE: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

fn inbox(c: CpuId) -> &'static SpinLockIrq<Inbox> {
    &INBOXES[c.index()]
}

fn wake(c: CpuId) {
    if let Some(t) = THREADS.get() {
        t.wake(c);
    }
}

/// Has a processor's thread do a job, and waits until it has. In a task. ENOENT if the processor is not there (any more);
/// then the job is not done.
pub(crate) fn stop_with(c: CpuId, w: &Arc<Work>) -> Result<()> {
    frame::context::might_sleep();
    ask(c, w)?;
    w.done.wait();
    if w.job.lock().is_some() { Err(Errno::ENOENT) } else { Ok(()) }
}

/// The same from any context, without waiting.
pub(crate) fn ask(c: CpuId, w: &Arc<Work>) -> Result<()> {
    {
        let mut i = inbox(c).lock();
        if !i.enabled {
            return Err(Errno::ENOENT);
        }
        i.works.try_reserve(1)?;
        i.works.push_back(w.clone());
    }
    wake(c);
    Ok(())
}

/// Runs `f` on processor `c` in place of whatever runs there, preemption held off, and waits. In a task. ENOENT if the processor is not
/// on line, ENOMEM.
pub fn stop_one_cpu(c: CpuId, f: impl FnOnce(CpuId) + Send + 'static) -> Result<()> {
    stop_with(c, &Work::new(f)?)
}

/// What the threads of several processors do together: step by step, each waits until all have taken the step.
struct Multi {
    /// Those on which `f` runs; the others wait meanwhile.
    active: CpuMask,
    f: Box<dyn Fn(CpuId) + Send + Sync>,
    cpus: u32,
    step: AtomicU32,
    /// Who has yet to take this step.
    acks: AtomicU32,
    left: AtomicU32,
    done: Completion,
}

/// The steps of [`Multi`].
mod step {
    /// All threads have arrived.
    pub(super) const PREPARE: u32 = 1;
    pub(super) const INTERRUPTS_OFF: u32 = 2;
    pub(super) const RUN: u32 = 3;
    pub(super) const EXIT: u32 = 4;
}

impl Multi {
    /// Each thread's part.
    fn take_part(&self, me: CpuId) {
        let mut seen = 0;
        let mut irqs = None;
        while seen != step::EXIT {
            let s = self.step.load(Ordering::Acquire);
            if s == seen {
                if s > step::PREPARE {
                    // All wait for one that is at work, with interrupts off.
                    base::lockup::touch_nmi_watchdog();
                }
                frame::cpu::relax();
                continue;
            }
            seen = s;
            match s {
                step::INTERRUPTS_OFF => irqs = Some(IrqGuard::new()),
                step::RUN if self.active.contains(me) => (self.f)(me),
                _ => {}
            }
            if s != step::EXIT && self.acks.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.acks.store(self.cpus, Ordering::Relaxed);
                self.step.store(s + 1, Ordering::Release);
            }
        }
        drop(irqs);
    }
}

static STOPPING: LockClass = LockClass::new("stop_cpus_mutex");
/// Held while there is a job for several processors.
static STOP_CPUS: Mutex<()> = Mutex::new(&STOPPING, ());

/// Stops the processors of `all`, and runs `f` on those of `active` among them with interrupts off everywhere. The caller keeps
/// processors from coming and going.
pub(crate) fn stop_cpus(
    all: CpuMask,
    active: CpuMask,
    f: impl Fn(CpuId) + Send + Sync + 'static,
) -> Result<()> {
    let f = frame::heap::try_box(f).ok_or(Errno::ENOMEM)?;
    let _one = STOP_CPUS.lock();
    let all = all.and(frame::cpu::online());
    if active.and(all).is_empty() || all.iter().any(|c| !inbox(c).lock().enabled) {
        return Err(Errno::ENOENT);
    }
    let n = all.count();
    let m = Multi {
        active,
        f,
        cpus: n,
        step: AtomicU32::new(step::PREPARE),
        acks: AtomicU32::new(n),
        left: AtomicU32::new(n),
        done: Completion::new(),
    };
    let m = frame::heap::try_arc(m).ok_or(Errno::ENOMEM)?;
    {
        // All or none are told: with preemption held off the first cannot begin here before the last is told.
        let _g = PreemptGuard::new();
        for c in all.iter() {
            inbox(c).lock().multi = Some(m.clone());
            wake(c);
        }
    }
    m.done.wait();
    Ok(())
}

/// Runs `f` on this processor or another while nothing else runs anywhere: all processors' threads wait with interrupts off. In a task.
/// ENOMEM.
pub fn stop_machine(f: impl Fn(CpuId) + Send + Sync + 'static) -> Result<()> {
    let _stay = crate::cpuhp::read_lock();
    let first = active().first().ok_or(Errno::ENOENT)?;
    stop_cpus(frame::cpu::online(), CpuMask::one(first), f)
}

/// Runs `f` on `a` while `b` is stopped too. In a task. ENOENT if one of them is not on line, ENOMEM.
pub fn stop_two_cpus(a: CpuId, b: CpuId, f: impl Fn(CpuId) + Send + Sync + 'static) -> Result<()> {
    let _stay = crate::cpuhp::read_lock();
    let both = CpuMask::one(a).or(CpuMask::one(b));
    if both.and(frame::cpu::online()) != both {
        return Err(Errno::ENOENT);
    }
    stop_cpus(both, CpuMask::one(a), f)
}

/// In the thread of processor `on`: moves a task that waits there, to `dest` or to where it may go if it may not stay.
pub(crate) fn move_away(task: &TaskRef, on: CpuId, dest: Option<CpuId>) {
    let _g = IrqGuard::new();
    let t = thread(task);
    let wanted = |e: &crate::runqueue::Entity<_>| {
        attr::is(e, t)
            && match dest {
                Some(d) => e.affinity.contains(d),
                None => !may_stay(t, e.affinity, on),
            }
    };
    let Some((task, ent)) = core::take_waiting(on, wanted) else { return };
    match dest.filter(|&d| active().contains(d)) {
        Some(d) => {
            if let Some(c) = activate_on(&task, ent, None, d) {
                frame::task::resched(c);
            }
        }
        None => activate_and_tell(&task, ent),
    }
}

/// For `exec`, when a task is at its smallest: if others want this processor and one stands idle, goes there. In a task.
pub fn exec() {
    let here = frame::cpu::raw_id();
    if cpu(here).runnable.load(Ordering::Relaxed) < 2 {
        return;
    }
    let me = frame::task::current().arc();
    let idle = idle_cpus().and(thread(&me).affinity()).and(active()).without(here);
    let Some(dest) = idle.first() else { return };
    // Staying is no error.
    let _ = stop_one_cpu(here, move |on| move_away(&me, on, Some(dest)));
}

/// The balancer's request: what runs on `from`, a fair task, is to go to `to`, which idles. From any context. False if it cannot be.
pub(crate) fn push_running(from: CpuId, to: CpuId) -> bool {
    let can = cpu(from)
        .rq
        .lock()
        .rq
        .current()
        .is_some_and(|e| !e.policy.is_rt() && e.affinity.contains(to) && !e.payload.thread.is_bound());
    if can {
        let mut i = inbox(from).lock();
        if !i.enabled {
            return false;
        }
        i.balance = Some(to);
        drop(i);
        wake(from);
    }
    can
}

/// The lockup detector's request: see [`crate::watchdog`]. From any context.
pub(crate) fn touch_watchdog(me: CpuId) {
    {
        let mut i = inbox(me).lock();
        if !i.enabled || i.touch {
            return;
        }
        i.touch = true;
    }
    wake(me);
}

fn balance(me: CpuId, to: CpuId) {
    let _g = IrqGuard::new();
    // The state may be another by now: only if it still helps.
    let idle = cpu(to).runnable.load(Ordering::Relaxed) == 0;
    if idle && core::move_one(me, to, frame::time::now_ns(), core::Which::Fair) {
        frame::task::resched(to);
    }
}

enum Next {
    Work(Arc<Work>),
    Multi(Arc<Multi>),
    Balance(CpuId),
    Touch,
}

fn take(me: CpuId) -> Option<Next> {
    let mut i = inbox(me).lock();
    if let Some(m) = i.multi.take() {
        Some(Next::Multi(m))
    } else if let Some(w) = i.works.pop_front() {
        Some(Next::Work(w))
    } else if let Some(to) = i.balance.take() {
        Some(Next::Balance(to))
    } else {
        ::core::mem::take(&mut i.touch).then_some(Next::Touch)
    }
}

/// Jobs done on all processors.
pub(crate) fn jobs() -> u64 {
    DONE.iter().map(|d| d.load(Ordering::Relaxed)).sum()
}

fn work(me: CpuId) {
    let Some(next) = take(me) else { return };
    let g = PreemptGuard::new();
    match next {
        Next::Work(w) => {
            because("stop-work");
            let job = w.job.lock().take();
            if let Some(f) = job {
                f(me);
            }
            drop(g);
            w.done.complete();
        }
        Next::Multi(m) => {
            because("stop-machine");
            m.take_part(me);
            drop(g);
            if m.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                m.done.complete();
            }
        }
        Next::Balance(to) => {
            because("balance");
            balance(me, to);
        }
        Next::Touch => crate::watchdog::touched(me),
    }
    DONE[me.index()].fetch_add(1, Ordering::Relaxed);
}

static ROW: PerCpuThread = PerCpuThread {
    name: "migration",
    setup: |me| {
        let task = frame::task::current().arc();
        // It runs, so nothing can fail.
        let _ = attr::set_policy_unchecked(&task, Policy::Stop, 0);
        inbox(me).lock().enabled = true;
    },
    should_run: |me| {
        let i = inbox(me).lock();
        i.multi.is_some() || !i.works.is_empty() || i.balance.is_some() || i.touch
    },
    work,
    park: |_| (),
    unpark: |me| inbox(me).lock().enabled = true,
};

/// On a processor that goes down, in its own thread, which parks when it is done with what it does now: no more jobs. Those that wait
/// are not done.
pub(crate) fn disable(me: CpuId) {
    let left = {
        let mut i = inbox(me).lock();
        i.enabled = false;
        (i.balance, i.touch) = (None, false);
        ::core::mem::take(&mut i.works)
    };
    for w in left {
        w.done.complete();
    }
    if let Some(h) = THREADS.get().and_then(|t| t.of(me)) {
        h.ask_to_park();
    }
}

/// A processor has come: its thread goes on.
pub(crate) fn enable(c: CpuId) -> Result<()> {
    THREADS.get().map_or(Ok(()), |t| t.go_on(c))
}

/// Makes the thread of a processor that has none.
pub(crate) fn prepare(c: CpuId) -> Result<()> {
    THREADS.get().map_or(Ok(()), |t| t.make(c))
}

pub(crate) fn start() -> Result<()> {
    let t = PerCpuThreads::start_self_parking(&ROW)?;
    THREADS.call_once(|| t);
    base::tree::sys().file("kernel/nightshift/daemons/migration/jobs", 0o444, |out| {
        for c in crate::stat::possible_cpus() {
            writeln!(out, "{c} {}", DONE[c.index()].load(Ordering::Relaxed))?;
        }
        Ok(())
    })
}
