//! Calls on signals.

use base::{Errno, Result};
use frame::user::{self, Regs};
use linux_raw_sys::general as raw;
use process::{
    current,
    signal::{SigInfo, SigSet, action::SigAction, calls, context, info, send, signalfd},
};

use crate::{
    args::{Args, Ret, deadline, get, put, put_opt, timespec, to_ns},
    files::install,
    poll::SIGSET_SIZE,
};

/// Signal sets have one size.
fn check_size(size: usize) -> Result<()> {
    if size == SIGSET_SIZE { Ok(()) } else { Err(Errno::EINVAL) }
}

pub(crate) fn rt_sigaction(r: &mut Regs) -> Ret {
    check_size(r.size::<3>())?;
    let new = r.ptr::<1>().map(get::<[u8; 32]>).transpose()?.map(|b| SigAction::from_bytes(&b));
    let old = calls::sigaction(r.uint::<0>(), new)?;
    put_opt(r.ptr::<2>(), &old.to_bytes())?;
    Ok(0)
}
pub(crate) fn rt_sigprocmask(r: &mut Regs) -> Ret {
    check_size(r.size::<3>())?;
    let new = r.ptr::<1>().map(get::<u64>).transpose()?.map(SigSet);
    let old = calls::sigprocmask(r.uint::<0>(), new)?;
    put_opt(r.ptr::<2>(), &old.0)?;
    Ok(0)
}
pub(crate) fn rt_sigpending(r: &mut Regs) -> Ret {
    let size = r.size::<1>();
    if size > SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    user::copy_to_user(r.size::<0>(), &calls::sigpending().0.to_le_bytes()[..size])?;
    Ok(0)
}
pub(crate) fn rt_sigsuspend(r: &mut Regs) -> Ret {
    check_size(r.size::<1>())?;
    let mask = SigSet(get(r.size::<0>())?);
    Err(calls::sigsuspend(mask))
}
pub(crate) fn pause(_: &mut Regs) -> Ret {
    Err(calls::pause())
}
pub(crate) fn rt_sigtimedwait(r: &mut Regs) -> Ret {
    check_size(r.size::<3>())?;
    let set = SigSet(get(r.size::<0>())?);
    let end = r.ptr::<2>().map(timespec).transpose()?.map(|t| deadline(to_ns(t)));
    let got = calls::sigtimedwait(set, end)?;
    put_opt(r.ptr::<1>(), &got.to_bytes())?;
    Ok(got.signo as usize)
}
/// The registers before the signal; `rax` among them.
pub(crate) fn rt_sigreturn(r: &mut Regs) -> Ret {
    context::sigreturn(r);
    Ok(r.rax as usize)
}
pub(crate) fn sigaltstack(r: &mut Regs) -> Ret {
    let new = r.ptr::<0>().map(get::<[u8; 24]>).transpose()?;
    let old = calls::sigaltstack(r, new.as_ref())?;
    put_opt(r.ptr::<1>(), &old)?;
    Ok(0)
}

pub(crate) fn kill(r: &mut Regs) -> Ret {
    send::kill(r.int::<0>(), r.uint::<1>()).map(|()| 0)
}
/// A thread number: 0 and below name none.
fn tid(n: i32) -> Result<u32> {
    u32::try_from(n).ok().filter(|n| *n > 0).ok_or(Errno::EINVAL)
}
pub(crate) fn tkill(r: &mut Regs) -> Ret {
    send::tgkill(0, tid(r.int::<0>())?, r.uint::<1>()).map(|()| 0)
}
pub(crate) fn tgkill(r: &mut Regs) -> Ret {
    send::tgkill(tid(r.int::<0>())?, tid(r.int::<1>())?, r.uint::<2>()).map(|()| 0)
}

fn user_info(sig: u32, at: usize) -> Result<SigInfo> {
    let b = get::<[u8; info::SIZE]>(at)?;
    SigInfo::from_bytes(sig, &b).ok_or(Errno::EINVAL)
}
pub(crate) fn rt_sigqueueinfo(r: &mut Regs) -> Ret {
    let i = user_info(r.uint::<1>(), r.size::<2>())?;
    send::sigqueue(u32::try_from(r.int::<0>()).map_err(|_| Errno::ESRCH)?, i).map(|()| 0)
}
pub(crate) fn rt_tgsigqueueinfo(r: &mut Regs) -> Ret {
    let i = user_info(r.uint::<2>(), r.size::<3>())?;
    send::tgsigqueue(tid(r.int::<0>())?, tid(r.int::<1>())?, i).map(|()| 0)
}

/// signalfd(2): a new descriptor for -1, else the file behind it gets another set.
fn do_signalfd(fd: i32, mask: usize, size: usize, flags: u32) -> Ret {
    check_size(size)?;
    let mask = SigSet(get(mask)?);
    signalfd::check_flags(flags)?;
    let me = current();
    if fd == -1 {
        return install(signalfd::create(mask, flags, &me.cred())?, flags & raw::O_CLOEXEC != 0);
    }
    let file = me.file(fd)?;
    file.ops_as::<signalfd::SignalFd>().ok_or(Errno::EINVAL)?.set_mask(mask);
    Ok(fd as usize)
}
pub(crate) fn signalfd(r: &mut Regs) -> Ret {
    do_signalfd(r.int::<0>(), r.size::<1>(), r.size::<2>(), 0)
}
pub(crate) fn signalfd4(r: &mut Regs) -> Ret {
    do_signalfd(r.int::<0>(), r.size::<1>(), r.size::<2>(), r.uint::<3>())
}

/// Goes on with what a signal interrupted.
pub(crate) fn restart_syscall(_: &mut Regs) -> Ret {
    use process::process::Restart;
    let what = core::mem::take(&mut *current().restart.lock());
    match what {
        Restart::None => Err(Errno::EINTR),
        Restart::Sleep { deadline_ns, rmtp } => {
            crate::time::sleep_until(deadline_ns, (rmtp != 0).then_some(rmtp as usize))
        }
        Restart::Futex { uaddr, val, deadline_ns, shared, bitset } => {
            process::futex::wait(uaddr as usize, shared, val, bitset, Some(deadline_ns), true).map(|()| 0)
        }
        Restart::Poll { fds, nfds, deadline_ns } => crate::poll::poll_again(fds, nfds, deadline_ns),
    }
}

/// Copies `siginfo_t` as `waitid` does: the members that it defines, and nothing behind them.
pub(crate) fn put_child_info(at: usize, i: Option<&SigInfo>) -> Result<()> {
    const USED: usize = 28;
    let b = i.map_or([0; info::SIZE], SigInfo::to_bytes);
    let mut head = [0; USED];
    head.copy_from_slice(&b[..USED]);
    put(at, &head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_linux_s_sizes() {
        assert_eq!(size_of::<raw::siginfo_t>(), info::SIZE);
        assert_eq!(size_of::<raw::kernel_sigaction>(), 32);
        assert_eq!(size_of::<raw::stack_t>(), 24);
        assert_eq!(size_of::<raw::kernel_sigset_t>(), SIGSET_SIZE);
    }
    #[test]
    fn thread_numbers_are_positive() {
        assert_eq!((tid(0), tid(-1), tid(7)), (Err(Errno::EINVAL), Err(Errno::EINVAL), Ok(7)));
    }
}
