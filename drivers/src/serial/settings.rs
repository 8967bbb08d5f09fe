//! What terminal settings mean to a 16550: the line control register, the divisor, what is done with errors.

use crate::tty::termios::{Termios, flag};

/// Divisor 1 gives this many bits per second: a crystal of 1.8432 MHz, divided by 16.
pub(super) const BASE_BAUD: u32 = 115_200;

/// Bits of the line control register.
pub(super) const LCR_STOP2: u8 = 0x04;
pub(super) const LCR_PARITY: u8 = 0x08;
pub(super) const LCR_EVEN: u8 = 0x10;
/// The parity bit is fixed: 1 for "odd" (mark), 0 for "even" (space).
pub(super) const LCR_STICK: u8 = 0x20;

/// What the port is set to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    pub(super) lcr: u8,
    /// 0: hang up (`B0`).
    pub(super) divisor: u16,
    pub(super) receive: bool,
    /// The carrier does not matter.
    pub(super) local: bool,
    /// RTS and CTS hold data back.
    pub(super) hardware_flow: bool,
    pub(super) input: Input,
}

/// What is done with what did not come as data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Input {
    pub(super) check_parity: bool,
    pub(super) ignore_parity: bool,
    pub(super) mark: bool,
    pub(super) ignore_break: bool,
    pub(super) break_interrupts: bool,
}

/// How a byte came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    Good,
    /// With wrong parity, or without its stop bit.
    Damaged,
    Break,
}

/// What the reader gets for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Delivery {
    Byte(u8),
    /// 0xff, 0, and the byte (`PARMRK`).
    Marked(u8),
    Nothing,
    /// The foreground gets SIGINT (`BRKINT`).
    Interrupt,
}

impl Input {
    pub(super) fn deliver(self, how: Arrival, b: u8) -> Delivery {
        match how {
            Arrival::Good => Delivery::Byte(b),
            Arrival::Break if self.ignore_break => Delivery::Nothing,
            Arrival::Break if self.break_interrupts => Delivery::Interrupt,
            Arrival::Break if self.mark => Delivery::Marked(0),
            Arrival::Break => Delivery::Byte(0),
            Arrival::Damaged if !self.check_parity => Delivery::Byte(b),
            Arrival::Damaged if self.ignore_parity => Delivery::Nothing,
            Arrival::Damaged if self.mark => Delivery::Marked(b),
            Arrival::Damaged => Delivery::Byte(0),
        }
    }
}

impl Settings {
    pub(super) fn of(t: &Termios) -> Settings {
        // CS5 to CS8 are 0 to 3 in bits 4 and 5.
        let mut lcr = (t.cflag() >> 4 & 3) as u8;
        for (on, bit) in [
            (t.c(flag::CSTOPB), LCR_STOP2),
            (t.c(flag::PARENB), LCR_PARITY),
            (t.c(flag::PARENB) && !t.c(flag::PARODD), LCR_EVEN),
            (t.c(flag::PARENB) && t.c(flag::CMSPAR), LCR_STICK),
        ] {
            if on {
                lcr |= bit;
            }
        }
        Settings {
            lcr,
            divisor: divisor(t.ospeed()),
            receive: t.c(flag::CREAD),
            local: t.c(flag::CLOCAL),
            hardware_flow: t.c(flag::CRTSCTS),
            input: Input {
                check_parity: t.i(flag::INPCK),
                ignore_parity: t.i(flag::IGNPAR),
                mark: t.i(flag::PARMRK),
                ignore_break: t.i(flag::IGNBRK),
                break_interrupts: t.i(flag::BRKINT),
            },
        }
    }
}

/// The nearest there is: 1 for everything faster than the port can go.
fn divisor(speed: u32) -> u16 {
    if speed == 0 {
        return 0;
    }
    (BASE_BAUD.saturating_add(speed / 2) / speed).clamp(1, u32::from(u16::MAX)) as u16
}

/// The options of `console=ttyS0,115200n8`: speed, parity (`n`, `o`, `e`), bits, `r` for hardware flow control.
pub(super) fn console_options(text: &str) -> Option<(u32, Option<u8>, Option<u8>, bool)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let speed = text.get(..digits)?.parse().ok()?;
    let rest = &text.as_bytes()[digits..];
    let parity = rest.first().copied().filter(|p| b"noe".contains(p));
    let bits = rest.get(1).copied().filter(|b| (b'5'..=b'8').contains(b)).map(|b| b - b'0');
    Some((speed, parity, bits, rest.get(2) == Some(&b'r')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn divisors() {
        for (speed, d) in
            [(115_200, 1), (9600, 12), (50, 2304), (134, 860), (4_000_000, 1), (0, 0), (1, 65_535)]
        {
            assert_eq!(divisor(speed), d, "{speed}");
        }
    }

    #[test]
    fn the_default_is_9600_8n1() {
        let s = Settings::of(&Termios::default());
        assert_eq!((s.lcr, s.divisor, s.receive, s.local), (3, 12, true, true));
    }

    #[test]
    fn breaks_and_damage() {
        let plain = Input {
            check_parity: false,
            ignore_parity: false,
            mark: false,
            ignore_break: false,
            break_interrupts: false,
        };
        assert_eq!(plain.deliver(Arrival::Break, 7), Delivery::Byte(0));
        assert_eq!(plain.deliver(Arrival::Damaged, 7), Delivery::Byte(7));
        let i = Input { break_interrupts: true, check_parity: true, mark: true, ..plain };
        assert_eq!(i.deliver(Arrival::Break, 0), Delivery::Interrupt);
        assert_eq!(i.deliver(Arrival::Damaged, 7), Delivery::Marked(7));
        assert_eq!(Input { ignore_parity: true, ..i }.deliver(Arrival::Damaged, 7), Delivery::Nothing);
        assert_eq!(Input { ignore_break: true, ..i }.deliver(Arrival::Break, 0), Delivery::Nothing);
    }

    #[test]
    fn consoles() {
        assert_eq!(console_options("115200n8"), Some((115_200, Some(b'n'), Some(8), false)));
        assert_eq!(console_options("9600e7r"), Some((9600, Some(b'e'), Some(7), true)));
        assert_eq!(console_options("38400"), Some((38_400, None, None, false)));
        assert_eq!(console_options("x"), None);
    }

    proptest! {
        #[test]
        fn any_options_are_answered(t in "\\PC{0,12}") {
            let _ = console_options(&t);
        }
        #[test]
        fn any_termios_is_answered(b in prop::collection::vec(any::<u8>(), 44)) {
            if let Some(t) = Termios::from_bytes(&b) {
                let s = Settings::of(&t);
                prop_assert!(s.lcr < 0x40);
            }
        }
    }
}
