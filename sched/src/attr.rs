//! Changing a task's policy, nice value and affinity, wherever the task is just now.
//!
//! Its entity is at home, on a run queue, or for an instant carried between the two by code that has interrupts
//! off. So: look in both places, under their locks, and look again if it was in neither.

use base::{Errno, Result};
use frame::{context::IrqGuard, cpu::CpuMask, task::State};

use crate::{
    core::{activate_and_tell, cpu, publish},
    migration,
    place::{active, may_stay},
    policy::Policy,
    runqueue::{Ent, Entity},
    thread::{Ext, Payload, TaskRef, thread},
};

/// Sets policy and nice value. Permission is the caller's business. ESRCH if the task has ended, EINVAL for an idle
/// task and for `migration/N`.
pub fn set_policy(task: &TaskRef, policy: Policy, nice: i8) -> Result<()> {
    if thread(task).policy() == Policy::Stop || policy == Policy::Stop {
        return Err(Errno::EINVAL);
    }
    set_policy_unchecked(task, policy, nice)
}

pub(crate) fn set_policy_unchecked(task: &TaskRef, policy: Policy, nice: i8) -> Result<()> {
    let nice = nice.clamp(-20, 19);
    let ext = task.ext::<Ext>();
    let t = &*ext.thread;
    if t.is_idle() {
        return Err(Errno::EINVAL);
    }
    loop {
        let g = IrqGuard::new();
        if let Some(e) = ext.home.lock().as_mut() {
            e.value.set_policy(policy, nice);
            t.note_policy(policy, nice);
            return Ok(());
        }
        let id = task.cpu();
        let c = cpu(id);
        let now = frame::time::now_ns();
        let mut q = c.rq.lock();
        let found = if q.rq.current().is_some_and(|e| is(e, t)) {
            q.rq.set_current_policy(now, policy, nice);
            true
        } else if let Some(mut e) = q.rq.take_waiting(|e| is(e, t)) {
            e.value.set_policy(policy, nice);
            q.rq.enqueue(e, now);
            true
        } else {
            false
        };
        if found {
            t.note_policy(policy, nice);
            publish(c, &q.rq);
            drop(q);
            frame::task::resched(id);
            return Ok(());
        }
        drop(q);
        drop(g);
        gone(task)?;
    }
}

/// Sets the nice value and keeps the policy.
pub fn set_nice(task: &TaskRef, nice: i8) -> Result<()> {
    set_policy(task, thread(task).policy(), nice)
}

/// Sets where the task may run, and moves it if need be: when this returns it has left a processor that it may not use. In a
/// task. EINVAL if no active processor is in the mask, or for kernel threads that are bound; ENOMEM; ESRCH.
pub fn set_affinity(task: &TaskRef, mask: CpuMask) -> Result<()> {
    if thread(task).is_bound() || mask.and(active()).is_empty() {
        return Err(Errno::EINVAL);
    }
    set_affinity_unchecked(task, mask)
}

/// The same for bound threads, and for processors that are not there.
pub(crate) fn set_affinity_unchecked(task: &TaskRef, mask: CpuMask) -> Result<()> {
    set(task, mask, true)
}

/// The same from any context: a task that runs where it may not is moved soon, and not waited for.
pub(crate) fn change_affinity(task: &TaskRef, mask: CpuMask) -> Result<()> {
    set(task, mask, false)
}

fn set(task: &TaskRef, mask: CpuMask, wait: bool) -> Result<()> {
    let ext = task.ext::<Ext>();
    let t = &*ext.thread;
    if t.is_idle() {
        return Err(Errno::EINVAL);
    }
    // Made when it is known to be needed, without locks.
    let mut stop = None;
    loop {
        let g = IrqGuard::new();
        if let Some(e) = ext.home.lock().as_mut() {
            e.value.affinity = mask;
            t.note_affinity(mask);
            return Ok(());
        }
        let id = task.cpu();
        let here = may_stay(t, mask, id);
        let c = cpu(id);
        let mut q = c.rq.lock();
        if let Some(e) = q.rq.current_mut().filter(|e| is(e, t)) {
            if !here && stop.is_none() {
                drop(q);
                drop(g);
                let task = task.clone();
                stop = Some(migration::Work::new(move |on| migration::move_away(&task, on, None))?);
                continue;
            }
            e.affinity = mask;
            t.note_affinity(mask);
            drop(q);
            drop(g);
            if let Some(w) = stop.filter(|_| !here) {
                // A processor that goes down moves its tasks without this.
                let _ = if wait { migration::stop_with(id, &w) } else { migration::ask(id, &w) };
            }
            return Ok(());
        }
        // One that is just being switched away may not be moved yet: look again.
        let got: Option<Ent<Payload>> = q.rq.take_waiting(|e| is(e, t) && !task.is_on_cpu());
        if let Some(mut e) = got {
            e.value.affinity = mask;
            t.note_affinity(mask);
            if here {
                q.rq.enqueue(e, frame::time::now_ns());
                publish(c, &q.rq);
            } else {
                publish(c, &q.rq);
                drop(q);
                activate_and_tell(task, e);
            }
            return Ok(());
        }
        drop(q);
        drop(g);
        gone(task)?;
    }
}

pub(crate) fn is(e: &Entity<Payload>, t: &crate::Thread) -> bool {
    core::ptr::eq(&*e.payload.thread, t)
}

/// Neither at home nor queued: it has ended, or is on its way.
fn gone(task: &TaskRef) -> Result<()> {
    if task.state().contains(State::DEAD) {
        return Err(Errno::ESRCH);
    }
    frame::cpu::relax();
    Ok(())
}
