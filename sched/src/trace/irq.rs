//! The events of group `irq`: handlers of devices, softirqs.
//!
//! Handlers are called by frame, which knows nothing of traces: it is given two functions to call around each.

use base::trace::Str;
use frame::irq::{Handled, Watcher};

use crate::softirq;

base::trace_event! {
    /// A device's handler begins.
    pub(crate) struct irq_handler_entry in "irq" {
        irq: i32 = "int",
        name: Str = "char",
    }
    format r#""irq=%d name=%s", REC->irq, __get_str(name)"#;
    print "irq={irq} name={name}"
}

base::trace_event! {
    /// It has said whether its device had asked.
    pub(crate) struct irq_handler_exit in "irq" {
        irq: i32 = "int",
        ret: i32 = "int",
    }
    format r#""irq=%d ret=%s", REC->irq, REC->ret ? "handled" : "unhandled""#;
    print "irq={irq} ret={}", if ret != 0 { "handled" } else { "unhandled" }
}

macro_rules! softirqs {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $(base::trace_event! {
            $(#[$doc])*
            pub(crate) struct $name in "irq" {
                vec: u32 = "unsigned int",
            }
            format r#""vec=%u [action=%s]", REC->vec, __print_symbolic(REC->vec, { 0, "HI" }, { 1, "TIMER" }, { 2, "NET_TX" }, { 3, "NET_RX" }, { 4, "BLOCK" }, { 5, "IRQ_POLL" }, { 6, "TASKLET" }, { 7, "SCHED" }, { 8, "HRTIMER" }, { 9, "RCU" })"#;
            print "vec={} [action={}]", vec, softirq::NAMES.get(vec as usize).unwrap_or(&"?")
        })*
    };
}
softirqs! {
    /// A softirq was marked pending.
    softirq_raise
    /// Its function begins.
    softirq_entry
    /// Its function is over.
    softirq_exit
}

static WATCHER: Watcher = Watcher {
    entry: |irq, name| base::trace!(irq_handler_entry { irq: irq as i32, name: name.as_bytes() }),
    exit: |irq, answer| {
        base::trace!(irq_handler_exit { irq: irq as i32, ret: i32::from(answer == Handled::Yes) })
    },
};

/// Registers the events and watches handlers.
pub(super) fn init() {
    base::trace::register(&[
        irq_handler_entry::event(),
        irq_handler_exit::event(),
        softirq_entry::event(),
        softirq_exit::event(),
        softirq_raise::event(),
    ]);
    frame::irq::watch_handlers(&WATCHER);
}
