//! The files of `/sys/power`.

use base::{
    Errno, Result,
    tree::{self, kstrto},
};
use frame::atomic::Ordering::{Relaxed, SeqCst};
use sched::{freezer::TIMEOUT_MS, wakeup};

use super::{Level, STATS, TEST, TEST_DELAY};

/// What was written, without the newline.
fn word(b: &[u8]) -> &[u8] {
    b.strip_suffix(b"\n").unwrap_or(b)
}

/// Declares them.
pub(crate) fn init() -> Result<()> {
    let t = tree::sys();
    t.knob(
        "power/state",
        0o644,
        |o| o.push(b"freeze mem\n"),
        |b| match word(b) {
            b"freeze" | b"mem" => super::suspend(),
            _ => Err(Errno::EINVAL),
        },
    )?;
    t.knob(
        "power/mem_sleep",
        0o644,
        |o| o.push(b"[s2idle]\n"),
        |b| if word(b) == b"s2idle" { Ok(()) } else { Err(Errno::EINVAL) },
    )?;
    t.knob(
        "power/pm_test",
        0o644,
        |o| Level::of(TEST.load(SeqCst)).show(o),
        |b| {
            TEST.store(Level::parse(word(b))? as u32, SeqCst);
            Ok(())
        },
    )?;
    t.knob(
        "power/pm_freeze_timeout",
        0o644,
        |o| Ok(writeln!(o, "{}", TIMEOUT_MS.load(Relaxed))?),
        |b| {
            TIMEOUT_MS.store(u64::from(kstrto::<u32>(b)?), Relaxed);
            Ok(())
        },
    )?;
    t.knob(
        "power/wakeup_count",
        0o644,
        |o| Ok(writeln!(o, "{}", wakeup::count())?),
        |b| if wakeup::save(kstrto(b)?) { Ok(()) } else { Err(Errno::EINVAL) },
    )?;
    t.knob(
        "module/suspend/parameters/pm_test_delay",
        0o644,
        |o| Ok(writeln!(o, "{}", TEST_DELAY.load(Relaxed))?),
        |b| {
            TEST_DELAY.store(kstrto(b)?, Relaxed);
            Ok(())
        },
    )?;
    stats()
}

fn stats() -> Result<()> {
    let t = tree::sys();
    let counters =
        [("success", &STATS.success), ("fail", &STATS.fail), ("failed_freeze", &STATS.failed_freeze)];
    for (name, cell) in counters {
        t.file(&alloc::format!("power/suspend_stats/{name}"), 0o444, move |o| {
            Ok(writeln!(o, "{}", cell.load(Relaxed))?)
        })?;
    }
    t.file("power/suspend_stats/last_failed_errno", 0o444, |o| {
        Ok(writeln!(o, "{}", STATS.last_errno.load(Relaxed))?)
    })
}
