//! The vectors of each processor: a fixed one per line, and a pool for messages.

use crate::{
    atomic::{AtomicU32, Ordering},
    cpu::{CpuId, CpuMask, MAX_CPUS},
    irq::MAX_LINES,
    sync::{LockClass, SpinLockIrq},
};

/// Vector of line 0; line `n` has the `n`th after it on every processor.
pub(crate) const LINE_VECTORS: u8 = 0x30;
/// Vectors for messages, on each processor its own: up to the timer's.
pub(super) const FIRST: u8 = LINE_VECTORS + MAX_LINES as u8;
const END: u8 = 0xef;
const PER_CPU: usize = (END - FIRST) as usize;

const FREE: u32 = 0;

static CLASS: LockClass = LockClass::new("irq_vectors");
/// Held to change a table; looking up takes no lock.
static CHANGE: SpinLockIrq<()> = SpinLockIrq::new(&CLASS, ());
/// Which interrupt number each vector leads to, plus one.
static TABLE: [[AtomicU32; PER_CPU]; MAX_CPUS] =
    [const { [const { AtomicU32::new(FREE) }; PER_CPU] }; MAX_CPUS];

/// Where a message arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    pub(super) cpu: CpuId,
    pub(super) vector: u8,
}

/// The interrupt number behind a vector of a processor.
#[inline]
pub(super) fn number(cpu: u32, vector: u8) -> Option<u32> {
    if vector < FIRST {
        return vector.checked_sub(LINE_VECTORS).map(u32::from);
    }
    let t = TABLE[cpu as usize].get((vector - FIRST) as usize)?;
    t.load(Ordering::Acquire).checked_sub(1)
}

fn used(cpu: CpuId) -> usize {
    TABLE[cpu.index()].iter().filter(|v| v.load(Ordering::Relaxed) != FREE).count()
}

/// A vector for interrupt `number` on the processor of `cpus` that has the most left.
pub(super) fn allocate(number: u32, cpus: CpuMask) -> Option<Slot> {
    let _g = CHANGE.lock();
    let cpu = cpus.iter().min_by_key(|&c| used(c))?;
    let i = TABLE[cpu.index()].iter().position(|v| v.load(Ordering::Relaxed) == FREE)?;
    TABLE[cpu.index()][i].store(number + 1, Ordering::Release);
    Some(Slot { cpu, vector: FIRST + i as u8 })
}

/// Gives a vector back.
pub(super) fn free(s: Slot) {
    let _g = CHANGE.lock();
    TABLE[s.cpu.index()][(s.vector - FIRST) as usize].store(FREE, Ordering::Release);
}
