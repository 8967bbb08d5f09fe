//! POSIX timers (`timer_create(2)`).
//!
//! # Theory
//! A timer that has fired sends its signal and rests. Only when a program takes the signal is it set again: then the periods
//! that passed meanwhile are counted, all but one as *overrun*, and it goes on in phase ([`delivered`]). So a timer never has
//! two signals waiting, costs one interrupt for each signal however short its period, and no expiry is lost: signals taken,
//! and their overruns, add up to the periods that passed. Where the signal is ignored there is nobody to take it, and the
//! timer sets itself again, at most once a jiffy.
//!
//! A signal remembers which setting of the timer it came from; one of an older setting, or of a timer that was deleted, is delivered
//! and sets nothing.
//!
//! Clocks of processor time have no interrupt: as for [`crate::itimer`], a timer is set for the earliest moment at which the time can
//! be used up, and looks.
//!
//! # Locks
//! `table` (spinning) gives references to timers; a timer's `state` (spinning, interrupts off) → the hardware timer. Signals are
//! sent with neither held. Timer and clock know a [`PosixTimer`] weakly; [`PosixTimer::retire`] takes it off both.
//!
//! Different from Linux: `RLIMIT_SIGPENDING` counts the process's own timers and queued signals, not those of all the user's
//! processes; a signal that waits from before `timer_settime` does not take up the next one, so there may be one for each setting.
//! The `_ALARM` clocks do not wake the machine, which never sleeps.

use alloc::{
    boxed::Box,
    sync::{Arc, Weak},
    vec::Vec,
};

use base::{Errno, Result, cred::cap, tree::Out};
use frame::sync::{LockClass, SpinLock, SpinLockIrq, WaitEntry, once::Once};
use linux_raw_sys::general as raw;
use sched::{
    JIFFY_NS, TaskRef,
    time::{CLOCK_WAS_SET, Clock, Periodic, Timer, now_ns},
};

use crate::{
    process::{Process, current, data},
    rlimit,
    signal::{
        SigInfo,
        info::{Fields, SI_TIMER},
        send,
        set::{ALRM, Signo},
    },
    usage::Usage,
};

static TABLE: LockClass = LockClass::new("posix_timers");
static STATE: LockClass = LockClass::new("posix_timer");

/// `flags` of `timer_settime`: a point on the clock, not a time from now.
pub const ABSTIME: u32 = 1;
/// The most that an overrun count can say: Linux's `DELAYTIMER_MAX`.
const OVERRUN_MAX: i64 = i32::MAX as i64;

/// What a timer counts on.
#[derive(Clone)]
pub enum TimerClock {
    Wall(Clock),
    /// Processor time of a process or of one thread.
    Process(Weak<Process>),
    Thread(Weak<frame::task::Task>),
}

impl TimerClock {
    fn now_ns(&self) -> Option<u64> {
        let u = match self {
            TimerClock::Wall(c) => return Some(c.now_ns()),
            TimerClock::Process(p) => Usage::of_threads(&*p.upgrade()?),
            TimerClock::Thread(t) => {
                let t = t.upgrade()?;
                Usage::of_thread(&t, data(&t)?)
            }
        };
        Some(u.user_ns + u.system_ns)
    }
    /// The monotonic time at which to look whether the clock shows `at`.
    fn look_at(&self, at: u64) -> u64 {
        let (left, runners) = match self {
            TimerClock::Wall(c) => return c.to_monotonic(at),
            TimerClock::Process(p) => {
                let n = p.upgrade().map_or(1, |p| p.sig.lock().threads.len());
                (self.now_ns(), n.clamp(1, frame::cpu::possible()))
            }
            TimerClock::Thread(_) => (self.now_ns(), 1),
        };
        let left = left.map_or(0, |now| at.saturating_sub(now));
        now_ns().saturating_add((left / runners as u64).max(crate::itimer::MIN_LOOK_NS))
    }
}

/// How an expiry is told.
#[derive(Clone)]
pub enum Notify {
    Nothing,
    Process,
    Thread(Weak<frame::task::Task>),
}

/// What a program asks for: `struct sigevent`.
pub struct Event {
    pub notify: Notify,
    /// `sigev_notify` as it was given.
    pub kind: u32,
    pub signo: Signo,
    /// `sigev_value`; `None`: the timer's number.
    pub value: Option<u64>,
    /// Whom `/proc/PID/timers` names.
    pub pid: u32,
}

struct State {
    clock: TimerClock,
    at: Periodic,
    /// Its signal has been sent and not been taken.
    resting: bool,
    /// Which setting this is.
    setting: u32,
    /// Periods that passed beyond the one of the next signal, and what the last signal said.
    overrun: i64,
    last_overrun: i64,
}

/// A timer.
pub struct PosixTimer {
    id: u32,
    clock_id: i32,
    event: Event,
    owner: Weak<Process>,
    state: SpinLockIrq<State>,
    timer: Once<Timer>,
    on_set: Once<Arc<WaitEntry>>,
}

/// A process's timers.
pub struct PosixTimers {
    table: SpinLock<Table>,
}
struct Table {
    /// Sorted by number; `None` where one is being made.
    timers: Vec<(u32, Option<Arc<PosixTimer>>)>,
    next: u32,
}

impl Table {
    fn place(&self, id: u32) -> core::result::Result<usize, usize> {
        self.timers.binary_search_by_key(&id, |t| t.0)
    }
    /// Keeps the next free number. EAGAIN beyond `limit` timers, or without memory.
    fn reserve(&mut self, limit: u64) -> Result<u32> {
        if self.timers.len() as u64 >= limit || self.timers.try_reserve(1).is_err() {
            return Err(Errno::EAGAIN);
        }
        loop {
            let id = self.next;
            self.next = (id + 1) & i32::MAX as u32;
            if let Err(at) = self.place(id) {
                self.timers.insert(at, (id, None));
                return Ok(id);
            }
        }
    }
    fn remove(&mut self, id: u32) -> Option<Arc<PosixTimer>> {
        let at = self.place(id).ok()?;
        // One that is being made is its maker's.
        self.timers[at].1.as_ref()?;
        self.timers.remove(at).1
    }
}

impl PosixTimers {
    pub(crate) const fn new() -> PosixTimers {
        PosixTimers { table: SpinLock::new(&TABLE, Table { timers: Vec::new(), next: 0 }) }
    }
    fn get(&self, id: u32) -> Option<Arc<PosixTimer>> {
        let t = self.table.lock();
        t.timers[t.place(id).ok()?].1.clone()
    }
    /// The first timer with this number or a higher one.
    fn first_from(&self, id: u32) -> Option<Arc<PosixTimer>> {
        let t = self.table.lock();
        let at = t.place(id).unwrap_or_else(|at| at);
        t.timers[at..].iter().find_map(|t| t.1.clone())
    }
    /// Deletes all: at exec, and when the process ends.
    pub(crate) fn delete_all(&self) {
        while let Some((_, t)) = { self.table.lock().timers.pop() } {
            t.iter().for_each(|t| t.retire());
        }
    }
}

impl PosixTimer {
    fn is_silent(&self) -> bool {
        matches!(self.event.notify, Notify::Nothing)
    }
    /// Sets the hardware timer for what the state says, or `not_before`. Under the state's lock.
    fn arm(&self, s: &State, not_before: u64) {
        let Some(timer) = self.timer.get() else { return };
        if s.at.expires != 0 && !s.resting && !self.is_silent() {
            timer.arm(s.clock.look_at(s.at.expires).max(not_before));
        } else {
            timer.cancel();
        }
    }

    /// The hardware timer's interrupt.
    fn fire(&self) {
        let info = {
            let mut s = self.state.lock();
            let Some(now) = s.clock.now_ns() else { return };
            if s.resting || !s.at.is_due(now) {
                // The setting has changed, or processor time is not used up yet.
                return self.arm(&s, 0);
            }
            s.resting = true;
            s.overrun = -1;
            self.info(s.setting)
        };
        let Some(owner) = self.owner.upgrade() else { return };
        let taken = match &self.event.notify {
            Notify::Nothing => false,
            Notify::Process => send::send_timer(&owner, None, info),
            Notify::Thread(t) => t.upgrade().is_some_and(|t| send::send_timer(&owner, Some(&t), info)),
        };
        if !taken {
            self.nobody_takes_it();
        }
    }
    fn info(&self, setting: u32) -> SigInfo {
        let value = self.event.value.unwrap_or(u64::from(self.id));
        let fields = Fields::Timer { id: self.id, overrun: 0, value, setting };
        SigInfo { signo: self.event.signo, errno: 0, code: SI_TIMER, fields }
    }
    /// The signal is ignored: the timer goes on by itself.
    fn nobody_takes_it(&self) {
        let mut s = self.state.lock();
        if !core::mem::take(&mut s.resting) {
            return;
        }
        if let Some(now) = s.clock.now_ns() {
            s.overrun += s.at.forward(now) as i64;
        }
        self.arm(&s, now_ns().saturating_add(JIFFY_NS));
    }
    /// A program takes the signal of `setting`: the timer goes on. The overrun that the signal tells.
    fn taken(&self, setting: u32) -> u32 {
        let mut s = self.state.lock();
        if s.setting != setting || !core::mem::take(&mut s.resting) {
            return 0;
        }
        if let Some(now) = s.clock.now_ns() {
            let periods = s.at.forward(now).min(OVERRUN_MAX as u64) as i64;
            s.last_overrun = (s.overrun + periods).min(OVERRUN_MAX);
        }
        s.overrun = -1;
        self.arm(&s, 0);
        s.last_overrun.max(0) as u32
    }

    /// Time left and period. A timer that is due but has not been served yet shows the least there is.
    fn left(&self, s: &State) -> (u64, u64) {
        let mut at = s.at;
        let Some(now) = s.clock.now_ns().filter(|_| at.expires != 0) else { return (0, at.interval) };
        if at.is_due(now) && (s.resting || self.is_silent()) && at.interval != 0 {
            at.forward(now);
        }
        let is_over = at.interval == 0 && (s.resting || self.is_silent());
        match at.left(now) {
            0 if is_over => (0, at.interval),
            n => (n.max(1), at.interval),
        }
    }

    /// No interrupt and no setting of the clock reaches it any more.
    fn retire(&self) {
        if let Some(e) = self.on_set.get() {
            CLOCK_WAS_SET.remove(e);
        }
        {
            let mut s = self.state.lock();
            s.at = Periodic::default();
            s.setting = s.setting.wrapping_add(1);
        }
        if let Some(t) = self.timer.get() {
            t.cancel_wait();
        }
    }
    fn connect(self: &Arc<Self>) -> Result<()> {
        let weak = Arc::downgrade(self);
        let timer = Timer::new(move |_| weak.upgrade().iter().for_each(|t| t.fire()));
        let timer = timer.map_err(|_| Errno::EAGAIN)?;
        self.timer.call_once(|| timer);
        if matches!(self.clock_id as u32, raw::CLOCK_REALTIME | raw::CLOCK_REALTIME_ALARM | raw::CLOCK_TAI) {
            let weak = Arc::downgrade(self);
            let moved = move |_| weak.upgrade().iter().for_each(|t| t.arm(&t.state.lock(), 0));
            let e = self.on_set.call_once(|| WaitEntry::new_callback(Box::new(moved)));
            CLOCK_WAS_SET.add(e);
        }
        Ok(())
    }
}

/// A timer's signal is being taken: counts what passed meanwhile, tells it in the signal, and sets the timer again. Called
/// with no lock held by whoever took `info` off the queue of the running process.
pub(crate) fn delivered(p: &Process, info: &mut SigInfo) {
    let Fields::Timer { id, overrun, setting, .. } = &mut info.fields else { return };
    if let Some(t) = p.posix_timers.get(*id) {
        *overrun = t.taken(*setting);
    }
}

/// The clocks that timers can be made on, by the numbers of the interface.
fn clock(id: i32) -> Result<TimerClock> {
    let me = current();
    let privileged = || if me.cred().has_cap(cap::WAKE_ALARM) { Ok(()) } else { Err(Errno::EPERM) };
    let own = || TimerClock::Process(Arc::downgrade(&me.process));
    Ok(match id as u32 {
        raw::CLOCK_REALTIME | raw::CLOCK_TAI => TimerClock::Wall(Clock::Realtime),
        raw::CLOCK_MONOTONIC => TimerClock::Wall(Clock::Monotonic),
        raw::CLOCK_BOOTTIME => TimerClock::Wall(Clock::Boottime),
        raw::CLOCK_REALTIME_ALARM => privileged().map(|()| TimerClock::Wall(Clock::Realtime))?,
        raw::CLOCK_BOOTTIME_ALARM => privileged().map(|()| TimerClock::Wall(Clock::Boottime))?,
        raw::CLOCK_PROCESS_CPUTIME_ID => own(),
        raw::CLOCK_THREAD_CPUTIME_ID => TimerClock::Thread(Arc::downgrade(&me.task_ref())),
        raw::CLOCK_MONOTONIC_RAW | raw::CLOCK_REALTIME_COARSE | raw::CLOCK_MONOTONIC_COARSE => {
            return Err(Errno::EOPNOTSUPP);
        }
        _ if id < 0 && id & 3 != 3 => cpu_clock(!(id >> 3) as u32, id & 4 != 0)?,
        _ => return Err(Errno::EINVAL),
    })
}

/// The processor clock of another process, or of a thread of this one.
fn cpu_clock(tid: u32, of_thread: bool) -> Result<TimerClock> {
    let me = current();
    let task = if tid == 0 { me.task_ref() } else { sched::pid::find(tid).ok_or(Errno::EINVAL)? };
    let d = data(&task).ok_or(Errno::EINVAL)?;
    if !of_thread {
        return Ok(TimerClock::Process(Arc::downgrade(&d.process)));
    }
    let is_mine = Arc::ptr_eq(&d.process, &me.process);
    is_mine.then(|| TimerClock::Thread(Arc::downgrade(&task))).ok_or(Errno::EINVAL)
}

/// What a program asks for in a `struct sigevent`. EINVAL.
pub fn event(value: u64, signo: i32, kind: u32, tid: u32) -> Result<Event> {
    let me = current();
    let valid = || u32::try_from(signo).ok().filter(|s| (1..=64).contains(s)).ok_or(Errno::EINVAL);
    let (notify, signo, pid) = match kind {
        raw::SIGEV_NONE => (Notify::Nothing, signo as u32, me.process.pid()),
        // Threads are the C library's: the kernel sends a signal.
        raw::SIGEV_SIGNAL | raw::SIGEV_THREAD => (Notify::Process, valid()?, me.process.pid()),
        raw::SIGEV_THREAD_ID => {
            let t = sched::pid::find(tid).ok_or(Errno::EINVAL)?;
            let mine = data(&t).is_some_and(|d| Arc::ptr_eq(&d.process, &me.process));
            if !mine {
                return Err(Errno::EINVAL);
            }
            (Notify::Thread(Arc::downgrade(&t)), valid()?, tid)
        }
        _ => return Err(Errno::EINVAL),
    };
    Ok(Event { notify, kind, signo, value: Some(value), pid })
}

/// What a timer without a `struct sigevent` does.
pub fn default_event() -> Event {
    let pid = current().process.pid();
    Event { notify: Notify::Process, kind: raw::SIGEV_SIGNAL, signo: ALRM, value: None, pid }
}

/// timer_create(2): its number. EINVAL, EOPNOTSUPP, EPERM, EAGAIN.
pub fn create(clock_id: i32, event: impl FnOnce() -> Result<Event>) -> Result<u32> {
    let clock = clock(clock_id)?;
    let me = current();
    let p = &me.process;
    let limit = p.limit(rlimit::SIGPENDING);
    let queued = p.sig.lock().shared.queued() as u64;
    let event = event()?;
    let state =
        State { clock, at: Periodic::default(), resting: false, setting: 0, overrun: -1, last_overrun: 0 };
    let id = p.posix_timers.table.lock().reserve(limit.saturating_sub(queued))?;
    let made = make(id, clock_id, event, state);
    let mut t = p.posix_timers.table.lock();
    if let Ok(at) = t.place(id) {
        match made {
            Ok(timer) => t.timers[at].1 = Some(timer),
            Err(e) => {
                t.timers.remove(at);
                return Err(e);
            }
        }
    }
    Ok(id)
}

fn make(id: u32, clock_id: i32, event: Event, state: State) -> Result<Arc<PosixTimer>> {
    let timer = frame::heap::try_arc(PosixTimer {
        id,
        clock_id,
        event,
        owner: Arc::downgrade(&current().process),
        state: SpinLockIrq::new(&STATE, state),
        timer: Once::new(),
        on_set: Once::new(),
    })
    .ok_or(Errno::EAGAIN)?;
    timer.connect()?;
    Ok(timer)
}

fn find(id: u32) -> Result<Arc<PosixTimer>> {
    current().process.posix_timers.get(id).ok_or(Errno::EINVAL)
}

/// timer_settime(2): the old time left and period. A value of 0 switches the timer off.
pub fn set(id: u32, flags: u32, value_ns: u64, interval_ns: u64) -> Result<(u64, u64)> {
    let t = find(id)?;
    let absolute = flags & ABSTIME != 0;
    let mut s = t.state.lock();
    let old = t.left(&s);
    if let TimerClock::Wall(c) = &mut s.clock {
        // A time from now is not affected by setting the clock.
        *c = match t.clock_id as u32 {
            raw::CLOCK_BOOTTIME | raw::CLOCK_BOOTTIME_ALARM => Clock::Boottime,
            raw::CLOCK_MONOTONIC => Clock::Monotonic,
            _ if absolute => Clock::Realtime,
            _ => Clock::Monotonic,
        };
    }
    let base = if absolute { 0 } else { s.clock.now_ns().unwrap_or(0) };
    let expires = if value_ns == 0 { 0 } else { base.saturating_add(value_ns).max(1) };
    s.at = Periodic { expires, interval: interval_ns };
    s.setting = s.setting.wrapping_add(1);
    (s.resting, s.overrun, s.last_overrun) = (false, -1, 0);
    t.arm(&s, 0);
    Ok(old)
}

/// timer_gettime(2): time left and period.
pub fn get(id: u32) -> Result<(u64, u64)> {
    let t = find(id)?;
    let s = t.state.lock();
    Ok(t.left(&s))
}

/// timer_getoverrun(2): what the last signal told.
pub fn overrun(id: u32) -> Result<u32> {
    let t = find(id)?;
    let n = t.state.lock().last_overrun;
    Ok(n.max(0) as u32)
}

/// timer_delete(2). A signal that was sent stays.
pub fn delete(id: u32) -> Result<()> {
    let gone = current().process.posix_timers.table.lock().remove(id);
    gone.ok_or(Errno::EINVAL)?.retire();
    Ok(())
}

/// `/proc/PID/timers`.
pub(crate) fn show(t: &TaskRef, o: &mut Out) -> Result<()> {
    let Some(d) = data(t) else { return Ok(()) };
    let timers = &d.process.posix_timers;
    let mut from = 0;
    // One by one, since the table cannot be held while text is made.
    while let Some(t) = timers.first_from(from) {
        from = t.id + 1;
        let e = &t.event;
        let how = match e.kind & !raw::SIGEV_THREAD_ID {
            raw::SIGEV_NONE => "none",
            raw::SIGEV_THREAD => "thread",
            _ => "signal",
        };
        let whom = if e.kind & raw::SIGEV_THREAD_ID != 0 { "tid" } else { "pid" };
        writeln!(o, "ID: {}", t.id)?;
        writeln!(o, "signal: {}/{:016x}", e.signo, e.value.unwrap_or(u64::from(t.id)))?;
        writeln!(o, "notify: {how}/{whom}.{}", e.pid)?;
        writeln!(o, "ClockID: {}", t.clock_id)?;
    }
    Ok(())
}
