//! Readiness, as Linux shows it.

use alloc::sync::Arc;

use vfs::{PollFlags, PollTable};

use super::{Kind, Phase, UnixSock};
use crate::socket::shut;
use frame::atomic::Ordering::SeqCst;

impl UnixSock {
    pub(super) fn poll(self: &Arc<Self>, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register(&self.read_queue);
            t.register(&self.write_queue);
        }
        let mut f = PollFlags::empty();
        let (phase, shut) = (self.phase(), self.shutdown.load(SeqCst));
        if self.opt.has_error() {
            f |= PollFlags::ERR;
        }
        if shut == shut::BOTH {
            f |= PollFlags::HUP;
        }
        if shut & shut::RECV != 0 {
            f |= PollFlags::RDHUP | PollFlags::READABLE;
        }
        if self.queued.load(SeqCst) > 0 {
            f |= PollFlags::READABLE;
        }
        // One that is to be connected and is not, is hung up.
        if self.kind != Kind::Dgram && phase == Phase::Close {
            f |= PollFlags::HUP;
        }
        if phase != Phase::Listen && self.has_plenty() && self.receiver_takes() {
            f |= PollFlags::WRITABLE | PollFlags::WRBAND;
        }
        f
    }
    /// The receiver of a connected datagram socket has room. If not, this socket's pollers will be told when it has.
    fn receiver_takes(self: &Arc<Self>) -> bool {
        if self.kind != Kind::Dgram {
            return true;
        }
        let Some(to) = self.peer() else { return true };
        if !to.is_full() || to.is_peer(self) {
            return true;
        }
        to.relay_to(self);
        !to.is_full()
    }
}
