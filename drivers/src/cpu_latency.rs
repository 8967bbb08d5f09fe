//! `/dev/cpu_dma_latency`: while it is open, processors wake up within the microseconds that were written to it (Linux
//! `Documentation/power/pm_qos_interface.rst`). What honours it is `sched::latency`.

use alloc::sync::Arc;

use base::{Errno, Result};
use sched::latency::{NO_LIMIT, Request, limit_us};
use vfs::{
    File, FileKind, FileOps, Inode, IoDst, IoSrc, OpenFlags,
    special::{DeviceNode, DeviceOps},
};

/// Registers it.
pub(crate) fn init() -> Result<()> {
    crate::misc::register("cpu_dma_latency", None, 0o600, DeviceNode::new(Node)).map(drop)
}

struct Node;
impl DeviceOps for Node {
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let f = LatencyFile(Request::new(NO_LIMIT)?);
        Ok(frame::heap::try_arc(f).ok_or(Errno::ENOMEM)?)
    }
}

struct LatencyFile(Request);

/// Four bytes are the number itself; anything else is its text, in hexadecimal.
fn parse(b: &[u8]) -> Result<i32> {
    if let Ok(raw) = <[u8; 4]>::try_from(b) {
        return Ok(i32::from_le_bytes(raw));
    }
    let t = core::str::from_utf8(b).map_err(|_| Errno::EINVAL)?;
    let t = t.strip_suffix('\n').unwrap_or(t);
    let (negative, t) = match t.strip_prefix('-') {
        Some(r) => (true, r),
        None => (false, t.strip_prefix('+').unwrap_or(t)),
    };
    let digits = t.strip_prefix("0x").or(t.strip_prefix("0X")).unwrap_or(t);
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Err(Errno::EINVAL);
    }
    let v = i64::from_str_radix(digits, 16).map_err(|_| Errno::ERANGE)?;
    i32::try_from(if negative { -v } else { v }).map_err(|_| Errno::ERANGE)
}

impl FileOps for LatencyFile {
    fn kind(&self) -> FileKind {
        FileKind::Seekable
    }
    fn llseek(&self, _file: &File, _current: u64, offset: i64, whence: u32) -> Result<u64> {
        // noop_llseek in effect: the position matters to reads only.
        if whence == 0 { u64::try_from(offset).map_err(|_| Errno::EINVAL) } else { Ok(0) }
    }
    fn read_at(&self, _file: &File, off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        let b = limit_us().to_le_bytes();
        match usize::try_from(off).ok().and_then(|o| b.get(o..)) {
            Some(rest) => dst.put(rest),
            None => Ok(0),
        }
    }
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        // The longest number, with sign, prefix and newline.
        let mut b = [0; 16];
        let len = src.len();
        if len > b.len() {
            return Err(Errno::EINVAL);
        }
        let n = src.take(&mut b[..len])?;
        self.0.update(parse(&b[..n])?);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_and_their_text() {
        assert_eq!(parse(&[0; 4]), Ok(0));
        assert_eq!(parse(b"0\n"), Ok(0));
        assert_eq!(parse(b"0x1f\n"), Ok(31));
        assert_eq!(parse(b"0000000a"), Ok(10));
        assert_eq!(parse(b"ffffffff"), Err(Errno::ERANGE));
        assert_eq!(parse(b"x"), Err(Errno::EINVAL));
        assert_eq!(parse(b""), Err(Errno::EINVAL));
        assert_eq!(parse(b"--1"), Err(Errno::EINVAL));
    }
    proptest! {
        #[test]
        fn any_bytes_are_answered(b in prop::collection::vec(any::<u8>(), 0..17)) {
            let _ = parse(&b);
        }
    }
}
