//! Interval timers (`setitimer(2)`, `alarm(2)`).
//!
//! `ITIMER_REAL` is one high-resolution timer. The other two count processor time, which has no interrupt of its own: a timer is
//! set for the earliest moment at which the time *can* be used up, looks at what was really used, and sets itself again.

use alloc::sync::{Arc, Weak};

use base::{Errno, Result};
use frame::sync::{LockClass, SpinLockIrq, once::Once};
use sched::time::Timer;

use crate::{
    process::{Process, current},
    signal::{
        SigInfo,
        send::{self, Force},
        set::{ALRM, PROF, Signo, VTALRM},
    },
    usage::Usage,
};

static CLASS: LockClass = LockClass::new("itimers");
/// A processor-time timer looks no more often than this: Linux's tick at 250 Hz.
pub(crate) const MIN_LOOK_NS: u64 = 4_000_000;

/// One timer's setting, in nanoseconds. `expires`: on its own clock; 0: off.
#[derive(Clone, Copy, Default, Debug)]
struct Setting {
    expires: u64,
    interval: u64,
}

/// A process's three timers.
pub struct Timers {
    settings: SpinLockIrq<[Setting; 3]>,
    hardware: [Once<Option<Timer>>; 3],
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers {
            settings: SpinLockIrq::new(&CLASS, [Setting::default(); 3]),
            hardware: [const { Once::new() }; 3],
        }
    }
    /// The process is ending. Timers refer to it weakly; this only saves the interrupts.
    pub(crate) fn cancel_all(&self) {
        *self.settings.lock() = [Setting::default(); 3];
        for t in &self.hardware {
            if let Some(Some(t)) = t.get() {
                t.cancel();
            }
        }
    }
}

const REAL: usize = 0;
const VIRTUAL: usize = 1;

fn signal_of(which: usize) -> Signo {
    [ALRM, VTALRM, PROF][which]
}

/// What the timer's clock shows.
fn now(p: &Process, which: usize) -> u64 {
    if which == REAL {
        return frame::time::now_ns();
    }
    let u = Usage::of_threads(p);
    if which == VIRTUAL { u.user_ns } else { u.user_ns + u.system_ns }
}

/// Time and interval that are left.
fn left(s: Setting, now: u64) -> (u64, u64) {
    // A timer that is due but has not run yet shows the least there is.
    let t = if s.expires == 0 { 0 } else { s.expires.saturating_sub(now).max(1000) };
    (t, s.interval)
}

/// What becomes of a setting at `now`: whether it fires, and how long until it must be looked at again.
fn expire(s: &mut Setting, now: u64) -> (bool, Option<u64>) {
    if s.expires == 0 {
        return (false, None);
    }
    if now < s.expires {
        return (false, Some(s.expires - now));
    }
    if s.interval == 0 {
        s.expires = 0;
        return (true, None);
    }
    let periods = ((now - s.expires) / s.interval).saturating_add(1);
    s.expires = s.expires.saturating_add(periods.saturating_mul(s.interval));
    (true, Some(s.expires - now))
}

fn on_timer(p: &Arc<Process>, which: usize, t: &Timer) {
    let n = now(p, which);
    let (fires, next) = expire(&mut p.timers.settings.lock()[which], n);
    if fires {
        base::trace!(crate::trace::itimer_expire { which: which as i32, pid: p.pid() as i32, now: n });
        let _ = send::send_process(p, SigInfo::kernel(signal_of(which)), Force::Kernel);
    }
    if let Some(d) = next {
        arm(p, which, t, d);
    }
}

fn arm(p: &Process, which: usize, t: &Timer, in_ns: u64) {
    let wait = if which == REAL {
        in_ns
    } else {
        // All threads together use time faster than one.
        let n = p.sig.lock().threads.len().clamp(1, frame::cpu::possible()) as u64;
        (in_ns / n).max(MIN_LOOK_NS)
    };
    t.arm(frame::time::now_ns().saturating_add(wait));
}

/// `getitimer`: (time left, interval) in nanoseconds.
pub fn get(which: u32) -> Result<(u64, u64)> {
    let p = current().process.clone();
    let w = which as usize;
    if w > 2 {
        return Err(Errno::EINVAL);
    }
    let n = now(&p, w);
    let s = p.timers.settings.lock()[w];
    Ok(left(s, n))
}

/// `setitimer`: the old (time left, interval). A value of 0 switches the timer off.
pub fn set(which: u32, value_ns: u64, interval_ns: u64) -> Result<(u64, u64)> {
    let p = current().process.clone();
    let w = which as usize;
    if w > 2 {
        return Err(Errno::EINVAL);
    }
    let timer = hardware(&p, w);
    if timer.is_none() && value_ns != 0 {
        return Err(Errno::ENOMEM);
    }
    if let Some(t) = timer {
        // A signal that the old setting was just about to send is sent before this call returns, not after it.
        t.cancel_wait();
    }
    let n = now(&p, w);
    let expires = if value_ns == 0 { 0 } else { n.saturating_add(value_ns) };
    let split = |ns: u64| ((ns / 1_000_000_000) as i64, (ns % 1_000_000_000) as i64);
    base::trace!(crate::trace::itimer_state {
        which: which as i32,
        expires: expires,
        value_sec: split(value_ns).0,
        value_nsec: split(value_ns).1,
        interval_sec: split(interval_ns).0,
        interval_nsec: split(interval_ns).1,
    });
    let old =
        core::mem::replace(&mut p.timers.settings.lock()[w], Setting { expires, interval: interval_ns });
    if let Some(t) = timer.filter(|_| value_ns != 0) {
        arm(&p, w, t, value_ns);
    }
    Ok(left(old, n))
}

fn hardware(p: &Arc<Process>, which: usize) -> Option<&Timer> {
    let weak: Weak<Process> = Arc::downgrade(p);
    p.timers.hardware[which]
        .call_once(|| {
            Timer::new(move |t| {
                if let Some(p) = weak.upgrade() {
                    on_timer(&p, which, t);
                }
            })
            .ok()
        })
        .as_ref()
}

/// `alarm(2)`: the seconds that were left, rounded up.
pub fn alarm(seconds: u32) -> Result<u32> {
    let (left, _) = set(REAL as u32, seconds as u64 * 1_000_000_000, 0)?;
    Ok(left.div_ceil(1_000_000_000) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_keep_their_phase() {
        let mut s = Setting { expires: 100, interval: 30 };
        assert_eq!(expire(&mut s, 99), (false, Some(1)));
        assert_eq!(expire(&mut s, 165), (true, Some(25)));
        assert_eq!(s.expires, 190);
        let mut once = Setting { expires: 5, interval: 0 };
        assert_eq!(expire(&mut once, 5), (true, None));
        assert_eq!(expire(&mut once, 6), (false, None));
        assert_eq!(left(Setting { expires: 5, interval: 0 }, 10), (1000, 0));
    }
}
