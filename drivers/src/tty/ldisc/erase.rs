//! The editing characters: erase, word erase, kill.

use alloc::vec::Vec;

use super::{LineDiscipline, is_continuation, output::put};
use crate::tty::termios::{Termios, flag};

/// How much is erased.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Char,
    Word,
    Line,
}

impl LineDiscipline {
    /// The character `c` erases.
    pub(super) fn erase(&mut self, t: &Termios, what: What, c: u8, echo: &mut Vec<u8>) {
        if self.cells.len() == self.ready {
            return;
        }
        let echoes = t.l(flag::ECHO);
        let visually = echoes && t.l(flag::ECHOK) && t.l(flag::ECHOKE) && t.l(flag::ECHOE);
        if what == What::Line && !visually {
            self.cells.truncate(self.ready);
            if echoes {
                self.finish_erasing(echo);
                self.echo_char(t, c, echo);
                if t.l(flag::ECHOK) {
                    self.output_all(t, b"\n", echo);
                }
            }
            return;
        }
        let mut seen_word = false;
        while self.cells.len() > self.ready {
            let from = self.last_char(t);
            let first = self.cells[from].byte;
            if t.i(flag::IUTF8) && is_continuation(first) {
                // The rest of a character that is no longer in this line: not erased by parts.
                break;
            }
            if what == What::Word {
                if first.is_ascii_alphanumeric() || first == b'_' || first >= 0x80 {
                    seen_word = true;
                } else if seen_word {
                    break;
                }
            }
            self.erase_from(t, what, c, from, echo);
            if what == What::Char {
                break;
            }
        }
        if self.cells.len() == self.ready && echoes {
            self.finish_erasing(echo);
        }
    }

    /// Where the last character begins; it may be several bytes of UTF-8.
    fn last_char(&self, t: &Termios) -> usize {
        let mut from = self.cells.len() - 1;
        while t.i(flag::IUTF8) && from > self.ready && is_continuation(self.cells[from].byte) {
            from -= 1;
        }
        from
    }

    /// Takes the character at `from` off the line and off the screen.
    fn erase_from(&mut self, t: &Termios, what: What, c: u8, from: usize, echo: &mut Vec<u8>) {
        let first = self.cells[from].byte;
        if t.l(flag::ECHO) && t.l(flag::ECHOPRT) {
            if !self.erasing {
                put(echo, b"\\");
                self.column += 1;
                self.erasing = true;
            }
            for i in from..self.cells.len() {
                self.echo_char(t, self.cells[i].byte, echo);
            }
        }
        self.cells.truncate(from);
        if !t.l(flag::ECHO) || t.l(flag::ECHOPRT) {
            return;
        }
        if what == What::Char && !t.l(flag::ECHOE) {
            self.echo_char(t, c, echo);
        } else if first == b'\t' {
            // Back to where the line's text ended before the tab.
            let end = self.line().fold(self.line_column, |col, c| advance(t, col, c));
            while self.column > end {
                put(echo, b"\x08");
                self.column -= 1;
            }
        } else {
            let width = if first.is_ascii_control() { 2 * usize::from(t.l(flag::ECHOCTL)) } else { 1 };
            for _ in 0..width {
                put(echo, b"\x08 \x08");
                self.column = self.column.saturating_sub(1);
            }
        }
    }
}

/// The column after `c` was echoed at column `col`.
fn advance(t: &Termios, col: usize, c: u8) -> usize {
    match c {
        b'\t' => col + 8 - col % 8,
        c if c.is_ascii_control() => col + 2 * usize::from(t.l(flag::ECHOCTL)),
        c if t.i(flag::IUTF8) && is_continuation(c) => col,
        _ => col + 1,
    }
}
