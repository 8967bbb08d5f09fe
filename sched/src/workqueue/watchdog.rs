//! Notices pools that make no progress, and says what they are at: the work queues' watchdog, and their part of SysRq-t.
//!
//! A pool is stuck when items wait and none has been taken up for `workqueue.watchdog_thresh` seconds (0: nobody looks).

use alloc::{string::String, sync::Arc};
use core::fmt;

use base::{Result, pr_emerg, pr_info, tree::Out};
use frame::{
    atomic::{AtomicBool, AtomicU64, Ordering},
    sync::once::Once,
};

use super::{
    attrs, pool,
    pool::Pool,
    queue,
    worker::{InPool, Worker},
};
use crate::time::{self, TimerWheel};

static THRESH_S: AtomicU64 = AtomicU64::new(30);
const SECOND_NS: u64 = 1_000_000_000;
static TIMER: Once<TimerWheel> = Once::new();

/// The timer is on its way: it is while something waits.
static ARMED: AtomicBool = AtomicBool::new(false);

pub(super) fn init() -> Result<()> {
    let t = TimerWheel::new(|_| look())?;
    TIMER.call_once(|| t);
    Ok(())
}
pub(super) fn thresh() -> u64 {
    THRESH_S.load(Ordering::Relaxed)
}
/// Changes it. What waits already is looked after by the new time.
pub(super) fn set_thresh(s: u64) {
    THRESH_S.store(s, Ordering::Relaxed);
    ARMED.store(true, Ordering::Relaxed);
    arm();
}
/// Something waits: looks after it, if nobody does yet.
#[inline]
pub(super) fn watch() {
    if !ARMED.load(Ordering::Relaxed) && !ARMED.swap(true, Ordering::Relaxed) {
        arm();
    }
}
fn arm() {
    match (TIMER.get(), thresh()) {
        (None, _) | (_, 0) => ARMED.store(false, Ordering::Relaxed),
        (Some(t), s) => {
            t.arm_in(s.saturating_mul(SECOND_NS));
        }
    }
}

/// For how long a pool has been stuck, if it is.
fn stuck_ns(waiting: bool, progress_ns: u64, now_ns: u64, thresh_s: u64) -> Option<u64> {
    let ns = now_ns.saturating_sub(progress_ns);
    (waiting && thresh_s != 0 && ns > thresh_s.saturating_mul(SECOND_NS)).then_some(ns)
}

/// Calls `f` for each pool. From any context.
fn for_each_pool(mut f: impl FnMut(&Arc<Pool>)) {
    pool::per_cpu().iter().flatten().for_each(&mut f);
    let mut i = 0;
    while let Some(p) = attrs::nth_pool(i) {
        f(&p);
        i += 1;
    }
}

/// In softirq context.
fn look() {
    let (now, thresh) = (time::now_ns(), thresh());
    ARMED.store(false, Ordering::Relaxed);
    let (mut found, mut waits) = (false, false);
    for_each_pool(|p| {
        let ns = {
            let s = p.lock();
            waits |= !s.worklist.is_empty();
            stuck_ns(!s.worklist.is_empty(), s.progress_ns, now, thresh)
        };
        if let Some(ns) = ns {
            found = true;
            pr_emerg!("BUG: workqueue lockup - pool{} stuck for {}s!", info(p), ns / SECOND_NS);
        }
    });
    if found {
        pr_info!("Showing busy workqueues and worker pools:");
        for_each_pool(show_pool);
    }
    if waits {
        watch();
    }
}

/// What is under way in all queues and pools: for SysRq-t. Sleeps.
pub fn show_all_workqueues() {
    pr_info!("Showing busy workqueues and worker pools:");
    queue::for_each(|q| {
        for p in q.all.lock().iter() {
            let (active, waiting) = {
                let _pool = p.pool.lock();
                let s = p.state.lock();
                (s.active, s.inactive.len())
            };
            if active > 0 || waiting > 0 {
                pr_info!("workqueue {}: flags={:#x}", q.name(), q.flags().bits());
                pr_info!("  pwq {}:{} active={active} inactive={waiting}", p.pool.id, info(&p.pool));
            }
        }
    });
    for_each_pool(show_pool);
}

/// How Linux describes a pool, but for the NUMA node, which this room does not know.
struct Info {
    cpus: String,
    flags: u32,
    nice: i8,
}
impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " cpus={} flags={:#x} nice={}", self.cpus, self.flags, self.nice)
    }
}
fn info(p: &Pool) -> Info {
    /// `POOL_MANAGER_ACTIVE`, `POOL_DISASSOCIATED`.
    const MANAGER_ACTIVE: u32 = 1 << 1;
    const DISASSOCIATED: u32 = 1 << 2;
    let (managing, away) = {
        let s = p.lock();
        (s.managing, s.disassociated || p.cpu.is_none())
    };
    Info {
        cpus: base::cpulist::text(p.attrs.cpumask),
        flags: (u32::from(managing) * MANAGER_ACTIVE) | (u32::from(away) * DISASSOCIATED),
        nice: p.attrs.nice,
    }
}

/// What is executed in a pool, and what waits. Nothing if neither is.
fn show_pool(p: &Arc<Pool>) {
    let mut text = Out::new();
    let described = describe(p, &mut text);
    let text = text.into_vec();
    if text.is_empty() && described.is_ok() {
        return;
    }
    let text = core::str::from_utf8(&text).unwrap_or("?");
    pr_info!("pool {}:{} in-flight:{text}{}", p.id, info(p), if described.is_err() { " ..." } else { "" });
}
fn describe(p: &Pool, out: &mut Out) -> fmt::Result {
    let s = p.lock();
    for w in frame::containers::List::<Worker, InPool>::iter(&s.workers) {
        if let Some((pid, function)) = w.at_work() {
            write!(out, " {pid}:{function}")?;
        }
    }
    if !s.worklist.is_empty() {
        write!(out, " pending:")?;
    }
    s.worklist.iter().try_for_each(|w| write!(out, " {}", w.name()))
}

#[cfg(test)]
mod tests {
    use frame::cpu::{CpuId, CpuMask};

    use super::*;

    #[test]
    fn stuck_is_to_wait_without_progress() {
        let s = SECOND_NS;
        assert_eq!(stuck_ns(true, s, 32 * s, 30), Some(31 * s));
        assert_eq!(stuck_ns(true, s, 31 * s, 30), None);
        assert_eq!(stuck_ns(false, s, 90 * s, 30), None);
        assert_eq!(stuck_ns(true, s, 90 * s, 0), None);
        assert_eq!(stuck_ns(true, 90 * s, s, 30), None);
    }

    #[test]
    fn pools_are_described_as_linux_does() {
        let pool = |cpu, cpumask| {
            let attrs = attrs::PoolAttrs::new(-20, CpuMask(cpumask));
            Pool::new(7, cpu, attrs).unwrap()
        };
        let away = pool(Some(CpuId::BOOT), 1);
        assert_eq!(info(&away).to_string(), " cpus=0 flags=0x4 nice=-20");
        away.lock().disassociated = false;
        assert_eq!(info(&away).to_string(), " cpus=0 flags=0x0 nice=-20");
        let unbound = pool(None, 0b1011);
        unbound.lock().managing = true;
        assert_eq!(info(&unbound).to_string(), " cpus=0-1,3 flags=0x6 nice=-20");
    }
}
