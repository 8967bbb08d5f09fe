//! One watchdog: what user space has asked of it, and what its hardware is told.

use alloc::{boxed::Box, format, string::String, sync::Arc};

use base::{Errno, Result};
use frame::{
    atomic::{AtomicBool, Ordering},
    sync::{LockClass, Mutex},
};
use sched::time::{Timer, now_ns};

use super::{
    Description, Hardware, bool_param,
    feed::{Feed, MS, NEVER},
    option,
    pretimeout::{self, Governor},
    watchdogd,
};

const SECOND: u64 = 1000 * MS;
/// Above this, a time-out in milliseconds does not fit into 32 bits.
const MOST_SECONDS: u32 = u32::MAX / 1000;

struct State {
    feed: Feed,
    timeout: u32,
    pretimeout: u32,
    /// `V` was in the last write.
    allow_release: bool,
    /// It was fed since the status was last asked for.
    kept_alive: bool,
}

/// One watchdog.
pub struct Watchdog {
    pub id: u32,
    pub description: Description,
    hardware: Box<dyn Hardware>,
    state: Mutex<State>,
    open: AtomicBool,
    nowayout: AtomicBool,
    governor: Arc<pretimeout::Choice>,
    /// Fires `pretimeout` seconds before the bite.
    warning: Timer,
}

static CLASS: LockClass = LockClass::new("watchdog");

/// What can be asked at once, for sysfs.
pub struct Snapshot {
    pub timeout: u32,
    pub pretimeout: u32,
    pub active: bool,
}

impl Watchdog {
    pub(super) fn new(id: u32, description: Description, hardware: Box<dyn Hardware>) -> Result<Watchdog> {
        let d = &description;
        let deadline = match base::params::get("watchdog.open_timeout").and_then(|v| v.parse::<u64>().ok()) {
            None | Some(0) => NEVER,
            Some(s) => now_ns().saturating_add(s.saturating_mul(SECOND)),
        };
        let feed = Feed {
            timeout: u64::from(d.timeout) * SECOND,
            max_heartbeat: u64::from(d.max_heartbeat_ms) * MS,
            min_heartbeat: u64::from(d.min_heartbeat_ms) * MS,
            active: false,
            running: false,
            last_promise: now_ns(),
            last_feed: now_ns(),
            open_deadline: deadline,
            owed: false,
        };
        let state =
            State { feed, timeout: d.timeout, pretimeout: 0, allow_release: false, kept_alive: false };
        let governor = Arc::new(pretimeout::Choice::new());
        let g = governor.clone();
        Ok(Watchdog {
            id,
            nowayout: AtomicBool::new(d.nowayout),
            description,
            hardware,
            state: Mutex::new(&CLASS, state),
            open: AtomicBool::new(false),
            governor,
            warning: Timer::new(move |_| g.notify(id))?,
        })
    }

    /// Hardware that counts already is fed from now on.
    pub(super) fn adopt(&self) {
        if !self.description.running {
            return;
        }
        if bool_param("watchdog.handle_boot_enabled", true) {
            let mut s = self.state.lock();
            s.feed.running = true;
            s.feed.last_feed = now_ns();
            // What goes wrong here shows as a reset.
            let _ = self.hardware.ping(s.timeout);
        } else {
            base::pr_info!(
                "watchdog: watchdog{} running and kernel based pre-userspace handler disabled",
                self.id
            );
        }
    }

    /// `watchdogN`.
    pub fn name(&self) -> String {
        format!("watchdog{}", self.id)
    }

    /// For the file: only one may have it open. EBUSY.
    pub(super) fn open(&self) -> Result<()> {
        if self.open.swap(true, Ordering::Acquire) {
            return Err(Errno::EBUSY);
        }
        let started = self.start();
        match started {
            // The limit on the time without a user holds until the first one.
            Ok(()) => self.state.lock().feed.open_deadline = NEVER,
            Err(_) => self.open.store(false, Ordering::Release),
        }
        started
    }
    /// The file is closed: stops if the last write said so.
    pub(super) fn close(&self) {
        let (active, allowed) = {
            let mut s = self.state.lock();
            let magic = self.description.options & option::MAGIC_CLOSE != 0;
            (s.feed.active, core::mem::take(&mut s.allow_release) || !magic)
        };
        if active && !(allowed && self.stop().is_ok()) {
            base::pr_crit!("watchdog: watchdog{}: watchdog did not stop!", self.id);
            let _ = self.ping();
        }
        self.open.store(false, Ordering::Release);
        watchdogd::look_again();
    }

    /// User space begins to watch.
    pub fn start(&self) -> Result<()> {
        let mut s = self.state.lock();
        if s.feed.active {
            return Ok(());
        }
        s.kept_alive = true;
        let now = now_ns();
        if s.feed.running {
            if s.feed.promise(now) {
                self.hardware.ping(s.timeout)?;
            }
        } else {
            self.hardware.start(s.timeout, self.nowayout.load(Ordering::Relaxed))?;
            (s.feed.last_promise, s.feed.last_feed) = (now, now);
        }
        s.feed.active = true;
        self.arm_warning(&s);
        drop(s);
        watchdogd::look_again();
        Ok(())
    }
    /// User space stops watching. EBUSY if there is no way out.
    pub fn stop(&self) -> Result<()> {
        let mut s = self.state.lock();
        if !s.feed.active {
            return Ok(());
        }
        if self.nowayout.load(Ordering::Relaxed) {
            base::pr_info!("watchdog: watchdog{}: nowayout prevents watchdog being stopped!", self.id);
            return Err(Errno::EBUSY);
        }
        match self.hardware.stop() {
            Ok(()) => s.feed.running = false,
            // It counts on: the thread feeds it.
            Err(Errno::EOPNOTSUPP) => s.feed.running = true,
            Err(e) => return Err(e),
        }
        s.feed.active = false;
        self.warning.cancel();
        drop(s);
        watchdogd::look_again();
        Ok(())
    }
    /// The machine ends in order: stops whatever counts, even without a way out.
    pub(super) fn stop_for_reboot(&self) {
        let mut s = self.state.lock();
        if (s.feed.active || s.feed.running) && self.hardware.stop().is_ok() {
            (s.feed.active, s.feed.running) = (false, false);
            self.warning.cancel();
        }
    }

    /// User space keeps its promise.
    pub fn ping(&self) -> Result<()> {
        let mut s = self.state.lock();
        if !s.feed.active && !s.feed.running {
            return Ok(());
        }
        s.kept_alive = true;
        if s.feed.promise(now_ns()) {
            self.hardware.ping(s.timeout)?;
        }
        self.arm_warning(&s);
        drop(s);
        watchdogd::look_again();
        Ok(())
    }
    /// What a write means: a promise kept; with a `V` in it, that the next close ends the watch.
    pub(super) fn written(&self, magic: bool) -> Result<()> {
        self.state.lock().allow_release = magic;
        self.ping()
    }

    /// What the thread does: feeds if it is time. When it is time next, if ever.
    pub(super) fn tend(&self, now: u64) -> (bool, Option<u64>) {
        let mut s = self.state.lock();
        let due = s.feed.next().is_some_and(|at| at <= now);
        // An owed feed is not early any more.
        let fed = due && s.feed.may_feed(now) && self.hardware.ping(s.timeout).is_ok();
        (fed, s.feed.next())
    }

    /// When the thread has to feed it next.
    pub(super) fn next_feed(&self) -> Option<u64> {
        self.state.lock().feed.next()
    }

    fn arm_warning(&self, s: &State) {
        if s.pretimeout != 0 && s.pretimeout < s.timeout && s.feed.active {
            self.warning.arm(s.feed.last_promise + u64::from(s.timeout - s.pretimeout) * SECOND);
        } else {
            self.warning.cancel();
        }
    }

    /// `WDIOC_SETTIMEOUT`. EINVAL outside of the range.
    pub fn set_timeout(&self, seconds: u32) -> Result<()> {
        let d = &self.description;
        if d.options & option::SET_TIMEOUT == 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let too_long = d.max_heartbeat_ms == 0 && d.max_timeout != 0 && seconds > d.max_timeout;
        if seconds > MOST_SECONDS || seconds < d.min_timeout || too_long {
            return Err(Errno::EINVAL);
        }
        let mut s = self.state.lock();
        // Hardware with a heartbeat of its own keeps that; the longer promise is the kernel's.
        let kept = if d.max_heartbeat_ms == 0 { self.hardware.set_timeout(seconds)? } else { seconds };
        s.timeout = kept;
        s.feed.timeout = u64::from(kept) * SECOND;
        if s.pretimeout >= kept {
            s.pretimeout = 0;
        }
        drop(s);
        watchdogd::look_again();
        Ok(())
    }
    /// `WDIOC_SETPRETIMEOUT`: a warning so many seconds before the bite; 0 for none.
    pub fn set_pretimeout(&self, seconds: u32) -> Result<()> {
        let mut s = self.state.lock();
        if seconds != 0 && s.timeout != 0 && seconds >= s.timeout {
            return Err(Errno::EINVAL);
        }
        s.pretimeout = seconds;
        Ok(())
    }
    /// The status bits; asking takes the "fed" bit back.
    pub fn status(&self) -> u32 {
        let mut s = self.state.lock();
        let faults = option::CARD_RESET
            | option::OVERHEAT
            | option::FAN_FAULT
            | option::EXTERN1
            | option::EXTERN2
            | option::POWER_UNDER
            | option::POWER_OVER;
        let mut bits = self.description.boot_status & faults;
        if s.allow_release {
            bits |= option::MAGIC_CLOSE;
        }
        if core::mem::take(&mut s.kept_alive) {
            bits |= option::KEEPALIVE_PING;
        }
        // The warning is the kernel's own timer: always there.
        bits | option::PRETIMEOUT
    }
    /// Seconds until the bite. EOPNOTSUPP where the hardware does not tell.
    pub fn time_left(&self) -> Result<u32> {
        let _s = self.state.lock();
        self.hardware.time_left().ok_or(Errno::EOPNOTSUPP)
    }
    pub fn tells_time_left(&self) -> bool {
        self.hardware.tells_time_left()
    }
    pub fn snapshot(&self) -> Snapshot {
        let s = self.state.lock();
        Snapshot { timeout: s.timeout, pretimeout: s.pretimeout, active: s.feed.active }
    }
    pub fn is_nowayout(&self) -> bool {
        self.nowayout.load(Ordering::Relaxed)
    }
    /// A way out can be taken away, not given back. EPERM.
    pub fn set_nowayout(&self, on: bool) -> Result<()> {
        if !on && self.is_nowayout() {
            return Err(Errno::EPERM);
        }
        self.nowayout.store(on, Ordering::Relaxed);
        Ok(())
    }
    pub fn governor(&self) -> Governor {
        self.governor.get()
    }
    pub fn set_governor(&self, g: Governor) {
        self.governor.set(g);
    }
}
