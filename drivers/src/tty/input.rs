//! What a line delivers, on its way to the readers: `flush_to_ldisc`.
//!
//! The driver keeps what arrived until the discipline has room for it (*back-pressure*): [`Tty::flush_to_ldisc`] takes no more
//! than [`super::ldisc::LineDiscipline::room`] says. Where there was none it leaves word (`held_back`), and whoever makes
//! room (a reader, a flush, new settings) schedules it again. Both happen under `state`, so no word is missed.

use alloc::vec::Vec;

use super::{
    State, Tty, job,
    job::sig,
    ldisc::{Event, Signal},
};

/// How many received bytes go through the discipline at a time.
pub(super) const INPUT_CHUNK: usize = 256;
/// Echo that waits for room; more is lost, the oldest first.
const ECHO_LIMIT: usize = 4096;

/// Signals that a chunk of input asks for: one bit each, because a second one of the same kind would join the first.
#[derive(Default)]
struct Signals(u8);
impl Signals {
    fn add(&mut self, s: Signal) {
        self.0 |= 1 << s as u8;
    }
    fn numbers(&self) -> impl Iterator<Item = i32> + '_ {
        [(Signal::Interrupt, sig::INT), (Signal::Quit, sig::QUIT), (Signal::Suspend, sig::TSTP)]
            .into_iter()
            .filter(|&(s, _)| self.0 & 1 << s as u8 != 0)
            .map(|(_, n)| n)
    }
}

impl Tty {
    /// Passes on what arrived, as far as the discipline has room for it. Sleeps.
    pub fn flush_to_ldisc(&self) {
        let _one = self.input.lock();
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(INPUT_CHUNK).is_err() {
            return;
        }
        loop {
            let room = {
                let mut s = self.state.lock();
                let room = s.ldisc.room(&s.termios);
                s.held_back = room == 0;
                room
            };
            if room == 0 {
                return;
            }
            bytes.clear();
            self.driver.take_received(&mut bytes, room.min(INPUT_CHUNK));
            if bytes.is_empty() {
                return;
            }
            self.receive(&bytes);
        }
    }
    /// Somebody made room in the discipline. Called with no lock held.
    pub(super) fn unthrottle(&self) {
        if core::mem::take(&mut self.state.lock().held_back) {
            self.schedule_flush();
        }
    }

    /// TIOCSTI: a byte as if it had arrived. One for which there is no room is lost, as on Linux.
    pub(super) fn simulate_input(&self, byte: u8) {
        let _one = self.input.lock();
        let has_room = {
            let s = self.state.lock();
            s.ldisc.room(&s.termios) > 0
        };
        if has_room {
            self.receive(&[byte]);
        }
    }

    /// Takes received bytes, for which there is room, through the line discipline. Under `input`.
    fn receive(&self, bytes: &[u8]) {
        let (mut signals, mut news) = (Signals::default(), false);
        let foreground = {
            let mut s = self.state.lock();
            let s = &mut *s;
            for &b in bytes {
                s.ldisc.receive(&s.termios, b, &mut s.echo, &mut |e| match e {
                    Event::Signal(x) => signals.add(x),
                    Event::FlushOutput => {
                        self.driver.discard_output();
                        self.driver.input_flushed();
                    }
                    Event::Readable => news = true,
                    Event::Stop => self.driver.hold(true),
                    Event::Start => self.driver.hold(false),
                });
            }
            self.send_echo(s);
            s.foreground
        };
        if let (Some(j), true) = (job::jobs(), foreground != 0) {
            signals.numbers().for_each(|n| j.signal_group(foreground, n));
        }
        if news {
            self.readers.wake_all();
        }
    }

    /// Hands echo to the driver, as far as it has room. The rest waits for the next byte in either direction: waiting here
    /// would hold up the interrupt character.
    pub(super) fn send_echo(&self, s: &mut State) {
        if s.echo.is_empty() {
            return;
        }
        let n = self.driver.write(&s.echo);
        let surplus = (s.echo.len() - n).saturating_sub(ECHO_LIMIT);
        s.echo.drain(..n + surplus);
    }
}
