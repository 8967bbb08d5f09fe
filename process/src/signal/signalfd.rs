//! signalfd(2): a file from which a program reads the signals that wait for it, in place of handlers.
//!
//! The file has a set of signals and nothing else: who reads or polls sees what is pending for himself, his own thread's first, then his
//! process's, so the same file shows each process its own signals. The program blocks the set, or the signals go to their
//! actions before anybody reads. A record has 128 bytes; a read takes as many as fit and are there, and waits for the first alone.
//!
//! ```text
//!   0 signo  4 errno  8 code   and by the sender:
//!   kill, rt  12 pid  16 uid            44 int  48 ptr (what was queued with it)
//!   child     12 pid  16 uid  40 status  56 utime  64 stime
//!   fault     72 address
//!   timer     24 id   32 overrun        44 int  48 ptr
//!   poll      20 fd   28 band
//! ```
//! Whoever polls is woken through his process's queue as it was when he began: `epoll` too, which belongs to who added the file.
//!
//! Documented: signalfd(2), Linux `fs/signalfd.c`.

use alloc::{string::String, sync::Arc};

use base::{Errno, Result, cred::Cred};
use frame::atomic::{AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general as uapi;
use vfs::{
    File, FileOps, IoDst, OpenFlags,
    file::FileKind,
    poll::{PollFlags, PollTable},
};

use super::{
    calls,
    info::{Fields, SI_QUEUE, SI_TIMER, SI_USER, SIZE, SigInfo},
    set::{CHLD, SYNCHRONOUS, SigSet, UNBLOCKABLE},
};
use crate::process::current;

/// Bytes of a `signalfd_siginfo`.
pub const RECORD: usize = 128;
/// `SI_SIGIO`.
const SI_SIGIO: i32 = -5;

/// The file behind it.
pub struct SignalFd {
    mask: AtomicU64,
}

/// EINVAL for flags that do not exist.
pub fn check_flags(flags: u32) -> Result<()> {
    if flags & !(uapi::O_CLOEXEC | uapi::O_NONBLOCK) != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Makes the file. `SFD_CLOEXEC` is the caller's. ENOMEM, ENFILE.
pub fn create(mask: SigSet, flags: u32, cred: &Arc<Cred>) -> Result<Arc<File>> {
    let ops = SignalFd { mask: AtomicU64::new(mask.without(UNBLOCKABLE).0) };
    let ops = frame::heap::try_arc(ops).ok_or(Errno::ENOMEM)?;
    let nonblock = OpenFlags::from_bits_truncate(flags) & OpenFlags::NONBLOCK;
    vfs::anon::new_file("[signalfd]", ops, OpenFlags::RDWR | nonblock, cred)
}

impl SignalFd {
    /// Another set. Who waits looks again.
    pub fn set_mask(&self, mask: SigSet) {
        self.mask.store(mask.without(UNBLOCKABLE).0, Relaxed);
        current().process.signal_wait.wake_all();
    }
    fn mask(&self) -> SigSet {
        SigSet(self.mask.load(Relaxed))
    }
    fn first(&self, file: &File) -> Result<SigInfo> {
        match calls::take(self.mask()) {
            Some(i) => Ok(i),
            None if file.is_nonblocking() => Err(Errno::EAGAIN),
            None => {
                let queue = current().process.signal_wait.clone();
                Ok(queue.wait_interruptible(|| calls::take(self.mask()))?)
            }
        }
    }
}

impl FileOps for SignalFd {
    fn kind(&self) -> FileKind {
        FileKind::Stream
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        let room = dst.len() / RECORD;
        if room == 0 {
            return Err(Errno::EINVAL);
        }
        let mut done = 0;
        while done < room {
            let info = if done == 0 {
                self.first(file)?
            } else {
                let Some(i) = calls::take(self.mask()) else { break };
                i
            };
            match dst.put(&record(&info)) {
                Ok(RECORD) => done += 1,
                // The signal is lost with it, as on Linux.
                _ if done == 0 => return Err(Errno::EFAULT),
                _ => break,
            }
        }
        Ok(done * RECORD)
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        let me = current();
        if let Some(t) = table {
            t.register(&me.process.signal_wait);
        }
        let s = me.process.sig.lock();
        let ready = s.shared.set().or(me.pending.lock().set()).and(self.mask());
        if ready.is_empty() { PollFlags::empty() } else { PollFlags::IN }
    }
    fn fdinfo(&self, _file: &File, out: &mut String) {
        use core::fmt::Write;
        // Writing to a string fails only without memory, and then the line is missing.
        let _ = writeln!(out, "sigmask:\t{:016x}", self.mask().0);
    }
}

/// Which members of a `siginfo_t` mean something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layout {
    Kill,
    Rt,
    Child,
    Fault,
    Timer,
    Poll,
}

fn layout(i: &SigInfo) -> Layout {
    match &i.fields {
        Fields::None | Fields::Kill { .. } => Layout::Kill,
        Fields::Rt { .. } => Layout::Rt,
        Fields::Child { .. } => Layout::Child,
        Fields::Fault { .. } => Layout::Fault,
        Fields::Timer { .. } => Layout::Timer,
        Fields::Poll { .. } => Layout::Poll,
        // What a program passed: by its code.
        Fields::Raw(_) => match i.code {
            SI_TIMER => Layout::Timer,
            SI_SIGIO => Layout::Poll,
            ..=SI_QUEUE => Layout::Rt,
            SI_USER => Layout::Kill,
            1..=6 if i.signo == CHLD => Layout::Child,
            1..=15 if SYNCHRONOUS.contains(i.signo) => Layout::Fault,
            _ => Layout::Kill,
        },
    }
}

/// The record of a signal.
pub fn record(i: &SigInfo) -> [u8; RECORD] {
    let from: [u8; SIZE] = i.to_bytes();
    let mut to = [0; RECORD];
    let mut copy = |at: usize, src: usize, n: usize| to[at..at + n].copy_from_slice(&from[src..src + n]);
    copy(0, 0, 12);
    match layout(i) {
        Layout::Kill => copy(12, 16, 8),
        Layout::Rt => {
            copy(12, 16, 8);
            copy(44, 24, 4);
            copy(48, 24, 8);
        }
        Layout::Child => {
            copy(12, 16, 8);
            copy(40, 24, 4);
            copy(56, 32, 16);
        }
        Layout::Fault => copy(72, 16, 8),
        Layout::Timer => {
            copy(24, 16, 4);
            copy(32, 20, 4);
            copy(44, 24, 4);
            copy(48, 24, 8);
        }
        Layout::Poll => {
            copy(28, 16, 4);
            copy(20, 24, 4);
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn word(b: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(b[at..at + 4].try_into().unwrap())
    }
    fn long(b: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn records_are_linux_s() {
        assert_eq!(size_of::<uapi::siginfo_t>(), RECORD);
        let of = |fields, code, signo| record(&SigInfo { signo, errno: 0, code, fields });
        let r = of(Fields::Rt { pid: 7, uid: 8, value: 0x1_0000_0002 }, SI_QUEUE, 40);
        assert_eq!(
            (word(&r, 0), word(&r, 12), word(&r, 16), word(&r, 44), long(&r, 48)),
            (40, 7, 8, 2, 0x1_0000_0002)
        );
        let r = of(Fields::Child { pid: 7, uid: 8, status: 9, utime: 10, stime: 11 }, 1, CHLD);
        assert_eq!((word(&r, 12), word(&r, 40), long(&r, 56), long(&r, 64)), (7, 9, 10, 11));
        let r = of(Fields::Timer { id: 3, overrun: 4, value: 5, setting: 6 }, SI_TIMER, 14);
        assert_eq!((word(&r, 24), word(&r, 32), long(&r, 48), word(&r, 12)), (3, 4, 5, 0));
        let r = of(Fields::Fault { addr: 0x1234 }, 1, 11);
        assert_eq!((long(&r, 72), word(&r, 8)), (0x1234, 1));
        let r = of(Fields::Poll { band: 1, fd: 5 }, 1, 29);
        assert_eq!((word(&r, 28), word(&r, 20)), (1, 5));
    }

    proptest! {
        #[test]
        fn what_a_program_passed_makes_a_record(signo in 1u32..=64, code: i32, bytes in prop::collection::vec(any::<u8>(), SIZE)) {
            let mut b = [0; SIZE];
            b.copy_from_slice(&bytes);
            b[8..12].copy_from_slice(&code.to_le_bytes());
            let i = SigInfo::from_bytes(signo, &b).unwrap();
            let r = record(&i);
            prop_assert_eq!((word(&r, 0), word(&r, 8) as i32), (signo, code));
            prop_assert!(r[100..].iter().all(|&x| x == 0), "the rest is empty");
        }
    }
}
