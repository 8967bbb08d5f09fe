//! What timers say of themselves in traces: `timer:hrtimer_*` for the precise ones, `timer:timer_*` for the coarse.

use alloc::sync::Arc;

use super::{Action, Grain, Inner};
use crate::{JIFFY_NS, trace};

fn id(t: &Inner) -> usize {
    core::ptr::from_ref(t).addr()
}

fn function(t: &Inner) -> &'static [u8] {
    match (&t.action, t.grain) {
        (Action::Call(_, name), _) => name.as_bytes(),
        (Action::Wake, Grain::Precise) => b"hrtimer_wakeup",
        (Action::Wake, Grain::Coarse) => b"process_timeout",
    }
}

fn jiffies(ns: u64) -> u64 {
    ns / JIFFY_NS
}

#[inline]
pub(super) fn init(t: &Inner) {
    match t.grain {
        Grain::Precise => {
            base::trace!(trace::hrtimer_init { hrtimer: id(t), clockid: 1, mode: trace::ABS_HARD });
        }
        Grain::Coarse => base::trace!(trace::timer_init { timer: id(t) }),
    }
}

/// It is armed for `at`.
#[inline]
pub(super) fn start(t: &Arc<Inner>, at: u64, was_armed: bool) {
    match t.grain {
        Grain::Precise => base::trace!(trace::hrtimer_start {
            hrtimer: id(t),
            function: function(t),
            expires: at as i64,
            softexpires: at as i64,
            mode: trace::ABS_HARD,
            was_armed,
        }),
        Grain::Coarse => base::trace!(trace::timer_start {
            timer: id(t),
            function: function(t),
            expires: jiffies(at),
            bucket_expiry: jiffies(at),
            now: jiffies(frame::time::now_ns()),
            flags: frame::cpu::raw_id().get(),
        }),
    }
}

/// It is armed no longer: taken back, or about to expire.
#[inline]
pub(super) fn cancel(t: &Inner) {
    match t.grain {
        Grain::Precise => base::trace!(trace::hrtimer_cancel { hrtimer: id(t) }),
        Grain::Coarse => base::trace!(trace::timer_cancel { timer: id(t) }),
    }
}

#[inline]
pub(super) fn expire_entry(t: &Inner) {
    match t.grain {
        Grain::Precise => base::trace!(trace::hrtimer_expire_entry {
            hrtimer: id(t),
            now: frame::time::now_ns() as i64,
            function: function(t),
        }),
        Grain::Coarse => base::trace!(trace::timer_expire_entry {
            timer: id(t),
            now: jiffies(frame::time::now_ns()),
            function: function(t),
            baseclk: jiffies(frame::time::now_ns()),
        }),
    }
}

#[inline]
pub(super) fn expire_exit(t: &Inner) {
    match t.grain {
        Grain::Precise => base::trace!(trace::hrtimer_expire_exit { hrtimer: id(t) }),
        Grain::Coarse => base::trace!(trace::timer_expire_exit { timer: id(t) }),
    }
}
