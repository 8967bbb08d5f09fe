//! # khungtaskd
//! * **What for**: finds tasks that hang: asleep where no signal reaches them (state D), and not once run for
//!   `hung_task_timeout_secs`. It says in the log which, and where they sleep.
//! * **Woken by**: its own time-out, every `hung_task_check_interval_secs` (0: as long as the time-out), and changes of the two.
//! * **Never**: does anything to a task that hangs; counts tasks that a fatal signal can wake, that wait for work (`I`), that are frozen
//!   or being made; looks while the system is frozen for a suspend.
//! * **Knobs** of `kernel.`: `hung_task_timeout_secs` (120; 0 is off), `hung_task_check_interval_secs`, `hung_task_check_count` (tasks
//!   looked at, at most), `hung_task_warnings` (reports left; −1 without limit), `hung_task_panic`, `hung_task_all_cpu_backtrace`; boot
//!   parameter `hung_task_panic=`.
//! * **Counters**: `/sys/kernel/nightshift/daemons/khungtaskd/{scans,tasks,reports}`; the trace event `sched:sched_process_hang`.
//! * **Documented**: Linux `Documentation/admin-guide/sysctl/kernel.rst`.
//!
//! That a task has not run is seen, not known: its count of switches is the same as when it was looked at last. So the time counts from
//! the first look that saw it, and a hang is told after one to two time-outs. ([`policy`] decides all this.)
//!
//! The tasks are gone through by number, holding only the one that is looked at, so that a machine with many loses nothing by it.

mod knobs;
pub mod policy;

use base::{
    Result,
    daemon::{self, Card},
    lockup, pr_err, pr_info, taint, version,
};
use frame::{
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    sync::WaitQueue,
};

use self::policy::{Next, Seen};
use crate::{
    freezer,
    kthread::{self, Kthread, Wake},
    pid, report,
    thread::{TaskRef, thread},
    time, trace,
};

pub(crate) static CARD: Card = Card {
    name: "khungtaskd",
    purpose: "finds tasks that sleep uninterruptibly and have not run for a long time",
    woken_by: "its own time-out, and changes of its knobs",
    never: "does anything to such a task, or counts one that a fatal signal can wake",
    documented: "Linux Documentation/admin-guide/sysctl/kernel.rst (hung_task_*)",
};

/// What is remembered of a task, in the task. Only this thread writes it.
pub(crate) struct Mark {
    switches: AtomicU64,
    since_ns: AtomicU64,
}

impl Mark {
    pub(crate) const fn new() -> Mark {
        Mark { switches: AtomicU64::new(0), since_ns: AtomicU64::new(0) }
    }
    fn get(&self) -> Seen {
        Seen { switches: self.switches.load(Relaxed), since_ns: self.since_ns.load(Relaxed) }
    }
    fn set(&self, s: Seen) {
        self.switches.store(s.switches, Relaxed);
        self.since_ns.store(s.since_ns, Relaxed);
    }
}

static QUEUE: WaitQueue = WaitQueue::new();
/// A knob has been set.
static CHANGED: AtomicBool = AtomicBool::new(false);
static SCANS: AtomicU64 = AtomicU64::new(0);
static TASKS: AtomicU64 = AtomicU64::new(0);
static REPORTS: AtomicU64 = AtomicU64::new(0);

/// What a scan leaves to be done when all tasks have been seen.
#[derive(Default)]
struct After {
    locks: bool,
    backtraces: bool,
    panic: bool,
}

/// `check_hung_uninterruptible_tasks`.
fn scan(timeout_s: u64) {
    let mut after = After::default();
    let mut left = knobs::CHECK_COUNT.load(Relaxed);
    let mut from = 1;
    SCANS.fetch_add(1, Relaxed);
    while left > 0
        && let Some(t) = pid::next(from)
    {
        from = thread(&t).pid().max(from) + 1;
        left -= 1;
        TASKS.fetch_add(1, Relaxed);
        if policy::is_candidate(t.state()) {
            check(&t, timeout_s, &mut after);
        }
        crate::cond_resched();
    }
    if after.locks {
        report::show_all_locks();
    }
    if after.backtraces {
        report::trigger_all_cpu_backtrace();
    }
    if after.panic {
        panic!("hung_task: blocked tasks");
    }
}

fn check(t: &TaskRef, timeout_s: u64, after: &mut After) {
    let mark = &thread(t).hung;
    let (seen, hung) = policy::judge(mark.get(), switches(t), time::now_ns(), timeout_s);
    mark.set(seen);
    let Some(secs) = hung else { return };
    base::trace!(trace::sched_process_hang { comm: trace::comm(thread(t)), pid: thread(t).pid() as i32 });
    if knobs::PANIC.load(Relaxed) != 0 {
        base::log::CONSOLE_LEVEL.store(CONSOLE_MOTORMOUTH, Relaxed);
        (after.locks, after.panic) = (true, true);
    }
    if spend_warning() || after.panic {
        tell(t, secs);
        after.locks = true;
        after.backtraces |= knobs::ALL_BACKTRACES.load(Relaxed) != 0;
    }
    lockup::touch_nmi_watchdog();
}

fn switches(t: &TaskRef) -> u64 {
    let (voluntary, involuntary) = t.switches();
    #[cfg(not(target_os = "none"))]
    if crate::faults::BLIND_TO_SWITCHES.load(Relaxed) {
        return 1;
    }
    voluntary + involuntary
}

/// Before a panic everything is to be seen.
const CONSOLE_MOTORMOUTH: u32 = 15;

fn spend_warning() -> bool {
    knobs::WARNINGS.fetch_update(SeqCst, SeqCst, policy::spend).is_ok()
}

fn tell(t: &TaskRef, secs: u64) {
    let th = thread(t);
    pr_err!("INFO: task {}:{} blocked for more than {secs} seconds.", th.comm(), th.pid());
    pr_err!("      {} {} {}", taint::print_tainted(), version::RELEASE, version::build());
    pr_err!("\"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.");
    report::show_task(t);
    REPORTS.fetch_add(1, Relaxed);
    if knobs::WARNINGS.load(Relaxed) == 0 {
        pr_info!("Future hung task reports are suppressed, see sysctl kernel.hung_task_warnings");
    }
}

/// The knobs are looked at anew.
fn wake() {
    CHANGED.store(true, SeqCst);
    QUEUE.wake_all();
}

fn main(k: &Kthread) -> i32 {
    let mut last = time::now_ns();
    loop {
        let timeout = knobs::TIMEOUT_S.load(Relaxed);
        let sleep = match policy::next_look(last, time::now_ns(), timeout, knobs::INTERVAL_S.load(Relaxed)) {
            Next::Now => {
                if !freezer::freezing() {
                    scan(timeout);
                }
                last = time::now_ns();
                continue;
            }
            Next::In(ns) => Some(ns),
            Next::Never => None,
        };
        match k.wait(&QUEUE, || CHANGED.swap(false, SeqCst).then_some(()), sleep) {
            Wake::Event(()) | Wake::TimedOut => {}
            Wake::Park => k.park(),
            Wake::Freeze => k.freeze(),
            Wake::Stop => return 0,
        }
    }
}

/// Makes the files and the thread.
pub fn start() -> Result<()> {
    knobs::init()?;
    for (name, cell) in [("scans", &SCANS), ("tasks", &TASKS), ("reports", &REPORTS)] {
        let path = alloc::format!("kernel/nightshift/daemons/khungtaskd/{name}");
        base::tree::sys().file(&path, 0o444, move |o| Ok(writeln!(o, "{}", cell.load(Relaxed))?))?;
    }
    daemon::register(&CARD)?;
    daemon::count_work(&CARD, "scans", || SCANS.load(Relaxed))?;
    kthread::spawn("khungtaskd", main)?;
    Ok(())
}
