//! `SOL_SOCKET` options (socket(7)) and what they set.

use base::{Errno, Result, cred::cap};
use frame::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use linux_raw_sys::net as uapi;

use crate::{caller, knobs, message::FOREVER, socket::Socket};

/// Time limits are kept in Linux's ticks (250 a second), so that they read back as there.
const TICK_NS: u64 = sched::JIFFY_NS;
const NS_PER_SEC: u64 = 1_000_000_000;
const US_PER_SEC: i64 = 1_000_000;

/// The value of an option, up to 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Value {
    bytes: [u8; 16],
    len: usize,
}

impl Value {
    pub fn bytes(b: &[u8]) -> Value {
        let mut v = Value { bytes: [0; 16], len: b.len().min(16) };
        v.bytes[..v.len].copy_from_slice(&b[..v.len]);
        v
    }
    pub fn int(n: u32) -> Value {
        Self::bytes(&n.to_ne_bytes())
    }
}
impl core::ops::Deref for Value {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Switches, as bits of [`Options::switches`].
mod switch {
    pub(super) const DEBUG: u32 = 1 << 0;
    pub(super) const REUSEADDR: u32 = 1 << 1;
    pub(super) const DONTROUTE: u32 = 1 << 2;
    pub(super) const BROADCAST: u32 = 1 << 3;
    pub(super) const KEEPALIVE: u32 = 1 << 4;
    pub(super) const OOBINLINE: u32 = 1 << 5;
    pub(super) const PASSCRED: u32 = 1 << 6;
    pub(super) const PASSSEC: u32 = 1 << 7;
    pub(super) const LINGER: u32 = 1 << 8;
}

fn switch_of(name: u32) -> Option<u32> {
    Some(match name {
        uapi::SO_DEBUG => switch::DEBUG,
        uapi::SO_REUSEADDR => switch::REUSEADDR,
        uapi::SO_DONTROUTE => switch::DONTROUTE,
        uapi::SO_BROADCAST => switch::BROADCAST,
        uapi::SO_KEEPALIVE => switch::KEEPALIVE,
        uapi::SO_OOBINLINE => switch::OOBINLINE,
        uapi::SO_PASSCRED => switch::PASSCRED,
        uapi::SO_PASSSEC => switch::PASSSEC,
        _ => return None,
    })
}

/// What every socket keeps.
pub struct Options {
    pub(crate) sndbuf: AtomicU32,
    pub(crate) rcvbuf: AtomicU32,
    switches: AtomicU32,
    /// A pending error; 0: none.
    error: AtomicU32,
    /// ns.
    pub(crate) rcvtimeo: AtomicU64,
    pub(crate) sndtimeo: AtomicU64,
    pub(crate) rcvlowat: AtomicU32,
    /// -1: off.
    pub(crate) peek_off: AtomicI32,
    linger_s: AtomicU32,
    priority: AtomicU32,
}

impl Options {
    pub(crate) fn new() -> Options {
        Options {
            sndbuf: AtomicU32::new(knobs::WMEM_DEFAULT.load(Relaxed)),
            rcvbuf: AtomicU32::new(knobs::RMEM_DEFAULT.load(Relaxed)),
            switches: AtomicU32::new(0),
            error: AtomicU32::new(0),
            rcvtimeo: AtomicU64::new(FOREVER),
            sndtimeo: AtomicU64::new(FOREVER),
            rcvlowat: AtomicU32::new(1),
            peek_off: AtomicI32::new(-1),
            linger_s: AtomicU32::new(0),
            priority: AtomicU32::new(0),
        }
    }
    #[inline]
    fn is_on(&self, bit: u32) -> bool {
        self.switches.load(Relaxed) & bit != 0
    }
    #[inline]
    pub(crate) fn passes_creds(&self) -> bool {
        self.is_on(switch::PASSCRED)
    }
    /// What an accepted socket takes over from the one that listened.
    pub(crate) fn inherit(&self, from: &Options) {
        self.switches.fetch_or(from.switches.load(Relaxed) & (switch::PASSCRED | switch::PASSSEC), Relaxed);
    }
    pub(crate) fn set_error(&self, e: Errno) {
        self.error.store(e.code() as u32, SeqCst);
    }
    #[inline]
    pub(crate) fn has_error(&self) -> bool {
        self.error.load(SeqCst) != 0
    }
    /// The pending error, once.
    #[inline]
    pub(crate) fn take_error(&self) -> Result<()> {
        if !self.has_error() {
            return Ok(());
        }
        match Errno::from_code(self.error.swap(0, SeqCst) as i32) {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }
    /// Where a peek begins.
    pub(crate) fn peek_offset(&self) -> usize {
        self.peek_off.load(Relaxed).max(0) as usize
    }
    /// `n` bytes were peeked at, or (negative) consumed.
    pub(crate) fn move_peek_offset(&self, n: isize) {
        let off = self.peek_off.load(Relaxed);
        if off >= 0 {
            let off = (off as isize).saturating_add(n).clamp(0, i32::MAX as isize);
            self.peek_off.store(off as i32, Relaxed);
        }
    }
}

fn int(value: &[u8]) -> Result<i32> {
    Ok(i32::from_ne_bytes(*value.first_chunk::<4>().ok_or(Errno::EINVAL)?))
}

/// A buffer size as set: limited, doubled for the bookkeeping, and not too small.
fn buffer(n: i32, max: u32, min: u32) -> u32 {
    // A negative size is a very large one, as in Linux's comparison without sign.
    (n as u32).min(max).min(i32::MAX as u32 / 2).saturating_mul(2).max(min)
}

/// `struct timeval` as a limit: nothing is for ever, negative not at all. `EDOM` for microseconds outside of a second.
fn time_limit(value: &[u8]) -> Result<u64> {
    let word = |at: usize| -> Result<i64> {
        let b = value.get(at..at + 8).and_then(|b| b.first_chunk::<8>()).ok_or(Errno::EINVAL)?;
        Ok(i64::from_ne_bytes(*b))
    };
    let (sec, us) = (word(0)?, word(8)?);
    if !(0..US_PER_SEC).contains(&us) {
        return Err(Errno::EDOM);
    }
    Ok(match (sec, us) {
        (..0, _) => 0,
        (0, 0) => FOREVER,
        _ => {
            let ns =
                (sec as u64).checked_mul(NS_PER_SEC).map_or(FOREVER, |s| s.saturating_add(us as u64 * 1000));
            ns.checked_next_multiple_of(TICK_NS).unwrap_or(FOREVER)
        }
    })
}

fn timeval(ns: u64) -> Value {
    let (sec, us) = if ns == FOREVER { (0, 0) } else { (ns / NS_PER_SEC, ns % NS_PER_SEC / 1000) };
    let mut b = [0; 16];
    b[..8].copy_from_slice(&sec.to_ne_bytes());
    b[8..].copy_from_slice(&us.to_ne_bytes());
    Value::bytes(&b)
}

/// setsockopt(2).
pub fn set(sock: &dyn Socket, level: u32, name: u32, value: &[u8]) -> Result<()> {
    if level != uapi::SOL_SOCKET {
        return sock.set_option(level, name, value);
    }
    let o = sock.options();
    let n = int(value)?;
    let on = n != 0;
    if let Some(bit) = switch_of(name) {
        if name == uapi::SO_DEBUG && on && !caller::cred()?.has_cap(cap::NET_ADMIN) {
            return Err(Errno::EACCES);
        }
        if on {
            o.switches.fetch_or(bit, Relaxed);
        } else {
            o.switches.fetch_and(!bit, Relaxed);
        }
        return Ok(());
    }
    match name {
        uapi::SO_SNDBUF => set_sndbuf(sock, buffer(n, knobs::WMEM_MAX.load(Relaxed), knobs::MIN_SNDBUF)),
        uapi::SO_RCVBUF => {
            o.rcvbuf.store(buffer(n, knobs::RMEM_MAX.load(Relaxed), knobs::MIN_RCVBUF), Relaxed);
        }
        uapi::SO_SNDBUFFORCE | uapi::SO_RCVBUFFORCE => {
            if !caller::cred()?.has_cap(cap::NET_ADMIN) {
                return Err(Errno::EPERM);
            }
            if name == uapi::SO_SNDBUFFORCE {
                set_sndbuf(sock, buffer(n.max(0), u32::MAX, knobs::MIN_SNDBUF));
            } else {
                o.rcvbuf.store(buffer(n.max(0), u32::MAX, knobs::MIN_RCVBUF), Relaxed);
            }
        }
        uapi::SO_PRIORITY => {
            let c = caller::cred()?;
            if !(0..=6).contains(&n) && !c.has_cap(cap::NET_ADMIN) && !c.has_cap(cap::NET_RAW) {
                return Err(Errno::EPERM);
            }
            o.priority.store(n as u32, Relaxed);
        }
        uapi::SO_LINGER => {
            let seconds = value.get(4..8).and_then(|b| b.first_chunk::<4>()).ok_or(Errno::EINVAL)?;
            if on {
                o.linger_s.store(u32::from_ne_bytes(*seconds), Relaxed);
                o.switches.fetch_or(switch::LINGER, Relaxed);
            } else {
                o.switches.fetch_and(!switch::LINGER, Relaxed);
            }
        }
        uapi::SO_RCVLOWAT => {
            let n = if n < 0 { i32::MAX } else { n.max(1) };
            o.rcvlowat.store(n as u32, Relaxed);
        }
        uapi::SO_RCVTIMEO => o.rcvtimeo.store(time_limit(value)?, Relaxed),
        uapi::SO_SNDTIMEO => o.sndtimeo.store(time_limit(value)?, Relaxed),
        uapi::SO_PEEK_OFF if sock.has_peek_offset() => o.peek_off.store(n, Relaxed),
        // These need a family that routes.
        uapi::SO_PEEK_OFF => return Err(Errno::EOPNOTSUPP),
        uapi::SO_REUSEPORT if on => return Err(Errno::EOPNOTSUPP),
        uapi::SO_REUSEPORT => {}
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

fn set_sndbuf(sock: &dyn Socket, n: u32) {
    sock.options().sndbuf.store(n, Relaxed);
    sock.send_buffer_grew();
}

/// getsockopt(2). The caller cuts the value to the room that there is.
pub fn get(sock: &dyn Socket, level: u32, name: u32) -> Result<Value> {
    if level != uapi::SOL_SOCKET {
        return sock.get_option(level, name);
    }
    let o = sock.options();
    if let Some(bit) = switch_of(name) {
        return Ok(Value::int(o.is_on(bit) as u32));
    }
    Ok(Value::int(match name {
        uapi::SO_TYPE => sock.kind(),
        uapi::SO_DOMAIN => sock.family(),
        uapi::SO_PROTOCOL => sock.protocol(),
        uapi::SO_ERROR => o.take_error().err().map_or(0, |e| e.code() as u32),
        uapi::SO_SNDBUF => o.sndbuf.load(Relaxed),
        uapi::SO_RCVBUF => o.rcvbuf.load(Relaxed),
        uapi::SO_PRIORITY => o.priority.load(Relaxed),
        uapi::SO_RCVLOWAT => o.rcvlowat.load(Relaxed),
        uapi::SO_SNDLOWAT => 1,
        uapi::SO_REUSEPORT => 0,
        uapi::SO_ACCEPTCONN => sock.is_listening() as u32,
        uapi::SO_PEEK_OFF if sock.has_peek_offset() => o.peek_off.load(Relaxed) as u32,
        uapi::SO_PEEK_OFF => return Err(Errno::EOPNOTSUPP),
        uapi::SO_RCVTIMEO => return Ok(timeval(o.rcvtimeo.load(Relaxed))),
        uapi::SO_SNDTIMEO => return Ok(timeval(o.sndtimeo.load(Relaxed))),
        uapi::SO_PEERCRED => return Ok(Value::bytes(&sock.peer_cred().to_bytes())),
        uapi::SO_LINGER => {
            let mut b = [0; 8];
            b[..4].copy_from_slice(&(o.is_on(switch::LINGER) as u32).to_ne_bytes());
            b[4..].copy_from_slice(&o.linger_s.load(Relaxed).to_ne_bytes());
            return Ok(Value::bytes(&b));
        }
        _ => return Err(Errno::ENOPROTOOPT),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tv(sec: i64, us: i64) -> [u8; 16] {
        let mut b = [0; 16];
        b[..8].copy_from_slice(&sec.to_ne_bytes());
        b[8..].copy_from_slice(&us.to_ne_bytes());
        b
    }

    #[test]
    fn limits_are_in_ticks() {
        assert_eq!(time_limit(&tv(0, 0)), Ok(FOREVER));
        assert_eq!(time_limit(&tv(-1, 0)), Ok(0));
        assert_eq!(time_limit(&tv(0, 1)), Ok(TICK_NS));
        assert_eq!(time_limit(&tv(1, 500_000)), Ok(1_500_000_000));
        assert_eq!(time_limit(&tv(i64::MAX, 0)), Ok(FOREVER));
        assert_eq!(time_limit(&tv(0, 1_000_000)), Err(Errno::EDOM));
        assert_eq!(time_limit(&[0; 15]), Err(Errno::EINVAL));
        assert_eq!(timeval(1_500_000_000), Value::bytes(&tv(1, 500_000)));
    }
    #[test]
    fn buffers_are_doubled_within_bounds() {
        assert_eq!(buffer(10_000, 212_992, 4608), 20_000);
        assert_eq!(buffer(1, 212_992, 4608), 4608);
        assert_eq!(buffer(1 << 30, 212_992, 4608), 425_984);
        assert_eq!(buffer(-1, 212_992, 4608), 425_984);
        assert_eq!(buffer(i32::MAX, u32::MAX, 4608), i32::MAX as u32 - 1);
    }
    #[test]
    fn an_error_is_told_once() {
        let o = Options::new();
        o.set_error(Errno::ECONNRESET);
        assert_eq!((o.take_error(), o.take_error()), (Err(Errno::ECONNRESET), Ok(())));
    }
}
