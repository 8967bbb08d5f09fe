//! # kworker/R-NAME
//! * **What for**: guarantees that the items of a queue that freeing memory depends on (`WQ_MEM_RECLAIM`) are executed even if no
//!   worker can be made, for want of memory: it was made with the queue.
//! * **Woken by**: the mayday timer of a pool that has waited 10 ms for a new worker, for each queue with items there.
//! * **Never**: executes another queue's items, or stays in a pool that has workers again.
//! * **Shows as**: `[kworker/R-mm_percpu_wq]`, nice −20, state `I`; with the boot parameter `nightshift.rescuer_names=bare`
//!   `[mm_percpu_wq]`, as before Linux 6.6. `/sys/kernel/nightshift/daemons/kworker/queues` counts what it has rescued.
//! * **Documented**: Linux `Documentation/core-api/workqueue.rst`, WQ_MEM_RECLAIM.

use alloc::{string::String, sync::Arc};
use core::fmt::Write;

use base::{Errno, Result, daemon::Card};
use frame::{
    atomic::AtomicU64,
    containers::List,
    task::{self, State},
};

use super::{
    fault,
    pool::{HIGHPRI_NICE, Pool},
    pwq::{Pwq, count},
    queue::Core,
    worker::{self, Worker, flags},
};
use crate::{
    kthread::{self, Kthread, KthreadHandle},
    policy::Policy,
    thread::TaskRef,
};

pub(super) static CARD: Card = Card {
    name: "kworker-R",
    purpose: "executes the items of a queue that freeing memory needs, when no worker can be made",
    woken_by: "the mayday timer of a pool that has waited 10 ms for a new worker",
    never: "executes another queue's items, or stays in a pool that has workers again",
    documented: "Linux Documentation/core-api/workqueue.rst, WQ_MEM_RECLAIM",
};

/// A queue's rescuer.
pub(super) struct Rescuer {
    task: TaskRef,
    handle: KthreadHandle,
}

/// Places that call for help, and who is called; in the queue's core.
#[derive(Default)]
pub(super) struct Maydays {
    list: List<Pwq>,
    task: Option<TaskRef>,
}

/// Its name: `kworker/R-NAME`, or the bare name.
pub(super) fn write_name(q: &Core, out: &mut dyn Write) -> core::fmt::Result {
    let bare = base::params::params().get("nightshift.rescuer_names") == Some("bare");
    write!(out, "{}{}", if bare { "" } else { "kworker/R-" }, q.name)
}

impl Rescuer {
    pub(super) fn start(q: &Arc<Core>) -> Result<Rescuer> {
        let w = Worker::rescuer(q.clone()).ok_or(Errno::ENOMEM)?;
        let mut name = String::new();
        write_name(q, &mut name)?;
        let (me, core) = (w.clone(), q.clone());
        let handle = kthread::create(&name, move |k| main(&me, &core, k))?;
        let task = handle.task().clone();
        crate::attr::set_policy(&task, Policy::Other, HIGHPRI_NICE)?;
        w.adopt(&task);
        handle.bind_mask(frame::cpu::CpuMask::ALL)?;
        q.maydays.lock().task = Some(task.clone());
        handle.run();
        Ok(Rescuer { task, handle })
    }
    /// Ends it, when it has done what it was called for.
    pub(super) fn stop(self, q: &Core) {
        self.handle.stop();
        let old = core::mem::take(&mut *q.maydays.lock());
        drop((old, self.task));
    }
}

/// Calls a place's rescuer, if its queue has one. From any context.
pub(super) fn call(pwq: &Arc<Pwq>) {
    if fault::is(fault::bits::NO_MAYDAY) {
        return;
    }
    let task = {
        let mut m = pwq.queue.maydays.lock();
        let Some(t) = m.task.clone() else { return };
        if m.list.push_back(pwq.clone()) {
            count(&pwq.stats.mayday);
        }
        t
    };
    task::wake(&task, State::NORMAL);
}

/// The loop.
fn main(me: &Arc<Worker>, q: &Core, k: &Kthread) -> i32 {
    loop {
        let stop = k.should_stop();
        let next = q.maydays.lock().list.pop_front();
        match next {
            Some(pwq) => rescue(me, &pwq),
            None if stop => break,
            None => {
                task::current().set_state(State::IDLE);
                let called = k.should_stop() || !q.maydays.lock().list.is_empty();
                if called {
                    task::current().set_running();
                } else {
                    task::schedule();
                    crate::figures::note(crate::figures::Reason::Event);
                }
            }
        }
    }
    me.orphan();
    0
}

/// Items that rescuers have taken up.
pub(super) static RESCUED: AtomicU64 = AtomicU64::new(0);

/// Goes to a pool and executes what it finds of its queue there.
fn rescue(me: &Arc<Worker>, pwq: &Arc<Pwq>) {
    let pool = &pwq.pool;
    attach(me, pool);
    let mut p = pool.lock();
    let mut mine: List<super::Work> = List::new();
    {
        let mut at = p.worklist.cursor_mut();
        while let Some(w) = at.current() {
            let ours = w.data.lock().at.pwq().is_some_and(|x| Arc::ptr_eq(x, pwq));
            match ours.then(|| at.remove()).flatten() {
                Some(w) => {
                    mine.push_back(w);
                }
                None => at.move_next(),
            }
        }
    }
    while let Some(w) = mine.pop_front() {
        worker::assign(w, me);
        count(&pwq.stats.rescued);
        count(&RESCUED);
    }
    p = worker::execute_scheduled(me, pool, p);
    // Its items may have queued others. If nobody can be made yet, they wait for the same help.
    let more = pwq.state.lock().active > 0 && p.snapshot().need_to_create_worker();
    if more {
        call(pwq);
    }
    // Leaves the pool to its workers.
    pool.kick(&mut p);
    p.workers.remove(me);
    me.mark(0, flags::UNBOUND);
    drop(p);
    me.visit(None);
    let _ = worker::rebind(me, frame::cpu::CpuMask::ALL);
}

fn attach(me: &Arc<Worker>, pool: &Arc<Pool>) {
    me.visit(Some(pool.clone()));
    let mut p = pool.lock();
    me.mark(pool.unbound_flag(&p), 0);
    p.workers.push_back(me.clone());
    let _ = worker::rebind(me, pool.allowed(&p));
}
