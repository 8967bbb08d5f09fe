//! Clocks, sleeping, interval timers.

use base::{Errno, Result, cred::cap};
use frame::{task::State, user::Regs};
use linux_raw_sys::general as raw;
use process::{current, itimer, posix_timer, process::Restart, tree::TREE, usage::Usage};
use sched::time::{boottime_ns, now_ns, realtime_ns, set_realtime_ns};

use vfs::timerfd;

use crate::{
    args::{
        Args, Ret, deadline, get, put, put_opt, split_ns, split_us, timespec, timeval_ns, timeval_words,
        to_ns,
    },
    files::install,
};

/// The kinds of clock there are, by what can be done with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Clock {
    Realtime,
    /// Nanoseconds since boot; the machine cannot be suspended, so `BOOTTIME` is the same.
    Monotonic,
    /// As `Monotonic`, but nobody can sleep on it.
    Raw,
    /// The clocks that on Linux move with the tick. Here they are as fine as the others and only claim to be coarse.
    RealtimeCoarse,
    MonotonicCoarse,
    /// Processor time of a process (`true`) or a thread; 0: the caller's.
    Cpu {
        tid: u32,
        whole: bool,
    },
}

/// Negative numbers name the processor clock of a task: its number inverted, a bit for "thread", two for what is counted.
fn clock(id: i32) -> Result<Clock> {
    Ok(match id as u32 {
        raw::CLOCK_REALTIME | raw::CLOCK_TAI | raw::CLOCK_REALTIME_ALARM => Clock::Realtime,
        raw::CLOCK_MONOTONIC | raw::CLOCK_BOOTTIME | raw::CLOCK_BOOTTIME_ALARM => Clock::Monotonic,
        raw::CLOCK_MONOTONIC_RAW => Clock::Raw,
        raw::CLOCK_REALTIME_COARSE => Clock::RealtimeCoarse,
        raw::CLOCK_MONOTONIC_COARSE => Clock::MonotonicCoarse,
        raw::CLOCK_PROCESS_CPUTIME_ID => Clock::Cpu { tid: 0, whole: true },
        raw::CLOCK_THREAD_CPUTIME_ID => Clock::Cpu { tid: 0, whole: false },
        // The lowest two bits: user and system, user, all as the scheduler counts it; 3 is a device's clock.
        _ if id < 0 && id & 3 != 3 => Clock::Cpu { tid: !(id >> 3) as u32, whole: id & 4 == 0 },
        _ => return Err(Errno::EINVAL),
    })
}

fn cpu_time(tid: u32, whole: bool) -> Result<u64> {
    let me = current();
    let task = if tid == 0 { me.task_ref() } else { sched::pid::find(tid).ok_or(Errno::EINVAL)? };
    let d = process::data(&task).ok_or(Errno::EINVAL)?;
    let u = if whole { Usage::of_threads(&d.process) } else { Usage::of_thread(&task, d) };
    Ok(u.user_ns + u.system_ns)
}

fn read(c: Clock) -> Result<u64> {
    match c {
        Clock::Realtime | Clock::RealtimeCoarse => Ok(realtime_ns()),
        Clock::Monotonic | Clock::Raw | Clock::MonotonicCoarse => Ok(now_ns()),
        Clock::Cpu { tid, whole } => cpu_time(tid, whole),
    }
}

pub(crate) fn clock_gettime(r: &mut Regs) -> Ret {
    put(r.size::<1>(), &split_ns(read(clock(r.int::<0>())?)?))?;
    Ok(0)
}
pub(crate) fn clock_getres(r: &mut Regs) -> Ret {
    let ns = match clock(r.int::<0>())? {
        Clock::RealtimeCoarse | Clock::MonotonicCoarse => sched::JIFFY_NS,
        c @ Clock::Cpu { .. } => {
            read(c)?;
            1
        }
        _ => 1,
    };
    put_opt(r.ptr::<1>(), &split_ns(ns))?;
    Ok(0)
}

fn set_wall_clock(ns: u64) -> Ret {
    if !current().cred().has_cap(cap::SYS_TIME) {
        return Err(Errno::EPERM);
    }
    // Linux: the time since boot must not be more than what the clock shows.
    if ns < boottime_ns() {
        return Err(Errno::EINVAL);
    }
    set_realtime_ns(ns);
    Ok(0)
}
pub(crate) fn clock_settime(r: &mut Regs) -> Ret {
    if r.uint::<0>() != raw::CLOCK_REALTIME {
        return Err(Errno::EINVAL);
    }
    set_wall_clock(to_ns(timespec(r.size::<1>())?))
}
pub(crate) fn gettimeofday(r: &mut Regs) -> Ret {
    put_opt(r.ptr::<0>(), &split_us(realtime_ns()))?;
    // `struct timezone` is history: always Greenwich.
    put_opt(r.ptr::<1>(), &[0u32; 2])?;
    Ok(0)
}
pub(crate) fn settimeofday(r: &mut Regs) -> Ret {
    let new = r.ptr::<0>().map(timeval_ns).transpose()?;
    if let Some(at) = r.ptr::<1>() {
        // The zone is checked and forgotten.
        let [west, _] = get::<[i32; 2]>(at)?;
        if !(-15 * 60..=15 * 60).contains(&west) {
            return Err(Errno::EINVAL);
        }
        if !current().cred().has_cap(cap::SYS_TIME) {
            return Err(Errno::EPERM);
        }
    }
    new.map_or(Ok(0), set_wall_clock)
}
pub(crate) fn time(r: &mut Regs) -> Ret {
    let [sec, _] = split_ns(realtime_ns());
    put_opt(r.ptr::<0>(), &sec)?;
    Ok(sec as usize)
}

/// Nanoseconds of one unit of `times`: `USER_HZ` is 100.
const CLOCK_TICK_NS: u64 = 10_000_000;

pub(crate) fn times(r: &mut Regs) -> Ret {
    if let Some(at) = r.ptr::<0>() {
        let me = current();
        let own = Usage::of_threads(&me.process);
        let children = TREE.lock().get(me.process.pid()).map_or(Usage::default(), |n| n.waited);
        let t =
            [own.user_ns, own.system_ns, children.user_ns, children.system_ns].map(|ns| ns / CLOCK_TICK_NS);
        put(at, &t)?;
    }
    Ok((now_ns() / CLOCK_TICK_NS) as usize)
}

/// Sleeps until a point in monotonic time. After a signal it goes on by `restart_syscall`; a handler ends it with `EINTR`, and `rem` says
/// what was left.
pub(crate) fn sleep_until(deadline_ns: u64, rem: Option<usize>) -> Ret {
    if sched::time::sleep_until(deadline_ns, State::INTERRUPTIBLE).is_ok() {
        return Ok(0);
    }
    let left = deadline_ns.saturating_sub(now_ns());
    if left == 0 {
        return Ok(0);
    }
    put_opt(rem, &split_ns(left))?;
    *current().restart.lock() = Restart::Sleep { deadline_ns, rmtp: rem.unwrap_or(0) as u64 };
    Err(Errno::ERESTART_RESTARTBLOCK)
}
pub(crate) fn nanosleep(r: &mut Regs) -> Ret {
    let t = timespec(r.size::<0>())?;
    sleep_until(deadline(to_ns(t)), r.ptr::<1>())
}
pub(crate) fn clock_nanosleep(r: &mut Regs) -> Ret {
    let c = clock(r.int::<0>())?;
    let flags = r.uint::<1>();
    match c {
        Clock::Realtime | Clock::Monotonic => {}
        // One's own thread uses nothing while it sleeps.
        Clock::Cpu { tid: 0, whole: false } => return Err(Errno::EINVAL),
        Clock::Cpu { .. } => return sleep_on_cpu_time(r, c, flags & raw::TIMER_ABSTIME != 0),
        _ => return Err(Errno::EOPNOTSUPP),
    }
    let ns = to_ns(timespec(r.size::<2>())?);
    if flags & raw::TIMER_ABSTIME == 0 {
        return sleep_until(deadline(ns), r.ptr::<3>());
    }
    let slept = match c {
        Clock::Realtime => sched::time::sleep_until_realtime(ns, State::INTERRUPTIBLE),
        _ => sched::time::sleep_until(ns, State::INTERRUPTIBLE),
    };
    slept.map(|()| 0).map_err(|_| Errno::ERESTARTNOHAND)
}

/// Sleeps until other threads have used the time. It has no interrupt: looks as often as it could be used up, and no more
/// often than Linux's tick.
fn sleep_on_cpu_time(r: &Regs, c: Clock, absolute: bool) -> Ret {
    let ns = to_ns(timespec(r.size::<2>())?);
    let begin = read(c)?;
    let end = if absolute { ns } else { begin.saturating_add(ns) };
    loop {
        let left = end.saturating_sub(read(c)?);
        if left == 0 {
            return Ok(0);
        }
        let look = (left / frame::cpu::possible() as u64).max(sched::JIFFY_NS);
        if sched::time::sleep_until(now_ns().saturating_add(look), State::INTERRUPTIBLE).is_ok() {
            continue;
        }
        if absolute {
            return Err(Errno::ERESTARTNOHAND);
        }
        put_opt(r.ptr::<3>(), &split_ns(end.saturating_sub(read(c)?)))?;
        return Err(Errno::EINTR);
    }
}

/// A point on a clock in monotonic time, as the clocks stand now.
fn to_monotonic(c: Clock, ns: u64) -> u64 {
    match c {
        Clock::Realtime => ns.saturating_sub(realtime_ns()).saturating_add(now_ns()),
        _ => ns,
    }
}
/// As [`to_monotonic`], of the real-time clock.
pub(crate) fn realtime_to_monotonic(ns: u64) -> u64 {
    to_monotonic(Clock::Realtime, ns)
}

/// `struct itimerval`: interval, value.
fn itimerval((left, interval): (u64, u64)) -> [u64; 4] {
    let ([a, b], [c, d]) = (split_us(interval), split_us(left));
    [a, b, c, d]
}
pub(crate) fn getitimer(r: &mut Regs) -> Ret {
    put(r.size::<1>(), &itimerval(itimer::get(r.uint::<0>())?))?;
    Ok(0)
}
pub(crate) fn setitimer(r: &mut Regs) -> Ret {
    // A null pointer switches the timer off, as it always has on Linux.
    let (mut value, mut interval) = (0, 0);
    if let Some(at) = r.ptr::<1>() {
        let [is, iu, vs, vu] = get::<[i64; 4]>(at)?;
        (value, interval) = (timeval_words(vs, vu)?, timeval_words(is, iu)?);
    }
    let old = itimer::set(r.uint::<0>(), value, interval)?;
    put_opt(r.ptr::<2>(), &itimerval(old))?;
    Ok(0)
}
pub(crate) fn alarm(r: &mut Regs) -> Ret {
    Ok(itimer::alarm(r.uint::<0>())? as usize)
}

/// `struct itimerspec`: period, then value, as (value, period) in nanoseconds. EINVAL, EFAULT.
fn itimerspec(at: usize) -> Result<(u64, u64)> {
    let interval = to_ns(timespec(at)?);
    Ok((to_ns(timespec(at.wrapping_add(16))?), interval))
}
fn put_itimerspec(at: Option<usize>, (left, interval): (u64, u64)) -> Result<()> {
    let ([a, b], [c, d]) = (split_ns(interval), split_ns(left));
    put_opt(at, &[a, b, c, d])
}

/// `struct sigevent`, as far as it concerns timers: value, signal, kind, thread.
fn sigevent(at: Option<usize>) -> Result<posix_timer::Event> {
    let Some(at) = at else { return Ok(posix_timer::default_event()) };
    let value = get::<u64>(at)?;
    let [signo, kind, tid] = get::<[i32; 3]>(at.wrapping_add(8))?;
    posix_timer::event(value, signo, kind as u32, tid as u32)
}
pub(crate) fn timer_create(r: &mut Regs) -> Ret {
    let (clock, at) = (r.int::<0>(), r.ptr::<1>());
    let id = posix_timer::create(clock, || sigevent(at))?;
    if let Err(e) = put(r.size::<2>(), &id) {
        posix_timer::delete(id)?;
        return Err(e);
    }
    Ok(0)
}
pub(crate) fn timer_settime(r: &mut Regs) -> Ret {
    let (value, interval) = itimerspec(r.ptr::<2>().ok_or(Errno::EINVAL)?)?;
    let old = posix_timer::set(r.uint::<0>(), r.uint::<1>(), value, interval)?;
    put_itimerspec(r.ptr::<3>(), old)?;
    Ok(0)
}
pub(crate) fn timer_gettime(r: &mut Regs) -> Ret {
    put_itimerspec(Some(r.size::<1>()), posix_timer::get(r.uint::<0>())?)?;
    Ok(0)
}
pub(crate) fn timer_getoverrun(r: &mut Regs) -> Ret {
    Ok(posix_timer::overrun(r.uint::<0>())? as usize)
}
pub(crate) fn timer_delete(r: &mut Regs) -> Ret {
    posix_timer::delete(r.uint::<0>()).map(|()| 0)
}

pub(crate) fn timerfd_create(r: &mut Regs) -> Ret {
    let flags = r.uint::<1>();
    let f = timerfd::create(r.uint::<0>(), flags, &current().cred())?;
    install(f, flags & raw::O_CLOEXEC != 0)
}
/// EBADF; EINVAL for another kind of file.
fn on_timerfd<T>(fd: i32, f: impl FnOnce(&timerfd::TimerFd) -> Result<T>) -> Result<T> {
    let file = current().file(fd)?;
    f(file.ops_as::<timerfd::TimerFd>().ok_or(Errno::EINVAL)?)
}
pub(crate) fn timerfd_settime(r: &mut Regs) -> Ret {
    let new = itimerspec(r.size::<2>())?;
    let flags = r.uint::<1>();
    let old = on_timerfd(r.int::<0>(), |t| t.set(flags, new))?;
    put_itimerspec(r.ptr::<3>(), old)?;
    Ok(0)
}
pub(crate) fn timerfd_gettime(r: &mut Regs) -> Ret {
    let now = on_timerfd(r.int::<0>(), |t| Ok(t.get()))?;
    put_itimerspec(Some(r.size::<1>()), now)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_told_apart() {
        assert_eq!(clock(7), Ok(Clock::Monotonic));
        assert_eq!(clock(10), Err(Errno::EINVAL));
        assert_eq!(clock(12), Err(Errno::EINVAL));
        // clock_getcpuclockid(42): ~42 << 3 | 2.
        assert_eq!(clock(!42 << 3 | 2), Ok(Clock::Cpu { tid: 42, whole: true }));
        assert_eq!(clock(!42 << 3 | 6), Ok(Clock::Cpu { tid: 42, whole: false }));
        assert_eq!(clock(!3 << 3 | 3), Err(Errno::EINVAL));
    }
    #[test]
    fn intervals_come_first() {
        assert_eq!(itimerval((1_500_000_000, 2_000_000_000)), [2, 0, 1, 500_000]);
        assert_eq!(size_of::<raw::itimerval>(), 32);
    }
}
