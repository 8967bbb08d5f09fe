//! Suspend: `/sys/power`. The machine is brought to a stand-still, sleeps until something wakes it, and goes on.
//!
//! ```text
//!   echo mem > state ──▶ sync ──▶ no new helpers ──▶ processes frozen ──▶ kernel's freezable threads and queues frozen
//!     ──▶ wake-up events armed ──▶ sleep (s2idle) ──▶ the same, backwards
//! ```
//! There is one kind of sleep, suspend-to-idle ([`sched::s2idle`]): `freeze`, which is also what `mem` means here; no firmware's, and no
//! image on disk. `pm_test` turns back half-way, after five seconds: `freezer` when all is frozen, `devices` and `platform`
//! with wake-up events armed. `processors` and `core` are levels of a firmware's sleep: `EAGAIN`, as on Linux.
//! (Devices have nothing to save over an idle period, and are left as they are.)
//!
//! A wake-up event (`sched::wakeup::event`) since the count that was written to `wakeup_count`, or after the arming, ends it: `EBUSY`.
//!
//! Linux's behaviour: `Documentation/ABI/testing/sysfs-power`, `Documentation/power/basic-pm-debugging.rst`,
//! `kernel/power/{main,suspend,process}.c`.

mod files;
mod level;

use base::{Errno, Result, pr_err, pr_info, pr_warn};
use frame::{
    atomic::{
        AtomicI32, AtomicU32, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
    sync::{LockClass, Mutex},
};
use sched::{freezer, s2idle, wakeup};

use self::level::Level;
use crate::umh;

pub(crate) use files::init;

static CLASS: LockClass = LockClass::new("system_transition");
/// One transition at a time.
static TRANSITION: Mutex<()> = Mutex::new(&CLASS, ());

/// Where `pm_test` turns back.
static TEST: AtomicU32 = AtomicU32::new(Level::None as u32);
/// How long it waits there, in seconds: `suspend.pm_test_delay`.
static TEST_DELAY: AtomicU32 = AtomicU32::new(5);

/// What became of suspends so far.
struct Stats {
    success: AtomicU64,
    fail: AtomicU64,
    failed_freeze: AtomicU64,
    last_errno: AtomicI32,
}

static STATS: Stats = Stats {
    success: AtomicU64::new(0),
    fail: AtomicU64::new(0),
    failed_freeze: AtomicU64::new(0),
    last_errno: AtomicI32::new(0),
};

/// Suspends; returns when the machine is awake again. `EBUSY`: another suspend is under way, something did not freeze, or a wake-up
/// came first; `EAGAIN`.
pub fn suspend() -> Result<()> {
    pr_info!("PM: suspend entry (s2idle)");
    let r = enter();
    match r {
        Ok(()) => STATS.success.fetch_add(1, Relaxed),
        Err(e) => {
            STATS.last_errno.store(-e.code(), Relaxed);
            STATS.fail.fetch_add(1, Relaxed)
        }
    };
    pr_info!("PM: suspend exit");
    r
}

fn enter() -> Result<()> {
    let test = Level::of(TEST.load(SeqCst));
    if test.is_of_firmware() {
        pr_warn!(
            "PM: Unsupported test mode for suspend to idle, please choose none/freezer/devices/platform."
        );
        return Err(Errno::EAGAIN);
    }
    let _one = TRANSITION.try_lock().ok_or(Errno::EBUSY)?;
    sync();
    umh::disable()?;
    let r = freeze().inspect_err(|_| {
        STATS.failed_freeze.fetch_add(1, Relaxed);
    });
    let r = r.and_then(|()| {
        let r = frozen(test);
        thaw();
        r
    });
    umh::enable();
    r
}

/// Brings what was written to stable storage, so that little is lost if the machine does not wake.
fn sync() {
    let start = sched::time::now_ns();
    vfs::emergency::sync_all();
    let ms = (sched::time::now_ns() - start) / 1_000_000;
    pr_info!("Filesystems sync: {}.{:03} seconds", ms / 1000, ms % 1000);
}

fn freeze() -> Result<()> {
    freezer::freeze_processes()?;
    mm::oom::set_enabled(false);
    pr_info!("OOM killer disabled.");
    freezer::freeze_kernel_threads().inspect_err(|_| thaw())
}

fn thaw() {
    freezer::thaw_kernel_threads();
    mm::oom::set_enabled(true);
    pr_info!("OOM killer enabled.");
    freezer::thaw_processes();
}

/// With all frozen: sleeps, or what the test wants instead.
fn frozen(test: Level) -> Result<()> {
    if test == Level::Freezer {
        pause();
        return Ok(());
    }
    wakeup::arm();
    let r = if wakeup::pending() {
        pr_err!("PM: Wakeup pending, aborting suspend");
        Err(Errno::EBUSY)
    } else {
        if test == Level::None {
            s2idle::enter();
        } else {
            pause();
        }
        Ok(())
    };
    wakeup::disarm();
    r
}

/// The test's pause, which a wake-up event ends.
fn pause() {
    let secs = TEST_DELAY.load(Relaxed);
    pr_info!("PM: suspend debug: Waiting for {secs} second(s).");
    for _ in 0..secs {
        if wakeup::pending() {
            break;
        }
        sched::time::sleep_ns(1_000_000_000);
    }
}
