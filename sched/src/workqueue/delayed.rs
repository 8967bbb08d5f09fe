//! Delayed items: queued when a coarse timer fires.
//!
//! While the delay runs the item keeps itself, and the queue that it is for, alive. A timer that fires although the item was
//! cancelled, or put off, finds another state than `Timer`, or a deadline that is still to come, and does nothing: the arming
//! that belongs to the present state fires by itself.

use alloc::sync::{Arc, Weak};

use base::{Errno, Result};
use frame::{
    context::IrqGuard,
    cpu::CpuId,
    sync::{LockClass, SpinLockIrq, once::Once},
};

use super::{
    queue::Workqueue,
    work::{At, Taken, Work},
};
use crate::time::{self, TimerWheel};

/// An item with a delay.
pub struct DelayedWork {
    work: Arc<Work>,
    timer: Once<TimerWheel>,
    then: SpinLockIrq<Option<Then>>,
}

/// What happens when the delay is over.
pub(super) struct Then {
    at_ns: u64,
    queue: Arc<Workqueue>,
    cpu: Option<CpuId>,
    /// Keeps the item as long as its delay runs.
    this: Arc<DelayedWork>,
}

static CLASS: LockClass = LockClass::new("delayed_work");

impl DelayedWork {
    /// `name` is the function's. ENOMEM.
    pub fn new(
        name: &'static str,
        f: impl Fn(&Arc<DelayedWork>) + Send + Sync + 'static,
    ) -> Result<Arc<DelayedWork>> {
        let me: Arc<Once<Weak<DelayedWork>>> = frame::heap::try_arc(Once::new()).ok_or(Errno::ENOMEM)?;
        let m = me.clone();
        let work = Work::new(name, move |_| {
            if let Some(d) = m.get().and_then(Weak::upgrade) {
                f(&d);
            }
        })?;
        let d = DelayedWork { work, timer: Once::new(), then: SpinLockIrq::new(&CLASS, None) };
        let d = frame::heap::try_arc(d).ok_or(Errno::ENOMEM)?;
        me.call_once(|| Arc::downgrade(&d));
        let weak = Arc::downgrade(&d);
        let timer = TimerWheel::new(move |_| {
            if let Some(d) = weak.upgrade() {
                d.fired();
            }
        })?;
        d.timer.call_once(|| timer);
        Ok(d)
    }
    /// The function's name.
    pub fn name(&self) -> &'static str {
        self.work.name()
    }
    /// Queued, or its delay runs.
    pub fn is_pending(&self) -> bool {
        self.work.is_pending()
    }
    pub(super) fn work(&self) -> &Arc<Work> {
        &self.work
    }
    fn timer(&self) -> &TimerWheel {
        self.timer.get().expect("made with the item")
    }

    /// Starts the delay. The caller owns the item.
    pub(super) fn start(self: &Arc<Self>, queue: &Arc<Workqueue>, cpu: Option<CpuId>, ns: u64) {
        let at_ns = time::now_ns().saturating_add(ns);
        let old = self.then.lock().replace(Then { at_ns, queue: queue.clone(), cpu, this: self.clone() });
        // Armed while it is still ours, so that no later arming can be overtaken. It fires on this processor, so not yet.
        self.timer().arm_in(ns);
        self.work.put(At::Timer);
        drop(old);
    }
    /// The delay runs no longer. The caller owns the item, and drops what this gives when it does not any more.
    #[must_use]
    pub(super) fn end_delay(&self) -> Option<Then> {
        self.timer().cancel();
        self.then.lock().take()
    }
    /// The timer. In softirq context. Looked at and claimed under one lock: between the two the delay could be cut and another be
    /// begun, which would then be claimed before its time.
    fn fired(&self) {
        let g = IrqGuard::new();
        let mut then = self.then.lock();
        let due = then.as_ref().is_some_and(|t| time::now_ns() >= t.at_ns);
        if due && self.work.claim_timer(&g) {
            let t = then.take();
            drop(then);
            self.go(t);
        }
    }
    /// Queues it now. The caller owns it.
    fn go(&self, then: Option<Then>) {
        match then {
            Some(t) => {
                t.queue.insert(t.cpu, &self.work);
                drop(t.this);
            }
            None => self.work.put(At::Off),
        }
    }
    /// Takes it back if it is pending. It may still be executed by then. True if it was pending.
    pub fn cancel(self: &Arc<Self>) -> bool {
        let g = IrqGuard::new();
        let taken = self.work.take_pending(false, &g);
        if taken == Taken::Timer {
            let then = self.end_delay();
            self.work.put(At::Off);
            drop(g);
            drop(then);
        }
        matches!(taken, Taken::Timer | Taken::Queued)
    }
    /// As [`Work::cancel_sync`].
    pub fn cancel_sync(self: &Arc<Self>) -> bool {
        let was = self.disable_sync();
        self.work.enable();
        was
    }
    /// As [`Work::disable_sync`].
    pub fn disable_sync(self: &Arc<Self>) -> bool {
        frame::context::might_sleep();
        self.work.forbid();
        let was = self.cancel();
        self.work.wait_idle();
        was
    }
    /// As [`Work::enable`].
    pub fn enable(&self) -> bool {
        self.work.enable()
    }
    /// Cuts a delay that runs short, and waits as [`Work::flush`] does.
    pub fn flush(&self) -> bool {
        {
            let g = IrqGuard::new();
            if self.work.claim_timer(&g) {
                self.go(self.end_delay());
            }
        }
        self.work.flush()
    }
}
