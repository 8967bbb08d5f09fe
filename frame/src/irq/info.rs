//! What `/proc/interrupts`, `/proc/stat` and `/proc/irq` show.

use alloc::{string::String, vec::Vec};

use super::desc::{self, Desc, Source};
use crate::{
    arch,
    atomic::{AtomicU64, Ordering},
    cpu::{CpuId, CpuMask, MAX_CPUS},
};

/// One line of `/proc/interrupts`.
#[derive(Clone, Debug)]
pub struct IrqInfo {
    pub number: u32,
    /// How often each possible processor served it.
    pub counts: Vec<u64>,
    /// `IO-APIC`, or `PCI-MSIX-0000:00:03.0`.
    pub chip: String,
    /// The line, or which of the device's messages: printed before the flow, as `4-edge`.
    pub index: u32,
    /// `edge` or `fasteoi`.
    pub flow: &'static str,
    /// Names that drivers gave; Linux joins them with a comma and a space.
    pub handlers: Vec<String>,
    pub affinity: CpuMask,
    pub effective: CpuId,
}

/// All interrupts that have a handler, by number.
pub fn list() -> Vec<IrqInfo> {
    desc::all().filter_map(of).collect()
}

/// One interrupt, if it has a handler.
pub fn info(number: u32) -> Option<IrqInfo> {
    desc::find(number).and_then(of)
}

fn of(d: &Desc) -> Option<IrqInfo> {
    let actions = d.actions.get()?;
    let handlers = actions.iter().map(|a| a.name.clone()).filter(|n| !n.is_empty()).collect();
    let counts = d.counts.iter().map(|(_, c)| c.load(Ordering::Relaxed)).collect();
    // Copies are made outside of the lock: what they need is reserved here.
    let mut chip = String::with_capacity(32);
    let s = d.state.lock();
    let (index, flow) = match &s.source {
        Source::None => return None,
        Source::Line(m) => {
            chip.push_str("IO-APIC");
            (d.number, if m.level { "fasteoi" } else { "edge" })
        }
        Source::Message { chip: c, index, .. } => {
            chip.push_str(c);
            (*index, "edge")
        }
    };
    let (affinity, effective) = (s.affinity, s.cpu);
    drop(s);
    Some(IrqInfo { number: d.number, counts, chip, index, flow, handlers, affinity, effective })
}

/// How often an interrupt has fired, on all processors.
pub fn count(number: u32) -> u64 {
    desc::find(number).map_or(0, |d| d.counts.iter().map(|(_, c)| c.load(Ordering::Relaxed)).sum())
}

/// How many interrupts of devices a processor has served.
pub fn total_on(cpu: CpuId) -> u64 {
    desc::all().map(|d| d.counts.of(cpu).load(Ordering::Relaxed)).sum()
}

/// Interrupts at a vector that nobody has: `ERR` or worse.
pub fn spurious_count() -> u64 {
    desc::spurious()
}

/// What processors send each other and themselves, with the names of `/proc/interrupts`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Internal {
    /// `NMI`: non-maskable interrupts.
    Nmi,
    /// `LOC`: the local timer.
    Timer,
    /// `RES`: rescheduling.
    Reschedule,
    /// `CAL`: function calls.
    Call,
    /// `TLB`: shoot-downs.
    Shootdown,
}

impl Internal {
    /// In Linux's order.
    pub const ALL: [Internal; 5] =
        [Internal::Nmi, Internal::Timer, Internal::Reschedule, Internal::Call, Internal::Shootdown];
    /// The label of the row, and the text at its end.
    pub const fn text(self) -> (&'static str, &'static str) {
        match self {
            Internal::Nmi => ("NMI", "Non-maskable interrupts"),
            Internal::Timer => ("LOC", "Local timer interrupts"),
            Internal::Reschedule => ("RES", "Rescheduling interrupts"),
            Internal::Call => ("CAL", "Function call interrupts"),
            Internal::Shootdown => ("TLB", "TLB shootdowns"),
        }
    }
}

/// One processor's row; only it counts there.
#[repr(align(64))]
struct Row([AtomicU64; Internal::ALL.len()]);
static ROWS: [Row; MAX_CPUS] = [const { Row([const { AtomicU64::new(0) }; Internal::ALL.len()]) }; MAX_CPUS];

/// How often a processor was interrupted so.
pub fn internal_count(what: Internal, cpu: CpuId) -> u64 {
    ROWS[cpu.index()].0[what as usize].load(Ordering::Relaxed)
}

/// What a back end calls for each.
pub(crate) fn note_internal(what: Internal) {
    ROWS[arch::cpu_id() as usize].0[what as usize].fetch_add(1, Ordering::Relaxed);
}
