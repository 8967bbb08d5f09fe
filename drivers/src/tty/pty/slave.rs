//! The driver of a slave, and what the two ends share.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};
use frame::sync::{LockClass, SpinLock};
use linux_raw_sys::general as pkt;
use vfs::PollQueue;

use super::{Number, wire::Wire};
use crate::tty::{TtyDriver, termios::Termios, termios::flag};

/// Bytes on the way to the slave: the limit that Linux gives a pseudo-terminal's flip buffers.
const TO_SLAVE: usize = 8192;
/// Bytes on the way to the master; there is no line discipline behind them that could hold more.
const TO_MASTER: usize = 8192 + 4096;

static STATUS: LockClass = LockClass::new("pty_status");

pub(super) struct Pair {
    pub(super) to_slave: Wire,
    pub(super) to_master: Wire,
    pub(super) status: SpinLock<Status>,
}

/// The state of the pair.
pub(super) struct Status {
    /// Nobody may open the slave yet (TIOCSPTLCK).
    pub(super) locked: bool,
    pub(super) master_closed: bool,
    /// Open files of the slave.
    pub(super) slave_files: u32,
    /// The slave was open and is not any more.
    pub(super) slave_closed: bool,
    /// Output of the slave is stopped.
    held: bool,
    /// Packet mode, and what it has to tell (`TIOCPKT_*`).
    pub(super) packet: bool,
    pub(super) news: u8,
}

impl Pair {
    pub(super) fn new() -> Result<Arc<Pair>> {
        let status = Status {
            locked: true,
            master_closed: false,
            slave_files: 0,
            slave_closed: false,
            held: false,
            packet: false,
            news: 0,
        };
        frame::heap::try_arc(Pair {
            to_slave: Wire::new(TO_SLAVE)?,
            to_master: Wire::new(TO_MASTER)?,
            status: SpinLock::new(&STATUS, status),
        })
        .ok_or(Errno::ENOMEM)
    }
    /// Tells the master in packet mode: `clear` is no longer so, `set` is.
    fn tell(&self, clear: u32, set: u32) {
        {
            let mut s = self.status.lock();
            if !s.packet {
                return;
            }
            s.news = s.news & !(clear as u8) | set as u8;
        }
        self.to_master.arrived.wake_all();
    }
}

pub(super) struct SlaveDriver {
    pair: Arc<Pair>,
    /// Kept until the last file of the slave is gone.
    _number: Number,
}

impl SlaveDriver {
    pub(super) fn new(pair: Arc<Pair>, number: Number) -> Result<Arc<SlaveDriver>> {
        frame::heap::try_arc(SlaveDriver { pair, _number: number }).ok_or(Errno::ENOMEM)
    }
    fn is_held(&self) -> bool {
        self.pair.status.lock().held
    }
}

impl TtyDriver for SlaveDriver {
    fn write(&self, bytes: &[u8]) -> usize {
        if self.is_held() { 0 } else { self.pair.to_master.put(bytes) }
    }
    fn room(&self) -> usize {
        if self.is_held() { 0 } else { self.pair.to_master.free() }
    }
    fn room_queue(&self) -> &PollQueue {
        &self.pair.to_master.room
    }
    /// What is on the wire has been sent: the master may read it whenever it likes.
    fn pending(&self) -> usize {
        0
    }
    fn hold(&self, on: bool) {
        if core::mem::replace(&mut self.pair.status.lock().held, on) == on {
            return;
        }
        if on {
            self.pair.tell(pkt::TIOCPKT_START, pkt::TIOCPKT_STOP);
        } else {
            self.pair.tell(pkt::TIOCPKT_STOP, pkt::TIOCPKT_START);
            self.pair.to_master.room.wake_all();
        }
    }
    fn discard_output(&self) {
        self.pair.to_master.clear();
        self.pair.tell(0, pkt::TIOCPKT_FLUSHWRITE);
    }
    fn take_received(&self, into: &mut Vec<u8>, max: usize) {
        let begin = into.len();
        let n = max.min(into.capacity() - begin).min(self.pair.to_slave.len());
        into.resize(begin + n, 0);
        let n = self.pair.to_slave.get(&mut into[begin..]);
        into.truncate(begin + n);
    }
    fn has_received(&self) -> bool {
        self.pair.to_slave.len() > 0
    }
    fn arrival_queue(&self) -> &PollQueue {
        &self.pair.to_slave.arrived
    }
    fn is_pty(&self) -> bool {
        true
    }
    fn input_flushed(&self) {
        self.pair.tell(0, pkt::TIOCPKT_FLUSHREAD);
    }
    fn change_settings(&self, old: &Termios, new: Termios) -> Termios {
        let (was, is) = (old.has_usual_flow_control(), new.has_usual_flow_control());
        if was != is {
            let both = pkt::TIOCPKT_DOSTOP | pkt::TIOCPKT_NOSTOP;
            self.pair.tell(both, if is { pkt::TIOCPKT_DOSTOP } else { pkt::TIOCPKT_NOSTOP });
        }
        if old.l(flag::EXTPROC) || new.l(flag::EXTPROC) {
            self.pair.tell(0, pkt::TIOCPKT_IOCTL);
        }
        new.without_line()
    }
    fn opened(&self) -> Result<()> {
        let mut s = self.pair.status.lock();
        if s.locked || s.master_closed {
            return Err(Errno::EIO);
        }
        s.slave_files += 1;
        s.slave_closed = false;
        Ok(())
    }
    fn closed(&self) {
        {
            let mut s = self.pair.status.lock();
            s.slave_files -= 1;
            if s.slave_files > 0 {
                return;
            }
            s.slave_closed = true;
        }
        self.pair.to_master.wake();
        self.pair.to_slave.wake();
    }
}
