//! The scheduler's counters, and the files that show them: `/proc/stat`, `loadavg`, `uptime`, `softirqs`,
//! `sys/kernel/pid_max`.

use base::{Errno, Result, tree};
use frame::{
    atomic::{AtomicU64, Ordering},
    cpu::CpuId,
};

pub use crate::account::{CpuTimes, cpu_times};
use crate::{core::cpu, load, pid, softirq, thread::thread, time};

/// Tasks that run or wait to.
pub fn nr_running() -> u32 {
    frame::cpu::online().iter().map(|c| cpu(c).runnable.load(Ordering::Relaxed)).sum()
}
/// Tasks that sleep uninterruptibly, those in state `I` not counted.
pub fn nr_uninterruptible() -> u32 {
    load::uninterruptible()
}
/// Tasks that sleep for I/O.
pub fn nr_iowait() -> u32 {
    frame::cpu::online().iter().map(|c| cpu(c).iowait.load(Ordering::Relaxed)).sum::<i64>().max(0) as u32
}
/// Switches of tasks on all processors.
pub fn ctxt() -> u64 {
    frame::cpu::online().iter().map(|c| cpu(c).switches.load(Ordering::Relaxed)).sum()
}
/// Switches on one processor.
pub fn ctxt_of(c: CpuId) -> u64 {
    cpu(c).switches.load(Ordering::Relaxed)
}

static FORKS: AtomicU64 = AtomicU64::new(0);

/// Tasks made since boot: `processes` of `/proc/stat`.
pub fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}
pub(crate) fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// User space's tick: 1/100 s.
const USER_TICK_NS: u64 = 10_000_000;

fn cpu_line(out: &mut tree::Out, name: core::fmt::Arguments<'_>, t: &CpuTimes) -> Result<()> {
    let f = |ns: u64| ns / USER_TICK_NS;
    writeln!(
        out,
        "{name} {} {} {} {} {} {} {} 0 0 0",
        f(t.user_ns),
        f(t.nice_ns),
        f(t.system_ns),
        f(t.idle_ns),
        f(t.iowait_ns),
        f(t.irq_ns),
        f(t.softirq_ns)
    )?;
    Ok(())
}

fn show_stat(out: &mut tree::Out) -> Result<()> {
    let mut sum = CpuTimes::default();
    for c in frame::cpu::online().iter() {
        let t = cpu_times(c);
        sum.user_ns += t.user_ns;
        sum.nice_ns += t.nice_ns;
        sum.system_ns += t.system_ns;
        sum.idle_ns += t.idle_ns;
        sum.iowait_ns += t.iowait_ns;
        sum.irq_ns += t.irq_ns;
        sum.softirq_ns += t.softirq_ns;
    }
    cpu_line(out, format_args!("cpu "), &sum)?;
    for c in frame::cpu::online().iter() {
        cpu_line(out, format_args!("cpu{c}"), &cpu_times(c))?;
    }
    let lines = || (0..frame::irq::MAX_IRQS as u32).map(frame::irq::count);
    write!(out, "intr {}", lines().sum::<u64>())?;
    for n in lines() {
        write!(out, " {n}")?;
    }
    writeln!(out, "\nctxt {}", ctxt())?;
    writeln!(out, "btime {}", time::boot_realtime_ns() / 1_000_000_000)?;
    writeln!(out, "processes {}", forks())?;
    writeln!(out, "procs_running {}", nr_running())?;
    writeln!(out, "procs_blocked {}", nr_iowait())?;
    let total = |v| frame::cpu::online().iter().map(|c| softirq::count(c, v)).sum::<u64>();
    write!(out, "softirq {}", (0..softirq::VECTORS).map(total).sum::<u64>())?;
    for v in 0..softirq::VECTORS {
        write!(out, " {}", total(v))?;
    }
    Ok(writeln!(out)?)
}

fn show_loadavg(out: &mut tree::Out) -> Result<()> {
    for a in load::loadavg() {
        // Half of the last digit that is shown.
        let a = a + (1 << load::FSHIFT) / 200;
        let fraction = ((a & ((1 << load::FSHIFT) - 1)) * 100) >> load::FSHIFT;
        write!(out, "{}.{fraction:02} ", a >> load::FSHIFT)?;
    }
    Ok(writeln!(out, "{}/{} {}", nr_running(), pid::count(), pid::last())?)
}

fn show_uptime(out: &mut tree::Out) -> Result<()> {
    let up = time::boottime_ns() / USER_TICK_NS;
    let idle: u64 = frame::cpu::online().iter().map(|c| cpu_times(c).idle_ns).sum::<u64>() / USER_TICK_NS;
    Ok(writeln!(out, "{}.{:02} {}.{:02}", up / 100, up % 100, idle / 100, idle % 100)?)
}

fn show_softirqs(out: &mut tree::Out) -> Result<()> {
    write!(out, "                    ")?;
    for c in frame::cpu::online().iter() {
        write!(out, "CPU{:<8}", c.get())?;
    }
    writeln!(out)?;
    for (v, name) in softirq::NAMES.iter().enumerate() {
        write!(out, "{name:>12}:")?;
        for c in frame::cpu::online().iter() {
            write!(out, " {:>10}", softirq::count(c, v))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Registers the files.
pub(crate) fn init() -> Result<()> {
    let p = tree::proc();
    p.file("stat", 0o444, show_stat)?;
    p.file("loadavg", 0o444, show_loadavg)?;
    p.file("uptime", 0o444, show_uptime)?;
    p.file("softirqs", 0o444, show_softirqs)?;
    p.knob(
        "sys/kernel/pid_max",
        0o644,
        |out| Ok(writeln!(out, "{}", pid::pid_max())?),
        |b| {
            let s = core::str::from_utf8(b).map_err(|_| Errno::EINVAL)?;
            pid::set_pid_max(s.trim().parse().map_err(|_| Errno::EINVAL)?)
        },
    )?;
    Ok(())
}

/// One line per task, for a panic or `SysRq-t`.
pub fn show_tasks(out: &mut dyn core::fmt::Write) -> core::fmt::Result {
    for t in pid::all() {
        let th = thread(&t);
        let (state, cpu) = (crate::state_char(&t), t.cpu());
        writeln!(out, "{:>6} {state} cpu {cpu} prio {} {}", th.pid(), th.prio(), th.comm())?;
    }
    Ok(())
}
