//! Addresses of `AF_UNIX`: a path (a socket node in a file system), an abstract name (a first byte of zero), or none.
//!
//! A bound node has the socket attached to its inode, as an open FIFO has its pipe. Abstract names stand in a table, apart for
//! each type of socket.

use alloc::sync::{Arc, Weak};

use base::{Errno, Result, tree::Out};
use frame::sync::{LockClass, SpinLock, once::Once};
use hashbrown::HashMap;
use linux_raw_sys::net as uapi;
use vfs::{Access, FileType, LookupFlags};

use super::{Kind, UnixSock};
use crate::{caller, message::Name};

static CLASS: LockClass = LockClass::new("unix_names");

/// Bytes before the path (`sun_family`).
pub(super) const FAMILY: usize = 2;
/// `sizeof(struct sockaddr_un)`.
const SIZE: usize = FAMILY + 108;
/// How many names autobind chooses from: five hexadecimal digits.
const AUTO_NAMES: u32 = 1 << 20;

type Table = HashMap<(Kind, Name), Weak<UnixSock>>;

fn table() -> &'static SpinLock<Table> {
    static TABLE: Once<SpinLock<Table>> = Once::new();
    TABLE.call_once(|| SpinLock::new(&CLASS, HashMap::new()))
}

/// What is attached to the inode of a bound node.
struct Bound(Weak<UnixSock>);

/// An address that was checked.
pub(super) enum Target<'a> {
    Path(&'a [u8]),
    Abstract(&'a [u8]),
}

fn family(addr: &[u8]) -> Option<u32> {
    Some(u16::from_ne_bytes(*addr.first_chunk()?).into())
}

/// Checks an address: `EINVAL` for another family and a wrong length.
pub(super) fn check(addr: &[u8]) -> Result<Target<'_>> {
    if addr.len() <= FAMILY || addr.len() > SIZE || family(addr) != Some(uapi::AF_UNIX) {
        return Err(Errno::EINVAL);
    }
    let name = &addr[FAMILY..];
    if name[0] == 0 {
        return Ok(Target::Abstract(name));
    }
    // A path ends at its first zero byte, or with the address.
    Ok(Target::Path(name.split(|b| *b == 0).next().unwrap_or(name)))
}

/// Is it `AF_UNSPEC`, which dissolves a connection? `EINVAL` where there is no family at all.
pub(super) fn is_unspec(addr: &[u8]) -> Result<bool> {
    Ok(family(addr).ok_or(Errno::EINVAL)? == uapi::AF_UNSPEC)
}

fn full(parts: &[&[u8]]) -> Name {
    let mut b = [0; Name::MAX];
    let mut n = FAMILY;
    b[..FAMILY].copy_from_slice(&(uapi::AF_UNIX as u16).to_ne_bytes());
    for p in parts {
        b[n..n + p.len()].copy_from_slice(p);
        n += p.len();
    }
    Name::new(&b[..n])
}

/// As getsockname(2) gives it: the family alone where there is no name.
pub(super) fn shown(addr: Option<Arc<Name>>) -> Name {
    addr.map_or_else(|| full(&[]), |a| *a)
}

/// As `/proc/net/unix` shows it: the zero bytes of an abstract name as `@`.
pub(super) fn show(addr: &Name, out: &mut Out) -> Result<()> {
    let name = &addr[FAMILY..];
    if name.first() != Some(&0) {
        return out.push(name.strip_suffix(b"\0").unwrap_or(name));
    }
    name.iter().try_for_each(|b| out.push(&[if *b == 0 { b'@' } else { *b }]))
}

impl UnixSock {
    /// bind(2).
    pub(super) fn bind(self: &Arc<Self>, addr: &[u8]) -> Result<()> {
        if addr.len() == FAMILY && family(addr) == Some(uapi::AF_UNIX) {
            return self.autobind();
        }
        match check(addr)? {
            Target::Path(p) => self.bind_path(p),
            Target::Abstract(n) => self.bind_abstract(full(&[n])),
        }
    }
    fn bind_path(self: &Arc<Self>, path: &[u8]) -> Result<()> {
        let ctx = caller::get()?.ctx()?;
        let addr = frame::heap::try_arc(full(&[path, b"\0"])).ok_or(Errno::ENOMEM)?;
        let bound = frame::heap::try_arc(Bound(Arc::downgrade(self))).ok_or(Errno::ENOMEM)?;
        let place = vfs::make_node(&ctx, None, path, FileType::Socket.bits() | 0o777, 0).map_err(|e| {
            // The name is taken by whatever stands there.
            if e == Errno::EEXIST { Errno::EADDRINUSE } else { e }
        })?;
        place.inode().attached_or(|| Ok(bound))?;
        {
            let mut s = self.state.lock();
            if s.addr.is_none() {
                (s.addr, s.path) = (Some(addr), Some(place));
                return Ok(());
            }
        }
        place.inode().detach();
        vfs::unlink(&ctx, None, path)?;
        Err(Errno::EINVAL)
    }
    fn bind_abstract(self: &Arc<Self>, name: Name) -> Result<()> {
        let addr = frame::heap::try_arc(name).ok_or(Errno::ENOMEM)?;
        let mut t = table().lock();
        t.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let mut s = self.state.lock();
        if s.addr.is_some() {
            return Err(Errno::EINVAL);
        }
        if t.get(&(self.kind, name)).is_some_and(|w| w.strong_count() > 0) {
            return Err(Errno::EADDRINUSE);
        }
        t.insert((self.kind, name), Arc::downgrade(self));
        s.addr = Some(addr);
        Ok(())
    }
    /// Gives it an abstract name of five digits, unless it has a name.
    pub(super) fn autobind(self: &Arc<Self>) -> Result<()> {
        let start = (sched::time::now_ns() >> 4) as u32;
        for i in 0..AUTO_NAMES {
            if self.addr().is_some() {
                return Ok(());
            }
            let mut n = start.wrapping_add(i) % AUTO_NAMES;
            let mut digits = [0u8; 5];
            for d in digits.iter_mut().rev() {
                *d = b"0123456789abcdef"[(n % 16) as usize];
                n /= 16;
            }
            match self.bind_abstract(full(&[b"\0", &digits])) {
                Err(Errno::EADDRINUSE) => {}
                // Somebody else bound it meanwhile.
                Err(Errno::EINVAL) => return Ok(()),
                r => return r,
            }
        }
        Err(Errno::ENOSPC)
    }
    /// Where credentials are passed, the other side must be able to answer.
    pub(super) fn autobind_if_passing(self: &Arc<Self>) -> Result<()> {
        if self.opt.passes_creds() && self.addr().is_none() { self.autobind() } else { Ok(()) }
    }
    /// Nobody finds it by its name any more; it still shows it.
    pub(super) fn unbind(&self) {
        let (addr, path) = {
            let s = self.state.lock();
            (s.addr.clone(), s.path.clone())
        };
        if let Some(p) = path {
            // Accepted sockets show the address of their listener; they have no path of their own.
            drop(p.inode().detach());
        } else if let Some(a) = addr {
            let mut t = table().lock();
            if t.get(&(self.kind, *a)).is_some_and(|w| core::ptr::eq(w.as_ptr(), self)) {
                t.remove(&(self.kind, *a));
            }
        }
    }
    /// Finds who is bound to an address. `ECONNREFUSED`, `EPROTOTYPE`, and the errors of looking up a path; writing to the node must
    /// be allowed.
    pub(super) fn find(&self, target: &Target<'_>) -> Result<Arc<UnixSock>> {
        let found = match target {
            Target::Abstract(n) => table().lock().get(&(self.kind, full(&[n]))).and_then(Weak::upgrade),
            Target::Path(p) => {
                let ctx = caller::get()?.ctx()?;
                let place = vfs::lookup(&ctx, None, p, LookupFlags::FOLLOW)?;
                let inode = place.inode();
                inode.permission(&ctx.cred, Access::WRITE)?;
                if inode.kind() != FileType::Socket {
                    return Err(Errno::ECONNREFUSED);
                }
                let at = inode.attached_or(|| Err(Errno::ECONNREFUSED))?;
                at.downcast::<Bound>().ok().and_then(|b| b.0.upgrade())
            }
        };
        let found = found.ok_or(Errno::ECONNREFUSED)?;
        if found.kind == self.kind { Ok(found) } else { Err(Errno::EPROTOTYPE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(name: &[u8]) -> Name {
        full(&[name])
    }

    #[test]
    fn paths_end_at_a_zero_byte() {
        assert!(matches!(check(&addr(b"/tmp/x\0rest")), Ok(Target::Path(b"/tmp/x"))));
        assert!(matches!(check(&addr(b"/tmp/x")), Ok(Target::Path(b"/tmp/x"))));
        assert!(matches!(check(&addr(b"\0a\0b")), Ok(Target::Abstract(b"\0a\0b"))));
    }
    #[test]
    fn wrong_addresses_are_einval() {
        assert!(check(&addr(b"")).is_err());
        assert!(check(&[2, 0, b'x']).is_err());
        assert!(check(&[1]).is_err());
        assert!(check(&[1; SIZE + 1]).is_err());
        assert_eq!((is_unspec(&[0, 0]), is_unspec(&[0])), (Ok(true), Err(Errno::EINVAL)));
    }
    #[test]
    fn names_are_shown_as_linux_shows_them() {
        let mut o = Out::new();
        show(&addr(b"\0ab\0c"), &mut o).unwrap();
        show(&addr(b"/p\0"), &mut o).unwrap();
        assert_eq!(o.into_vec(), b"@ab@c/p");
        assert_eq!(&*shown(None), &[1, 0]);
    }
}
