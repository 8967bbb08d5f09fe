//! Where a task may run, and where one that wakes should.
//!
//! A processor is *on line* while it executes and counts; it is *active* while ordinary tasks may be put there. When one
//! is taken down it stops being active first, its tasks leave, and it goes off line last; kernel threads that are bound to
//! it work there to the end. So a look at the active processors with interrupts off, followed by queueing, is safe: whoever
//! takes a processor down lets a grace period pass in between.

use frame::{
    atomic::{AtomicU64, Ordering},
    cpu::{CpuId, CpuMask},
};

use crate::{
    balance,
    core::{IDLE, cpu, idle_cpus},
    runqueue::Entity,
    thread::{Kind, Payload, Thread},
};

static ACTIVE: AtomicU64 = AtomicU64::new(1);

/// Processors to which tasks may be moved.
#[inline]
pub fn active() -> CpuMask {
    CpuMask(ACTIVE.load(Ordering::Acquire))
}

pub(crate) fn set_active(cpu: CpuId, on: bool) {
    if on {
        ACTIVE.fetch_or(CpuMask::one(cpu).0, Ordering::AcqRel);
    } else {
        ACTIVE.fetch_and(!CpuMask::one(cpu).0, Ordering::AcqRel);
    }
}

/// Where a task may be put now. If its affinity leaves nothing it is given up, as Linux does when the last processor of a task
/// goes; a bound kernel thread keeps it, and works elsewhere meanwhile. Never empty.
pub(crate) fn usable(e: &mut Entity<Payload>, prev: CpuId) -> CpuMask {
    let a = e.affinity.and(active());
    if a.is_empty() { usable_otherwise(e, prev) } else { a }
}

#[cold]
fn usable_otherwise(e: &mut Entity<Payload>, prev: CpuId) -> CpuMask {
    let t = e.payload.thread.clone();
    if t.is_bound() {
        let on = e.affinity.and(frame::cpu::online());
        return if on.is_empty() { active() } else { on };
    }
    e.affinity = CpuMask::ALL;
    t.note_affinity(CpuMask::ALL);
    if t.kind() == Kind::User {
        base::pr_warn!("process {} ({}) no longer affine to cpu{prev}", t.pid(), t.comm());
    }
    active()
}

/// True if a task may stay on a processor.
pub(crate) fn may_stay(t: &Thread, affinity: CpuMask, on: CpuId) -> bool {
    affinity.contains(on) && (active().contains(on) || t.is_bound())
}

/// Where a waking task should go. `allowed` is not empty.
pub(crate) fn place(prev: CpuId, this: CpuId, allowed: CpuMask, rank: u8) -> CpuId {
    if allowed.count() == 1 {
        return allowed.first().unwrap_or(prev);
    }
    let idle = idle_cpus().and(allowed);
    let target = if !idle.is_empty() {
        balance::pick_idle(idle, prev, this)
    } else if rank != 0 {
        // The processor that does the least urgent thing; where it last ran if that is as good.
        let rank_of = |c: CpuId| cpu(c).rank.load(Ordering::Relaxed);
        let least = allowed.iter().min_by_key(|&c| (rank_of(c), c != prev)).unwrap_or(prev);
        if allowed.contains(prev) && rank_of(prev) <= rank_of(least) { prev } else { least }
    } else {
        let load = |c: CpuId| cpu(c).runnable.load(Ordering::Relaxed);
        match (allowed.contains(prev), allowed.contains(this)) {
            (true, true) => {
                if load(this) < load(prev) {
                    this
                } else {
                    prev
                }
            }
            (true, false) => prev,
            (false, true) => this,
            (false, false) => allowed.iter().min_by_key(|&c| load(c)).unwrap_or(prev),
        }
    };
    if idle.contains(target) {
        IDLE.fetch_and(!CpuMask::one(target).0, Ordering::Relaxed);
    }
    target
}
