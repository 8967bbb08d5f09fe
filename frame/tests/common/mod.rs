//! The smallest kernel that the tests of `frame` need: one first-in first-out queue for all processors, a tick, idle loops.
#![allow(dead_code, reason = "each test uses a part")]

use std::{collections::VecDeque, sync::Arc};

use frame::{
    arch,
    atomic::{AtomicU64, Ordering},
    cpu::{self, CpuId},
    sim,
    sync::{LockClass, SpinLockIrq, once::Once},
    task::{self, Enqueue, Prev, Scheduler, Task},
    time,
};

/// Simulated time between two ticks of a busy processor.
const TICK_NS: u64 = 20_000;

static CLASS: LockClass = LockClass::new("fifo");
static QUEUE: SpinLockIrq<VecDeque<Arc<Task>>> = SpinLockIrq::new(&CLASS, VecDeque::new());
static IDLE: [Once<Arc<Task>>; 64] = [const { Once::new() }; 64];
/// Processors whose idle task runs.
static IDLING: AtomicU64 = AtomicU64::new(0);

struct Fifo;

impl Fifo {
    fn an_idle_one(&self) -> Option<CpuId> {
        let m = IDLING.load(Ordering::SeqCst);
        if m == 0 { None } else { CpuId::new(m.trailing_zeros()) }
    }
}

fn is_idle(t: &Arc<Task>) -> bool {
    *t.ext::<bool>()
}

impl Scheduler for Fifo {
    fn enqueue(&self, t: &Arc<Task>, _how: Enqueue) -> Option<CpuId> {
        QUEUE.lock().push_back(t.clone());
        self.an_idle_one()
    }
    fn pick_next(&self, cpu: CpuId, prev: &Arc<Task>, what: Prev) -> Arc<Task> {
        // What stood in the queue is off its processor: `switched_from` or a waker put it there.
        let next = QUEUE.lock().pop_front();
        let next = match next {
            Some(t) => t,
            None if what == Prev::Runnable => prev.clone(),
            None => IDLE[cpu.index()].get().expect("no idle task").clone(),
        };
        let bit = 1 << cpu.get();
        if is_idle(&next) {
            IDLING.fetch_or(bit, Ordering::SeqCst);
            time::set_timer(None);
        } else {
            IDLING.fetch_and(!bit, Ordering::SeqCst);
            time::set_timer(Some(time::now_ns() + TICK_NS));
        }
        next
    }
    fn switched_from(&self, _cpu: CpuId, prev: Arc<Task>, what: Prev) {
        if what == Prev::Runnable && !is_idle(&prev) {
            QUEUE.lock().push_back(prev);
            if let Some(cpu) = self.an_idle_one() {
                task::resched(cpu);
            }
        }
    }
}

fn tick() {
    arch::set_need_resched(true);
    frame::sync::rcu::tick(cpu::raw_id());
}

fn become_idle(cpu: CpuId) -> ! {
    let me = Task::adopt_boot_context(true);
    sim::watch_task(&me, &format!("idle/{cpu}"));
    IDLE[cpu.index()].call_once(|| me);
    cpu::set_online(cpu, true);
    IDLING.fetch_or(1 << cpu.get(), Ordering::SeqCst);
    loop {
        arch::irq_disable();
        // The bit of IDLING was set before: who queues after this look sends an interrupt.
        if QUEUE.lock().is_empty() && !arch::need_resched() {
            frame::sync::rcu::note_idle_enter();
            arch::wait_for_interrupt();
            frame::sync::rcu::note_idle_exit();
        } else {
            arch::irq_enable();
        }
        task::schedule();
    }
}

/// Makes and starts a task.
pub(crate) fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> Arc<Task> {
    let t = Task::new(Box::new(f), false).expect("memory for a task");
    sim::watch_task(&t, name);
    assert!(t.start());
    t
}

/// Boots all processors; processor 0's first task runs `main`.
pub(crate) fn boot(main: impl FnOnce() + Send + 'static) -> ! {
    static FIFO: Fifo = Fifo;
    task::install_scheduler(&FIFO);
    time::install_timer_handler(tick);
    QUEUE.lock().reserve(64);
    let t = Task::new(Box::new(main), false).expect("memory for a task");
    sim::watch_task(&t, "main");
    // Starting a task needs a current one nowhere, so it may come before the idle task.
    assert!(t.start());
    cpu::start_others(become_idle);
    become_idle(CpuId::BOOT)
}

/// A flag on which one task waits.
pub(crate) struct Gate {
    open: frame::atomic::AtomicBool,
    waiter: Once<Arc<Task>>,
}

impl Gate {
    pub(crate) const fn new() -> Self {
        Gate { open: frame::atomic::AtomicBool::new(false), waiter: Once::new() }
    }
    /// Says who waits, before anyone opens.
    pub(crate) fn bind(&self, t: Arc<Task>) {
        self.waiter.call_once(|| t);
    }
    /// The protocol of `frame::task`: announce, check, sleep.
    pub(crate) fn pass(&self) {
        loop {
            task::current().set_state(task::State::UNINTERRUPTIBLE);
            if self.open.swap(false, Ordering::AcqRel) {
                task::current().set_running();
                return;
            }
            task::schedule();
        }
    }
    /// Wrong on purpose: a wake-up between the check and the announcement is lost.
    pub(crate) fn pass_wrong(&self) {
        while !self.open.swap(false, Ordering::AcqRel) {
            task::current().set_state(task::State::UNINTERRUPTIBLE);
            task::schedule();
        }
    }
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
        if let Some(t) = self.waiter.get() {
            task::wake(t, task::State::NORMAL);
        }
    }
}

/// Goes to a second stack and back `n` times: the cost of `arch::switch`.
pub(crate) fn raw_switches(n: u32) {
    use core::cell::UnsafeCell;
    struct Pair(UnsafeCell<arch::Context>, UnsafeCell<arch::Context>);
    // SAFETY: one host thread uses it.
    unsafe impl Sync for Pair {}
    static P: Pair = Pair(UnsafeCell::new(arch::Context::empty()), UnsafeCell::new(arch::Context::empty()));
    extern "C" fn other() -> ! {
        loop {
            // SAFETY: the first side waits in its `switch`.
            unsafe { arch::switch(P.1.get(), P.0.get()) };
        }
    }
    let stack = arch::Stack::new(1).expect("memory");
    // SAFETY: nothing runs on the second side yet.
    unsafe { *P.1.get() = arch::Context::new(stack.top(), other) };
    for _ in 0..n {
        // SAFETY: the second side is new, or waits in its `switch`.
        unsafe { arch::switch(P.0.get(), P.1.get()) };
    }
}
