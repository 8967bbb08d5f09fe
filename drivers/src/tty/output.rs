//! What programs write, on its way to the line.

use alloc::vec::Vec;

use base::{Errno, Result};

use super::{Tty, ldisc::MAX_EXPANSION, termios::flag};

/// How many bytes are processed at a time, with the terminal's state locked.
pub(super) const OUTPUT_CHUNK: usize = 512;

impl Tty {
    /// Sends what there is room for after output processing: how many of `bytes` are on their way. The discipline stays
    /// locked until the driver has them, so that what was processed is also sent, and nothing comes between.
    fn send_some(&self, bytes: &[u8], scratch: &mut Vec<u8>) -> usize {
        let mut s = self.state.lock();
        let s = &mut *s;
        self.send_echo(s);
        if !s.termios.o(flag::OPOST) {
            return self.driver.write(bytes);
        }
        let part = &bytes[..bytes.len().min(OUTPUT_CHUNK)];
        scratch.clear();
        let done = s.ldisc.output(&s.termios, part, self.driver.room(), scratch);
        let sent = self.driver.write(scratch);
        debug_assert_eq!(sent, scratch.len(), "the driver takes what it has room for");
        done
    }

    /// Sends `bytes`, waiting for room unless `nonblocking`. How many were taken: fewer than all if a signal came, or the
    /// terminal was hung up (`is_dead`). EAGAIN, ERESTARTSYS, EIO.
    pub(super) fn send(&self, bytes: &[u8], nonblocking: bool, is_dead: &dyn Fn() -> bool) -> Result<usize> {
        let mut scratch = Vec::new();
        scratch.try_reserve_exact(OUTPUT_CHUNK * MAX_EXPANSION)?;
        let mut done = 0;
        while done < bytes.len() {
            if is_dead() {
                return if done > 0 { Ok(done) } else { Err(Errno::EIO) };
            }
            let n = self.send_some(&bytes[done..], &mut scratch);
            done += n;
            if n > 0 {
                continue;
            }
            if nonblocking {
                return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN) };
            }
            let room = self
                .driver
                .room_queue()
                .wait_interruptible(|| (self.driver.room() >= MAX_EXPANSION || is_dead()).then_some(()));
            match room {
                Err(_) if done > 0 => return Ok(done),
                r => r?,
            }
        }
        Ok(done)
    }

    /// Waits until everything was sent. ERESTARTSYS; EIO if the terminal is hung up meanwhile, for then it may never be.
    pub(super) fn drain(&self) -> Result<()> {
        let hangups = self.state.lock().hangups;
        let is_hung_up = || self.state.lock().hangups != hangups;
        self.driver
            .room_queue()
            .wait_interruptible(|| (self.driver.pending() == 0 || is_hung_up()).then_some(()))?;
        if is_hung_up() { Err(Errno::EIO) } else { Ok(()) }
    }
}
