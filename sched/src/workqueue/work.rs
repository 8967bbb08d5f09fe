//! Work items: what is to be executed once, later, in a worker.
//!
//! An item's `at` says who has it, and doubles as Linux's PENDING bit: everything but `Off` is pending.
//!
//! ```text
//!   Off ──queue──▶ Transit ──▶ Inactive ──▶ Listed ──▶ Scheduled ──▶ Off, and executed
//!    └─queue_delayed─▶ Timer ─┘   (over the limit)  (pool's list)  (a worker's own list)
//! ```
//! `Transit` belongs to the one who made it so, with interrupts off, and lasts some instructions: whoever finds it may spin.
//! The places with a queue in them change only under the lock of its pool.
//!
//! Each time an item is queued it gets a number. A flush waits until the instance that it saw, and those before, are
//! neither pending nor being executed; no barrier is queued, so that flushing needs no memory.

use alloc::{boxed::Box, sync::Arc};

use base::{Errno, Result};
use frame::{
    containers::Link,
    context::IrqGuard,
    sync::{LockClass, SpinLockIrq, WaitQueue},
};

use super::{fault, pool::PoolState, pwq::Pwq, worker::Worker};

/// What an item executes.
pub type WorkFn = Box<dyn Fn(&Arc<Work>) + Send + Sync>;

/// An item of work. It may be queued again as soon as it has begun.
pub struct Work {
    name: &'static str,
    func: WorkFn,
    pub(super) link: Link<Work>,
    pub(super) data: SpinLockIrq<Data>,
    /// Those who wait for an instance to be over.
    done: WaitQueue,
}
frame::list_node!(Work, link);

/// Who has the item.
pub(super) enum At {
    Off,
    Transit,
    /// Its delay runs.
    Timer,
    /// Its queue is at its limit.
    Inactive(Arc<Pwq>),
    /// On the list of the pool.
    Listed(Arc<Pwq>),
    /// On the list of a worker of that pool.
    Scheduled(Arc<Pwq>, Arc<Worker>),
}

impl At {
    pub(super) fn pwq(&self) -> Option<&Arc<Pwq>> {
        match self {
            At::Inactive(p) | At::Listed(p) | At::Scheduled(p, _) => Some(p),
            At::Off | At::Transit | At::Timer => None,
        }
    }
}

pub(super) struct Data {
    pub(super) at: At,
    /// The number of the instance that was queued last.
    pub(super) seq: u64,
    /// Which of its queue's two flush counts it is in.
    pub(super) color: usize,
    /// While not 0 it cannot be queued.
    disabled: u32,
    /// Workers that execute it: at most one, as long as it is queued on one queue only.
    pub(super) running: u32,
    /// The first and the last instance of those that are being executed.
    first: u64,
    last: u64,
    /// The worker that began last, while one executes it, and for which queue.
    pub(super) on: Option<(Arc<Worker>, Arc<Pwq>)>,
    waiting: u32,
}

impl Data {
    /// True if instance `n` and those before it are over.
    fn over(&self, n: u64) -> bool {
        let pending = !matches!(self.at, At::Off | At::Timer) && self.seq <= n;
        let running = self.running > 0 && self.first <= n && !fault::is(fault::bits::FLUSH_EARLY);
        !pending && !running
    }
    fn claim(&mut self) {
        self.at = At::Transit;
        self.seq += 1;
    }
    /// A worker begins: the item may be queued again from here on. Under the pool's lock.
    pub(super) fn begin(&mut self, by: &Arc<Worker>, pwq: &Arc<Pwq>) -> At {
        if self.running == 0 {
            self.first = self.seq;
        }
        self.last = self.seq;
        self.running += 1;
        self.on = Some((by.clone(), pwq.clone()));
        core::mem::replace(&mut self.at, At::Off)
    }
}

static CLASS: LockClass = LockClass::new("work_struct");
static WAIT: LockClass = LockClass::new("work_done");

impl Work {
    /// `name` is the function's, as traces show it. ENOMEM.
    pub fn new(name: &'static str, f: impl Fn(&Arc<Work>) + Send + Sync + 'static) -> Result<Arc<Work>> {
        let func = frame::heap::try_box(f).ok_or(Errno::ENOMEM)?;
        frame::heap::try_arc(Self::with(name, func)).ok_or(Errno::ENOMEM)
    }
    fn with(name: &'static str, func: WorkFn) -> Work {
        Work {
            name,
            func,
            link: Link::new(),
            data: SpinLockIrq::new(
                &CLASS,
                Data {
                    at: At::Off,
                    seq: 0,
                    color: 0,
                    disabled: 0,
                    running: 0,
                    first: 0,
                    last: 0,
                    on: None,
                    waiting: 0,
                },
            ),
            done: WaitQueue::with_class(&WAIT),
        }
    }
    /// The function's name.
    pub fn name(&self) -> &'static str {
        self.name
    }
    pub(super) fn call(self: &Arc<Self>) {
        (self.func)(self);
    }
    /// Queued, or its delay runs.
    pub fn is_pending(&self) -> bool {
        !matches!(self.data.lock().at, At::Off)
    }
    /// Pending or being executed: `work_busy`, as one truth value.
    pub fn is_busy(&self) -> bool {
        let d = self.data.lock();
        !matches!(d.at, At::Off) || d.running > 0
    }

    /// Makes the caller its owner, unless it is pending or disabled. Interrupts are off until it is let go.
    pub(super) fn claim(&self, _off: &IrqGuard) -> bool {
        let mut d = self.data.lock();
        if d.disabled > 0 || !matches!(d.at, At::Off) {
            return false;
        }
        d.claim();
        true
    }
    /// The owner puts it somewhere.
    pub(super) fn put(&self, at: At) {
        let mut d = self.data.lock();
        d.at = at;
        if d.waiting > 0 && matches!(d.at, At::Off) {
            self.done.wake_all();
        }
    }
    /// Its timer has fired: the caller owns it, unless it was cancelled or put off meanwhile.
    pub(super) fn claim_timer(&self, _off: &IrqGuard) -> bool {
        let mut d = self.data.lock();
        let mine = matches!(d.at, At::Timer);
        if mine {
            d.at = At::Transit;
        }
        mine
    }

    /// Takes a pending item out of wherever it is. To `own` it makes the caller the owner even if it was not pending. The
    /// guard lasts until the caller has let it go ([`Taken`] says whether it must).
    pub(super) fn take_pending(self: &Arc<Self>, own: bool, _off: &IrqGuard) -> Taken {
        loop {
            let mut d = self.data.lock();
            if own && d.disabled > 0 {
                return Taken::Disabled;
            }
            let pwq = match &d.at {
                At::Transit => None,
                At::Off => {
                    if own {
                        d.claim();
                    }
                    return Taken::Idle;
                }
                At::Timer => {
                    d.claim();
                    return Taken::Timer;
                }
                at => at.pwq().cloned(),
            };
            drop(d);
            match pwq {
                Some(pwq) => {
                    if self.take_from(&pwq, own) {
                        return Taken::Queued;
                    }
                }
                None => frame::cpu::relax(),
            }
        }
    }
    /// Takes it out of a list of that queue. False if it is there no more.
    fn take_from(self: &Arc<Self>, pwq: &Arc<Pwq>, own: bool) -> bool {
        let mut pool = pwq.pool.lock();
        let (active, color) = {
            let mut d = self.data.lock();
            if !d.at.pwq().is_some_and(|p| Arc::ptr_eq(p, pwq)) {
                return false;
            }
            let at = core::mem::replace(&mut d.at, At::Transit);
            let color = d.color;
            drop(d);
            (self.unlist(&mut pool, at), color)
        };
        {
            let mut d = self.data.lock();
            if own {
                d.claim();
            } else {
                d.at = At::Off;
            }
            if d.waiting > 0 {
                self.done.wake_all();
            }
        }
        let then = pwq.finished(&mut pool, color, active);
        pwq.pool.kick(&mut pool);
        drop(pool);
        then.act();
        true
    }
    /// True if it counted as active.
    fn unlist(self: &Arc<Self>, pool: &mut PoolState, at: At) -> bool {
        match at {
            At::Inactive(p) => {
                p.state.lock().inactive.remove(self);
                false
            }
            At::Listed(_) => pool.worklist.remove(self),
            At::Scheduled(_, w) => w.state.lock().scheduled.remove(self),
            At::Off | At::Transit | At::Timer => false,
        }
    }

    /// An execution is over. Under the pool's lock.
    pub(super) fn ended(&self) {
        let on = {
            let mut d = self.data.lock();
            d.running -= 1;
            if d.waiting > 0 {
                self.done.wake_all();
            }
            if d.running == 0 { d.on.take() } else { None }
        };
        // The worker and the queue are alive beyond this, so nothing is freed here.
        drop(on);
    }

    fn wait_for(&self, mut over: impl FnMut(&Data) -> bool) {
        {
            let mut d = self.data.lock();
            if over(&d) {
                return;
            }
            d.waiting += 1;
        }
        self.done.wait(|| over(&self.data.lock()).then_some(()));
        self.data.lock().waiting -= 1;
    }

    /// Waits until the last queueing as of now has been executed. False if there was nothing to wait for. A delay that
    /// runs is not waited for: see [`super::DelayedWork::flush`].
    pub fn flush(&self) -> bool {
        frame::context::might_sleep();
        let target = {
            let d = self.data.lock();
            match d.at {
                At::Off | At::Timer if d.running == 0 => return false,
                At::Off | At::Timer => d.last,
                _ => d.seq,
            }
        };
        self.wait_for(|d| d.over(target));
        true
    }
    /// Takes it back if it is pending, from any context. It may still be executed by then. True if it was pending.
    pub fn cancel(self: &Arc<Self>) -> bool {
        let g = IrqGuard::new();
        match self.take_pending(false, &g) {
            Taken::Timer => {
                self.put(At::Off);
                true
            }
            t => t == Taken::Queued,
        }
    }
    /// Takes it back, and waits until it is not being executed; nobody can queue it meanwhile, itself included. True if
    /// it was pending. Not from its own function.
    pub fn cancel_sync(self: &Arc<Self>) -> bool {
        if fault::is(fault::bits::CANCEL_OPEN) {
            let was = self.cancel();
            self.wait_idle();
            return was;
        }
        let was = self.disable_sync();
        self.enable();
        was
    }
    pub(super) fn forbid(&self) {
        self.data.lock().disabled += 1;
    }
    /// Waits until it is not being executed.
    pub(super) fn wait_idle(&self) {
        self.wait_for(|d| d.running == 0);
    }
    /// From now on it cannot be queued, until [`Work::enable`] was called as often. True if it was pending.
    pub fn disable(self: &Arc<Self>) -> bool {
        self.forbid();
        self.cancel()
    }
    /// The same, and waits until it is not being executed.
    pub fn disable_sync(self: &Arc<Self>) -> bool {
        frame::context::might_sleep();
        let was = self.disable();
        self.wait_idle();
        was
    }
    /// True if it can be queued again.
    pub fn enable(&self) -> bool {
        let mut d = self.data.lock();
        d.disabled = d.disabled.saturating_sub(1);
        d.disabled == 0
    }
}

/// What [`Work::take_pending`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// It is disabled, and was left alone.
    Disabled,
    /// It was not pending.
    Idle,
    /// It was queued.
    Queued,
    /// Its delay ran. The caller owns it in any case.
    Timer,
}
