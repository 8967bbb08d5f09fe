//! Cooling devices: what can be made to heat less, in steps from 0 (off) to its highest.
//!
//! A driver registers a [`CoolingDevice`]; it appears as `/sys/class/thermal/cooling_deviceN` with the files of Linux's
//! `Documentation/ABI/testing/sysfs-class-thermal`. There are no thermal zones (no sensors), so only user space sets states.

use alloc::{boxed::Box, format};

use base::{Errno, Result, tree};
use frame::atomic::{AtomicU32, Ordering};

pub mod powerclamp;

/// Something that can be made to heat less.
pub trait CoolingDevice: Send + Sync {
    /// The highest state.
    fn max_state(&self) -> u64;
    fn cur_state(&self) -> Result<u64>;
    /// `state` is at most [`Self::max_state`].
    fn set_cur_state(&self, state: u64) -> Result<()>;
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Registers a device under the next number; `kind` is what its file `type` says.
pub fn register(kind: &'static str, dev: impl CoolingDevice + 'static) -> Result<()> {
    let name = format!("cooling_device{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let path = |file: &str| format!("devices/virtual/thermal/{name}/{file}");
    let t = tree::sys();
    // Registered devices stay.
    let dev: &'static dyn CoolingDevice = Box::leak(Box::new(dev));
    t.file(&path("type"), 0o444, move |o| Ok(writeln!(o, "{kind}")?))?;
    t.file(&path("max_state"), 0o444, move |o| Ok(writeln!(o, "{}", dev.max_state())?))?;
    t.knob(
        &path("cur_state"),
        0o644,
        move |o| Ok(writeln!(o, "{}", dev.cur_state()?)?),
        move |b| {
            let state = u64::try_from(tree::parse_int(b)?).map_err(|_| Errno::EINVAL)?;
            if state > dev.max_state() { Err(Errno::EINVAL) } else { dev.set_cur_state(state) }
        },
    )?;
    t.link(&format!("class/thermal/{name}"), &format!("../../devices/virtual/thermal/{name}"))
}
