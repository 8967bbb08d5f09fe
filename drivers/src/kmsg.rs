//! `/dev/kmsg`: the kernel's log, one record per read, one per write.
//!
//! Each open file has a position of its own. A reader that was too slow is told once (EPIPE) and goes on with the oldest record
//! there is. Programs may write ten records in five seconds through one open file, unless `kernel.printk_devkmsg` says otherwise;
//! more are dropped, and their number is logged when the file is closed.
//!
//! Documented: Linux `Documentation/ABI/testing/dev-kmsg`.

use alloc::{string::String, sync::Arc};
use core::fmt::Write;

use base::{
    Errno, Result,
    cred::cap,
    log::{
        self,
        control::{self, DEFAULT_BURST, DEFAULT_INTERVAL_NS, DevKmsg, RateLimit},
    },
};
use frame::sync::{LockClass, Mutex};
use vfs::{
    File, FileKind, FileOps, Inode, IoDst, IoSrc, OpenFlags, PollFlags, PollTable,
    special::{DeviceNode, DeviceOps},
};

use crate::{mem::node, tty::job};

/// `lseek`'s `SEEK_DATA`: after the last clear.
const SEEK_DATA: u32 = 3;

/// Registers the device.
pub fn init() -> Result<()> {
    node("kmsg", 11, 0o644, DeviceNode::new(Kmsg))
}

struct Kmsg;
impl DeviceOps for Kmsg {
    fn open(&self, _inode: &Arc<Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        if DevKmsg::now() == DevKmsg::Off {
            return Err(Errno::EPERM);
        }
        let may_read = !control::is_restricted() || job::ctx().is_none_or(|c| c.cred.has_cap(cap::SYSLOG));
        if flags.readable() && !may_read {
            return Err(Errno::EPERM);
        }
        let file = KmsgFile { next: Mutex::new(&CLASS, log::first_seq()), writes: RateLimit::new() };
        Ok(frame::heap::try_arc(file).ok_or(Errno::ENOMEM)?)
    }
}

static CLASS: LockClass = LockClass::new("kmsg_file");

struct KmsgFile {
    next: Mutex<u64>,
    writes: RateLimit,
}

/// `prefix,sequence,microseconds,flags;text`, what is not printable ASCII as `\xNN`. ENOMEM.
fn format_record(r: &log::Record) -> Result<String> {
    let mut s = String::new();
    // The head, and at most four characters for each byte.
    s.try_reserve(64 + 4 * r.text.len()).map_err(|_| Errno::ENOMEM)?;
    write!(s, "{},{},{},-;", r.priority, r.seq, r.ts_ns / 1000).map_err(|_| Errno::ENOMEM)?;
    for b in r.text.bytes() {
        if (b' '..127).contains(&b) && b != b'\\' {
            s.push(b.into());
        } else {
            write!(s, "\\x{b:02x}").map_err(|_| Errno::ENOMEM)?;
        }
    }
    s.push('\n');
    Ok(s)
}

impl FileOps for KmsgFile {
    fn kind(&self) -> FileKind {
        FileKind::Seekable
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        let mut next = self.next.lock_interruptible()?;
        let record = match log::read_from(*next) {
            Some(r) => r,
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => log::WAITERS.wait_interruptible(|| log::read_from(*next))?,
        };
        if record.seq > *next {
            // Records were overwritten before they were read.
            *next = record.seq;
            return Err(Errno::EPIPE);
        }
        let text = format_record(&record)?;
        if text.len() > dst.len() {
            return Err(Errno::EINVAL);
        }
        *next += 1;
        dst.put(text.as_bytes())
    }
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        let len = src.len();
        if len > log::MAX_TEXT {
            return Err(Errno::EINVAL);
        }
        let mut b = [0; log::MAX_TEXT];
        let n = src.take(&mut b[..len])?;
        let passes = match DevKmsg::now() {
            DevKmsg::On => true,
            DevKmsg::Off => false,
            DevKmsg::RateLimit => self.writes.allow(DEFAULT_INTERVAL_NS, DEFAULT_BURST),
        };
        if passes {
            log::write_user(&b[..n]);
        }
        Ok(n)
    }
    fn llseek(&self, _file: &File, _current: u64, offset: i64, whence: u32) -> Result<u64> {
        if offset != 0 {
            return Err(Errno::ESPIPE);
        }
        *self.next.lock() = match whence {
            0 => log::first_seq(),
            SEEK_DATA => log::cleared_seq(),
            2 => log::next_seq(),
            _ => return Err(Errno::EINVAL),
        };
        Ok(0)
    }
    /// Readable or not; writing is always possible and not announced, as on Linux.
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register_static(&log::WAITERS);
        }
        let next = *self.next.lock();
        if log::next_seq() <= next {
            PollFlags::empty()
        } else if log::first_seq() > next {
            // What it would have read is gone.
            PollFlags::READABLE | PollFlags::ERR | PollFlags::PRI
        } else {
            PollFlags::READABLE
        }
    }
}

impl Drop for KmsgFile {
    fn drop(&mut self) {
        let missed = self.writes.take_missed();
        if missed > 0 {
            let me = sched::me();
            let comm = me.comm();
            let name = String::from_utf8_lossy(comm.full());
            base::pr_warn!("{name}: {missed} output lines suppressed due to ratelimiting");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_escaped() {
        let r = log::Record { seq: 5, ts_ns: 1_234_567, priority: 6, text: "a\\b\u{1}c\td\ne\u{e9}".into() };
        let want = "6,5,1234,-;a\\x5cb\\x01c\\x09d\\x0ae\\xc3\\xa9\n";
        assert_eq!(format_record(&r).as_deref(), Ok(want));
    }
}
