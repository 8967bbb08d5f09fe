//! What readers get: bytes in raw mode, lines in canonical mode.

use super::{End, LineDiscipline, is_canonical};
use crate::tty::termios::Termios;

impl LineDiscipline {
    /// Bytes that a read could give now (FIONREAD, and what poll asks).
    pub fn readable(&self, t: &Termios) -> usize {
        if is_canonical(t) {
            self.cells.iter().take(self.ready).filter(|c| c.end != End::Eof).count()
        } else {
            self.cells.len()
        }
    }
    /// True if a read would return at once: in canonical mode a bare end-of-file counts too.
    pub fn has_input(&self, t: &Termios) -> bool {
        if is_canonical(t) { self.ready > 0 } else { !self.cells.is_empty() }
    }

    /// Moves what can be read into `buf`: in canonical mode at most one line. The number of bytes; 0 for an end of file.
    pub fn read(&mut self, t: &Termios, buf: &mut [u8]) -> usize {
        let canonical = is_canonical(t);
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
}
