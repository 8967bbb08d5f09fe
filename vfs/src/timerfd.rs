//! timerfd_create(2): a timer that is read.
//!
//! The timer fires once; the periods that pass until somebody reads are counted then, not by interrupts. A timer on a point of
//! the real-time clock moves when that clock is set, and one made with `TFD_TIMER_CANCEL_ON_SET` says so: read gives `ECANCELED`.

use alloc::{boxed::Box, string::String, sync::Arc};

use base::{Errno, Result, cred::Cred};
use frame::sync::{LockClass, SpinLockIrq, WaitEntry, WaitQueue, once::Once};
use linux_raw_sys::general as raw;
use sched::time::{CLOCK_WAS_SET, Clock, Periodic, Timer, realtime_offset};

use crate::{
    anon,
    file::{File, FileKind, FileOps},
    io::IoDst,
    poll::{PollFlags, PollQueue, PollTable},
    types::OpenFlags,
};

static CLASS: LockClass = LockClass::new("timerfd");

/// `timerfd_settime`: a point on the clock, not a time from now.
pub const ABSTIME: u32 = 1;
/// `timerfd_settime`: tell when the clock is set.
pub const CANCEL_ON_SET: u32 = 2;

struct State {
    /// On which clock `at` counts: a time from now is not affected by setting the clock.
    clock: Clock,
    at: Periodic,
    /// It fired and nobody has read it: periods since then are not counted yet.
    fired: bool,
    ticks: u64,
    /// With `CANCEL_ON_SET`: what the real-time clock was ahead when it was last looked at, `None` once it has changed.
    watch: Option<Option<i64>>,
    flags: u32,
}

struct Inner {
    state: SpinLockIrq<State>,
    timer: Once<Timer>,
    queue: PollQueue,
}

/// The file behind it.
pub struct TimerFd {
    inner: Arc<Inner>,
    id: u32,
    on_set: Arc<WaitEntry>,
}

/// What `timerfd_settime` and `gettime` speak of: time left and period, nanoseconds.
pub type Setting = (u64, u64);

/// timerfd_create(2). `flags` are `TFD_*`; `TFD_CLOEXEC` is the caller's.
pub fn create(clock: u32, flags: u32, cred: &Arc<Cred>) -> Result<Arc<File>> {
    if flags & !(raw::O_CLOEXEC | raw::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let is_alarm = matches!(clock, raw::CLOCK_REALTIME_ALARM | raw::CLOCK_BOOTTIME_ALARM);
    match clock {
        raw::CLOCK_MONOTONIC | raw::CLOCK_REALTIME | raw::CLOCK_BOOTTIME => {}
        _ if is_alarm && cred.has_cap(base::cred::cap::WAKE_ALARM) => {}
        _ if is_alarm => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    }
    let nonblock = OpenFlags::from_bits_truncate(flags) & OpenFlags::NONBLOCK;
    anon::new_file("[timerfd]", TimerFd::new(clock)?, OpenFlags::RDWR | nonblock, cred)
}

impl Inner {
    /// Sets the timer for what the state says. Under the state's lock.
    fn arm(&self, s: &State) {
        let Some(timer) = self.timer.get() else { return };
        if s.at.expires != 0 && !s.fired {
            timer.arm(s.clock.to_monotonic(s.at.expires));
        } else {
            timer.cancel();
        }
    }
    /// The timer's interrupt.
    fn fire(&self) {
        {
            let mut s = self.state.lock();
            if !Self::notice(&mut s) {
                // The setting has changed meanwhile, or somebody has noticed already.
                return self.arm(&s);
            }
        }
        self.queue.wake_all_key(PollFlags::IN.bits());
    }
    /// A timer that is due has fired, even if its interrupt is still to come. True if that is news.
    fn notice(s: &mut State) -> bool {
        let news = !s.fired && s.at.is_due(s.clock.now_ns());
        if news {
            s.fired = true;
            s.ticks += 1;
        }
        news
    }
    /// The real-time clock was set.
    fn clock_was_set(&self) {
        {
            let mut s = self.state.lock();
            if s.clock != Clock::Monotonic {
                self.arm(&s);
            }
            let Some(Some(seen)) = s.watch else { return };
            if seen == realtime_offset() {
                return;
            }
            s.watch = Some(None);
            s.ticks += 1;
        }
        self.queue.wake_all_key(PollFlags::IN.bits());
    }
    /// True once after the clock was set under a timer that watches it.
    fn take_cancelled(s: &mut State) -> bool {
        let yes = s.watch == Some(None);
        if yes {
            s.watch = Some(Some(realtime_offset()));
        }
        yes
    }
    /// Counts the periods since it fired, and sets it again.
    fn catch_up(&self, s: &mut State) {
        if core::mem::take(&mut s.fired) {
            s.ticks += s.at.forward(s.clock.now_ns()) - 1;
            self.arm(s);
        }
    }
    fn take(&self) -> Option<Result<u64>> {
        let mut s = self.state.lock();
        Self::notice(&mut s);
        if s.ticks == 0 {
            return None;
        }
        if Self::take_cancelled(&mut s) {
            s.ticks = 0;
            s.fired = false;
            return Some(Err(Errno::ECANCELED));
        }
        self.catch_up(&mut s);
        Some(Ok(core::mem::take(&mut s.ticks)))
    }
    fn left(&self, s: &mut State) -> Setting {
        if s.at.interval != 0 {
            self.catch_up(s);
        }
        let left = if s.fired { 0 } else { s.at.left(s.clock.now_ns()) };
        (left, s.at.interval)
    }
}

impl TimerFd {
    fn new(id: u32) -> Result<Arc<TimerFd>> {
        let state = State {
            clock: Clock::Monotonic,
            at: Periodic::default(),
            fired: false,
            ticks: 0,
            watch: None,
            flags: 0,
        };
        let inner = frame::heap::try_arc(Inner {
            state: SpinLockIrq::new(&CLASS, state),
            timer: Once::new(),
            queue: frame::heap::try_arc(WaitQueue::new()).ok_or(Errno::ENOMEM)?,
        })
        .ok_or(Errno::ENOMEM)?;
        // Timer and queue know it weakly; `drop` takes it off both before it goes.
        let weak = Arc::downgrade(&inner);
        let timer = Timer::new(move |_| weak.upgrade().iter().for_each(|i| i.fire()))?;
        inner.timer.call_once(|| timer);
        let weak = Arc::downgrade(&inner);
        let moved = move |_| weak.upgrade().iter().for_each(|i| i.clock_was_set());
        let on_set = WaitEntry::new_callback(Box::new(moved));
        let t = frame::heap::try_arc(TimerFd { inner, id, on_set }).ok_or(Errno::ENOMEM)?;
        CLOCK_WAS_SET.add(&t.on_set);
        Ok(t)
    }

    /// timerfd_gettime(2).
    pub fn get(&self) -> Setting {
        self.inner.left(&mut self.inner.state.lock())
    }

    /// timerfd_settime(2): the old setting. `(value, interval)` in nanoseconds; a value of 0 switches the timer off.
    /// EINVAL, ECANCELED.
    pub fn set(&self, flags: u32, (value, interval): Setting) -> Result<Setting> {
        if flags & !(ABSTIME | CANCEL_ON_SET) != 0 {
            return Err(Errno::EINVAL);
        }
        let is_real = matches!(self.id, raw::CLOCK_REALTIME | raw::CLOCK_REALTIME_ALARM);
        let absolute = flags & ABSTIME != 0;
        let i = &self.inner;
        let mut s = i.state.lock();
        let watches = is_real && absolute && flags & CANCEL_ON_SET != 0;
        s.watch = match (watches, s.watch) {
            (true, None) => Some(Some(realtime_offset())),
            (true, w) => w,
            (false, _) => None,
        };
        let old = i.left(&mut s);
        s.clock = match self.id {
            raw::CLOCK_BOOTTIME | raw::CLOCK_BOOTTIME_ALARM => Clock::Boottime,
            _ if is_real && absolute => Clock::Realtime,
            _ => Clock::Monotonic,
        };
        let base = if absolute { 0 } else { s.clock.now_ns() };
        // A point before the clock's beginning is due, not "off".
        let expires = if value == 0 { 0 } else { base.saturating_add(value).max(1) };
        s.at = Periodic { expires, interval };
        (s.fired, s.ticks, s.flags) = (false, 0, flags);
        i.arm(&s);
        if value != 0 && Inner::take_cancelled(&mut s) { Err(Errno::ECANCELED) } else { Ok(old) }
    }
}

impl Drop for TimerFd {
    fn drop(&mut self) {
        CLOCK_WAS_SET.remove(&self.on_set);
        if let Some(t) = self.inner.timer.get() {
            t.cancel_wait();
        }
    }
}

impl FileOps for TimerFd {
    fn kind(&self) -> FileKind {
        FileKind::Stream
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        if dst.len() < 8 {
            return Err(Errno::EINVAL);
        }
        let n = match self.inner.take() {
            Some(n) => n,
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => self.inner.queue.wait_interruptible(|| self.inner.take())?,
        }?;
        if dst.put(&n.to_ne_bytes())? < 8 { Err(Errno::EFAULT) } else { Ok(8) }
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register(&self.inner.queue);
        }
        let mut s = self.inner.state.lock();
        Inner::notice(&mut s);
        if s.ticks > 0 { PollFlags::IN } else { PollFlags::empty() }
    }
    fn fdinfo(&self, _file: &File, out: &mut String) {
        use core::fmt::Write;
        let (ticks, flags, (left, interval)) = {
            let mut s = self.inner.state.lock();
            let left = self.inner.left(&mut s);
            (s.ticks, s.flags, left)
        };
        let split = |ns: u64| (ns / 1_000_000_000, ns % 1_000_000_000);
        let ((a, b), (c, d)) = (split(left), split(interval));
        // Writing to a string fails only without memory, and then lines are missing.
        let _ = writeln!(out, "clockid: {}\nticks: {ticks}\nsettime flags: 0{flags:o}", self.id);
        let _ = writeln!(out, "it_value: ({a}, {b})\nit_interval: ({c}, {d})");
    }
}
