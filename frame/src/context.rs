//! One word per processor says what is running there and so what it may do.
//!
//! ```text
//!   bits  0..8   preemption held off, nesting
//!   bits  8..16  softirqs: bit 8 is set while they run; each `SoftirqGuard` adds 0x200
//!   bits 16..20  hardware interrupt nesting
//!   bits 20..24  NMI nesting
//! ```
//! Code may sleep only where the whole word is zero and interrupts are on. [`might_sleep`] checks this at
//! every blocking primitive in checked builds; the scheduler checks it always.
//!
//! Guards may be dropped in any order: interrupt guards nest by count, and the state before the outermost
//! one comes back when the last is gone.

use core::marker::PhantomData;

use crate::{arch, irq, sync::rcu, task};

pub const PREEMPT_OFFSET: u32 = 1;
pub const PREEMPT_MASK: u32 = 0x0000_00ff;
pub const SOFTIRQ_OFFSET: u32 = 0x100;
pub const SOFTIRQ_DISABLE: u32 = 0x200;
pub const SOFTIRQ_MASK: u32 = 0x0000_ff00;
pub const HARDIRQ_OFFSET: u32 = 0x1_0000;
pub const HARDIRQ_MASK: u32 = 0x000f_0000;
pub const NMI_OFFSET: u32 = 0x10_0000;
pub const NMI_MASK: u32 = 0x00f0_0000;

/// This processor's context word.
#[inline]
pub fn word() -> u32 {
    arch::preempt_count()
}

/// True where sleeping is forbidden: preemption, softirqs or interrupts are held off, or an interrupt is being served.
#[inline]
pub fn in_atomic() -> bool {
    word() != 0 || !arch::irqs_enabled()
}

/// True while interrupts are off on this processor.
#[inline]
pub fn irqs_off() -> bool {
    !arch::irqs_enabled()
}

/// True if this processor has been asked to switch tasks.
#[inline]
pub fn need_resched() -> bool {
    arch::need_resched()
}

/// True in a hardware interrupt, a running softirq or an NMI, that is, where the current task is only a bystander.
#[inline]
pub fn in_interrupt() -> bool {
    word() & (HARDIRQ_MASK | NMI_MASK | SOFTIRQ_OFFSET) != 0
}

/// True in a hardware interrupt.
#[inline]
pub fn in_hardirq() -> bool {
    word() & HARDIRQ_MASK != 0
}

/// True while softirqs run on this processor.
#[inline]
pub fn in_serving_softirq() -> bool {
    word() & SOFTIRQ_OFFSET != 0
}

/// True in an NMI.
#[inline]
pub fn in_nmi() -> bool {
    word() & NMI_MASK != 0
}

/// Called where the caller may come to sleep. Checked builds panic, naming the caller, where it may not.
#[inline]
#[track_caller]
pub fn might_sleep() {
    if cfg!(debug_assertions) && in_atomic() && task::scheduling() {
        let at = core::panic::Location::caller();
        panic!(
            "BUG: sleeping function called from invalid context at {}:{}: context {:#x}, interrupts {}",
            at.file(),
            at.line(),
            word(),
            if arch::irqs_enabled() { "on" } else { "off" }
        );
    }
    arch::preempt_point();
}

/// Holds off preemption: this task stays on this processor and no other task runs here.
#[must_use]
pub struct PreemptGuard(PhantomData<*mut ()>);

impl PreemptGuard {
    #[inline]
    #[expect(clippy::new_without_default, reason = "a guard made by accident is a hang")]
    pub fn new() -> Self {
        arch::preempt_add(PREEMPT_OFFSET);
        Self(PhantomData)
    }
    /// The processor that this task cannot leave while the guard lives.
    #[inline]
    pub fn cpu(&self) -> crate::cpu::CpuId {
        crate::cpu::CpuId::new_unchecked(arch::cpu_id())
    }
}

impl Drop for PreemptGuard {
    #[inline]
    fn drop(&mut self) {
        arch::preempt_sub(PREEMPT_OFFSET);
        task::preempt_check();
    }
}

/// Holds off softirqs (and with them preemption) on this processor.
#[must_use]
pub struct SoftirqGuard(PhantomData<*mut ()>);

impl SoftirqGuard {
    #[inline]
    #[expect(clippy::new_without_default, reason = "a guard made by accident is a hang")]
    pub fn new() -> Self {
        arch::preempt_add(SOFTIRQ_DISABLE);
        Self(PhantomData)
    }
}

impl Drop for SoftirqGuard {
    #[inline]
    fn drop(&mut self) {
        // Leave one preemption count in place of the softirq count, so that pending softirqs run before a switch can happen.
        arch::preempt_sub(SOFTIRQ_DISABLE - PREEMPT_OFFSET);
        if word() & !PREEMPT_MASK == 0 {
            if arch::irqs_enabled() {
                irq::run_pending_softirqs();
            } else {
                // Dropped inside an interrupt guard: nobody would look again before the next interrupt.
                irq::defer_pending_softirqs();
            }
        }
        arch::preempt_sub(PREEMPT_OFFSET);
        task::preempt_check();
    }
}

/// Holds off interrupts on this processor.
#[must_use]
pub struct IrqGuard(PhantomData<*mut ()>);

impl IrqGuard {
    #[inline]
    #[expect(clippy::new_without_default, reason = "a guard made by accident is a hang")]
    pub fn new() -> Self {
        // Under another guard interrupts are off already, and without one the depth is zero on whatever processor this is.
        if arch::irq_depth_add(0) == 0 {
            let on = arch::irqs_enabled();
            arch::irq_disable();
            arch::set_irq_was_on(on);
        }
        arch::irq_depth_add(1);
        Self(PhantomData)
    }
    /// The processor that this task cannot leave while the guard lives.
    #[inline]
    pub fn cpu(&self) -> crate::cpu::CpuId {
        crate::cpu::CpuId::new_unchecked(arch::cpu_id())
    }
}

impl Drop for IrqGuard {
    #[inline]
    fn drop(&mut self) {
        if arch::irq_depth_add(-1) == 0 && arch::irq_was_on() {
            arch::irq_enable();
            task::preempt_check();
        }
    }
}

/// What a back end brackets each hardware interrupt with. `exit` runs pending softirqs; the back end then asks
/// [`task::preempt_from_irq`] whether to switch.
pub fn irq_enter() {
    arch::preempt_add(HARDIRQ_OFFSET);
    rcu::irq_enter();
}

/// See [`irq_enter`]. Interrupts are off.
pub fn irq_exit() {
    arch::preempt_sub(HARDIRQ_OFFSET);
    if word() & !PREEMPT_MASK == 0 {
        irq::run_pending_softirqs();
    }
    rcu::irq_exit();
}
