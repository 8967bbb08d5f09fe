//! Interrupts: lines and messages of devices, what runs when they come, where they go; and softirqs.
//!
//! # Theory
//! An interrupt has a number (what `/proc/interrupts` shows) and comes from a *source*: a line of an I/O APIC, or a message
//! that a device writes (MSI, MSI-X). A driver requests it with a name and a handler, and holds an [`Irq`]; dropping that takes
//! the handler away. Several drivers may share a line, so each handler says whether its device had asked ([`Handled`]).
//!
//! ```text
//!   device ─line──► I/O APIC ─┐ vector, the same on every processor
//!   device ─message───────────┴─► processor ─► desc::on_vector ─► handlers (RCU, no lock)
//!            vector of that processor's own
//! ```
//! *Lines* keep one vector everywhere, because the end-of-interrupt of a level-triggered line finds its pin by the vector.
//! *Messages* have a vector that belongs to one processor, so that many devices with many queues fit. When a message moves, the
//! old vector goes on leading to the same handlers until the next move: one that was on its way is not lost.
//!
//! When a processor goes away, [`evacuate`] moves what it served. A line that fires without a handler ever being responsible
//! is masked (Linux's "nobody cared"); whoever installed [`install_complaint`] says so in the log.
//!
//! | file | what |
//! |---|---|
//! | `desc` | descriptors, the way from a vector to handlers, storms |
//! | `request` | what drivers call |
//! | `affinity` | which processor serves what |
//! | `vector` | the vectors of each processor |
//! | `info` | what `/proc/interrupts` shows |
//! | `softirq` | pending bits, when they run |
//!
//! Locking: `irq_numbers` (numbers are given out) → `irq_desc` (one descriptor) → `irq_vectors`. None is held while a handler runs.

mod affinity;
mod desc;
mod info;
mod request;
mod softirq;
mod vector;

pub use affinity::{default_affinity, evacuate, set_affinity, set_default_affinity};
pub(crate) use desc::on_vector;
pub use desc::{Handled, Watcher, install_complaint, watch_handlers};
pub(crate) use info::note_internal;
pub use info::{Internal, IrqInfo, count, info, internal_count, list, spurious_count, total_on};
pub use request::{
    Irq, IrqError, Listener, MessageSource, Share, isa_line, line_count, listen, request, request_line,
    request_message,
};
pub(crate) use softirq::defer_pending_softirqs;
pub use softirq::{
    SoftirqRunner, install_softirqs, pending_softirqs, raise_softirq, run_pending_softirqs, take_softirqs,
};
pub(crate) use vector::LINE_VECTORS;

use crate::arch;

/// Lines that devices may use at most (GSIs of the I/O APICs; hosted: simulated devices). Line `n` is interrupt number `n`.
pub const MAX_LINES: usize = 64;
/// Interrupt numbers: lines, then messages.
pub const MAX_IRQS: usize = 512;

/// When and how a line signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineMode {
    pub level: bool,
    pub active_low: bool,
}

/// What a device writes where to interrupt a processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    pub address: u64,
    pub data: u32,
}

/// What a back end calls when another processor asked this one to reschedule.
pub(crate) fn on_reschedule() {
    arch::set_need_resched(true);
}
