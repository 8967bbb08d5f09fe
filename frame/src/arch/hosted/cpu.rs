//! The state of each simulated processor, and of a lone thread.

use core::{
    cell::Cell,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{fiber::Context, mmu::Tlb, usermode::Instance};
use crate::{cpu::MAX_CPUS, task::Task};

/// What a simulated processor does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Power {
    /// Not started.
    Off,
    Running,
    /// Waits for an interrupt.
    Halted,
    /// Halted for ever.
    Stopped,
}

/// Kinds of pending interrupts.
pub(crate) mod pending {
    pub(crate) const TIMER: u32 = 1;
    pub(crate) const RESCHEDULE: u32 = 2;
    pub(crate) const CALL: u32 = 4;
    pub(crate) const SHOOTDOWN: u32 = 8;
    /// A device's, see `Cpu::vectors`.
    pub(crate) const VECTOR: u32 = 16;
}

/// One processor's registers, so to speak.
pub(crate) struct Cpu {
    pub(crate) word: Cell<u32>,
    pub(crate) need_resched: Cell<bool>,
    pub(crate) irqs: Cell<bool>,
    pub(crate) irq_depth: Cell<u32>,
    pub(crate) irq_was_on: Cell<bool>,
    pub(crate) current: Cell<*const Task>,
    pub(crate) switched_from: Cell<*const Task>,
    /// Where the processor goes on while another one runs.
    pub(crate) context: Context,
    pub(crate) power: Cell<Power>,
    pub(crate) pending: Cell<u32>,
    /// Vectors of devices that wait.
    pub(crate) vectors: [Cell<u64>; 4],
    /// Absolute time of the one-shot timer; `u64::MAX` where it is off.
    pub(crate) timer: Cell<u64>,
    /// Physical address of the page-table root; 0 is the kernel's.
    pub(crate) root: Cell<u64>,
    pub(crate) tlb: Tlb,
    /// The user program that runs here; null in kernel mode.
    pub(crate) user: Cell<*const Instance>,
    /// Top of the boot stack; 0 before the first start.
    pub(crate) boot_stack: Cell<usize>,
}

impl Cpu {
    const fn new(irqs: bool) -> Self {
        Self {
            word: Cell::new(0),
            need_resched: Cell::new(false),
            irqs: Cell::new(irqs),
            irq_depth: Cell::new(0),
            irq_was_on: Cell::new(false),
            current: Cell::new(ptr::null()),
            switched_from: Cell::new(ptr::null()),
            context: Context::empty(),
            power: Cell::new(Power::Off),
            pending: Cell::new(0),
            vectors: [const { Cell::new(0) }; 4],
            timer: Cell::new(u64::MAX),
            root: Cell::new(0),
            tlb: Tlb::new(),
            user: Cell::new(ptr::null()),
            boot_stack: Cell::new(0),
        }
    }

    /// What a reset does: everything but the task, which the kernel's processor block keeps.
    pub(crate) fn reset(&self) {
        self.word.set(0);
        self.need_resched.set(false);
        self.irqs.set(false);
        self.irq_depth.set(0);
        self.switched_from.set(ptr::null());
        self.pending.set(0);
        self.timer.set(u64::MAX);
        self.root.set(0);
        self.tlb.forget();
        self.user.set(ptr::null());
    }
}

/// All processors of the simulation that this process is.
pub(crate) struct Cpus {
    pub(crate) cpu: [Cpu; MAX_CPUS],
    pub(crate) now: Cell<u32>,
    pub(crate) count: Cell<u32>,
}

// SAFETY: reached only through `all`, which answers only in a process that is a simulation; that has one host thread.
unsafe impl Sync for Cpus {}

static ACTIVE: AtomicBool = AtomicBool::new(false);
static CPUS: Cpus =
    Cpus { cpu: [const { Cpu::new(false) }; MAX_CPUS], now: Cell::new(0), count: Cell::new(1) };

std::thread_local! {
    static LONE: Cpu = const { Cpu::new(true) };
}

/// True on a host thread outside of any simulation.
#[inline]
pub fn lone() -> bool {
    !active()
}

/// True where this process is a simulation.
#[inline]
pub(crate) fn active() -> bool {
    ACTIVE.load(Ordering::Relaxed)
}

/// Turns this freshly forked, single-threaded process into a simulation of `cpus` processors; the caller is processor 0.
pub(crate) fn activate(cpus: u32) {
    CPUS.count.set(cpus);
    CPUS.cpu[0].power.set(Power::Running);
    ACTIVE.store(true, Ordering::Relaxed);
    crate::cpu::set_possible(cpus as usize, cpus as usize);
}

/// The processors. Only in a simulation.
#[inline]
pub(crate) fn all() -> &'static Cpus {
    debug_assert!(active());
    &CPUS
}

/// The state of this processor.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(&Cpu) -> R) -> R {
    if active() { f(&CPUS.cpu[CPUS.now.get() as usize]) } else { LONE.with(f) }
}

#[inline]
pub fn cpu_id() -> u32 {
    if active() { CPUS.now.get() } else { 0 }
}
#[inline]
pub fn preempt_count() -> u32 {
    with(|c| c.word.get())
}
#[inline]
pub fn preempt_add(n: u32) {
    super::preempt_point();
    with(|c| c.word.set(c.word.get().checked_add(n).expect("context word overflows")));
}
#[inline]
pub fn preempt_sub(n: u32) {
    with(|c| c.word.set(c.word.get().checked_sub(n).expect("context word underflows")));
}
#[inline]
pub fn need_resched() -> bool {
    with(|c| c.need_resched.get())
}
#[inline]
pub fn set_need_resched(v: bool) {
    with(|c| c.need_resched.set(v));
}
#[inline]
pub fn irqs_enabled() -> bool {
    with(|c| c.irqs.get())
}
#[inline]
pub fn irq_disable() {
    super::preempt_point();
    with(|c| c.irqs.set(false));
}
#[inline]
pub fn irq_depth_add(n: i32) -> u32 {
    with(|c| {
        let d = c.irq_depth.get().checked_add_signed(n).expect("interrupt guards do not balance");
        c.irq_depth.set(d);
        d
    })
}
#[inline]
pub fn irq_was_on() -> bool {
    with(|c| c.irq_was_on.get())
}
#[inline]
pub fn set_irq_was_on(v: bool) {
    with(|c| c.irq_was_on.set(v));
}
#[inline]
pub fn current() -> *const Task {
    with(|c| c.current.get())
}
#[inline]
pub fn set_current(t: *const Task) {
    with(|c| c.current.set(t));
}
#[inline]
pub fn take_switched_from() -> *const Task {
    with(|c| c.switched_from.replace(ptr::null()))
}
#[inline]
pub fn set_switched_from(t: *const Task) {
    with(|c| c.switched_from.set(t));
}
/// The machine's entry from user mode needs it; here a trap already runs on the right stack.
#[inline]
pub fn set_kernel_stack(_top: usize) {}
