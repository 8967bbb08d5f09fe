//! The block of each processor, reached through GS while the kernel runs.
//!
//! Every access here is a single GS-relative instruction, so that an interrupt (after which the task may find itself on
//! another processor) falls before or after it, never between finding the block and using it.

use core::{arch::asm, mem::offset_of};

use super::desc::{Gdt, Tss};
use crate::task::Task;

/// What one processor needs at hand.
#[repr(C, align(64))]
pub(super) struct PerCpu {
    /// Its own address, for the code that needs a pointer.
    pub(super) this: *const PerCpu,
    /// Where system-call entry puts the user's stack pointer for a moment.
    pub(super) scratch: u64,
    /// The FS and (user) GS bases that the processor holds now.
    pub(super) loaded_fs: u64,
    pub(super) loaded_gs: u64,
    pub(super) current: *const Task,
    pub(super) switched_from: *const Task,
    /// When the timer is to fire, in nanoseconds since boot; `u64::MAX` if it is off.
    pub(super) timer_at: u64,
    pub(super) id: u32,
    pub(super) apic_id: u32,
    /// The context word (see [`crate::context`]).
    pub(super) preempt: u32,
    pub(super) irq_depth: i32,
    pub(super) irq_was_on: u32,
    pub(super) need_resched: u32,
    pub(super) tss: Tss,
    pub(super) gdt: Gdt,
}

impl PerCpu {
    pub(super) const fn new(id: u32) -> Self {
        Self {
            this: core::ptr::null(),
            scratch: 0,
            loaded_fs: 0,
            loaded_gs: 0,
            current: core::ptr::null(),
            switched_from: core::ptr::null(),
            timer_at: u64::MAX,
            id,
            apic_id: 0,
            preempt: 0,
            irq_depth: 0,
            irq_was_on: 0,
            need_resched: 0,
            tss: Tss::new(),
            gdt: Gdt::new(),
        }
    }
}

impl PerCpu {
    /// For a processor that starts again: everything but its task and its emergency stacks.
    pub(super) fn reset(&mut self) {
        (self.loaded_fs, self.loaded_gs) = (0, 0);
        self.switched_from = core::ptr::null();
        self.timer_at = u64::MAX;
        (self.preempt, self.irq_depth, self.irq_was_on, self.need_resched) = (0, 0, 0, 0);
    }
}

macro_rules! get {
    ($field:ident, $t:ty, $w:literal) => {{
        let v: $t;
        // SAFETY: GS points to this processor's block for as long as the kernel runs; one aligned load.
        unsafe {
            asm!(concat!("mov {", $w, "}, gs:[{off}]"), out(reg) v, off = const offset_of!(PerCpu, $field),
                 options(readonly, nostack, preserves_flags));
        }
        v
    }};
}
/// As `get!`, for what reads the same until the next barrier in the same task: the compiler may keep it.
macro_rules! get_stable {
    ($field:ident, $t:ty, $w:literal) => {{
        let v: $t;
        // SAFETY: as in `get!`.
        unsafe {
            asm!(concat!("mov {", $w, "}, gs:[{off}]"), out(reg) v, off = const offset_of!(PerCpu, $field),
                 options(pure, readonly, nostack, preserves_flags));
        }
        v
    }};
}
macro_rules! set {
    ($field:ident, $v:expr, $w:literal) => {{
        // SAFETY: GS points to this processor's block; one aligned store to a field that only this processor uses.
        unsafe {
            asm!(concat!("mov gs:[{off}], {", $w, "}"), in(reg) $v, off = const offset_of!(PerCpu, $field),
                 options(nostack, preserves_flags));
        }
    }};
}

/// Index of this processor; stable only while preemption is held off.
#[inline]
pub fn cpu_id() -> u32 {
    get!(id, u32, "0:e")
}
/// This processor's context word.
#[inline]
pub fn preempt_count() -> u32 {
    get!(preempt, u32, "0:e")
}
/// Adds to the context word. A compiler barrier: what follows stays after it.
#[inline(always)]
pub fn preempt_add(n: u32) {
    // Decided by the compiler: this is the usual number.
    if n == 1 {
        // SAFETY: as in `set!`; one instruction, so no interrupt can split it.
        unsafe {
            asm!("inc dword ptr gs:[{off}]", off = const offset_of!(PerCpu, preempt), options(nostack))
        };
        return;
    }
    // SAFETY: as in `set!`; one instruction, so no interrupt can split it.
    unsafe {
        asm!("add dword ptr gs:[{off}], {0:e}", in(reg) n, off = const offset_of!(PerCpu, preempt), options(nostack));
    }
}
/// Takes from the context word. A compiler barrier: what precedes stays before it.
#[inline(always)]
pub fn preempt_sub(n: u32) {
    if n == 1 {
        // SAFETY: as in `preempt_add`.
        unsafe {
            asm!("dec dword ptr gs:[{off}]", off = const offset_of!(PerCpu, preempt), options(nostack))
        };
        return;
    }
    // SAFETY: as in `preempt_add`.
    unsafe {
        asm!("sub dword ptr gs:[{off}], {0:e}", in(reg) n, off = const offset_of!(PerCpu, preempt), options(nostack));
    }
}
/// This processor's reschedule flag.
#[inline]
pub fn need_resched() -> bool {
    get!(need_resched, u32, "0:e") != 0
}
/// Sets or clears this processor's reschedule flag.
#[inline]
pub fn set_need_resched(on: bool) {
    set!(need_resched, u32::from(on), "0:e");
}
/// Adds to the nesting depth of interrupt guards; the new depth.
#[inline]
pub fn irq_depth_add(n: i32) -> u32 {
    if n != 0 {
        // SAFETY: as in `preempt_add`.
        unsafe {
            asm!("add dword ptr gs:[{off}], {0:e}", in(reg) n, off = const offset_of!(PerCpu, irq_depth), options(nostack));
        }
    }
    get_stable!(irq_depth, u32, "0:e")
}
/// Whether interrupts were on before the outermost guard.
#[inline]
pub fn irq_was_on() -> bool {
    get!(irq_was_on, u32, "0:e") != 0
}
/// Remembers whether interrupts were on before the outermost guard.
#[inline]
pub fn set_irq_was_on(on: bool) {
    set!(irq_was_on, u32::from(on), "0:e");
}
/// The task that this processor runs.
#[inline]
pub fn current() -> *const Task {
    get_stable!(current, *const Task, "0:r")
}
/// Sets the task that this processor runs.
#[inline]
pub fn set_current(t: *const Task) {
    set!(current, t, "0:r");
}
/// Takes the task that this processor switched away from.
#[inline]
pub fn take_switched_from() -> *const Task {
    let t = get!(switched_from, *const Task, "0:r");
    set!(switched_from, core::ptr::null::<Task>(), "0:r");
    t
}
/// Leaves the task that this processor switches away from to the next one.
#[inline]
pub fn set_switched_from(t: *const Task) {
    set!(switched_from, t, "0:r");
}
pub(super) fn timer_at() -> u64 {
    get!(timer_at, u64, "0:r")
}
pub(super) fn set_timer_at(ns: u64) {
    set!(timer_at, ns, "0:r");
}
