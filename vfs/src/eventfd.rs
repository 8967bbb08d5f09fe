//! eventfd(2): a counter that can be waited for.

use alloc::{string::String, sync::Arc};

use base::{Errno, Result, cred::Cred};
use frame::sync::{LockClass, SpinLock, WaitQueue};
use linux_raw_sys::general as raw;

use crate::{
    anon,
    file::{File, FileKind, FileOps},
    io::{IoDst, IoSrc},
    poll::{PollFlags, PollQueue, PollTable},
    types::OpenFlags,
};

static CLASS: LockClass = LockClass::new("eventfd");

/// The largest value that the counter can hold.
const MAX: u64 = u64::MAX - 1;

/// The file behind an eventfd.
pub struct EventFd {
    count: SpinLock<u64>,
    semaphore: bool,
    /// Readers and writers wait here alike.
    queue: PollQueue,
}

/// eventfd2(2): makes the file. `flags` are `EFD_*`; `EFD_CLOEXEC` is the caller's.
pub fn create(initial: u32, flags: u32, cred: &Arc<Cred>) -> Result<Arc<File>> {
    if flags & !(raw::EFD_SEMAPHORE | raw::O_CLOEXEC | raw::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let ops = Arc::new(EventFd {
        count: SpinLock::new(&CLASS, initial as u64),
        semaphore: flags & raw::EFD_SEMAPHORE != 0,
        queue: Arc::new(WaitQueue::new()),
    });
    let nonblock = OpenFlags::from_bits_truncate(flags) & OpenFlags::NONBLOCK;
    anon::new_file("[eventfd]", ops, OpenFlags::RDWR | nonblock, cred)
}

impl EventFd {
    fn try_read(&self) -> Option<u64> {
        let mut c = self.count.lock();
        let n = match *c {
            0 => return None,
            _ if self.semaphore => 1,
            n => n,
        };
        *c -= n;
        Some(n)
    }
    fn try_write(&self, n: u64) -> Option<()> {
        let mut c = self.count.lock();
        let sum = c.checked_add(n).filter(|s| *s <= MAX)?;
        *c = sum;
        Some(())
    }
    /// Adds from inside the kernel; the counter sticks at its largest value.
    pub fn signal(&self, n: u64) {
        {
            let mut c = self.count.lock();
            *c = c.saturating_add(n);
        }
        self.queue.wake_all_key(PollFlags::IN.bits());
    }
}

impl FileOps for EventFd {
    fn kind(&self) -> FileKind {
        FileKind::Stream
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        if dst.len() < 8 {
            return Err(Errno::EINVAL);
        }
        let n = match self.try_read() {
            Some(n) => n,
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => self.queue.wait_interruptible(|| self.try_read())?,
        };
        self.queue.wake_all_key(PollFlags::OUT.bits());
        if dst.put(&n.to_ne_bytes())? < 8 { Err(Errno::EFAULT) } else { Ok(8) }
    }
    fn write_at(&self, file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        let mut b = [0; 8];
        if src.len() < 8 {
            return Err(Errno::EINVAL);
        }
        if src.take(&mut b)? < 8 {
            return Err(Errno::EFAULT);
        }
        let n = u64::from_ne_bytes(b);
        if n == u64::MAX {
            return Err(Errno::EINVAL);
        }
        match self.try_write(n) {
            Some(()) => {}
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => self.queue.wait_interruptible(|| self.try_write(n))?,
        }
        self.queue.wake_all_key(PollFlags::IN.bits());
        Ok(8)
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register(&self.queue);
        }
        let c = *self.count.lock();
        let mut f = PollFlags::empty();
        if c > 0 {
            f |= PollFlags::IN;
        }
        if c == u64::MAX {
            f |= PollFlags::ERR;
        }
        if c < MAX {
            f |= PollFlags::OUT;
        }
        f
    }
    fn fdinfo(&self, _file: &File, out: &mut String) {
        use core::fmt::Write;
        // Writing to a string fails only without memory, and then the line is missing.
        let _ = writeln!(out, "eventfd-count: {:16x}", *self.count.lock());
    }
}
