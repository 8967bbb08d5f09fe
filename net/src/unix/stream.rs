//! Stream sockets: bytes in order, whatever the writes they came in.

use alloc::sync::Arc;

use base::{Errno, Result};
use frame::atomic::Ordering::{Relaxed, SeqCst};
use linux_raw_sys::net as uapi;
use vfs::{IoDst, IoSrc, PollFlags};

use super::{
    Kind, Phase, UnixSock,
    inflight::InFlight,
    queue::{Msg, Queue, STREAM_MAX},
};
use crate::{
    message::{Patience, RecvMsg, SendMsg},
    scm::{Control, Ucred},
    socket::shut,
};

/// How far a receive has come.
struct Progress {
    copied: usize,
    /// What consumed messages were charged.
    freed: usize,
    /// Bytes still to be passed over before a peek begins.
    skip: usize,
    /// The credentials that the bytes so far came with: others end the receive.
    creds: Option<Ucred>,
    /// A name was given.
    named: bool,
}

impl UnixSock {
    /// Bytes charged to this socket are free again.
    pub(super) fn uncharge(&self, n: usize) {
        self.wmem.fetch_sub(n, SeqCst);
        if self.has_plenty() {
            self.write_queue.wake_all_key(PollFlags::WRITABLE.bits());
        }
    }
    /// Three quarters of the send buffer are free: when Linux wakes writers and shows `POLLOUT`.
    #[inline]
    pub(super) fn has_plenty(&self) -> bool {
        self.wmem.load(SeqCst).saturating_mul(4) <= self.opt.sndbuf.load(Relaxed) as usize
    }
    /// Waits until the send buffer has room. A pending error, `EPIPE` after shutdown, `EAGAIN`.
    #[inline]
    pub(super) fn wait_room(&self, patience: &mut Patience) -> Result<()> {
        loop {
            self.opt.take_error()?;
            if self.is_shut(shut::SEND) {
                return Err(Errno::EPIPE);
            }
            let has_room = || self.wmem.load(SeqCst) < self.opt.sndbuf.load(Relaxed) as usize;
            if has_room() {
                return Ok(());
            }
            patience.wait(&self.write_queue, || {
                (has_room() || self.opt.has_error() || self.is_shut(shut::SEND)).then_some(())
            })?;
        }
    }
    /// The credentials to send along, if either side wants to know.
    pub(super) fn creds_for(&self, other: &UnixSock, given: Option<Ucred>) -> Result<Option<Ucred>> {
        if given.is_some() {
            return Ok(given);
        }
        // An embryo's owner has not had the time to say so.
        let unaccepted = || other.ino.load(Relaxed) == 0;
        if self.opt.passes_creds() || other.opt.passes_creds() || unaccepted() {
            return Ucred::sender().map(Some);
        }
        Ok(None)
    }
    /// Puts a message into this socket's queue and charges its sender. `EPIPE` where nothing is received any more.
    pub(super) fn deliver(&self, sender: &UnixSock, m: Msg) -> Result<()> {
        let truesize = m.truesize as usize;
        sender.wmem.fetch_add(truesize, SeqCst);
        let refused = {
            let mut rx = self.rx.lock();
            // Whoever releases says so before it empties the queue.
            if self.is_dead() || self.is_shut(shut::RECV) {
                Some((Errno::EPIPE, m))
            } else if let Err(e) = rx.make_room() {
                Some((e, m))
            } else {
                self.queued.store(rx.push(m), SeqCst);
                None
            }
        };
        // A message that was refused is dropped here, without the lock, for its descriptors may be the last.
        if let Some((e, _m)) = refused {
            sender.uncharge(truesize);
            return Err(e);
        }
        self.read_queue.wake_all_key(PollFlags::READABLE.bits());
        Ok(())
    }

    /// sendmsg(2) on a stream socket.
    pub(super) fn send_stream(self: &Arc<Self>, m: &SendMsg<'_>, src: &mut IoSrc<'_>) -> Result<usize> {
        let control =
            if m.control.is_empty() { Control::default() } else { Control::parse(m.control, true)? };
        if m.flags & uapi::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if m.name.is_some() {
            return Err(if self.phase() == Phase::Established { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        let other = self.peer().ok_or(Errno::ENOTCONN)?;
        if self.is_shut(shut::SEND) {
            return Err(Errno::EPIPE);
        }
        let mut files = control.files;
        let mut patience = Patience::new(m.nonblock, self.opt.sndtimeo.load(Relaxed));
        let mut sent = 0;
        while !src.is_empty() {
            let most = (self.opt.sndbuf.load(Relaxed) as usize / 2 - 64).min(STREAM_MAX);
            let n = src.len().min(most);
            let step = (|| {
                self.wait_room(&mut patience)?;
                let mut msg = Msg::take(Kind::Stream, src, n)?;
                let creds = self.creds_for(&other, control.creds)?;
                // The first message carries the descriptors.
                let files = core::mem::take(&mut files);
                let files = if files.is_empty() { None } else { Some(InFlight::send(files, &other)?) };
                msg.attach(creds, files)?;
                other.deliver(self, msg)
            })();
            match step {
                Ok(()) => sent += n,
                Err(e) if sent == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    /// recvmsg(2) on a stream socket.
    pub(super) fn recv_stream(self: &Arc<Self>, m: &mut RecvMsg, dst: &mut IoDst<'_>) -> Result<usize> {
        if self.phase() != Phase::Established {
            return Err(Errno::EINVAL);
        }
        if m.flags & uapi::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let want = dst.len();
        let low = if m.flags & uapi::MSG_WAITALL != 0 {
            want
        } else {
            want.min(self.opt.rcvlowat.load(Relaxed) as usize)
        };
        let low = low.max(1);
        let skip = if m.peeks() { self.opt.peek_offset() } else { 0 };
        let mut p = Progress { copied: 0, freed: 0, skip, creds: None, named: false };
        let mut patience = Patience::new(m.nonblock, self.opt.rcvtimeo.load(Relaxed));
        let end = loop {
            let drained = {
                let mut rx = self.rx.lock();
                self.drain(&mut rx, m, dst, &mut p)
            };
            match drained {
                Err(e) => break Err(e),
                Ok(true) => break Ok(()),
                Ok(false) => {}
            }
            // The queue is empty, and there is room for more.
            if p.copied >= low {
                break Ok(());
            }
            if let Err(e) = self.opt.take_error() {
                break Err(e);
            }
            if self.is_shut(shut::RECV) {
                // What was sent before the end is there by now.
                if self.queued.load(SeqCst) > 0 && !m.peeks() {
                    continue;
                }
                break Ok(());
            }
            // Senders may go on while this waits.
            self.give_back(&mut p);
            let passed = if m.peeks() { self.passed_over(p.skip) } else { 0 };
            let ready = patience.wait(&self.read_queue, || {
                (self.queued.load(SeqCst) > passed || self.opt.has_error() || self.is_shut(shut::RECV))
                    .then_some(())
            });
            if let Err(e) = ready {
                break Err(e);
            }
        };
        self.give_back(&mut p);
        if self.opt.passes_creds() {
            m.creds = Some(p.creds.unwrap_or_default());
        }
        match end {
            Err(e) if p.copied == 0 => Err(e),
            _ => Ok(p.copied),
        }
    }
    fn give_back(&self, p: &mut Progress) {
        if p.freed > 0 {
            if let Some(peer) = self.peer() {
                peer.uncharge(p.freed);
            }
            p.freed = 0;
        }
    }
    /// How many messages lie before a peek that begins `skip` bytes in.
    fn passed_over(&self, skip: usize) -> u32 {
        if skip == 0 { 0 } else { self.queued.load(SeqCst) }
    }
    /// Takes bytes as long as there are messages. True: the receive is complete.
    fn drain(&self, rx: &mut Queue, m: &mut RecvMsg, dst: &mut IoDst<'_>, p: &mut Progress) -> Result<bool> {
        let passes = self.opt.passes_creds();
        let mut at = 0;
        let mut skip = p.skip;
        loop {
            let Some(msg) = rx.get(at) else { return Ok(m.peeks() && p.copied > 0) };
            if m.peeks() && skip >= msg.left() && (skip > 0 || msg.left() == 0) {
                skip -= msg.left();
                at += 1;
                continue;
            }
            if passes {
                match p.creds {
                    Some(c) if c != msg.creds() => return Ok(true),
                    _ => p.creds = Some(msg.creds()),
                }
            }
            if m.want_name && !p.named {
                m.name = self.peer().and_then(|s| s.addr()).map(|a| *a);
                p.named = true;
            }
            let want = (msg.left() - skip).min(dst.len());
            let n = msg.put(skip, want, dst)?;
            p.copied += n;
            let ends = if m.peeks() {
                self.opt.move_peek_offset(n as isize);
                (p.skip, skip) = (0, 0);
                at += 1;
                self.look_at_files(msg, m)?
            } else {
                self.consume(rx, n, m, p)
            };
            if ends || n < want || dst.is_empty() {
                return Ok(true);
            }
        }
    }
    /// Copies the descriptors of a message that stays. True if there were any.
    pub(super) fn look_at_files(&self, msg: &Msg, m: &mut RecvMsg) -> Result<bool> {
        let Some(f) = msg.extra.as_ref().and_then(|e| e.files.as_ref()) else { return Ok(false) };
        m.files = f.peek()?;
        Ok(true)
    }
    /// Consumes `n` bytes of the first message. True if the receive ends with it: it carried descriptors, or is not used up.
    fn consume(&self, rx: &mut Queue, n: usize, m: &mut RecvMsg, p: &mut Progress) -> bool {
        self.opt.move_peek_offset(-(n as isize));
        let Some(msg) = rx.front_mut() else { return true };
        msg.off += n as u32;
        let files = msg.extra.as_mut().and_then(|e| e.files.take());
        let had_files = files.is_some();
        if let Some(f) = files {
            m.files = f.receive();
        }
        if msg.left() > 0 {
            return true;
        }
        p.freed += msg.truesize as usize;
        // Its descriptors are out, so that dropping it under the lock closes nothing.
        drop(rx.pop());
        self.queued.store(rx.len() as u32, SeqCst);
        had_files
    }
}
