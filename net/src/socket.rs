//! The socket as its family makes it, and the open file around it.

use alloc::{boxed::Box, sync::Arc};
use core::any::Any;

use base::{Cred, Errno, Result};
use frame::{sync::once::Once, user};
use linux_raw_sys::net as uapi;
use vfs::{
    File, FileKind, FileOps, FileType, IoDst, IoSrc, OpenFlags, PollFlags, PollTable,
    anon::{Bare, PseudoFs},
};

use crate::{
    message::{Name, RecvMsg, SendMsg},
    options::{Options, Value},
    scm::Ucred,
};

/// `SOCKFS_MAGIC` (linux/magic.h).
const SOCKFS_MAGIC: u64 = 0x534f_434b;

/// A socket. Addresses are bytes as the program gave them, family first; the family checks them. What a family does not have keeps
/// the default, which gives Linux's error. All functions may sleep.
pub trait Socket: Send + Sync + Any {
    /// `AF_*`.
    fn family(&self) -> u32;
    /// `SOCK_*`.
    fn kind(&self) -> u32;
    fn protocol(&self) -> u32 {
        0
    }
    fn options(&self) -> &Options;
    fn bind(&self, _addr: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    fn connect(&self, _addr: &[u8], _nonblock: bool) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// `backlog` is limited by `somaxconn` already.
    fn listen(&self, _backlog: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    fn accept(&self, _nonblock: bool) -> Result<Box<dyn Socket>> {
        Err(Errno::EOPNOTSUPP)
    }
    fn name(&self) -> Result<Name>;
    /// `ENOTCONN`.
    fn peer_name(&self) -> Result<Name>;
    fn send(&self, m: &SendMsg<'_>, src: &mut IoSrc<'_>) -> Result<usize>;
    /// The bytes received; for a message that was cut, its whole length where `MSG_TRUNC` asks for it.
    fn recv(&self, m: &mut RecvMsg, dst: &mut IoDst<'_>) -> Result<usize>;
    /// Ends receiving, sending, or both: see [`shut`].
    fn shutdown(&self, _which: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    fn poll(&self, table: Option<&mut PollTable>) -> PollFlags;
    /// The number that the ioctl asks for. `ENOTTY`.
    fn query(&self, _cmd: u32) -> Result<u32> {
        Err(Errno::ENOTTY)
    }
    /// Options of other levels than `SOL_SOCKET`.
    fn set_option(&self, _level: u32, _name: u32, _value: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    fn get_option(&self, _level: u32, _name: u32) -> Result<Value> {
        Err(Errno::EOPNOTSUPP)
    }
    /// `SO_PEERCRED`.
    fn peer_cred(&self) -> Ucred {
        Ucred::NONE
    }
    /// `SO_ACCEPTCONN`.
    fn is_listening(&self) -> bool {
        false
    }
    /// It has `SO_PEEK_OFF`.
    fn has_peek_offset(&self) -> bool {
        false
    }
    /// There may be more room to send.
    fn send_buffer_grew(&self) {}
    /// `EPIPE` comes with `SIGPIPE`.
    fn signals_pipe(&self) -> bool {
        false
    }
    /// Its inode number is known.
    fn placed(&self, _ino: u64) {}
    /// The file is gone.
    fn release(&self);
}

/// What `shutdown` ends; the numbers of `SHUT_*`, plus one.
pub mod shut {
    pub const RECV: u32 = 1;
    pub const SEND: u32 = 2;
    pub const BOTH: u32 = RECV | SEND;
}

/// The open file of a socket.
pub struct SocketFile {
    sock: Box<dyn Socket>,
}

impl SocketFile {
    #[inline]
    pub fn socket(&self) -> &dyn Socket {
        &*self.sock
    }
}

impl FileOps for SocketFile {
    fn kind(&self) -> FileKind {
        FileKind::Stream
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        if dst.is_empty() {
            return Ok(0);
        }
        // A plain read sees no flags and no descriptors: what comes with the bytes is dropped.
        let mut m = RecvMsg { nonblock: file.is_nonblocking(), ..RecvMsg::default() };
        self.sock.recv(&mut m, dst)
    }
    fn write_at(&self, file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        let m = SendMsg { nonblock: file.is_nonblocking(), ..SendMsg::default() };
        self.sock.send(&m, src)
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        self.sock.poll(table)
    }
    fn ioctl(&self, _file: &File, cmd: u32, arg: usize) -> Result<usize> {
        let n = self.sock.query(cmd)?;
        user::copy_to_user(arg, &n.to_ne_bytes())?;
        Ok(0)
    }
    fn release(&self, _file: &File) {
        self.sock.release();
    }
}

fn sock_fs() -> Result<&'static PseudoFs> {
    static SOCK_FS: Once<Option<PseudoFs>> = Once::new();
    SOCK_FS.call_once(|| PseudoFs::new("sockfs", SOCKFS_MAGIC).ok()).as_ref().ok_or(Errno::ENOMEM)
}

/// An open file for a socket, shown as `socket:[INO]`. `flags`: `SOCK_NONBLOCK` counts.
pub fn new_file(sock: Box<dyn Socket>, flags: OpenFlags, cred: &Arc<Cred>) -> Result<Arc<File>> {
    let made = sock_fs()?.place("socket", FileType::Socket.bits() | 0o777, cred, Box::new(Bare));
    let place = made.inspect_err(|_| sock.release())?;
    sock.placed(place.inode().ino);
    let ops = SocketFile { sock };
    // Without memory the socket is dropped here, which releases it.
    let ops = frame::heap::try_arc(ops).ok_or(Errno::ENOMEM)?;
    let keep = flags & OpenFlags::NONBLOCK;
    File::new(place, ops.clone(), OpenFlags::RDWR | keep, cred).inspect_err(|_| ops.sock.release())
}

/// The socket of an open file. `ENOTSOCK`.
#[inline]
pub fn of(file: &File) -> Result<&dyn Socket> {
    file.ops_as::<SocketFile>().map(SocketFile::socket).ok_or(Errno::ENOTSOCK)
}

/// Does a write to this file that ends in `EPIPE` raise `SIGPIPE`? For what is no socket, yes.
pub fn raises_sigpipe(file: &File) -> bool {
    of(file).map_or(true, Socket::signals_pipe)
}

/// The flags of a receive that go to no family (`MSG_CMSG_CLOEXEC` is the caller's).
pub const RECV_CALLER_FLAGS: u32 = uapi::MSG_CMSG_CLOEXEC;
