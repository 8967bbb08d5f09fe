//! The detectors' files under `/proc/sys/kernel`, and their boot parameters. See the parent for what they mean.

use base::{Errno, Result, cpulist, cpumask, params, tree};
use frame::atomic::{AtomicI32, Ordering::Relaxed};

use super::{ENABLED, HARD, MASK, SOFT, THRESH, hard, mask, policy::THRESH_MAX, reconfigure, soft};
use crate::sysctl;

/// What user space wants on.
static BOTH: AtomicI32 = AtomicI32::new(1);
static SOFT_WANTED: AtomicI32 = AtomicI32::new(1);
static HARD_WANTED: AtomicI32 = AtomicI32::new(1);

/// What is to be on.
pub(super) fn wanted() -> u32 {
    let on = |w: &AtomicI32, bit| if w.load(Relaxed) != 0 { bit } else { 0 };
    if BOTH.load(Relaxed) == 0 { 0 } else { on(&SOFT_WANTED, SOFT) | on(&HARD_WANTED, HARD) }
}

/// What `nmi_watchdog=` says, word by word.
fn boot_nmi(value: &str) {
    for word in value.split(',') {
        match word {
            "panic" => hard::PANIC.store(1, Relaxed),
            "nopanic" => hard::PANIC.store(0, Relaxed),
            w if w.starts_with('0') => HARD_WANTED.store(0, Relaxed),
            w if w.starts_with('1') => HARD_WANTED.store(1, Relaxed),
            _ => {}
        }
    }
}

fn boot() {
    if params::flag("nowatchdog") {
        BOTH.store(0, Relaxed);
    }
    if params::flag("nosoftlockup") {
        SOFT_WANTED.store(0, Relaxed);
    }
    if let Some(v) = params::get("nmi_watchdog") {
        boot_nmi(v);
    }
    for (name, cell, most) in [
        ("watchdog_thresh", &THRESH, THRESH_MAX),
        ("softlockup_panic", &soft::PANIC, 1),
        ("softlockup_all_cpu_backtrace", &soft::ALL_BACKTRACES, 1),
        ("hardlockup_all_cpu_backtrace", &hard::ALL_BACKTRACES, 1),
    ] {
        if let Some(n) = sysctl::boot(name, &(0..=most)) {
            cell.store(n, Relaxed);
        }
    }
}

/// A switch whose file shows what is on, whatever was written.
fn switch(name: &str, cell: &'static AtomicI32, shows: u32) -> Result<()> {
    tree::proc().knob(
        &alloc::format!("sys/kernel/{name}"),
        0o644,
        move |o| Ok(writeln!(o, "{}", u8::from(ENABLED.load(Relaxed) & shows != 0))?),
        move |b| {
            let n = sysctl::parse(b, &(0..=1))? as i32;
            if cell.swap(n, Relaxed) != n {
                reconfigure();
            }
            Ok(())
        },
    )
}

fn set_mask(b: &[u8]) -> Result<()> {
    let m = cpulist::parse(b).map_err(|_| Errno::EINVAL)?.and(cpumask::all());
    if MASK.swap(m.0, Relaxed) != m.0 {
        reconfigure();
    }
    Ok(())
}

pub(super) fn init() -> Result<()> {
    MASK.store(cpumask::all().0, Relaxed);
    boot();
    switch("watchdog", &BOTH, SOFT | HARD)?;
    switch("soft_watchdog", &SOFT_WANTED, SOFT)?;
    switch("nmi_watchdog", &HARD_WANTED, HARD)?;
    sysctl::int("watchdog_thresh", &THRESH, 0..=THRESH_MAX, reconfigure)?;
    let show = |o: &mut tree::Out| Ok(writeln!(o, "{}", cpulist::text(mask()))?);
    tree::proc().knob("sys/kernel/watchdog_cpumask", 0o644, show, set_mask)?;
    let nothing = || {};
    sysctl::int("softlockup_panic", &soft::PANIC, 0..=1, nothing)?;
    sysctl::int("hardlockup_panic", &hard::PANIC, 0..=1, nothing)?;
    sysctl::int("softlockup_all_cpu_backtrace", &soft::ALL_BACKTRACES, 0..=1, nothing)?;
    sysctl::int("hardlockup_all_cpu_backtrace", &hard::ALL_BACKTRACES, 0..=1, nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nmi_watchdog_takes_several_words() {
        boot_nmi("panic,0");
        assert_eq!((hard::PANIC.load(Relaxed), HARD_WANTED.load(Relaxed)), (1, 0));
        assert_eq!(wanted(), SOFT);
        boot_nmi("nopanic,1");
        assert_eq!((hard::PANIC.load(Relaxed), wanted()), (0, SOFT | HARD));
        BOTH.store(0, Relaxed);
        assert_eq!(wanted(), 0);
    }
}
