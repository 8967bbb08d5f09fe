//! What a send or a receive is asked for and gives, and how long it waits.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};
use frame::{sync::WaitQueue, task::State};
use linux_raw_sys::net as uapi;
use vfs::File;

use crate::scm::Ucred;

/// Longest address (`struct sockaddr_storage`).
pub const ADDR_MAX: usize = 128;

/// An address on its way to a program, family included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Name {
    bytes: [u8; Name::MAX],
    len: u8,
}

impl Name {
    /// Longest name of the families that are here: `struct sockaddr_un`, and the zero byte that ends a path which fills it.
    pub const MAX: usize = 112;
    /// Cut where it is too long.
    pub fn new(b: &[u8]) -> Name {
        let len = b.len().min(Self::MAX);
        let mut bytes = [0; Self::MAX];
        bytes[..len].copy_from_slice(&b[..len]);
        Name { bytes, len: len as u8 }
    }
}
impl core::ops::Deref for Name {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

/// A message to be sent; its bytes come separately.
#[derive(Default)]
pub struct SendMsg<'a> {
    /// `MSG_*`.
    pub flags: u32,
    /// `MSG_DONTWAIT` or `O_NONBLOCK`.
    pub nonblock: bool,
    /// Where to; `None`: to the peer.
    pub name: Option<&'a [u8]>,
    /// Control messages as the program wrote them.
    pub control: &'a [u8],
}

/// What is wanted of a receive, and afterwards what came beside the bytes.
#[derive(Default)]
pub struct RecvMsg {
    /// `MSG_*`.
    pub flags: u32,
    /// `MSG_DONTWAIT` or `O_NONBLOCK`.
    pub nonblock: bool,
    /// The sender's address is wanted.
    pub want_name: bool,
    pub name: Option<Name>,
    /// `MSG_TRUNC`, `MSG_EOR`, … as they go back.
    pub out_flags: u32,
    /// To be given if the socket asks for them.
    pub creds: Option<Ucred>,
    pub files: Vec<Arc<File>>,
    /// For `SOL_NETLINK`'s `NETLINK_PKTINFO`: the group.
    pub netlink_group: Option<u32>,
}

impl RecvMsg {
    pub(crate) fn peeks(&self) -> bool {
        self.flags & uapi::MSG_PEEK != 0
    }
}

/// For ever, as a time limit of a socket.
pub(crate) const FOREVER: u64 = u64::MAX;

/// How long an operation still waits. The clock is read only when it comes to waiting.
pub(crate) struct Patience {
    nonblock: bool,
    /// `SO_RCVTIMEO` or `SO_SNDTIMEO`, ns.
    limit: u64,
    deadline: Option<u64>,
}

impl Patience {
    pub(crate) fn new(nonblock: bool, limit: u64) -> Patience {
        Patience { nonblock: nonblock || limit == 0, limit, deadline: None }
    }
    /// Waits until `cond` holds. `EAGAIN` where it may not wait or the time is over; `ERESTARTSYS` for a signal, but `EINTR` where a
    /// limit is set, since a restarted call would begin it anew.
    pub(crate) fn wait<R>(&mut self, q: &WaitQueue, cond: impl FnMut() -> Option<R>) -> Result<R> {
        self.wait_as(q, false, cond)
    }
    /// As [`Self::wait`], woken one at a time where no limit is set.
    pub(crate) fn wait_exclusive<R>(&mut self, q: &WaitQueue, cond: impl FnMut() -> Option<R>) -> Result<R> {
        self.wait_as(q, true, cond)
    }
    fn wait_as<R>(
        &mut self,
        q: &WaitQueue,
        exclusive: bool,
        mut cond: impl FnMut() -> Option<R>,
    ) -> Result<R> {
        if self.nonblock {
            return cond().ok_or(Errno::EAGAIN);
        }
        if self.limit == FOREVER {
            return Ok(if exclusive {
                q.wait_exclusive_interruptible(cond)?
            } else {
                q.wait_interruptible(cond)?
            });
        }
        let end = *self.deadline.get_or_insert_with(|| sched::time::now_ns().saturating_add(self.limit));
        match sched::time::wait_timeout(q, State::INTERRUPTIBLE, Some(end), cond) {
            Ok(r) => r.ok_or(Errno::EAGAIN),
            Err(_) => Err(Errno::EINTR),
        }
    }
}
