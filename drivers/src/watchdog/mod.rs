//! Watchdog timers: `/dev/watchdog`, `/dev/watchdogN`, `/sys/class/watchdog`.
//!
//! A watchdog resets the machine when nobody has fed it for a while. User space feeds it by writing to its device, so that
//! a machine on which user space no longer runs starts again. Whoever closes the device without having written `V` first
//! is taken for dead, and the watch goes on.
//!
//! ```text
//!   write, WDIOC_KEEPALIVE ─▶ Watchdog ─▶ Hardware (i6300esb, softdog)
//!                                ▲
//!   watchdogd ───────────────────┘ feeds in between, where the hardware is more impatient than the promise
//! ```
//!
//! | file | what |
//! |---|---|
//! | [`feed`] | when to feed: the policy |
//! | [`watchdogd`] | the thread that follows it |
//! | [`device`] | one watchdog: start, stop, feed, time-outs |
//! | `file`, `sysfs` | what programs see of it |
//! | [`pretimeout`] | what happens shortly before the bite |
//! | `i6300esb` | the timer of Intel's 6300ESB, which QEMU has |
//! | [`softdog`] | a watchdog made of a timer |
//!
//! Documented: Linux `Documentation/watchdog/watchdog-api.rst`, `watchdog-parameters.rst`.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use base::{Result, device as registry, model, params, reboot};
use frame::sync::{LockClass, Mutex, once::Once};

pub mod device;
pub mod feed;
mod file;
mod i6300esb;
pub mod pretimeout;
pub mod softdog;
mod sysfs;
pub mod watchdogd;

pub use device::Watchdog;

/// Bits of `struct watchdog_info::options` and of the status (linux/watchdog.h).
pub mod option {
    pub const OVERHEAT: u32 = 0x0001;
    pub const FAN_FAULT: u32 = 0x0002;
    pub const EXTERN1: u32 = 0x0004;
    pub const EXTERN2: u32 = 0x0008;
    pub const POWER_UNDER: u32 = 0x0010;
    /// The last boot was caused by this watchdog.
    pub const CARD_RESET: u32 = 0x0020;
    pub const POWER_OVER: u32 = 0x0040;
    pub const SET_TIMEOUT: u32 = 0x0080;
    pub const MAGIC_CLOSE: u32 = 0x0100;
    pub const PRETIMEOUT: u32 = 0x0200;
    pub const KEEPALIVE_PING: u32 = 0x8000;
}

/// What a driver says of its hardware.
#[derive(Clone, Debug)]
pub struct Description {
    /// As `WDIOC_GETSUPPORT` gives it: at most 32 bytes.
    pub identity: &'static str,
    pub firmware: u32,
    /// Of [`option`].
    pub options: u32,
    /// Seconds: at the start, and the range.
    pub timeout: u32,
    pub min_timeout: u32,
    pub max_timeout: u32,
    /// Milliseconds between two feeds of the hardware, if these limit it: then the kernel feeds it in between, and any time-out
    /// is possible. 0: no limit.
    pub min_heartbeat_ms: u32,
    pub max_heartbeat_ms: u32,
    /// Once started it cannot be stopped by user space.
    pub nowayout: bool,
    /// It counts already.
    pub running: bool,
    /// Of [`option`]: why the machine has started.
    pub boot_status: u32,
}

/// A driver. Called with the watchdog's (sleeping) lock held, so never twice at once.
pub trait Hardware: Send + Sync {
    /// Begins to count. `nowayout`: for good, if the hardware knows that.
    fn start(&self, timeout_s: u32, nowayout: bool) -> Result<()>;
    /// EOPNOTSUPP if it cannot be stopped; then the kernel goes on feeding it.
    fn stop(&self) -> Result<()>;
    /// Begins to count anew.
    fn ping(&self, timeout_s: u32) -> Result<()>;
    /// Takes a new time-out; gives the one that it will keep, in seconds.
    fn set_timeout(&self, timeout_s: u32) -> Result<u32>;
    /// Seconds until the bite, where the hardware tells.
    fn time_left(&self) -> Option<u32> {
        None
    }
    /// Whether it tells.
    fn tells_time_left(&self) -> bool {
        false
    }
}

static CLASS: LockClass = LockClass::new("watchdogs");
static ALL: Mutex<Vec<Arc<Watchdog>>> = Mutex::new(&CLASS, Vec::new());
static MAJOR: Once<u32> = Once::new();

/// All, by number.
pub fn all() -> Vec<Arc<Watchdog>> {
    ALL.lock().clone()
}

/// A boolean boot parameter, as Linux reads one; `default` if it is not there or makes no sense.
pub fn bool_param(name: &str, default: bool) -> bool {
    match params::get(name) {
        Some(v) => match v.as_bytes() {
            [b'y' | b'Y' | b't' | b'T' | b'1', ..] | [b'o' | b'O', b'n' | b'N', ..] => true,
            [b'n' | b'N' | b'f' | b'F' | b'0', ..] | [b'o' | b'O', b'f' | b'F', ..] => false,
            _ => default,
        },
        None => default || params::flag(name),
    }
}

/// Registers a watchdog; `parent` is the device that it is part of. The first one is also `/dev/watchdog`.
pub fn register(
    description: Description,
    hardware: Box<dyn Hardware>,
    parent: Option<Arc<model::Device>>,
) -> Result<Arc<Watchdog>> {
    let major = match MAJOR.get() {
        Some(&m) => m,
        // The allocation sleeps, so it stands outside of `call_once`.
        None => {
            let m = registry::allocate_major()?;
            *MAJOR.call_once(|| m)
        }
    };
    let w = {
        let mut all = ALL.lock();
        let w = Arc::new(Watchdog::new(all.len() as u32, description, hardware)?);
        all.push(w.clone());
        w
    };
    w.adopt();
    if w.id == 0 {
        crate::misc::register("watchdog", Some(file::LEGACY_MINOR), 0o600, file::node(&w))?;
    }
    let device = registry::Device {
        name: w.name(),
        num: registry::DevNum::new(major, w.id),
        kind: registry::DevKind::Char,
        mode: 0o600,
        class: Some("watchdog"),
        ops: file::node(&w),
    };
    let place = registry::Place { parent, ..Default::default() };
    registry::register_at(device, place, |folder| sysfs::declare(&w, folder))?;
    watchdogd::look_again();
    Ok(w)
}

/// Starts the thread and the drivers, and what stops watchdogs before the machine ends in order.
pub fn init() -> Result<()> {
    watchdogd::start()?;
    if bool_param("watchdog.stop_on_reboot", true) {
        reboot::register_notifier(|_| all().iter().for_each(|w| w.stop_for_reboot()));
    }
    // Hardware first: `/dev/watchdog` is the best there is.
    i6300esb::init()?;
    softdog::init()
}
