//! Terminal settings: the kernel's `struct termios` and `struct termios2`, with Linux's defaults.

use linux_raw_sys::general as uapi;

use super::ldisc::Signal;

/// Indices of the control characters.
pub mod cc {
    use linux_raw_sys::general as u;
    pub const INTR: usize = u::VINTR as usize;
    pub const QUIT: usize = u::VQUIT as usize;
    pub const ERASE: usize = u::VERASE as usize;
    pub const KILL: usize = u::VKILL as usize;
    pub const EOF: usize = u::VEOF as usize;
    pub const TIME: usize = u::VTIME as usize;
    pub const MIN: usize = u::VMIN as usize;
    pub const START: usize = u::VSTART as usize;
    pub const STOP: usize = u::VSTOP as usize;
    pub const SUSP: usize = u::VSUSP as usize;
    pub const EOL: usize = u::VEOL as usize;
    pub const REPRINT: usize = u::VREPRINT as usize;
    pub const WERASE: usize = u::VWERASE as usize;
    pub const LNEXT: usize = u::VLNEXT as usize;
    pub const EOL2: usize = u::VEOL2 as usize;
}
/// The flags that the line discipline looks at.
pub mod flag {
    pub use linux_raw_sys::general::{
        BRKINT, CLOCAL, CMSPAR, CREAD, CRTSCTS, CSTOPB, ECHO, ECHOCTL, ECHOE, ECHOK, ECHOKE, ECHONL, ECHOPRT,
        EXTPROC, HUPCL, ICANON, ICRNL, IEXTEN, IGNBRK, IGNCR, IGNPAR, INLCR, INPCK, ISIG, ISTRIP, IUCLC,
        IUTF8, IXANY, IXON, NOFLSH, OCRNL, OLCUC, ONLCR, ONLRET, ONOCR, OPOST, PARENB, PARMRK, PARODD,
        TOSTOP, XTABS,
    };
}

/// Size of `struct termios` and `struct termios2` in bytes: four words, line discipline, 19 characters (and two speeds).
pub const TERMIOS_BYTES: usize = 36;
pub const TERMIOS2_BYTES: usize = 44;
/// Size of System V's `struct termio`: four half words, line discipline, 8 characters, padding.
pub const TERMIO_BYTES: usize = 18;
const NCCS: usize = uapi::NCCS as usize;

/// Terminal settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Termios {
    iflag: u32,
    oflag: u32,
    cflag: u32,
    lflag: u32,
    line: u8,
    cc: [u8; NCCS],
    ispeed: u32,
    ospeed: u32,
}

impl Default for Termios {
    /// Linux's `tty_std_termios` at the speed of its serial console, 9600 (the console's options would change it).
    fn default() -> Self {
        let mut c = [0; NCCS];
        for (i, v) in [
            (cc::INTR, 0x03),
            (cc::QUIT, 0x1c),
            (cc::ERASE, 0x7f),
            (cc::KILL, 0x15),
            (cc::EOF, 0x04),
            (cc::MIN, 1),
            (cc::START, 0x11),
            (cc::STOP, 0x13),
            (cc::SUSP, 0x1a),
            (cc::REPRINT, 0x12),
            (cc::WERASE, 0x17),
            (cc::LNEXT, 0x16),
        ] {
            c[i] = v;
        }
        Termios {
            iflag: uapi::ICRNL | uapi::IXON,
            oflag: uapi::OPOST | uapi::ONLCR,
            cflag: uapi::B9600 | uapi::CS8 | uapi::CREAD | uapi::HUPCL | uapi::CLOCAL,
            lflag: uapi::ISIG
                | uapi::ICANON
                | uapi::ECHO
                | uapi::ECHOE
                | uapi::ECHOK
                | uapi::ECHOCTL
                | uapi::ECHOKE
                | uapi::IEXTEN,
            line: 0,
            cc: c,
            ispeed: 9600,
            ospeed: 9600,
        }
    }
}

impl Termios {
    /// What a pseudo-terminal's slave starts with: 38400 baud, and no modem lines to look at.
    pub fn of_pty() -> Termios {
        Termios {
            cflag: uapi::B38400 | uapi::CS8 | uapi::CREAD,
            ispeed: 38400,
            ospeed: 38400,
            ..Termios::default()
        }
    }
    /// A pseudo-terminal has no line: always eight bits, no parity, the receiver on.
    pub fn without_line(mut self) -> Termios {
        self.cflag = self.cflag & !(uapi::CSIZE | uapi::PARENB) | uapi::CS8 | uapi::CREAD;
        self
    }
    /// True if XON and XOFF work and are the usual Ctrl-Q and Ctrl-S: what TIOCPKT tells the master.
    pub fn has_usual_flow_control(&self) -> bool {
        self.i(uapi::IXON) && self.cc[cc::STOP] == 0x13 && self.cc[cc::START] == 0x11
    }
    #[inline]
    pub fn i(&self, f: u32) -> bool {
        self.iflag & f != 0
    }
    #[inline]
    pub fn o(&self, f: u32) -> bool {
        self.oflag & f != 0
    }
    #[inline]
    pub fn c(&self, f: u32) -> bool {
        self.cflag & f != 0
    }
    /// The control modes, of which some are fields: character size, speed.
    pub fn cflag(&self) -> u32 {
        self.cflag
    }
    /// Bits per second; 0 hangs up.
    pub fn ospeed(&self) -> u32 {
        self.ospeed
    }
    /// Speed, parity (`n`, `o` or `e`), bits and hardware flow control, as `console=` gives them. A speed that has no `Bnnn` code
    /// changes nothing.
    pub fn set_line(&mut self, speed: u32, parity: Option<u8>, bits: Option<u8>, flow: bool) {
        let codes = (0..=15).chain((1..=15).map(|i| uapi::CBAUDEX | i));
        if let Some(code) = codes.into_iter().find(|&c| speed != 0 && speed_of(c) == speed) {
            self.cflag = self.cflag & !uapi::CBAUD | code;
            (self.ispeed, self.ospeed) = (speed, speed);
        }
        self.cflag &= !(uapi::PARENB | uapi::PARODD | uapi::CRTSCTS);
        self.cflag |= match parity {
            Some(b'o') => uapi::PARENB | uapi::PARODD,
            Some(b'e') => uapi::PARENB,
            _ => 0,
        };
        if let Some(n @ 5..=8) = bits {
            self.cflag = self.cflag & !uapi::CSIZE | u32::from(n - 5) << 4;
        }
        if flow {
            self.cflag |= uapi::CRTSCTS;
        }
    }
    #[inline]
    pub fn l(&self, f: u32) -> bool {
        self.lflag & f != 0
    }
    /// XTABS is a field of two bits.
    pub fn tabs_are_expanded(&self) -> bool {
        self.oflag & uapi::TABDLY == uapi::XTABS
    }
    /// True if `c` is this control character; one that is 0 is disabled.
    #[inline]
    pub fn is_cc(&self, which: usize, c: u8) -> bool {
        self.cc[which] != 0 && self.cc[which] == c
    }
    /// A control character, or MIN and TIME.
    pub fn cc(&self, which: usize) -> u8 {
        self.cc[which]
    }
    /// The signal that a character sends.
    pub fn signal_of(&self, c: u8) -> Option<Signal> {
        [(cc::INTR, Signal::Interrupt), (cc::QUIT, Signal::Quit), (cc::SUSP, Signal::Suspend)]
            .into_iter()
            .find(|&(i, _)| self.is_cc(i, c))
            .map(|(_, s)| s)
    }
    /// `struct termios2`; its first 36 bytes are `struct termios`.
    pub fn to_bytes(&self) -> [u8; TERMIOS2_BYTES] {
        let mut b = [0; TERMIOS2_BYTES];
        for (i, v) in [self.iflag, self.oflag, self.cflag, self.lflag].iter().enumerate() {
            b[4 * i..4 * i + 4].copy_from_slice(&v.to_le_bytes());
        }
        b[16] = self.line;
        b[17..17 + NCCS].copy_from_slice(&self.cc);
        b[36..40].copy_from_slice(&self.ispeed.to_le_bytes());
        b[40..44].copy_from_slice(&self.ospeed.to_le_bytes());
        b
    }
    /// From `struct termios` (36 bytes; the speeds follow from the flags) or `struct termios2` (44 bytes).
    pub fn from_bytes(b: &[u8]) -> Option<Termios> {
        let word = |i: usize| b.get(i..i + 4).and_then(|s| s.try_into().ok()).map(u32::from_le_bytes);
        let mut cc = [0; NCCS];
        cc.copy_from_slice(b.get(17..17 + NCCS)?);
        let cflag = word(8)?;
        let speed = speed_of(cflag);
        let (ispeed, ospeed) = match (word(36), word(40)) {
            (Some(i), Some(o)) if cflag & uapi::CBAUD == uapi::BOTHER => (i, o),
            _ => (speed, speed),
        };
        Some(Termios {
            iflag: word(0)?,
            oflag: word(4)?,
            cflag,
            lflag: word(12)?,
            line: b[16],
            cc,
            ispeed,
            ospeed,
        })
    }

    /// `struct termio`: what fits of the settings.
    pub fn to_termio(&self) -> [u8; TERMIO_BYTES] {
        let (full, mut b) = (self.to_bytes(), [0; TERMIO_BYTES]);
        for i in 0..4 {
            b[2 * i..2 * i + 2].copy_from_slice(&full[4 * i..4 * i + 2]);
        }
        b[8..17].copy_from_slice(&full[16..25]);
        b
    }
    /// These settings with what a `struct termio` says changed.
    pub fn with_termio(&self, b: &[u8; TERMIO_BYTES]) -> Option<Termios> {
        let mut full = self.to_bytes();
        for i in 0..4 {
            full[4 * i..4 * i + 2].copy_from_slice(&b[2 * i..2 * i + 2]);
        }
        full[16..25].copy_from_slice(&b[8..17]);
        Termios::from_bytes(&full)
    }
    /// With the carrier ignored (`CLOCAL`), or not.
    pub fn with_local(mut self, on: bool) -> Termios {
        self.cflag = self.cflag & !uapi::CLOCAL | if on { uapi::CLOCAL } else { 0 };
        self
    }

    #[cfg(test)]
    pub(super) fn set_i(&mut self, f: u32, on: bool) {
        if on { self.iflag |= f } else { self.iflag &= !f }
    }
    #[cfg(test)]
    pub(super) fn set_o(&mut self, f: u32, on: bool) {
        if on { self.oflag |= f } else { self.oflag &= !f }
    }
    #[cfg(test)]
    pub(super) fn set_l(&mut self, f: u32, on: bool) {
        if on { self.lflag |= f } else { self.lflag &= !f }
    }
    #[cfg(test)]
    pub(super) fn make_raw(&mut self) {
        self.iflag &= !(uapi::ICRNL | uapi::IXON);
        self.oflag &= !uapi::OPOST;
        self.lflag &= !(uapi::ECHO | uapi::ICANON | uapi::ISIG | uapi::IEXTEN);
    }
}

/// Bits per second of a `Bnnn` code; 0 hangs up.
fn speed_of(cflag: u32) -> u32 {
    const LOW: [u32; 16] =
        [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400];
    const HIGH: [u32; 15] = [
        57600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000,
        2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
    ];
    let code = cflag & uapi::CBAUD;
    if code & uapi::CBAUDEX == 0 {
        LOW[(code & 15) as usize]
    } else {
        // CBAUDEX itself is BOTHER; B57600 follows.
        ((code & 15) as usize).checked_sub(1).and_then(|i| HIGH.get(i)).copied().unwrap_or(9600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_user_structure() {
        let t = Termios::default();
        assert_eq!(Termios::from_bytes(&t.to_bytes()), Some(t.clone()));
        assert_eq!(Termios::from_bytes(&t.to_bytes()[..TERMIOS_BYTES]), Some(t));
        assert_eq!(Termios::from_bytes(&[0; 20]), None);
    }

    #[test]
    fn the_old_structure_changes_what_it_has() {
        let t = Termios::of_pty();
        let mut b = t.to_termio();
        assert_eq!(b, [0, 5, 5, 0, 0xbf, 0, 0x3b, 0x8a, 0, 3, 0x1c, 0x7f, 0x15, 4, 0, 1, 0, 0]);
        assert_eq!(t.with_termio(&b), Some(t.clone()));
        b[4..6].copy_from_slice(&(uapi::B9600 as u16 | uapi::CS8 as u16).to_le_bytes());
        let new = t.with_termio(&b).unwrap();
        assert_eq!((new.ospeed(), new.cc(cc::SUSP), new.c(flag::CREAD)), (9600, t.cc(cc::SUSP), false));
    }

    #[test]
    fn speeds() {
        assert_eq!(speed_of(uapi::B9600), 9600);
        assert_eq!(speed_of(uapi::B115200), 115_200);
        assert_eq!(speed_of(uapi::B4000000), 4_000_000);
        assert_eq!(speed_of(uapi::B0), 0);
    }
}
