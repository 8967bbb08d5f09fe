//! Processors come and go: the workers of one that has left go on elsewhere, unbound, with what is queued there, and are bound
//! again when it is back. Unbound queues have pools for those pods only that have a processor.

use base::Result;
use frame::cpu::{CpuId, CpuMask};

use super::{
    attrs, manager, pool,
    pool::Pool,
    scope,
    worker::{self, InPool, Worker, flags},
};

/// A processor is online: its pools have a worker each, bound to it. Before anything may rely on its work being executed there.
/// ENOMEM, EAGAIN: then its workers stay unbound.
pub fn cpu_online(cpu: CpuId) -> Result<()> {
    for p in pool::of_cpu(cpu) {
        let none = p.lock().nr_workers == 0;
        if none {
            manager::create(p)?;
        }
    }
    for p in pool::of_cpu(cpu) {
        bind(p, cpu);
    }
    scope::set_online(cpu, true);
    update_pods();
    Ok(())
}

/// A processor is about to leave: its workers are no longer bound to it. Work can still be queued for it, and is executed.
pub fn cpu_offline(cpu: CpuId) {
    for p in pool::of_cpu(cpu) {
        unbind(p);
    }
    scope::set_online(cpu, false);
    update_pods();
}

/// A pod has its first processor, or has lost its last. Without memory a queue goes on with the pools that it has.
fn update_pods() {
    if attrs::move_queues(|_| true).is_err() {
        base::pr_warn!("workqueue: allocation failed while updating CPU pod affinity");
    }
}

fn bind(pool: &Pool, cpu: CpuId) {
    let mut p = pool.lock();
    if !p.disassociated {
        return;
    }
    p.disassociated = false;
    for w in frame::containers::List::<Worker, InPool>::iter(&p.workers) {
        let _ = worker::rebind(w, CpuMask::one(cpu));
        // It counts again from its next item; nobody counts now.
        w.mark(if w.is_rescuer() { 0 } else { flags::REBOUND }, flags::UNBOUND);
    }
}

fn unbind(pool: &Pool) {
    let mut p = pool.lock();
    p.disassociated = true;
    for w in frame::containers::List::<Worker, InPool>::iter(&p.workers) {
        w.mark(flags::UNBOUND, 0);
        let _ = worker::rebind(w, CpuMask::ALL);
    }
    // From here on it executes whatever it can, as an unbound pool does.
    p.running = 0;
    pool.kick(&mut p);
}
