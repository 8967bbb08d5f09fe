//! `/sys/devices/virtual/workqueue/`: queues made with `SYSFS`, and where unbound work may go;
//! `/sys/module/workqueue/parameters/`; and what the queues and pools have done, in `/sys/kernel/nightshift/daemons/kworker/`.

use alloc::{format, sync::Arc};

use base::{
    Errno, Result, cpumask,
    tree::{self, Out, kstrto},
};
use frame::{atomic::Ordering, cpu::CpuMask};

use super::{
    attrs, intensive, pool,
    pool::Pool,
    pwq::Stats,
    queue::{self, Flags, Workqueue},
    scope::Scope,
    watchdog,
};

const HOME: &str = "devices/virtual/workqueue";

/// As the kernel's `sscanf("%d")` takes a number: white space before it, anything behind it, and of a number that is too large the
/// low 32 bits. EINVAL if there is none.
fn scan_int(b: &[u8]) -> Result<i32> {
    let b = b.trim_ascii_start();
    let (negative, b) = match b {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, b),
    };
    if !b.first().is_some_and(u8::is_ascii_digit) {
        return Err(Errno::EINVAL);
    }
    let digits = b.iter().take_while(|c| c.is_ascii_digit());
    let v = digits.fold(0i32, |v, c| v.wrapping_mul(10).wrapping_add(i32::from(c - b'0')));
    Ok(if negative { v.wrapping_neg() } else { v })
}

/// A queue's folder.
pub(super) fn register(q: &Arc<Workqueue>) -> Result<()> {
    let t = tree::sys();
    let home = format!("{HOME}/{}", q.name());
    let per_cpu = !q.flags().contains(Flags::UNBOUND);
    t.file(&format!("{home}/per_cpu"), 0o444, move |o| Ok(writeln!(o, "{}", per_cpu as u32)?))?;
    let (a, b) = (q.clone(), q.clone());
    t.knob(
        &format!("{home}/max_active"),
        0o644,
        move |o| Ok(writeln!(o, "{}", a.max_active())?),
        move |s| b.set_max_active(u32::try_from(scan_int(s)?).map_err(|_| Errno::EINVAL)?),
    )?;
    if !per_cpu {
        register_attrs(q, &home)?;
    }
    t.link(&format!("{home}/subsystem"), "../../../../bus/workqueue")?;
    t.link(&format!("bus/workqueue/devices/{}", q.name()), &format!("../../../{home}"))
}

fn register_attrs(q: &Arc<Workqueue>, home: &str) -> Result<()> {
    let t = tree::sys();
    let (a, b) = (q.clone(), q.clone());
    t.knob(
        &format!("{home}/nice"),
        0o644,
        move |o| Ok(writeln!(o, "{}", a.attrs.lock().nice)?),
        move |s| {
            let n = scan_int(s)?;
            if !(-20..=19).contains(&n) {
                return Err(Errno::EINVAL);
            }
            b.change_attrs(|a| a.nice = n as i8)
        },
    )?;
    let (a, b) = (q.clone(), q.clone());
    t.knob(
        &format!("{home}/cpumask"),
        0o644,
        move |o| Ok(writeln!(o, "{}", cpumask::text(a.attrs.lock().cpumask))?),
        move |s| {
            let m = cpumask::parse(s)?;
            b.change_attrs(|a| a.cpumask = m)
        },
    )?;
    let (a, b) = (q.clone(), q.clone());
    t.knob(
        &format!("{home}/affinity_scope"),
        0o644,
        move |o| {
            let s = a.attrs.lock().scope;
            match s {
                Scope::Default => writeln!(o, "{} ({})", s.name(), Scope::by_default().name())?,
                s => writeln!(o, "{}", s.name())?,
            };
            Ok(())
        },
        move |s| {
            let scope = Scope::parse(s)?;
            b.change_attrs(|a| a.scope = scope)
        },
    )?;
    let (a, b) = (q.clone(), q.clone());
    t.knob(
        &format!("{home}/affinity_strict"),
        0o644,
        move |o| Ok(writeln!(o, "{}", u32::from(a.attrs.lock().strict))?),
        move |s| {
            let strict = scan_int(s)? != 0;
            b.change_attrs(|a| a.strict = strict)
        },
    )
}

pub(super) fn unregister(q: &Workqueue) {
    tree::sys().remove(&format!("{HOME}/{}", q.name()));
    tree::sys().remove(&format!("bus/workqueue/devices/{}", q.name()));
}

/// What is not of one queue.
pub(super) fn init() -> Result<()> {
    let t = tree::sys();
    t.dir("bus/workqueue/devices")?;
    t.dir("bus/workqueue/drivers")?;
    t.knob(
        &format!("{HOME}/cpumask"),
        0o644,
        |o| Ok(writeln!(o, "{}", cpumask::text(attrs::unbound_mask()))?),
        |s| attrs::set_unbound_mask(cpumask::parse(s)?),
    )?;
    t.file(&format!("{HOME}/cpumask_requested"), 0o444, |o| {
        Ok(writeln!(o, "{}", cpumask::text(attrs::requested_mask()))?)
    })?;
    // No processor is kept out: there is no parameter for it, and no partition of processors.
    t.file(&format!("{HOME}/cpumask_isolated"), 0o444, |o| {
        Ok(writeln!(o, "{}", cpumask::text(CpuMask::NONE))?)
    })?;
    parameters()?;
    t.file("kernel/nightshift/daemons/kworker/queues", 0o444, show_queues)?;
    t.file("kernel/nightshift/daemons/kworker/pools", 0o444, show_pools)
}

fn parameters() -> Result<()> {
    let t = tree::sys();
    let home = "module/workqueue/parameters";
    t.knob(
        &format!("{home}/cpu_intensive_thresh_us"),
        0o644,
        |o| Ok(writeln!(o, "{}", intensive::THRESH_US.load(Ordering::Relaxed))?),
        |s| {
            let n = kstrto(s)?;
            intensive::THRESH_US.store(n, Ordering::Relaxed);
            Ok(())
        },
    )?;
    t.knob(
        &format!("{home}/cpu_intensive_warning_thresh"),
        0o644,
        |o| Ok(writeln!(o, "{}", intensive::WARNING_THRESH.load(Ordering::Relaxed))?),
        |s| {
            let n = kstrto(s)?;
            intensive::WARNING_THRESH.store(n, Ordering::Relaxed);
            Ok(())
        },
    )?;
    t.knob(
        &format!("{home}/watchdog_thresh"),
        0o644,
        |o| Ok(writeln!(o, "{}", watchdog::thresh())?),
        |s| {
            watchdog::set_thresh(kstrto(s)?);
            Ok(())
        },
    )?;
    t.knob(
        &format!("{home}/default_affinity_scope"),
        0o644,
        |o| Ok(writeln!(o, "{}", Scope::by_default().name())?),
        |s| {
            Scope::parse(s)?.set_default()?;
            attrs::move_queues(|a| a.scope == Scope::Default)
        },
    )?;
    t.file(&format!("{home}/power_efficient"), 0o444, |o| {
        Ok(writeln!(o, "{}", if super::power_efficient() { 'Y' } else { 'N' })?)
    })
}

/// One line per queue: executed, under way, and what was special.
fn show_queues(o: &mut Out) -> Result<()> {
    writeln!(o, "queue                            total  infl  CPUintens  CMwakeup  mayday  rescued  max")?;
    let mut r = Ok(());
    queue::for_each(|q| {
        let sum =
            |f: fn(&Stats) -> u64| f(&q.core.past) + q.all.lock().iter().map(|p| f(&p.stats)).sum::<u64>();
        let done = sum(|s| s.completed.load(Ordering::Relaxed));
        let line = writeln!(
            o,
            "{:<30} {:>7} {:>5} {:>10} {:>9} {:>7} {:>8} {:>4}",
            q.name(),
            done,
            sum(|s| s.started.load(Ordering::Relaxed)).saturating_sub(done),
            sum(|s| s.cpu_intensive.load(Ordering::Relaxed)),
            sum(|s| s.cm_wakeup.load(Ordering::Relaxed)),
            sum(|s| s.mayday.load(Ordering::Relaxed)),
            sum(|s| s.rescued.load(Ordering::Relaxed)),
            q.max_active(),
        );
        if line.is_err() {
            r = Err(Errno::ENOMEM);
        }
    });
    r
}

fn show_pool(o: &mut Out, p: &Pool) -> Result<()> {
    let (s, bound) = {
        let p = p.lock();
        (p.snapshot(), !p.disassociated)
    };
    let name = if bound { p.name() } else { format!("{} (unbound)", p.name()) };
    Ok(writeln!(
        o,
        "pool {:>3}: {name}{} nice={} cpus={} pod={}{} workers={} idle={} running={} waiting={} managing={}",
        p.id,
        p.suffix(),
        p.attrs.nice,
        cpumask::text(p.attrs.cpumask),
        cpumask::text(p.attrs.pod),
        if p.attrs.strict { " strict" } else { "" },
        s.workers,
        s.idle,
        s.running,
        s.waiting as u32,
        s.managing as u32
    )?)
}

fn show_pools(o: &mut Out) -> Result<()> {
    let mut r = pool::per_cpu().iter().flatten().try_for_each(|p| show_pool(o, p));
    attrs::for_each_pool(|p| {
        if r.is_ok() {
            r = show_pool(o, p);
        }
    });
    r
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_sscanf_takes_them() {
        for (s, n) in [("5", 5), (" -7\n", -7), ("+3x", 3), ("12 13", 12), ("99999999999", 1_215_752_191)] {
            assert_eq!(scan_int(s.as_bytes()), Ok(n), "{s}");
        }
        for s in ["", "\n", "x", "-", "- 1"] {
            assert_eq!(scan_int(s.as_bytes()), Err(Errno::EINVAL), "{s}");
        }
    }
}
