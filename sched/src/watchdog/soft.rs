//! Soft lockups: a processor that does not schedule. See the parent.

use base::{
    lockup,
    log::Level,
    pr_emerg,
    taint::{self, Taint},
};
use frame::{
    atomic::{AtomicBool, AtomicI32, Ordering::Relaxed},
    cpu::CpuId,
};

use super::{SOFT, cpu, enabled, policy, thresh};
use crate::{report, thread::thread, time};

/// `kernel.softlockup_panic`, `kernel.softlockup_all_cpu_backtrace`.
pub(super) static PANIC: AtomicI32 = AtomicI32::new(0);
pub(super) static ALL_BACKTRACES: AtomicI32 = AtomicI32::new(0);
/// Some processor shows all backtraces: that makes others wait, which are no lockups.
static SHOWING: AtomicBool = AtomicBool::new(false);

/// The processor schedules.
pub(super) fn touch(me: CpuId) {
    let now = policy::seconds(time::now_ns());
    cpu(me).touched.store(now, Relaxed);
    cpu(me).period.store(now, Relaxed);
}

/// Looks at this processor's stamp, in its timer's interrupt.
pub(super) fn check(me: CpuId) {
    let now = policy::seconds(time::now_ns());
    let c = cpu(me);
    if lockup::take_soft(me) {
        c.period.store(now, Relaxed);
        return;
    }
    let stuck = policy::stuck_for(c.touched.load(Relaxed), c.period.load(Relaxed), now, thresh());
    if let Some(secs) = stuck.filter(|_| enabled(SOFT)) {
        let all = ALL_BACKTRACES.load(Relaxed) != 0;
        if all && SHOWING.swap(true, Relaxed) {
            return;
        }
        c.period.store(now, Relaxed);
        tell(me, secs);
        if all {
            report::trigger_allbutcpu_cpu_backtrace(me);
        }
        taint::add(Taint::SoftLockup);
        if PANIC.load(Relaxed) != 0 {
            panic!("softlockup: hung tasks");
        }
        if all {
            SHOWING.store(false, Relaxed);
        }
    }
}

fn tell(me: CpuId, secs: u64) {
    let t = frame::task::current();
    let th = thread(&t);
    pr_emerg!("watchdog: BUG: soft lockup - CPU#{me} stuck for {secs}s! [{}:{}]", th.comm(), th.pid());
    report::print_modules(Level::Emerg);
    report::show_here(Level::Emerg);
}
