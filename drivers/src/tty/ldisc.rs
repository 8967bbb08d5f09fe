//! The line discipline `N_TTY`: what turns received characters into lines, echo and signals. Policy only: no locks, no
//! time, no waiting. `termios(3)` says what each flag does.
//!
//! ```text
//!   receive(byte) ──▶ signals, flow control, editing ──▶ cells ──▶ read()
//!                 └─▶ echo ──▶ output() ──▶ the driver
//!
//!   cells:  [ complete lines ........ | line being edited ]
//!           0                    ready                 len
//! ```
//! In canonical mode only the cells before `ready` can be read, and editing never reaches back across it. Without it
//! every cell can be read.

use alloc::{collections::VecDeque, vec::Vec};

use super::termios::{Termios, cc, flag};

/// Characters kept; Linux's `N_TTY_BUF_SIZE`. A longer line is cut, its end still accepted.
pub const BUFFER: usize = 4096;

/// What a received character asks of the terminal's owner, besides echo.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Send this signal to the foreground process group.
    Signal(Signal),
    /// Readers have something new.
    Readable,
    /// Hold output back (XOFF).
    Stop,
    /// Let output go on (XON).
    Start,
}

/// The signals that a terminal's characters send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    Interrupt,
    Quit,
    Suspend,
}

/// A character in the buffer, and whether it ends a line.
#[derive(Clone, Copy)]
struct Cell {
    byte: u8,
    end: End,
}
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    No,
    /// Ends a line and belongs to it.
    Line,
    /// The end-of-file character: ends a line, is not delivered.
    Eof,
}

/// The discipline's state for one terminal.
pub struct LineDiscipline {
    cells: VecDeque<Cell>,
    ready: usize,
    /// The next character is taken literally (after LNEXT).
    literal: bool,
    /// Between `\` and `/` of ECHOPRT.
    erasing: bool,
    /// Where the cursor stands, for tabs and for visual erase.
    column: usize,
    /// Column at which the line being edited began.
    line_column: usize,
    stopped: bool,
}

impl Default for LineDiscipline {
    fn default() -> Self {
        Self::new()
    }
}

impl LineDiscipline {
    pub const fn new() -> Self {
        Self {
            cells: VecDeque::new(),
            ready: 0,
            literal: false,
            erasing: false,
            column: 0,
            line_column: 0,
            stopped: false,
        }
    }

    /// True while XOFF holds output back.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }
    /// TCXONC: stop or start output by hand.
    pub fn set_stopped(&mut self, stopped: bool) {
        self.stopped = stopped;
    }
    /// Bytes that a read could give now (FIONREAD, and what poll asks).
    pub fn readable(&self, t: &Termios) -> usize {
        if t.l(flag::ICANON) {
            self.cells.iter().take(self.ready).filter(|c| c.end != End::Eof).count()
        } else {
            self.cells.len()
        }
    }
    /// True if a read would return at once: in canonical mode a bare end-of-file counts too.
    pub fn has_input(&self, t: &Termios) -> bool {
        if t.l(flag::ICANON) { self.ready > 0 } else { !self.cells.is_empty() }
    }
    /// Throws away what was received (TCFLSH, signals without NOFLSH).
    pub fn flush_input(&mut self) {
        self.cells.clear();
        self.ready = 0;
        self.literal = false;
        self.erasing = false;
    }
    /// The settings changed. Leaving canonical mode makes the unfinished line readable; entering it, what is there
    /// counts as a finished line.
    pub fn settings_changed(&mut self, old: &Termios, new: &Termios) {
        if old.l(flag::ICANON) != new.l(flag::ICANON) {
            self.ready = if new.l(flag::ICANON) { self.cells.len() } else { 0 };
            self.literal = false;
            self.erasing = false;
        }
        if !new.i(flag::IXON) {
            self.stopped = false;
        }
    }

    /// Takes one received character. Echo is appended to `echo`, ready for the driver; events go to `event`.
    pub fn receive(&mut self, t: &Termios, byte: u8, echo: &mut Vec<u8>, event: &mut dyn FnMut(Event)) {
        let mut c = byte;
        if t.i(flag::ISTRIP) {
            c &= 0x7f;
        }
        if t.i(flag::IUCLC) && t.l(flag::IEXTEN) {
            c = c.to_ascii_lowercase();
        }
        if self.literal {
            self.literal = false;
            self.accept(t, c, End::No, echo, event);
            return;
        }
        if t.i(flag::IXON) {
            if t.is_cc(cc::START, c) {
                self.stopped = false;
                return event(Event::Start);
            }
            if t.is_cc(cc::STOP, c) {
                self.stopped = true;
                return event(Event::Stop);
            }
            if self.stopped && t.i(flag::IXANY) {
                self.stopped = false;
                event(Event::Start);
            }
        }
        if t.l(flag::ISIG)
            && let Some(s) = t.signal_of(c)
        {
            return self.signal(t, s, c, echo, event);
        }
        match c {
            b'\r' if t.i(flag::IGNCR) => return,
            b'\r' if t.i(flag::ICRNL) => c = b'\n',
            b'\n' if t.i(flag::INLCR) => c = b'\r',
            _ => {}
        }
        if t.l(flag::ICANON) { self.edit(t, c, echo, event) } else { self.accept(t, c, End::No, echo, event) }
    }

    fn signal(&mut self, t: &Termios, s: Signal, c: u8, echo: &mut Vec<u8>, event: &mut dyn FnMut(Event)) {
        if !t.l(flag::NOFLSH) {
            self.flush_input();
        }
        if self.stopped {
            self.stopped = false;
            event(Event::Start);
        }
        if t.l(flag::ECHO) {
            self.echo_char(t, c, echo);
        }
        event(Event::Signal(s));
    }

    /// Canonical input: editing characters act on the line, the rest joins it.
    fn edit(&mut self, t: &Termios, c: u8, echo: &mut Vec<u8>, event: &mut dyn FnMut(Event)) {
        let extended = t.l(flag::IEXTEN);
        if t.is_cc(cc::ERASE, c) {
            self.erase(t, Erase::Char, c, echo);
        } else if t.is_cc(cc::KILL, c) {
            self.erase(t, Erase::Line, c, echo);
        } else if extended && t.is_cc(cc::WERASE, c) {
            self.erase(t, Erase::Word, c, echo);
        } else if extended && t.is_cc(cc::LNEXT, c) {
            self.literal = true;
            if t.l(flag::ECHO) {
                self.finish_erasing(t, echo);
                if t.l(flag::ECHOCTL) {
                    echo.extend(b"^\x08");
                }
            }
        } else if extended && t.l(flag::ECHO) && t.is_cc(cc::REPRINT, c) {
            self.finish_erasing(t, echo);
            self.echo_char(t, c, echo);
            self.output(t, b"\n", echo);
            let line: Vec<u8> = self.cells.iter().skip(self.ready).map(|c| c.byte).collect();
            line.iter().for_each(|&b| self.echo_char(t, b, echo));
        } else if c == b'\n' {
            if t.l(flag::ECHO) || t.l(flag::ECHONL) {
                self.finish_erasing(t, echo);
                self.output(t, b"\n", echo);
            }
            self.push(c, End::Line);
            self.finish_line(event);
        } else if t.is_cc(cc::EOF, c) {
            self.push(0, End::Eof);
            self.finish_line(event);
        } else if t.is_cc(cc::EOL, c) || extended && t.is_cc(cc::EOL2, c) {
            if t.l(flag::ECHO) {
                self.finish_erasing(t, echo);
                self.echo_char(t, c, echo);
            }
            self.push(c, End::Line);
            self.finish_line(event);
        } else {
            self.accept(t, c, End::No, echo, event);
        }
    }

    fn accept(&mut self, t: &Termios, c: u8, end: End, echo: &mut Vec<u8>, event: &mut dyn FnMut(Event)) {
        let canonical = t.l(flag::ICANON);
        // One place stays free for the end of a line.
        if self.cells.len() >= BUFFER - usize::from(canonical) {
            if t.i(flag::IMAXBEL) {
                echo.push(7);
            }
            return;
        }
        if t.l(flag::ECHO) {
            self.finish_erasing(t, echo);
            if self.cells.len() == self.ready {
                self.line_column = self.column;
            }
            if c == b'\n' { self.output(t, b"\n", echo) } else { self.echo_char(t, c, echo) }
        }
        self.push(c, end);
        if !canonical {
            event(Event::Readable);
        }
    }

    fn push(&mut self, byte: u8, end: End) {
        if self.cells.len() < BUFFER && self.cells.try_reserve(1).is_ok() {
            self.cells.push_back(Cell { byte, end });
        }
    }
    fn finish_line(&mut self, event: &mut dyn FnMut(Event)) {
        self.ready = self.cells.len();
        self.line_column = self.column;
        event(Event::Readable);
    }

    /// Moves what can be read into `buf`: in canonical mode at most one line. The number of bytes; 0 for an end of file.
    pub fn read(&mut self, t: &Termios, buf: &mut [u8]) -> usize {
        let canonical = t.l(flag::ICANON);
        let limit = if canonical { self.ready } else { self.cells.len() };
        let (mut n, mut taken) = (0, 0);
        while taken < limit {
            let cell = self.cells[taken];
            if canonical && cell.end == End::Eof {
                taken += 1;
                break;
            }
            if n == buf.len() {
                break;
            }
            buf[n] = cell.byte;
            n += 1;
            taken += 1;
            if canonical && cell.end == End::Line {
                break;
            }
        }
        // A line that filled the buffer exactly takes its end-of-file mark along, or the next read would wrongly say 0.
        if canonical
            && n > 0
            && n == buf.len()
            && taken < limit
            && self.cells[taken].end == End::Eof
            && self.cells[taken - 1].end == End::No
        {
            taken += 1;
        }
        self.cells.drain(..taken);
        self.ready = self.ready.saturating_sub(taken);
        n
    }

    /// Output processing: appends what the driver has to send for `bytes`.
    pub fn output(&mut self, t: &Termios, bytes: &[u8], out: &mut Vec<u8>) {
        if !t.o(flag::OPOST) {
            out.extend_from_slice(bytes);
            return;
        }
        for &c in bytes {
            match c {
                b'\n' => {
                    if t.o(flag::ONLRET) {
                        self.column = 0;
                    }
                    if t.o(flag::ONLCR) {
                        out.push(b'\r');
                        self.column = 0;
                    }
                    out.push(c);
                    self.line_column = self.column;
                }
                b'\r' if t.o(flag::ONOCR) && self.column == 0 => {}
                b'\r' if t.o(flag::OCRNL) => {
                    out.push(b'\n');
                    if t.o(flag::ONLRET) {
                        self.column = 0;
                    }
                }
                b'\r' => {
                    self.column = 0;
                    out.push(c);
                }
                b'\t' => {
                    let spaces = 8 - self.column % 8;
                    self.column += spaces;
                    if t.tabs_are_expanded() {
                        out.extend(core::iter::repeat_n(b' ', spaces))
                    } else {
                        out.push(c)
                    }
                }
                8 => {
                    self.column = self.column.saturating_sub(1);
                    out.push(c);
                }
                _ => {
                    let c = if t.o(flag::OLCUC) { c.to_ascii_uppercase() } else { c };
                    let width_less = t.i(flag::IUTF8) && is_continuation(c);
                    if !c.is_ascii_control() && !width_less {
                        self.column += 1;
                    }
                    out.push(c);
                }
            }
        }
    }

    fn echo_char(&mut self, t: &Termios, c: u8, echo: &mut Vec<u8>) {
        if t.l(flag::ECHOCTL) && c.is_ascii_control() && c != b'\t' {
            self.output(t, &[b'^', c ^ 0x40], echo);
        } else {
            self.output(t, &[c], echo);
        }
    }
    fn finish_erasing(&mut self, _t: &Termios, echo: &mut Vec<u8>) {
        if self.erasing {
            echo.push(b'/');
            self.column += 1;
            self.erasing = false;
        }
    }

    fn erase(&mut self, t: &Termios, what: Erase, c: u8, echo: &mut Vec<u8>) {
        if self.cells.len() == self.ready {
            return;
        }
        let echoes = t.l(flag::ECHO);
        if what == Erase::Line && !(echoes && t.l(flag::ECHOK) && t.l(flag::ECHOKE) && t.l(flag::ECHOE)) {
            self.cells.truncate(self.ready);
            if echoes {
                self.finish_erasing(t, echo);
                self.echo_char(t, c, echo);
                if t.l(flag::ECHOK) {
                    self.output(t, b"\n", echo);
                }
            }
            return;
        }
        let mut seen_word = false;
        while self.cells.len() > self.ready {
            // One character, which may be several bytes of UTF-8.
            let mut from = self.cells.len() - 1;
            if t.i(flag::IUTF8) {
                while from > self.ready && is_continuation(self.cells[from].byte) {
                    from -= 1;
                }
            }
            let first = self.cells[from].byte;
            if what == Erase::Word {
                let is_word = first.is_ascii_alphanumeric() || first == b'_' || first >= 0x80;
                if is_word {
                    seen_word = true;
                } else if seen_word {
                    break;
                }
            }
            let gone: Vec<u8> = self.cells.drain(from..).map(|c| c.byte).collect();
            if echoes {
                self.echo_erased(t, what, c, &gone, echo);
            }
            if what == Erase::Char {
                break;
            }
        }
        if self.cells.len() == self.ready && echoes {
            self.finish_erasing(t, echo);
        }
    }

    fn echo_erased(&mut self, t: &Termios, what: Erase, c: u8, gone: &[u8], echo: &mut Vec<u8>) {
        if t.l(flag::ECHOPRT) {
            if !self.erasing {
                echo.push(b'\\');
                self.column += 1;
                self.erasing = true;
            }
            gone.iter().for_each(|&b| self.echo_char(t, b, echo));
        } else if what == Erase::Char && !t.l(flag::ECHOE) {
            self.echo_char(t, c, echo);
        } else if gone[0] == b'\t' {
            // Back to where the line's text ended before the tab.
            let end = self
                .cells
                .iter()
                .skip(self.ready)
                .fold(self.line_column, |col, c| self.advance(t, col, c.byte));
            while self.column > end {
                echo.push(8);
                self.column -= 1;
            }
        } else {
            let width = if gone[0].is_ascii_control() { 2 * usize::from(t.l(flag::ECHOCTL)) } else { 1 };
            for _ in 0..width {
                echo.extend(b"\x08 \x08");
                self.column = self.column.saturating_sub(1);
            }
        }
    }
    fn advance(&self, t: &Termios, col: usize, c: u8) -> usize {
        match c {
            b'\t' => col + 8 - col % 8,
            c if c.is_ascii_control() => col + 2 * usize::from(t.l(flag::ECHOCTL)),
            c if t.i(flag::IUTF8) && is_continuation(c) => col,
            _ => col + 1,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Erase {
    Char,
    Word,
    Line,
}

fn is_continuation(c: u8) -> bool {
    c & 0xc0 == 0x80
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    struct Rig {
        d: LineDiscipline,
        t: Termios,
        events: Vec<Event>,
        echo: Vec<u8>,
    }
    impl Rig {
        fn new() -> Self {
            Rig { d: LineDiscipline::new(), t: Termios::default(), events: Vec::new(), echo: Vec::new() }
        }
        fn type_(&mut self, s: &[u8]) -> &mut Self {
            for &b in s {
                let ev = &mut self.events;
                self.d.receive(&self.t, b, &mut self.echo, &mut |e| ev.push(e));
            }
            self
        }
        fn read(&mut self, n: usize) -> String {
            let mut b = alloc::vec![0; n];
            let got = self.d.read(&self.t, &mut b);
            String::from_utf8_lossy(&b[..got]).into_owned()
        }
        fn echoed(&mut self) -> String {
            String::from_utf8(core::mem::take(&mut self.echo)).unwrap()
        }
    }

    #[test]
    fn a_line_is_read_only_when_it_is_whole() {
        let mut r = Rig::new();
        r.type_(b"ab");
        assert!(!r.d.has_input(&r.t));
        r.type_(b"c\r");
        assert_eq!(r.echoed(), "abc\r\n");
        assert_eq!(r.read(2), "ab");
        assert_eq!(r.read(9), "c\n");
        assert!(!r.d.has_input(&r.t));
    }

    #[test]
    fn one_read_gives_one_line() {
        let mut r = Rig::new();
        r.type_(b"one\ntwo\nthr");
        assert_eq!(r.d.readable(&r.t), 8);
        assert_eq!(r.read(100), "one\n");
        assert_eq!(r.read(100), "two\n");
        assert!(!r.d.has_input(&r.t));
    }

    #[test]
    fn end_of_file_ends_a_line_without_being_part_of_it() {
        let mut r = Rig::new();
        r.type_(b"x\x04");
        assert_eq!(r.read(100), "x");
        assert!(!r.d.has_input(&r.t));
        r.type_(b"\x04");
        assert!(r.d.has_input(&r.t));
        assert_eq!(r.read(100), "");
        // A buffer that the line fills exactly must not be followed by a read of 0.
        r.type_(b"ab\x04cd\n");
        assert_eq!(r.read(2), "ab");
        assert_eq!(r.read(9), "cd\n");
    }

    #[test]
    fn erasing_edits_the_line_and_the_screen() {
        let mut r = Rig::new();
        r.type_(b"abc\x7f\x7fX\n");
        assert_eq!(r.read(100), "aX\n");
        assert_eq!(r.echoed(), "abc\x08 \x08\x08 \x08X\r\n");
        r.type_(b"one two\x17three\n");
        assert_eq!(r.read(100), "one three\n");
        r.type_(b"junk\x15ok\n");
        assert_eq!(r.read(100), "ok\n");
        r.type_(b"\x7f\x7f\x15\x17ok\n");
        assert_eq!(r.read(100), "ok\n");
        r.t.set_i(flag::IUTF8, true);
        r.type_("aé\x7f\n".as_bytes());
        assert_eq!(r.read(100), "a\n");
        r.echoed();
        r.type_(b"a\tb\x7f\x7f");
        assert!(r.echoed().ends_with("\x08 \x08\x08\x08\x08\x08\x08\x08\x08"));
    }

    #[test]
    fn erasing_stops_at_a_finished_line() {
        let mut r = Rig::new();
        r.type_(b"done\nab\x7f\x7f\x7f\x7f\x15\n");
        assert_eq!(r.read(100), "done\n");
        assert_eq!(r.read(100), "\n");
    }

    #[test]
    fn signals_flush_and_are_echoed() {
        let mut r = Rig::new();
        r.type_(b"half\x03");
        assert_eq!(r.events, [Event::Signal(Signal::Interrupt)]);
        assert_eq!(r.echoed(), "half^C");
        r.type_(b"ok\n");
        assert_eq!(r.read(100), "ok\n");
        r.t.set_l(flag::ISIG, false);
        r.events.clear();
        r.type_(b"\x03\n");
        assert_eq!(r.events, [Event::Readable]);
        assert_eq!(r.read(100), "\x03\n");
    }

    #[test]
    fn literal_next_takes_anything() {
        let mut r = Rig::new();
        r.type_(b"\x16\x03\x16\x7f\n");
        assert_eq!(r.read(100), "\x03\x7f\n");
        assert!(r.events.iter().all(|e| *e == Event::Readable));
    }

    #[test]
    fn raw_mode_gives_each_character_at_once() {
        let mut r = Rig::new();
        r.t.make_raw();
        r.type_(b"a\r\x03");
        assert_eq!(r.d.readable(&r.t), 3);
        assert_eq!(r.read(10), "a\r\x03");
        assert_eq!(r.echoed(), "");
    }

    #[test]
    fn leaving_canonical_mode_frees_the_unfinished_line() {
        let mut r = Rig::new();
        r.type_(b"abc");
        let old = r.t.clone();
        r.t.set_l(flag::ICANON, false);
        r.d.settings_changed(&old, &r.t);
        assert_eq!(r.read(10), "abc");
    }

    #[test]
    fn a_line_too_long_is_cut_and_can_still_end() {
        let mut r = Rig::new();
        r.type_(&[b'x'; 5000]);
        r.type_(b"\n");
        let line = r.read(9999);
        assert_eq!(line.len(), BUFFER);
        assert!(line.ends_with("x\n"));
    }

    #[test]
    fn flow_control_stops_and_starts() {
        let mut r = Rig::new();
        r.type_(b"\x13");
        assert!(r.d.is_stopped());
        r.type_(b"\x11");
        assert!(!r.d.is_stopped());
        assert_eq!(r.events, [Event::Stop, Event::Start]);
    }

    #[test]
    fn output_processing() {
        let mut r = Rig::new();
        let mut out = Vec::new();
        r.d.output(&r.t, b"a\nb\tc", &mut out);
        assert_eq!(out, b"a\r\nb\tc");
        out.clear();
        r.t.set_o(flag::XTABS, true);
        r.d.output(&r.t, b"\ta", &mut out);
        assert_eq!(out, b"       a", "column 9 needs seven spaces");
    }
}
