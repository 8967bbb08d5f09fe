//! Clocks, and sleeping until one of them reaches a point.

use frame::{
    atomic::{AtomicI64, Ordering},
    sync::{Interrupted, LockClass, SpinLock, WaitQueue, once::Once},
    task::{State, Work},
};

use crate::thread::Ext;
pub use crate::timer::{NEVER, Timer, TimerWheel};

/// Added to the monotonic clock it gives the real-time clock.
static REALTIME_OFFSET: AtomicI64 = AtomicI64::new(0);
static SETTING: LockClass = LockClass::new("realtime_offset");
/// Whoever moves the clock holds it, so that the last to store is also the last to tell.
static SETTER: SpinLock<()> = SpinLock::new(&SETTING, ());
static ON_SET: Once<fn(i64)> = Once::new();

/// Nanoseconds since boot: `CLOCK_MONOTONIC`.
#[inline]
pub fn now_ns() -> u64 {
    frame::time::now_ns()
}
/// `CLOCK_BOOTTIME`: goes on while the machine is suspended.
#[inline]
pub fn boottime_ns() -> u64 {
    frame::time::boot_ns()
}
/// `CLOCK_REALTIME`: nanoseconds since 1970.
#[inline]
pub fn realtime_ns() -> u64 {
    frame::time::now_ns().wrapping_add_signed(REALTIME_OFFSET.load(Ordering::Relaxed))
}
/// Real time at boot in nanoseconds, as far as is known now; in seconds it is `btime` of `/proc/stat`.
pub fn boot_realtime_ns() -> u64 {
    since_boot(REALTIME_OFFSET.load(Ordering::Relaxed)).max(0) as u64
}
/// An offset to the monotonic clock as one to the time since boot.
fn since_boot(offset: i64) -> i64 {
    offset.wrapping_sub_unsigned(frame::time::stopped_ns())
}
/// The monotonic clock was stopped for `ns`: the real time is ahead of it by so much more.
pub(crate) fn slept(ns: u64) {
    {
        let _one = SETTER.lock();
        let offset = REALTIME_OFFSET.load(Ordering::SeqCst).wrapping_add_unsigned(ns);
        REALTIME_OFFSET.store(offset, Ordering::SeqCst);
        if let Some(f) = ON_SET.get() {
            f(since_boot(offset));
        }
    }
    CLOCK_WAS_SET.wake_all();
}
/// Sets the real-time clock.
pub fn set_realtime_ns(ns: u64) {
    {
        let _one = SETTER.lock();
        let offset = ns.wrapping_sub(frame::time::now_ns()) as i64;
        REALTIME_OFFSET.store(offset, Ordering::SeqCst);
        if let Some(f) = ON_SET.get() {
            f(since_boot(offset));
        }
    }
    CLOCK_WAS_SET.wake_all();
}
/// Woken after the real-time clock was set: who waits for a point on it must find out anew when that is.
pub static CLOCK_WAS_SET: WaitQueue = WaitQueue::new();

/// A clock that timers can be set on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// `CLOCK_BOOTTIME`: the monotonic clock and what it missed while the machine was suspended.
    Boottime,
    /// `CLOCK_REALTIME`, which can be set.
    Realtime,
}

impl Clock {
    pub fn now_ns(self) -> u64 {
        match self {
            Clock::Monotonic => now_ns(),
            Clock::Boottime => boottime_ns(),
            Clock::Realtime => realtime_ns(),
        }
    }
    /// When this clock will show `ns`, on the monotonic clock, as the clocks stand now.
    pub fn to_monotonic(self, ns: u64) -> u64 {
        match self {
            Clock::Monotonic => ns,
            Clock::Boottime => ns.saturating_sub(frame::time::stopped_ns()),
            Clock::Realtime => ns.saturating_add_signed(-realtime_offset()),
        }
    }
}
/// What the real-time clock is ahead of the monotonic one, in nanoseconds.
pub fn realtime_offset() -> i64 {
    REALTIME_OFFSET.load(Ordering::SeqCst)
}

/// A point and a period on some clock, in nanoseconds; a point of 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Periodic {
    pub expires: u64,
    pub interval: u64,
}

impl Periodic {
    /// True if the point has been reached.
    pub fn is_due(&self, now: u64) -> bool {
        self.expires != 0 && now >= self.expires
    }
    /// Moves a point that is due to the next one after `now`, in phase, and says how many periods that was. A timer
    /// without a period is over: 1.
    pub fn forward(&mut self, now: u64) -> u64 {
        if self.interval == 0 {
            self.expires = 0;
            return 1;
        }
        let periods = now.saturating_sub(self.expires) / self.interval + 1;
        self.expires = self.expires.saturating_add(periods.saturating_mul(self.interval));
        periods
    }
    /// How long until the point.
    pub fn left(&self, now: u64) -> u64 {
        self.expires.saturating_sub(now)
    }
}

/// Sleeps until the real-time clock shows `ns`, whoever sets it meanwhile.
pub fn sleep_until_realtime(ns: u64, state: State) -> Result<(), Interrupted> {
    loop {
        let offset = realtime_offset();
        let end = Clock::Realtime.to_monotonic(ns);
        let was_set = || (realtime_offset() != offset).then_some(());
        if wait_timeout(&CLOCK_WAS_SET, state, Some(end), was_set)?.is_none() {
            return Ok(());
        }
    }
}
/// Installs what is told the offset of the real-time clock to the time since boot, now and whenever it or
/// [`frame::time::stopped_ns`] changes. It must not sleep.
pub fn on_realtime_set(f: fn(i64)) {
    let _one = SETTER.lock();
    ON_SET.call_once(|| f);
    f(since_boot(REALTIME_OFFSET.load(Ordering::Relaxed)));
}
/// Takes the machine's clock over.
pub(crate) fn init() {
    REALTIME_OFFSET.store(frame::time::wall_clock_at_boot_ns() as i64, Ordering::Relaxed);
}
/// Ticks of 1/250 s since boot.
pub fn jiffies() -> u64 {
    frame::time::now_ns() / crate::JIFFY_NS
}

/// Whether what has to be looked at ends a wait in this state.
fn ends(state: State, work: Work) -> bool {
    if state.contains(State::INTERRUPTIBLE) {
        !work.is_empty()
    } else {
        state.contains(State::WAKEKILL) && work.contains(Work::KILL)
    }
}

/// Sleeps until `deadline_ns` on the monotonic clock, precisely. Wake-ups that are not for this end nothing;
/// signals end it early if `state` lets them.
pub fn sleep_until(deadline_ns: u64, state: State) -> Result<(), Interrupted> {
    frame::context::might_sleep();
    if frame::time::now_ns() >= deadline_ns {
        return Ok(());
    }
    let me = frame::task::current();
    let timer = &me.ext::<Ext>().sleep;
    if deadline_ns < NEVER {
        timer.arm(deadline_ns, me.arc());
    }
    let r = loop {
        me.set_state(state);
        if frame::time::now_ns() >= deadline_ns {
            break Ok(());
        }
        if ends(state, me.work()) {
            break Err(Interrupted);
        }
        frame::task::schedule();
    };
    me.set_running();
    timer.cancel();
    r
}

/// Sleeps for at least `ns`, whatever comes.
pub fn sleep_ns(ns: u64) {
    let _ = sleep_until(now_ns().saturating_add(ns), State::UNINTERRUPTIBLE);
}

/// Waits until `cond` gives something, which the queue's wakers make true. `Ok(None)`: the deadline came first;
/// `None` as deadline waits for ever. `cond` is asked once more after the deadline has passed.
pub fn wait_timeout<R>(
    queue: &WaitQueue,
    state: State,
    deadline_ns: Option<u64>,
    mut cond: impl FnMut() -> Option<R>,
) -> Result<Option<R>, Interrupted> {
    frame::context::might_sleep();
    if let Some(r) = cond() {
        return Ok(Some(r));
    }
    let Some(deadline) = deadline_ns.filter(|&d| d < NEVER) else {
        return queue.wait_as(state, cond).map(Some);
    };
    if now_ns() >= deadline {
        return Ok(None);
    }
    let me = frame::task::current();
    let timer = &me.ext::<Ext>().sleep;
    timer.arm(deadline, me.arc());
    let r = queue.wait_as(state, || match cond() {
        Some(r) => Some(Some(r)),
        None => (now_ns() >= deadline).then_some(None),
    });
    timer.cancel();
    r
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn periods_keep_their_phase_and_add_up(
            start in 1u64..1000, interval in 1u64..100, steps in prop::collection::vec(0u64..500, 1..40)
        ) {
            let mut p = Periodic { expires: start, interval };
            let (mut now, mut total) = (0, 0);
            for step in steps {
                now += step;
                if p.is_due(now) {
                    total += p.forward(now);
                }
                prop_assert!(p.expires > now || now < start);
                let due = if now < start { 0 } else { (now - start) / interval + 1 };
                prop_assert_eq!(total, due);
            }
        }
    }
}
