//! Work queues: what items are put on, what limits them, and how one waits for them.

use alloc::{string::String, sync::Arc, vec::Vec};

use base::{Errno, Result, pr_warn};
use frame::{
    atomic::{AtomicBool, AtomicU32, Ordering},
    context::IrqGuard,
    cpu::CpuId,
    sync::{LockClass, Mutex, SpinLockIrq, WaitQueue},
};

use super::{
    DelayedWork, attrs,
    attrs::Attrs,
    fault, freezer, pool,
    pool::{HIGHPRI_NICE, Pool},
    pwq::{Pwq, Stats},
    rescuer::{Maydays, Rescuer},
    scope,
    slots::Slots,
    sysfs, trace,
    work::{At, Taken, Work},
    worker,
};
use crate::figures::Items;

bitflags::bitflags! {
    /// What kind of queue. The values are Linux's.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Flags: u32 {
        /// Executed by workers that are tied to no processor, as many at once as the limit allows.
        const UNBOUND = 1 << 1;
        /// Stops while the system is being suspended.
        const FREEZABLE = 1 << 2;
        /// Freeing memory may depend on it: it has a rescuer.
        const MEM_RECLAIM = 1 << 3;
        /// Executed with nice −20.
        const HIGHPRI = 1 << 4;
        /// Its items take long: others do not wait for them.
        const CPU_INTENSIVE = 1 << 5;
        /// It can be seen and tuned in `/sys/devices/virtual/workqueue`.
        const SYSFS = 1 << 6;
        /// Unbound if `workqueue.power_efficient` is set.
        const POWER_EFFICIENT = 1 << 7;
        /// One item at a time, in the order of queueing. Implies `UNBOUND`.
        const ORDERED = 1 << 17;
    }
}

/// Items of a queue that may be active at once, per processor (unbound: in all): the most, and what 0 means.
pub const MAX_ACTIVE: u32 = 512;
pub const DFL_ACTIVE: u32 = MAX_ACTIVE / 2;
/// The longest name that is kept, in bytes.
const NAME_MAX: usize = 31;

/// What places in pools, workers and the rescuer need of a queue. It outlives the queue as long as items are under way.
pub(super) struct Core {
    pub(super) name: String,
    pub(super) flags: Flags,
    /// The limit now: 0 while frozen.
    pub(super) max_active: AtomicU32,
    /// Places whose old colour a flush still waits for, and one while it counts them.
    pub(super) flush_left: AtomicU32,
    flushed: WaitQueue,
    draining: AtomicU32,
    destroyed: AtomicBool,
    warned: AtomicBool,
    pub(super) maydays: SpinLockIrq<Maydays>,
    /// What the places of an unbound queue share; an ordered one has one place at a time.
    pub(super) slots: Option<Slots>,
    /// What was counted in places that have gone.
    pub(super) past: Stats,
    pub(super) items: Items,
}

impl Core {
    /// A place has nothing more of the old colour.
    pub(super) fn flushed_one(&self) {
        if self.flush_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.flushed.wake_all();
        }
    }
    /// Whether only items that its own items queue are taken in.
    fn is_closed(&self) -> bool {
        self.draining.load(Ordering::SeqCst) > 0 || self.destroyed.load(Ordering::SeqCst)
    }
}

/// Where items go.
enum Places {
    /// By processor.
    PerCpu(ByCpu),
    /// By processor too; those of a pod share one.
    Unbound(SpinLockIrq<ByCpu>),
}

/// A place for each processor.
type ByCpu = Vec<Arc<Pwq>>;

/// A work queue. It lives until [`Workqueue::destroy`].
pub struct Workqueue {
    pub(super) core: Arc<Core>,
    places: Places,
    /// All, those that only finish what they have included.
    pub(super) all: Mutex<Vec<Arc<Pwq>>>,
    /// What an unbound queue asks of its pool.
    pub(super) attrs: Mutex<Attrs>,
    /// As set by its maker or in sysfs.
    max_active: AtomicU32,
    flush_lock: Mutex<()>,
    rescuer: Mutex<Option<Rescuer>>,
}

static MAYDAY: LockClass = LockClass::new("wq_mayday");
static FLUSHED: LockClass = LockClass::new("wq_flushed");
static PLACE: LockClass = LockClass::new("wq_place");
static ALL: LockClass = LockClass::new("wq_pwqs");
static ATTRS: LockClass = LockClass::new("wq_attrs");
static FLUSH: LockClass = LockClass::new("wq_flush");
static RESCUER: LockClass = LockClass::new("wq_rescuer");
static LIST: LockClass = LockClass::new("workqueues");
static WORKQUEUES: Mutex<Vec<Arc<Workqueue>>> = Mutex::new(&LIST, Vec::new());

/// Calls `f` for each queue.
pub(super) fn for_each(mut f: impl FnMut(&Arc<Workqueue>)) {
    WORKQUEUES.lock().iter().for_each(&mut f);
}

/// The flags and limit that are meant.
fn settle(name: &str, mut flags: Flags, max_active: u32) -> (Flags, u32) {
    if flags.contains(Flags::POWER_EFFICIENT) && super::power_efficient() {
        flags |= Flags::UNBOUND;
    }
    if flags.contains(Flags::ORDERED) {
        return (flags | Flags::UNBOUND, 1);
    }
    (flags, if max_active == 0 { DFL_ACTIVE } else { clamp(max_active, name) })
}

/// The limit that may be set for one that is asked for.
fn clamp(max_active: u32, name: &str) -> u32 {
    let n = max_active.clamp(1, MAX_ACTIVE);
    if n != max_active {
        pr_warn!(
            "workqueue: max_active {max_active} requested for {name} is out of range, clamping between 1 and {MAX_ACTIVE}"
        );
    }
    n
}

impl Workqueue {
    /// Makes a queue; with `max_active` 0, of the usual limit. Needs kernel threads. ENOMEM, EAGAIN.
    pub fn new(name: &str, flags: Flags, max_active: u32) -> Result<Arc<Workqueue>> {
        let (flags, max) = settle(name, flags, max_active);
        let frozen = flags.contains(Flags::FREEZABLE) && freezer::is_freezing();
        let mut owned = String::new();
        let end = (0..=name.len().min(NAME_MAX)).rev().find(|&i| name.is_char_boundary(i)).unwrap_or(0);
        owned.try_reserve_exact(end)?;
        owned.push_str(&name[..end]);
        let core = frame::heap::try_arc(Core {
            name: owned,
            flags,
            max_active: AtomicU32::new(if frozen { 0 } else { max }),
            flush_left: AtomicU32::new(0),
            flushed: WaitQueue::with_class(&FLUSHED),
            draining: AtomicU32::new(0),
            destroyed: AtomicBool::new(false),
            warned: AtomicBool::new(false),
            maydays: SpinLockIrq::new(&MAYDAY, Maydays::default()),
            slots: (flags & (Flags::UNBOUND | Flags::ORDERED) == Flags::UNBOUND).then(Slots::new),
            past: Stats::default(),
            items: Items::default(),
        })
        .ok_or(Errno::ENOMEM)?;
        let attrs = Attrs::usual(if flags.contains(Flags::HIGHPRI) { HIGHPRI_NICE } else { 0 });
        let (places, all) = places(&core, &attrs)?;
        let q = frame::heap::try_arc(Workqueue {
            core,
            places,
            all: Mutex::new(&ALL, all),
            attrs: Mutex::new(&ATTRS, attrs),
            max_active: AtomicU32::new(max),
            flush_lock: Mutex::new(&FLUSH, ()),
            rescuer: Mutex::new(&RESCUER, None),
        })
        .ok_or(Errno::ENOMEM)?;
        q.publish().inspect_err(|_| q.destroy())?;
        Ok(q)
    }
    fn publish(self: &Arc<Self>) -> Result<()> {
        if self.core.flags.contains(Flags::MEM_RECLAIM) {
            let r = Rescuer::start(&self.core)?;
            *self.rescuer.lock() = Some(r);
        }
        {
            let mut l = WORKQUEUES.lock();
            l.try_reserve(1)?;
            l.push(self.clone());
        }
        // A freeze that began meanwhile did not see it.
        if self.core.flags.contains(Flags::FREEZABLE) {
            self.adjust();
        }
        if self.core.flags.contains(Flags::SYSFS) { sysfs::register(self) } else { Ok(()) }
    }
    pub fn name(&self) -> &str {
        &self.core.name
    }
    pub fn flags(&self) -> Flags {
        self.core.flags
    }
    /// The limit of active items.
    pub fn max_active(&self) -> u32 {
        self.max_active.load(Ordering::Relaxed)
    }
    /// Changes it; what may go now goes. More than [`MAX_ACTIVE`] is as much as that. EINVAL for an ordered queue, and for 0.
    pub fn set_max_active(&self, n: u32) -> Result<()> {
        if self.core.flags.contains(Flags::ORDERED) || n == 0 {
            return Err(Errno::EINVAL);
        }
        self.max_active.store(clamp(n, self.name()), Ordering::Relaxed);
        self.adjust();
        Ok(())
    }
    /// Brings the limit in force: the one that was set, or 0 while frozen.
    pub(super) fn adjust(&self) {
        let all = self.all.lock();
        let frozen = self.core.flags.contains(Flags::FREEZABLE) && freezer::is_freezing();
        let n = if frozen { 0 } else { self.max_active() };
        self.core.max_active.store(n, Ordering::SeqCst);
        all.iter().for_each(Pwq::adjust);
    }

    /// Queues an item: on this processor, or for an unbound queue anywhere. False if it was pending already (or disabled,
    /// or the queue takes nothing in). From any context.
    pub fn queue(&self, work: &Arc<Work>) -> bool {
        self.queue_for(None, work)
    }
    /// Queues an item for a processor.
    pub fn queue_on(&self, cpu: CpuId, work: &Arc<Work>) -> bool {
        self.queue_for(Some(cpu), work)
    }
    fn queue_for(&self, cpu: Option<CpuId>, work: &Arc<Work>) -> bool {
        let g = IrqGuard::new();
        work.claim(&g) && self.insert(cpu, work)
    }
    /// Queues an item when `ns` have passed, or a little later. False if it was pending already.
    pub fn queue_delayed(self: &Arc<Self>, d: &Arc<DelayedWork>, ns: u64) -> bool {
        self.delay(None, d, ns)
    }
    /// The same, for a processor.
    pub fn queue_delayed_on(self: &Arc<Self>, cpu: CpuId, d: &Arc<DelayedWork>, ns: u64) -> bool {
        self.delay(Some(cpu), d, ns)
    }
    fn delay(self: &Arc<Self>, cpu: Option<CpuId>, d: &Arc<DelayedWork>, ns: u64) -> bool {
        let g = IrqGuard::new();
        d.work().claim(&g) && self.begin(cpu, d, ns)
    }
    fn begin(self: &Arc<Self>, cpu: Option<CpuId>, d: &Arc<DelayedWork>, ns: u64) -> bool {
        if ns == 0 {
            // The end of a delay that ran would find nothing to do, and keep item and queue for ever.
            let old = d.end_delay();
            let queued = self.insert(cpu, d.work());
            drop(old);
            return queued;
        }
        d.start(self, cpu, ns);
        true
    }
    /// Queues an item `ns` from now, whether or not it is pending. True if it was. From any context.
    pub fn mod_delayed(self: &Arc<Self>, d: &Arc<DelayedWork>, ns: u64) -> bool {
        let g = IrqGuard::new();
        let taken = d.work().take_pending(true, &g);
        if taken != Taken::Disabled {
            self.begin(None, d, ns);
        }
        matches!(taken, Taken::Queued | Taken::Timer)
    }

    /// Puts an item that the caller owns where it belongs. Interrupts are off. False if the queue refuses it.
    pub(super) fn insert(&self, cpu: Option<CpuId>, work: &Arc<Work>) -> bool {
        loop {
            let mut pwq = self.place(cpu);
            // Where one executes it for this queue, there it stays, so that no two do.
            let busy = work.data.lock().on.clone();
            let busy = busy.filter(|(_, q)| {
                Arc::ptr_eq(&q.queue, &self.core)
                    && !Arc::ptr_eq(&q.pool, &pwq.pool)
                    && !self.core.flags.contains(Flags::ORDERED)
                    && !fault::is(fault::bits::REENTER)
            });
            if let Some((_, q)) = &busy {
                pwq = q.clone();
            }
            let mut pool = pwq.pool.lock();
            if busy.is_some() && !work.data.lock().on.as_ref().is_some_and(|(_, q)| Arc::ptr_eq(q, &pwq)) {
                // It has ended: there is no reason to go there any more.
                continue;
            }
            if self.core.is_closed() && !self.is_chained() {
                drop(pool);
                self.refuse(work);
                return false;
            }
            trace::queue_work(cpu, &pwq, work);
            if pwq.add(&mut pool, work) {
                pwq.pool.kick(&mut pool);
                return true;
            }
        }
    }
    fn place(&self, cpu: Option<CpuId>) -> Arc<Pwq> {
        let n = cpu.unwrap_or(frame::cpu::raw_id()).index();
        let of = |v: &[Arc<Pwq>]| v.get(n).unwrap_or(&v[0]).clone();
        match &self.places {
            Places::PerCpu(v) => of(v),
            Places::Unbound(v) => of(&v.lock()),
        }
    }
    /// The running task executes an item of this queue.
    fn is_chained(&self) -> bool {
        worker::current_queue().is_some_and(|q| Arc::ptr_eq(&q, &self.core))
    }
    fn refuse(&self, work: &Work) {
        work.put(At::Off);
        if !self.core.warned.swap(true, Ordering::Relaxed) {
            pr_warn!("workqueue: cannot queue {} on wq {}", work.name(), self.name());
        }
    }

    /// Waits until everything that was queued before has been executed. Delays that run are not waited for.
    pub fn flush(&self) {
        frame::context::might_sleep();
        let _one = self.flush_lock.lock();
        {
            let all = self.all.lock();
            self.core.flush_left.store(1, Ordering::SeqCst);
            all.iter().for_each(|p| p.begin_flush());
        }
        self.core.flushed_one();
        self.core.flushed.wait(|| (self.core.flush_left.load(Ordering::SeqCst) == 0).then_some(()));
    }
    /// Waits until nothing is queued, with what the items themselves queue; meanwhile nobody else may queue.
    pub fn drain(&self) {
        self.core.draining.fetch_add(1, Ordering::SeqCst);
        let mut tries = 0u32;
        loop {
            self.flush();
            if self.all.lock().iter().all(|p| p.is_empty()) {
                break;
            }
            tries += 1;
            if tries == 10 || tries.is_multiple_of(100) && tries <= 1000 {
                pr_warn!("workqueue {}: drain_workqueue() isn't complete after {tries} tries", self.name());
            }
        }
        self.core.draining.fetch_sub(1, Ordering::SeqCst);
    }
    /// Drains it and takes it down.
    pub fn destroy(&self) {
        if self.core.flags.contains(Flags::SYSFS) {
            sysfs::unregister(self);
        }
        self.core.draining.fetch_add(1, Ordering::SeqCst);
        self.drain();
        self.core.destroyed.store(true, Ordering::SeqCst);
        let rescuer = self.rescuer.lock().take();
        if let Some(r) = rescuer {
            r.stop(&self.core);
        }
        let gone = {
            let mut l = WORKQUEUES.lock();
            let at = l.iter().position(|q| core::ptr::eq(&**q, self));
            at.map(|i| l.swap_remove(i))
        };
        drop(gone);
        self.all.lock().iter().for_each(|p| {
            p.retire();
        });
        self.release();
    }
    /// Forgets places that are done, and with the last of a pool the pool.
    pub(super) fn release(&self) {
        loop {
            let done = {
                let mut all = self.all.lock();
                let at = all.iter().position(|p| p.state.lock().is_dead());
                at.map(|i| all.remove(i))
            };
            let Some(p) = done else { break };
            self.core.past.add(&p.stats);
            attrs::put_pool(&p.pool);
        }
        // Of an ordered queue the oldest place goes on; those behind it are plugged.
        let first = self.all.lock().first().cloned();
        if let Some(p) = first.filter(|_| self.core.flags.contains(Flags::ORDERED)) {
            p.unplug();
        }
    }

    /// Changes what an unbound queue asks of its pools, and moves it to those that have that; what is queued stays where it is. EINVAL
    /// for other queues; ENOMEM, EAGAIN: then nothing has changed.
    pub(super) fn change_attrs(&self, change: impl FnOnce(&mut Attrs)) -> Result<()> {
        let Places::Unbound(now) = &self.places else { return Err(Errno::EINVAL) };
        let mut attrs = self.attrs.lock();
        let mut want = *attrs;
        change(&mut want);
        let mut gone = self.open_places()?;
        let (by_cpu, new) = unbound_places(&self.core, &want, &gone)?;
        gone.retain(|p| !by_cpu.iter().any(|q| Arc::ptr_eq(p, q)));
        if self.core.flags.contains(Flags::ORDERED) {
            new.iter().for_each(|p| p.plug());
        }
        let old = {
            let mut all = self.all.lock();
            if let Err(e) = all.try_reserve(new.len()) {
                drop(all);
                new.iter().for_each(|p| attrs::put_pool(&p.pool));
                return Err(e.into());
            }
            all.extend(new);
            core::mem::replace(&mut *now.lock(), by_cpu)
        };
        *attrs = want;
        drop(attrs);
        drop(old);
        gone.iter().for_each(|p| {
            p.retire();
        });
        self.release();
        Ok(())
    }
    /// The places that new items go to.
    fn open_places(&self) -> Result<Vec<Arc<Pwq>>> {
        let all = self.all.lock();
        let mut v = Vec::new();
        v.try_reserve_exact(all.len())?;
        v.extend(all.iter().filter(|p| !p.state.lock().is_retired()).cloned());
        Ok(v)
    }
}

/// An unbound queue's place for each processor's items: of those that there are, or new ones, which come second. ENOMEM, EAGAIN: then
/// what was made has been given back.
fn unbound_places(core: &Arc<Core>, attrs: &Attrs, there: &[Arc<Pwq>]) -> Result<(ByCpu, Vec<Arc<Pwq>>)> {
    let (want, n) = (attrs.effective(), frame::cpu::possible());
    let (mut by_cpu, mut new): (ByCpu, Vec<Arc<Pwq>>) = (Vec::new(), Vec::new());
    by_cpu.try_reserve_exact(n)?;
    new.try_reserve_exact(n)?;
    for c in (0..n as u32).filter_map(CpuId::new) {
        // What is executed in order has one place for all.
        let a = want.of_pod(if core.flags.contains(Flags::ORDERED) {
            want.cpumask
        } else {
            scope::pod(&want, c)
        });
        let found = there.iter().chain(&new).find(|p| p.pool.attrs == a).cloned();
        let place = match found {
            Some(p) => p,
            None => match attrs::get_pool(&a).and_then(|pool| place_for(core, pool)) {
                Ok(p) => {
                    new.push(p.clone());
                    p
                }
                Err(e) => {
                    new.iter().for_each(|p| attrs::put_pool(&p.pool));
                    return Err(e);
                }
            },
        };
        by_cpu.push(place);
    }
    Ok((by_cpu, new))
}

/// A place in a pool, whose user it becomes. ENOMEM: then the pool has been given back.
fn place_for(core: &Arc<Core>, pool: Arc<Pool>) -> Result<Arc<Pwq>> {
    frame::heap::try_arc(Pwq::new(core.clone(), pool.clone()))
        .ok_or(Errno::ENOMEM)
        .inspect_err(|_| attrs::put_pool(&pool))
}

/// A place in each pool that the queue uses.
fn places(core: &Arc<Core>, attrs: &Attrs) -> Result<(Places, Vec<Arc<Pwq>>)> {
    let mut all = Vec::new();
    if core.flags.contains(Flags::UNBOUND) {
        let (by_cpu, new) = unbound_places(core, attrs, &[])?;
        return Ok((Places::Unbound(SpinLockIrq::new(&PLACE, by_cpu)), new));
    }
    let high = core.flags.contains(Flags::HIGHPRI) as usize;
    let mut by_cpu = Vec::new();
    for pools in pool::per_cpu() {
        all.try_reserve(1)?;
        by_cpu.try_reserve(1)?;
        let p = place_for(core, pools[high].clone())?;
        all.push(p.clone());
        by_cpu.push(p);
    }
    Ok((Places::PerCpu(by_cpu), all))
}
