//! What a real line has beside its data: modem lines, breaks, counts of errors (`TIOCMGET(2const)`, `ioctl_tty(2)`).

use alloc::sync::Arc;

use base::{Errno, Result};
use frame::user;
use linux_raw_sys::ioctl as op;

use super::{
    Tty,
    ioctl::{get_int, put_int},
    job::{self, sig},
};

// Bits of `TIOCMGET` (asm-generic/termios.h).
pub const DTR: u32 = 0x002;
pub const RTS: u32 = 0x004;
pub const CTS: u32 = 0x020;
pub const CD: u32 = 0x040;
pub const RI: u32 = 0x080;
pub const DSR: u32 = 0x100;
pub const OUT1: u32 = 0x2000;
pub const OUT2: u32 = 0x4000;
pub const LOOP: u32 = 0x8000;
/// Those that can be set.
const SETTABLE: u32 = DTR | RTS | OUT1 | OUT2 | LOOP;

/// `struct serial_icounter_struct` of linux/serial.h: changes of modem lines, bytes, errors.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct IntCounts {
    pub cts: u32,
    pub dsr: u32,
    pub rng: u32,
    pub dcd: u32,
    pub rx: u32,
    pub tx: u32,
    pub frame: u32,
    pub overrun: u32,
    pub parity: u32,
    pub brk: u32,
    pub buf_overrun: u32,
}

impl IntCounts {
    fn to_bytes(self) -> [u8; 80] {
        let c = self;
        let words =
            [c.cts, c.dsr, c.rng, c.dcd, c.rx, c.tx, c.frame, c.overrun, c.parity, c.brk, c.buf_overrun];
        let mut b = [0; 80];
        for (out, w) in b.chunks_exact_mut(4).zip(words) {
            out.copy_from_slice(&w.to_le_bytes());
        }
        b
    }
}

/// How long `TCSBRK` breaks, and the unit of `TCSBRKP`.
const BREAK_NS: u64 = 250_000_000;
const TENTH_NS: u64 = 100_000_000;

/// The controls; `None` for those that are others'.
pub(super) fn ioctl(tty: &Arc<Tty>, cmd: u32, arg: usize) -> Option<Result<usize>> {
    Some(match cmd {
        op::TIOCMGET => tty.driver.modem_lines().ok_or(Errno::ENOTTY).and_then(|v| put_int(arg, v as i32)),
        op::TIOCMSET | op::TIOCMBIS | op::TIOCMBIC => set_lines(tty, cmd, arg),
        op::TIOCMIWAIT => tty.driver.wait_modem(arg as u32).map(|()| 0),
        op::TIOCGICOUNT => put(arg, tty.driver.counts().map(IntCounts::to_bytes)),
        op::TIOCGSERIAL => put(arg, tty.driver.serial_info()),
        op::TIOCSBRK | op::TIOCCBRK => tty.driver.set_break(cmd == op::TIOCSBRK).map(|()| 0),
        // 0 sends a break; with any other value TCSBRK only waits for what was written, as `tcdrain` does.
        op::TCSBRK if arg == 0 => send_break(tty, BREAK_NS),
        op::TCSBRK => tty.check_background(sig::TTOU).and_then(|()| tty.drain()).map(|()| 0),
        op::TCSBRKP => {
            send_break(tty, if arg == 0 { BREAK_NS } else { (arg as u64).saturating_mul(TENTH_NS) })
        }
        _ => return None,
    })
}

fn put<const N: usize>(arg: usize, what: Option<[u8; N]>) -> Result<usize> {
    user::copy_to_user(arg, &what.ok_or(Errno::ENOTTY)?)?;
    Ok(0)
}

fn set_lines(tty: &Tty, cmd: u32, arg: usize) -> Result<usize> {
    let v = get_int(arg)? as u32 & SETTABLE;
    let (set, clear) = match cmd {
        op::TIOCMBIS => (v, 0),
        op::TIOCMBIC => (0, v),
        _ => (v, !v),
    };
    tty.driver.set_modem_lines(set, clear).map(|()| 0)
}

fn send_break(tty: &Tty, ns: u64) -> Result<usize> {
    tty.check_background(sig::TTOU)?;
    tty.drain()?;
    tty.driver.set_break(true)?;
    let until = sched::time::now_ns().saturating_add(ns);
    let slept = sched::time::sleep_until(until, frame::task::State::INTERRUPTIBLE);
    tty.driver.set_break(false)?;
    slept.map(|()| 0).map_err(|_| Errno::EINTR)
}

impl Tty {
    /// A break came, and `BRKINT` is set: what waits to be read or written is thrown away, and the foreground gets SIGINT.
    pub(crate) fn break_received(&self) {
        self.flush_input();
        self.driver.discard_output();
        if let (Some(j), Some(group)) = (job::jobs(), self.foreground()) {
            j.signal_group(group, sig::INT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_linux_s_layout() {
        let b = IntCounts { cts: 1, rx: 5, brk: 10, ..Default::default() }.to_bytes();
        assert_eq!((b[0], b[16], b[36]), (1, 5, 10));
    }
}
