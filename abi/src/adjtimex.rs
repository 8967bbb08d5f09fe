//! adjtimex(2) and clock_adjtime(2): what a time daemon asks and tells.
//!
//! The clock can be read with its state, and stepped (`ADJ_SETOFFSET`); status, error bounds, time constant and the offset of TAI are
//! kept for whoever asks next. The clock's rate cannot be changed: frequency, tick and slewing are EINVAL.

use base::{Errno, Result, cred::cap};
use frame::{
    sync::{LockClass, Mutex},
    user::Regs,
};
use linux_raw_sys::general as raw;
use process::current;
use sched::time::{realtime_ns, set_realtime_ns};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::args::{Args, NS_PER_SEC, Ret, get, put};

/// `struct timex`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Timex {
    modes: u32,
    _pad1: u32,
    offset: i64,
    freq: i64,
    maxerror: i64,
    esterror: i64,
    status: i32,
    _pad2: u32,
    constant: i64,
    precision: i64,
    tolerance: i64,
    sec: i64,
    /// Microseconds, or nanoseconds with `STA_NANO`.
    sub: i64,
    tick: i64,
    ppsfreq: i64,
    jitter: i64,
    shift: i32,
    _pad3: u32,
    stabil: i64,
    jitcnt: i64,
    calcnt: i64,
    errcnt: i64,
    stbcnt: i64,
    tai: i32,
    _pad4: [u32; 11],
}

// `ADJ_*` and `STA_*` (linux/timex.h).
const MAXERROR: u32 = 0x4;
const ESTERROR: u32 = 0x8;
const STATUS: u32 = 0x10;
const TIMECONST: u32 = 0x20;
const TAI: u32 = 0x80;
const SETOFFSET: u32 = 0x100;
const MICRO: u32 = 0x1000;
const NANO: u32 = 0x2000;
/// What changes the clock's rate: offset, frequency, tick, and adjtime's way of asking.
const RATE: u32 = 0x1 | 0x2 | 0x4000 | 0x8000;
/// Asks what adjtime(3) has left to do, and changes nothing.
const SS_READ: u32 = 0xa001;
const STA_UNSYNC: i32 = 0x40;
const STA_NANO: i32 = 0x2000;
/// Bits of the status that the kernel sets and no program.
const STA_READ_ONLY: i32 = 0xff00;
/// Results: the clock is right; it is not known to be.
const TIME_OK: usize = 0;
const TIME_ERROR: usize = 5;

/// What programs have told.
struct Told {
    status: i32,
    maxerror: i64,
    esterror: i64,
    constant: i64,
    tai: i32,
}
static CLASS: LockClass = LockClass::new("adjtimex");
/// At boot nobody vouches for the clock: 16 s off at most, Linux's `NTP_PHASE_LIMIT`.
static TOLD: Mutex<Told> = Mutex::new(
    &CLASS,
    Told { status: STA_UNSYNC, maxerror: 16_000_000, esterror: 16_000_000, constant: 2, tai: 0 },
);

/// Does what `t.modes` says and fills in the rest.
fn adjust(t: &mut Timex) -> Ret {
    let modes = if t.modes == SS_READ { 0 } else { t.modes };
    if modes != 0 && !current().cred().has_cap(cap::SYS_TIME) {
        return Err(Errno::EPERM);
    }
    if modes & RATE != 0 {
        return Err(Errno::EINVAL);
    }
    let mut guard = TOLD.lock();
    let s = &mut *guard;
    if modes & SETOFFSET != 0 {
        step(t, modes & NANO != 0)?;
    }
    if modes & STATUS != 0 {
        s.status = s.status & STA_READ_ONLY | t.status & !STA_READ_ONLY;
    }
    match modes & (NANO | MICRO) {
        NANO => s.status |= STA_NANO,
        MICRO => s.status &= !STA_NANO,
        _ => {}
    }
    for (mode, told, new) in
        [(MAXERROR, &mut s.maxerror, t.maxerror), (ESTERROR, &mut s.esterror, t.esterror)]
    {
        if modes & mode != 0 {
            *told = new.clamp(0, 16_000_000);
        }
    }
    if modes & TIMECONST != 0 {
        // Linux: without STA_NANO the unit is 16 times coarser.
        let shift = if s.status & STA_NANO == 0 { 4 } else { 0 };
        s.constant = (t.constant.clamp(0, 10) + shift).clamp(0, 10);
    }
    if modes & TAI != 0 && (0..=100_000).contains(&t.constant) {
        s.tai = t.constant as i32;
    }
    let now = realtime_ns();
    let unit = if s.status & STA_NANO != 0 { 1 } else { 1000 };
    *t = Timex {
        modes: t.modes,
        status: s.status,
        maxerror: s.maxerror,
        esterror: s.esterror,
        constant: s.constant,
        tai: s.tai,
        precision: 1,
        tolerance: 500 << 16,
        tick: 10_000,
        sec: (now / NS_PER_SEC) as i64,
        sub: (now % NS_PER_SEC / unit) as i64,
        ..<Timex as zerocopy::FromZeros>::new_zeroed()
    };
    Ok(if s.status & STA_UNSYNC != 0 { TIME_ERROR } else { TIME_OK })
}

/// `ADJ_SETOFFSET`: moves the clock by a time that may be negative (its fraction never is).
fn step(t: &Timex, nano: bool) -> Result<()> {
    let unit = if nano { 1 } else { 1000 };
    if !(0..NS_PER_SEC as i64 / unit).contains(&t.sub) {
        return Err(Errno::EINVAL);
    }
    let by = t.sec.checked_mul(NS_PER_SEC as i64).and_then(|s| s.checked_add(t.sub * unit));
    let new = by.and_then(|b| realtime_ns().checked_add_signed(b)).ok_or(Errno::EINVAL)?;
    if new < sched::time::boottime_ns() {
        return Err(Errno::EINVAL);
    }
    set_realtime_ns(new);
    Ok(())
}

fn at(at: usize) -> Ret {
    let mut t: Timex = get(at)?;
    let r = adjust(&mut t)?;
    put(at, &t)?;
    Ok(r)
}
pub(crate) fn adjtimex(r: &mut Regs) -> Ret {
    at(r.size::<0>())
}
/// Only the real-time clock can be adjusted.
pub(crate) fn clock_adjtime(r: &mut Regs) -> Ret {
    match r.uint::<0>() {
        raw::CLOCK_REALTIME => at(r.size::<1>()),
        raw::CLOCK_MONOTONIC..=raw::CLOCK_TAI => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timex_has_linux_s_size() {
        assert_eq!(size_of::<Timex>(), 208);
        assert_eq!(core::mem::offset_of!(Timex, tai), 160);
    }
}
