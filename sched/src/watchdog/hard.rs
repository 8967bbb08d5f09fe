//! Hard lockups: a processor that takes no interrupts, as its neighbour sees it. See the parent.

use base::{lockup, log::Level, pr_emerg};
use frame::{
    atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    cpu::{CpuId, CpuMask},
};

use super::{cpu, policy};
use crate::report;

/// `kernel.hardlockup_panic`, `kernel.hardlockup_all_cpu_backtrace`.
pub(super) static PANIC: AtomicI32 = AtomicI32::new(0);
pub(super) static ALL_BACKTRACES: AtomicI32 = AtomicI32::new(0);
/// Some processor shows all backtraces.
static SHOWING: AtomicBool = AtomicBool::new(false);
/// The ring.
static WATCHED: AtomicU64 = AtomicU64::new(0);

fn watched() -> CpuMask {
    CpuMask(WATCHED.load(SeqCst))
}

/// A processor comes into the ring: neither it nor its neighbour may be judged by counts from before.
pub(super) fn watch(c: CpuId) {
    touch_with_next(c);
    cpu(c).warned.store(false, Relaxed);
    WATCHED.fetch_or(1 << c.get(), SeqCst);
}
/// It leaves: who looked after it now looks after the next.
pub(super) fn unwatch(c: CpuId) {
    touch_with_next(c);
    WATCHED.fetch_and(!(1 << c.get()), SeqCst);
}
fn touch_with_next(c: CpuId) {
    lockup::touch_hard(c);
    if let Some(next) = policy::next_cpu(c, watched()) {
        lockup::touch_hard(next);
    }
}

/// A sample of this processor, in its timer's interrupt.
pub(super) fn count(me: CpuId) {
    let n = cpu(me).samples.fetch_add(1, Relaxed).wrapping_add(1);
    if policy::looks_at_neighbour(n)
        && let Some(c) = policy::next_cpu(me, watched())
    {
        check(c);
    }
}

fn check(c: CpuId) {
    if lockup::take_hard(c) {
        return;
    }
    let s = cpu(c);
    let n = s.samples.load(Relaxed);
    if s.seen.swap(n, Relaxed) != n {
        s.warned.store(false, Relaxed);
        return;
    }
    // Told once.
    if s.warned.load(Relaxed) {
        return;
    }
    let all = ALL_BACKTRACES.load(Relaxed) != 0;
    if all && SHOWING.swap(true, Relaxed) {
        return;
    }
    pr_emerg!("watchdog: Watchdog detected hard LOCKUP on cpu {c}");
    report::print_modules(Level::Emerg);
    report::trigger_single_cpu_backtrace(c);
    if all {
        report::trigger_allbutcpu_cpu_backtrace(c);
    }
    if PANIC.load(Relaxed) != 0 {
        panic!("Hard LOCKUP");
    }
    if all {
        SHOWING.store(false, Relaxed);
    }
    s.warned.store(true, Relaxed);
}
