//! Output processing (`OPOST` and its kin), and echo, which goes the same way.

use alloc::vec::Vec;

use super::{LineDiscipline, is_continuation};
use crate::tty::termios::{Termios, flag};

/// The most bytes that one character becomes: a tab of eight spaces.
pub const MAX_EXPANSION: usize = 8;

/// Appends bytes to the echo as they are; those for which there is no memory are lost.
pub(super) fn put(echo: &mut Vec<u8>, bytes: &[u8]) {
    if echo.try_reserve(bytes.len()).is_ok() {
        echo.extend_from_slice(bytes);
    }
}

impl LineDiscipline {
    /// Output processing: appends to `out` what the driver has to send for `bytes`, at most `room` bytes. How many of `bytes`
    /// that was; a character is never divided.
    pub fn output(&mut self, t: &Termios, bytes: &[u8], room: usize, out: &mut Vec<u8>) -> usize {
        if !t.o(flag::OPOST) {
            let n = bytes.len().min(room);
            out.extend_from_slice(&bytes[..n]);
            return n;
        }
        let begin = out.len();
        for (i, &c) in bytes.iter().enumerate() {
            let left = room - (out.len() - begin);
            if left < MAX_EXPANSION && left < self.width(t, c) {
                return i;
            }
            self.process(t, c, out);
        }
        bytes.len()
    }
    /// As [`LineDiscipline::output`], with room for everything. Echo for which there is no memory is lost.
    pub(super) fn output_all(&mut self, t: &Termios, bytes: &[u8], out: &mut Vec<u8>) {
        if out.try_reserve(bytes.len() * MAX_EXPANSION).is_ok() {
            self.output(t, bytes, usize::MAX, out);
        }
    }

    /// How many bytes a character becomes.
    fn width(&self, t: &Termios, c: u8) -> usize {
        match c {
            b'\n' if t.o(flag::ONLCR) => 2,
            b'\t' if t.tabs_are_expanded() => 8 - self.column % 8,
            b'\r' if t.o(flag::ONOCR) && self.column == 0 => 0,
            _ => 1,
        }
    }

    fn process(&mut self, t: &Termios, c: u8, out: &mut Vec<u8>) {
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

    /// Echoes a character that joins the line, noting where the line begins.
    pub(super) fn echo_text(&mut self, t: &Termios, c: u8, echo: &mut Vec<u8>) {
        if self.cells.len() == self.ready {
            self.line_column = self.column;
        }
        if c == b'\n' { self.output_all(t, b"\n", echo) } else { self.echo_char(t, c, echo) }
    }

    /// Echoes a character, visibly.
    pub(super) fn echo_char(&mut self, t: &Termios, c: u8, echo: &mut Vec<u8>) {
        if t.l(flag::ECHOCTL) && c.is_ascii_control() && c != b'\t' {
            self.output_all(t, &[b'^', c ^ 0x40], echo);
        } else {
            self.output_all(t, &[c], echo);
        }
    }

    /// Closes the `\…/` of ECHOPRT.
    pub(super) fn finish_erasing(&mut self, echo: &mut Vec<u8>) {
        if self.erasing {
            put(echo, b"/");
            self.column += 1;
            self.erasing = false;
        }
    }

    /// REPRINT: shows the line anew.
    pub(super) fn reprint(&mut self, t: &Termios, c: u8, echo: &mut Vec<u8>) {
        self.finish_erasing(echo);
        self.echo_char(t, c, echo);
        self.output_all(t, b"\n", echo);
        for i in self.ready..self.cells.len() {
            self.echo_char(t, self.cells[i].byte, echo);
        }
    }
}
