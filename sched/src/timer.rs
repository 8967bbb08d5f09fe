//! Timers: precise ones that fire in the timer interrupt, coarse ones for time-outs that mostly do not happen.
//!
//! # Theory
//! Each processor has two trees of timers ordered by expiry, and one hardware timer, set to the earliest of: the
//! first precise timer, the first coarse timer, the scheduler's tick if it needs one. There is no periodic
//! interrupt: with nothing due, an idle processor sleeps. The hardware is only ever set *earlier*: cancelling
//! leaves it, and an interrupt with nothing due just sets the next. (On a virtual machine setting it costs as much
//! as the interrupt that it saves.)
//!
//! * [`Timer`] is Linux's `hrtimer`: nanoseconds, called in hardware-interrupt context.
//! * [`TimerWheel`] is Linux's `timer_list`: expiry is rounded up to a jiffy, more coarsely the further off it is,
//!   so that many time-outs fall together; called in softirq context. (Linux keeps these in a wheel of hashed
//!   buckets; here they are in the same kind of tree under their rounded time.)
//!
//! A timer's node is allocated with the timer and moves between its home and a tree, so arming never fails.
//!
//! # Locks
//! A timer's own lock, then a processor's. The interrupt takes the processor's lock alone to pop a node, and only
//! then the timer's: between the two the node is *in transit*. Whoever arms or cancels then leaves word in the
//! timer's state:
//!
//! | | node at home | in a tree | in transit |
//! |---|---|---|---|
//! | arm | moves it to a tree | takes it out, puts it in anew | `again`; that expiry is void |
//! | cancel | false | takes it home: true | `void`, no `again`: true |
//! | interrupt | – | pops it | void: home, or a tree again; else home and call |

use alloc::{boxed::Box, sync::Arc};

use base::{Errno, Result};
use frame::{
    atomic::{AtomicU32, Ordering},
    context::IrqGuard,
    cpu::{CpuId, MAX_CPUS},
    sync::{LockClass, SpinLockIrq},
    task::{self, State},
};

use crate::{
    JIFFY_NS,
    thread::TaskRef,
    tree::{Node, Tree},
};

/// Later than any deadline: "for ever".
pub const NEVER: u64 = i64::MAX as u64;

struct Queued {
    timer: Option<Arc<Inner>>,
    task: Option<TaskRef>,
}

#[derive(Clone, Copy)]
struct Place {
    cpu: CpuId,
    key: u64,
    seq: u64,
}

struct Arm {
    at: u64,
    task: Option<TaskRef>,
}

struct Armed {
    home: Option<Box<Node<Queued>>>,
    on: Option<Place>,
    /// The expiry in transit does not count.
    void: bool,
    again: Option<Arm>,
}

type Call = Box<dyn Fn(&Arc<Inner>) + Send + Sync>;

enum Action {
    /// With the name that traces show.
    Call(Call, &'static str),
    /// Wakes the task that was given at arming.
    Wake,
}

/// Which tree, and in which context it is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grain {
    Precise,
    Coarse,
}

struct Inner {
    grain: Grain,
    action: Action,
    armed: SpinLockIrq<Armed>,
    running: AtomicU32,
}

struct Base {
    precise: Tree<Queued>,
    coarse: Tree<Queued>,
    next_seq: u64,
    /// When the hardware will interrupt.
    hardware: u64,
    /// When the scheduler wants its tick.
    tick: u64,
    coarse_raised: bool,
}

#[repr(align(64))]
struct Slot(SpinLockIrq<Base>);

static BASE: LockClass = LockClass::new("timer_base");
static TIMER: LockClass = LockClass::new("timer");
static BASES: [Slot; MAX_CPUS] = [const {
    Slot(SpinLockIrq::new(
        &BASE,
        Base {
            precise: Tree::new(),
            coarse: Tree::new(),
            next_seq: 0,
            hardware: u64::MAX,
            tick: u64::MAX,
            coarse_raised: false,
        },
    ))
}; MAX_CPUS];

fn base(cpu: CpuId) -> &'static SpinLockIrq<Base> {
    &BASES[cpu.index()].0
}

impl Base {
    fn tree(&mut self, g: Grain) -> &mut Tree<Queued> {
        match g {
            Grain::Precise => &mut self.precise,
            Grain::Coarse => &mut self.coarse,
        }
    }
    /// Makes sure that the hardware interrupts this processor at `at` or before.
    fn program(&mut self, at: u64) {
        if at < self.hardware {
            self.hardware = at;
            frame::time::set_timer(Some(at));
        }
    }
    /// The first event; a coarse one whose softirq has been raised already does not count.
    fn next_event(&self) -> u64 {
        let p = self.precise.first().map_or(u64::MAX, Node::key);
        let c = self.coarse.first().filter(|_| !self.coarse_raised).map_or(u64::MAX, Node::key);
        p.min(c).min(self.tick)
    }
}

impl Inner {
    fn make(grain: Grain, action: Action) -> Result<Arc<Inner>> {
        let node = Node::new(Queued { timer: None, task: None });
        let home = Some(frame::heap::try_box(node).ok_or(Errno::ENOMEM)?);
        let made = frame::heap::try_arc(Inner {
            grain,
            action,
            armed: SpinLockIrq::new(&TIMER, Armed { home, on: None, void: false, again: None }),
            running: AtomicU32::new(0),
        })
        .ok_or(Errno::ENOMEM)?;
        note::init(&made);
        Ok(made)
    }

    fn insert(self: &Arc<Self>, st: &mut Armed, mut n: Box<Node<Queued>>, arm: Arm) {
        let g = IrqGuard::new();
        let cpu = g.cpu();
        n.value.timer = Some(self.clone());
        n.value.task = arm.task;
        let key = arm.at.min(NEVER);
        let mut b = base(cpu).lock();
        b.next_seq += 1;
        let seq = b.next_seq;
        b.tree(self.grain).insert(n, key, seq, 0);
        if key != NEVER {
            b.program(key);
        }
        st.on = Some(Place { cpu, key, seq });
    }

    fn take_out(&self, st: &mut Armed) -> Option<Box<Node<Queued>>> {
        let p = st.on.take()?;
        let got = base(p.cpu).lock().tree(self.grain).remove(p.key, p.seq);
        if got.is_none() {
            st.void = true;
        }
        got
    }

    /// Arms anew. True if it was pending before.
    fn arm(self: &Arc<Self>, at: u64, task: Option<TaskRef>) -> bool {
        let mut st = self.armed.lock();
        let was = st.on.is_some() || st.again.is_some();
        note::start(self, at, was);
        let arm = Arm { at, task };
        let node = self.take_out(&mut st).or_else(|| st.home.take());
        let old = match node {
            Some(mut n) => {
                let old = (n.value.timer.take(), n.value.task.take());
                self.insert(&mut st, n, arm);
                Some(old)
            }
            None => {
                st.again = Some(arm);
                None
            }
        };
        drop(st);
        drop(old);
        was
    }

    /// True if it was pending and will not run.
    fn cancel(&self) -> bool {
        let mut st = self.armed.lock();
        let again = st.again.take();
        let was = st.on.is_some() || again.is_some();
        if was {
            note::cancel(self);
        }
        let mut old = None;
        if let Some(mut n) = self.take_out(&mut st) {
            old = Some((n.value.timer.take(), n.value.task.take()));
            st.home = Some(n);
        }
        drop(st);
        drop((old, again));
        was
    }

    /// Cancels, and waits until a call that has begun elsewhere is over.
    fn cancel_wait(&self) -> bool {
        let was = self.cancel();
        while self.running.load(Ordering::Acquire) != 0 {
            frame::cpu::relax();
        }
        was
    }

    fn is_armed(&self) -> bool {
        let st = self.armed.lock();
        st.on.is_some() || st.again.is_some()
    }
}

/// Takes over a node that has been popped, and calls.
fn expire(mut n: Box<Node<Queued>>) {
    let Some(t) = n.value.timer.take() else { return };
    let task = n.value.task.take();
    let mut st = t.armed.lock();
    let void = core::mem::take(&mut st.void);
    if void {
        match st.again.take() {
            Some(arm) => t.insert(&mut st, n, arm),
            None => st.home = Some(n),
        }
        return;
    }
    st.on = None;
    st.home = Some(n);
    t.running.fetch_add(1, Ordering::Acquire);
    drop(st);
    note::cancel(&t);
    note::expire_entry(&t);
    match &t.action {
        Action::Call(f, _) => f(&t),
        Action::Wake => {
            if let Some(task) = task {
                task::wake(&task, State::NORMAL);
            }
        }
    }
    note::expire_exit(&t);
    t.running.fetch_sub(1, Ordering::Release);
}

mod note;

/// Calls what is due of one tree on this processor.
fn run_due(cpu: CpuId, grain: Grain, now: u64) {
    loop {
        let mut b = base(cpu).lock();
        let tree = b.tree(grain);
        if tree.first().is_none_or(|n| n.key() > now) {
            return;
        }
        let n = tree.pop_first();
        drop(b);
        if let Some(n) = n {
            expire(n);
        }
    }
}

/// The timer interrupt. `tick` is called if the scheduler's tick is due, and says when it wants the next.
pub(crate) fn interrupt(cpu: CpuId, tick: impl FnOnce(u64) -> Option<u64>) {
    let now = frame::time::now_ns();
    {
        let mut b = base(cpu).lock();
        b.hardware = u64::MAX;
    }
    run_due(cpu, Grain::Precise, now);
    let tick_due = base(cpu).lock().tick <= now;
    if tick_due {
        let next = tick(now).unwrap_or(u64::MAX);
        base(cpu).lock().tick = next;
    }
    let mut b = base(cpu).lock();
    if !b.coarse_raised && b.coarse.first().is_some_and(|n| n.key() <= now) {
        b.coarse_raised = true;
        crate::softirq::raise(crate::softirq::Vector::Timer);
    }
    let next = b.next_event();
    if next < NEVER {
        b.program(next);
    }
}

/// The timer softirq.
pub(crate) fn run_coarse(cpu: CpuId) {
    run_due(cpu, Grain::Coarse, frame::time::now_ns());
    let mut b = base(cpu).lock();
    b.coarse_raised = false;
    let next = b.next_event();
    if next < NEVER {
        b.program(next);
    }
}

/// The scheduler's tick will come at `at`. On its own processor, with interrupts off.
pub(crate) fn start_tick(cpu: CpuId, at: u64) {
    let mut b = base(cpu).lock();
    b.tick = at;
    b.program(at);
}

/// A precise timer. Clones are the same timer.
#[derive(Clone)]
pub struct Timer {
    inner: Arc<Inner>,
}

impl Timer {
    /// `f` is called in hardware-interrupt context and may arm its timer again. ENOMEM.
    pub fn new(f: impl Fn(&Timer) + Send + Sync + 'static) -> Result<Timer> {
        let name = crate::trace::short_name(core::any::type_name_of_val(&f));
        let call = move |t: &Arc<Inner>| f(&Timer { inner: t.clone() });
        Ok(Timer { inner: Inner::make(Grain::Precise, Action::Call(Box::new(call), name))? })
    }
    /// Fires at `at_ns` on the monotonic clock, on this processor; an earlier arming is void. True if there was
    /// one.
    pub fn arm(&self, at_ns: u64) -> bool {
        self.inner.arm(at_ns, None)
    }
    /// True if it was armed, and now will not fire. A call that has begun may still run.
    pub fn cancel(&self) -> bool {
        self.inner.cancel()
    }
    /// Also waits for a call that has begun. Not from its own function.
    pub fn cancel_wait(&self) -> bool {
        self.inner.cancel_wait()
    }
    pub fn is_armed(&self) -> bool {
        self.inner.is_armed()
    }
}

/// A coarse timer, for time-outs. Clones are the same timer.
#[derive(Clone)]
pub struct TimerWheel {
    inner: Arc<Inner>,
}

impl TimerWheel {
    /// `f` is called in softirq context and may arm its timer again. ENOMEM.
    pub fn new(f: impl Fn(&TimerWheel) + Send + Sync + 'static) -> Result<TimerWheel> {
        let name = crate::trace::short_name(core::any::type_name_of_val(&f));
        let call = move |t: &Arc<Inner>| f(&TimerWheel { inner: t.clone() });
        Ok(TimerWheel { inner: Inner::make(Grain::Coarse, Action::Call(Box::new(call), name))? })
    }
    /// Fires `ns` from now or somewhat later: the delay is rounded up, by at most an eighth.
    pub fn arm_in(&self, ns: u64) -> bool {
        let now = frame::time::now_ns();
        self.inner.arm(coarse_expiry(now, ns), None)
    }
    pub fn cancel(&self) -> bool {
        self.inner.cancel()
    }
    /// Also waits for a call that has begun. Not from its own function.
    pub fn cancel_wait(&self) -> bool {
        self.inner.cancel_wait()
    }
    pub fn is_armed(&self) -> bool {
        self.inner.is_armed()
    }
}

/// Rounds up to a multiple of the grain: a jiffy below 64 jiffies, eight times coarser for each factor of eight, so
/// that the delay is at most an eighth too long (Linux's wheel levels: `kernel/time/timer.c` describes them).
pub(crate) fn coarse_expiry(now: u64, ns: u64) -> u64 {
    let at = now.saturating_add(ns).min(NEVER);
    let jiffies = ns / JIFFY_NS;
    let level = if jiffies < 64 { 0 } else { (jiffies.ilog2() - 3) / 3 };
    let grain = JIFFY_NS << (3 * level.min(8));
    at.div_ceil(grain).saturating_mul(grain).min(NEVER)
}

/// The timer that comes with each task, for its own sleeps.
pub(crate) struct SleepTimer {
    inner: Arc<Inner>,
}

impl SleepTimer {
    pub(crate) fn new() -> Result<SleepTimer> {
        Ok(SleepTimer { inner: Inner::make(Grain::Precise, Action::Wake)? })
    }
    pub(crate) fn arm(&self, at_ns: u64, task: TaskRef) {
        self.inner.arm(at_ns, Some(task));
    }
    pub(crate) fn cancel(&self) {
        self.inner.cancel();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn coarse_is_never_early_and_at_most_an_eighth_late(now in 0u64..1 << 50, ns in 0u64..1 << 50) {
            let at = coarse_expiry(now, ns);
            prop_assert!(at >= now + ns);
            prop_assert!(at - (now + ns) <= JIFFY_NS.max(ns / 8 + JIFFY_NS));
        }
    }
}
