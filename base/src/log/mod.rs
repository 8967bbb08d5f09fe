//! The kernel's log: a ring of records that `/dev/kmsg`, `syslog(2)` and the console read.
//!
//! `pr_info!` and its kin may be called from any context but an NMI: a record is formatted into a stack buffer and
//! copied into the ring under an interrupt-safe lock. Levels at or below the console level also go to the console, by
//! way of `frame::console`.
//!
//! # Waking readers
//! The log may be written with run-queue locks held, where waking is not allowed. So a writer that finds readers waiting sets
//! this processor's timer to "now" and no more: the interrupt comes as soon as interrupts are on again, which is after such
//! locks are let go, and calls [`klog_tick`], which wakes. Reader and writer meet at the ring's lock: either the reader sees
//! the record, or the writer sees the reader.
//!
//! Formats are Linux's: `Documentation/ABI/testing/dev-kmsg`, `syslog(2)`. What can be set stands in [`control`].

use alloc::{collections::VecDeque, string::String};
use core::fmt::{self, Write};

use frame::{
    atomic::{AtomicBool, Ordering},
    sync::{LockClass, SpinLockIrq, WaitQueue},
};

pub mod control;

pub use control::{CONSOLE_LEVEL, init};

/// Severity, as in `syslog(3)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Emerg = 0,
    Alert = 1,
    Crit = 2,
    Err = 3,
    Warn = 4,
    Notice = 5,
    Info = 6,
    Debug = 7,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub seq: u64,
    /// Nanoseconds since boot.
    pub ts_ns: u64,
    /// Severity in bits 0..3, facility above (0: kernel, 1: user).
    pub priority: u32,
    pub text: String,
}

/// Longest text of one record, in bytes: Linux's `PRINTKRB_RECORD_MAX`. Longer messages are cut.
pub const MAX_TEXT: usize = 1024;
/// Room for a line of the console: a text and its time stamp.
const MAX_LINE: usize = MAX_TEXT + 32;
/// Bytes of text that the ring keeps: Linux's default `CONFIG_LOG_BUF_SHIFT=17`.
const RING_BYTES: usize = 128 * 1024;
/// What a record costs beside its text, so that many empty ones are bounded too.
const RECORD_OVERHEAD: usize = 64;

struct Ring {
    records: VecDeque<Record>,
    bytes: usize,
    next: u64,
    cleared: u64,
}

static CLASS: LockClass = LockClass::new("log_ring");
static RING: SpinLockIrq<Ring> =
    SpinLockIrq::new(&CLASS, Ring { records: VecDeque::new(), bytes: 0, next: 0, cleared: 0 });
/// Who waits for new records.
pub static WAITERS: WaitQueue = WaitQueue::new();
static NEWS: AtomicBool = AtomicBool::new(false);
/// A fixed buffer that cuts what does not fit.
struct Line<const N: usize> {
    buf: [u8; N],
    len: usize,
}
impl<const N: usize> Line<N> {
    fn new() -> Self {
        Line { buf: [0; N], len: 0 }
    }
}
impl<const N: usize> Write for Line<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = N - self.len;
        let mut n = s.len().min(room);
        while !s.is_char_boundary(n) {
            n -= 1;
        }
        self.buf[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

/// Appends a record (the macros call this).
pub fn print(level: Level, args: fmt::Arguments<'_>) {
    let mut line = Line::<MAX_TEXT>::new();
    let _ = line.write_fmt(args);
    let text = core::str::from_utf8(&line.buf[..line.len]).unwrap_or("?");
    for t in text.trim_end_matches('\n').split('\n') {
        append(level as u32, t);
    }
}

/// Appends what user space wrote to `/dev/kmsg`: an optional `<N>` prefix, facility 1 (user) unless it names another.
pub fn write_user(bytes: &[u8]) {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)]);
    let (mut prio, mut rest) = (1 << 3 | control::default_level(), &*text);
    if let Some((n, r)) = text.strip_prefix('<').and_then(|t| t.split_once('>'))
        && let Ok(n) = n.parse::<u32>()
    {
        let facility = if n >> 3 == 0 { 1 } else { n >> 3 };
        (prio, rest) = (facility << 3 | n & 7, r);
    }
    append(prio, rest.strip_suffix('\n').unwrap_or(rest));
}

fn append(priority: u32, text: &str) {
    let ts_ns = frame::time::now_ns();
    {
        let mut r = RING.lock();
        let mut kept = String::new();
        // Without memory the text is dropped, not the record: the sequence number shows that something was said.
        if kept.try_reserve_exact(text.len()).is_ok() {
            kept.push_str(text);
        }
        let seq = r.next;
        r.next += 1;
        if r.records.try_reserve(1).is_ok() {
            r.bytes += kept.len() + RECORD_OVERHEAD;
            r.records.push_back(Record { seq, ts_ns, priority, text: kept });
        }
        while r.bytes > RING_BYTES {
            let Some(old) = r.records.pop_front() else { break };
            r.bytes -= old.text.len() + RECORD_OVERHEAD;
        }
    }
    if control::goes_to_console(priority & 7) {
        text.split('\n').for_each(|t| to_console(ts_ns, t));
    }
    NEWS.store(true, Ordering::Release);
    if !WAITERS.is_empty() {
        let _irqs = frame::context::IrqGuard::new();
        frame::time::set_timer(Some(ts_ns));
    }
}

fn to_console(ts_ns: u64, text: &str) {
    let mut line = Line::<MAX_LINE>::new();
    let _ = stamp(&mut line, ts_ns);
    let _ = writeln!(line, "{text}");
    frame::console::write(&line.buf[..line.len]);
    // A serial line takes its time.
    crate::lockup::touch_nmi_watchdog();
}

/// The time stamp before a line, unless `printk.time` is off.
fn stamp(out: &mut dyn Write, ts_ns: u64) -> fmt::Result {
    if !control::shows_time() {
        return Ok(());
    }
    let us = ts_ns / 1000;
    write!(out, "[{:5}.{:06}] ", us / 1_000_000, us % 1_000_000)
}

impl Record {
    /// As `syslog(2)` and `/proc/kmsg` show it: each line with priority and time.
    pub fn syslog_text(&self) -> String {
        let mut s = String::new();
        for l in self.text.split('\n') {
            // Fails only without memory, and then the text is short.
            let _ = write!(s, "<{}>", self.priority);
            let _ = stamp(&mut s, self.ts_ns);
            let _ = writeln!(s, "{l}");
        }
        s
    }
}

/// Wakes those who wait for records, if there are new ones: from the timer interrupt, and before a processor idles.
pub fn klog_tick() {
    if NEWS.load(Ordering::Acquire) && NEWS.swap(false, Ordering::AcqRel) {
        WAITERS.wake_all();
    }
}

/// The oldest record at or after `seq`. Its `seq` is higher than asked if the wanted one was overwritten.
pub fn read_from(seq: u64) -> Option<Record> {
    let r = RING.lock();
    let first = r.records.front()?.seq;
    let i = seq.saturating_sub(first) as usize;
    r.records.get(i).cloned()
}
/// The number that the next record will get.
pub fn next_seq() -> u64 {
    RING.lock().next
}
/// The oldest record's number.
pub fn first_seq() -> u64 {
    let r = RING.lock();
    r.records.front().map_or(r.next, |x| x.seq)
}
/// Where `dmesg -c` cleared up to.
pub fn cleared_seq() -> u64 {
    RING.lock().cleared
}
/// `dmesg -c`: later reads of the whole buffer begin here.
pub fn clear() {
    let mut r = RING.lock();
    r.cleared = r.next;
}
/// Size of the buffer, for `SYSLOG_ACTION_SIZE_BUFFER`.
pub fn buffer_size() -> usize {
    RING_BYTES
}

#[doc(hidden)]
#[macro_export]
macro_rules! pr_at {
    ($level:ident, $($arg:tt)*) => { $crate::log::print($crate::log::Level::$level, ::core::format_args!($($arg)*)) };
}
#[macro_export]
macro_rules! pr_emerg { ($($arg:tt)*) => { $crate::pr_at!(Emerg, $($arg)*) }; }
#[macro_export]
macro_rules! pr_alert { ($($arg:tt)*) => { $crate::pr_at!(Alert, $($arg)*) }; }
#[macro_export]
macro_rules! pr_crit { ($($arg:tt)*) => { $crate::pr_at!(Crit, $($arg)*) }; }
#[macro_export]
macro_rules! pr_err { ($($arg:tt)*) => { $crate::pr_at!(Err, $($arg)*) }; }
#[macro_export]
macro_rules! pr_warn { ($($arg:tt)*) => { $crate::pr_at!(Warn, $($arg)*) }; }
#[macro_export]
macro_rules! pr_notice { ($($arg:tt)*) => { $crate::pr_at!(Notice, $($arg)*) }; }
#[macro_export]
macro_rules! pr_info { ($($arg:tt)*) => { $crate::pr_at!(Info, $($arg)*) }; }
#[macro_export]
macro_rules! pr_debug { ($($arg:tt)*) => { $crate::pr_at!(Debug, $($arg)*) }; }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_order_and_the_ring_is_bounded() {
        let start = next_seq();
        for i in 0..5000 {
            print(Level::Debug, format_args!("test: message number {i}"));
        }
        assert_eq!(next_seq(), start + 5000);
        let first = read_from(0).unwrap();
        assert!(first.seq > start, "old records made room");
        let mut want = first.seq;
        while let Some(r) = read_from(want) {
            assert_eq!(r.seq, want);
            want += 1;
        }
        assert_eq!(want, next_seq());
        // From user space: priority prefix, and a cut at a character's boundary.
        write_user(b"<13>hello\n");
        let r = read_from(next_seq() - 1).unwrap();
        assert_eq!((r.priority, r.text.as_str()), (13, "hello"));
        write_user(b"<3>two\nlines");
        let two = read_from(next_seq() - 1).unwrap().syslog_text();
        assert_eq!(two.lines().count(), 2);
        assert!(two.lines().all(|l| l.starts_with("<11>[")));
        write_user(b"<13>hello\n");
        let r = read_from(next_seq() - 1).unwrap();
        assert_eq!((r.priority, r.text.as_str()), (13, "hello"));
        print(Level::Info, format_args!("{}", "é".repeat(2000)));
        assert!(read_from(next_seq() - 1).unwrap().text.len() <= MAX_TEXT);
    }
}
