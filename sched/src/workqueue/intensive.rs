//! Items that take the processor for long: they stop counting, so that others need not wait behind them, and are told of.
//!
//! While items wait behind one that is awake, a timer looks after it; one behind which nothing waits is noticed at its end.
//! Linux looks in the scheduler's tick; here a processor that has one thing to do has no tick.

use alloc::sync::Arc;

use frame::{
    atomic::{AtomicU32, AtomicU64, Ordering},
    sync::{LockClass, SpinLockIrq},
};

use super::{
    pool::{Pool, PoolState},
    pwq::{Pwq, count},
    work::Work,
    worker::{InPool, Worker, flags},
};
use crate::{thread::thread, time};

/// `workqueue.cpu_intensive_thresh_us`: an item that has had the processor for so long is intensive. 0: none is.
pub(super) static THRESH_US: AtomicU64 = AtomicU64::new(10_000);
/// `workqueue.cpu_intensive_warning_thresh`: the first time that is told of. 0: none.
pub(super) static WARNING_THRESH: AtomicU32 = AtomicU32::new(4);

fn thresh_ns() -> u64 {
    THRESH_US.load(Ordering::Relaxed).saturating_mul(1000)
}

/// Work waits on a pool where a worker is awake: has it watched.
pub(super) fn watch(pool: &Pool, p: &mut PoolState) {
    let ns = thresh_ns();
    if !p.hog_armed && ns != 0 && pool.cpu.is_some() {
        p.hog_armed = true;
        pool.hog_timer().arm(time::now_ns() + ns);
    }
}

/// The timer. In hardware-interrupt context.
pub(super) fn look(pool: &Arc<Pool>) {
    let ns = thresh_ns();
    let mut p = pool.lock();
    p.hog_armed = false;
    if ns == 0 {
        return;
    }
    while let Some(w) = find(&p, ns) {
        w.set_flags(&mut p, flags::CPU_INTENSIVE);
        if let Some((work, pwq)) = &w.state.lock().current {
            report(work, pwq);
        }
    }
    // Calls a worker, or has the next one watched.
    pool.kick(&mut p);
}

/// A worker that has had the processor for too long.
fn find(p: &PoolState, ns: u64) -> Option<Arc<Worker>> {
    let w = frame::containers::List::<Worker, InPool>::iter(&p.workers)
        .find(|w| w.is_running() && w.task().is_some_and(|t| w.ran(thread(&t)) >= ns))?;
    p.workers.arc_of(w)
}

/// The end of an item that nobody had to wait for.
pub(super) fn account(me: &Worker, work: &Work, pwq: &Pwq) {
    let ns = thresh_ns();
    if ns != 0 && me.is_running() && me.ran(&crate::me()) >= ns {
        report(work, pwq);
    }
}

/// How often each function was intensive. Linux's number of entries; those beyond are not told of.
const ENTRIES: usize = 128;
static CLASS: LockClass = LockClass::new("wci_hash");
static SEEN: SpinLockIrq<[(&str, u64); ENTRIES]> = SpinLockIrq::new(&CLASS, [("", 0); ENTRIES]);

fn report(work: &Work, pwq: &Pwq) {
    count(&pwq.stats.cpu_intensive);
    let n = {
        let mut all = SEEN.lock();
        let at = all.iter_mut().find(|(f, n)| *n == 0 || *f == work.name());
        let Some(e) = at else { return };
        *e = (work.name(), e.1 + 1);
        e.1
    };
    if is_told(n, WARNING_THRESH.load(Ordering::Relaxed) as u64) {
        base::pr_warn!(
            "workqueue: {} hogged CPU for >{}us {n} times, consider switching to WQ_UNBOUND",
            work.name(),
            THRESH_US.load(Ordering::Relaxed)
        );
    }
}

/// From the threshold on, less and less often.
fn is_told(n: u64, thresh: u64) -> bool {
    thresh != 0 && n >= thresh && (n + 1 - thresh).is_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_from_the_fourth_time_and_ever_less() {
        let told: Vec<u64> = (1..40).filter(|&n| is_told(n, 4)).collect();
        assert_eq!(told, [4, 5, 7, 11, 19, 35]);
        assert!((1..100).all(|n| !is_told(n, 0)));
    }
}
