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
//!
//! # How much it takes
//! [`LineDiscipline::room`] says how many characters it would take now; the caller keeps the others until a reader has made
//! room, and nothing is lost. One case is different: a line longer than the buffer while nothing else can be read. No
//! reader would ever make room, so characters are taken one by one, each in place of the one before, until the line ends:
//! the end always fits.
//!
//! | file | what is in it |
//! |---|---|
//! | this one | receiving: signals, flow control, lines |
//! | `erase.rs` | the editing characters |
//! | `output.rs` | output processing and echo |
//! | `read.rs` | what readers get |

use alloc::{collections::VecDeque, vec::Vec};

use super::termios::{Termios, cc, flag};

mod erase;
mod output;
pub use output::MAX_EXPANSION;
#[cfg(test)]
mod model;
mod read;
#[cfg(test)]
mod tests;

/// Characters kept; Linux's `N_TTY_BUF_SIZE`. A longer line is cut, its end still accepted.
pub const BUFFER: usize = 4096;

/// What a received character asks of the terminal's owner, besides echo.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Send this signal to the foreground process group.
    Signal(Signal),
    /// Forget output that was not sent yet (a signal without NOFLSH).
    FlushOutput,
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
    /// XOFF was received.
    stopped: bool,
    /// TCXONC stopped output; XON does not undo that.
    held: bool,
}

impl Default for LineDiscipline {
    fn default() -> Self {
        Self::new()
    }
}

/// Lines are made of what arrives. With EXTPROC the other side does it.
fn is_canonical(t: &Termios) -> bool {
    t.l(flag::ICANON) && !t.l(flag::EXTPROC)
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
            held: false,
        }
    }

    /// True while XOFF or TCXONC holds output back.
    pub fn is_stopped(&self) -> bool {
        self.stopped || self.held
    }
    /// TCXONC: stop or start output by hand. Starting undoes an XOFF too.
    pub fn set_held(&mut self, held: bool) {
        self.held = held;
        if !held {
            self.stopped = false;
        }
    }

    /// How many characters it takes now.
    pub fn room(&self, t: &Termios) -> usize {
        let free = (BUFFER - 1).saturating_sub(self.cells.len());
        // 0xff may become two.
        let free = if t.i(flag::PARMRK) { free.div_ceil(2) } else { free };
        // A line that fills the buffer alone must still be able to end.
        if free == 0 && is_canonical(t) && self.ready == 0 { 1 } else { free }
    }

    /// Throws away what was received (TCFLSH, signals without NOFLSH).
    pub fn flush_input(&mut self) {
        self.cells.clear();
        self.ready = 0;
        self.literal = false;
        self.erasing = false;
    }

    /// The settings changed. Leaving canonical mode makes the unfinished line readable; entering it, what is there
    /// counts as one finished line.
    pub fn settings_changed(&mut self, old: &Termios, new: &Termios) {
        let mode = |t: &Termios| (t.l(flag::ICANON), t.l(flag::EXTPROC));
        if mode(old) != mode(new) {
            let canonical = new.l(flag::ICANON);
            self.ready = if canonical { self.cells.len() } else { 0 };
            self.cells.iter_mut().for_each(|c| c.end = End::No);
            if let (true, Some(last)) = (canonical, self.cells.back_mut()) {
                last.end = End::Line;
            }
            self.literal = false;
            self.erasing = false;
        }
        if !new.i(flag::IXON) && old.i(flag::IXON) {
            self.stopped = false;
        }
    }

    /// Takes one received character; the caller has asked [`LineDiscipline::room`]. Echo is appended to `echo`, ready for
    /// the driver; events go to `event`.
    pub fn receive(&mut self, t: &Termios, byte: u8, echo: &mut Vec<u8>, event: &mut dyn FnMut(Event)) {
        let mut c = byte;
        if t.i(flag::ISTRIP) {
            c &= 0x7f;
        }
        if t.i(flag::IUCLC) && t.l(flag::IEXTEN) {
            c = c.to_ascii_lowercase();
        }
        if self.cells.len() >= BUFFER {
            // The line is too long: this character comes in place of its last one.
            self.cells.truncate(BUFFER - 1);
            self.ready = self.ready.min(BUFFER - 1);
        }
        if core::mem::take(&mut self.literal) {
            return self.accept(t, c, echo, event);
        }
        if t.l(flag::EXTPROC) {
            self.push(c, End::No);
            return event(Event::Readable);
        }
        if t.i(flag::IXON) && self.flow_control(t, c, event) {
            return;
        }
        if t.l(flag::ISIG)
            && let Some(s) = t.signal_of(c)
        {
            return self.signal(t, s, c, echo, event);
        }
        if self.stopped && !self.held && t.i(flag::IXON) && t.i(flag::IXANY) {
            self.stopped = false;
            event(Event::Start);
        }
        match c {
            b'\r' if t.i(flag::IGNCR) => return,
            b'\r' if t.i(flag::ICRNL) => c = b'\n',
            b'\n' if t.i(flag::INLCR) => c = b'\r',
            _ => {}
        }
        if t.l(flag::ICANON) { self.edit(t, c, echo, event) } else { self.accept(t, c, echo, event) }
    }

    /// XON and XOFF. True if the character was one.
    fn flow_control(&mut self, t: &Termios, c: u8, event: &mut dyn FnMut(Event)) -> bool {
        if t.is_cc(cc::START, c) {
            self.stopped = false;
            if !self.held {
                event(Event::Start);
            }
        } else if t.is_cc(cc::STOP, c) {
            self.stopped = true;
            event(Event::Stop);
        } else {
            return false;
        }
        true
    }

    fn signal(&mut self, t: &Termios, s: Signal, c: u8, echo: &mut Vec<u8>, event: &mut dyn FnMut(Event)) {
        if !t.l(flag::NOFLSH) {
            echo.clear();
            event(Event::FlushOutput);
            self.flush_input();
        }
        if self.stopped && !self.held && t.i(flag::IXON) {
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
            self.erase(t, erase::What::Char, c, echo);
        } else if t.is_cc(cc::KILL, c) {
            self.erase(t, erase::What::Line, c, echo);
        } else if extended && t.is_cc(cc::WERASE, c) {
            self.erase(t, erase::What::Word, c, echo);
        } else if extended && t.is_cc(cc::LNEXT, c) {
            self.literal = true;
            if t.l(flag::ECHO) {
                self.finish_erasing(echo);
                if t.l(flag::ECHOCTL) {
                    output::put(echo, b"^\x08");
                }
            }
        } else if extended && t.l(flag::ECHO) && t.is_cc(cc::REPRINT, c) {
            self.reprint(t, c, echo);
        } else if c == b'\n' {
            if t.l(flag::ECHO) || t.l(flag::ECHONL) {
                self.output_all(t, b"\n", echo);
            }
            self.end_line(c, End::Line, event);
        } else if t.is_cc(cc::EOF, c) {
            self.end_line(0, End::Eof, event);
        } else if t.is_cc(cc::EOL, c) || extended && t.is_cc(cc::EOL2, c) {
            if t.l(flag::ECHO) {
                self.echo_text(t, c, echo);
            }
            self.double(t, c);
            self.end_line(c, End::Line, event);
        } else {
            self.accept(t, c, echo, event);
        }
    }

    /// A character that is data.
    fn accept(&mut self, t: &Termios, c: u8, echo: &mut Vec<u8>, event: &mut dyn FnMut(Event)) {
        if t.l(flag::ECHO) {
            self.finish_erasing(echo);
            self.echo_text(t, c, echo);
        }
        self.double(t, c);
        self.push(c, End::No);
        if !is_canonical(t) {
            event(Event::Readable);
        }
    }

    /// PARMRK marks errors with 0xff, so that a true 0xff is doubled.
    fn double(&mut self, t: &Termios, c: u8) {
        if c == 0xff && t.i(flag::PARMRK) {
            self.push(c, End::No);
        }
    }
    fn push(&mut self, byte: u8, end: End) {
        // Without memory a character is lost; the terminal goes on.
        if self.cells.len() < BUFFER && self.cells.try_reserve(1).is_ok() {
            self.cells.push_back(Cell { byte, end });
        }
    }
    fn end_line(&mut self, byte: u8, end: End, event: &mut dyn FnMut(Event)) {
        self.push(byte, end);
        self.ready = self.cells.len();
        self.line_column = self.column;
        event(Event::Readable);
    }
    /// The text of the line being edited.
    fn line(&self) -> impl Iterator<Item = u8> + '_ {
        self.cells.iter().skip(self.ready).map(|c| c.byte)
    }
}

fn is_continuation(c: u8) -> bool {
    c & 0xc0 == 0x80
}
