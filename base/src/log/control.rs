//! What can be set about the log: levels, time stamps, who may read, how fast programs may write.
//!
//! | name | what |
//! |---|---|
//! | `loglevel=`, `quiet`, `debug`, `kernel.printk` | levels: console, default, least that the console level may be, console at boot |
//! | `ignore_loglevel` | everything goes to the console |
//! | `printk.time=`, `/sys/module/printk/parameters/time` | time stamps |
//! | `kernel.dmesg_restrict` | whether reading needs CAP_SYSLOG |
//! | `printk.devkmsg=`, `kernel.printk_devkmsg` | writes to `/dev/kmsg`: `on`, `off`, or ten in five seconds for each open file |
//!
//! Missing: `kernel.printk_ratelimit`, because nothing here is limited by it; `kernel.printk_delay`.
//!
//! Documented: Linux `Documentation/core-api/printk-basics.rst`, `Documentation/admin-guide/sysctl/kernel.rst`.

use frame::{
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    sync::{LockClass, SpinLockIrq},
};

use super::Level;
use crate::{Errno, Result, params, tree};

/// Messages with a level below this go to the console. Linux's default 7; `quiet` makes it 4, `loglevel=` anything.
pub static CONSOLE_LEVEL: AtomicU32 = AtomicU32::new(7);
static DEFAULT_LEVEL: AtomicU32 = AtomicU32::new(Level::Warn as u32);
/// syslog(2) cannot set the console level lower than this.
static LEAST_CONSOLE_LEVEL: AtomicU32 = AtomicU32::new(1);
static BOOT_CONSOLE_LEVEL: AtomicU32 = AtomicU32::new(7);
/// The console level while `SYSLOG_ACTION_CONSOLE_OFF` holds; [`NONE`] otherwise.
static SAVED_LEVEL: AtomicU32 = AtomicU32::new(NONE);
const NONE: u32 = u32::MAX;

static IGNORE_LEVEL: AtomicBool = AtomicBool::new(false);
static TIME: AtomicBool = AtomicBool::new(true);
static RESTRICT: AtomicBool = AtomicBool::new(false);

/// Reads the boot parameters.
pub fn init() {
    let mut level = 7;
    if params::flag("quiet") {
        level = 4;
    }
    if params::flag("debug") {
        level = 10;
    }
    if let Some(n) = params::get("loglevel").and_then(|v| v.parse().ok()) {
        level = n;
    }
    CONSOLE_LEVEL.store(level, Relaxed);
    BOOT_CONSOLE_LEVEL.store(level, Relaxed);
    IGNORE_LEVEL.store(params::flag("ignore_loglevel"), Relaxed);
    if let Some(on) = params::get("printk.time").and_then(|v| tree::parse_bool(v.as_bytes()).ok()) {
        TIME.store(on, Relaxed);
    }
    if let Some(mode) = params::get("printk.devkmsg").and_then(|v| DevKmsg::parse(v.as_bytes())) {
        DEVKMSG.store(mode as u32, Relaxed);
        DEVKMSG_FIXED.store(true, Relaxed);
    }
}

pub(super) fn default_level() -> u32 {
    DEFAULT_LEVEL.load(Relaxed)
}
pub(super) fn goes_to_console(level: u32) -> bool {
    level < CONSOLE_LEVEL.load(Relaxed) || IGNORE_LEVEL.load(Relaxed)
}
pub(super) fn shows_time() -> bool {
    TIME.load(Relaxed)
}
/// True if only CAP_SYSLOG may read the log.
pub fn is_restricted() -> bool {
    RESTRICT.load(Relaxed)
}

/// `SYSLOG_ACTION_CONSOLE_OFF`: only emergencies reach the console from now on.
pub fn console_off() {
    let least = LEAST_CONSOLE_LEVEL.load(Relaxed);
    let level = CONSOLE_LEVEL.swap(least, Relaxed);
    // Off twice is off once.
    let _ = SAVED_LEVEL.compare_exchange(NONE, level, Relaxed, Relaxed);
}
/// `SYSLOG_ACTION_CONSOLE_ON`: undoes [`console_off`].
pub fn console_on() {
    let level = SAVED_LEVEL.swap(NONE, Relaxed);
    if level != NONE {
        CONSOLE_LEVEL.store(level, Relaxed);
    }
}
/// `SYSLOG_ACTION_CONSOLE_LEVEL`. EINVAL outside of 1 to 8.
pub fn set_console_level(level: i32) -> Result<()> {
    let level = u32::try_from(level).ok().filter(|l| (1..=8).contains(l)).ok_or(Errno::EINVAL)?;
    CONSOLE_LEVEL.store(level.max(LEAST_CONSOLE_LEVEL.load(Relaxed)), Relaxed);
    SAVED_LEVEL.store(NONE, Relaxed);
    Ok(())
}

/// What becomes of writes to `/dev/kmsg`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum DevKmsg {
    RateLimit,
    On,
    Off,
}
static DEVKMSG: AtomicU32 = AtomicU32::new(DevKmsg::RateLimit as u32);
/// The boot parameter decided once and for all.
static DEVKMSG_FIXED: AtomicBool = AtomicBool::new(false);

impl DevKmsg {
    const NAMES: [(DevKmsg, &str); 3] =
        [(DevKmsg::RateLimit, "ratelimit"), (DevKmsg::On, "on"), (DevKmsg::Off, "off")];
    /// The present mode.
    pub fn now() -> DevKmsg {
        let n = DEVKMSG.load(Relaxed) as usize;
        Self::NAMES[n.min(2)].0
    }
    fn parse(text: &[u8]) -> Option<DevKmsg> {
        Self::NAMES.iter().find(|(_, n)| n.as_bytes() == text.trim_ascii()).map(|(m, _)| *m)
    }
}

/// Lets `burst` things pass in each `interval`, and counts the others.
pub struct RateLimit {
    state: SpinLockIrq<Window>,
}
struct Window {
    begin_ns: u64,
    passed: u32,
    missed: u32,
}
static WINDOW: LockClass = LockClass::new("ratelimit");

impl RateLimit {
    pub const fn new() -> RateLimit {
        RateLimit { state: SpinLockIrq::new(&WINDOW, Window { begin_ns: 0, passed: 0, missed: 0 }) }
    }
    /// May this one pass? `interval_ns` 0: everything may.
    pub fn allow(&self, interval_ns: u64, burst: u32) -> bool {
        if interval_ns == 0 {
            return true;
        }
        let now = frame::time::now_ns();
        let mut w = self.state.lock();
        if w.passed == 0 || now.saturating_sub(w.begin_ns) >= interval_ns {
            (w.begin_ns, w.passed) = (now, 0);
        }
        let ok = w.passed < burst;
        if ok {
            w.passed += 1
        } else {
            w.missed += 1
        }
        ok
    }
    /// How many did not pass since the last call.
    pub fn take_missed(&self) -> u32 {
        core::mem::take(&mut self.state.lock().missed)
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new()
    }
}

/// Linux's default for a rate limit: ten in five seconds.
pub const DEFAULT_INTERVAL_NS: u64 = 5_000_000_000;
pub const DEFAULT_BURST: u32 = 10;

/// `kernel.printk`: up to four numbers, those that are missing stay.
fn set_levels(b: &[u8]) -> Result<()> {
    let all = [&CONSOLE_LEVEL, &DEFAULT_LEVEL, &LEAST_CONSOLE_LEVEL, &BOOT_CONSOLE_LEVEL];
    let words = b.split(|c| c.is_ascii_whitespace()).filter(|w| !w.is_empty());
    for (level, word) in all.iter().zip(words) {
        let n = u32::try_from(tree::parse_int(word)?).map_err(|_| Errno::EINVAL)?;
        level.store(n, Relaxed);
    }
    Ok(())
}

/// Declares the sysctls and the module parameter.
pub fn declare() -> Result<()> {
    let t = tree::proc();
    t.knob(
        "sys/kernel/printk",
        0o644,
        |o| {
            let level = |l: &AtomicU32| l.load(Relaxed);
            let (a, b) = (level(&CONSOLE_LEVEL), level(&DEFAULT_LEVEL));
            let (c, d) = (level(&LEAST_CONSOLE_LEVEL), level(&BOOT_CONSOLE_LEVEL));
            Ok(writeln!(o, "{a}\t{b}\t{c}\t{d}")?)
        },
        set_levels,
    )?;
    t.knob(
        "sys/kernel/dmesg_restrict",
        0o644,
        |o| Ok(writeln!(o, "{}", u8::from(is_restricted()))?),
        |b| match tree::parse_int(b)? {
            n @ 0..=1 => {
                RESTRICT.store(n == 1, Relaxed);
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        },
    )?;
    t.knob(
        "sys/kernel/printk_devkmsg",
        0o644,
        |o| Ok(writeln!(o, "{}", DevKmsg::NAMES[DevKmsg::now() as usize].1)?),
        |b| {
            let mode = DevKmsg::parse(b).filter(|_| !DEVKMSG_FIXED.load(Relaxed)).ok_or(Errno::EINVAL)?;
            DEVKMSG.store(mode as u32, Relaxed);
            Ok(())
        },
    )?;
    tree::sys().knob(
        "module/printk/parameters/time",
        0o644,
        |o| Ok(writeln!(o, "{}", if shows_time() { 'Y' } else { 'N' })?),
        |b| {
            TIME.store(tree::parse_bool(b)?, Relaxed);
            Ok(())
        },
    )?;
    tree::sys().knob(
        "module/printk/parameters/ignore_loglevel",
        0o644,
        |o| Ok(writeln!(o, "{}", if IGNORE_LEVEL.load(Relaxed) { 'Y' } else { 'N' })?),
        |b| {
            IGNORE_LEVEL.store(tree::parse_bool(b)?, Relaxed);
            Ok(())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_lets_a_burst_pass() {
        let r = RateLimit::new();
        let passed = (0..25).filter(|_| r.allow(u64::MAX, 10)).count();
        assert_eq!((passed, r.take_missed(), r.take_missed()), (10, 15, 0));
        assert!(r.allow(0, 0));
    }

    #[test]
    fn modes_have_names() {
        assert_eq!(DevKmsg::parse(b"on\n"), Some(DevKmsg::On));
        assert_eq!(DevKmsg::parse(b"of"), None);
    }
}
