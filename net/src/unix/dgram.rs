//! Datagram and sequenced-packet sockets: messages keep their borders.

use alloc::sync::Arc;

use base::{Errno, Result};
use frame::atomic::Ordering::{Relaxed, SeqCst};
use linux_raw_sys::net as uapi;
use vfs::{IoDst, IoSrc};

use super::{
    Kind, Phase, UnixSock,
    inflight::InFlight,
    name,
    queue::{Msg, Queue},
};
use crate::{
    message::{Patience, RecvMsg, SendMsg},
    scm::Control,
    socket::shut,
};

/// What a message must leave of the send buffer, bytes.
const SNDBUF_SLACK: usize = 32;

impl UnixSock {
    /// sendmsg(2) on a sequenced-packet socket: as a datagram to the peer; an address is passed over.
    pub(super) fn send_seqpacket(self: &Arc<Self>, m: &SendMsg<'_>, src: &mut IoSrc<'_>) -> Result<usize> {
        self.opt.take_error()?;
        if self.phase() != Phase::Established {
            return Err(Errno::ENOTCONN);
        }
        self.send_dgram(&SendMsg { name: None, ..*m }, src)
    }
    /// sendmsg(2) on a datagram socket.
    pub(super) fn send_dgram(self: &Arc<Self>, m: &SendMsg<'_>, src: &mut IoSrc<'_>) -> Result<usize> {
        let control =
            if m.control.is_empty() { Control::default() } else { Control::parse(m.control, true)? };
        if m.flags & uapi::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let target = m.name.map(name::check).transpose()?;
        let mut other = match &target {
            Some(_) => None,
            None => Some(self.peer().ok_or(Errno::ENOTCONN)?),
        };
        self.autobind_if_passing()?;
        let len = src.len();
        if len > (self.opt.sndbuf.load(Relaxed) as usize).saturating_sub(SNDBUF_SLACK) {
            return Err(Errno::EMSGSIZE);
        }
        let mut patience = Patience::new(m.nonblock, self.opt.sndtimeo.load(Relaxed));
        self.wait_room(&mut patience)?;
        let mut msg = Msg::take(self.kind, src, len)?;
        loop {
            let to = match (other.take(), &target) {
                (Some(o), _) => o,
                (None, Some(t)) => self.find(t)?,
                (None, None) => return Err(Errno::ECONNRESET),
            };
            if !self.may_send(&to) {
                return Err(Errno::EPERM);
            }
            if to.is_dead() {
                self.peer_died(&to)?;
                continue;
            }
            if to.is_shut(shut::RECV) {
                return Err(Errno::EPIPE);
            }
            if !Arc::ptr_eq(self, &to) && to.is_full() && !to.is_peer(self) {
                self.wait_for_queue(&to, &mut patience)?;
                other = target.is_none().then_some(to);
                continue;
            }
            let creds = self.creds_for(&to, control.creds)?;
            let files =
                if control.files.is_empty() { None } else { Some(InFlight::send(control.files, &to)?) };
            msg.attach(creds, files)?;
            msg.from = Some(self.clone());
            // Its release may come between the looks and the delivery: as if the message had come just before.
            return to.deliver(self, msg).map(|()| len);
        }
    }
    /// One that is connected takes messages from its peer alone.
    pub(super) fn may_send(self: &Arc<Self>, to: &UnixSock) -> bool {
        to.state.lock().peer.as_ref().is_none_or(|p| Arc::ptr_eq(p, self))
    }
    /// The receiver is gone: a datagram socket forgets it.
    fn peer_died(self: &Arc<Self>, to: &Arc<UnixSock>) -> Result<()> {
        if self.kind == Kind::Seqpacket {
            return Err(Errno::EPIPE);
        }
        let old = {
            let mut s = self.state.lock();
            if s.peer.as_ref().is_some_and(|p| Arc::ptr_eq(p, to)) { s.peer.take() } else { None }
        };
        match old {
            Some(_) => {
                self.set_phase(Phase::Close);
                self.purge(None);
                Err(Errno::ECONNREFUSED)
            }
            None => Ok(()),
        }
    }
    fn wait_for_queue(self: &Arc<Self>, to: &Arc<UnixSock>, patience: &mut Patience) -> Result<()> {
        let free = || (!to.is_full() || to.is_dead() || to.is_shut(shut::RECV)).then_some(());
        let r = patience.wait(&to.room_queue, free);
        if r == Err(Errno::EAGAIN) {
            // Who polls for it, also without asking again, hears of the room.
            to.relay_to(self);
            if free().is_some() {
                to.wake_senders();
            }
        }
        r
    }

    /// recvmsg(2) on a datagram or sequenced-packet socket.
    pub(super) fn recv_dgram(self: &Arc<Self>, m: &mut RecvMsg, dst: &mut IoDst<'_>) -> Result<usize> {
        if m.flags & uapi::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut patience = Patience::new(m.nonblock, self.opt.rcvtimeo.load(Relaxed));
        loop {
            self.opt.take_error()?;
            {
                let mut rx = self.rx.lock();
                if let Some(at) = self.chosen(&rx, m) {
                    let r = self.take_one(&mut rx, at, m, dst);
                    drop(rx);
                    return self.finish(r?, m);
                }
            }
            if self.is_shut(shut::RECV) {
                // The end. Who may not wait learns it from a connection alone.
                return if m.nonblock && self.kind == Kind::Dgram { Err(Errno::EAGAIN) } else { Ok(0) };
            }
            let seen = if m.peeks() && self.opt.peek_offset() > 0 { self.queued.load(SeqCst) } else { 0 };
            patience.wait(&self.read_queue, || {
                (self.queued.load(SeqCst) > seen || self.opt.has_error() || self.is_shut(shut::RECV))
                    .then_some(())
            })?;
        }
    }
    /// Which message a receive gets: the first, or for a peek the one in which its offset lies.
    fn chosen(&self, rx: &Queue, m: &RecvMsg) -> Option<(usize, usize)> {
        let mut skip = if m.peeks() { self.opt.peek_offset() } else { 0 };
        let mut at = 0;
        loop {
            let msg = rx.get(at)?;
            if skip == 0 || skip < msg.left() {
                return Some((at, skip));
            }
            (skip, at) = (skip - msg.left(), at + 1);
        }
    }
    /// Copies message `at` from byte `skip` on, and consumes it unless it is only looked at; one that cannot be copied is consumed
    /// all the same. Gives the result of the call and the message to let go.
    fn take_one(
        &self,
        rx: &mut Queue,
        (at, skip): (usize, usize),
        m: &mut RecvMsg,
        dst: &mut IoDst<'_>,
    ) -> Result<(Result<usize>, Option<Msg>)> {
        if m.peeks() {
            let Some(msg) = rx.get(at) else { return Ok((Err(Errno::EAGAIN), None)) };
            let n = self.copy_out(msg, skip, m, dst);
            self.look_at_files(msg, m)?;
            if let Ok(n) = n {
                self.opt.move_peek_offset(n.min(msg.left()) as isize);
            }
            return Ok((n, None));
        }
        let Some(mut msg) = rx.pop() else { return Ok((Err(Errno::EAGAIN), None)) };
        self.queued.store(rx.len() as u32, SeqCst);
        let n = self.copy_out(&msg, 0, m, dst);
        if let Some(f) = msg.extra.as_mut().and_then(|e| e.files.take()) {
            m.files = f.receive();
        }
        self.opt.move_peek_offset(-(msg.left() as isize));
        Ok((n, Some(msg)))
    }
    fn copy_out(&self, msg: &Msg, skip: usize, m: &mut RecvMsg, dst: &mut IoDst<'_>) -> Result<usize> {
        let left = msg.left() - skip;
        let want = left.min(dst.len());
        if want < left {
            m.out_flags |= uapi::MSG_TRUNC;
        }
        if m.want_name {
            m.name = msg.from.as_ref().and_then(|s| s.addr()).map(|a| *a);
        }
        if self.opt.passes_creds() {
            m.creds = Some(msg.creds());
        }
        if msg.put(skip, want, dst)? < want {
            return Err(Errno::EFAULT);
        }
        Ok(if m.flags & uapi::MSG_TRUNC != 0 { left } else { want })
    }
    /// After the lock: senders have room, and what was not wanted goes.
    fn finish(&self, (n, gone): (Result<usize>, Option<Msg>), m: &mut RecvMsg) -> Result<usize> {
        if let Some(msg) = gone {
            if let Some(s) = &msg.from {
                s.uncharge(msg.truesize as usize);
            }
            self.wake_senders();
        }
        if n.is_err() {
            super::inflight::close(core::mem::take(&mut m.files));
        }
        n
    }
}
