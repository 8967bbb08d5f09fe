//! `/sys/class/watchdog/watchdogN`: `Documentation/ABI/testing/sysfs-class-watchdog`.

use alloc::sync::Arc;

use base::{
    Errno, Result, model,
    tree::{self, Out},
};

use super::{
    Watchdog,
    pretimeout::{GOVERNORS, Governor},
};

pub(super) fn declare(w: &Arc<Watchdog>, folder: &model::Device) -> Result<()> {
    let show = |name: &str, f: fn(&Watchdog, &mut Out) -> Result<()>| {
        let w = w.clone();
        folder.attribute(name, 0o444, move |o| f(&w, o))
    };
    show("identity", |w, o| Ok(writeln!(o, "{}", w.description.identity)?))?;
    show("fw_version", |w, o| Ok(writeln!(o, "{}", w.description.firmware)?))?;
    show("options", |w, o| Ok(writeln!(o, "{:#x}", w.description.options)?))?;
    show("timeout", |w, o| Ok(writeln!(o, "{}", w.snapshot().timeout)?))?;
    show("min_timeout", |w, o| Ok(writeln!(o, "{}", w.description.min_timeout)?))?;
    show("max_timeout", |w, o| Ok(writeln!(o, "{}", w.description.max_timeout)?))?;
    show("pretimeout", |w, o| Ok(writeln!(o, "{}", w.snapshot().pretimeout)?))?;
    show("bootstatus", |w, o| Ok(writeln!(o, "{}", w.description.boot_status)?))?;
    show("status", |w, o| Ok(writeln!(o, "{:#x}", w.status())?))?;
    show("state", |w, o| Ok(writeln!(o, "{}", if w.snapshot().active { "active" } else { "inactive" })?))?;
    if w.tells_time_left() {
        show("timeleft", |w, o| Ok(writeln!(o, "{}", w.time_left()?)?))?;
    }
    show("pretimeout_available_governors", |_, o| {
        GOVERNORS.iter().try_for_each(|g| Ok(writeln!(o, "{}", g.name())?))
    })?;
    let (a, b) = (w.clone(), w.clone());
    folder.knob(
        "pretimeout_governor",
        0o644,
        move |o| Ok(writeln!(o, "{}", a.governor().name())?),
        move |s| {
            b.set_governor(Governor::parse(s).ok_or(Errno::EINVAL)?);
            Ok(())
        },
    )?;
    let (a, b) = (w.clone(), w.clone());
    folder.knob(
        "nowayout",
        0o644,
        move |o| Ok(writeln!(o, "{}", u32::from(a.is_nowayout()))?),
        move |s| match tree::kstrto::<u32>(s)? {
            0 => b.set_nowayout(false),
            1 => b.set_nowayout(true),
            _ => Err(Errno::EINVAL),
        },
    )
}
