//! An open terminal: reading, writing, polling.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};
use frame::task::State as Sleep;
use vfs::{File, FileKind, FileOps, IoDst, IoSrc, OpenFlags, PollFlags, PollTable};

use super::{
    Tty, ioctl,
    job::{self, sig},
    ldisc,
    output::OUTPUT_CHUNK,
    termios::{cc, flag},
};

/// What open(2) of a terminal gives.
pub(super) struct TtyFile {
    pub(super) tty: Arc<Tty>,
    /// How many hang-ups there had been when it was opened; `None`: opened as `/dev/console`, which hang-ups spare.
    hangups: Option<u32>,
}

/// TIME counts tenths of a second.
const TENTH_NS: u64 = 100_000_000;

/// What a read waits for, from MIN and TIME.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Want {
    /// It is complete with so many bytes; a line is complete anyway.
    min: usize,
    /// How long it waits for the first byte; `None`: for ever.
    first_ns: Option<u64>,
    /// How long it waits for each byte after one.
    between_ns: Option<u64>,
}

impl Want {
    fn new(min: u8, time: u8) -> Want {
        let time = (time > 0).then_some(u64::from(time) * TENTH_NS);
        match min {
            0 => Want { min: 1, first_ns: Some(time.unwrap_or(0)), between_ns: None },
            n => Want { min: n.into(), first_ns: None, between_ns: time },
        }
    }
    const LINE: Want = Want { min: 1, first_ns: None, between_ns: None };
}

impl TtyFile {
    /// One more open file of the terminal. EBUSY, EIO.
    pub(super) fn new(tty: Arc<Tty>) -> Result<Arc<TtyFile>> {
        let hangups = Some(tty.state.lock().hangups);
        Self::build(tty, hangups)
    }
    /// The terminal opened as `/dev/console`: init's own output must survive the end of a session that used the terminal.
    pub(super) fn console(tty: Arc<Tty>) -> Result<Arc<TtyFile>> {
        Self::build(tty, None)
    }
    fn build(tty: Arc<Tty>, hangups: Option<u32>) -> Result<Arc<TtyFile>> {
        let privileged = job::jobs().and_then(|j| j.caller()).is_none_or(|c| c.is_privileged);
        if tty.state.lock().exclusive && !privileged {
            return Err(Errno::EBUSY);
        }
        tty.driver.opened()?;
        let file = frame::heap::try_arc(TtyFile { tty: tty.clone(), hangups });
        match &file {
            // From here on its drop counts it off again.
            Some(_) => tty.state.lock().opens += 1,
            None => tty.driver.closed(),
        }
        file.ok_or(Errno::ENOMEM)
    }
    pub(super) fn is_hung_up(&self) -> bool {
        self.hangups.is_some_and(|seen| self.tty.state.lock().hangups != seen)
    }
    /// A writer has nobody to write for.
    fn is_dead(&self) -> bool {
        self.is_hung_up()
    }

    fn want(&self) -> Want {
        let s = self.tty.state.lock();
        let t = &s.termios;
        if t.l(flag::ICANON) { Want::LINE } else { Want::new(t.cc(cc::MIN), t.cc(cc::TIME)) }
    }

    /// Whether poll(2) says so.
    fn is_readable(&self) -> bool {
        let s = self.tty.state.lock();
        let (min, time) = (usize::from(s.termios.cc(cc::MIN)).max(1), s.termios.cc(cc::TIME));
        if s.termios.l(flag::ICANON) || time > 0 {
            s.ldisc.has_input(&s.termios)
        } else {
            s.ldisc.readable(&s.termios) >= min
        }
    }

    /// Takes what there is: a line, or bytes. `None`: nothing yet.
    fn take(&self, buf: &mut [u8]) -> Option<usize> {
        let mut s = self.tty.state.lock();
        let s = &mut *s;
        s.ldisc.has_input(&s.termios).then(|| s.ldisc.read(&s.termios, buf))
    }

    /// The same, counting what is on its way from the line.
    fn take_all(&self, buf: &mut [u8]) -> Option<usize> {
        if let Some(n) = self.take(buf) {
            return Some(n);
        }
        if self.tty.flush.flush() { self.take(buf) } else { None }
    }

    /// Waits for input or the end. False: the time is over.
    fn wait(&self, ns: Option<u64>) -> Result<bool> {
        let ready = || {
            let s = self.tty.state.lock();
            s.ldisc.has_input(&s.termios) || self.hangups.is_some_and(|seen| s.hangups != seen)
        };
        let deadline = ns.map(|ns| sched::time::now_ns().saturating_add(ns));
        let got = sched::time::wait_timeout(&self.tty.readers, Sleep::INTERRUPTIBLE, deadline, || {
            ready().then_some(())
        })?;
        Ok(got.is_some())
    }

    fn is_canonical(&self) -> bool {
        let s = self.tty.state.lock();
        s.termios.l(flag::ICANON) && !s.termios.l(flag::EXTPROC)
    }

    /// Reads into `buf` what MIN and TIME, or a line, say.
    fn read(&self, buf: &mut [u8], nonblocking: bool) -> Result<usize> {
        let want = self.want();
        let (mut done, mut time) = (0, want.first_ns);
        loop {
            if self.is_hung_up() {
                return Ok(done);
            }
            match self.take_all(&mut buf[done..]) {
                Some(n) => {
                    done += n;
                    self.tty.unthrottle();
                    if done >= want.min || done == buf.len() || self.is_canonical() {
                        return Ok(done);
                    }
                    time = want.between_ns;
                    continue;
                }
                // MIN 0 and TIME 0 means "what there is", even if nothing.
                None if time == Some(0) => return Ok(done),
                None if nonblocking && done > 0 => return Ok(done),
                None if nonblocking => return Err(Errno::EAGAIN),
                None => {}
            }
            match self.wait(time) {
                Ok(true) => {}
                Ok(false) => return Ok(done),
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            }
        }
    }
}

impl Drop for TtyFile {
    fn drop(&mut self) {
        {
            let mut s = self.tty.state.lock();
            s.opens -= 1;
            s.exclusive &= s.opens > 0;
        }
        self.tty.driver.closed();
    }
}

impl FileOps for TtyFile {
    fn kind(&self) -> FileKind {
        FileKind::Stream
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        if self.is_hung_up() {
            return Ok(0);
        }
        self.tty.check_background(sig::TTIN)?;
        if dst.is_empty() {
            return Ok(0);
        }
        // A line is at most as long as the discipline's buffer.
        let mut b = Vec::new();
        let size = dst.len().min(ldisc::BUFFER);
        b.try_reserve_exact(size)?;
        b.resize(size, 0);
        let n = self.read(&mut b, file.is_nonblocking())?;
        dst.put(&b[..n])
    }
    fn write_at(&self, file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        let tty = &self.tty;
        if self.is_hung_up() {
            return Err(Errno::EIO);
        }
        let to_stop = tty.state.lock().termios.l(flag::TOSTOP);
        if to_stop {
            tty.check_background(sig::TTOU)?;
        }
        let _one = if file.is_nonblocking() {
            tty.write_lock.try_lock().ok_or(Errno::EAGAIN)?
        } else {
            tty.write_lock.lock_interruptible()?
        };
        let mut b = [0; OUTPUT_CHUNK];
        let mut done = 0;
        while !src.is_empty() {
            let r = src.take(&mut b).and_then(|n| {
                tty.send(&b[..n], file.is_nonblocking(), &|| self.is_dead()).map(|sent| (n, sent))
            });
            match r {
                Ok((n, sent)) => {
                    done += sent;
                    if sent < n {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register(&self.tty.readers);
            t.register(self.tty.driver.room_queue());
        }
        let mut f = PollFlags::empty();
        if self.is_hung_up() {
            return PollFlags::HUP | PollFlags::ERR | PollFlags::READABLE | PollFlags::WRITABLE;
        }
        // What is on its way from the line counts.
        if self.is_readable() || self.tty.flush.flush() && self.is_readable() {
            f |= PollFlags::READABLE;
        }
        if self.tty.driver.room() > 0 && self.tty.driver.pending() < WAKEUP_CHARS {
            f |= PollFlags::WRITABLE;
        }
        f
    }
    fn ioctl(&self, file: &File, cmd: u32, arg: usize) -> Result<usize> {
        if self.is_hung_up() {
            return Err(ioctl::after_hang_up(cmd));
        }
        ioctl::ioctl(&self.tty, cmd, arg, ioctl::Via::Line { readable: file.flags().readable() })
    }
}

/// poll(2) says "writable" while fewer bytes than this wait to be sent: Linux's `WAKEUP_CHARS`.
const WAKEUP_CHARS: usize = 256;

/// A leader that opens a terminal without O_NOCTTY may get it as its controlling terminal.
pub(super) fn open(tty: &Arc<Tty>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let file = TtyFile::new(tty.clone())?;
    if !flags.contains(OpenFlags::NOCTTY) {
        tty.acquire_at_open(flags.readable());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_and_time() {
        assert_eq!(Want::new(0, 0), Want { min: 1, first_ns: Some(0), between_ns: None });
        assert_eq!(Want::new(0, 3).first_ns, Some(300_000_000));
        assert_eq!(Want::new(5, 0), Want { min: 5, first_ns: None, between_ns: None });
        assert_eq!(Want::new(5, 1).between_ns, Some(TENTH_NS));
    }
}
