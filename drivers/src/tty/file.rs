//! An open terminal: reading, writing, polling.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};
use frame::task::State as Sleep;
use vfs::{File, FileKind, FileOps, IoDst, IoSrc, PollFlags, PollTable};

use super::{
    Tty,
    job::sig,
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
enum Want {
    /// A line.
    Line,
    /// So many bytes, however long it takes; with a time, it runs from byte to byte.
    Bytes { min: usize, between_ns: Option<u64> },
    /// Whatever comes within this time.
    Within(u64),
}

impl TtyFile {
    pub(super) fn new(tty: Arc<Tty>) -> Arc<TtyFile> {
        let hangups = Some(tty.state.lock().hangups);
        Arc::new(TtyFile { tty, hangups })
    }
    /// The terminal opened as `/dev/console`: init's own output must survive the end of a session that used the terminal.
    pub(super) fn console(tty: Arc<Tty>) -> Arc<TtyFile> {
        Arc::new(TtyFile { tty, hangups: None })
    }
    pub(super) fn is_hung_up(&self) -> bool {
        self.hangups.is_some_and(|seen| self.tty.state.lock().hangups != seen)
    }

    fn want(&self, len: usize) -> Want {
        let s = self.tty.state.lock();
        let t = &s.termios;
        if t.l(flag::ICANON) {
            return Want::Line;
        }
        let (min, time) = (usize::from(t.cc(cc::MIN)), u64::from(t.cc(cc::TIME)) * TENTH_NS);
        if min == 0 {
            Want::Within(time)
        } else {
            Want::Bytes { min: min.min(len), between_ns: (time > 0).then_some(time) }
        }
    }

    /// Waits for what `want` says. False: the time is over.
    fn wait(&self, want: Want) -> Result<bool> {
        let tty = &self.tty;
        let ready = |n: usize| {
            let s = tty.state.lock();
            let enough = if s.termios.l(flag::ICANON) {
                s.ldisc.has_input(&s.termios)
            } else {
                s.ldisc.readable(&s.termios) >= n
            };
            enough || self.hangups.is_some_and(|seen| s.hangups != seen)
        };
        let wait = |n: usize, ns: Option<u64>| {
            let deadline = ns.map(|ns| sched::time::now_ns() + ns);
            sched::time::wait_timeout(&tty.readers, Sleep::INTERRUPTIBLE, deadline, || ready(n).then_some(()))
                .map(|r| r.is_some())
        };
        Ok(match want {
            Want::Line => wait(1, None)?,
            Want::Within(ns) => wait(1, Some(ns))?,
            Want::Bytes { min, between_ns: None } => wait(min, None)?,
            Want::Bytes { min, between_ns: Some(ns) } => {
                wait(1, None)?;
                let mut have = 1;
                while have < min && wait(have + 1, Some(ns))? {
                    let s = tty.state.lock();
                    have = s.ldisc.readable(&s.termios).max(have + 1);
                }
                true
            }
        })
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
        let tty = &self.tty;
        loop {
            if self.is_hung_up() {
                return Ok(0);
            }
            tty.check_background(sig::TTIN)?;
            if dst.is_empty() {
                return Ok(0);
            }
            let want = self.want(dst.len());
            let has = {
                let s = tty.state.lock();
                s.ldisc.has_input(&s.termios)
            };
            if !has && file.is_nonblocking() {
                // MIN 0 and TIME 0 means "what there is", even if nothing.
                return if want == Want::Within(0) { Ok(0) } else { Err(Errno::EAGAIN) };
            }
            if !file.is_nonblocking() && !self.wait(want)? {
                return Ok(0);
            }
            // A line is at most as long as the discipline's buffer.
            let mut b = Vec::new();
            let size = dst.len().min(super::ldisc::BUFFER);
            b.try_reserve_exact(size)?;
            b.resize(size, 0);
            let got = {
                let mut s = tty.state.lock();
                let s = &mut *s;
                // Another reader may have taken it meanwhile.
                if s.ldisc.has_input(&s.termios) { Some(s.ldisc.read(&s.termios, &mut b)) } else { None }
            };
            match got {
                Some(n) => return dst.put(&b[..n]),
                None if want == Want::Within(0) => return Ok(0),
                None => continue,
            }
        }
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
        let _one = tty.write_lock.lock_interruptible()?;
        let mut b = [0; 512];
        let mut done = 0;
        while !src.is_empty() {
            let n = match src.take(&mut b) {
                Ok(n) => n,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            };
            match tty.send(&b[..n], file.is_nonblocking()) {
                Ok(sent) => {
                    done += sent;
                    if sent < n
                        || frame::task::current().work().contains(frame::task::Work::SIGNAL)
                            && tty.driver.room() == 0
                    {
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
            return PollFlags::HUP | PollFlags::READABLE | PollFlags::WRITABLE;
        }
        let s = self.tty.state.lock();
        let min = usize::from(s.termios.cc(cc::MIN)).max(1);
        let readable = if s.termios.l(flag::ICANON) || s.termios.cc(cc::TIME) > 0 {
            s.ldisc.has_input(&s.termios)
        } else {
            s.ldisc.readable(&s.termios) >= min
        };
        drop(s);
        if readable {
            f |= PollFlags::READABLE;
        }
        if self.tty.driver.room() > 0 {
            f |= PollFlags::WRITABLE;
        }
        f
    }
    fn ioctl(&self, _file: &File, cmd: u32, arg: usize) -> Result<usize> {
        if self.is_hung_up() {
            return Err(Errno::EIO);
        }
        super::ioctl::ioctl(&self.tty, cmd, arg)
    }
}
