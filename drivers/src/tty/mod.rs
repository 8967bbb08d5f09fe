//! Terminals: what stands between a line's driver and the programs that read, write and control it.
//!
//! ```text
//!   driver ──arrived──▶ flush_to_ldisc ──▶ LineDiscipline ──▶ read()
//!     ▲                        │ echo, signals          ▲
//!     └──────── output ◀───────┴──────── write() ───────┘ (output processing)
//! ```
//! Received bytes are taken through the line discipline by a work item of the terminal, `flush_to_ldisc` on `events_unbound`,
//! because echo may wait for the driver and signals take sleeping locks.
//!
//! | file | what is in it |
//! |---|---|
//! | `input.rs`, `output.rs` | the two directions |
//! | `session.rs`, `job.rs` | controlling terminals and job control |
//! | `file.rs`, `ioctl.rs`, `nodes.rs` | what programs open |
//! | `ldisc/`, `termios.rs` | the line discipline and its settings |
//! | `modem.rs` | modem lines, breaks |
//! | `pty/` | pseudo-terminals |
//!
//! # Locks, outermost first
//! `write_lock` (sleeping: one writer at a time, so that lines do not mix), `input` (sleeping: bytes are received in order) →
//! `state` (spinning: settings and discipline) → the driver's own lock. Signals are sent with none but `input` held.
//!
//! Job control follows POSIX.1-2017 chapter 11; ioctls are `ioctl_tty(2)`.

use alloc::{
    boxed::Box,
    string::String,
    sync::{Arc, Weak},
    vec::Vec,
};

use base::{Result, device::DevNum};
use frame::sync::{LockClass, Mutex, SpinLock, WaitEntry, WaitQueue, once::Once};
use sched::workqueue::{self, Work};
use vfs::PollQueue;

pub(crate) mod drivers;
mod file;
mod input;
mod ioctl;
pub mod job;
pub mod ldisc;
pub mod modem;
pub mod nodes;
mod output;
pub mod pty;
mod session;
pub mod termios;

use ldisc::LineDiscipline;
use termios::Termios;

/// What a line's driver does. None of the functions sleeps; all but the last few may be called with the terminal's state
/// locked.
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
    /// Forgets what was not sent yet, and wakes those who wait for room.
    fn discard_output(&self);
    /// Appends received bytes, at most `max`, and no more than `into` has capacity for.
    fn take_received(&self, into: &mut Vec<u8>, max: usize);
    fn has_received(&self) -> bool;
    /// Woken when bytes arrive.
    fn arrival_queue(&self) -> &PollQueue;
    /// It is the slave of a pseudo-terminal.
    fn is_pty(&self) -> bool {
        false
    }
    /// Input that no program had read was thrown away.
    fn input_flushed(&self) {}
    /// What becomes of settings that a program asks for, given the present ones.
    fn change_settings(&self, _old: &Termios, new: Termios) -> Termios {
        new
    }
    /// One more file is about to be open. EIO if it may not.
    fn opened(&self) -> Result<()> {
        Ok(())
    }
    /// A file was closed.
    fn closed(&self) {}

    // What only a real line has.
    /// The modem lines that are up, as bits of [`modem`]; `None` for a line without any.
    fn modem_lines(&self) -> Option<u32> {
        None
    }
    fn set_modem_lines(&self, _set: u32, _clear: u32) -> Result<()> {
        Err(base::Errno::ENOTTY)
    }
    /// Waits, interruptibly, until one of these lines changes. Sleeps.
    fn wait_modem(&self, _lines: u32) -> Result<()> {
        Err(base::Errno::ENOTTY)
    }
    /// Begins or ends a break. A line that has none does nothing, as on Linux.
    fn set_break(&self, _on: bool) -> Result<()> {
        Ok(())
    }
    fn counts(&self) -> Option<modem::IntCounts> {
        None
    }
    /// `struct serial_struct` of linux/serial.h.
    fn serial_info(&self) -> Option<[u8; 72]> {
        None
    }
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
    /// Echo that waits for room.
    echo: Vec<u8>,
    /// Received bytes stayed with the driver because the discipline had no room.
    held_back: bool,
    size: WinSize,
    /// The session whose controlling terminal this is, and its foreground process group; 0: none.
    session: u32,
    foreground: u32,
    exclusive: bool,
    /// Open files.
    opens: u32,
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
    input: Mutex<()>,
    /// Passes on what arrived: `flush_to_ldisc`.
    flush: Arc<Work>,
    /// What queues that when the driver tells of bytes.
    arrived: Once<Arc<WaitEntry>>,
    readers: PollQueue,
}

static STATE: LockClass = LockClass::new("tty_state");
static WRITE: LockClass = LockClass::new("tty_write");
static INPUT: LockClass = LockClass::new("tty_input");

impl Tty {
    fn build(name: String, num: DevNum, driver: Arc<dyn TtyDriver>, termios: Termios) -> Result<Arc<Tty>> {
        let readers = frame::heap::try_arc(WaitQueue::new()).ok_or(base::Errno::ENOMEM)?;
        // The item is made first, and knows the terminal later.
        let me = frame::heap::try_arc(Once::<Weak<Tty>>::new()).ok_or(base::Errno::ENOMEM)?;
        let m = me.clone();
        let flush = Work::new("flush_to_ldisc", move |_| {
            if let Some(t) = m.get().and_then(Weak::upgrade) {
                t.flush_to_ldisc();
            }
        })?;
        let tty = frame::heap::try_arc(Tty {
            name,
            num,
            driver,
            state: SpinLock::new(
                &STATE,
                State {
                    termios,
                    ldisc: LineDiscipline::new(),
                    echo: Vec::new(),
                    held_back: false,
                    size: WinSize::default(),
                    session: 0,
                    foreground: 0,
                    exclusive: false,
                    opens: 0,
                    hangups: 0,
                },
            ),
            write_lock: Mutex::new(&WRITE, ()),
            input: Mutex::new(&INPUT, ()),
            flush,
            arrived: Once::new(),
            readers,
        })
        .ok_or(base::Errno::ENOMEM)?;
        me.call_once(|| Arc::downgrade(&tty));
        Ok(tty)
    }

    /// Changes the settings that the terminal has before a program opens it.
    pub fn configure(&self, f: impl FnOnce(&mut Termios)) {
        let mut s = self.state.lock();
        let mut new = s.termios.clone();
        f(&mut new);
        s.termios = self.driver.change_settings(&s.termios, new);
    }

    /// Makes a terminal on a line whose driver tells by waking its arrival queue.
    pub fn new(name: &str, num: DevNum, driver: Arc<dyn TtyDriver>) -> Result<Arc<Tty>> {
        let tty = Self::build(name.into(), num, driver, Termios::default())?;
        let work = tty.flush.clone();
        let arrived = WaitEntry::new_callback(Box::new(move |_| {
            workqueue::events_unbound().queue(&work);
        }));
        // The terminal keeps it: a queue lets go of an entry that nobody else holds.
        tty.driver.arrival_queue().add(tty.arrived.call_once(|| arrived));
        // What came before.
        tty.schedule_flush();
        Ok(tty)
    }

    /// Bytes arrived, or there is room for those that did. From any context.
    fn schedule_flush(&self) {
        workqueue::events_unbound().queue(&self.flush);
    }
}
