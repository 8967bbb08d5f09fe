//! Terminals: what stands between a line's driver and the programs that read, write and control it.
//!
//! ```text
//!   driver ──arrived──▶ thread of the terminal ──▶ LineDiscipline ──▶ read()
//!     ▲                        │ echo, signals          ▲
//!     └──────── output ◀───────┴──────── write() ───────┘ (output processing)
//! ```
//! Received bytes are taken through the line discipline by a kernel thread named after the terminal, because echo may
//! wait for the driver and signals take sleeping locks. (Linux does this with a work item on `events_unbound`; work
//! queues are not there yet.)
//!
//! # Locks, outermost first
//! `write_lock` (sleeping: one writer at a time, so that lines do not mix) → `state` (spinning: settings and discipline) →
//! the driver's own lock. Signals are sent with none of them held.
//!
//! Job control follows POSIX.1-2017 chapter 11; ioctls are `ioctl_tty(2)`.

use alloc::{string::String, sync::Arc, vec::Vec};

use base::{Errno, Result, device::DevNum};
use frame::sync::{LockClass, Mutex, SpinLock, WaitQueue};
use vfs::PollQueue;

mod file;
mod ioctl;
pub mod job;
pub mod ldisc;
pub mod nodes;
pub mod termios;

use job::sig;
use ldisc::{Event, LineDiscipline, Signal};
use termios::Termios;

/// What a line's driver does. None of the functions sleeps.
pub trait TtyDriver: Send + Sync {
    /// Takes as many bytes as it has room for; how many.
    fn write(&self, bytes: &[u8]) -> usize;
    /// How many bytes it would take.
    fn room(&self) -> usize;
    /// Woken when there is room again.
    fn room_queue(&self) -> &PollQueue;
    /// Bytes taken but not sent yet.
    fn pending(&self) -> usize;
    /// Holds output back, or lets it go on.
    fn hold(&self, on: bool);
    /// Forgets what was not sent yet.
    fn discard_output(&self);
    /// Appends received bytes, no more than `into` has capacity for.
    fn take_received(&self, into: &mut Vec<u8>);
    fn has_received(&self) -> bool;
    /// Woken when bytes arrive.
    fn arrival_queue(&self) -> &PollQueue;
}

/// `struct winsize`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WinSize {
    pub rows: u16,
    pub cols: u16,
    pub x_pixels: u16,
    pub y_pixels: u16,
}

struct State {
    termios: Termios,
    ldisc: LineDiscipline,
    size: WinSize,
    /// The session whose controlling terminal this is, and its foreground process group; 0: none.
    session: u32,
    foreground: u32,
    exclusive: bool,
    /// Counts hang-ups: files opened before one are dead.
    hangups: u32,
}

/// A terminal.
pub struct Tty {
    pub name: String,
    pub num: DevNum,
    driver: Arc<dyn TtyDriver>,
    state: SpinLock<State>,
    write_lock: Mutex<()>,
    readers: PollQueue,
}

static STATE: LockClass = LockClass::new("tty_state");
static WRITE: LockClass = LockClass::new("tty_write");

/// How many received bytes go through the discipline at a time.
const INPUT_CHUNK: usize = 256;

impl Tty {
    /// Makes a terminal and starts its thread.
    pub fn new(name: &str, num: DevNum, driver: Arc<dyn TtyDriver>) -> Result<Arc<Tty>> {
        let tty = Arc::new(Tty {
            name: name.into(),
            num,
            driver,
            state: SpinLock::new(
                &STATE,
                State {
                    termios: Termios::default(),
                    ldisc: LineDiscipline::new(),
                    size: WinSize::default(),
                    session: 0,
                    foreground: 0,
                    exclusive: false,
                    hangups: 0,
                },
            ),
            write_lock: Mutex::new(&WRITE, ()),
            readers: Arc::new(WaitQueue::new()),
        });
        let t = tty.clone();
        sched::kthread::spawn(name, move |k| {
            t.input_loop(k);
            0
        })?;
        Ok(tty)
    }

    /// The thread: waits for bytes, passes them on.
    fn input_loop(&self, k: &sched::kthread::Kthread) {
        use sched::kthread::Wake;
        let mut bytes = Vec::with_capacity(INPUT_CHUNK);
        loop {
            match k.wait_idle(self.driver.arrival_queue(), || self.driver.has_received().then_some(()), None)
            {
                Wake::Event(()) => {
                    bytes.clear();
                    self.driver.take_received(&mut bytes);
                    self.receive(&bytes);
                }
                Wake::TimedOut => {}
                Wake::Stop => return,
                Wake::Park => k.park(),
                Wake::Freeze => k.freeze(),
            }
        }
    }

    /// Takes received bytes through the line discipline.
    pub fn receive(&self, bytes: &[u8]) {
        let (mut echo, mut signals, mut news) = (Vec::new(), Vec::new(), false);
        let foreground = {
            let mut s = self.state.lock();
            let s = &mut *s;
            for &b in bytes {
                s.ldisc.receive(&s.termios, b, &mut echo, &mut |e| match e {
                    Event::Signal(x) => signals.push(x),
                    Event::Readable => news = true,
                    Event::Stop => self.driver.hold(true),
                    Event::Start => self.driver.hold(false),
                });
            }
            s.foreground
        };
        // Echo that finds no room is lost, as on a real line: waiting here would hold up the interrupt character.
        self.driver.write(&echo);
        for s in signals {
            if let (Some(j), true) = (job::jobs(), foreground != 0) {
                j.signal_group(
                    foreground,
                    match s {
                        Signal::Interrupt => sig::INT,
                        Signal::Quit => sig::QUIT,
                        Signal::Suspend => sig::TSTP,
                    },
                );
            }
        }
        if news {
            self.readers.wake_all();
        }
    }

    /// The session whose controlling terminal this is.
    pub fn session(&self) -> Option<u32> {
        Some(self.state.lock().session).filter(|&s| s != 0)
    }
    /// Its foreground process group (`tpgid` of `/proc/PID/stat`).
    pub fn foreground(&self) -> Option<u32> {
        Some(self.state.lock().foreground).filter(|&s| s != 0)
    }

    /// The leader of the session has ended, or given the terminal up: the foreground group gets SIGHUP and SIGCONT, and
    /// the terminal is free. Files that the session has open read end-of-file from now on if `hang_up`.
    pub fn release_session(&self, session: u32, hang_up: bool) {
        let foreground = {
            let mut s = self.state.lock();
            if s.session != session {
                return;
            }
            s.session = 0;
            if hang_up {
                s.hangups += 1;
            }
            core::mem::take(&mut s.foreground)
        };
        if let Some(j) = job::jobs() {
            if foreground != 0 {
                j.signal_group(foreground, sig::HUP);
                j.signal_group(foreground, sig::CONT);
            }
            j.set_session_tty(session, None);
        }
        if hang_up {
            self.readers.wake_all();
            self.driver.room_queue().wake_all();
        }
    }

    /// Makes this the controlling terminal of the caller's session, if it leads one without a terminal. `steal`: even if
    /// another session has it (needs CAP_SYS_ADMIN).
    fn acquire(self: &Arc<Self>, steal: bool) -> Result<()> {
        let j = job::jobs().ok_or(Errno::ENOTTY)?;
        let c = j.caller().ok_or(Errno::EPERM)?;
        if self.session() == Some(c.session) && c.leads_session {
            return Ok(());
        }
        if !c.leads_session || j.session_tty().is_some() {
            return Err(Errno::EPERM);
        }
        if let Some(other) = self.session() {
            if !(steal && c.is_privileged) {
                return Err(Errno::EPERM);
            }
            self.state.lock().session = 0;
            j.set_session_tty(other, None);
        }
        {
            let mut s = self.state.lock();
            s.session = c.session;
            s.foreground = c.group;
        }
        j.set_session_tty(c.session, Some(self.clone()));
        Ok(())
    }

    /// A background process that reads (or writes, or changes settings) is stopped by `signal`, or told EIO if it cannot
    /// be. `Ok`: go on.
    fn check_background(&self, signal: i32) -> Result<()> {
        let Some((j, c)) = job::jobs().and_then(|j| Some((j, j.caller()?))) else { return Ok(()) };
        let (session, foreground) = {
            let s = self.state.lock();
            (s.session, s.foreground)
        };
        if session == 0 || session != c.session || foreground == 0 || foreground == c.group {
            return Ok(());
        }
        if j.caller_ignores(signal) {
            return if signal == sig::TTIN { Err(Errno::EIO) } else { Ok(()) };
        }
        if j.is_orphaned(c.group) {
            return Err(Errno::EIO);
        }
        j.signal_group(c.group, signal);
        Err(Errno::ERESTARTSYS)
    }

    /// Sends `bytes` after output processing; waits for room. How many were taken.
    fn send(&self, bytes: &[u8], nonblocking: bool) -> Result<usize> {
        let mut out = Vec::new();
        // What is processed at a time; the longest expansion is a tab to eight spaces.
        const CHUNK: usize = 256;
        let mut done = 0;
        for part in bytes.chunks(CHUNK) {
            out.clear();
            {
                let mut s = self.state.lock();
                let s = &mut *s;
                if nonblocking && self.driver.room() < part.len() * 8 {
                    break;
                }
                s.ldisc.output(&s.termios, part, &mut out);
            }
            let mut rest = &out[..];
            while !rest.is_empty() {
                let n = self.driver.write(rest);
                rest = &rest[n..];
                if !rest.is_empty() {
                    let room = self
                        .driver
                        .room_queue()
                        .wait_interruptible(|| (self.driver.room() > 0).then_some(()));
                    if room.is_err() {
                        // Part of the chunk may be out; counting it whole loses less than sending it twice.
                        done += part.len();
                        return Ok(done);
                    }
                }
            }
            done += part.len();
        }
        if done == 0 && !bytes.is_empty() { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    /// Waits until everything was sent. ERESTARTSYS.
    fn drain(&self) -> Result<()> {
        Ok(self.driver.room_queue().wait_interruptible(|| (self.driver.pending() == 0).then_some(()))?)
    }
}
