//! `/dev/rtc0`: `rtc(4)`. One file at a time.

use alloc::sync::Arc;

use base::{Errno, Result, cred::cap};
use frame::{task::State as Sleep, user};
use linux_raw_sys::ioctl as op;
use vfs::{
    File, FileKind, FileOps, Inode, IoDst, OpenFlags, PollFlags, PollTable,
    special::{DeviceNode, DeviceOps},
};

use super::{
    Rtc,
    date::{DAY, Date, RTC_TIME, RTC_WKALRM},
};

struct Node(Arc<Rtc>);

pub(super) fn node(r: &Arc<Rtc>) -> Arc<DeviceNode> {
    DeviceNode::new(Node(r.clone()))
}

impl DeviceOps for Node {
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let f = frame::heap::try_arc(RtcFile(self.0.clone())).ok_or(Errno::ENOMEM)?;
        let mut s = self.0.state.lock();
        if core::mem::replace(&mut s.open, true) {
            return Err(Errno::EBUSY);
        }
        s.events.take();
        drop(s);
        Ok(f)
    }
}

struct RtcFile(Arc<Rtc>);

fn get_time(arg: usize) -> Result<[u8; RTC_TIME]> {
    let mut b = [0; RTC_TIME];
    user::copy_from_user(&mut b, arg)?;
    Ok(b)
}
fn put(arg: usize, b: &[u8]) -> Result<usize> {
    user::copy_to_user(arg, b)?;
    Ok(0)
}
fn put_long(arg: usize, v: u32) -> Result<usize> {
    put(arg, &u64::from(v).to_le_bytes())
}

/// `RTC_PARAM_GET` and `RTC_PARAM_SET` (linux/rtc.h), which the crate of constants does not know.
const RTC_PARAM_GET: u32 = 0x4018_7013;
/// `struct rtc_param`: parameter, value, index, padding. Parameter 0 asks for the features, 1 for the correction.
const PARAM_BYTES: usize = 24;
/// `RTC_FEATURE_ALARM`, `RTC_FEATURE_UPDATE_INTERRUPT`.
const FEATURES: u64 = 1 << 0 | 1 << 4;

impl RtcFile {
    fn set_alarm_today(&self, b: &[u8; RTC_TIME]) -> Result<usize> {
        let (hour, minute, second) = Date::time_of_day(b)?;
        let now = self.0.date()?;
        let at = Date { hour, minute, second, ..now }.seconds();
        // The next time that the clock shows it.
        let at = if at < now.seconds() { at + DAY } else { at };
        self.0.set_alarm(at, false).map(|()| 0)
    }
    fn read_alarm(&self, arg: usize, whole: bool) -> Result<usize> {
        let (at, on, pending) = self.0.alarm();
        let mut b = [0; RTC_WKALRM];
        (b[0], b[1]) = (u8::from(on), u8::from(pending));
        let date = Date::from_seconds(at.unwrap_or(0));
        b[4..].copy_from_slice(&date.to_bytes());
        put(arg, if whole { &b } else { &b[4..] })
    }
    fn set_wake_alarm(&self, arg: usize) -> Result<usize> {
        let mut b = [0; RTC_WKALRM];
        user::copy_from_user(&mut b, arg)?;
        let mut t = [0; RTC_TIME];
        t.copy_from_slice(&b[4..]);
        self.0.set_alarm(Date::from_bytes(&t)?.seconds(), b[0] != 0).map(|()| 0)
    }
    fn parameter(&self, arg: usize) -> Result<usize> {
        let mut b = [0; PARAM_BYTES];
        user::copy_from_user(&mut b, arg)?;
        if b[..8] != [0; 8] || b[16..20] != [0; 4] {
            return Err(Errno::EINVAL);
        }
        b[8..16].copy_from_slice(&FEATURES.to_le_bytes());
        put(arg, &b)
    }
    /// EACCES without the capability.
    fn needs(have: u32) -> Result<()> {
        if crate::caller_has_cap(have) { Ok(()) } else { Err(Errno::EACCES) }
    }
}

impl FileOps for RtcFile {
    fn kind(&self) -> FileKind {
        FileKind::Stream
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        const INT: usize = 4;
        const LONG: usize = 8;
        if dst.len() != INT && dst.len() < LONG {
            return Err(Errno::EINVAL);
        }
        let r = &self.0;
        let next = || r.state.lock().events.take();
        let v = match next() {
            Some(v) => v,
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => r.readers.wait_as(Sleep::INTERRUPTIBLE, next)?,
        };
        let b = v.to_le_bytes();
        dst.put(if dst.len() == INT { &b[..INT] } else { &b })
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register(&self.0.readers);
        }
        if self.0.state.lock().events.0 != 0 { PollFlags::READABLE } else { PollFlags::empty() }
    }
    fn ioctl(&self, _file: &File, cmd: u32, arg: usize) -> Result<usize> {
        let r = &self.0;
        match cmd {
            op::RTC_RD_TIME => put(arg, &r.date()?.to_bytes()),
            op::RTC_SET_TIME => {
                Self::needs(cap::SYS_TIME)?;
                r.set_date(Date::from_bytes(&get_time(arg)?)?)?;
                Ok(0)
            }
            op::RTC_ALM_READ => self.read_alarm(arg, false),
            op::RTC_ALM_SET => self.set_alarm_today(&get_time(arg)?),
            op::RTC_WKALM_RD => self.read_alarm(arg, true),
            op::RTC_WKALM_SET => self.set_wake_alarm(arg),
            op::RTC_AIE_ON | op::RTC_AIE_OFF => r.enable_alarm(cmd == op::RTC_AIE_ON).map(|()| 0),
            op::RTC_UIE_ON | op::RTC_UIE_OFF => {
                r.enable_updates(cmd == op::RTC_UIE_ON);
                Ok(0)
            }
            op::RTC_PIE_ON => {
                let (hz, most) = {
                    let s = r.state.lock();
                    (s.hz, s.max_user_hz)
                };
                if hz > most {
                    Self::needs(cap::SYS_RESOURCE)?;
                }
                r.enable_periodic(true);
                Ok(0)
            }
            op::RTC_PIE_OFF => {
                r.enable_periodic(false);
                Ok(0)
            }
            op::RTC_IRQP_READ => put_long(arg, r.state.lock().hz),
            op::RTC_IRQP_SET => {
                let most = r.state.lock().max_user_hz;
                if arg > most as usize {
                    Self::needs(cap::SYS_RESOURCE)?;
                }
                r.set_hz(u32::try_from(arg).map_err(|_| Errno::EINVAL)?).map(|()| 0)
            }
            RTC_PARAM_GET => self.parameter(arg),
            // The epoch is 1900, and this chip knows no other.
            op::RTC_EPOCH_READ => Err(Errno::EINVAL),
            _ => Err(Errno::ENOTTY),
        }
    }
    /// Nobody listens any more to what repeats; the alarm stays.
    fn release(&self, _file: &File) {
        self.0.enable_updates(false);
        self.0.enable_periodic(false);
        self.0.state.lock().open = false;
    }
}
