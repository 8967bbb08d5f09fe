//! # watchdogd
//! * **What for**: feeds watchdog hardware on behalf of user space: between two writes, where the hardware wants to be fed more
//!   often than user space has promised to write; and before anyone has opened the device, where the hardware counts already.
//!   When user space breaks its promise it stops feeding, in time for the bite to come when the promise was broken.
//! * **Woken by**: the time of the next feed; a watchdog that was started, stopped, fed or given another time-out.
//! * **Never**: feeds for a user who has not written in time (the machine would never be reset); waits for anything but
//!   the watchdogs' own locks.
//! * **Priority**: SCHED_FIFO 50: processes that hog the processors are no reason for a reset.
//! * **Knobs**: `watchdog.handle_boot_enabled`, `watchdog.open_timeout`, `watchdog.stop_on_reboot` (boot parameters).
//! * **Counters**: `/sys/kernel/nightshift/daemons/watchdogd/feeds`, and those of every card (`base::daemon`).
//! * **Documented**: Linux `Documentation/watchdog/watchdog-kernel-api.rst` (`max_hw_heartbeat_ms`).
//!
//! The name is old, and misleads: the daemon `watchdog(8)` that writes to the device is a program of user space.

use base::{Result, daemon, tree};
use frame::{
    atomic::{AtomicBool, AtomicU64, Ordering},
    sync::WaitQueue,
};
use sched::{
    kthread::{self, Kthread, Wake},
    policy::Policy,
    time::now_ns,
};

use super::feed::NEVER;

static CARD: daemon::Card = daemon::Card {
    name: "watchdogd",
    purpose: "feeds watchdog hardware between the writes of user space, and before there is a user",
    woken_by: "the time of the next feed; a watchdog that was started, stopped or fed",
    never: "feeds for a user who has not written in time",
    documented: "Linux Documentation/watchdog/watchdog-kernel-api.rst",
};

/// `MAX_RT_PRIO / 2`.
const PRIORITY: u8 = 50;

static QUEUE: WaitQueue = WaitQueue::new();
static NEWS: AtomicBool = AtomicBool::new(false);
static FEEDS: AtomicU64 = AtomicU64::new(0);

/// When it wants to wake up by itself. [`NEVER`] while it reckons: then every change wakes it.
static ASLEEP_UNTIL: AtomicU64 = AtomicU64::new(NEVER);

/// Something has changed. Wakes the thread only if it would sleep too long: a write of user space merely puts the next
/// feed off, and must not cost a wake-up each time.
pub(super) fn look_again() {
    let first = super::all().iter().filter_map(|w| w.next_feed()).min();
    if first.is_some_and(|at| at < ASLEEP_UNTIL.load(Ordering::SeqCst)) && !NEWS.swap(true, Ordering::SeqCst)
    {
        QUEUE.wake_all();
    }
}

/// Feeds what is due; when something will be due next.
fn feed_all() -> Option<u64> {
    let mut first = None;
    for w in super::all() {
        let (fed, next) = w.tend(now_ns());
        FEEDS.fetch_add(u64::from(fed), Ordering::Relaxed);
        first = [first, next].into_iter().flatten().min();
    }
    first
}

fn run(k: &Kthread) -> i32 {
    loop {
        ASLEEP_UNTIL.store(NEVER, Ordering::SeqCst);
        let next = feed_all();
        ASLEEP_UNTIL.store(next.unwrap_or(NEVER), Ordering::SeqCst);
        let timeout = next.map(|at| at.saturating_sub(now_ns()));
        match k.wait(&QUEUE, || NEWS.swap(false, Ordering::SeqCst).then_some(()), timeout) {
            Wake::Event(()) => kthread::because("watchdog-changed"),
            Wake::TimedOut => kthread::because("feed-due"),
            Wake::Park => k.park(),
            Wake::Freeze => k.freeze(),
            Wake::Stop => return 0,
        }
    }
}

/// Starts it.
pub(super) fn start() -> Result<()> {
    daemon::register(&CARD)?;
    daemon::count_work(&CARD, "feeds", || FEEDS.load(Ordering::Relaxed))?;
    tree::sys().file("kernel/nightshift/daemons/watchdogd/feeds", 0o444, |o| {
        Ok(writeln!(o, "{}", FEEDS.load(Ordering::Relaxed))?)
    })?;
    let thread = kthread::create(CARD.name, run)?;
    sched::set_policy(thread.task(), Policy::Fifo(PRIORITY), 0)?;
    thread.run();
    Ok(())
}
