//! The freezer: brings all processes, and those kernel threads and work queues that agreed to it, to a stand-still, and lets
//! them go on.
//!
//! # Theory
//! Nobody is stopped from outside: a task stands still where it holds nothing, because it looked and saw that it should. A user
//! thread looks on its way back to user mode; to get it there, `Work::NOTIFY` ends its interruptible sleeps as a signal would, and
//! since there is no signal the interrupted call is made again afterwards. So a program sees nothing but a hole in time.
//!
//! | a task | counts as frozen |
//! |---|---|
//! | sleeps in [`try_to_freeze`] | yes |
//! | is stopped by job control | yes: continued, it looks before it reaches user mode |
//! | is inside [`while_frozen_is_fine`] | yes: it looks before it leaves that |
//! | has not begun, or has ended | yes |
//! | anything else | not yet |
//!
//! Kernel threads take part after [`crate::kthread::Kthread::set_freezable`]; the others work on, as the processes' last
//! writes need them. Freezing fails where a task does not come within [`TIMEOUT_MS`]: the log names it.
//!
//! No wake-up is lost: the flag is set, then the task is woken; the task announces its sleep, then looks at the flag. A task that
//! is made while others freeze takes the flag from [`begin_user_thread`]; a round in which one was made is not the last.
//!
//! Linux's behaviour: `Documentation/power/freezing-of-tasks.rst`, `kernel/freezer.c`.

use base::{Errno, Result, pr_err, pr_info};
use frame::{
    atomic::{AtomicU32, AtomicU64, Ordering},
    task::{self, State, Task, Work},
};

use crate::{
    kthread, pid, stat,
    thread::{TaskRef, state_char, thread},
    time, wakeup, workqueue,
};

const NONE: u32 = 0;
const USER: u32 = 1;
const ALL: u32 = 2;
/// How far freezing goes.
static LEVEL: AtomicU32 = AtomicU32::new(NONE);
/// How long to wait for the tasks, in milliseconds: `/sys/power/pm_freeze_timeout`.
pub static TIMEOUT_MS: AtomicU64 = AtomicU64::new(20_000);
/// Pauses between two rounds: doubled from the first to the last.
const FIRST_PAUSE_NS: u64 = 1_000_000;
const LAST_PAUSE_NS: u64 = 8_000_000;

/// True while user tasks are to be frozen.
#[inline]
pub fn freezing() -> bool {
    LEVEL.load(Ordering::SeqCst) != NONE
}
/// True while kernel threads are to be frozen too.
pub(crate) fn freezing_kernel() -> bool {
    LEVEL.load(Ordering::SeqCst) == ALL
}

/// The running user thread stands still while it should. It holds no lock. True if it did.
pub fn try_to_freeze() -> bool {
    let me = task::current();
    if !should_freeze(&me) {
        return false;
    }
    frame::sync::lockdep::assert_none_held("freezing");
    loop {
        me.set_state(State::FROZEN);
        if !should_freeze(&me) {
            break;
        }
        task::schedule();
    }
    me.set_running();
    true
}

fn should_freeze(t: &Task) -> bool {
    freezing() && !thread(t).freezer_exempt.load(Ordering::SeqCst)
}

/// A new user thread, before it reaches user mode for the first time.
pub fn begin_user_thread() {
    if freezing() {
        task::current().set_work(Work::NOTIFY);
    }
}

/// Runs `f`, a wait in which the running thread may be counted as frozen: it holds nothing that others need, and stands still
/// before it goes on, if it should. For waits on another process that signals do not end.
pub fn while_frozen_is_fine<R>(f: impl FnOnce() -> R) -> R {
    let me = task::current();
    let t = thread(&me);
    let was = t.freezer_skip.swap(true, Ordering::SeqCst);
    let r = f();
    t.freezer_skip.store(was, Ordering::SeqCst);
    if !was && t.is_user() {
        try_to_freeze();
    }
    r
}

/// For waits that a signal ends with `EINTR` but a freeze must not: true if it was only a freeze. It is over then, and the
/// caller waits again. No lock is held.
pub fn only_frozen() -> bool {
    let me = task::current();
    if me.work() != Work::NOTIFY {
        return false;
    }
    me.clear_work(Work::NOTIFY);
    try_to_freeze();
    true
}

/// Whether a user task stands still, or as good as.
fn is_frozen(t: &Task) -> bool {
    let th = thread(t);
    if th.freezer_skip.load(Ordering::SeqCst) || th.freezer_exempt.load(Ordering::SeqCst) {
        return true;
    }
    // A state with the task still queued is only announced.
    let resting = State::FROZEN | State::STOPPED | State::TRACED | State::DEAD | State::NEW;
    !t.is_queued() && t.state().intersects(resting)
}

/// Gets a user task to look.
fn nudge(t: &TaskRef) {
    t.set_work(Work::NOTIFY);
    if !task::wake(t, State::INTERRUPTIBLE) && t.is_on_cpu() {
        task::resched(t.cpu());
    }
}

/// What one round found.
#[derive(Default)]
struct Round {
    refusing: u32,
    wq_busy: bool,
}

fn round(kernel: bool) -> Round {
    let forks = stat::forks();
    let mut r = Round::default();
    let mut at = 0;
    // One at a time: nothing is allocated, and no lock is held while a task is woken.
    while let Some(t) = pid::next(at) {
        at = thread(&t).pid() + 1;
        let frozen = match (kernel, thread(&t).is_user()) {
            (false, true) => {
                is_frozen(&t) || {
                    nudge(&t);
                    false
                }
            }
            (true, false) => kthread::ask_to_freeze(&t),
            _ => true,
        };
        r.refusing += u32::from(!frozen);
    }
    r.wq_busy = kernel && workqueue::freeze_workqueues_busy();
    // A task that was made meanwhile may have been missed.
    r.refusing += u32::from(r.refusing == 0 && stat::forks() != forks);
    r
}

/// Rounds until all stand still. `EBUSY`: they do not, or a wake-up came.
fn freeze(kernel: bool) -> Result<()> {
    let what = if kernel { "remaining freezable tasks" } else { "user space processes" };
    pr_info!("Freezing {what}");
    let start = time::now_ns();
    let end = start.saturating_add(TIMEOUT_MS.load(Ordering::Relaxed).saturating_mul(1_000_000));
    let mut pause = FIRST_PAUSE_NS;
    let (last, woken) = loop {
        let r = round(kernel);
        if r.refusing == 0 && !r.wq_busy || time::now_ns() >= end {
            break (r, false);
        }
        if wakeup::pending() {
            break (r, true);
        }
        time::sleep_ns(pause);
        pause = (pause * 2).min(LAST_PAUSE_NS);
    };
    let ms = (time::now_ns() - start) / 1_000_000;
    let (s, ms) = (ms / 1000, ms % 1000);
    if last.refusing == 0 && !last.wq_busy {
        pr_info!("Freezing {what} completed (elapsed {s}.{ms:03} seconds)");
        return Ok(());
    }
    pr_err!(
        "Freezing {what} {} after {s}.{ms:03} seconds ({} tasks refusing to freeze, wq_busy={}):",
        if woken { "aborted" } else { "failed" },
        last.refusing,
        last.wq_busy as u32
    );
    if !woken {
        name_refusing(kernel);
    }
    Err(Errno::EBUSY)
}

fn name_refusing(kernel: bool) {
    pid::for_each(|t| {
        let th = thread(t);
        let refuses =
            if kernel { !th.is_user() && kthread::refuses(t) } else { th.is_user() && !is_frozen(t) };
        if refuses {
            let running = if t.state().is_empty() { "  running task    " } else { "" };
            pr_info!(
                "task:{:<15} state:{}{running} pid:{:<5} tgid:{:<5}",
                th.comm(),
                state_char(t),
                th.pid(),
                th.tgid()
            );
        }
    });
}

/// Stops all user tasks but the running one. `EBUSY`; then all go on.
pub fn freeze_processes() -> Result<()> {
    thread(&task::current()).freezer_exempt.store(true, Ordering::SeqCst);
    LEVEL.store(USER, Ordering::SeqCst);
    freeze(false).inspect_err(|_| thaw_processes())
}

/// Then the kernel's freezable threads and work queues. `EBUSY`; then those go on, the user tasks do not.
pub fn freeze_kernel_threads() -> Result<()> {
    LEVEL.store(ALL, Ordering::SeqCst);
    workqueue::freeze_workqueues_begin();
    freeze(true).inspect_err(|_| thaw_kernel_threads())
}

/// Lets kernel threads and work queues go on.
pub fn thaw_kernel_threads() {
    LEVEL.store(USER, Ordering::SeqCst);
    workqueue::thaw_workqueues();
    pid::for_each(kthread::thaw_task);
}

/// Lets everything go on.
pub fn thaw_processes() {
    LEVEL.store(NONE, Ordering::SeqCst);
    workqueue::thaw_workqueues();
    pid::for_each(|t| {
        if thread(t).is_user() {
            t.clear_work(Work::NOTIFY);
            task::wake(t, State::FROZEN);
        } else {
            kthread::thaw_task(t);
        }
    });
    thread(&task::current()).freezer_exempt.store(false, Ordering::SeqCst);
    pr_info!("Restarting tasks ... done.");
}
