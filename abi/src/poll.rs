//! Waiting for files: `poll`, `select`, epoll; and the files made for it, `eventfd` and pipes.
//!
//! What a signal does differs, as on Linux: `poll` goes on by `restart_syscall` with the same end, `ppoll`, `select` and `pselect6`
//! are made again with the time that is left, epoll ends with `EINTR`.

use alloc::vec::Vec;

use base::{Errno, Result};
use frame::user::{self, Regs};
use linux_raw_sys::general as raw;
use process::{
    current,
    process::Restart,
    rlimit,
    signal::{SigSet, calls},
};
use vfs::{
    OpenFlags, PollFlags,
    epoll::{self, Ctl, Event},
    select::{PollEntry, SELECT_EX, SELECT_IN, SELECT_OUT, poll_files},
};

use crate::{
    args::{Args, Ret, buffer, deadline, get, put, split_ns, split_us, timespec, timeval_words, to_ns},
    files::{file, install},
};

/// The size of the signal sets that calls pass beside them.
pub(crate) const SIGSET_SIZE: usize = 8;

/// A signal mask argument with its size.
fn mask_arg(at: Option<usize>, size: usize) -> Result<Option<SigSet>> {
    let Some(at) = at else { return Ok(None) };
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    Ok(Some(SigSet(get(at)?)))
}

/// Runs `f` under another signal mask. Interrupted, the mask stays until the signal is delivered.
fn under(mask: Option<SigSet>, f: impl FnOnce() -> Ret) -> Ret {
    let Some(m) = mask else { return f() };
    calls::begin_temporary_mask(m);
    let r = f();
    calls::end_temporary_mask(matches!(r, Err(e) if e == Errno::EINTR || e.is_restart()));
    r
}

/// The end of a wait of this many milliseconds; negative: never.
fn ms_deadline(ms: i32) -> Option<u64> {
    u64::try_from(ms).ok().map(|ms| deadline(ms * 1_000_000))
}

/// `struct pollfd`: descriptor; wanted and found events in one word.
type PollFd = [u32; 2];

/// Polls the array at `fds`. `Err(ERESTARTSYS)` where a signal came.
fn do_poll(fds: usize, nfds: u32, deadline_ns: Option<u64>) -> Ret {
    let me = current();
    if nfds as u64 > me.process.limit(rlimit::NOFILE) {
        return Err(Errno::EINVAL);
    }
    let n = nfds as usize;
    if !user::range_ok(fds, n * size_of::<PollFd>()) {
        return Err(Errno::EFAULT);
    }
    let files = me.files();
    let mut list = Vec::new();
    list.try_reserve_exact(n)?;
    for i in 0..n {
        let [fd, events] = get::<PollFd>(fds + i * 8)?;
        let fd = fd as i32;
        list.push(PollEntry {
            file: if fd < 0 { None } else { files.get(fd).ok() },
            events: PollFlags::from_bits_truncate(events & 0xffff),
            skip: fd < 0,
            revents: PollFlags::empty(),
        });
    }
    let ready = poll_files(&mut list, deadline_ns)?;
    for (i, e) in list.iter().enumerate() {
        user::copy_to_user(fds + i * 8 + 6, &(e.revents.bits() as u16).to_le_bytes())?;
    }
    Ok(ready)
}

/// `poll`, from the beginning or after an interruption.
fn poll_until(fds: usize, nfds: u32, deadline_ns: Option<u64>) -> Ret {
    match do_poll(fds, nfds, deadline_ns) {
        Err(Errno::ERESTARTSYS) => {
            *current().restart.lock() = Restart::Poll { fds: fds as u64, nfds, deadline_ns };
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        r => r,
    }
}
pub(crate) fn poll(r: &mut Regs) -> Ret {
    poll_until(r.size::<0>(), r.uint::<1>(), ms_deadline(r.int::<2>()))
}
pub(crate) fn poll_again(fds: u64, nfds: u32, deadline_ns: Option<u64>) -> Ret {
    poll_until(fds as usize, nfds, deadline_ns)
}

/// How the time that is left is written back.
#[derive(Clone, Copy)]
enum Left {
    Timespec(usize),
    Timeval(usize),
    Nowhere,
}

/// The end of `ppoll`, `select` and `pselect6`: writes the time left. Where that cannot be done, an interrupted call is not made again.
fn finish(r: Ret, end: Option<u64>, left: Left) -> Ret {
    let interrupted = r == Err(Errno::ERESTARTSYS);
    let written = match (end, left) {
        (None, _) | (_, Left::Nowhere) => true,
        (Some(end), left) => {
            let ns = end.saturating_sub(sched::time::now_ns());
            match left {
                Left::Timespec(at) => put(at, &split_ns(ns)).is_ok(),
                Left::Timeval(at) => put(at, &split_us(ns)).is_ok(),
                Left::Nowhere => true,
            }
        }
    };
    match r {
        _ if interrupted && written => Err(Errno::ERESTARTNOHAND),
        _ if interrupted => Err(Errno::EINTR),
        r => r,
    }
}

pub(crate) fn ppoll(r: &mut Regs) -> Ret {
    let end = r.ptr::<2>().map(timespec).transpose()?.map(|t| deadline(to_ns(t)));
    let mask = mask_arg(r.ptr::<3>(), r.size::<4>())?;
    let left = r.ptr::<2>().map_or(Left::Nowhere, Left::Timespec);
    under(mask, || finish(do_poll(r.size::<0>(), r.uint::<1>(), end), end, left))
}

/// One `fd_set`, as words.
fn fd_set(at: Option<usize>, words: usize) -> Result<Vec<u64>> {
    let mut v = Vec::new();
    v.try_reserve_exact(words)?;
    for i in 0..words {
        v.push(match at {
            Some(at) => get(at.wrapping_add(i * 8))?,
            None => 0u64,
        });
    }
    Ok(v)
}

fn do_select(n: i32, at: [Option<usize>; 3], deadline_ns: Option<u64>) -> Ret {
    let files = current().files();
    // Beyond the table nothing is open, and Linux does not look there.
    let n = usize::try_from(n).map_err(|_| Errno::EINVAL)?.min(files.capacity());
    let words = n.div_ceil(64);
    let mut sets = [fd_set(at[0], words)?, fd_set(at[1], words)?, fd_set(at[2], words)?];
    let kinds = [SELECT_IN, SELECT_OUT, SELECT_EX];
    let mut list = Vec::new();
    let mut fds = Vec::new();
    for fd in 0..n {
        let mut events = PollFlags::empty();
        for (set, kind) in sets.iter().zip(kinds) {
            if set[fd / 64] >> (fd % 64) & 1 != 0 {
                events |= kind;
            }
        }
        if events.is_empty() {
            continue;
        }
        let file = Some(files.get(fd as i32)?);
        list.try_reserve(1)?;
        fds.try_reserve(1)?;
        list.push(PollEntry { file, events, skip: false, revents: PollFlags::empty() });
        fds.push(fd);
    }
    poll_files(&mut list, deadline_ns)?;
    let mut ready = 0;
    for (set, kind) in sets.iter_mut().zip(kinds) {
        let mut found = buffer(words * 8)?;
        for (e, &fd) in list.iter().zip(&fds) {
            if set[fd / 64] >> (fd % 64) & 1 != 0 && e.revents.intersects(kind) {
                found[fd / 8] |= 1 << (fd % 8);
                ready += 1;
            }
        }
        for (w, b) in set.iter_mut().zip(found.chunks_exact(8)) {
            *w = b.iter().rev().fold(0, |w, b| w << 8 | *b as u64);
        }
    }
    for (set, at) in sets.iter().zip(at) {
        if let Some(at) = at {
            put(at, &**set)?;
        }
    }
    Ok(ready)
}

pub(crate) fn select(r: &mut Regs) -> Ret {
    let end = match r.ptr::<4>() {
        None => None,
        Some(at) => {
            // More than a second of microseconds is allowed here, unlike elsewhere.
            let [sec, us] = get::<[i64; 2]>(at)?;
            if sec < 0 || us < 0 {
                return Err(Errno::EINVAL);
            }
            Some(deadline(timeval_words(sec.saturating_add(us / 1_000_000), us % 1_000_000)?))
        }
    };
    let left = r.ptr::<4>().map_or(Left::Nowhere, Left::Timeval);
    finish(do_select(r.int::<0>(), [r.ptr::<1>(), r.ptr::<2>(), r.ptr::<3>()], end), end, left)
}
pub(crate) fn pselect6(r: &mut Regs) -> Ret {
    let end = r.ptr::<4>().map(timespec).transpose()?.map(|t| deadline(to_ns(t)));
    let mask = match r.ptr::<5>() {
        None => None,
        Some(at) => {
            let [set, size] = get::<[u64; 2]>(at)?;
            mask_arg((set != 0).then_some(set as usize), size as usize)?
        }
    };
    let left = r.ptr::<4>().map_or(Left::Nowhere, Left::Timespec);
    let sets = [r.ptr::<1>(), r.ptr::<2>(), r.ptr::<3>()];
    under(mask, || finish(do_select(r.int::<0>(), sets, end), end, left))
}

pub(crate) fn epoll_create(r: &mut Regs) -> Ret {
    if r.int::<0>() <= 0 {
        return Err(Errno::EINVAL);
    }
    install(epoll::create(&current().cred())?, false)
}
pub(crate) fn epoll_create1(r: &mut Regs) -> Ret {
    let flags = r.uint::<0>();
    if flags & !raw::EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    install(epoll::create(&current().cred())?, flags != 0)
}

/// `struct epoll_event` is packed: events, then data, 12 bytes.
const EVENT_SIZE: usize = 12;

pub(crate) fn epoll_ctl(r: &mut Regs) -> Ret {
    let (op, fd) = (r.uint::<1>(), r.int::<2>());
    let mut event = Event::default();
    if op != raw::EPOLL_CTL_DEL {
        let [events, lo, hi] = get::<[u32; 3]>(r.size::<3>())?;
        event = Event { events, data: lo as u64 | (hi as u64) << 32 };
    }
    let files = current().files();
    let (ep, target) = (files.get(r.int::<0>())?, files.get(fd)?);
    let op = match op {
        raw::EPOLL_CTL_ADD => Ctl::Add(event),
        raw::EPOLL_CTL_MOD => Ctl::Modify(event),
        raw::EPOLL_CTL_DEL => Ctl::Delete,
        _ => return Err(Errno::EINVAL),
    };
    epoll::ctl(&ep, fd, &target, op)?;
    Ok(0)
}

fn do_epoll_wait(r: &Regs, end: Option<u64>) -> Ret {
    let (at, max) = (r.size::<1>(), r.int::<2>());
    if max <= 0 || max as usize > i32::MAX as usize / EVENT_SIZE {
        return Err(Errno::EINVAL);
    }
    if !user::range_ok(at, max as usize * EVENT_SIZE) {
        return Err(Errno::EFAULT);
    }
    let ep = file(r.int::<0>())?;
    let mut done = 0;
    epoll::wait(&ep, max as usize, end, &mut |e| {
        put(at + done * EVENT_SIZE, &[e.events, e.data as u32, (e.data >> 32) as u32])?;
        done += 1;
        Ok(())
    })
}
pub(crate) fn epoll_wait(r: &mut Regs) -> Ret {
    do_epoll_wait(r, ms_deadline(r.int::<3>()))
}
pub(crate) fn epoll_pwait(r: &mut Regs) -> Ret {
    let mask = mask_arg(r.ptr::<4>(), r.size::<5>())?;
    under(mask, || do_epoll_wait(r, ms_deadline(r.int::<3>())))
}
pub(crate) fn epoll_pwait2(r: &mut Regs) -> Ret {
    let end = r.ptr::<3>().map(timespec).transpose()?.map(|t| deadline(to_ns(t)));
    let mask = mask_arg(r.ptr::<4>(), r.size::<5>())?;
    under(mask, || do_epoll_wait(r, end))
}

pub(crate) fn eventfd(r: &mut Regs) -> Ret {
    install(vfs::eventfd::create(r.uint::<0>(), 0, &current().cred())?, false)
}
pub(crate) fn eventfd2(r: &mut Regs) -> Ret {
    let flags = r.uint::<1>();
    install(vfs::eventfd::create(r.uint::<0>(), flags, &current().cred())?, flags & raw::EFD_CLOEXEC != 0)
}

fn make_pipe(at: usize, flags: u32) -> Ret {
    if flags & !(raw::O_CLOEXEC | raw::O_DIRECT | raw::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let me = current();
    let (rd, wr) = fs::pipe::create(OpenFlags::from_bits_truncate(flags & !raw::O_CLOEXEC), &me.cred())?;
    let cloexec = flags & raw::O_CLOEXEC != 0;
    let rd = install(rd, cloexec)?;
    // Without both numbers in the program's hands there is no pipe.
    let told = install(wr, cloexec).and_then(|wr| {
        put(at, &[rd as u32, wr as u32]).inspect_err(|_| {
            let _ = me.files().close(wr as i32);
        })
    });
    if told.is_err() {
        let _ = me.files().close(rd as i32);
    }
    told.map(|()| 0)
}
pub(crate) fn pipe(r: &mut Regs) -> Ret {
    make_pipe(r.size::<0>(), 0)
}
pub(crate) fn pipe2(r: &mut Regs) -> Ret {
    make_pipe(r.size::<0>(), r.uint::<1>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_linux_s_sizes() {
        assert_eq!(size_of::<PollFd>(), size_of::<raw::pollfd>());
        assert_eq!(EVENT_SIZE, size_of::<raw::epoll_event>());
    }
    #[test]
    fn masks_have_one_size() {
        assert_eq!(mask_arg(None, 99), Ok(None));
        assert_eq!(mask_arg(Some(8), 4), Err(Errno::EINVAL));
    }
}
