//! khungtaskd's files under `/proc/sys/kernel`, and its boot parameter. See the parent for what they mean.

use base::{Result, tree};
use frame::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

use super::wake;
use crate::{HZ, sysctl};

pub(super) static TIMEOUT_S: AtomicU64 = AtomicU64::new(120);
pub(super) static INTERVAL_S: AtomicU64 = AtomicU64::new(0);
pub(super) static CHECK_COUNT: AtomicI32 = AtomicI32::new(PID_MAX_LIMIT);
pub(super) static WARNINGS: AtomicI32 = AtomicI32::new(10);
pub(super) static PANIC: AtomicI32 = AtomicI32::new(0);
pub(super) static ALL_BACKTRACES: AtomicI32 = AtomicI32::new(0);

/// As many tasks as there can be.
const PID_MAX_LIMIT: i32 = 4 << 20;
/// What a number of ticks can hold.
const MOST_S: i64 = i64::MAX / HZ as i64;

fn seconds(name: &str, cell: &'static AtomicU64) -> Result<()> {
    tree::proc().knob(
        &alloc::format!("sys/kernel/{name}"),
        0o644,
        move |o| Ok(writeln!(o, "{}", cell.load(Relaxed))?),
        move |b| {
            cell.store(sysctl::parse(b, &(0..=MOST_S))? as u64, Relaxed);
            wake();
            Ok(())
        },
    )
}

pub(super) fn init() -> Result<()> {
    if let Some(n) = sysctl::boot("hung_task_panic", &(0..=1)) {
        PANIC.store(n, Relaxed);
    }
    let nothing = || {};
    let most = i64::from(i32::MAX);
    seconds("hung_task_timeout_secs", &TIMEOUT_S)?;
    seconds("hung_task_check_interval_secs", &INTERVAL_S)?;
    sysctl::int("hung_task_check_count", &CHECK_COUNT, 0..=most, nothing)?;
    sysctl::int("hung_task_warnings", &WARNINGS, -1..=most, nothing)?;
    sysctl::int("hung_task_panic", &PANIC, 0..=1, nothing)?;
    sysctl::int("hung_task_all_cpu_backtrace", &ALL_BACKTRACES, 0..=1, nothing)
}
