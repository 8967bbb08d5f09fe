//! The clock (the time-stamp counter), and how fast it and the local APIC's timer run.
//!
//! The TSC is taken to run at one rate and in step on all processors, as hypervisors provide it. Its rate comes from CPUID, or
//! is measured against channel 0 of the PIT, as is the APIC timer's. On a shared host any two reads can lie milliseconds
//! apart, so each end of a measuring window is a PIT read bracketed by two TSC reads, and the window with the tightest
//! brackets counts.

use super::{
    apic, cpu,
    insn::{port_read8, port_write8, rdtsc, without_interrupts},
};
use crate::atomic::{AtomicU64, Ordering};

const PIT_HZ: u64 = 1_193_182;
const PIT_DATA: u16 = 0x40;
const PIT_COMMAND: u16 = 0x43;

/// Rates are read often and written twice at boot. The factors are 32.32 fixed-point.
static TSC_BASE: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds per TSC tick; 1 GHz until measured.
static TSC_TO_NS: AtomicU64 = AtomicU64::new(1 << 32);
/// APIC timer ticks per nanosecond (the timer divides by 1).
static NS_TO_APIC: AtomicU64 = AtomicU64::new(1 << 32);
static TSC_HZ: AtomicU64 = AtomicU64::new(1_000_000_000);

/// Nanoseconds since boot.
#[inline]
pub fn now_ns() -> u64 {
    ticks_to_ns(ticks().wrapping_sub(TSC_BASE.load(Ordering::Relaxed)))
}
/// The cheapest clock: the time-stamp counter as it stands.
#[inline]
pub fn ticks() -> u64 {
    rdtsc()
}
/// The length of a span of [`ticks`].
#[inline]
pub fn ticks_to_ns(t: u64) -> u64 {
    ((u128::from(t) * u128::from(TSC_TO_NS.load(Ordering::Relaxed))) >> 32) as u64
}
/// The counter at time zero, and nanoseconds per tick (32.32 fixed-point): what [`now_ns`] computes with.
pub(super) fn tsc_factors() -> (u64, u64) {
    (TSC_BASE.load(Ordering::Relaxed), TSC_TO_NS.load(Ordering::Relaxed))
}
/// The TSC's rate, in Hz.
pub fn tsc_hz() -> u64 {
    TSC_HZ.load(Ordering::Relaxed)
}

/// APIC timer ticks for a time to wait; at least one, at most what the counter holds.
pub(super) fn apic_ticks(ns: u64) -> u32 {
    let t = (u128::from(ns) * u128::from(NS_TO_APIC.load(Ordering::Relaxed))) >> 32;
    t.clamp(1, u128::from(u32::MAX)) as u32
}

/// Time zero, before anything is measured.
pub(super) fn start() {
    TSC_BASE.store(rdtsc(), Ordering::Relaxed);
}

fn pit_read() -> u16 {
    // Latch channel 0, then low and high byte.
    port_write8(PIT_COMMAND, 0);
    let lo = port_read8(PIT_DATA);
    u16::from(port_read8(PIT_DATA)) << 8 | u16::from(lo)
}

/// One end of a window.
#[derive(Clone, Copy)]
struct Sample {
    tsc: u64,
    apic: u32,
    pit: u16,
    /// TSC ticks within which the three were read.
    width: u64,
}

fn sample() -> Sample {
    // The tightest of a few.
    let mut best: Option<Sample> = None;
    for _ in 0..4 {
        let before = rdtsc();
        let pit = pit_read();
        let apic = apic::timer_count();
        let after = rdtsc();
        let s = Sample { tsc: before + (after - before) / 2, apic, pit, width: after - before };
        if best.is_none_or(|b| s.width < b.width) {
            best = Some(s);
        }
    }
    best.expect("sampled")
}

/// Length of a window: about 5 ms, far from the 55 ms after which the counter wraps.
const WINDOW_PIT: u16 = 6000;
/// Windows tried at most, and the error (one part in this many) at which the first is good enough.
const WINDOWS: usize = 6;
const GOOD: u64 = 4000;
/// Reads of a PIT that does not move before it counts as absent. Under `-icount` one takes some nanoseconds.
const STUCK_READS: u32 = 100_000;

/// Measures (TSC, APIC timer) ticks per second. `None` without a PIT.
fn measure() -> Option<(u64, u64)> {
    // Channel 0, both bytes, mode 2 (rate generator), full period. Its interrupt is masked.
    port_write8(PIT_COMMAND, 0x34);
    port_write8(PIT_DATA, 0);
    port_write8(PIT_DATA, 0);
    apic::timer_start_counting();
    let mut best: Option<(u64, u64, u64)> = None;
    for _ in 0..WINDOWS {
        let a = sample();
        let mut stuck = 0;
        // The counter counts down and wraps.
        while a.pit.wrapping_sub(pit_read()) < WINDOW_PIT {
            stuck += 1;
            if stuck > STUCK_READS && a.pit == pit_read() {
                return None;
            }
        }
        let b = sample();
        let pit = u64::from(a.pit.wrapping_sub(b.pit));
        let tsc = b.tsc - a.tsc;
        let hz = (u128::from(tsc) * u128::from(PIT_HZ) / u128::from(pit.max(1))) as u64;
        let apic_hz = u64::from(a.apic.wrapping_sub(b.apic)) * PIT_HZ / pit.max(1);
        // Relative error in parts of 2^32; a window that outlasted the counter's period shows a wide bracket too.
        let error = ((u128::from(a.width + b.width) << 32) / u128::from(tsc.max(1))) as u64;
        if best.is_none_or(|(e, _, _)| error < e) {
            best = Some((error, hz, apic_hz));
        }
        if error < (1 << 32) / GOOD {
            break;
        }
    }
    best.map(|(_, t, a)| (t, a))
}

/// Finds the rates.
pub(super) fn calibrate() {
    let measured = without_interrupts(measure);
    let tsc =
        cpu::features().tsc_hz.or(measured.map(|m| m.0)).filter(|&h| h > 1_000_000).unwrap_or(1_000_000_000);
    let apic = measured.map(|m| m.1).filter(|&h| h > 10_000).unwrap_or(1_000_000_000);
    TSC_HZ.store(tsc, Ordering::Relaxed);
    TSC_TO_NS.store(((1_000_000_000u128 << 32) / u128::from(tsc)) as u64, Ordering::Relaxed);
    NS_TO_APIC.store(((u128::from(apic) << 32) / 1_000_000_000) as u64, Ordering::Relaxed);
    apic::timer_stop();
}

static WALL: AtomicU64 = AtomicU64::new(0);

/// Seconds since 1970 at boot, in nanoseconds; 0 if the machine has no clock.
pub fn wall_clock_at_boot_ns() -> u64 {
    WALL.load(Ordering::Relaxed)
}

fn cmos(reg: u8) -> u8 {
    port_write8(0x70, reg | 0x80);
    port_read8(0x71)
}

/// Reads the real-time clock (MC146818): twice alike and not in an update, so no carry is half done.
pub(super) fn read_wall_clock() {
    const REGISTERS: [u8; 7] = [0, 2, 4, 7, 8, 9, 0x32];
    let read = || REGISTERS.map(cmos);
    let start = now_ns();
    let mut v = loop {
        if now_ns() - start > 2_000_000_000 {
            return;
        }
        if cmos(0x0a) & 0x80 != 0 {
            continue;
        }
        let a = read();
        if a == read() {
            break a.map(u64::from);
        }
    };
    let b = cmos(0x0b);
    if b == 0xff {
        return;
    }
    let pm = v[2] & 0x80 != 0;
    v[2] &= 0x7f;
    if b & 4 == 0 {
        v = v.map(|x| (x >> 4) * 10 + (x & 15));
    }
    if b & 2 == 0 {
        v[2] = v[2] % 12 + if pm { 12 } else { 0 };
    }
    let [sec, min, hour, day, month, year, century] = v;
    let year = year + if (19..=21).contains(&century) { century * 100 } else { 2000 };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return;
    }
    let secs = days_since_1970(year, month, day) * 86400 + hour * 3600 + min * 60 + sec;
    WALL.store((secs * 1_000_000_000).saturating_sub(now_ns()), Ordering::Relaxed);
}

/// Days from 1970-01-01 to a Gregorian date: years begin in March, so that the leap day is last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let y = if month <= 2 { year - 1 } else { year };
    let m = (month + 9) % 12;
    y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468
}
