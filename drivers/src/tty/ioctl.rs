//! The controls of `ioctl_tty(2)`.

use alloc::sync::Arc;

use base::{Errno, Result};
use frame::{
    atomic::{AtomicBool, Ordering::Relaxed},
    user,
};
use linux_raw_sys::ioctl as op;

use super::{
    Tty, WinSize,
    job::{self, sig},
    termios::{TERMIO_BYTES, TERMIOS_BYTES, TERMIOS2_BYTES, Termios, flag},
};

pub(super) fn put_int(arg: usize, v: i32) -> Result<usize> {
    user::copy_to_user(arg, &v.to_le_bytes())?;
    Ok(0)
}
pub(super) fn get_int(arg: usize) -> Result<i32> {
    let mut b = [0; 4];
    user::copy_from_user(&mut b, arg)?;
    Ok(i32::from_le_bytes(b))
}

/// When new settings take effect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    /// After the output was sent.
    Drained,
    /// After that, and with the input thrown away.
    Flushed,
}

/// By which end a control comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// An open file of the terminal itself.
    Line { readable: bool },
    /// The master of the pseudo-terminal, which may ask about its slave whatever session that belongs to.
    Master { readable: bool },
}

/// What a control of a terminal that was hung up says.
pub(super) fn after_hang_up(cmd: u32) -> Errno {
    if cmd == op::TIOCSPGRP { Errno::ENOTTY } else { Errno::EIO }
}

pub(super) fn ioctl(tty: &Arc<Tty>, cmd: u32, arg: usize, via: Via) -> Result<usize> {
    let mine = |tty: &Tty| match via {
        Via::Line { .. } => tty.mine().map(|_| ()),
        Via::Master { .. } => Ok(()),
    };
    let (Via::Line { readable } | Via::Master { readable }) = via;
    match cmd {
        op::TCGETS => get_termios(tty, arg, TERMIOS_BYTES),
        op::TCGETS2 => get_termios(tty, arg, TERMIOS2_BYTES),
        op::TCSETS | op::TCSETS2 | op::TCSETA => set_termios(tty, arg, form_of(cmd), When::Now),
        op::TCSETSW | op::TCSETSW2 | op::TCSETAW => set_termios(tty, arg, form_of(cmd), When::Drained),
        op::TCSETSF | op::TCSETSF2 | op::TCSETAF => set_termios(tty, arg, form_of(cmd), When::Flushed),
        op::TCGETA => {
            let b = tty.state.lock().termios.to_termio();
            user::copy_to_user(arg, &b).map(|()| 0).map_err(Errno::from)
        }
        op::TIOCGSOFTCAR => {
            let is_local = tty.state.lock().termios.c(flag::CLOCAL);
            put_int(arg, is_local.into())
        }
        op::TIOCSSOFTCAR => {
            let is_local = get_int(arg)? != 0;
            apply(tty, |t| t.clone().with_local(is_local));
            Ok(0)
        }
        op::TIOCGWINSZ => get_size(tty, arg),
        op::TIOCSWINSZ => set_size(tty, arg),
        op::TIOCGPGRP => {
            mine(tty)?;
            put_int(arg, tty.foreground().unwrap_or(0) as i32)
        }
        op::TIOCSPGRP => set_foreground(tty, arg),
        op::TIOCGSID => {
            mine(tty)?;
            put_int(arg, tty.session().ok_or(Errno::ENOTTY)? as i32)
        }
        op::TIOCSCTTY => tty.acquire(arg == 1, readable).map(|()| 0),
        op::TIOCNOTTY => tty.give_up().map(|()| 0),
        op::FIONREAD => {
            let n = {
                let s = tty.state.lock();
                s.ldisc.readable(&s.termios)
            };
            put_int(arg, n as i32)
        }
        op::TIOCOUTQ => put_int(arg, tty.driver.pending() as i32),
        op::TCFLSH => flush(tty, arg),
        op::TCXONC => flow(tty, arg),
        op::TIOCVHANGUP => vhangup(tty),
        op::TIOCGETD => put_int(arg, 0),
        op::TIOCSETD => match get_int(arg)? {
            0 => Ok(0),
            _ => Err(Errno::EINVAL),
        },
        op::TIOCGEXCL => put_int(arg, i32::from(tty.state.lock().exclusive)),
        op::TIOCEXCL | op::TIOCNXCL => {
            tty.state.lock().exclusive = cmd == op::TIOCEXCL;
            Ok(0)
        }
        op::TIOCGDEV => put_int(arg, tty.num.encode() as i32),
        op::TIOCSTI => push_back(tty, arg),
        _ => super::modem::ioctl(tty, cmd, arg).unwrap_or(Err(Errno::ENOTTY)),
    }
}

fn get_termios(tty: &Tty, arg: usize, len: usize) -> Result<usize> {
    let b = tty.state.lock().termios.to_bytes();
    user::copy_to_user(arg, &b[..len])?;
    Ok(0)
}

/// Bytes of the structure that a control takes.
fn form_of(cmd: u32) -> usize {
    match cmd {
        op::TCSETA | op::TCSETAW | op::TCSETAF => TERMIO_BYTES,
        op::TCSETS2 | op::TCSETSW2 | op::TCSETSF2 => TERMIOS2_BYTES,
        _ => TERMIOS_BYTES,
    }
}

fn set_termios(tty: &Tty, arg: usize, len: usize, when: When) -> Result<usize> {
    tty.check_background(sig::TTOU)?;
    let mut b = [0; TERMIOS2_BYTES];
    user::copy_from_user(&mut b[..len], arg)?;
    let new = match b.first_chunk().filter(|_| len == TERMIO_BYTES) {
        Some(old_form) => tty.state.lock().termios.with_termio(old_form),
        None => Termios::from_bytes(&b[..len]),
    };
    let new = new.ok_or(Errno::EINVAL)?;
    if when == When::Flushed {
        tty.flush_input();
    }
    if when != When::Now {
        tty.drain()?;
    }
    apply(tty, |_| new);
    Ok(0)
}

/// Gives the terminal the settings that `change` makes of its present ones.
fn apply(tty: &Tty, change: impl FnOnce(&Termios) -> Termios) {
    {
        let mut s = tty.state.lock();
        let s = &mut *s;
        let new = tty.driver.change_settings(&s.termios, change(&s.termios));
        let old = core::mem::replace(&mut s.termios, new);
        let was_stopped = s.ldisc.is_stopped();
        s.ldisc.settings_changed(&old, &s.termios);
        if was_stopped != s.ldisc.is_stopped() {
            tty.driver.hold(false);
            tty.send_echo(s);
        }
    }
    // A change of mode may make what is there readable, and give room.
    tty.readers.wake_all();
    tty.unthrottle();
}

fn get_size(tty: &Tty, arg: usize) -> Result<usize> {
    let s = tty.state.lock().size;
    let mut b = [0; 8];
    for (i, v) in [s.rows, s.cols, s.x_pixels, s.y_pixels].iter().enumerate() {
        b[2 * i..2 * i + 2].copy_from_slice(&v.to_le_bytes());
    }
    user::copy_to_user(arg, &b)?;
    Ok(0)
}

fn set_size(tty: &Tty, arg: usize) -> Result<usize> {
    let mut b = [0; 8];
    user::copy_from_user(&mut b, arg)?;
    let w = |i: usize| u16::from_le_bytes([b[i], b[i + 1]]);
    let new = WinSize { rows: w(0), cols: w(2), x_pixels: w(4), y_pixels: w(6) };
    let foreground = {
        let mut s = tty.state.lock();
        if core::mem::replace(&mut s.size, new) == new { 0 } else { s.foreground }
    };
    if let (Some(j), true) = (job::jobs(), foreground != 0) {
        j.signal_group(foreground, sig::WINCH);
    }
    Ok(0)
}

fn set_foreground(tty: &Tty, arg: usize) -> Result<usize> {
    tty.check_background(sig::TTOU).map_err(|e| if e == Errno::EIO { Errno::ENOTTY } else { e })?;
    let group = u32::try_from(get_int(arg)?).map_err(|_| Errno::EINVAL)?;
    let (j, c) = tty.mine()?;
    match j.session_of(group) {
        None => Err(Errno::ESRCH),
        Some(s) if s != c.session => Err(Errno::EPERM),
        Some(_) => {
            tty.state.lock().foreground = group;
            Ok(0)
        }
    }
}

/// TIOCVHANGUP, and vhangup(2) of the caller's own terminal.
fn vhangup(tty: &Tty) -> Result<usize> {
    if !job::jobs().and_then(|j| j.caller()).is_some_and(|c| c.is_privileged) {
        return Err(Errno::EPERM);
    }
    tty.hang_up();
    Ok(0)
}

impl Tty {
    /// Input that nobody has read is thrown away.
    pub(super) fn flush_input(&self) {
        self.state.lock().ldisc.flush_input();
        self.driver.input_flushed();
        self.unthrottle();
    }
    fn flush_output(&self) {
        let mut s = self.state.lock();
        s.echo.clear();
        self.driver.discard_output();
    }
}

fn flush(tty: &Tty, which: usize) -> Result<usize> {
    tty.check_background(sig::TTOU)?;
    // TCIFLUSH 0, TCOFLUSH 1, TCIOFLUSH 2.
    if which > 2 {
        return Err(Errno::EINVAL);
    }
    if which != 1 {
        tty.flush_input();
    }
    if which != 0 {
        tty.flush_output();
    }
    Ok(0)
}

fn flow(tty: &Tty, what: usize) -> Result<usize> {
    tty.check_background(sig::TTOU)?;
    let (stop, start) = {
        use super::termios::cc;
        let s = tty.state.lock();
        (s.termios.cc(cc::STOP), s.termios.cc(cc::START))
    };
    // TCOOFF 0, TCOON 1; TCIOFF 2 and TCION 3 ask the other side to stop and start.
    match what {
        0 | 1 => {
            let mut s = tty.state.lock();
            let s = &mut *s;
            s.ldisc.set_held(what == 0);
            tty.driver.hold(what == 0);
            tty.send_echo(s);
        }
        2 if stop != 0 => drop(tty.driver.write(&[stop])),
        3 if start != 0 => drop(tty.driver.write(&[start])),
        2 | 3 => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// `dev.tty.legacy_tiocsti`: whether programs without CAP_SYS_ADMIN may put bytes into their terminal's input.
pub(super) static LEGACY_TIOCSTI: AtomicBool = AtomicBool::new(true);

/// TIOCSTI: a byte as if it had been typed.
fn push_back(tty: &Tty, arg: usize) -> Result<usize> {
    let c = job::jobs().and_then(|j| j.caller()).ok_or(Errno::EPERM)?;
    if !LEGACY_TIOCSTI.load(Relaxed) && !c.is_privileged {
        return Err(Errno::EIO);
    }
    if !c.is_privileged && tty.mine().is_err() {
        return Err(Errno::EPERM);
    }
    let mut b = [0];
    user::copy_from_user(&mut b, arg)?;
    tty.simulate_input(b[0]);
    Ok(0)
}
