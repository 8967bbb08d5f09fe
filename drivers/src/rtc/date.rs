//! Calendar dates, and the structures in which programs give and get them.

use base::{Errno, Result};

/// A second of the (proleptic Gregorian) calendar, as people write it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Date {
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
}

/// Seconds of a day.
pub const DAY: u64 = 86_400;
/// Bytes of `struct rtc_time` (nine integers) and `struct rtc_wkalrm` (two bytes, two of padding, an `rtc_time`).
pub const RTC_TIME: usize = 36;
pub const RTC_WKALRM: usize = 40;
/// The first year that `struct rtc_time` can mean in practice, and the last that is representable here.
const YEARS: core::ops::RangeInclusive<u32> = 1970..=9999;

fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days of a month.
pub fn days_in(month: u32, year: u32) -> u32 {
    match month {
        2 => 28 + u32::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date: years begin in March here, so that the leap day is the last one.
fn days_since_1970(year: u32, month: u32, day: u32) -> u64 {
    let y = u64::from(if month <= 2 { year - 1 } else { year });
    let m = u64::from((month + 9) % 12);
    y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + u64::from(day) - 1 - 719_468
}

impl Date {
    /// EINVAL for a date that does not exist.
    pub fn check(self) -> Result<Date> {
        let good = YEARS.contains(&self.year)
            && (1..=12).contains(&self.month)
            && (1..=days_in(self.month, self.year)).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60;
        if good { Ok(self) } else { Err(Errno::EINVAL) }
    }
    /// Seconds since 1970. The date must exist.
    pub fn seconds(self) -> u64 {
        let time = u64::from(self.hour * 3600 + self.minute * 60 + self.second);
        days_since_1970(self.year, self.month, self.day) * DAY + time
    }
    /// The opposite. Before the year 10000.
    pub fn from_seconds(s: u64) -> Date {
        let (days, time) = (s / DAY, (s % DAY) as u32);
        // Eras of 400 years, beginning on a first of March.
        let d = days + 719_468;
        let (era, doe) = (d / 146_097, d % 146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = (doy - (153 * mp + 2) / 5 + 1) as u32;
        let month = (if mp < 10 { mp + 3 } else { mp - 9 }) as u32;
        let year = (yoe + era * 400) as u32 + u32::from(month <= 2);
        Date { year, month, day, hour: time / 3600, minute: time / 60 % 60, second: time % 60 }
    }
    /// 0 for Sunday.
    pub fn weekday(self) -> u32 {
        ((self.seconds() / DAY + 4) % 7) as u32
    }

    /// `struct rtc_time`: seconds, minutes, hours, day, month from 0, year from 1900, day of the week, day of the year, no summer time.
    pub fn to_bytes(self) -> [u8; RTC_TIME] {
        let first = days_since_1970(self.year, 1, 1);
        let day_of_year = (self.seconds() / DAY - first) as u32;
        let fields = [
            self.second,
            self.minute,
            self.hour,
            self.day,
            self.month - 1,
            self.year - 1900,
            self.weekday(),
            day_of_year,
            0,
        ];
        let mut b = [0; RTC_TIME];
        for (out, v) in b.chunks_exact_mut(4).zip(fields) {
            out.copy_from_slice(&v.to_le_bytes());
        }
        b
    }
    /// The opposite; days of week and year are not looked at. EINVAL for a date that does not exist.
    pub fn from_bytes(b: &[u8; RTC_TIME]) -> Result<Date> {
        let [second, minute, hour, day, month, year, ..] = fields(b)?;
        let (month, year) =
            (month.checked_add(1).ok_or(Errno::EINVAL)?, year.checked_add(1900).ok_or(Errno::EINVAL)?);
        Date { year, month, day, hour, minute, second }.check()
    }
    /// Hours, minutes and seconds alone.
    pub fn time_of_day(b: &[u8; RTC_TIME]) -> Result<(u32, u32, u32)> {
        let [second, minute, hour, ..] = fields(b)?;
        if hour < 24 && minute < 60 && second < 60 { Ok((hour, minute, second)) } else { Err(Errno::EINVAL) }
    }
}

/// The six fields that matter. EINVAL for negative ones.
fn fields(b: &[u8; RTC_TIME]) -> Result<[u32; 6]> {
    let mut f = [0; 6];
    for (v, raw) in f.iter_mut().zip(b.chunks_exact(4)) {
        let n = i32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
        *v = u32::try_from(n).map_err(|_| Errno::EINVAL)?;
    }
    Ok(f)
}

impl core::fmt::Display for Date {
    /// `2031-05-06T07:08:09`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let d = self;
        write!(f, "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", d.year, d.month, d.day, d.hour, d.minute, d.second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_days() {
        let d = Date { year: 2031, month: 5, day: 6, hour: 7, minute: 8, second: 9 };
        assert_eq!(d.seconds(), 1_935_817_689);
        assert_eq!(d.weekday(), 2);
        assert_eq!(Date::from_seconds(0).to_string(), "1970-01-01T00:00:00");
        assert_eq!(Date::from_seconds(951_782_400).to_string(), "2000-02-29T00:00:00");
        assert!(Date { year: 2100, month: 2, day: 29, ..d }.check().is_err());
    }

    proptest! {
        #[test]
        fn seconds_and_dates_agree(s in 0u64..253_402_300_799) {
            let d = Date::from_seconds(s);
            prop_assert_eq!(d.check(), Ok(d));
            prop_assert_eq!(d.seconds(), s);
            prop_assert_eq!(Date::from_bytes(&d.to_bytes()), Ok(d));
        }
        #[test]
        fn any_bytes_are_answered(b in prop::array::uniform32(any::<u8>()), tail in any::<[u8; 4]>()) {
            let mut all = [0; RTC_TIME];
            all[..32].copy_from_slice(&b);
            all[32..].copy_from_slice(&tail);
            if let Ok(d) = Date::from_bytes(&all) {
                prop_assert!(d.check().is_ok());
                d.to_bytes();
            }
            let _ = Date::time_of_day(&all);
        }
    }
}
