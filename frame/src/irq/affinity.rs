//! Which processor serves an interrupt, and moving it when that one goes away.

use super::{
    IrqError,
    desc::{self, Desc, Source, State},
    vector,
};
use crate::{
    arch,
    atomic::{AtomicU64, Ordering},
    context::IrqGuard,
    cpu::{self, CpuId, CpuMask},
};

/// The processor that a line goes to: the first that may and is online.
pub(super) fn choose(cpus: CpuMask) -> Option<CpuId> {
    cpus.and(cpu::online()).first().or(cpu::online().first())
}

static DEFAULT: AtomicU64 = AtomicU64::new(!0);

/// Where interrupts may go that are requested from now on.
pub fn default_affinity() -> CpuMask {
    CpuMask(DEFAULT.load(Ordering::Relaxed))
}
/// Chooses that. `NoCpu` if no processor of the set is online.
pub fn set_default_affinity(cpus: CpuMask) -> Result<(), IrqError> {
    if cpus.and(cpu::online()).is_empty() {
        return Err(IrqError::NoCpu);
    }
    DEFAULT.store(cpus.0, Ordering::Relaxed);
    Ok(())
}

/// Chooses the processors that may serve an interrupt: what `/proc/irq/N/smp_affinity` takes.
pub fn set_affinity(number: u32, cpus: CpuMask) -> Result<(), IrqError> {
    set(desc::find(number).ok_or(IrqError::NoSuchLine)?, cpus)
}

pub(super) fn set(d: &Desc, cpus: CpuMask) -> Result<(), IrqError> {
    let usable = cpus.and(cpu::online());
    if usable.is_empty() {
        return Err(IrqError::NoCpu);
    }
    let mut s = d.state.lock();
    s.affinity = cpus;
    if cpus.contains(s.cpu) { Ok(()) } else { move_to(d, &mut s, usable) }
}

/// Sends it to one of `cpus` from now on.
fn move_to(d: &Desc, s: &mut State, cpus: CpuMask) -> Result<(), IrqError> {
    let mut moved_twice = None;
    match &mut s.source {
        Source::None => return Err(IrqError::NoSuchLine),
        Source::Line(_) => s.cpu = cpus.first().ok_or(IrqError::NoCpu)?,
        Source::Message { slot, old, .. } => {
            let new = vector::allocate(d.number, cpus).ok_or(IrqError::Exhausted)?;
            moved_twice = old.replace(*slot);
            *slot = new;
            s.cpu = new.cpu;
        }
    }
    d.apply(s);
    // What was sent to the place before the last one may still wait there, and its vector leads nowhere from now on. A handler
    // bears being asked for nothing, so it is asked once more.
    if let Some(o) = moved_twice {
        vector::free(o);
        resend(d, s);
    }
    Ok(())
}

/// Moves every interrupt that `cpu` serves to others that are online, those that may first. To be called on `cpu` itself, when
/// it is not online any more and before it stops: what has arrived there and was not served yet is sent to the new processor.
/// Interrupts go back only when someone changes their affinity, as on Linux. How many had to leave the set they were bound to.
pub fn evacuate(cpu: CpuId) -> usize {
    let _g = IrqGuard::new();
    let here = cpu::raw_id() == cpu;
    let others = cpu::online().without(cpu);
    let mut broken = 0;
    for d in desc::all() {
        let mut s = d.state.lock();
        if s.cpu != cpu || others.is_empty() || matches!(s.source, Source::None) {
            continue;
        }
        let vector = match &s.source {
            Source::Message { slot, .. } => slot.vector,
            _ => vector::LINE_VECTORS + d.number as u8,
        };
        let allowed = s.affinity.and(others);
        if allowed.is_empty() {
            broken += 1;
            s.affinity = CpuMask::ALL;
        }
        let to = if allowed.is_empty() { others } else { allowed };
        if move_to(d, &mut s, to).is_err() && move_to(d, &mut s, others).is_err() {
            continue;
        }
        if here && arch::vector_pending(vector) {
            resend(d, &s);
        }
    }
    broken
}

/// Delivers once more what an offline processor has received and will not serve.
fn resend(d: &Desc, s: &State) {
    match &s.source {
        Source::Message { slot, .. } => arch::send_vector(slot.cpu.get(), slot.vector),
        Source::Line(mode) if mode.level => {
            // The I/O APIC waits for an end that will not come; a moment as edge-triggered makes it forget that. The device
            // still asks, so the line fires again.
            let edge = super::LineMode { level: false, ..*mode };
            let _ = arch::route_line(d.number, s.cpu.get(), edge, true);
            d.apply(s);
        }
        Source::Line(_) => arch::send_vector(s.cpu.get(), vector::LINE_VECTORS + d.number as u8),
        Source::None => {}
    }
    d.missed.fetch_or(d.held.load(Ordering::SeqCst), Ordering::SeqCst);
}
