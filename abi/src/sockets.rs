//! Sockets: addresses, messages and their control parts between user memory and the families.
//!
//! The order of checks is Linux's: descriptor before address for `bind`, buffer before descriptor for `sendto`, flags first for
//! `accept4`; programs see which error wins.

use alloc::{sync::Arc, vec::Vec};

use base::{Cred, Errno, Result};
use frame::{
    atomic::Ordering::Relaxed,
    user::{self, Regs},
};
use linux_raw_sys::{general as raw, net as uapi, netlink as nl};
use net::{Name, RecvMsg, SendMsg, Socket, cmsg, knobs, message::ADDR_MAX, options, scm::Ucred};
use process::{current, rlimit, try_current};
use vfs::{Ctx, File, IoDst, IoSrc, MAX_RW_COUNT, OpenFlags};

use crate::{
    args::{Args, IoVecs, Ret, bytes, get, put, split_ns, timespec, to_ns},
    files::{file, install, tell_of_pipe},
};

/// The part of the type argument that is a type (`SOCK_TYPE_MASK`).
const TYPE_MASK: u32 = 0xf;
/// Only the kernel of 32-bit programs may set it.
const MSG_CMSG_COMPAT: u32 = 0x8000_0000;
/// recvmmsg(2): wait for the first message only.
const MSG_WAITFORONE: u32 = 0x1_0000;
/// Most messages of one sendmmsg(2).
const MMSG_MAX: u32 = 1024;

/// The running process, for the families.
pub(crate) struct Running;

impl net::caller::Caller for Running {
    fn ctx(&self) -> Result<Ctx> {
        Ok(try_current().ok_or(Errno::EPERM)?.ctx())
    }
    fn cred(&self) -> Arc<Cred> {
        try_current().map_or_else(|| Arc::new(Cred::root()), |me| me.cred())
    }
    fn file(&self, fd: i32) -> Result<Arc<File>> {
        try_current().ok_or(Errno::EBADF)?.file_any(fd)
    }
    fn nofile(&self) -> u64 {
        try_current().map_or(u64::MAX, |me| me.process.limit(rlimit::NOFILE))
    }
}

/// An address from user memory.
struct Addr {
    bytes: [u8; ADDR_MAX],
    len: usize,
}

impl Addr {
    /// `EINVAL` for a length that no address has.
    fn get(at: usize, len: i32) -> Result<Addr> {
        let len = usize::try_from(len).ok().filter(|n| *n <= ADDR_MAX).ok_or(Errno::EINVAL)?;
        let mut a = Addr { bytes: [0; ADDR_MAX], len };
        user::copy_from_user(&mut a.bytes[..len], at)?;
        Ok(a)
    }
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Writes as much of an address as there is room for, and its whole length.
fn put_addr(name: &[u8], at: usize, len_at: usize) -> Result<()> {
    let room: i32 = get(len_at)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let n = room.min(name.len());
    if n > 0 {
        user::copy_to_user(at, &name[..n])?;
    }
    put(len_at, &(name.len() as u32))
}

/// Splits the type argument; `EINVAL` for unknown flags.
fn kind_and_flags(arg: u32) -> Result<(u32, u32)> {
    let flags = arg & !TYPE_MASK;
    check_flags(flags)?;
    Ok((arg & TYPE_MASK, flags))
}
fn check_flags(flags: u32) -> Result<()> {
    if flags & !(raw::O_CLOEXEC | raw::O_NONBLOCK) != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Gives a new socket a file and a number.
fn install_socket(sock: net::Created, flags: u32) -> Ret {
    let f = net::new_file(sock, OpenFlags::from_bits_truncate(flags), &current().cred())?;
    install(f, flags & raw::O_CLOEXEC != 0)
}

pub(crate) fn socket(r: &mut Regs) -> Ret {
    let (kind, flags) = kind_and_flags(r.uint::<1>())?;
    install_socket(net::create(r.int::<0>(), kind, r.uint::<2>())?, flags)
}

pub(crate) fn socketpair(r: &mut Regs) -> Ret {
    let (kind, flags) = kind_and_flags(r.uint::<1>())?;
    let (a, b) = net::pair(r.int::<0>(), kind, r.uint::<2>())?;
    let me = current();
    let (open, cred) = (OpenFlags::from_bits_truncate(flags), me.cred());
    let files = (net::new_file(a, open, &cred)?, net::new_file(b, open, &cred)?);
    let cloexec = flags & raw::O_CLOEXEC != 0;
    let first = install(files.0, cloexec)? as i32;
    let second = install(files.1, cloexec).inspect_err(|_| {
        let _ = me.files().close(first);
    })? as i32;
    put(r.size::<3>(), &[first, second]).inspect_err(|_| {
        let _ = (me.files().close(first), me.files().close(second));
    })?;
    Ok(0)
}

pub(crate) fn bind(r: &mut Regs) -> Ret {
    let f = file(r.int::<0>())?;
    let s = net::of(&f)?;
    s.bind(Addr::get(r.size::<1>(), r.int::<2>())?.as_slice())?;
    Ok(0)
}

pub(crate) fn connect(r: &mut Regs) -> Ret {
    let f = file(r.int::<0>())?;
    let a = Addr::get(r.size::<1>(), r.int::<2>())?;
    net::of(&f)?.connect(a.as_slice(), f.is_nonblocking())?;
    Ok(0)
}

pub(crate) fn listen(r: &mut Regs) -> Ret {
    let f = file(r.int::<0>())?;
    net::of(&f)?.listen(r.uint::<1>().min(knobs::SOMAXCONN.load(Relaxed)))?;
    Ok(0)
}

fn do_accept(r: &mut Regs, flags: u32) -> Ret {
    check_flags(flags)?;
    let f = file(r.int::<0>())?;
    let me = current();
    // Without a number to give, the connection stays where it is.
    me.files().check_room(me.process.limit(rlimit::NOFILE))?;
    let sock = net::of(&f)?.accept(f.is_nonblocking())?;
    if let Some(at) = r.ptr::<1>() {
        let name = sock.peer_name().map_err(|_| Errno::ECONNABORTED)?;
        put_addr(&name, at, r.size::<2>())?;
    }
    install_socket(sock, flags)
}
pub(crate) fn accept(r: &mut Regs) -> Ret {
    do_accept(r, 0)
}
pub(crate) fn accept4(r: &mut Regs) -> Ret {
    do_accept(r, r.uint::<3>())
}

pub(crate) fn getsockname(r: &mut Regs) -> Ret {
    let f = file(r.int::<0>())?;
    put_addr(&net::of(&f)?.name()?, r.size::<1>(), r.size::<2>())?;
    Ok(0)
}
pub(crate) fn getpeername(r: &mut Regs) -> Ret {
    let f = file(r.int::<0>())?;
    put_addr(&net::of(&f)?.peer_name()?, r.size::<1>(), r.size::<2>())?;
    Ok(0)
}

pub(crate) fn shutdown(r: &mut Regs) -> Ret {
    let f = file(r.int::<0>())?;
    let s = net::of(&f)?;
    if r.uint::<1>() > uapi::SHUT_RDWR {
        return Err(Errno::EINVAL);
    }
    s.shutdown(r.uint::<1>() + 1)?;
    Ok(0)
}

/// No option has a longer value.
const OPTION_MAX: usize = 16;

pub(crate) fn setsockopt(r: &mut Regs) -> Ret {
    let len = usize::try_from(r.int::<4>()).map_err(|_| Errno::EINVAL)?;
    let f = file(r.int::<0>())?;
    let s = net::of(&f)?;
    let mut b = [0; OPTION_MAX];
    let b = &mut b[..len.min(OPTION_MAX)];
    user::copy_from_user(b, r.size::<3>())?;
    options::set(s, r.uint::<1>(), r.uint::<2>(), b)?;
    Ok(0)
}
pub(crate) fn getsockopt(r: &mut Regs) -> Ret {
    let (at, len_at) = (r.size::<3>(), r.size::<4>());
    let f = file(r.int::<0>())?;
    let s = net::of(&f)?;
    let room: i32 = get(len_at)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let v = options::get(s, r.uint::<1>(), r.uint::<2>())?;
    let n = v.len().min(room);
    user::copy_to_user(at, &v[..n])?;
    put(len_at, &(n as u32))?;
    Ok(0)
}

/// A plain buffer argument, checked before anything else.
fn check_buffer(at: usize, len: usize) -> Result<usize> {
    let len = len.min(MAX_RW_COUNT);
    if user::range_ok(at, len) { Ok(len) } else { Err(Errno::EFAULT) }
}

/// Sends; who sends into a broken stream gets `SIGPIPE` unless it asked not to.
fn send(s: &dyn Socket, m: &SendMsg<'_>, src: &mut IoSrc<'_>) -> Ret {
    let r = s.send(m, src);
    if r == Err(Errno::EPIPE) && m.flags & uapi::MSG_NOSIGNAL == 0 && s.signals_pipe() {
        tell_of_pipe()?;
    }
    r
}
fn waits_not(f: &File, flags: u32) -> bool {
    f.is_nonblocking() || flags & uapi::MSG_DONTWAIT != 0
}

pub(crate) fn sendto(r: &mut Regs) -> Ret {
    let (at, flags) = (r.size::<1>(), r.uint::<3>());
    let len = check_buffer(at, r.size::<2>())?;
    let f = file(r.int::<0>())?;
    let s = net::of(&f)?;
    let addr = r.ptr::<4>().map(|a| Addr::get(a, r.int::<5>())).transpose()?;
    let name = addr.as_ref().map(Addr::as_slice);
    let m = SendMsg { flags, nonblock: waits_not(&f, flags), name, control: &[] };
    send(s, &m, &mut IoSrc::user(at, len))
}

pub(crate) fn recvfrom(r: &mut Regs) -> Ret {
    let (at, flags, addr) = (r.size::<1>(), r.uint::<3>(), r.ptr::<4>());
    let len = check_buffer(at, r.size::<2>())?;
    let f = file(r.int::<0>())?;
    let s = net::of(&f)?;
    let nonblock = waits_not(&f, flags);
    let mut m = RecvMsg { flags, nonblock, want_name: addr.is_some(), ..RecvMsg::default() };
    let n = s.recv(&mut m, &mut IoDst::user(at, len))?;
    if let Some(a) = addr {
        put_addr(m.name.as_deref().unwrap_or_default(), a, r.size::<5>())?;
    }
    Ok(n)
}

/// `struct msghdr`.
#[derive(Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
struct MsgHdr {
    name: u64,
    namelen: i32,
    pad: u32,
    iov: u64,
    iovlen: u64,
    control: u64,
    controllen: u64,
    flags: u32,
    tail: u32,
}
const HDR_SIZE: usize = size_of::<MsgHdr>();
const NAMELEN_AT: usize = core::mem::offset_of!(MsgHdr, namelen);
const CONTROLLEN_AT: usize = core::mem::offset_of!(MsgHdr, controllen);
const FLAGS_AT: usize = core::mem::offset_of!(MsgHdr, flags);
/// Bytes of a `struct mmsghdr`: the header, a length, padding.
const MMSG_SIZE: usize = HDR_SIZE + 8;

impl MsgHdr {
    fn get(at: usize) -> Result<(MsgHdr, IoVecs)> {
        let mut h: MsgHdr = get(at)?;
        if h.name == 0 {
            h.namelen = 0;
        }
        if h.namelen < 0 {
            return Err(Errno::EINVAL);
        }
        h.namelen = h.namelen.min(ADDR_MAX as i32);
        if h.iovlen > crate::args::IOV_MAX as u64 {
            return Err(Errno::EMSGSIZE);
        }
        Ok((h, IoVecs::get(h.iov as usize, h.iovlen as usize)?))
    }
}

fn do_sendmsg(f: &File, at: usize, flags: u32) -> Ret {
    let s = net::of(f)?;
    let (h, iov) = MsgHdr::get(at)?;
    let addr = if h.namelen > 0 { Some(Addr::get(h.name as usize, h.namelen)?) } else { None };
    if h.controllen > knobs::OPTMEM_MAX.load(Relaxed) as u64 {
        return Err(Errno::ENOBUFS);
    }
    let control =
        if h.controllen == 0 { Vec::new() } else { bytes(h.control as usize, h.controllen as usize)? };
    let name = addr.as_ref().map(Addr::as_slice);
    let m = SendMsg { flags, nonblock: waits_not(f, flags), name, control: &control };
    send(s, &m, &mut IoSrc::user_vec(&iov))
}

pub(crate) fn sendmsg(r: &mut Regs) -> Ret {
    let flags = r.uint::<2>();
    if flags & MSG_CMSG_COMPAT != 0 {
        return Err(Errno::EINVAL);
    }
    do_sendmsg(&*file(r.int::<0>())?, r.size::<1>(), flags)
}

pub(crate) fn sendmmsg(r: &mut Regs) -> Ret {
    let (at, flags) = (r.size::<1>(), r.uint::<3>());
    if flags & MSG_CMSG_COMPAT != 0 {
        return Err(Errno::EINVAL);
    }
    let f = file(r.int::<0>())?;
    net::of(&f)?;
    let mut done = 0;
    for i in 0..r.uint::<2>().min(MMSG_MAX) as usize {
        let at = at + i * MMSG_SIZE;
        let sent = do_sendmsg(&f, at, flags).and_then(|n| put(at + HDR_SIZE, &(n as u32)));
        match sent {
            Ok(()) => done += 1,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// The control part of a received message, in the program's buffer.
struct ControlOut {
    at: usize,
    left: usize,
    used: usize,
    truncated: bool,
}

impl ControlOut {
    /// `put_cmsg`: as much as fits; what cannot be written is as if it were not there.
    fn put(&mut self, level: u32, kind: u32, data: &[u8]) {
        if self.at == 0 || self.left < cmsg::HEADER {
            self.truncated = true;
            return;
        }
        let mut len = cmsg::len(data.len());
        if self.left < len {
            self.truncated = true;
            len = self.left;
        }
        let mut head = cmsg::header(level, kind, data.len());
        head[..8].copy_from_slice(&(len as u64).to_ne_bytes());
        let at = self.at.wrapping_add(self.used);
        if user::copy_to_user(at, &head).is_err()
            || user::copy_to_user(at.wrapping_add(cmsg::HEADER), &data[..len - cmsg::HEADER]).is_err()
        {
            return;
        }
        self.advance(cmsg::space(data.len()));
    }
    fn advance(&mut self, n: usize) {
        let n = n.min(self.left);
        self.left -= n;
        self.used += n;
    }
    /// Gives the files numbers, as many as fit; the others are closed.
    fn put_files(&mut self, files: Vec<Arc<File>>, cloexec: bool) {
        let (at, count) = (self.at.wrapping_add(self.used), files.len());
        let fits = if self.at == 0 { 0 } else { self.left.saturating_sub(cmsg::HEADER) / 4 };
        let mut given = 0;
        for f in files.into_iter().take(fits) {
            let Ok(fd) = install(f, cloexec) else { break };
            // The address is the program's word, and may be the last there is.
            if put(at.wrapping_add(cmsg::HEADER + given * 4), &(fd as i32)).is_err() {
                let _ = current().files().close(fd as i32);
                break;
            }
            given += 1;
        }
        if given > 0 && put(at, &cmsg::header(uapi::SOL_SOCKET, uapi::SCM_RIGHTS, given * 4)).is_ok() {
            self.advance(cmsg::space(given * 4));
        }
        self.truncated |= given < count;
    }
    /// Everything that came beside the bytes.
    fn put_all(&mut self, m: &mut RecvMsg) {
        if let Some(group) = m.netlink_group {
            self.put(uapi::SOL_NETLINK, nl::NETLINK_PKTINFO, &group.to_ne_bytes());
        }
        if let Some(c) = m.creds {
            let c: [u8; Ucred::SIZE] = c.to_bytes();
            self.put(uapi::SOL_SOCKET, uapi::SCM_CREDENTIALS, &c);
        }
        let files = core::mem::take(&mut m.files);
        if !files.is_empty() {
            self.put_files(files, m.flags & uapi::MSG_CMSG_CLOEXEC != 0);
        }
    }
}

/// Receives into the header at `at`. `nonblock` beside what the flags say.
fn do_recvmsg(f: &File, at: usize, flags: u32) -> Ret {
    let s = net::of(f)?;
    let (h, iov) = MsgHdr::get(at)?;
    let nonblock = waits_not(f, flags);
    let mut m = RecvMsg { flags, nonblock, want_name: h.name != 0, ..RecvMsg::default() };
    let n = s.recv(&mut m, &mut IoDst::user_vec(&iov))?;
    if h.name != 0 {
        let name: &[u8] = m.name.as_ref().map_or(&[], |n: &Name| n);
        put_addr(name, h.name as usize, at + NAMELEN_AT)?;
    }
    let left = h.controllen.min(i32::MAX as u64) as usize;
    let mut out = ControlOut { at: h.control as usize, left, used: 0, truncated: false };
    out.put_all(&mut m);
    let mut out_flags = m.out_flags | flags & uapi::MSG_CMSG_CLOEXEC;
    if out.truncated {
        out_flags |= uapi::MSG_CTRUNC;
    }
    put(at + FLAGS_AT, &out_flags)?;
    put(at + CONTROLLEN_AT, &(out.used as u64))?;
    Ok(n)
}

pub(crate) fn recvmsg(r: &mut Regs) -> Ret {
    let flags = r.uint::<2>();
    if flags & MSG_CMSG_COMPAT != 0 {
        return Err(Errno::EINVAL);
    }
    do_recvmsg(&*file(r.int::<0>())?, r.size::<1>(), flags)
}

pub(crate) fn recvmmsg(r: &mut Regs) -> Ret {
    let (at, count, mut flags) = (r.size::<1>(), r.uint::<2>() as usize, r.uint::<3>());
    if flags & MSG_CMSG_COMPAT != 0 {
        return Err(Errno::EINVAL);
    }
    let limit = r.ptr::<4>().map(timespec).transpose()?;
    // The limit is looked at after each message: it does not end a wait.
    let end = limit.map(|t| sched::time::now_ns().saturating_add(to_ns(t)));
    let f = file(r.int::<0>())?;
    let s = net::of(&f)?;
    options::get(s, uapi::SOL_SOCKET, uapi::SO_ERROR).and_then(|v| {
        let code = i32::from_ne_bytes(*v.first_chunk().ok_or(Errno::EINVAL)?);
        Errno::from_code(code).map_or(Ok(()), Err)
    })?;
    let mut done = 0;
    while done < count {
        let at = at + done * MMSG_SIZE;
        let got = do_recvmsg(&f, at, flags & !MSG_WAITFORONE).and_then(|n| put(at + HDR_SIZE, &(n as u32)));
        match got {
            Ok(()) => done += 1,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
        if flags & MSG_WAITFORONE != 0 {
            flags |= uapi::MSG_DONTWAIT;
        }
        if end.is_some_and(|e| sched::time::now_ns() >= e) {
            break;
        }
    }
    if let (Some(e), Some(at)) = (end, r.ptr::<4>()) {
        put(at, &split_ns(e.saturating_sub(sched::time::now_ns())))?;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_linux_s_sizes() {
        assert_eq!((HDR_SIZE, MMSG_SIZE), (56, 64));
        assert_eq!((NAMELEN_AT, CONTROLLEN_AT, FLAGS_AT), (8, 40, 48));
    }
    #[test]
    fn types_carry_flags() {
        assert_eq!(kind_and_flags(1 | raw::O_CLOEXEC), Ok((1, raw::O_CLOEXEC)));
        assert_eq!(kind_and_flags(1 | 0x100), Err(Errno::EINVAL));
    }
}
