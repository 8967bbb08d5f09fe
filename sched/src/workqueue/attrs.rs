//! Attributes of unbound pools, and the pools that have them: queues that ask for the same share one.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use base::{Errno, Result, cpumask};
use frame::{
    atomic::{AtomicU64, Ordering},
    cpu::CpuMask,
    sync::{LockClass, Mutex, SpinLockIrq, once::Once},
    task::{self, State},
};

use super::{Work, manager, pool, pool::Pool, queue, scope::Scope};

/// What an unbound queue asks of the pools that execute its items.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attrs {
    pub nice: i8,
    pub cpumask: CpuMask,
    pub scope: Scope,
    /// Workers do not leave their pod.
    pub strict: bool,
}

/// What tells a pool from another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct PoolAttrs {
    pub nice: i8,
    pub cpumask: CpuMask,
    /// The pod whose items it executes.
    pub pod: CpuMask,
    /// Its workers do not leave the pod.
    pub strict: bool,
}

/// `/sys/devices/virtual/workqueue/cpumask`: where unbound work may be executed at all.
static UNBOUND_MASK: AtomicU64 = AtomicU64::new(u64::MAX);

/// What was last written there.
static REQUESTED_MASK: AtomicU64 = AtomicU64::new(u64::MAX);

pub(super) fn requested_mask() -> CpuMask {
    CpuMask(REQUESTED_MASK.load(Ordering::Relaxed)).and(cpumask::all())
}
pub(super) fn unbound_mask() -> CpuMask {
    CpuMask(UNBOUND_MASK.load(Ordering::Relaxed)).and(cpumask::all())
}

impl Attrs {
    pub(super) fn usual(nice: i8) -> Attrs {
        Attrs { nice, cpumask: cpumask::all(), scope: Scope::Default, strict: false }
    }
    /// As far as unbound work may go there; where it may not at all, wherever it may.
    pub(super) fn effective(&self) -> Attrs {
        let all = unbound_mask();
        let m = self.cpumask.and(all);
        Attrs { cpumask: if m.is_empty() { all } else { m }, ..*self }
    }
    /// Of the pool for a pod's items; queues with the same pod share it, whatever their scope is called.
    pub(super) fn of_pod(&self, pod: CpuMask) -> PoolAttrs {
        let Attrs { nice, cpumask, strict, .. } = *self;
        PoolAttrs { nice, cpumask, pod, strict: strict && pod != cpumask }
    }
}

impl PoolAttrs {
    /// Of a pool that has all of its processors for a pod.
    pub(super) fn new(nice: i8, cpumask: CpuMask) -> PoolAttrs {
        PoolAttrs { nice, cpumask, pod: cpumask, strict: false }
    }
}

static CLASS: LockClass = LockClass::new("unbound_pool_hash");
static POOLS: Mutex<BTreeMap<PoolAttrs, Arc<Pool>>> = Mutex::new(&CLASS, BTreeMap::new());
static LIST: LockClass = LockClass::new("unbound_pools");
/// The same, for those who cannot sleep; changed under the other's lock.
static POOL_LIST: SpinLockIrq<Vec<Arc<Pool>>> = SpinLockIrq::new(&LIST, Vec::new());

/// The pool with these attributes, made if there is none; with one more place in it.
pub(super) fn get_pool(a: &PoolAttrs) -> Result<Arc<Pool>> {
    let mut pools = POOLS.lock();
    if let Some(p) = pools.get(a) {
        p.users.fetch_add(1, Ordering::Relaxed);
        return Ok(p.clone());
    }
    let p = Pool::new(pool::next_id(), None, *a)?;
    POOL_LIST.lock().try_reserve(1)?;
    manager::create(&p)?;
    p.users.store(1, Ordering::Relaxed);
    POOL_LIST.lock().push(p.clone());
    pools.insert(*a, p.clone());
    Ok(p)
}

/// A place in the pool is gone; with the last the pool goes.
pub(super) fn put_pool(p: &Arc<Pool>) {
    if p.cpu.is_some() {
        return;
    }
    {
        let mut pools = POOLS.lock();
        if p.users.fetch_sub(1, Ordering::Relaxed) != 1 {
            return;
        }
        pools.remove(&p.attrs);
        POOL_LIST.lock().retain(|x| !Arc::ptr_eq(x, p));
    }
    retire(p);
}

/// Sends the workers of a pool away that nobody uses; one that is between items sees it by itself.
fn retire(p: &Arc<Pool>) {
    loop {
        let mut s = p.lock();
        s.retired = true;
        let Some(w) = s.idle.front().and_then(|w| s.idle.arc_of(w)) else { break };
        w.condemn(&mut s);
        drop(s);
        if let Some(t) = w.task() {
            task::wake(&t, State::NORMAL);
        }
    }
    p.idle_timer().cancel();
}

/// Calls `f` for each unbound pool.
pub(super) fn for_each_pool(mut f: impl FnMut(&Arc<Pool>)) {
    POOLS.lock().values().for_each(&mut f);
}

/// The `i`th unbound pool, in the order in which they came. From any context.
pub(super) fn nth_pool(i: usize) -> Option<Arc<Pool>> {
    POOL_LIST.lock().get(i).cloned()
}

/// Sets where unbound work may be executed, and moves the queues. EINVAL if no processor is left. ENOMEM: then queues that have moved
/// move back.
pub(super) fn set_unbound_mask(m: CpuMask) -> Result<()> {
    let m = m.and(cpumask::all());
    if m.is_empty() {
        return Err(Errno::EINVAL);
    }
    let old = UNBOUND_MASK.swap(m.0, Ordering::Relaxed);
    if old & cpumask::all().0 != m.0
        && let Err(e) = apply_unbound_mask()
    {
        UNBOUND_MASK.store(old, Ordering::Relaxed);
        // The pools that they left are still there as long as something else uses them; one that cannot go back stays where it is
        // until the next change.
        let _ = apply_unbound_mask();
        return Err(e);
    }
    REQUESTED_MASK.store(m.0, Ordering::Relaxed);
    Ok(())
}

/// Moves every unbound queue to the pools that its attributes ask for now. The first error; the others move all the same.
fn apply_unbound_mask() -> Result<()> {
    move_queues(|_| true)
}

/// The same for those of whose attributes `which` is true.
pub(super) fn move_queues(which: impl Fn(&Attrs) -> bool) -> Result<()> {
    let mut result = Ok(());
    queue::for_each(|q| {
        let attrs = *q.attrs.lock();
        if q.flags().contains(queue::Flags::UNBOUND) && which(&attrs) {
            result = result.and(q.change_attrs(|_| ()));
        }
    });
    result
}

static RELEASE: Once<Arc<Work>> = Once::new();

pub(super) fn init() -> Result<()> {
    let w = Work::new("pwq_release_workfn", |_| queue::for_each(|q| q.release()))?;
    RELEASE.call_once(|| w);
    Ok(())
}

/// A place of some queue is done and wants to be forgotten. From any context, without a pool's lock.
pub(super) fn schedule_release() {
    if let Some(w) = RELEASE.get() {
        super::events_unbound().queue(w);
    }
}
