//! The real-time clock: `/dev/rtc0`, `/sys/class/rtc/rtc0`, `/proc/driver/rtc`. The clock that goes on while the machine is off.
//!
//! The kernel's own clock is set from it once, at boot (`frame::time::wall_clock_at_boot_ns`); afterwards the two go their own
//! ways, and `hwclock` moves the time between them.
//!
//! It interrupts at three occasions, which one open file collects and `read` gives: the *alarm*, at a set second of the next 24
//! hours (the chip compares hours, minutes and seconds only); the *update* of the date, each second; and *periodic* ones, up
//! to 8192 Hz, which a kernel timer makes, as on Linux: the chip knows powers of two only, and interrupts each time.
//!
//! ```text
//!   chip ──line 8──▶ interrupt ──▶ Events (count and kinds) ──▶ read, poll
//!   Timer ─────────────────────────▲
//! ```
//! Locking: one interrupt-safe spin lock for chip and settings.
//!
//! Documented: Linux `Documentation/admin-guide/rtc.rst`, `rtc(4)`.

use alloc::sync::Arc;

use base::{
    Errno, Result,
    device::{self, DevKind, DevNum, Device},
};
use frame::{
    irq::{self, Handled, Irq, Share},
    sync::{LockClass, SpinLockIrq, WaitQueue, once::Once},
};
use sched::time::{Timer, now_ns};
use vfs::PollQueue;

mod cmos;
pub mod date;
mod file;
mod files;

use cmos::Cmos;
use date::{DAY, Date};

/// The line of the clock on a PC.
const LINE: u32 = 8;
/// `RTC_IRQF` of linux/rtc.h: something happened; with it the kind, in the bits that the chip uses too.
const EVENT: u64 = 0x80;
/// Periodic interrupts per second: what Linux starts with, and the most a user may have without `CAP_SYS_RESOURCE`.
const DEFAULT_HZ: u32 = 1;
const DEFAULT_MAX_USER_HZ: u32 = 64;
/// The most anyone may have (`RTC_MAX_FREQ`).
const MAX_HZ: u32 = 8192;

/// What has happened since the last read: the kinds in the low byte, how often above, as `read` gives it.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
struct Events(u64);

impl Events {
    fn add(&mut self, kinds: u8) {
        self.0 = (self.0 + (1 << 8)) | EVENT | u64::from(kinds);
    }
    fn take(&mut self) -> Option<u64> {
        (self.0 != 0).then(|| core::mem::take(&mut self.0))
    }
}

struct State {
    chip: Cmos,
    events: Events,
    /// The alarm, in seconds since 1970. It stays to be read when it has come.
    alarm: Option<u64>,
    alarm_on: bool,
    alarm_pending: bool,
    updates: bool,
    periodic: bool,
    hz: u32,
    max_user_hz: u32,
    open: bool,
}

/// The clock.
pub struct Rtc {
    state: SpinLockIrq<State>,
    readers: PollQueue,
    ticker: Timer,
}

static CLASS: LockClass = LockClass::new("rtc");
static RTC: Once<(Arc<Rtc>, Irq)> = Once::new();

fn the_rtc() -> Result<&'static Arc<Rtc>> {
    RTC.get().map(|r| &r.0).ok_or(Errno::ENODEV)
}

impl Rtc {
    fn new(chip: Cmos) -> Result<Arc<Rtc>> {
        let state = State {
            chip,
            events: Events::default(),
            alarm: None,
            alarm_on: false,
            alarm_pending: false,
            updates: false,
            periodic: false,
            hz: DEFAULT_HZ,
            max_user_hz: DEFAULT_MAX_USER_HZ,
            open: false,
        };
        Ok(Arc::new(Rtc {
            state: SpinLockIrq::new(&CLASS, state),
            readers: Arc::new(WaitQueue::new()),
            ticker: Timer::new(|t| {
                if let Ok(r) = the_rtc() {
                    r.tick(t);
                }
            })?,
        }))
    }

    fn interrupt(&self) -> Handled {
        let kinds = {
            let mut s = self.state.lock();
            let kinds = s.chip.take_events();
            if kinds & cmos::ALARM != 0 {
                s.alarm_came();
                // An alarm is what a suspended machine is to be woken by.
                sched::wakeup::event();
            }
            if kinds != 0 {
                s.events.add(kinds);
            }
            kinds
        };
        if kinds == 0 {
            return Handled::No;
        }
        self.readers.wake_all();
        Handled::Yes
    }
    /// The kernel's timer for periodic interrupts.
    fn tick(&self, t: &Timer) {
        {
            let mut s = self.state.lock();
            if !s.periodic {
                return;
            }
            s.events.add(cmos::PERIODIC);
            t.arm(now_ns() + period_ns(s.hz));
        }
        self.readers.wake_all();
    }

    /// The date. EIO.
    pub fn date(&self) -> Result<Date> {
        self.state.lock().chip.date()
    }
    /// Sets it. An alarm that lies in the past now comes at once.
    pub fn set_date(&self, d: Date) -> Result<()> {
        {
            let mut s = self.state.lock();
            s.chip.set_date(d);
            if s.alarm_on && s.alarm.is_some_and(|a| a <= d.seconds()) {
                s.alarm_came();
                s.events.add(cmos::ALARM);
            }
        }
        self.readers.wake_all();
        Ok(())
    }
    /// The alarm: date, whether it is on, whether it came at once.
    fn alarm(&self) -> (Option<u64>, bool, bool) {
        let s = self.state.lock();
        (s.alarm, s.alarm_on, s.alarm_pending)
    }
    /// Sets it. EINVAL if it is a day away or more: the chip cannot tell the days apart. One that is past already comes at once.
    fn set_alarm(&self, at: u64, on: bool) -> Result<()> {
        {
            let mut s = self.state.lock();
            let now = s.chip.date()?.seconds();
            if at >= now + DAY {
                return Err(Errno::EINVAL);
            }
            s.switch(cmos::ALARM, false);
            (s.alarm, s.alarm_on, s.alarm_pending) = (Some(at), on, false);
            s.arm_alarm(now);
        }
        self.readers.wake_all();
        Ok(())
    }
    /// Switches the alarm that was set on or off. EINVAL if none was.
    fn enable_alarm(&self, on: bool) -> Result<()> {
        {
            let mut s = self.state.lock();
            let now = s.chip.date()?.seconds();
            if on && s.alarm.is_none() {
                return Err(Errno::EINVAL);
            }
            s.switch(cmos::ALARM, false);
            s.alarm_on = on;
            s.arm_alarm(now);
        }
        self.readers.wake_all();
        Ok(())
    }
    fn enable_updates(&self, on: bool) {
        let mut s = self.state.lock();
        s.updates = on;
        s.switch(cmos::UPDATE, on);
        drop(s);
        self.readers.wake_all();
    }
    fn enable_periodic(&self, on: bool) {
        let mut s = self.state.lock();
        s.periodic = on;
        if on {
            self.ticker.arm(now_ns() + period_ns(s.hz));
        } else {
            self.ticker.cancel();
        }
    }
    /// EINVAL for none, or more than the kernel gives.
    fn set_hz(&self, hz: u32) -> Result<()> {
        if !(1..=MAX_HZ).contains(&hz) {
            return Err(Errno::EINVAL);
        }
        let mut s = self.state.lock();
        s.hz = hz;
        if s.periodic {
            self.ticker.arm(now_ns() + period_ns(hz));
        }
        Ok(())
    }
}

fn period_ns(hz: u32) -> u64 {
    1_000_000_000 / u64::from(hz)
}

impl State {
    /// Enables or disables interrupts of the chip. Readers are to be woken afterwards.
    fn switch(&mut self, what: u8, on: bool) {
        let missed = self.chip.enable(what, on);
        if missed != 0 {
            self.events.add(missed);
        }
    }
    /// The alarm is over.
    fn alarm_came(&mut self) {
        self.alarm_on = false;
        self.switch(cmos::ALARM, false);
    }
    /// Tells the chip of an alarm that is on; one that is past comes at once.
    fn arm_alarm(&mut self, now: u64) {
        let Some(at) = self.alarm.filter(|_| self.alarm_on) else { return };
        if at <= now {
            self.alarm_pending = true;
            self.alarm_came();
            self.events.add(cmos::ALARM);
            return;
        }
        self.chip.set_alarm(Date::from_seconds(at));
        self.switch(cmos::ALARM, true);
    }
}

/// Finds the clock and registers it. A machine without one is none the worse.
pub fn init() -> Result<()> {
    let Some(chip) = Cmos::probe() else { return Ok(()) };
    // Whatever the firmware had wanted to hear of.
    let _ = chip.enable(cmos::PERIODIC | cmos::ALARM | cmos::UPDATE, false);
    base::resource::PORTS.insert(u64::from(cmos::BASE), u64::from(cmos::BASE) + 1, "rtc0")?;
    let rtc = Rtc::new(chip)?;
    let r = rtc.clone();
    let line = match irq::request_line(irq::isa_line(LINE), "rtc0", Share::Exclusive, move || r.interrupt()) {
        Ok(i) => i,
        Err(e) => {
            base::pr_warn!("rtc_cmos rtc_cmos: IRQ {LINE} is not available: {e:?}");
            return Ok(());
        }
    };
    RTC.call_once(|| (rtc.clone(), line));
    let parent = crate::platform::add("rtc_cmos", None)?;
    parent.announce();
    let node = Device {
        name: "rtc0".into(),
        num: DevNum::new(device::allocate_major()?, 0),
        kind: DevKind::Char,
        mode: 0o600,
        class: Some("rtc"),
        ops: file::node(&rtc),
    };
    let place = device::Place { parent: Some(parent), ..Default::default() };
    device::register_at(node, place, |folder| files::declare(&rtc, folder))?;
    base::pr_info!("rtc_cmos rtc_cmos: registered as rtc0");
    let boot = frame::time::wall_clock_at_boot_ns();
    if boot != 0 {
        let now = sched::time::realtime_ns() / 1_000_000_000;
        let d = Date::from_seconds(now);
        base::pr_info!("rtc_cmos rtc_cmos: setting system clock to {d} UTC ({now})");
    }
    base::pr_info!("rtc_cmos rtc_cmos: alarms up to one day, 114 bytes nvram");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_count_and_name_what_came() {
        let mut e = Events::default();
        assert_eq!(e.take(), None);
        e.add(cmos::ALARM);
        e.add(cmos::UPDATE | cmos::ALARM);
        assert_eq!(e.take(), Some(2 << 8 | 0xb0));
        assert_eq!(e.take(), None);
    }
}
