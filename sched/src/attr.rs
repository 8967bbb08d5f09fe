//! Changing a task's policy, nice value and affinity, wherever the task is just now.
//!
//! Its entity is at home, on a run queue, or for an instant carried between the two by code that has interrupts
//! off. So: look in both places, under their locks, and look again if it was in neither.

use base::{Errno, Result};
use frame::{atomic::Ordering, context::IrqGuard, cpu::CpuMask, task::State};

use crate::{
    core::{activate_and_tell, allowed, cpu, publish},
    policy::Policy,
    runqueue::{Ent, Entity},
    thread::{Ext, Payload, TaskRef, thread},
};

/// Sets policy and nice value. Permission is the caller's business. ESRCH if the task has ended, EINVAL for an idle
/// task.
pub fn set_policy(task: &TaskRef, policy: Policy, nice: i8) -> Result<()> {
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

/// Sets where the task may run, and moves it if need be: at once if it waits, at its next switch (which is asked
/// for) if it runs. EINVAL if no online processor is in the mask, or for kernel threads that are bound to one.
pub fn set_affinity(task: &TaskRef, mask: CpuMask) -> Result<()> {
    let t = thread(task);
    if t.control.as_ref().is_some_and(|c| c.bound.load(Ordering::Relaxed) != 0) {
        return Err(Errno::EINVAL);
    }
    set_affinity_unchecked(task, mask)
}

pub(crate) fn set_affinity_unchecked(task: &TaskRef, mask: CpuMask) -> Result<()> {
    let ext = task.ext::<Ext>();
    let t = &*ext.thread;
    if t.is_idle() || mask.and(frame::cpu::online()).is_empty() {
        return Err(Errno::EINVAL);
    }
    loop {
        let g = IrqGuard::new();
        if let Some(e) = ext.home.lock().as_mut() {
            e.value.affinity = mask;
            t.note_affinity(mask);
            return Ok(());
        }
        let id = task.cpu();
        let here = allowed(mask).contains(id);
        let c = cpu(id);
        let mut q = c.rq.lock();
        if let Some(e) = q.rq.current_mut().filter(|e| is(e, t)) {
            e.affinity = mask;
            t.note_affinity(mask);
            t.must_move.store(!here, Ordering::Relaxed);
            drop(q);
            if !here {
                frame::task::resched(id);
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

fn is(e: &Entity<Payload>, t: &crate::Thread) -> bool {
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
