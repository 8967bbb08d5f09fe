//! One serial port: rings in both directions, flow control, modem lines.

use alloc::{collections::VecDeque, string::String, sync::Arc, vec::Vec};

use base::Result;
use frame::sync::{LockClass, SpinLockIrq, WaitQueue};
use vfs::PollQueue;

use super::{
    settings::{Arrival, BASE_BAUD, Delivery, Settings},
    uart::{
        FIFO, IER_LINE, IER_MODEM, IER_RX, IER_TX, LSR_BREAK, LSR_DATA, LSR_ERRORS, LSR_FRAME, LSR_OVERRUN,
        LSR_PARITY, LSR_TX_ROOM, MCR_DTR, MCR_LOOP, MCR_OUT1, MCR_OUT2, MCR_RTS, MSR_CTS, MSR_DCD, MSR_DSR,
        MSR_RI, Uart,
    },
};
use crate::tty::{
    TtyDriver,
    modem::{self, IntCounts},
    termios::{Termios, flag},
};

/// Bytes that may wait to be sent: a page, as Linux's `UART_XMIT_SIZE`.
const TX_RING: usize = 4096;
/// Received bytes that may wait to be taken. When it is full the port is not read any more, so that a line with flow control
/// (and QEMU, always) holds the sender back.
const RX_RING: usize = 16384;
/// Room for a marked byte.
const RX_SPARE: usize = 3;

/// What `interrupt` has found out that cannot be dealt with in interrupt context.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// The carrier went away and matters.
    pub(super) hang_up: bool,
    /// A break that means SIGINT.
    pub(super) interrupt: bool,
    /// A key that followed a break on the console (the magic SysRq sequence of serial lines).
    pub(super) sysrq: Option<u8>,
}

/// A break announces a SysRq key for so long.
const SYSRQ_WINDOW_NS: u64 = 5_000_000_000;

struct Inner {
    uart: Uart,
    tx: VecDeque<u8>,
    rx: VecDeque<u8>,
    ier: u8,
    mcr: u8,
    msr: u8,
    settings: Settings,
    /// `Ctrl-S`.
    held: bool,
    sending_break: bool,
    counts: IntCounts,
    /// What reading the line status has taken back before the receiver saw it.
    saved_status: u8,
    /// Open files, and what the last close does.
    opens: u32,
    hang_up_on_close: bool,
    /// On the console: until when the next byte is a SysRq key.
    sysrq_until: u64,
}

/// A port.
pub struct Port {
    pub index: u32,
    pub base: u16,
    pub irq: u32,
    is_console: bool,
    inner: SpinLockIrq<Inner>,
    room: PollQueue,
    arrived: PollQueue,
    /// Woken when modem lines change.
    changed: WaitQueue,
}

static CLASS: LockClass = LockClass::new("serial_port");

impl Port {
    /// Finds the port. `None` if nothing answers there.
    pub(super) fn probe(index: u32, base: u16, irq: u32, is_console: bool) -> Option<Arc<Port>> {
        let uart = Uart::probe(base)?;
        let (mut tx, mut rx) = (VecDeque::new(), VecDeque::new());
        tx.try_reserve_exact(TX_RING).ok()?;
        rx.try_reserve_exact(RX_RING + RX_SPARE).ok()?;
        let settings = Settings::of(&Termios::default());
        let mcr = MCR_DTR | MCR_RTS | MCR_OUT2;
        uart.set_line(settings.lcr, settings.divisor, false);
        uart.set_modem_control(mcr);
        let inner = Inner {
            msr: uart.modem_status(),
            uart,
            tx,
            rx,
            ier: 0,
            mcr,
            settings,
            held: false,
            sending_break: false,
            counts: IntCounts::default(),
            saved_status: 0,
            opens: 0,
            hang_up_on_close: true,
            sysrq_until: 0,
        };
        Some(Arc::new(Port {
            index,
            base,
            irq,
            is_console,
            inner: SpinLockIrq::new(&CLASS, inner),
            room: Arc::new(WaitQueue::new()),
            arrived: Arc::new(WaitQueue::new()),
            changed: WaitQueue::new(),
        }))
    }
    /// Its interrupt is connected: begins to receive.
    pub(super) fn start(&self) {
        self.inner.lock().update_ier();
    }
    /// `ttyS0`.
    pub fn name(&self) -> String {
        alloc::format!("ttyS{}", self.index)
    }

    /// Serves it; `None` if it had not asked.
    pub(super) fn interrupt(&self) -> Option<Found> {
        let mut found = Found::default();
        let (news, room, lines) = {
            let mut p = self.inner.lock();
            if !p.uart.is_pending() {
                return None;
            }
            let sending = p.ier & IER_TX != 0;
            let news = p.receive(self.is_console, &mut found);
            let lines = p.note_modem(&mut found);
            (news, p.fill() && (sending || lines), lines)
        };
        if news {
            self.arrived.wake_all();
        }
        if room {
            self.room.wake_all();
        }
        if lines {
            self.changed.wake_all();
        }
        Some(found)
    }

    /// A line of `/proc/tty/driver/serial`. Modem lines that are up are named.
    pub(super) fn report(&self) -> String {
        let (c, bits) = {
            let p = self.inner.lock();
            (p.counts, p.modem_bits())
        };
        let mut s = alloc::format!(
            "{}: uart:16550A port:{:08X} irq:{} tx:{} rx:{}",
            self.index,
            self.base,
            self.irq,
            c.tx,
            c.rx
        );
        for (n, name) in [(c.frame, "fe"), (c.parity, "pe"), (c.brk, "brk"), (c.overrun, "oe")] {
            if n != 0 {
                s += &alloc::format!(" {name}:{n}");
            }
        }
        let lines = [
            (modem::RTS, "RTS"),
            (modem::CTS, "CTS"),
            (modem::DTR, "DTR"),
            (modem::DSR, "DSR"),
            (modem::CD, "CD"),
            (modem::RI, "RI"),
        ];
        for (i, (_, name)) in lines.iter().filter(|(bit, _)| bits & bit != 0).enumerate() {
            s.push(if i == 0 { ' ' } else { '|' });
            s += name;
        }
        s
    }
}

impl Inner {
    /// The line status. Reading it takes errors and breaks back: they are kept for [`Inner::receive`].
    fn line_status(&mut self) -> u8 {
        let status = self.uart.line_status() | self.saved_status;
        self.saved_status = status & LSR_ERRORS;
        status
    }
    /// Takes what has arrived. True if something is there to be read.
    fn receive(&mut self, is_console: bool, found: &mut Found) -> bool {
        let mut news = false;
        while self.rx.len() < RX_RING {
            let lsr = self.line_status();
            self.saved_status = 0;
            if lsr & LSR_OVERRUN != 0 {
                self.counts.overrun += 1;
            }
            if lsr & (LSR_DATA | LSR_BREAK) == 0 {
                break;
            }
            let b = self.uart.get();
            let how = if lsr & LSR_BREAK != 0 {
                self.counts.brk += 1;
                Arrival::Break
            } else {
                self.counts.rx += 1;
                self.counts.parity += u32::from(lsr & LSR_PARITY != 0);
                self.counts.frame += u32::from(lsr & LSR_FRAME != 0);
                if lsr & (LSR_PARITY | LSR_FRAME) != 0 { Arrival::Damaged } else { Arrival::Good }
            };
            if is_console && self.is_for_sysrq(how, b, found) {
                continue;
            }
            if self.settings.receive {
                news |= self.deliver(how, b, found);
            }
        }
        self.update_ier();
        news
    }
    fn deliver(&mut self, how: Arrival, b: u8, found: &mut Found) -> bool {
        match self.settings.input.deliver(how, b) {
            Delivery::Byte(b) => self.rx.push_back(b),
            Delivery::Marked(b) => self.rx.extend([0xff, 0, b]),
            Delivery::Nothing => return false,
            Delivery::Interrupt => {
                found.interrupt = true;
                return false;
            }
        }
        true
    }
    /// On the console, a break and the byte after it are for the kernel; a second break takes the first one back.
    fn is_for_sysrq(&mut self, how: Arrival, b: u8, found: &mut Found) -> bool {
        let now = frame::time::now_ns();
        let waiting = now < self.sysrq_until;
        match how {
            Arrival::Break if !waiting => {
                self.sysrq_until = now + SYSRQ_WINDOW_NS;
                true
            }
            Arrival::Break => {
                self.sysrq_until = 0;
                false
            }
            _ if waiting && b != 0 => {
                self.sysrq_until = 0;
                found.sysrq = Some(b);
                true
            }
            _ => false,
        }
    }

    /// Looks at the modem lines. True if they have changed.
    fn note_modem(&mut self, found: &mut Found) -> bool {
        let new = self.uart.modem_status();
        let old = core::mem::replace(&mut self.msr, new);
        let changed = (old ^ new) & 0xf0;
        for (bit, count) in [
            (MSR_CTS, &mut self.counts.cts),
            (MSR_DSR, &mut self.counts.dsr),
            (MSR_RI, &mut self.counts.rng),
            (MSR_DCD, &mut self.counts.dcd),
        ] {
            *count += u32::from(changed & bit != 0);
        }
        found.hang_up |= changed & MSR_DCD != 0 && new & MSR_DCD == 0 && !self.settings.local;
        changed != 0
    }

    fn may_send(&self) -> bool {
        let stopped_by_line = self.settings.hardware_flow && self.msr & MSR_CTS == 0;
        !self.held && !stopped_by_line
    }
    /// Moves bytes to the transmitter while it takes them. True if the ring is half empty now.
    fn fill(&mut self) -> bool {
        while self.may_send() && !self.tx.is_empty() && self.line_status() & LSR_TX_ROOM != 0 {
            for _ in 0..FIFO {
                let Some(b) = self.tx.pop_front() else { break };
                self.uart.put(b);
                self.counts.tx += 1;
            }
        }
        self.update_ier();
        self.tx.len() <= TX_RING / 2
    }
    fn update_ier(&mut self) {
        let mut want = IER_LINE | IER_MODEM;
        if self.rx.len() < RX_RING {
            want |= IER_RX;
        } else {
            // Errors come with data, which nobody reads now.
            want &= !IER_LINE;
        }
        // Also while the last bytes are being sent, for those who wait for that.
        if self.may_send() && (!self.tx.is_empty() || self.line_status() & LSR_TX_ROOM == 0) {
            want |= IER_TX;
        }
        if want != self.ier {
            self.ier = want;
            self.uart.set_ier(want);
        }
    }
    fn set_mcr(&mut self, v: u8) {
        self.mcr = v | MCR_OUT2;
        self.uart.set_modem_control(self.mcr);
    }
    fn modem_bits(&self) -> u32 {
        let mut bits = 0;
        for (have, mask, bit) in [
            (self.mcr, MCR_DTR, modem::DTR),
            (self.mcr, MCR_RTS, modem::RTS),
            (self.mcr, MCR_OUT1, modem::OUT1),
            (self.mcr, MCR_OUT2, modem::OUT2),
            (self.mcr, MCR_LOOP, modem::LOOP),
            (self.msr, MSR_CTS, modem::CTS),
            (self.msr, MSR_DSR, modem::DSR),
            (self.msr, MSR_RI, modem::RI),
            (self.msr, MSR_DCD, modem::CD),
        ] {
            if have & mask != 0 {
                bits |= bit;
            }
        }
        bits
    }
}

/// Control lines as register bits.
fn mcr_bits(modem_bits: u32) -> u8 {
    [(modem::DTR, MCR_DTR), (modem::RTS, MCR_RTS), (modem::OUT1, MCR_OUT1), (modem::LOOP, MCR_LOOP)]
        .into_iter()
        .filter(|(m, _)| modem_bits & m != 0)
        .fold(0, |v, (_, bit)| v | bit)
}

impl TtyDriver for Port {
    fn write(&self, bytes: &[u8]) -> usize {
        let mut p = self.inner.lock();
        let n = bytes.len().min(TX_RING - p.tx.len());
        p.tx.extend(&bytes[..n]);
        p.fill();
        n
    }
    fn room(&self) -> usize {
        TX_RING - self.inner.lock().tx.len()
    }
    fn room_queue(&self) -> &PollQueue {
        &self.room
    }
    fn pending(&self) -> usize {
        let mut p = self.inner.lock();
        p.tx.len() + usize::from(p.tx.is_empty() && p.line_status() & LSR_TX_ROOM == 0)
    }
    fn hold(&self, on: bool) {
        let mut p = self.inner.lock();
        p.held = on;
        p.fill();
        drop(p);
        if !on {
            self.room.wake_all();
        }
    }
    fn discard_output(&self) {
        let mut p = self.inner.lock();
        p.tx.clear();
        p.fill();
        drop(p);
        // An idle transmitter does not interrupt.
        self.room.wake_all();
    }
    fn take_received(&self, into: &mut Vec<u8>, max: usize) {
        let mut p = self.inner.lock();
        // The caller's buffer was sized beforehand: nothing allocates with interrupts off.
        let n = p.rx.len().min(into.capacity() - into.len()).min(max);
        into.extend(p.rx.drain(..n));
        p.update_ier();
    }
    fn has_received(&self) -> bool {
        !self.inner.lock().rx.is_empty()
    }
    fn arrival_queue(&self) -> &PollQueue {
        &self.arrived
    }

    fn change_settings(&self, _old: &Termios, t: Termios) -> Termios {
        let new = Settings::of(&t);
        {
            let mut p = self.inner.lock();
            let old = core::mem::replace(&mut p.settings, new);
            if (old.lcr, old.divisor) != (new.lcr, new.divisor) {
                p.uart.set_line(new.lcr, new.divisor, p.sending_break);
            }
            // B0 hangs up; leaving it picks the line up again.
            if (old.divisor == 0) != (new.divisor == 0) {
                let lines = MCR_DTR | MCR_RTS;
                let mcr = if new.divisor == 0 { p.mcr & !lines } else { p.mcr | lines };
                p.set_mcr(mcr);
            }
            p.hang_up_on_close = t.c(flag::HUPCL);
            p.fill();
        }
        self.room.wake_all();
        t
    }
    /// The first file picks the line up, the last one puts it down if `HUPCL` says so. The console stays.
    fn opened(&self) -> Result<()> {
        let mut p = self.inner.lock();
        p.opens += 1;
        if p.opens == 1 && p.settings.divisor != 0 {
            let mcr = p.mcr | MCR_DTR | MCR_RTS;
            p.set_mcr(mcr);
        }
        Ok(())
    }
    fn closed(&self) {
        let mut p = self.inner.lock();
        p.opens = p.opens.saturating_sub(1);
        if p.opens == 0 && p.hang_up_on_close && !self.is_console {
            let mcr = p.mcr & !(MCR_DTR | MCR_RTS);
            p.set_mcr(mcr);
        }
    }
    fn modem_lines(&self) -> Option<u32> {
        let mut p = self.inner.lock();
        // What the interrupt would find out; it still does, and wakes who waits for it.
        p.msr = p.msr & 0x0f | p.uart.modem_status() & 0xf0;
        Some(p.modem_bits())
    }
    fn set_modem_lines(&self, set: u32, clear: u32) -> Result<()> {
        let changed = {
            let mut p = self.inner.lock();
            let v = p.mcr & !mcr_bits(clear) | mcr_bits(set);
            p.set_mcr(v);
            // Looped back, the lines answer at once, and some chips without an interrupt.
            let mut found = Found::default();
            let changed = p.note_modem(&mut found);
            p.fill();
            (changed, found)
        };
        if changed.0 {
            self.changed.wake_all();
        }
        super::follow_up(self, changed.1);
        Ok(())
    }
    fn set_break(&self, on: bool) -> Result<()> {
        let mut p = self.inner.lock();
        p.sending_break = on;
        let (lcr, divisor) = (p.settings.lcr, p.settings.divisor);
        p.uart.set_line(lcr, divisor, on);
        Ok(())
    }
    fn counts(&self) -> Option<IntCounts> {
        Some(self.inner.lock().counts)
    }
    fn wait_modem(&self, lines: u32) -> Result<()> {
        let sum = |c: &IntCounts| {
            [(modem::RI, c.rng), (modem::DSR, c.dsr), (modem::CD, c.dcd), (modem::CTS, c.cts)]
                .into_iter()
                .filter(|(m, _)| lines & m != 0)
                .fold(0u32, |s, (_, n)| s.wrapping_add(n))
        };
        let before = sum(&self.inner.lock().counts);
        Ok(self.changed.wait_interruptible(|| (sum(&self.inner.lock().counts) != before).then_some(()))?)
    }
    /// `struct serial_struct` of linux/serial.h.
    fn serial_info(&self) -> Option<[u8; 72]> {
        const PORT_16550A: u32 = 4;
        /// `ASYNC_SKIP_TEST` and `ASYNC_BOOT_AUTOCONF`, as Linux has them on a PC's ports.
        const FLAGS: u32 = 0x1000_0040;
        /// A twentieth and thirty seconds, in hundredths.
        const CLOSE_DELAY: u16 = 50;
        const CLOSING_WAIT: u16 = 3000;
        let mut b = [0; 72];
        let mut word = |at: usize, v: u32| b[at..at + 4].copy_from_slice(&v.to_le_bytes());
        word(0, PORT_16550A);
        word(4, self.index);
        word(8, u32::from(self.base));
        word(12, self.irq);
        word(16, FLAGS);
        word(20, FIFO as u32);
        word(28, BASE_BAUD);
        b[32..34].copy_from_slice(&CLOSE_DELAY.to_le_bytes());
        b[38..40].copy_from_slice(&CLOSING_WAIT.to_le_bytes());
        Some(b)
    }
}
