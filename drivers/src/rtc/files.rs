//! `/sys/class/rtc/rtc0` (`Documentation/ABI/testing/sysfs-class-rtc`) and `/proc/driver/rtc`.

use alloc::sync::Arc;

use base::{
    Errno, Result, model,
    tree::{self, Out},
};

use super::{Rtc, cmos, date::Date};

/// Platform driver and device, as Linux names a clock that neither ACPI nor PNP has announced.
const NAME: &str = "rtc_cmos rtc_cmos";

pub(super) fn declare(r: &Arc<Rtc>, folder: &model::Device) -> Result<()> {
    let show = |name: &str, f: fn(&Rtc, &mut Out) -> Result<()>| {
        let r = r.clone();
        folder.attribute(name, 0o444, move |o| f(&r, o))
    };
    show("name", |_, o| Ok(writeln!(o, "{NAME}")?))?;
    show("date", |r, o| {
        let d = r.date()?;
        Ok(writeln!(o, "{:04}-{:02}-{:02}", d.year, d.month, d.day)?)
    })?;
    show("time", |r, o| {
        let d = r.date()?;
        Ok(writeln!(o, "{:02}:{:02}:{:02}", d.hour, d.minute, d.second)?)
    })?;
    show("since_epoch", |r, o| Ok(writeln!(o, "{}", r.date()?.seconds())?))?;
    // The system's clock was set from it if it had a time at boot.
    show("hctosys", |_, o| Ok(writeln!(o, "{}", u32::from(frame::time::wall_clock_at_boot_ns() != 0))?))?;
    let (a, b) = (r.clone(), r.clone());
    folder.knob(
        "max_user_freq",
        0o644,
        move |o| Ok(writeln!(o, "{}", a.state.lock().max_user_hz)?),
        move |s| {
            let hz: u32 = tree::kstrto(s)?;
            if !(1..4096).contains(&hz) {
                return Err(Errno::EINVAL);
            }
            b.state.lock().max_user_hz = hz;
            Ok(())
        },
    )?;
    let (a, b) = (r.clone(), r.clone());
    folder.knob(
        "wakealarm",
        0o644,
        move |o| match a.alarm() {
            (Some(at), true, _) => Ok(writeln!(o, "{at}")?),
            _ => Ok(()),
        },
        move |s| store_alarm(&b, s),
    )?;
    let r = r.clone();
    tree::proc().file("driver/rtc", 0o444, move |o| proc(&r, o))
}

/// What is written to `wakealarm`: seconds since 1970; `+` before it, from now; `+=`, from the alarm that is set; 0 switches it off.
fn parse_alarm(text: &[u8], now: u64, set: Option<u64>) -> Result<Option<u64>> {
    let t = text.trim_ascii();
    let (base, digits) = match (t.strip_prefix(b"+="), t.strip_prefix(b"+")) {
        // There must be one to be moved.
        (Some(d), _) => (set.ok_or(Errno::EINVAL)?, d),
        (None, Some(d)) => (now, d),
        (None, None) => (0, t),
    };
    let n = u64::try_from(tree::kstrto::<i64>(digits)?).map_err(|_| Errno::EINVAL)?;
    let at = base.checked_add(n).ok_or(Errno::EINVAL)?;
    Ok((at > now).then_some(at))
}

fn store_alarm(r: &Rtc, text: &[u8]) -> Result<()> {
    let now = r.date()?.seconds();
    let (old, on, _) = r.alarm();
    let pushed = text.trim_ascii().starts_with(b"+=");
    match parse_alarm(text, now, old.filter(|_| on))? {
        // One that is set is not overwritten by mistake.
        Some(_) if on && !pushed => Err(Errno::EBUSY),
        Some(at) => r.set_alarm(at, true),
        None => r.enable_alarm(false),
    }
}

fn proc(r: &Rtc, o: &mut Out) -> Result<()> {
    let d = r.date()?;
    let (at, on, pending) = r.alarm();
    let a = Date::from_seconds(at.unwrap_or(0));
    let word = |b: bool| if b { "yes" } else { "no" };
    writeln!(o, "rtc_time\t: {:02}:{:02}:{:02}", d.hour, d.minute, d.second)?;
    writeln!(o, "rtc_date\t: {:04}-{:02}-{:02}", d.year, d.month, d.day)?;
    writeln!(o, "alrm_time\t: {:02}:{:02}:{:02}", a.hour, a.minute, a.second)?;
    writeln!(o, "alrm_date\t: {:04}-{:02}-{:02}", a.year, a.month, a.day)?;
    writeln!(o, "alarm_IRQ\t: {}", word(on))?;
    writeln!(o, "alrm_pending\t: {}", word(pending))?;
    let (updates, periodic, hz, most, chip) = {
        let s = r.state.lock();
        (s.updates, s.periodic, s.hz, s.max_user_hz, s.chip.report())
    };
    writeln!(o, "update IRQ enabled\t: {}", word(updates))?;
    writeln!(o, "periodic IRQ enabled\t: {}", word(periodic))?;
    writeln!(o, "periodic IRQ frequency\t: {hz}")?;
    writeln!(o, "max user IRQ frequency\t: {most}")?;
    writeln!(o, "24hr\t\t: yes")?;
    writeln!(o, "periodic_IRQ\t: {}", word(chip.control & cmos::PERIODIC != 0))?;
    writeln!(o, "update_IRQ\t: {}", word(chip.control & cmos::UPDATE != 0))?;
    writeln!(o, "HPET_emulated\t: no")?;
    writeln!(o, "BCD\t\t: {}", word(!chip.binary))?;
    writeln!(o, "DST_enable\t: {}", word(chip.summer_time))?;
    writeln!(o, "periodic_freq\t: {}", chip.periodic)?;
    Ok(writeln!(o, "batt_status\t: {}", if chip.battery { "okay" } else { "dead" })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn alarms_as_sysfs_takes_them() {
        assert_eq!(parse_alarm(b"+60\n", 100, None), Ok(Some(160)));
        assert_eq!(parse_alarm(b"+=60\n", 100, Some(150)), Ok(Some(210)));
        assert_eq!(parse_alarm(b"+=60", 100, None), Err(Errno::EINVAL));
        assert_eq!(parse_alarm(b"0", 100, None), Ok(None));
        assert_eq!(parse_alarm(b"99", 100, None), Ok(None));
        assert_eq!(parse_alarm(b"101", 100, None), Ok(Some(101)));
        assert_eq!(parse_alarm(b"+-5", 100, None), Err(Errno::EINVAL));
        assert_eq!(parse_alarm(b"", 100, None), Err(Errno::EINVAL));
    }
    proptest! {
        #[test]
        fn any_text_is_answered(t in prop::collection::vec(any::<u8>(), 0..40), now in any::<u64>()) {
            if let Ok(Some(at)) = parse_alarm(&t, now, Some(now)) {
                prop_assert!(at > now);
            }
        }
    }
}
