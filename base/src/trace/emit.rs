//! From a trace point into this processor's ring.

use frame::{
    atomic::{AtomicU64, Ordering},
    context::{self, IrqGuard},
    cpu::{CpuId, MAX_CPUS},
    sync::once::Once,
};

use super::{COMM_LEN, Event, buffer, pids};

/// Who runs here, for the records.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    pub pid: u32,
    pub comm: [u8; COMM_LEN],
}

static WHO: Once<fn() -> Who> = Once::new();

/// Installs what tells the running task's number and name. It is called with interrupts off and must not sleep nor hit a
/// trace point.
pub fn install_who(f: fn() -> Who) {
    WHO.call_once(|| f);
}

fn who() -> Who {
    WHO.get().map_or(Who { pid: 0, comm: [0; COMM_LEN] }, |f| f())
}

/// `common_flags`, with Linux's values.
pub mod flag {
    pub const IRQS_OFF: u8 = 0x01;
    pub const NEED_RESCHED: u8 = 0x04;
    pub const HARDIRQ: u8 = 0x08;
    pub const SOFTIRQ: u8 = 0x10;
    pub const NMI: u8 = 0x40;
    pub const BH_OFF: u8 = 0x80;
}

/// Records that came in an NMI, where no ring may be touched, by processor.
static IN_NMI: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// How many records of a processor were dropped because they came in an NMI.
pub(super) fn dropped_in_nmi(cpu: CpuId) -> u64 {
    IN_NMI[cpu.index()].load(Ordering::Relaxed)
}
/// Counts anew.
pub(super) fn clear_dropped_in_nmi(cpu: CpuId) {
    IN_NMI[cpu.index()].store(0, Ordering::Relaxed);
}

/// `common_flags` and `common_preempt_count` of whoever calls.
fn state() -> (u8, u8) {
    let w = context::word();
    let mut f = 0;
    for (on, bit) in [
        (context::irqs_off(), flag::IRQS_OFF),
        (context::need_resched(), flag::NEED_RESCHED),
        (w & context::HARDIRQ_MASK != 0, flag::HARDIRQ),
        (w & context::SOFTIRQ_OFFSET != 0, flag::SOFTIRQ),
        // Each hold on softirqs counts twice what one that runs does.
        (w & context::SOFTIRQ_MASK >= context::SOFTIRQ_DISABLE, flag::BH_OFF),
    ] {
        if on {
            f |= bit;
        }
    }
    (f, (w & context::PREEMPT_MASK).min(15) as u8)
}

/// Takes a finished record whose common fields are still empty.
pub(super) fn commit(event: &'static Event, record: &mut [u8]) {
    if !buffer::is_on() {
        return;
    }
    if context::in_nmi() {
        IN_NMI[frame::cpu::raw_id().index()].fetch_add(1, Ordering::Relaxed);
        return;
    }
    let (flags, preempt) = state();
    let g = IrqGuard::new();
    let who = who();
    fill(record, event.id(), flags, preempt, who.pid);
    if pids::is_filtering() && !pids::accepts(event, record, who.pid) {
        return;
    }
    let kept = {
        let section = frame::sync::rcu::read();
        event.filter.load(&section).is_none_or(|f| f.accepts(record, &who, g.cpu()))
    };
    if kept {
        buffer::push(&g, &who.comm, record);
    }
}

/// The common fields.
fn fill(record: &mut [u8], id: u16, flags: u8, preempt: u8, pid: u32) {
    if let Some(common) = record.first_chunk_mut::<8>() {
        common[..2].copy_from_slice(&id.to_ne_bytes());
        (common[2], common[3]) = (flags, preempt);
        common[4..].copy_from_slice(&pid.to_ne_bytes());
    }
}

/// The number of the type of record that holds a mark: Linux's `TRACE_PRINT`.
pub const MARK_ID: u16 = 5;
/// Where a mark's text begins, behind the address that Linux keeps there.
pub(super) const MARK_TEXT: usize = 16;
/// The longest mark that a record takes, its newline included.
pub const MAX_MARK: usize = super::ring::MAX_RECORD - COMM_LEN - MARK_TEXT - 8;

/// Writes a mark of user space: `trace_marker`. False if nothing is recorded now. In task context.
pub fn mark(text: &[u8]) -> bool {
    if !buffer::is_on() {
        return false;
    }
    let (flags, preempt) = state();
    let g = IrqGuard::new();
    let who = who();
    let mut head = [0; COMM_LEN + MARK_TEXT];
    head[..COMM_LEN].copy_from_slice(&who.comm);
    fill(&mut head[COMM_LEN..], MARK_ID, flags, preempt, who.pid);
    buffer::push(&g, &head, &text[..text.len().min(MAX_MARK)])
}
