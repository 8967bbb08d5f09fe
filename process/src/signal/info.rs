//! `siginfo_t`: why a signal was sent (`sigaction(2)`), and its 128 bytes in user memory.
//!
//! ```text
//!   0 signo   4 errno   8 code   12 -      16 … depends on the sender:
//!   kill      16 pid   20 uid
//!   rt        16 pid   20 uid   24 value
//!   child     16 pid   20 uid   24 status   32 utime   40 stime
//!   fault     16 address
//!   timer     16 id    20 overrun  24 value
//!   poll      16 band  24 fd
//! ```

use alloc::boxed::Box;

use linux_raw_sys::general as uapi;

use super::set::Signo;

pub const SI_USER: i32 = 0;
pub const SI_KERNEL: i32 = 0x80;
pub const SI_QUEUE: i32 = -1;
pub const SI_TIMER: i32 = -2;
pub const SI_TKILL: i32 = uapi::SI_TKILL;

/// Bytes of a `siginfo_t`.
pub const SIZE: usize = 128;

/// What the sender tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fields {
    None,
    Kill {
        pid: u32,
        uid: u32,
    },
    Rt {
        pid: u32,
        uid: u32,
        value: u64,
    },
    /// Times in ticks of 1/100 s.
    Child {
        pid: u32,
        uid: u32,
        status: i32,
        utime: u64,
        stime: u64,
    },
    Fault {
        addr: u64,
    },
    /// `setting` tells the timer which of its settings this came from; user space does not see it.
    Timer {
        id: u32,
        overrun: u32,
        value: u64,
        setting: u32,
    },
    Poll {
        band: i64,
        fd: i32,
    },
    /// From `rt_sigqueueinfo`, passed on as it came.
    Raw(Box<[u8; SIZE - 16]>),
}

/// Why a signal was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SigInfo {
    pub signo: Signo,
    pub errno: i32,
    pub code: i32,
    pub fields: Fields,
}

impl SigInfo {
    /// From the kernel itself, no reason given.
    pub fn kernel(signo: Signo) -> SigInfo {
        SigInfo { signo, errno: 0, code: SI_KERNEL, fields: Fields::None }
    }
    /// From a process.
    pub fn user(signo: Signo, code: i32, pid: u32, uid: u32) -> SigInfo {
        SigInfo { signo, errno: 0, code, fields: Fields::Kill { pid, uid } }
    }
    /// From an instruction that faulted.
    pub fn fault(signo: Signo, code: u32, addr: u64) -> SigInfo {
        SigInfo { signo, errno: 0, code: code as i32, fields: Fields::Fault { addr } }
    }
    /// True where a process sent it, as opposed to the kernel.
    pub fn from_user(&self) -> bool {
        self.code <= 0
    }

    /// As user space sees it.
    pub fn to_bytes(&self) -> [u8; SIZE] {
        let mut b = [0; SIZE];
        b[0..4].copy_from_slice(&self.signo.to_le_bytes());
        b[4..8].copy_from_slice(&self.errno.to_le_bytes());
        b[8..12].copy_from_slice(&self.code.to_le_bytes());
        let mut word = |at: usize, v: u32| b[at..at + 4].copy_from_slice(&v.to_le_bytes());
        let (mut long, mut raw) = ([(0, 0u64); 2], None);
        match &self.fields {
            Fields::None => {}
            Fields::Kill { pid, uid } => {
                word(16, *pid);
                word(20, *uid);
            }
            Fields::Rt { pid, uid, value } => {
                word(16, *pid);
                word(20, *uid);
                long[0] = (24, *value);
            }
            Fields::Child { pid, uid, status, utime, stime } => {
                word(16, *pid);
                word(20, *uid);
                word(24, *status as u32);
                long = [(32, *utime), (40, *stime)];
            }
            Fields::Fault { addr } => long[0] = (16, *addr),
            Fields::Timer { id, overrun, value, .. } => {
                word(16, *id);
                word(20, *overrun);
                long[0] = (24, *value);
            }
            Fields::Poll { band, fd } => {
                long[0] = (16, *band as u64);
                word(24, *fd as u32);
            }
            Fields::Raw(r) => raw = Some(r),
        }
        for (at, v) in long {
            if at != 0 {
                b[at..at + 8].copy_from_slice(&v.to_le_bytes());
            }
        }
        if let Some(r) = raw {
            b[16..].copy_from_slice(&r[..]);
        }
        b
    }

    /// From user space's bytes; the signal number is the caller's. `None` without memory.
    pub fn from_bytes(signo: Signo, b: &[u8; SIZE]) -> Option<SigInfo> {
        let int = |at: usize| i32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let mut raw = frame::heap::try_box([0; SIZE - 16])?;
        raw.copy_from_slice(&b[16..]);
        Some(SigInfo { signo, errno: int(4), code: int(8), fields: Fields::Raw(raw) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(b: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(b[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn child_layout_is_linux_s() {
        let i = SigInfo {
            signo: 17,
            errno: 0,
            code: 1,
            fields: Fields::Child { pid: 7, uid: 8, status: -9, utime: 10, stime: 11 },
        };
        let b = i.to_bytes();
        assert_eq!(
            (word(&b, 0), word(&b, 8), word(&b, 16), word(&b, 20), word(&b, 24) as i32),
            (17, 1, 7, 8, -9)
        );
        assert_eq!((word(&b, 32), word(&b, 40)), (10, 11));
    }

    #[test]
    fn what_a_program_queued_arrives_unchanged() {
        let mut b = [0; SIZE];
        for (i, x) in b.iter_mut().enumerate() {
            *x = i as u8;
        }
        let out = SigInfo::from_bytes(34, &b).unwrap().to_bytes();
        assert_eq!(out[16..], b[16..]);
        assert_eq!(word(&out, 0), 34);
        assert_eq!(out[4..12], b[4..12]);
    }
}
