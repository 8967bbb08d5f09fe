//! Tasks, run queues, timers, kernel threads: who runs where and when, and how they wait.
//!
//! # Theory
//! Frame switches contexts and wakes sleepers without losing a wake-up; this room decides. Policy is apart from
//! mechanism: [`fair`], [`rt`], [`runqueue`] and the plans of [`balance`] are plain structures that are given the
//! time and return a decision, tested on the host; `core` puts locks and processors around them and is what frame
//! calls.
//!
//! | to read about | see |
//! |---|---|
//! | shares, deadlines, lag | [`fair`] |
//! | real-time, and its limit | [`rt`] |
//! | the classes together | [`runqueue`] |
//! | locks, switching | `core` |
//! | where a task goes, and when it moves | [`place`], [`balance`], `attr`, [`migration`] |
//! | processors that come and go | [`cpuhp`], [`smpboot`] |
//! | a task's identity and times | [`Thread`], [`stat`], `account`, [`load`] |
//! | numbers | [`pid`] |
//! | timers, clocks, sleeping | `timer`, [`time`] |
//! | softirqs | [`softirq`], [`ksoftirqd`] |
//! | work queues | [`workqueue`] |
//! | standing still for a suspend | [`freezer`], [`wakeup`], [`s2idle`] |
//! | trace events | [`trace`] |
//! | processors and tasks that do not get on | [`watchdog`], [`khungtaskd`], [`report`] |
//! | kernel threads | [`kthread`], [`kthreadd`], [`swapper`], [`rcu_sched`], [`idle_inject`] |
//!
//! # Order of start-up
//! ```text
//!   init_boot_cpu()        swapper/0, interrupts off; from here on schedule() works
//!   spawn_init(…)          PID 1, not started
//!   start_kthreadd()       PID 2
//!   init.start(); cpu_idle()
//!   in init: start_other_cpus(); start_daemons()?; start_detectors()?; …
//! ```
//! Not here yet, and so absent from `ps`: control groups.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

mod account;
mod attr;
pub mod balance;
mod core;
pub mod cpuhp;
pub mod fair;
mod figures;
pub mod freezer;
pub mod idle_inject;
pub mod khungtaskd;
pub mod ksoftirqd;
pub mod kthread;
pub mod kthreadd;
pub mod latency;
pub mod load;
pub mod migration;
pub mod pid;
pub mod place;
pub mod policy;
pub mod rcu_sched;
pub mod report;
pub mod rt;
pub mod runqueue;
pub mod s2idle;
pub mod smpboot;
pub mod softirq;
pub mod stat;
pub mod swapper;
mod sysctl;
mod thread;
pub mod time;
mod timer;
pub mod topology;
pub mod trace;
pub mod tree;
pub mod wakeup;
pub mod watchdog;
pub mod weights;
pub mod workqueue;

use ::core::any::Any;
use alloc::boxed::Box;

use base::{Errno, Result};
use frame::{atomic::Ordering, cpu::CpuMask, task::Task};

pub use crate::{
    attr::{set_affinity, set_nice, set_policy},
    load::loadavg,
    policy::Policy,
    swapper::{cpu_idle, init_boot_cpu, start_other_cpus},
    thread::{
        Comm, Me, SpawnArgs, TaskRef, Thread, Times, current, me, spawn_user_thread, state_char, thread,
    },
};
/// Time-outs on wait queues.
pub mod timeout {
    pub use crate::time::wait_timeout;
}

/// Faults for tests of the tests: what a simulation must notice.
#[cfg(not(target_os = "none"))]
#[doc(hidden)]
pub mod faults {
    use frame::atomic::AtomicBool;
    /// Timers stay on a processor that goes down.
    pub static LEAVE_TIMERS: AtomicBool = AtomicBool::new(false);
    /// Tasks stay on the queue of a processor that goes down.
    pub static LEAVE_TASKS: AtomicBool = AtomicBool::new(false);
    /// The lockup detector goes on watching a processor that goes down.
    pub static LEAVE_WATCHED: AtomicBool = AtomicBool::new(false);
    /// khungtaskd takes a task that has run for one that has not.
    pub static BLIND_TO_SWITCHES: AtomicBool = AtomicBool::new(false);
}

/// Ticks per second while a tick is needed: Linux's usual choice for servers and small machines.
pub const HZ: u64 = 250;
/// One tick.
pub const JIFFY_NS: u64 = 1_000_000_000 / HZ;
pub(crate) const TICK_NS: u64 = JIFFY_NS;

/// Lets other tasks go first: `sched_yield`.
pub fn yield_now() {
    let me = frame::task::current();
    thread(&me).yielding.store(true, Ordering::Relaxed);
    frame::task::schedule();
}

/// For long loops: lets go of the processor if it was asked for. The kernel is preemptible, so this matters only
/// where a guard was just dropped.
#[inline]
pub fn cond_resched() {
    frame::task::preempt_check();
}

/// Counts the sleeps inside `f` as waiting for I/O (`iowait`, `procs_blocked`).
pub fn io_wait<R>(f: impl FnOnce() -> R) -> R {
    let me = frame::task::current();
    let was = thread(&me).iowait.swap(true, Ordering::Relaxed);
    let r = f();
    thread(&me).iowait.store(was, Ordering::Relaxed);
    r
}

/// Makes PID 1, registered and not yet started. `payload` is what [`Thread::payload`] gives.
pub fn spawn_init(
    payload: Option<Box<dyn Any + Send + Sync>>,
    entry: Box<dyn FnOnce() + Send>,
) -> Result<TaskRef> {
    let p = pid::reserve_exactly(pid::INIT)?;
    let ext = thread::Make {
        pid: pid::INIT,
        tgid: pid::INIT,
        comm: b"init",
        kind: thread::Kind::User,
        policy: Policy::Other,
        nice: 0,
        affinity: CpuMask::ALL,
        control: None,
    }
    .ext()?;
    if let Some(b) = payload {
        ext.thread.set_payload(b).map_err(|_| Errno::EBUSY)?;
    }
    let t = Task::new(entry, ext).ok_or(Errno::ENOMEM)?;
    p.attach(&t);
    Ok(t)
}

/// Starts PID 2, which makes all other kernel threads.
pub fn start_kthreadd() -> Result<()> {
    kthreadd::start()
}

/// Starts this room's other kernel threads and registers its files and cards. In a task, when all processors are
/// up.
pub fn start_daemons() -> Result<()> {
    figures::init();
    migration::start()?;
    cpuhp::start()?;
    rcu_sched::start()?;
    ksoftirqd::start()?;
    idle_inject::start()?;
    stat::init()?;
    workqueue::start()?;
    for card in [
        &swapper::CARD,
        &kthreadd::CARD,
        &migration::CARD,
        &cpuhp::CARD,
        &ksoftirqd::CARD,
        &idle_inject::CARD,
        &rcu_sched::CARD,
    ] {
        base::daemon::register(card)?;
    }
    count_work()
}

/// What the threads of this room achieve.
fn count_work() -> Result<()> {
    use base::daemon::count_work;
    count_work(&swapper::CARD, "ms idle", swapper::idle_ms)?;
    count_work(&kthreadd::CARD, "threads made", kthreadd::made)?;
    count_work(&migration::CARD, "jobs", migration::jobs)?;
    count_work(&cpuhp::CARD, "requests", cpuhp::requests)?;
    count_work(&ksoftirqd::CARD, "softirqs run", ksoftirqd::done)?;
    count_work(&idle_inject::CARD, "us injected", idle_inject::injected_us)?;
    count_work(&rcu_sched::CARD, "grace periods", || frame::sync::rcu::stats().grace_periods)
}

/// Starts the detectors of lockups and hung tasks, which look again and again for ever: apart from [`start_daemons`], so that a
/// simulation in which nothing is left to do still ends. In a task.
pub fn start_detectors() -> Result<()> {
    watchdog::start()?;
    khungtaskd::start()
}
