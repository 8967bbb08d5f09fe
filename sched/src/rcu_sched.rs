//! # rcu_sched
//! * **What for**: drives RCU's grace periods and runs their callbacks. The name is Linux's for the flavour whose
//!   readers hold off preemption, as all of ours do.
//! * **Woken by**: the first callback or grace period wanted (frame's kick), then by itself, once a jiffy while one
//!   is pending.
//! * **Never**: waits for a lock that is held around `rcu::synchronize`; keeps an idle processor awake.
//! * **Shows as**: `[rcu_sched]`, in state `I`.
//! * **Documented**: Linux `Documentation/RCU/`; frame's `sync::rcu` has the state machine.
//!
//! A processor that runs one task in a loop has neither tick nor switch, and would hold a grace period up for ever.
//! So while one is pending, processors that are not idle are asked to reschedule once a jiffy: passing through the
//! scheduler is a quiescent state.

use base::{Result, daemon::Card};
use frame::{
    atomic::{AtomicBool, Ordering},
    cpu::CpuId,
    sync::{WaitQueue, once::Once, rcu},
};

use crate::{
    JIFFY_NS, core,
    kthread::{self, Kthread, KthreadHandle, Wake},
};

pub(crate) static CARD: Card = Card {
    name: "rcu_sched",
    purpose: "drives RCU grace periods and runs what waits for their end",
    woken_by: "the first callback of a batch; once a jiffy while a grace period is pending",
    never: "waits for a lock held around a synchronize, or wakes idle processors",
    documented: "Linux Documentation/RCU/; frame/src/sync/rcu.rs",
};

static THREAD: Once<KthreadHandle> = Once::new();
static KICKED: AtomicBool = AtomicBool::new(false);
/// The thread is woken directly.
static DIRECT: WaitQueue = WaitQueue::new();

fn kick() {
    if !KICKED.swap(true, Ordering::SeqCst)
        && let Some(t) = THREAD.get()
    {
        t.wake();
    }
}

fn run(k: &Kthread) -> i32 {
    let mut pending = rcu::advance();
    loop {
        let timeout = pending.then_some(JIFFY_NS);
        match k.wait_idle(&DIRECT, || KICKED.swap(false, Ordering::SeqCst).then_some(()), timeout) {
            Wake::Event(()) => kthread::because("grace-period-wanted"),
            Wake::TimedOut => force_quiescent(),
            Wake::Park => k.park(),
            Wake::Freeze => k.freeze(),
            Wake::Stop => return 0,
        }
        pending = rcu::advance();
    }
}

fn force_quiescent() {
    let idle = core::idle_cpus();
    for c in frame::cpu::online().iter().filter(|&c| !idle.contains(c)) {
        frame::task::resched(c);
    }
}

/// In each tick.
pub(crate) fn tick(id: CpuId) {
    rcu::tick(id);
}

pub(crate) fn start() -> Result<()> {
    let t = kthread::create("rcu_sched", run)?;
    THREAD.call_once(|| t.clone());
    rcu::install_kick(kick);
    t.run();
    Ok(())
}
