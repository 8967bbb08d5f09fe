//! How many tasks each user has: what `RLIMIT_NPROC` limits.

use alloc::collections::BTreeMap;

use base::{Errno, Result};
use frame::{
    atomic::{AtomicU64, Ordering::Relaxed},
    sync::{LockClass, SpinLock},
};

static CLASS: LockClass = LockClass::new("user_counts");
static COUNTS: SpinLock<BTreeMap<u32, u64>> = SpinLock::new(&CLASS, BTreeMap::new());

/// `kernel.threads-max`; 0 until it is asked for the first time.
static THREADS_MAX: AtomicU64 = AtomicU64::new(0);
/// The least and the most that it may be set to, as on Linux.
const THREADS_RANGE: core::ops::RangeInclusive<u64> = 20..=0x3fff_ffff;

/// How many tasks there may be at once, whoever's they are: as many as fit an eighth of memory with their kernel stacks
/// (Linux's `set_max_threads`), unless the knob says otherwise.
pub(crate) fn threads_max() -> u64 {
    match THREADS_MAX.load(Relaxed) {
        0 => {
            let stack_pages = frame::task::STACK_PAGES as u64;
            let n = (mm::buddy::managed_pages() / (8 * stack_pages))
                .clamp(*THREADS_RANGE.start(), *THREADS_RANGE.end());
            THREADS_MAX.store(n, Relaxed);
            n
        }
        n => n,
    }
}

/// Declares the knob.
pub(crate) fn declare() -> Result<()> {
    base::tree::proc().knob(
        "sys/kernel/threads-max",
        0o644,
        |o| Ok(writeln!(o, "{}", threads_max())?),
        |b| {
            let n = u64::try_from(base::tree::parse_int(b)?).map_err(|_| Errno::EINVAL)?;
            if !THREADS_RANGE.contains(&n) {
                return Err(Errno::EINVAL);
            }
            THREADS_MAX.store(n, Relaxed);
            Ok(())
        },
    )
}

/// Counts one task more for `uid`. `EAGAIN` beyond `limit`, unless exempt.
pub(crate) fn charge(uid: u32, limit: u64, exempt: bool) -> Result<()> {
    if sched::pid::count() as u64 >= threads_max() {
        return Err(Errno::EAGAIN);
    }
    let mut c = COUNTS.lock();
    let n = c.entry(uid).or_insert(0);
    if *n >= limit && !exempt {
        return Err(Errno::EAGAIN);
    }
    *n += 1;
    Ok(())
}

/// One task less.
pub(crate) fn uncharge(uid: u32) {
    let mut c = COUNTS.lock();
    if let Some(n) = c.get_mut(&uid) {
        *n -= 1;
        if *n == 0 {
            c.remove(&uid);
        }
    }
}

/// A task's real user has changed.
pub(crate) fn moved(from: u32, to: u32) {
    if from != to {
        let _ = charge(to, u64::MAX, true);
        uncharge(from);
    }
}
