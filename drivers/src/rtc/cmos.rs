//! The chip: the MC146818's registers, behind an index port and a data port. QEMU and PCs keep the century in register 0x32.
//!
//! Reference: Motorola MC146818A data sheet.

use base::{Errno, Result};
use frame::io::Ports;

use super::date::Date;

const INDEX: u16 = 0;
const DATA: u16 = 1;
/// First I/O port.
pub(super) const BASE: u16 = 0x70;

mod reg {
    pub(super) const SECONDS: u8 = 0;
    pub(super) const SECONDS_ALARM: u8 = 1;
    pub(super) const MINUTES: u8 = 2;
    pub(super) const MINUTES_ALARM: u8 = 3;
    pub(super) const HOURS: u8 = 4;
    pub(super) const HOURS_ALARM: u8 = 5;
    pub(super) const WEEKDAY: u8 = 6;
    pub(super) const DAY: u8 = 7;
    pub(super) const MONTH: u8 = 8;
    pub(super) const YEAR: u8 = 9;
    pub(super) const A: u8 = 10;
    pub(super) const B: u8 = 11;
    pub(super) const C: u8 = 12;
    pub(super) const D: u8 = 13;
    pub(super) const CENTURY: u8 = 0x32;
}

/// Register A: an update is in progress.
const UPDATING: u8 = 0x80;
/// Register A: the divider counts a 32,768 Hz crystal.
const DIVIDER: u8 = 0x20;
/// Register B.
const SET: u8 = 0x80;
/// Enables, in register B, and flags, in register C.
pub(super) const PERIODIC: u8 = 0x40;
pub(super) const ALARM: u8 = 0x20;
pub(super) const UPDATE: u8 = 0x10;
const BINARY: u8 = 0x04;
const HOURS_24: u8 = 0x02;
const SUMMER_TIME: u8 = 0x01;
/// Register D: the battery is good.
const VALID: u8 = 0x80;
/// The hour's bit for the afternoon, in 12-hour mode.
const PM: u8 = 0x80;

/// How long a reader waits for the chip to stop updating: longer than an update takes.
const PATIENCE_NS: u64 = 20_000_000;

/// How the chip writes numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    pub(super) binary: bool,
    pub(super) hours_24: bool,
}

impl Format {
    fn decode(self, v: u8) -> u32 {
        u32::from(if self.binary { v } else { (v >> 4) * 10 + (v & 15) })
    }
    fn encode(self, v: u32) -> u8 {
        let v = v as u8;
        if self.binary { v } else { ((v / 10) << 4) | (v % 10) }
    }
    fn decode_hour(self, v: u8) -> u32 {
        if self.hours_24 {
            return self.decode(v);
        }
        self.decode(v & !PM) % 12 + if v & PM != 0 { 12 } else { 0 }
    }
    fn encode_hour(self, h: u32) -> u8 {
        if self.hours_24 {
            return self.encode(h);
        }
        let twelve = if h.is_multiple_of(12) { 12 } else { h % 12 };
        self.encode(twelve) | if h >= 12 { PM } else { 0 }
    }
}

/// What `/proc/driver/rtc` says of the chip itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) control: u8,
    pub(super) binary: bool,
    pub(super) summer_time: bool,
    pub(super) battery: bool,
    /// Hz.
    pub(super) periodic: u32,
}

pub(super) struct Cmos {
    io: Ports,
}

impl Cmos {
    /// Finds the chip: its status must be possible.
    pub(super) fn probe() -> Option<Cmos> {
        let c = Cmos { io: Ports::claim(BASE, 2)? };
        // Register D has one bit that may be set.
        (c.read(reg::D) & !VALID == 0).then_some(c)
    }
    fn read(&self, r: u8) -> u8 {
        self.io.write8(INDEX, r);
        self.io.read8(DATA)
    }
    fn write(&self, r: u8, v: u8) {
        self.io.write8(INDEX, r);
        self.io.write8(DATA, v);
    }
    fn format(&self) -> Format {
        let b = self.read(reg::B);
        Format { binary: b & BINARY != 0, hours_24: b & HOURS_24 != 0 }
    }

    /// The date. EIO if the chip does not stop updating or says nonsense.
    pub(super) fn date(&self) -> Result<Date> {
        let end = frame::time::boot_ns() + PATIENCE_NS;
        let read = || {
            [reg::SECONDS, reg::MINUTES, reg::HOURS, reg::DAY, reg::MONTH, reg::YEAR, reg::CENTURY]
                .map(|r| self.read(r))
        };
        // Twice alike, and not in an update: no carry is half done.
        let v = loop {
            if self.read(reg::A) & UPDATING == 0 {
                let a = read();
                if self.read(reg::A) & UPDATING == 0 && a == read() {
                    break a;
                }
            }
            if frame::time::boot_ns() > end {
                return Err(Errno::EIO);
            }
        };
        let f = self.format();
        let century = f.decode(v[6]);
        let century = if (19..=99).contains(&century) { century } else { 20 };
        Date {
            second: f.decode(v[0]),
            minute: f.decode(v[1]),
            hour: f.decode_hour(v[2]),
            day: f.decode(v[3]),
            month: f.decode(v[4]),
            year: century * 100 + f.decode(v[5]),
        }
        .check()
        .map_err(|_| Errno::EIO)
    }
    /// Sets the date, which must exist.
    pub(super) fn set_date(&self, d: Date) {
        let (f, b, a) = (self.format(), self.read(reg::B), self.read(reg::A));
        self.write(reg::B, b | SET);
        self.write(reg::A, a | 0x70); // holds the divider, so that the second begins now
        self.write(reg::SECONDS, f.encode(d.second));
        self.write(reg::MINUTES, f.encode(d.minute));
        self.write(reg::HOURS, f.encode_hour(d.hour));
        self.write(reg::WEEKDAY, f.encode(d.weekday() + 1));
        self.write(reg::DAY, f.encode(d.day));
        self.write(reg::MONTH, f.encode(d.month));
        self.write(reg::YEAR, f.encode(d.year % 100));
        self.write(reg::CENTURY, f.encode(d.year / 100));
        self.write(reg::B, b);
        self.write(reg::A, a & 0x0f | DIVIDER);
    }
    /// Sets the time of day at which the alarm comes.
    pub(super) fn set_alarm(&self, d: Date) {
        let f = self.format();
        self.write(reg::SECONDS_ALARM, f.encode(d.second));
        self.write(reg::MINUTES_ALARM, f.encode(d.minute));
        self.write(reg::HOURS_ALARM, f.encode_hour(d.hour));
    }
    /// Enables or disables interrupts. An old flag is taken back first, so that it is not taken for a new event; gives those
    /// flags that were events of what was enabled already, and are not to be lost.
    #[must_use]
    pub(super) fn enable(&self, what: u8, on: bool) -> u8 {
        let missed = self.take_events();
        let b = self.read(reg::B);
        self.write(reg::B, if on { b | what } else { b & !what });
        missed & !what
    }
    /// In the interrupt: what has happened and was enabled. Reading takes it back.
    pub(super) fn take_events(&self) -> u8 {
        let flags = self.read(reg::C);
        flags & self.read(reg::B) & (PERIODIC | ALARM | UPDATE)
    }
    pub(super) fn report(&self) -> Report {
        let (a, b, d) = (self.read(reg::A), self.read(reg::B), self.read(reg::D));
        let rate = u32::from(a & 15);
        Report {
            control: b,
            binary: b & BINARY != 0,
            summer_time: b & SUMMER_TIME != 0,
            battery: d & VALID != 0,
            // Rates 1 and 2 repeat 8 and 9.
            periodic: match rate {
                0 => 0,
                1 | 2 => 32_768 >> (rate + 6),
                _ => 32_768 >> (rate - 1),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_numbers_survive_every_format() {
        for binary in [false, true] {
            for hours_24 in [false, true] {
                let f = Format { binary, hours_24 };
                (0..24).for_each(|h| assert_eq!(f.decode_hour(f.encode_hour(h)), h));
                (0..100).for_each(|v| assert_eq!(f.decode(f.encode(v)), v));
            }
        }
        let f = Format { binary: false, hours_24: false };
        assert_eq!((f.encode_hour(0), f.encode_hour(12), f.encode_hour(23)), (0x12, 0x92, 0x91));
    }
}
