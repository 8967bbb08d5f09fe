//! Connecting, listening, accepting.

use alloc::sync::Arc;

use base::{Errno, Result};
use frame::{
    atomic::Ordering::{Relaxed, SeqCst},
    sync::{LockClass, Mutex},
};
use vfs::PollFlags;

use super::{
    Kind, Phase, UnixSock,
    name::{check, is_unspec},
};
use crate::{message::Patience, scm::Ucred, socket::shut};

static CLASS: LockClass = LockClass::new("unix_link");
/// One change of who is connected to whom at a time: so that a socket's phase does not change between looking and connecting.
static LINK: Mutex<()> = Mutex::new(&CLASS, ());

impl UnixSock {
    /// listen(2). Again with another backlog is allowed.
    pub(super) fn listen(self: &Arc<Self>, backlog: u32) -> Result<()> {
        if self.kind == Kind::Dgram {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.addr().is_none() {
            return Err(Errno::EINVAL);
        }
        let who = Ucred::peer()?;
        let _link = LINK.lock();
        if self.phase() == Phase::Established {
            return Err(Errno::EINVAL);
        }
        self.backlog.store(backlog, SeqCst);
        self.state.lock().cred = who;
        self.set_phase(Phase::Listen);
        // The backlog may have grown.
        self.room_queue.wake_all();
        Ok(())
    }

    /// connect(2) of a stream or sequenced-packet socket: makes the other end and puts it into the listener's queue.
    pub(super) fn connect_stream(self: &Arc<Self>, addr: &[u8], nonblock: bool) -> Result<()> {
        let target = check(addr)?;
        self.autobind_if_passing()?;
        let mut patience = Patience::new(nonblock, self.opt.sndtimeo.load(Relaxed));
        let embryo = UnixSock::new(self.kind)?;
        let who = Ucred::peer()?;
        {
            let mut e = embryo.state.lock();
            (e.peer, e.cred) = (Some(self.clone()), who);
            embryo.set_phase(Phase::Established);
        }
        let r = loop {
            let to = match self.find(&target) {
                Ok(to) => to,
                Err(e) => break Err(e),
            };
            match self.try_connect(&embryo, &to) {
                Err(Errno::EAGAIN) => {}
                r => break r,
            }
            let free = || {
                (!to.is_full() || to.is_dead() || to.phase() != Phase::Listen || to.is_shut(shut::RECV))
                    .then_some(())
            };
            if let Err(e) = patience.wait(&to.room_queue, free) {
                break Err(e);
            }
        };
        if r.is_err() {
            // It points here, and goes without a word.
            let peer = embryo.state.lock().peer.take();
            drop(peer);
        }
        r
    }
    /// `EAGAIN`: the listener's queue is full.
    fn try_connect(self: &Arc<Self>, embryo: &Arc<UnixSock>, to: &Arc<UnixSock>) -> Result<()> {
        let _link = LINK.lock();
        if to.phase() != Phase::Listen || to.is_shut(shut::RECV) {
            return Err(Errno::ECONNREFUSED);
        }
        if to.is_full() {
            return Err(Errno::EAGAIN);
        }
        match self.phase() {
            Phase::Close => {}
            Phase::Established => return Err(Errno::EISCONN),
            Phase::Listen => return Err(Errno::EINVAL),
        }
        let cred = {
            let mut s = to.state.lock();
            if to.is_dead() {
                return Err(Errno::ECONNREFUSED);
            }
            s.accept.try_reserve(1)?;
            {
                let mut e = embryo.state.lock_nested();
                (e.addr, e.listener) = (s.addr.clone(), Arc::downgrade(to));
            }
            // What this side is told must be there before the other one can be accepted.
            s.accept.push_back(embryo.clone());
            to.queued.store(s.accept.len() as u32, SeqCst);
            s.cred
        };
        {
            let mut s = self.state.lock();
            (s.peer, s.cred) = (Some(embryo.clone()), cred);
        }
        self.set_phase(Phase::Established);
        to.read_queue.wake_one_key(PollFlags::READABLE.bits());
        self.write_queue.wake_all_key(PollFlags::WRITABLE.bits());
        Ok(())
    }

    /// connect(2) of a datagram socket: where messages go, and the only one that they are taken from.
    pub(super) fn connect_dgram(self: &Arc<Self>, addr: &[u8]) -> Result<()> {
        let new = if is_unspec(addr)? {
            None
        } else {
            let target = check(addr)?;
            self.autobind_if_passing()?;
            Some(self.find(&target)?)
        };
        let _link = LINK.lock();
        if let Some(n) = &new
            && !self.may_send(n)
        {
            return Err(Errno::EPERM);
        }
        let old = core::mem::replace(&mut self.state.lock().peer, new.clone());
        self.set_phase(if new.is_some() { Phase::Established } else { Phase::Close });
        if let Some(n) = &new {
            n.set_phase(Phase::Established);
        }
        let changed = match (&old, &new) {
            (Some(o), Some(n)) => !Arc::ptr_eq(o, n),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if let Some(o) = old.filter(|_| changed) {
            // What came from it does not count any more; and if it was connected with this one, it learns that something was lost.
            let lost = self.purge(None);
            self.wake_senders();
            if lost && !o.is_dead() && o.is_peer(self) {
                o.opt.set_error(Errno::ECONNRESET);
                o.wake_everyone();
            }
        }
        self.write_queue.wake_all_key(PollFlags::WRITABLE.bits());
        Ok(())
    }

    /// accept(2).
    pub(super) fn accept(self: &Arc<Self>, nonblock: bool) -> Result<Arc<UnixSock>> {
        if self.kind == Kind::Dgram {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.phase() != Phase::Listen {
            return Err(Errno::EINVAL);
        }
        let mut patience = Patience::new(nonblock, self.opt.rcvtimeo.load(Relaxed));
        loop {
            self.opt.take_error()?;
            let first = {
                let mut s = self.state.lock();
                let e = s.accept.pop_front();
                self.queued.store(s.accept.len() as u32, SeqCst);
                e
            };
            if let Some(e) = first {
                e.state.lock().listener = alloc::sync::Weak::new();
                e.opt.inherit(&self.opt);
                self.wake_senders();
                return Ok(e);
            }
            if self.is_shut(shut::RECV) {
                return Err(if nonblock { Errno::EAGAIN } else { Errno::EINVAL });
            }
            patience.wait_exclusive(&self.read_queue, || {
                (self.queued.load(SeqCst) > 0 || self.opt.has_error() || self.is_shut(shut::RECV))
                    .then_some(())
            })?;
        }
    }
}
