//! The registers of a 16550A, behind eight I/O ports.
//!
//! Reference: National Semiconductor PC16550D data sheet.

use frame::io::Ports;

/// Bytes that either FIFO holds.
pub(super) const FIFO: usize = 16;

mod reg {
    pub(super) const DATA: u16 = 0;
    pub(super) const IER: u16 = 1;
    pub(super) const IIR_FCR: u16 = 2;
    pub(super) const LCR: u16 = 3;
    pub(super) const MCR: u16 = 4;
    pub(super) const LSR: u16 = 5;
    pub(super) const MSR: u16 = 6;
    pub(super) const SCRATCH: u16 = 7;
}

/// Interrupts: data, transmitter empty, errors and breaks, modem lines.
pub(super) const IER_RX: u8 = 1;
pub(super) const IER_TX: u8 = 2;
pub(super) const IER_LINE: u8 = 4;
pub(super) const IER_MODEM: u8 = 8;
/// No interrupt is pending.
const IIR_NONE: u8 = 1;
/// FIFOs on and emptied, an interrupt at 8 bytes received or when they have waited for four characters' time.
const FCR_ON: u8 = 0x87;
const LCR_DIVISOR: u8 = 0x80;
const LCR_BREAK: u8 = 0x40;
pub(super) const MCR_DTR: u8 = 0x01;
pub(super) const MCR_RTS: u8 = 0x02;
pub(super) const MCR_OUT1: u8 = 0x04;
/// Connects the interrupt line on a PC.
pub(super) const MCR_OUT2: u8 = 0x08;
pub(super) const MCR_LOOP: u8 = 0x10;
pub(super) const LSR_DATA: u8 = 0x01;
pub(super) const LSR_OVERRUN: u8 = 0x02;
pub(super) const LSR_PARITY: u8 = 0x04;
pub(super) const LSR_FRAME: u8 = 0x08;
pub(super) const LSR_BREAK: u8 = 0x10;
pub(super) const LSR_TX_ROOM: u8 = 0x20;
/// Those that reading takes back.
pub(super) const LSR_ERRORS: u8 = LSR_OVERRUN | LSR_PARITY | LSR_FRAME | LSR_BREAK;
/// Modem lines; the low half says which have changed.
pub(super) const MSR_CTS: u8 = 0x10;
pub(super) const MSR_DSR: u8 = 0x20;
pub(super) const MSR_RI: u8 = 0x40;
pub(super) const MSR_DCD: u8 = 0x80;

pub(super) struct Uart {
    io: Ports,
}

impl Uart {
    /// Finds a port. `None` if nothing answers, or what answers is not a 16550A.
    pub(super) fn probe(base: u16) -> Option<Uart> {
        let u = Uart { io: Ports::claim(base, 8)? };
        // An absent port reads as ones; a present one keeps what is written to the scratch register.
        for pattern in [0x5a, 0xa5] {
            u.io.write8(reg::SCRATCH, pattern);
            if u.io.read8(reg::SCRATCH) != pattern {
                return None;
            }
        }
        u.set_ier(0);
        u.io.write8(reg::IIR_FCR, FCR_ON);
        // The two highest bits say that the FIFOs are on.
        (u.io.read8(reg::IIR_FCR) >> 6 == 3).then_some(u)
    }
    pub(super) fn set_ier(&self, v: u8) {
        self.io.write8(reg::IER, v);
    }
    /// Whether it wants attention. Asking takes a transmitter interrupt back.
    pub(super) fn is_pending(&self) -> bool {
        self.io.read8(reg::IIR_FCR) & IIR_NONE == 0
    }
    pub(super) fn line_status(&self) -> u8 {
        self.io.read8(reg::LSR)
    }
    pub(super) fn modem_status(&self) -> u8 {
        self.io.read8(reg::MSR)
    }
    pub(super) fn set_modem_control(&self, v: u8) {
        self.io.write8(reg::MCR, v);
    }
    pub(super) fn get(&self) -> u8 {
        self.io.read8(reg::DATA)
    }
    pub(super) fn put(&self, b: u8) {
        self.io.write8(reg::DATA, b);
    }
    /// Sets the format and the speed. `sending_break` goes on.
    pub(super) fn set_line(&self, lcr: u8, divisor: u16, sending_break: bool) {
        if divisor != 0 {
            self.io.write8(reg::LCR, lcr | LCR_DIVISOR);
            self.io.write8(reg::DATA, divisor as u8);
            self.io.write8(reg::IER, (divisor >> 8) as u8);
        }
        self.io.write8(reg::LCR, lcr | if sending_break { LCR_BREAK } else { 0 });
    }
}
