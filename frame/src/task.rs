//! Execution contexts: a kernel stack with saved registers, and the protocol by which it sleeps and is woken.
//!
//! `frame` switches; *which* task runs is the business of the [`Scheduler`] that `sched` installs. Frame checks
//! the scheduler's answers, so that a wrong policy is a panic and not a corrupted stack.
//!
//! # Sleeping and waking
//! A task's `Word` holds its sleep state and the bit `QUEUED` (it runs, or stands on a run queue).
//!
//! ```text
//!   the sleeper                              a waker
//!   enrol with whoever will wake             make the condition true
//!   set_state(S)          QUEUED|S           wake(task, mask):
//!   condition? yes: set_running, done          QUEUED|S → QUEUED      the sleeper never left: done
//!   schedule():  QUEUED|S → S  (commits)       S        → QUEUED      it had left: wait until its old
//!                or finds QUEUED: goes on                              processor has switched, then enqueue
//! ```
//! Each transition is one compare-and-swap, so exactly one waker wins, and a wake-up between the sleeper's check and
//! its `schedule` is never lost. A scheduler must not hand a queued task with [`Task::is_on_cpu`] to another processor.
//!
//! # Switching
//! `schedule` runs with interrupts off from the commit to the end of the switch. The processor's context word is
//! exactly one preemption count there, so it needs no saving. Each processor owns one reference of its current task;
//! the task switched away from is handed over in a per-processor slot and finished by the next one on its own stack.

use alloc::{boxed::Box, sync::Arc};
use core::{any::Any, cell::UnsafeCell, marker::PhantomData, ops::Deref};

use crate::{
    arch,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    containers::Typed,
    context::{self, PREEMPT_OFFSET},
    cpu::{CpuId, CpuMask},
    paging::PageTable,
    user,
};

bitflags::bitflags! {
    /// Why a task does not run. The values are Linux's, as `/proc/PID/stat` and trace events show them.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct State: u32 {
        const INTERRUPTIBLE   = 0x0001;
        const UNINTERRUPTIBLE = 0x0002;
        const STOPPED         = 0x0004;
        const TRACED          = 0x0008;
        const DEAD            = 0x0080;
        const PARKED          = 0x0040;
        /// With `UNINTERRUPTIBLE`: fatal signals wake it all the same.
        const WAKEKILL        = 0x0100;
        /// With `UNINTERRUPTIBLE`: does not count as load (shown as `I`).
        const NOLOAD          = 0x0400;
        /// Made but never yet started.
        const NEW             = 0x0800;
        const FROZEN          = 0x8000;
        const KILLABLE = Self::WAKEKILL.bits() | Self::UNINTERRUPTIBLE.bits();
        const IDLE     = Self::UNINTERRUPTIBLE.bits() | Self::NOLOAD.bits();
        /// What an ordinary wake-up ends.
        const NORMAL   = Self::INTERRUPTIBLE.bits() | Self::UNINTERRUPTIBLE.bits();
        const ANY      = 0xffff;
    }
}

/// Set in a task's word while it runs or stands on a run queue.
const QUEUED: u32 = 1 << 31;

bitflags::bitflags! {
    /// What a task has to look at before it returns to user mode, and what ends its interruptible waits.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Work: u32 {
        /// A signal may be deliverable.
        const SIGNAL = 1;
        /// A fatal signal is pending: killable waits end.
        const KILL   = 2;
        /// The task must park, stop or freeze.
        const NOTIFY = 4;
    }
}

/// How the scheduler got a task to enqueue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enqueue {
    /// First start.
    New,
    /// It slept.
    Wakeup,
}

/// What becomes of the task that a processor stops running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prev {
    /// It goes on being runnable (preempted or yielding); the scheduler keeps it queued.
    Runnable,
    /// It sleeps in this state and is off the queue; only a wake-up brings it back.
    Sleeping(State),
    /// It has ended.
    Dead,
}

/// The policy that `sched` provides. All functions are called with interrupts off and must not sleep, nor call [`wake`]: it may
/// have to wait for the very switch they are part of.
pub trait Scheduler: Sync {
    /// `task` became runnable: queue it on some processor, and return that processor if it should reschedule now.
    fn enqueue(&self, task: &Arc<Task>, how: Enqueue) -> Option<CpuId>;
    /// Chooses what `cpu` runs next; `prev` has just run there. Must return a task that is not on another processor
    /// and may run here; the idle task is never enqueued and is the answer when there is nothing else.
    fn pick_next(&self, cpu: CpuId, prev: &Arc<Task>, what: Prev) -> Arc<Task>;
    /// `prev` is off this processor for good (its `is_on_cpu` is false). A place to move it elsewhere.
    fn switched_from(&self, cpu: CpuId, prev: Arc<Task>, what: Prev);
    /// A watched task has announced a sleep and is about to leave its processor. In its context, interrupts on; may call
    /// [`wake`] for others.
    fn sleeping(&self, _me: Current) {}
    /// A watched task is back from [`schedule`].
    fn running(&self, _me: Current) {}
}

/// From now on the scheduler is told when the running task goes to sleep and is back ([`Scheduler::sleeping`]), or no longer.
pub fn watch_sleep(on: bool) {
    current().watched.store(on, Ordering::Relaxed);
}

static SCHEDULER: crate::sync::once::Once<&'static dyn Scheduler> = crate::sync::once::Once::new();

/// Installs the scheduler; the first call decides. Afterwards [`schedule`] works on every processor.
pub fn install_scheduler(s: &'static dyn Scheduler) {
    SCHEDULER.call_once(|| s);
}

/// True once tasks switch.
#[inline]
pub fn scheduling() -> bool {
    SCHEDULER.get().is_some()
}

fn scheduler() -> &'static dyn Scheduler {
    *SCHEDULER.get().expect("no scheduler is installed")
}

/// A context of execution. Cheap to share: always behind an `Arc`.
pub struct Task {
    /// Owned by whichever processor runs the task; by the switch code in between.
    ctx: UnsafeCell<arch::Context>,
    stack: Option<arch::Stack>,
    /// Sleep state and `QUEUED`.
    word: AtomicU32,
    work: AtomicU32,
    /// True from the moment a processor switches to it until that processor has saved it again.
    on_cpu: AtomicBool,
    /// The scheduler wants to know when it sleeps: see [`watch_sleep`].
    watched: AtomicBool,
    /// Where it runs, or last ran, or is queued.
    cpu: AtomicU32,
    /// Taken by the first run.
    entry: UnsafeCell<Option<Box<dyn FnOnce() + Send>>>,
    /// User address space; only the task itself changes it. Kernel threads have none and borrow the last one.
    pt: UnsafeCell<Option<Arc<PageTable>>>,
    fpu: UnsafeCell<Option<arch::Fpu>>,
    /// How it last left a processor; written with `on_cpu` set, read by the task that finishes the switch.
    left_as: UnsafeCell<Prev>,
    switches: AtomicU64,
    involuntary: AtomicU64,
    /// The sleeping locks it holds; nothing in plain builds.
    pub(crate) held: crate::sync::lockdep::Held,
    ext: Typed,
}

// SAFETY: the `UnsafeCell` fields are touched only by the task itself while it runs, or by `schedule` with interrupts off
// on the one processor for which `on_cpu` is set; everything else is atomic or immutable.
unsafe impl Send for Task {}
// SAFETY: as above.
unsafe impl Sync for Task {}

/// FPU, SSE and AVX state of a user task: see [`Current::snapshot_fpu`].
pub use arch::Fpu;

/// Pages of a kernel stack (16 KiB, as on Linux); one guard page lies below.
pub const STACK_PAGES: usize = 4;

impl Task {
    /// Makes a task that will run `entry` once it is woken from [`State::NEW`] (see [`Task::start`]).
    /// `ext` is what the layer above keeps with it. `None` where there is no memory for its stack.
    pub fn new<T: Any + Send + Sync>(entry: Box<dyn FnOnce() + Send>, ext: T) -> Option<Arc<Task>> {
        let stack = arch::Stack::new(STACK_PAGES)?;
        let ctx = arch::Context::new(stack.top(), first_run);
        Some(Arc::new(Task {
            ctx: UnsafeCell::new(ctx),
            stack: Some(stack),
            word: AtomicU32::new(State::NEW.bits()),
            work: AtomicU32::new(0),
            on_cpu: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            cpu: AtomicU32::new(0),
            entry: UnsafeCell::new(Some(entry)),
            pt: UnsafeCell::new(None),
            fpu: UnsafeCell::new(None),
            left_as: UnsafeCell::new(Prev::Runnable),
            switches: AtomicU64::new(0),
            involuntary: AtomicU64::new(0),
            held: crate::sync::lockdep::Held::new(),
            ext: Typed::new(Box::new(ext)),
        }))
    }

    /// Turns what runs on this processor right now (the boot path) into a task: the processor's idle task.
    /// Called once per processor, before anything else can be scheduled on it.
    ///
    /// # Panics
    /// If this processor already has a current task.
    pub fn adopt_boot_context<T: Any + Send + Sync>(ext: T) -> Arc<Task> {
        assert!(arch::current().is_null(), "this processor has a task already");
        let cpu = arch::cpu_id();
        let t = Arc::new(Task {
            ctx: UnsafeCell::new(arch::Context::empty()),
            stack: None,
            word: AtomicU32::new(QUEUED),
            work: AtomicU32::new(0),
            on_cpu: AtomicBool::new(true),
            watched: AtomicBool::new(false),
            cpu: AtomicU32::new(cpu),
            entry: UnsafeCell::new(None),
            pt: UnsafeCell::new(None),
            fpu: UnsafeCell::new(None),
            left_as: UnsafeCell::new(Prev::Runnable),
            switches: AtomicU64::new(0),
            involuntary: AtomicU64::new(0),
            held: crate::sync::lockdep::Held::new(),
            ext: Typed::new(Box::new(ext)),
        });
        arch::set_current(Arc::into_raw(t.clone()));
        t
    }

    /// What the layer above keeps with the task.
    ///
    /// # Panics
    /// If it is of another type.
    #[inline]
    pub fn ext<T: Any>(&self) -> &T {
        self.ext.get().expect("task extension of another type")
    }

    /// The sleep state; empty while it runs or is queued to run.
    pub fn state(&self) -> State {
        State::from_bits_truncate(self.word.load(Ordering::Acquire) & !QUEUED)
    }
    /// True while it runs or stands on a run queue.
    pub fn is_queued(&self) -> bool {
        self.word.load(Ordering::Acquire) & QUEUED != 0
    }
    /// True while some processor executes it (or is still saving it).
    #[inline]
    pub fn is_on_cpu(&self) -> bool {
        self.on_cpu.load(Ordering::Acquire)
    }
    /// Where it runs, last ran or is queued.
    #[inline]
    pub fn cpu(&self) -> CpuId {
        CpuId::new_unchecked(self.cpu.load(Ordering::Relaxed))
    }
    /// For schedulers: records the queue on which it stands.
    #[inline]
    pub fn set_cpu(&self, cpu: CpuId) {
        self.cpu.store(cpu.get(), Ordering::Relaxed);
    }
    /// Switches so far: (voluntary, involuntary), as in `/proc/PID/status`.
    pub fn switches(&self) -> (u64, u64) {
        (self.switches.load(Ordering::Relaxed), self.involuntary.load(Ordering::Relaxed))
    }
    /// Where it goes on, while it does not run: for a simulation's report.
    #[cfg(not(target_os = "none"))]
    pub(crate) fn context(&self) -> *const arch::Context {
        self.ctx.get()
    }
    /// Addresses of its kernel stack, lowest first; `None` for a boot stack.
    pub fn stack_range(&self) -> Option<core::ops::Range<usize>> {
        self.stack.as_ref().map(|s| s.range())
    }

    #[inline]
    pub fn work(&self) -> Work {
        Work::from_bits_truncate(self.work.load(Ordering::Acquire))
    }
    /// Adds to what the task must look at. Wake it afterwards (see [`wake`]), with a mask that fits.
    pub fn set_work(&self, w: Work) {
        self.work.fetch_or(w.bits(), Ordering::AcqRel);
    }
    pub fn clear_work(&self, w: Work) {
        self.work.fetch_and(!w.bits(), Ordering::AcqRel);
    }

    /// Starts a task made by [`Task::new`]. False if it was started before.
    pub fn start(self: &Arc<Self>) -> bool {
        wake_as(self, State::NEW, Enqueue::New)
    }
}

/// The running task, borrowed. It cannot outlive the task's own stack, nor be sent to another.
#[derive(Clone, Copy)]
pub struct Current {
    task: *const Task,
    _not_send: PhantomData<*mut ()>,
}

impl Deref for Current {
    type Target = Task;
    #[inline]
    fn deref(&self) -> &Task {
        // SAFETY: the processor owns a reference of its current task for as long as it runs, and `Current` is neither
        // `Send` nor storable in a static, so it lives on that task's stack, which runs only while that holds.
        unsafe { &*self.task }
    }
}

/// A part of the running task, or of what hangs on it, found once and used often. Lives no longer than a [`Current`] may.
pub struct CurrentRef<T: ?Sized> {
    part: *const T,
    _not_send: PhantomData<*mut ()>,
}

impl<T: ?Sized> Clone for CurrentRef<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: ?Sized> Copy for CurrentRef<T> {}

impl<T: ?Sized> Deref for CurrentRef<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the part lives as long as a borrow of the task can (see `Current::part`), and for `Current`'s reason that
        // is as long as this value.
        unsafe { &*self.part }
    }
}

impl Current {
    /// Finds a part of the task. `find` must do for every lifetime, so what it gives belongs to the task or to nobody.
    #[inline]
    pub fn part<T: ?Sized>(
        self,
        find: impl for<'a> FnOnce(&'a Task) -> Option<&'a T>,
    ) -> Option<CurrentRef<T>> {
        find(&self).map(|p| CurrentRef { part: p, _not_send: PhantomData })
    }
    /// A counted reference.
    pub fn arc(&self) -> Arc<Task> {
        // SAFETY: `task` came from `Arc::into_raw` and the processor's reference keeps it alive here.
        unsafe {
            Arc::increment_strong_count(self.task);
            Arc::from_raw(self.task)
        }
    }

    /// Announces that the task is about to sleep: from here a wake-up with a matching mask makes the next
    /// [`schedule`] return. Follow it by the check of the condition.
    pub fn set_state(&self, s: State) {
        debug_assert!(!s.is_empty() && !s.contains(State::DEAD) && !s.contains(State::NEW));
        // Sequentially consistent: the store must be visible before the condition is read.
        self.word.store(QUEUED | s.bits(), Ordering::SeqCst);
        crate::atomic::fence(Ordering::SeqCst);
    }
    /// Takes the announcement back.
    pub fn set_running(&self) {
        self.word.store(QUEUED, Ordering::SeqCst);
    }

    /// The task's user address space from now on. Switches this processor to it at once.
    pub fn set_page_table(&self, pt: Option<Arc<PageTable>>) {
        let g = context::IrqGuard::new();
        if let Some(p) = &pt {
            p.activate(&g);
        }
        // SAFETY: only the running task touches its own `pt`, interrupts are off, and the old value is dropped after use.
        let old = unsafe { (*self.task).pt.get().replace(pt) };
        drop(g);
        drop(old);
    }
    /// The task's user address space.
    pub fn page_table(&self) -> Option<Arc<PageTable>> {
        // SAFETY: only the running task itself writes this field.
        unsafe { (*self.pt.get()).clone() }
    }

    /// Gives the task a fresh FPU state (at exec). False where there is no memory.
    pub fn reset_fpu(&self) -> bool {
        let Some(f) = arch::Fpu::new() else { return false };
        let _g = context::IrqGuard::new();
        // SAFETY: own field, interrupts off; the fresh image becomes the live one.
        unsafe {
            f.restore();
            *self.fpu.get() = Some(f);
        }
        true
    }
    /// A copy of the live FPU state, for a child or a signal frame. `None` for kernel threads, or without memory.
    pub fn snapshot_fpu(&self) -> Option<arch::Fpu> {
        let _g = context::IrqGuard::new();
        // SAFETY: own field; while this task runs on this processor with interrupts off its live registers are its state.
        unsafe {
            let f = (*self.fpu.get()).as_ref()?;
            f.save();
            f.try_clone()
        }
    }
    /// Writes the live FPU state to user memory as it stands in a signal frame, [`fpu_frame_len`] bytes; `uva` is a multiple
    /// of 64. On a fault some of it may have been written.
    pub fn fpu_to_user(&self, uva: usize) -> Result<(), user::Fault> {
        if !user::range_ok(uva, fpu_frame_len()) {
            return Err(user::Fault);
        }
        // SAFETY: own field, which only this task changes, and never while it looks; the range is checked.
        let done = unsafe { (*self.fpu.get()).as_ref().is_some_and(|f| f.to_user(uva)) };
        if done { Ok(()) } else { Err(user::Fault) }
    }
    /// Takes the FPU state from a signal frame. `Err` where it cannot be read or cannot be a state; the old one stays then.
    pub fn fpu_from_user(&self, uva: usize) -> Result<(), user::Fault> {
        // SAFETY: as above.
        match unsafe { (*self.fpu.get()).as_ref() } {
            Some(f) => f.from_user(uva).map_err(|_| user::Fault),
            None => Ok(()),
        }
    }
    /// Replaces the FPU state (a child's first run).
    pub fn install_fpu(&self, f: arch::Fpu) {
        let _g = context::IrqGuard::new();
        // SAFETY: as in `reset_fpu`.
        unsafe {
            f.restore();
            *self.fpu.get() = Some(f);
        }
    }
}

/// Bytes that the FPU state takes in a signal frame. More than 512: with the extended part.
pub fn fpu_frame_len() -> usize {
    arch::Fpu::frame_len()
}

/// The running task.
///
/// # Panics
/// Before this processor has one.
#[inline]
pub fn current() -> Current {
    let task = arch::current();
    assert!(!task.is_null(), "no current task on this processor yet");
    Current { task, _not_send: PhantomData }
}

/// True if what runs here has no address space of its own, so that whatever user table is loaded is borrowed. Interrupts are off.
pub(crate) fn borrows_page_table() -> bool {
    let t = arch::current();
    // SAFETY: the processor keeps its current task alive, and only that task, on this processor, changes the field.
    t.is_null() || unsafe { (*(*t).pt.get()).is_none() }
}

/// True if this processor has a current task yet.
pub fn has_current() -> bool {
    !arch::current().is_null()
}

/// Makes `task` runnable if it sleeps (or is about to sleep) in a state that `mask` meets. False if it did not.
/// Callable from any context but an NMI. Never starts a new task nor raises a dead one, whatever `mask` says.
pub fn wake(task: &Arc<Task>, mask: State) -> bool {
    wake_as(task, mask.difference(State::NEW | State::DEAD), Enqueue::Wakeup)
}

fn wake_as(task: &Arc<Task>, mask: State, how: Enqueue) -> bool {
    arch::preempt_point();
    crate::atomic::fence(Ordering::SeqCst);
    let g = context::IrqGuard::new();
    let mut w = task.word.load(Ordering::SeqCst);
    loop {
        // A killable sleeper shows WAKEKILL and UNINTERRUPTIBLE; a wake-up by either fits.
        if w & mask.bits() == 0 {
            return false;
        }
        match task.word.compare_exchange_weak(w, QUEUED, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => break,
            Err(now) => w = now,
        }
    }
    if w & QUEUED == 0 {
        while task.on_cpu.load(Ordering::Acquire) {
            arch::relax();
        }
        if let Some(cpu) = scheduler().enqueue(task, how) {
            resched(cpu);
        }
    }
    drop(g);
    true
}

/// Asks a processor to call [`schedule`] as soon as it can.
pub fn resched(cpu: CpuId) {
    let g = context::PreemptGuard::new();
    if g.cpu() == cpu {
        arch::set_need_resched(true);
    } else {
        arch::send_reschedule(cpu.get());
    }
}

/// Lets another task run. Sleeps if [`Current::set_state`] announced it and no wake-up has come since.
///
/// # Panics
/// Where sleeping is forbidden.
#[track_caller]
pub fn schedule() {
    let count = arch::preempt_count();
    if count != 0 || arch::irq_depth_add(0) != 0 {
        panic!(
            "BUG: scheduling while atomic: context {count:#x}, interrupt guards {}",
            arch::irq_depth_add(0)
        );
    }
    let me = current();
    let watched = me.watched.load(Ordering::Relaxed);
    if watched && !me.state().is_empty() {
        scheduler().sleeping(me);
    }
    arch::preempt_add(PREEMPT_OFFSET);
    switch_tasks(false);
    arch::preempt_sub(PREEMPT_OFFSET);
    preempt_check();
    if watched {
        scheduler().running(me);
    }
}

/// Gives up the processor if it was asked to; a task that announced a sleep stays runnable through this.
#[inline]
pub fn preempt_check() {
    arch::preempt_point();
    if arch::need_resched() && arch::preempt_count() == 0 && arch::irqs_enabled() && scheduling() {
        preempt_now();
    }
}

#[cold]
fn preempt_now() {
    // A processor that is still starting can be asked before it has a task.
    while arch::need_resched() && has_current() {
        arch::preempt_add(PREEMPT_OFFSET);
        switch_tasks(true);
        arch::preempt_sub(PREEMPT_OFFSET);
    }
}

/// What a back end calls at the end of a hardware interrupt that came while interrupts were on. Interrupts are off,
/// before and after.
pub fn preempt_from_irq() {
    // Again and again: finishing the switch may ask this processor once more, and the interrupted code would not look.
    while arch::need_resched()
        && arch::preempt_count() == 0
        && arch::irq_depth_add(0) == 0
        && scheduling()
        && has_current()
    {
        arch::preempt_add(PREEMPT_OFFSET);
        switch_tasks(true);
        arch::preempt_sub(PREEMPT_OFFSET);
    }
}

/// Ends the running task. Its stack goes when the last reference does.
///
/// # Panics
/// Where sleeping is forbidden, or (checked builds) with a lock held.
pub fn exit() -> ! {
    let count = arch::preempt_count();
    assert!(count == 0 && arch::irq_depth_add(0) == 0, "BUG: a task exits while atomic: context {count:#x}");
    crate::sync::lockdep::assert_none_held("a task exits");
    {
        let me = current();
        // SAFETY: the task is done with user mode; dropping its address space here, while it can still sleep.
        me.set_page_table(None);
        me.word.store(QUEUED | State::DEAD.bits(), Ordering::SeqCst);
    }
    arch::preempt_add(PREEMPT_OFFSET);
    switch_tasks(false);
    unreachable!("a dead task ran again");
}

/// The one place where a processor changes tasks. The context word is one preemption count.
fn switch_tasks(preempted: bool) {
    let irqs = arch::irqs_enabled();
    arch::irq_disable();
    arch::set_need_resched(false);
    let cpu = CpuId::new_unchecked(arch::cpu_id());
    let me = current();
    let what = if preempted { Prev::Runnable } else { commit_sleep(&me) };
    // Preempted or not: RCU readers hold off preemption, so none is on this stack.
    crate::sync::rcu::note_quiescent();
    // SAFETY: the pointer came from `Arc::into_raw`; the processor's own reference is taken over here and given to
    // whichever task finishes the switch.
    let prev: Arc<Task> = unsafe { Arc::from_raw(me.task) };
    let next = scheduler().pick_next(cpu, &prev, what);
    if Arc::ptr_eq(&prev, &next) {
        assert!(what == Prev::Runnable || next.is_queued(), "the scheduler picked a sleeping task");
        let _ = Arc::into_raw(prev);
        drop(next);
    } else {
        assert!(!next.on_cpu.swap(true, Ordering::AcqRel), "the scheduler picked a task that runs elsewhere");
        next.cpu.store(cpu.get(), Ordering::Relaxed);
        if preempted { &prev.involuntary } else { &prev.switches }.fetch_add(1, Ordering::Relaxed);
        let prev_raw = Arc::into_raw(prev);
        let next_raw = Arc::into_raw(next);
        // SAFETY: interrupts are off and this processor owns both tasks: `prev` since it runs here, `next` through `on_cpu`.
        // The references moved to the per-processor slots keep both alive across the switch.
        unsafe {
            if let Some(f) = &*(*prev_raw).fpu.get() {
                f.save();
            }
            if let Some(pt) = &*(*next_raw).pt.get() {
                pt.activate_switch();
            }
            if let Some(f) = &*(*next_raw).fpu.get() {
                f.restore();
            }
            *(*prev_raw).left_as.get() = what;
            arch::set_switched_from(prev_raw);
            arch::set_current(next_raw);
            arch::set_kernel_stack((*next_raw).stack.as_ref().map_or(0, |s| s.top()));
            arch::switch((*prev_raw).ctx.get(), (*next_raw).ctx.get());
        }
        finish_switch();
    }
    if irqs {
        arch::irq_enable();
    }
}

/// Tries to leave the run queue in the announced state.
fn commit_sleep(me: &Current) -> Prev {
    let w = me.word.load(Ordering::SeqCst);
    let s = w & !QUEUED;
    if s == 0 {
        return Prev::Runnable;
    }
    if s & State::DEAD.bits() != 0 {
        me.word.store(State::DEAD.bits(), Ordering::SeqCst);
        return Prev::Dead;
    }
    // An interruptible sleeper with work waiting does not go to sleep: the signal may have come before the announcement.
    let work = me.work.load(Ordering::SeqCst);
    let woken_by = if s & State::INTERRUPTIBLE.bits() != 0 {
        Work::SIGNAL.bits() | Work::KILL.bits() | Work::NOTIFY.bits()
    } else if s & State::WAKEKILL.bits() != 0 {
        Work::KILL.bits()
    } else {
        0
    };
    if work & woken_by != 0 {
        me.word.store(QUEUED, Ordering::SeqCst);
        return Prev::Runnable;
    }
    match me.word.compare_exchange(w, s, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => Prev::Sleeping(State::from_bits_truncate(s)),
        Err(_) => Prev::Runnable,
    }
}

/// Runs on the new task's stack: lets go of the one before.
fn finish_switch() {
    let prev = arch::take_switched_from();
    if prev.is_null() {
        return;
    }
    // SAFETY: the slot holds the reference that the processor had of the task before.
    let prev = unsafe { Arc::from_raw(prev) };
    // SAFETY: `on_cpu` is still set, so nothing else touches the field. A waker may have changed the word since.
    let what = unsafe { *prev.left_as.get() };
    prev.on_cpu.store(false, Ordering::Release);
    scheduler().switched_from(CpuId::new_unchecked(arch::cpu_id()), prev, what);
}

extern "C" fn first_run() -> ! {
    finish_switch();
    arch::irq_enable();
    let entry = {
        let me = current();
        // SAFETY: taken once, by the task itself.
        unsafe { (*me.entry.get()).take() }
    };
    arch::preempt_sub(PREEMPT_OFFSET);
    preempt_check();
    if let Some(f) = entry {
        f();
    }
    exit()
}

/// Which processors may run a task is the scheduler's business; this alias documents the type it uses.
pub type Affinity = CpuMask;
