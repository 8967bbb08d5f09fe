//! `/dev/hwrng`: what the current source gives, raw.

use alloc::sync::Arc;

use base::{Errno, Result};
use frame::task::Work;
use vfs::{File, FileKind, FileOps, Inode, IoDst, OpenFlags, special::DeviceOps};

use super::{READING, current};

/// Bytes asked for at a time.
const CHUNK: usize = 256;

pub(super) struct Node;
impl DeviceOps for Node {
    fn open(&self, _inode: &Arc<Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        // Nothing can be written to it.
        if flags.writable() {
            return Err(Errno::EINVAL);
        }
        Ok(Arc::new(HwrngFile))
    }
}

struct HwrngFile;
impl FileOps for HwrngFile {
    fn kind(&self) -> FileKind {
        FileKind::Seekable
    }
    fn llseek(&self, _file: &File, _current: u64, _offset: i64, _whence: u32) -> Result<u64> {
        Ok(0)
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        let mut buf = [0; CHUNK];
        let mut done = 0;
        while !dst.is_empty() {
            match some_bytes(&mut buf[..dst.len().min(CHUNK)], !file.is_nonblocking()) {
                Ok(n) => {
                    let put = dst.put(&buf[..n]);
                    buf.fill(0);
                    match put {
                        Ok(k) => done += k,
                        Err(_) if done > 0 => break,
                        Err(e) => return Err(e),
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
            if !frame::task::current().work().is_empty() && done > 0 {
                break;
            }
        }
        Ok(done)
    }
}

/// At least one byte. ENODEV without a source, EAGAIN if there is none now and `wait` is false, ERESTARTSYS.
pub(super) fn some_bytes(out: &mut [u8], wait: bool) -> Result<usize> {
    loop {
        let _turn = READING.lock_interruptible()?;
        let (source, _) = current().ok_or(Errno::ENODEV)?;
        match source.read(out, wait)? {
            0 if !wait => return Err(Errno::EAGAIN),
            0 => {}
            n => return Ok(n),
        }
        if frame::task::current().work().intersects(Work::SIGNAL | Work::KILL) {
            return Err(Errno::ERESTARTSYS);
        }
    }
}
