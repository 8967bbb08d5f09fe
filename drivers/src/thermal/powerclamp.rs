//! `intel_powerclamp`: the cooling device that makes processors idle for a share of the time, by way of `idle_inject/N`.
//!
//! Its state is that share in per cent; 0 is off. What is read back is what was achieved lately, not what was asked for.
//!
//! | parameter, in `/sys/module/intel_powerclamp/parameters` | |
//! |---|---|
//! | `duration` | how long to idle at a time, in milliseconds: 6 to 25 |
//! | `max_idle` | states from here on are cut to one less, in per cent |
//! | `cpumask` | the processors, as a hexadecimal mask |
//!
//! The last two can be changed only while it is off (EAGAIN). All processors may not be made to idle for more than half of the time (EINVAL).
//! Documented: Linux `Documentation/admin-guide/thermal/intel_powerclamp.rst`. Linux's driver wants an Intel processor with MWAIT; this one
//! idles as the idle task does, and is always there. What one rest takes too long, the next ones are shorter
//! (`sched::idle_inject`); Linux's steers by a table that it learns.

use base::{Errno, Result, cpumask, tree};
use frame::{
    cpu::CpuMask,
    sync::{LockClass, Mutex},
};
use sched::{idle_inject::IdleInject, time};

use super::CoolingDevice;

/// Highest state: the whole of the time.
const MAX_TARGET_RATIO: u64 = 100;
/// The most that all processors together may idle, per cent; also what `max_idle` begins with.
const MAX_ALL_CPU_IDLE: u64 = 50;
const MIN_DURATION_MS: u64 = 6;
const MAX_DURATION_MS: u64 = 25;
/// Over how long the achieved share is taken, in nanoseconds.
const WINDOW_NS: u64 = 1_000_000_000;

/// What had been injected at a moment.
#[derive(Clone, Copy)]
struct Sample {
    at_ns: u64,
    injected_ns: u64,
}

struct On {
    inject: IdleInject,
    target: u64,
    /// The share is taken from the older one; a read moves them along.
    older: Sample,
    newer: Sample,
}

struct Clamp {
    duration_ms: u64,
    max_idle: u64,
    cpus: CpuMask,
    on: Option<On>,
}

static CLASS: LockClass = LockClass::new("powerclamp");
static CLAMP: Mutex<Clamp> = Mutex::new(
    &CLASS,
    Clamp { duration_ms: MIN_DURATION_MS, max_idle: MAX_ALL_CPU_IDLE, cpus: CpuMask::ALL, on: None },
);

/// How long to run between two rests of `idle_us` so that these are `per_cent` of the time.
fn run_us(idle_us: u64, per_cent: u64) -> u64 {
    (idle_us * 100 / per_cent.clamp(1, 99)).saturating_sub(idle_us).max(1)
}

impl On {
    fn sample(&self) -> Sample {
        Sample { at_ns: time::now_ns(), injected_ns: self.inject.mean_injected_ns() }
    }
    /// The share of idle time that was injected lately, per cent; what is asked for until there is something to tell from.
    fn achieved(&mut self) -> u64 {
        let now = self.sample();
        if now.at_ns - self.newer.at_ns >= WINDOW_NS {
            (self.older, self.newer) = (self.newer, now);
        }
        let passed = now.at_ns - self.older.at_ns;
        if passed < WINDOW_NS / 4 {
            return self.target;
        }
        let idle = now.injected_ns.saturating_sub(self.older.injected_ns);
        ((idle * 100 + passed / 2) / passed).min(100)
    }
}

impl Clamp {
    fn set_state(&mut self, state: u64) -> Result<()> {
        let target = state.min(self.max_idle - 1);
        if target == 0 {
            self.on = None;
            return Ok(());
        }
        let idle_us = self.duration_ms * 1000;
        let inject = match self.on.take() {
            Some(on) => on.inject,
            None => IdleInject::register(self.cpus)?,
        };
        inject.set_duration(run_us(idle_us, target), idle_us);
        inject.start()?;
        let now = Sample { at_ns: time::now_ns(), injected_ns: inject.mean_injected_ns() };
        self.on = Some(On { inject, target, older: now, newer: now });
        Ok(())
    }
    fn set_limits(&mut self, max_idle: u64, cpus: CpuMask) -> Result<()> {
        if self.on.is_some() {
            return Err(Errno::EAGAIN);
        }
        let all = cpumask::all();
        let cpus = cpus.and(all);
        if !(1..=100).contains(&max_idle) || cpus.is_empty() || cpus == all && max_idle > MAX_ALL_CPU_IDLE {
            return Err(Errno::EINVAL);
        }
        (self.max_idle, self.cpus) = (max_idle, cpus);
        Ok(())
    }
}

struct Device;

impl CoolingDevice for Device {
    fn max_state(&self) -> u64 {
        MAX_TARGET_RATIO
    }
    fn cur_state(&self) -> Result<u64> {
        Ok(CLAMP.lock().on.as_mut().map_or(0, On::achieved))
    }
    fn set_cur_state(&self, state: u64) -> Result<()> {
        CLAMP.lock().set_state(state)
    }
}

fn set_duration(b: &[u8]) -> Result<()> {
    let ms = tree::kstrto::<u64>(b)?;
    if !(MIN_DURATION_MS..=MAX_DURATION_MS).contains(&ms) {
        return Err(Errno::EINVAL);
    }
    CLAMP.lock().duration_ms = ms;
    Ok(())
}

fn set_cpus(b: &[u8]) -> Result<()> {
    let cpus = cpumask::parse(b)?;
    let mut c = CLAMP.lock();
    let max_idle = c.max_idle;
    c.set_limits(max_idle, cpus)
}

/// Registers the device and its parameters.
pub fn init() -> Result<()> {
    let t = tree::sys();
    let path = |name: &str| alloc::format!("module/intel_powerclamp/parameters/{name}");
    t.knob(&path("duration"), 0o644, |o| Ok(writeln!(o, "{}", CLAMP.lock().duration_ms)?), set_duration)?;
    t.knob(
        &path("max_idle"),
        0o644,
        |o| Ok(writeln!(o, "{}", CLAMP.lock().max_idle)?),
        |b| {
            let n = tree::kstrto::<u64>(b)?;
            let mut c = CLAMP.lock();
            let cpus = c.cpus;
            c.set_limits(n, cpus)
        },
    )?;
    t.knob(
        &path("cpumask"),
        0o644,
        |o| Ok(writeln!(o, "{}", cpumask::text(CLAMP.lock().cpus.and(cpumask::all())))?),
        set_cpus,
    )?;
    super::register("intel_powerclamp", Device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for per_cent in 1..=99 {
            let run = run_us(6000, per_cent);
            let share = 6000.0 * 100.0 / (6000 + run) as f64;
            assert!((share - per_cent as f64).abs() < 1.0, "{per_cent}: {share}");
        }
    }
}
