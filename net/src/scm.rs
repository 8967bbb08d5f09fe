//! What control messages mean: descriptors to pass (`SCM_RIGHTS`) and who sends (`SCM_CREDENTIALS`). See unix(7).

use alloc::{sync::Arc, vec::Vec};

use base::{Cred, Errno, Result, cred::cap};
use linux_raw_sys::net as uapi;
use vfs::File;

use crate::{caller, cmsg};

/// Most descriptors of one message (`SCM_MAX_FD`).
pub const MAX_FD: usize = 253;
/// What an identity that has no name here looks like (`overflowuid`).
const OVERFLOW_ID: u32 = 65534;

/// `struct ucred`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ucred {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Ucred {
    pub const SIZE: usize = 12;
    /// Of a socket without a peer.
    pub const NONE: Ucred = Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    /// Of a message whose sender told nothing.
    pub const UNKNOWN: Ucred = Ucred { pid: 0, uid: OVERFLOW_ID, gid: OVERFLOW_ID };

    /// Who sends: the process and its real user and group.
    pub(crate) fn sender() -> Result<Ucred> {
        let c = caller::cred()?;
        Ok(Ucred { pid: caller::pid(), uid: c.uid, gid: c.gid })
    }
    /// Who connects or listens: the process and its effective user and group.
    pub(crate) fn peer() -> Result<Ucred> {
        let c = caller::cred()?;
        Ok(Ucred { pid: caller::pid(), uid: c.euid, gid: c.egid })
    }
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut b = [0; Self::SIZE];
        for (out, v) in b.chunks_exact_mut(4).zip([self.pid, self.uid, self.gid]) {
            out.copy_from_slice(&v.to_ne_bytes());
        }
        b
    }
    fn from_bytes(b: &[u8]) -> Option<Ucred> {
        let mut v = [0; 3];
        if b.len() != Self::SIZE {
            return None;
        }
        for (v, b) in v.iter_mut().zip(b.chunks_exact(4)) {
            *v = u32::from_ne_bytes(b.try_into().ok()?);
        }
        Some(Ucred { pid: v[0], uid: v[1], gid: v[2] })
    }
    /// May `c`, in process `pid`, say that it is this?
    fn may_claim(&self, c: &Cred, pid: u32) -> bool {
        (self.pid == pid || c.has_cap(cap::SYS_ADMIN))
            && ([c.uid, c.euid, c.suid].contains(&self.uid) || c.has_cap(cap::SETUID))
            && ([c.gid, c.egid, c.sgid].contains(&self.gid) || c.has_cap(cap::SETGID))
    }
}

/// The meaning of a message's control part.
#[derive(Default)]
pub(crate) struct Control {
    pub(crate) files: Vec<Arc<File>>,
    pub(crate) creds: Option<Ucred>,
}

impl Control {
    /// Reads and checks it, with Linux's errors: `EINVAL` for what is malformed or unknown, `EBADF`, `EPERM`, `ESRCH`. `rights`: the
    /// family passes descriptors. Messages of other levels are passed over.
    pub(crate) fn parse(bytes: &[u8], rights: bool) -> Result<Control> {
        let mut c = Control::default();
        for m in cmsg::messages(bytes) {
            let m = m?;
            if m.level as u32 != uapi::SOL_SOCKET {
                continue;
            }
            match m.kind as u32 {
                uapi::SCM_RIGHTS if rights => c.add_files(m.data)?,
                uapi::SCM_CREDENTIALS => c.creds = Some(claimed(m.data)?),
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(c)
    }
    fn add_files(&mut self, data: &[u8]) -> Result<()> {
        let n = data.len() / 4;
        if self.files.len() + n > MAX_FD {
            return Err(Errno::EINVAL);
        }
        self.files.try_reserve_exact(n)?;
        let who = caller::get()?;
        for fd in data.as_chunks::<4>().0 {
            self.files.push(who.file(i32::from_ne_bytes(*fd))?);
        }
        Ok(())
    }
}

fn claimed(data: &[u8]) -> Result<Ucred> {
    let c = Ucred::from_bytes(data).ok_or(Errno::EINVAL)?;
    let pid = caller::pid();
    if !c.may_claim(&*caller::cred()?, pid) {
        return Err(Errno::EPERM);
    }
    if c.pid != pid && sched::pid::find(c.pid).is_none() {
        return Err(Errno::ESRCH);
    }
    if c.uid == u32::MAX || c.gid == u32::MAX {
        return Err(Errno::EINVAL);
    }
    Ok(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_claimed_by_those_who_may() {
        let mut c =
            Cred { uid: 5, euid: 6, suid: 7, gid: 8, egid: 8, sgid: 8, cap_effective: 0, ..Cred::root() };
        let claim = |pid, uid, gid| Ucred { pid, uid, gid };
        for uid in [5, 6, 7] {
            assert!(claim(1, uid, 8).may_claim(&c, 1));
        }
        assert!(!claim(1, 0, 8).may_claim(&c, 1));
        assert!(!claim(1, 5, 9).may_claim(&c, 1));
        assert!(!claim(2, 5, 8).may_claim(&c, 1));
        c.cap_effective = 1 << cap::SYS_ADMIN | 1 << cap::SETUID;
        assert!(claim(2, 0, 8).may_claim(&c, 1));
        assert!(!claim(2, 0, 9).may_claim(&c, 1));
    }
    #[test]
    fn ucred_goes_round() {
        let c = Ucred { pid: 1, uid: 2, gid: u32::MAX };
        assert_eq!(Ucred::from_bytes(&c.to_bytes()), Some(c));
        assert_eq!(Ucred::from_bytes(&[0; 11]), None);
    }
}
