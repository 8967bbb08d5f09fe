//! The memory devices: `/dev/null`, `/dev/zero`, `/dev/full` (`null(4)`, `full(4)`), and `/dev/kmsg`.

use alloc::{format, string::String, sync::Arc};

use base::{
    Errno, Result,
    device::{self, DevKind, DevNum, Device},
    log,
};
use frame::{
    sync::{LockClass, Mutex},
    task::State,
};
use mm::MapObject;
use vfs::{
    File, FileKind, FileOps, Inode, IoDst, IoSrc, OpenFlags, PollFlags, PollTable,
    special::{DeviceNode, DeviceOps, SharedDevice},
};

/// Major number of the memory devices.
pub(crate) const MAJOR: u32 = 1;

pub(crate) fn node(name: &str, minor: u32, mode: u32, ops: Arc<DeviceNode>) -> Result<()> {
    let num = DevNum::new(MAJOR, minor);
    device::register(Device { name: name.into(), num, kind: DevKind::Char, mode, class: Some("mem"), ops })?;
    Ok(())
}

/// Registers them.
pub fn init() -> Result<()> {
    node("null", 3, 0o666, SharedDevice::node(Null))?;
    node("zero", 5, 0o666, SharedDevice::node(Zero))?;
    node("full", 7, 0o666, SharedDevice::node(Full))?;
    node("kmsg", 11, 0o644, DeviceNode::new(Kmsg))
}

/// Swallows a write whole.
fn swallow(src: &mut IoSrc<'_>) -> usize {
    src.skip(src.len())
}
/// A seek has no effect and gives 0.
fn seek_nowhere() -> Result<u64> {
    Ok(0)
}

struct Null;
impl FileOps for Null {
    fn read_at(&self, _file: &File, _off: u64, _dst: &mut IoDst<'_>) -> Result<usize> {
        Ok(0)
    }
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        Ok(swallow(src))
    }
    fn llseek(&self, _file: &File, _current: u64, _offset: i64, _whence: u32) -> Result<u64> {
        seek_nowhere()
    }
    fn map_object(&self, _file: &File) -> Result<Arc<dyn MapObject>> {
        Err(Errno::ENODEV)
    }
    fn fsync(&self, _file: &File, _data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }
    fn can_poll(&self) -> bool {
        true
    }
}

struct Zero;
impl FileOps for Zero {
    fn read_at(&self, _file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        dst.put_zeros(dst.len())
    }
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        Ok(swallow(src))
    }
    fn llseek(&self, _file: &File, _current: u64, _offset: i64, _whence: u32) -> Result<u64> {
        seek_nowhere()
    }
    fn map_object(&self, _file: &File) -> Result<Arc<dyn MapObject>> {
        // Each mapping has zero pages of its own, promised as they are touched: how many there will be is not known here.
        Ok(mm::SharedAnon::new(isize::MAX as usize & !(mm::PAGE_SIZE - 1), false, false)?)
    }
    fn can_poll(&self) -> bool {
        true
    }
}

struct Full;
impl FileOps for Full {
    fn read_at(&self, _file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        dst.put_zeros(dst.len())
    }
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        if src.is_empty() { Ok(0) } else { Err(Errno::ENOSPC) }
    }
    fn llseek(&self, _file: &File, _current: u64, _offset: i64, _whence: u32) -> Result<u64> {
        seek_nowhere()
    }
    fn can_poll(&self) -> bool {
        true
    }
}

/// `/dev/kmsg`: one record per read, one per write (`Documentation/ABI/testing/dev-kmsg`).
struct Kmsg;
impl DeviceOps for Kmsg {
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(KmsgFile { next: Mutex::new(&KMSG, log::first_seq()) }))
    }
}

static KMSG: LockClass = LockClass::new("kmsg_file");

struct KmsgFile {
    next: Mutex<u64>,
}

/// `prefix,sequence,microseconds,flags;text`, control characters as `\xNN`.
fn format_record(r: &log::Record) -> String {
    let mut s = format!("{},{},{},-;", r.priority, r.seq, r.ts_ns / 1000);
    for c in r.text.chars() {
        if (c.is_control() && c != '\t') || c == '\\' {
            for b in c.encode_utf8(&mut [0; 4]).bytes() {
                s.push_str(&format!("\\x{b:02x}"));
            }
        } else {
            s.push(c);
        }
    }
    s.push('\n');
    s
}

impl FileOps for KmsgFile {
    fn can_poll(&self) -> bool {
        true
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        let mut next = self.next.lock_interruptible()?;
        let record = match log::read_from(*next) {
            Some(r) => r,
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => log::WAITERS.wait_as(State::INTERRUPTIBLE, || log::read_from(*next))?,
        };
        if record.seq > *next {
            // Records were overwritten before they were read.
            *next = record.seq;
            return Err(Errno::EPIPE);
        }
        let text = format_record(&record);
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
        log::write_user(&b[..n]);
        Ok(n)
    }
    fn llseek(&self, _file: &File, _current: u64, offset: i64, whence: u32) -> Result<u64> {
        if offset != 0 {
            return Err(Errno::ESPIPE);
        }
        // SEEK_SET: the first record; SEEK_DATA: after the last clear; SEEK_END: after the last record.
        *self.next.lock() = match whence {
            0 => log::first_seq(),
            3 => log::cleared_seq(),
            2 => log::next_seq(),
            _ => return Err(Errno::EINVAL),
        };
        Ok(0)
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register_static(&log::WAITERS);
        }
        let next = *self.next.lock();
        if log::next_seq() > next { PollFlags::READABLE | PollFlags::WRITABLE } else { PollFlags::WRITABLE }
    }
    fn kind(&self) -> FileKind {
        FileKind::Seekable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_escaped() {
        let r = log::Record { seq: 5, ts_ns: 1_234_567, priority: 6, text: "a\\b\u{1}c\té".into() };
        assert_eq!(format_record(&r), "6,5,1234,-;a\\x5cb\\x01c\té\n");
    }
}
