//! A terminal as the controlling terminal of a session: who gets it, who loses it, and who may use it meanwhile.
//!
//! POSIX.1-2017 chapter 11; what the standard leaves open is as on Linux:
//! * the leader of a session on a real line ends: the line is hung up. On a pseudo-terminal, whose master decides about its life,
//!   only the foreground group gets SIGHUP;
//! * a hang-up sends SIGHUP and SIGCONT to the session's leader alone. When the leader ends afterwards, the group that was
//!   in the foreground gets them too.

use alloc::sync::Arc;

use base::{Errno, Result};

use super::{
    Tty,
    job::{self, sig},
};

impl Tty {
    /// The session whose controlling terminal this is.
    pub fn session(&self) -> Option<u32> {
        Some(self.state.lock().session).filter(|&s| s != 0)
    }
    /// Its foreground process group (`tpgid` of `/proc/PID/stat`).
    pub fn foreground(&self) -> Option<u32> {
        Some(self.state.lock().foreground).filter(|&s| s != 0)
    }

    /// The leader of `session` has ended (`on_exit`) or gives the terminal up.
    pub fn release_session(&self, session: u32, on_exit: bool) {
        let foreground = {
            let mut s = self.state.lock();
            if s.session != session {
                return;
            }
            s.session = 0;
            if on_exit && !self.driver.is_pty() {
                s.hangups += 1;
                s.ldisc.flush_input();
            }
            core::mem::take(&mut s.foreground)
        };
        if let Some(j) = job::jobs() {
            if foreground != 0 {
                j.signal_group(foreground, sig::HUP);
                if !on_exit {
                    j.signal_group(foreground, sig::CONT);
                }
            }
            j.set_session_tty(session, None);
        }
        self.wake_everyone();
    }

    /// The line is gone: files that are open now read end-of-file and cannot be written from now on, and the session
    /// loses its terminal.
    pub fn hang_up(&self) {
        let (session, foreground) = {
            let mut s = self.state.lock();
            s.hangups += 1;
            s.ldisc.flush_input();
            s.echo.clear();
            (core::mem::take(&mut s.session), core::mem::take(&mut s.foreground))
        };
        if let (Some(j), true) = (job::jobs(), session != 0) {
            j.hang_up_session(session, foreground);
        }
        self.wake_everyone();
    }
    fn wake_everyone(&self) {
        self.readers.wake_all();
        self.driver.room_queue().wake_all();
        self.unthrottle();
    }

    /// Makes this the controlling terminal of the caller's session, if it leads one without a terminal. `steal`: even if
    /// another session has it (needs CAP_SYS_ADMIN).
    pub(super) fn acquire(self: &Arc<Self>, steal: bool, readable: bool) -> Result<()> {
        let j = job::jobs().ok_or(Errno::ENOTTY)?;
        let c = j.caller().ok_or(Errno::EPERM)?;
        if self.session() == Some(c.session) && c.leads_session {
            return Ok(());
        }
        if !c.leads_session || j.session_tty().is_some() {
            return Err(Errno::EPERM);
        }
        let owner = self.session();
        if owner.is_some() && !(steal && c.is_privileged) || !readable && !c.is_privileged {
            return Err(Errno::EPERM);
        }
        {
            let mut s = self.state.lock();
            // Two leaders may have come this far at once.
            if s.session != owner.unwrap_or(0) {
                return Err(Errno::EPERM);
            }
            s.session = c.session;
            s.foreground = c.group;
        }
        if let Some(other) = owner {
            j.set_session_tty(other, None);
        }
        j.set_session_tty(c.session, Some(self.clone()));
        Ok(())
    }

    /// As [`Tty::acquire`] at open(2), where it is no error if the terminal cannot be had.
    pub(super) fn acquire_at_open(self: &Arc<Self>, readable: bool) {
        let free = self.session().is_none();
        if free && readable {
            let _ = self.acquire(false, true);
        }
    }

    /// TIOCNOTTY: a leader gives the terminal up for its whole session, another process for itself alone.
    pub(super) fn give_up(&self) -> Result<()> {
        let (j, c) = self.mine()?;
        if c.leads_session {
            self.release_session(c.session, false);
        } else {
            j.leave_tty();
        }
        Ok(())
    }

    /// ENOTTY unless this is the caller's controlling terminal.
    pub(super) fn mine(&self) -> Result<(&'static dyn job::JobControl, job::Caller)> {
        let j = job::jobs().ok_or(Errno::ENOTTY)?;
        let c = j.caller().ok_or(Errno::ENOTTY)?;
        if c.has_tty && self.session() == Some(c.session) { Ok((j, c)) } else { Err(Errno::ENOTTY) }
    }

    /// A background process that reads (or writes, or changes settings) is stopped by `signal`, or told EIO if it cannot
    /// be. `Ok`: go on.
    pub(super) fn check_background(&self, signal: i32) -> Result<()> {
        let Ok((j, c)) = self.mine() else { return Ok(()) };
        let foreground = self.state.lock().foreground;
        if foreground == 0 || foreground == c.group {
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
}
