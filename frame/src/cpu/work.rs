//! Work that cannot be done here and now, but may be done in an interrupt: Linux's `irq_work`.
//!
//! Code that holds a lock which the work needs asks for it; the processor interrupts itself, and the work runs in
//! hardware-interrupt context as soon as interrupts are on.

use super::MAX_CPUS;
use crate::{
    arch,
    atomic::{AtomicU32, Ordering},
    context::IrqGuard,
    cpu::CpuId,
    sync::once::Once,
};

const MAX: usize = 8;
static WORKS: [Once<fn()>; MAX] = [const { Once::new() }; MAX];
static MADE: AtomicU32 = AtomicU32::new(0);
static PENDING: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

/// A kind of work.
#[derive(Clone, Copy, Debug)]
pub struct IrqWork(u32);

impl IrqWork {
    /// `run` is called in hardware-interrupt context, once for however many requests came since.
    ///
    /// # Panics
    /// With more kinds than there is room for.
    #[must_use]
    pub fn new(run: fn()) -> IrqWork {
        let n = MADE.fetch_add(1, Ordering::Relaxed);
        WORKS[n as usize].call_once(|| run);
        IrqWork(n)
    }
    /// Asks for it on this processor. From any context but an NMI.
    pub fn raise(self, g: &IrqGuard) {
        self.raise_on(g.cpu());
    }
    /// Asks for it on a processor that is on line, and does not wait: one that has interrupts off does it when they are on again.
    /// From any context but an NMI.
    pub fn raise_on(self, cpu: CpuId) {
        if PENDING[cpu.index()].fetch_or(1 << self.0, Ordering::AcqRel) == 0 {
            arch::send_call(cpu.get());
        }
    }
}

/// What was asked for on this processor. In its interrupt.
pub(super) fn run_pending() {
    let mut bits = PENDING[arch::cpu_id() as usize].swap(0, Ordering::AcqRel);
    while bits != 0 {
        let n = bits.trailing_zeros();
        bits &= bits - 1;
        if let Some(f) = WORKS[n as usize].get() {
            f();
        }
    }
}
