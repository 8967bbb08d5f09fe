//! One direction of a pseudo-terminal: bytes in order, a limit, and the two queues of those who wait.

use alloc::collections::VecDeque;

use base::{Errno, Result};
use frame::sync::{LockClass, SpinLock, WaitQueue};
use vfs::PollQueue;

static WIRE: LockClass = LockClass::new("pty_wire");

pub(super) struct Wire {
    bytes: SpinLock<VecDeque<u8>>,
    limit: usize,
    /// Woken when bytes arrive.
    pub(super) arrived: PollQueue,
    /// Woken when there is room.
    pub(super) room: PollQueue,
}

impl Wire {
    /// All the memory that it will need. ENOMEM.
    pub(super) fn new(limit: usize) -> Result<Wire> {
        let mut bytes = VecDeque::new();
        bytes.try_reserve_exact(limit)?;
        let queue = || frame::heap::try_arc(WaitQueue::new()).ok_or(Errno::ENOMEM);
        Ok(Wire { bytes: SpinLock::new(&WIRE, bytes), limit, arrived: queue()?, room: queue()? })
    }
    /// Takes what fits; how many bytes.
    pub(super) fn put(&self, b: &[u8]) -> usize {
        let n = {
            let mut bytes = self.bytes.lock();
            let n = b.len().min(self.limit - bytes.len());
            bytes.extend(&b[..n]);
            n
        };
        if n > 0 {
            self.arrived.wake_all();
        }
        n
    }
    /// Moves bytes into `into`; how many.
    pub(super) fn get(&self, into: &mut [u8]) -> usize {
        let n = {
            let mut bytes = self.bytes.lock();
            let n = bytes.len().min(into.len());
            into[..n].iter_mut().zip(bytes.drain(..n)).for_each(|(to, b)| *to = b);
            n
        };
        if n > 0 {
            self.room.wake_all();
        }
        n
    }
    /// Forgets what is on the wire.
    pub(super) fn clear(&self) {
        self.bytes.lock().clear();
        self.room.wake_all();
    }
    pub(super) fn len(&self) -> usize {
        self.bytes.lock().len()
    }
    pub(super) fn free(&self) -> usize {
        self.limit - self.len()
    }
    /// Whatever anybody waits for may have changed.
    pub(super) fn wake(&self) {
        self.arrived.wake_all();
        self.room.wake_all();
    }
}
