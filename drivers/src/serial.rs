//! The 8250 serial port COM1: `/dev/ttyS0`, and the console of a virtual machine.
//!
//! Output goes into a ring that the transmitter-empty interrupt drains, 16 bytes at a time (the depth of a 16550's
//! FIFO). Received bytes go into another ring, and the terminal's thread takes them through the line discipline. The
//! kernel's own messages bypass the rings: `frame::console` polls them out, so that they appear even if nothing else works.
//!
//! Registers: National Semiconductor PC16550D data sheet.

use alloc::{collections::VecDeque, sync::Arc, vec::Vec};

use frame::{
    atomic::{AtomicU64, Ordering},
    io::Ports,
    sync::{LockClass, SpinLockIrq, WaitQueue},
};

use vfs::PollQueue;

use crate::tty::TtyDriver;

const BASE: u16 = 0x3f8;
const LINE: u32 = 4;
const FIFO: usize = 16;
/// Bytes that may wait to be sent: a page, as Linux's `UART_XMIT_SIZE`.
const TX_RING: usize = 4096;
/// Received bytes that may wait for the terminal's thread; more are lost and counted as overruns.
const RX_RING: usize = 16384;

/// Register offsets.
mod reg {
    pub(super) const DATA: u16 = 0;
    pub(super) const IER: u16 = 1;
    pub(super) const IIR_FCR: u16 = 2;
    pub(super) const LCR: u16 = 3;
    pub(super) const MCR: u16 = 4;
    pub(super) const LSR: u16 = 5;
    pub(super) const SCRATCH: u16 = 7;
}
const IER_RX: u8 = 1;
const IER_TX: u8 = 2;
const LSR_DATA: u8 = 1;
const LSR_OVERRUN: u8 = 2;
const LSR_TX_EMPTY: u8 = 0x20;
/// DTR, RTS, and OUT2, which connects the interrupt line on a PC.
const MCR_ON: u8 = 0x0b;

struct Port {
    io: Ports,
    tx: VecDeque<u8>,
    rx: VecDeque<u8>,
    ier: u8,
    held: bool,
}

/// The port. One exists at most.
pub struct Serial {
    port: SpinLockIrq<Port>,
    room: PollQueue,
    arrived: PollQueue,
    sent: AtomicU64,
    received: AtomicU64,
    overruns: AtomicU64,
}

static CLASS: LockClass = LockClass::new("serial_port");

impl Serial {
    /// Finds the port and connects its interrupt. `None` if nothing answers there.
    pub fn probe() -> Option<Arc<Serial>> {
        let io = Ports::claim(BASE, 8)?;
        // An absent port reads as ones.
        io.write8(reg::SCRATCH, 0x5a);
        if io.read8(reg::SCRATCH) != 0x5a {
            return None;
        }
        io.write8(reg::IER, 0);
        io.write8(reg::LCR, 0x80);
        io.write8(reg::DATA, 1); // divisor 1: 115200
        io.write8(reg::IER, 0);
        io.write8(reg::LCR, 3); // 8N1
        io.write8(reg::IIR_FCR, 0x07); // FIFO on, cleared, trigger at 1 byte
        io.write8(reg::MCR, MCR_ON);
        let s = Arc::new(Serial {
            port: SpinLockIrq::new(
                &CLASS,
                Port { io, tx: VecDeque::new(), rx: VecDeque::new(), ier: IER_RX, held: false },
            ),
            room: Arc::new(WaitQueue::new()),
            arrived: Arc::new(WaitQueue::new()),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            overruns: AtomicU64::new(0),
        });
        let me = s.clone();
        if let Err(e) = frame::irq::request(LINE, move || me.interrupt()) {
            base::pr_warn!("serial: ttyS0 has no interrupt line {LINE}: {e:?}");
            return None;
        }
        {
            let mut p = s.port.lock();
            if p.tx.try_reserve_exact(TX_RING).is_err() || p.rx.try_reserve_exact(RX_RING).is_err() {
                return None;
            }
            p.io.write8(reg::IER, IER_RX);
        }
        base::pr_info!("serial: ttyS0 at I/O 0x{BASE:x} (irq = {LINE}, base_baud = 115200) is a 16550A");
        Some(s)
    }

    fn interrupt(&self) {
        let (mut news, mut room) = (false, false);
        {
            let mut p = self.port.lock();
            loop {
                let lsr = p.io.read8(reg::LSR);
                if lsr & LSR_OVERRUN != 0 {
                    self.overruns.fetch_add(1, Ordering::Relaxed);
                }
                if lsr & LSR_DATA == 0 {
                    break;
                }
                let b = p.io.read8(reg::DATA);
                self.received.fetch_add(1, Ordering::Relaxed);
                if p.rx.len() < RX_RING {
                    p.rx.push_back(b);
                } else {
                    self.overruns.fetch_add(1, Ordering::Relaxed);
                }
                news = true;
            }
            if p.ier & IER_TX != 0 {
                room = self.fill(&mut p);
            }
            // Reading the identification acknowledges a transmitter interrupt.
            let _ = p.io.read8(reg::IIR_FCR);
        }
        if news {
            self.arrived.wake_all();
        }
        if room {
            self.room.wake_all();
        }
    }

    /// Moves bytes to the transmitter while it takes them. True if the ring is half empty now.
    fn fill(&self, p: &mut Port) -> bool {
        let mut n = 0;
        while !p.held && !p.tx.is_empty() && p.io.read8(reg::LSR) & LSR_TX_EMPTY != 0 {
            for _ in 0..FIFO {
                let Some(b) = p.tx.pop_front() else { break };
                p.io.write8(reg::DATA, b);
                n += 1;
            }
        }
        self.sent.fetch_add(n, Ordering::Relaxed);
        let want = if p.tx.is_empty() || p.held { IER_RX } else { IER_RX | IER_TX };
        if want != p.ier {
            p.ier = want;
            p.io.write8(reg::IER, want);
        }
        p.tx.len() <= TX_RING / 2
    }

    /// Line of `/proc/tty/driver/serial`.
    pub fn statistics(&self) -> (u64, u64, u64) {
        (
            self.sent.load(Ordering::Relaxed),
            self.received.load(Ordering::Relaxed),
            self.overruns.load(Ordering::Relaxed),
        )
    }
}

impl TtyDriver for Serial {
    fn write(&self, bytes: &[u8]) -> usize {
        let mut p = self.port.lock();
        let n = bytes.len().min(TX_RING - p.tx.len());
        p.tx.extend(&bytes[..n]);
        self.fill(&mut p);
        n
    }
    fn room(&self) -> usize {
        TX_RING - self.port.lock().tx.len()
    }
    fn room_queue(&self) -> &PollQueue {
        &self.room
    }
    fn pending(&self) -> usize {
        self.port.lock().tx.len()
    }
    fn hold(&self, on: bool) {
        let mut p = self.port.lock();
        p.held = on;
        self.fill(&mut p);
        drop(p);
        if !on {
            self.room.wake_all();
        }
    }
    fn discard_output(&self) {
        let mut p = self.port.lock();
        p.tx.clear();
        self.fill(&mut p);
    }
    fn take_received(&self, into: &mut Vec<u8>, max: usize) {
        let mut p = self.port.lock();
        // The caller's buffer was sized beforehand: nothing allocates with interrupts off.
        let n = p.rx.len().min(into.capacity() - into.len()).min(max);
        into.extend(p.rx.drain(..n));
    }
    fn has_received(&self) -> bool {
        !self.port.lock().rx.is_empty()
    }
    fn arrival_queue(&self) -> &PollQueue {
        &self.arrived
    }
}
