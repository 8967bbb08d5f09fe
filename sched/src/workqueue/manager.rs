//! The manager's part, which a worker takes that finds no idle one behind it: makes more workers, while the rest of the pool
//! goes on. And the other direction: sends away those that have long been idle.

use alloc::{format, sync::Arc};

use base::{Errno, Result};
use frame::{
    atomic::Ordering,
    task::{self, State},
};

use super::{
    fault,
    plan::{self, Cull},
    pool::{Locked, Pool, PoolState},
    rescuer,
    worker::{self, Worker},
};
use crate::{kthread, policy::Policy, time};

/// Makes sure that the pool has an idle worker, however long it takes. Only one manages at a time. The pool is locked before
/// and after.
pub(super) fn manage<'a>(pool: &'a Arc<Pool>, mut p: Locked<'a>) -> Locked<'a> {
    p.managing = true;
    loop {
        drop(p);
        // If it takes long, because memory is short, rescuers help those queues that freeing memory needs.
        pool.mayday_timer().arm_in(plan::MAYDAY_INITIAL_NS);
        loop {
            let made = create(pool).is_ok();
            if made || !pool.lock().snapshot().need_to_create_worker() {
                break;
            }
            let _ = time::sleep_until(time::now_ns() + plan::CREATE_COOLDOWN_NS, State::IDLE);
            if !pool.lock().snapshot().need_to_create_worker() {
                break;
            }
        }
        p = pool.lock();
        // One may have become idle and busy again meanwhile.
        if !p.snapshot().need_to_create_worker() {
            break;
        }
    }
    // The timer arms itself under this lock, while one manages.
    p.managing = false;
    pool.mayday_timer().cancel();
    p
}

/// Makes one worker, which begins idle. ENOMEM, EAGAIN.
pub(super) fn create(pool: &Arc<Pool>) -> Result<()> {
    if fault::is(fault::bits::DENY_CREATION) {
        return Err(Errno::ENOMEM);
    }
    let id = pool.take_id()?;
    make(pool, id).inspect_err(|_| pool.give_id(id))
}

fn make(pool: &Arc<Pool>, id: u32) -> Result<()> {
    let w = Worker::new(id, pool.clone()).ok_or(Errno::ENOMEM)?;
    let (me, home) = (w.clone(), pool.clone());
    let name = format!("kworker/{}:{id}{}", pool.name(), pool.suffix());
    let h = kthread::create(&name, move |_| {
        worker::main(&me, &home);
        0
    })?;
    crate::attr::set_policy(h.task(), Policy::Other, pool.attrs.nice)?;
    if pool.cpu.is_none() {
        crate::thread::thread(h.task()).prefer(pool.attrs.pod);
    }
    w.adopt(h.task());
    let mut p = pool.lock();
    h.bind_mask(pool.allowed(&p))?;
    w.join(pool, &mut p, h.task());
    Ok(())
}

/// The mayday timer: creation takes long. In softirq context.
pub(super) fn mayday_timeout(pool: &Arc<Pool>) {
    let p = pool.lock();
    if p.snapshot().need_to_create_worker() {
        for w in p.worklist.iter() {
            let pwq = w.data.lock().at.pwq().cloned();
            if let Some(q) = pwq {
                rescuer::call(&q);
            }
        }
    }
    if p.managing {
        pool.mayday_timer().arm_in(plan::MAYDAY_INTERVAL_NS);
    }
}

/// A worker became idle: if there are too many now, the timer will look after the oldest.
pub(super) fn watch_idle(pool: &Pool, p: &mut PoolState) {
    if !p.idle_armed && p.snapshot().too_many_workers() {
        p.idle_armed = true;
        pool.idle_timer().arm_in(plan::IDLE_TIMEOUT_NS);
    }
}

/// The idle timer: lets go of those that have been superfluous for long. In softirq context.
pub(super) fn idle_timeout(pool: &Arc<Pool>) {
    let now = time::now_ns();
    loop {
        let mut p = pool.lock();
        p.idle_armed = false;
        let Some(w) = p.idle.back().and_then(|w| p.idle.arc_of(w)) else { return };
        match p.snapshot().cull(w.idle_since.load(Ordering::Relaxed), now) {
            Cull::Nobody => return,
            Cull::LookAgain(ns) => {
                p.idle_armed = true;
                pool.idle_timer().arm_in(ns);
                return;
            }
            Cull::Oldest => {
                w.condemn(&mut p);
                let t = w.task();
                drop(p);
                if let Some(t) = t {
                    task::wake(&t, State::NORMAL);
                }
            }
        }
    }
}
