//! The controls of `ioctl_tty(2)`.

use alloc::sync::Arc;

use base::{Errno, Result};
use frame::user;
use linux_raw_sys::ioctl as op;

use super::{
    Tty, WinSize,
    job::{self, sig},
    termios::{TERMIOS_BYTES, TERMIOS2_BYTES, Termios},
};

fn put_int(arg: usize, v: i32) -> Result<usize> {
    user::copy_to_user(arg, &v.to_le_bytes())?;
    Ok(0)
}
fn get_int(arg: usize) -> Result<i32> {
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

pub(super) fn ioctl(tty: &Arc<Tty>, cmd: u32, arg: usize) -> Result<usize> {
    match cmd {
        op::TCGETS => get_termios(tty, arg, TERMIOS_BYTES),
        op::TCGETS2 => get_termios(tty, arg, TERMIOS2_BYTES),
        op::TCSETS => set_termios(tty, arg, TERMIOS_BYTES, When::Now),
        op::TCSETSW => set_termios(tty, arg, TERMIOS_BYTES, When::Drained),
        op::TCSETSF => set_termios(tty, arg, TERMIOS_BYTES, When::Flushed),
        op::TCSETS2 => set_termios(tty, arg, TERMIOS2_BYTES, When::Now),
        op::TCSETSW2 => set_termios(tty, arg, TERMIOS2_BYTES, When::Drained),
        op::TCSETSF2 => set_termios(tty, arg, TERMIOS2_BYTES, When::Flushed),
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
        op::TIOCSCTTY => tty.acquire(arg == 1).map(|()| 0),
        op::TIOCNOTTY => give_up(tty),
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
        // Break is not sent; 0 would send one, any other value only waits.
        op::TCSBRK | op::TCSBRKP => {
            tty.check_background(sig::TTOU)?;
            tty.drain().map(|()| 0)
        }
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
        _ => Err(Errno::ENOTTY),
    }
}

fn get_termios(tty: &Tty, arg: usize, len: usize) -> Result<usize> {
    let b = tty.state.lock().termios.to_bytes();
    user::copy_to_user(arg, &b[..len])?;
    Ok(0)
}

fn set_termios(tty: &Tty, arg: usize, len: usize, when: When) -> Result<usize> {
    tty.check_background(sig::TTOU)?;
    let mut b = [0; TERMIOS2_BYTES];
    user::copy_from_user(&mut b[..len], arg)?;
    let new = Termios::from_bytes(&b[..len]).ok_or(Errno::EINVAL)?;
    if when != When::Now {
        tty.drain()?;
    }
    let stopped = {
        let mut s = tty.state.lock();
        let s = &mut *s;
        if when == When::Flushed {
            s.ldisc.flush_input();
        }
        let old = core::mem::replace(&mut s.termios, new);
        s.ldisc.settings_changed(&old, &s.termios);
        s.ldisc.is_stopped()
    };
    tty.driver.hold(stopped);
    // A change of mode may make what is there readable.
    tty.readers.wake_all();
    Ok(0)
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

/// ENOTTY unless this is the caller's controlling terminal.
fn mine(tty: &Tty) -> Result<(&'static dyn job::JobControl, job::Caller)> {
    let j = job::jobs().ok_or(Errno::ENOTTY)?;
    let c = j.caller().ok_or(Errno::ENOTTY)?;
    if tty.session() == Some(c.session) { Ok((j, c)) } else { Err(Errno::ENOTTY) }
}

fn set_foreground(tty: &Tty, arg: usize) -> Result<usize> {
    let (j, c) = mine(tty)?;
    tty.check_background(sig::TTOU)?;
    let group = u32::try_from(get_int(arg)?).map_err(|_| Errno::EINVAL)?;
    match j.session_of(group) {
        None => Err(Errno::ESRCH),
        Some(s) if s != c.session => Err(Errno::EPERM),
        Some(_) => {
            tty.state.lock().foreground = group;
            Ok(0)
        }
    }
}

/// TIOCNOTTY: a leader gives the terminal up for its whole session. (Linux lets other processes detach alone; a
/// session's terminal belongs to the session here, so for them it is ENOTTY.)
fn give_up(tty: &Tty) -> Result<usize> {
    let (_, c) = mine(tty)?;
    if !c.leads_session {
        return Err(Errno::ENOTTY);
    }
    tty.release_session(c.session, false);
    Ok(0)
}

fn flush(tty: &Tty, which: usize) -> Result<usize> {
    tty.check_background(sig::TTOU)?;
    // TCIFLUSH 0, TCOFLUSH 1, TCIOFLUSH 2.
    if which > 2 {
        return Err(Errno::EINVAL);
    }
    if which != 1 {
        tty.state.lock().ldisc.flush_input();
    }
    if which != 0 {
        tty.driver.discard_output();
        tty.driver.room_queue().wake_all();
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
            tty.state.lock().ldisc.set_stopped(what == 0);
            tty.driver.hold(what == 0);
        }
        2 if stop != 0 => drop(tty.driver.write(&[stop])),
        3 if start != 0 => drop(tty.driver.write(&[start])),
        2 | 3 => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// TIOCSTI: a byte as if it had been typed.
fn push_back(tty: &Tty, arg: usize) -> Result<usize> {
    let j = job::jobs().ok_or(Errno::EPERM)?;
    let c = j.caller().ok_or(Errno::EPERM)?;
    if !c.is_privileged && tty.session() != Some(c.session) {
        return Err(Errno::EPERM);
    }
    let mut b = [0];
    user::copy_from_user(&mut b, arg)?;
    tty.receive(&b);
    Ok(0)
}
