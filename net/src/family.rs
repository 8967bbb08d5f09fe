//! Which address families there are.

use alloc::boxed::Box;

use base::{Errno, Result};
use frame::sync::{LockClass, RwSpinLock};
use linux_raw_sys::net as uapi;

use crate::{netlink, socket::Socket, unix};

/// A new socket.
pub type Created = Box<dyn Socket>;

/// One more than the highest family of Linux 6.12 (`AF_MAX`).
const AF_MAX: usize = 46;
/// One more than the highest socket type (`SOCK_MAX`).
const SOCK_MAX: u32 = 11;

/// How a family makes sockets: of a type and a protocol, both still to be checked.
#[derive(Clone, Copy)]
pub struct Family {
    pub create: fn(kind: u32, protocol: u32) -> Result<Created>,
    /// Two that are connected with each other. `EOPNOTSUPP` where the family has no pairs.
    pub pair: fn(kind: u32, protocol: u32) -> Result<(Created, Created)>,
}

static CLASS: LockClass = LockClass::new("net_families");
static FAMILIES: RwSpinLock<[Option<Family>; AF_MAX]> = RwSpinLock::new(&CLASS, [None; AF_MAX]);

/// Makes a family known. `EEXIST`; `ENOBUFS` for a number that does not exist.
pub fn register(number: u32, family: Family) -> Result<()> {
    let mut f = FAMILIES.write();
    let slot = f.get_mut(number as usize).ok_or(Errno::ENOBUFS)?;
    if slot.is_some() {
        return Err(Errno::EEXIST);
    }
    *slot = Some(family);
    Ok(())
}

fn find(family: i32, kind: u32) -> Result<Family> {
    let n = usize::try_from(family).ok().filter(|n| *n < AF_MAX).ok_or(Errno::EAFNOSUPPORT)?;
    if kind >= SOCK_MAX {
        return Err(Errno::EINVAL);
    }
    if let Some(known) = FAMILIES.read()[n] {
        return Ok(known);
    }
    // What the program did shows in the table, not in its status.
    let _ = base::kmod::request_module(format_args!("net-pf-{n}"));
    FAMILIES.read()[n].ok_or(Errno::EAFNOSUPPORT)
}

/// socket(2), without the flags in the type. `EAFNOSUPPORT`, `EINVAL`, and what the family says.
pub fn create(family: i32, kind: u32, protocol: u32) -> Result<Created> {
    (find(family, kind)?.create)(kind, protocol)
}

/// socketpair(2).
pub fn pair(family: i32, kind: u32, protocol: u32) -> Result<(Created, Created)> {
    (find(family, kind)?.pair)(kind, protocol)
}

pub(crate) fn init() -> Result<()> {
    register(uapi::AF_UNIX, Family { create: unix::create, pair: unix::pair })?;
    register(uapi::AF_NETLINK, Family { create: netlink::create, pair: netlink::pair })
}

#[cfg(test)]
mod tests {
    use frame::atomic::{AtomicU32, Ordering::SeqCst};

    use super::*;

    /// `AF_APPLETALK` and `AF_X25`: what the program brings, and what it does not.
    const BROUGHT: u32 = 5;
    const UNKNOWN: i32 = 9;
    static ASKED: AtomicU32 = AtomicU32::new(0);

    fn modprobe(name: &str) -> Result<i32> {
        ASKED.fetch_add(1, SeqCst);
        if name == "net-pf-5" {
            register(BROUGHT, Family { create: |_, _| Err(Errno::EPROTO), pair: |_, _| Err(Errno::EPROTO) })?;
        }
        assert!(["net-pf-5", "net-pf-9"].contains(&name), "{name}");
        Ok(256)
    }

    #[test]
    fn modules_are_asked_for_unknown_families() {
        base::kmod::install(modprobe);
        assert_eq!(create(UNKNOWN, 1, 0).err(), Some(Errno::EAFNOSUPPORT));
        assert_eq!(ASKED.load(SeqCst), 1);
        // Whatever the program's status: the family is there now.
        assert_eq!(create(BROUGHT as i32, 1, 0).err(), Some(Errno::EPROTO));
        assert_eq!(create(BROUGHT as i32, 1, 0).err(), Some(Errno::EPROTO));
        assert_eq!(ASKED.load(SeqCst), 2);
        // What cannot be asked for is not.
        assert_eq!(create(46, 1, 0).err(), Some(Errno::EAFNOSUPPORT));
        assert_eq!(create(-1, 1, 0).err(), Some(Errno::EAFNOSUPPORT));
        assert_eq!(create(UNKNOWN, 11, 0).err(), Some(Errno::EINVAL));
        assert_eq!(ASKED.load(SeqCst), 2);
    }
}
