//! Calls from one processor to others, in interrupt context there.
//!
//! Each receiver has a queue of calls; the sender pushes, interrupts, and (if asked) spins until all have run.
//! A sender that waits must have interrupts on, or two senders could wait for each other for ever; while it spins
//! it serves its own queue too.

use alloc::{collections::VecDeque, sync::Arc};

use super::{CpuId, CpuMask, MAX_CPUS};
use crate::{
    arch,
    atomic::{AtomicU32, Ordering},
    context::PreemptGuard,
    sync::{LockClass, SpinLockIrq},
};

struct Call {
    run: alloc::boxed::Box<dyn Fn() + Send + Sync>,
    left: AtomicU32,
}

static CLASS: LockClass = LockClass::new("cpu_call_queue");
static QUEUES: [SpinLockIrq<VecDeque<Arc<Call>>>; MAX_CPUS] =
    [const { SpinLockIrq::new(&CLASS, VecDeque::new()) }; MAX_CPUS];

/// Runs `f` on every processor of `mask` that is online, this one included if it is in it, and waits until all have.
/// `f` runs with interrupts off. Call it with interrupts on.
pub fn call_each(mask: CpuMask, f: impl Fn() + Send + Sync + 'static) {
    let g = PreemptGuard::new();
    let me = g.cpu();
    let others = mask.and(super::online()).without(me);
    let call = Arc::new(Call { run: alloc::boxed::Box::new(f), left: AtomicU32::new(others.count()) });
    for cpu in others.iter() {
        QUEUES[cpu.index()].lock().push_back(call.clone());
        arch::send_call(cpu.get());
    }
    if mask.contains(me) {
        let _g = crate::context::IrqGuard::new();
        (call.run)();
    }
    while call.left.load(Ordering::Acquire) != 0 {
        serve();
        arch::relax();
    }
}

/// Runs `f` on `cpu` and waits.
pub fn call_on(cpu: CpuId, f: impl Fn() + Send + Sync + 'static) {
    call_each(CpuMask::one(cpu), f);
}

/// Runs what others have asked this processor for.
pub(super) fn serve() {
    let me = arch::cpu_id() as usize;
    loop {
        let Some(c) = QUEUES[me].lock().pop_front() else { return };
        let _g = crate::context::IrqGuard::new();
        (c.run)();
        c.left.fetch_sub(1, Ordering::Release);
    }
}
