//! User and group numbers, capabilities (`setuid(2)`, `setresuid(2)`, `capset(2)`, `capabilities(7)`).

use alloc::{sync::Arc, vec::Vec};

use base::{Cred, Errno, Result, cred::cap};
use frame::atomic::Ordering::Relaxed;

use crate::{process::current, users};

/// "Leave it as it is".
pub const KEEP: u32 = !0;
/// The most supplementary groups: Linux's `NGROUPS_MAX`.
pub const NGROUPS_MAX: usize = 65536;

const SECURE_NOROOT: u32 = 1;
const SECURE_NO_SETUID_FIXUP: u32 = 4;
const SECURE_KEEP_CAPS: u32 = 16;
/// Capabilities that go with the file-system user.
const FS_CAPS: u64 = 1 << cap::CHOWN
    | 1 << cap::DAC_OVERRIDE
    | 1 << cap::DAC_READ_SEARCH
    | 1 << cap::FOWNER
    | 1 << cap::FSETID
    | 1 << cap::LINUX_IMMUTABLE
    | 1 << cap::MKNOD
    | 1 << cap::MAC_OVERRIDE;

fn change(f: impl FnOnce(&mut Cred) -> Result<()>) -> Result<()> {
    let me = current();
    let old = me.cred();
    let mut new = (*old).clone();
    f(&mut new)?;
    fix_caps(&mut new, &old);
    users::moved(old.uid, new.uid);
    if loses_trust(&old, &new) {
        me.process.dumpable.store(crate::coredump::suid_dumpable(), Relaxed);
        me.pdeath_signal.store(0, Relaxed);
    }
    me.set_cred(frame::heap::try_arc(new).ok_or(Errno::ENOMEM)?);
    Ok(())
}

/// True if the process holds what its new user may not see: it can be dumped and looked into only by the rules for such.
fn loses_trust(old: &Cred, new: &Cred) -> bool {
    old.euid != new.euid
        || old.egid != new.egid
        || old.fsuid != new.fsuid
        || old.fsgid != new.fsgid
        || new.cap_permitted & !old.cap_permitted != 0
}

/// What changes of user numbers do to capabilities.
fn fix_caps(new: &mut Cred, old: &Cred) {
    if new.securebits & SECURE_NO_SETUID_FIXUP != 0 {
        return;
    }
    let root = |c: &Cred| c.uid == 0 || c.euid == 0 || c.suid == 0;
    if root(old) && !root(new) {
        if new.securebits & SECURE_KEEP_CAPS == 0 {
            new.cap_permitted = 0;
            new.cap_effective = 0;
        }
        new.cap_ambient = 0;
    }
    if old.euid == 0 && new.euid != 0 {
        new.cap_effective = 0;
    }
    if old.euid != 0 && new.euid == 0 {
        new.cap_effective = new.cap_permitted;
    }
    if old.fsuid == 0 && new.fsuid != 0 {
        new.cap_effective &= !FS_CAPS;
    }
    if old.fsuid != 0 && new.fsuid == 0 {
        new.cap_effective |= new.cap_permitted & FS_CAPS;
    }
}

/// Capabilities after exec of a file that has none of its own: root gets all, others what is ambient.
pub(crate) fn caps_for_exec(c: &mut Cred) {
    let root = c.securebits & SECURE_NOROOT == 0 && (c.uid == 0 || c.euid == 0);
    if root {
        c.cap_permitted = c.cap_bounding | c.cap_inheritable;
        c.cap_effective = if c.euid == 0 { c.cap_permitted } else { 0 };
    } else {
        c.cap_permitted = c.cap_ambient;
        c.cap_effective = c.cap_ambient;
    }
    c.securebits &= !SECURE_KEEP_CAPS;
}

/// `setuid(2)`.
pub fn setuid(uid: u32) -> Result<()> {
    change(|c| {
        if uid == KEEP {
            return Err(Errno::EINVAL);
        }
        if c.has_cap(cap::SETUID) {
            (c.uid, c.suid) = (uid, uid);
        } else if uid != c.uid && uid != c.suid {
            return Err(Errno::EPERM);
        }
        (c.euid, c.fsuid) = (uid, uid);
        Ok(())
    })
}

/// `setreuid(2)`.
pub fn setreuid(r: u32, e: u32) -> Result<()> {
    change(|c| {
        let may = c.has_cap(cap::SETUID);
        let old = c.clone();
        if r != KEEP {
            if !may && r != old.uid && r != old.euid {
                return Err(Errno::EPERM);
            }
            c.uid = r;
        }
        if e != KEEP {
            if !may && ![old.uid, old.euid, old.suid].contains(&e) {
                return Err(Errno::EPERM);
            }
            c.euid = e;
        }
        if r != KEEP || e != KEEP && e != old.uid {
            c.suid = c.euid;
        }
        c.fsuid = c.euid;
        Ok(())
    })
}

/// `setresuid(2)`.
pub fn setresuid(r: u32, e: u32, s: u32) -> Result<()> {
    change(|c| {
        let own = [c.uid, c.euid, c.suid];
        if !c.has_cap(cap::SETUID) && [r, e, s].iter().any(|n| *n != KEEP && !own.contains(n)) {
            return Err(Errno::EPERM);
        }
        let pick = |n, old| if n == KEEP { old } else { n };
        (c.uid, c.euid, c.suid) = (pick(r, c.uid), pick(e, c.euid), pick(s, c.suid));
        c.fsuid = c.euid;
        Ok(())
    })
}

/// `setfsuid(2)`: the old number, whether it changed or not.
pub fn setfsuid(uid: u32) -> u32 {
    let old = current().cred().fsuid;
    let _ = change(|c| {
        if uid == KEEP || !c.has_cap(cap::SETUID) && ![c.uid, c.euid, c.suid, c.fsuid].contains(&uid) {
            return Err(Errno::EPERM);
        }
        c.fsuid = uid;
        Ok(())
    });
    old
}

/// `setgid(2)`.
pub fn setgid(gid: u32) -> Result<()> {
    change(|c| {
        if gid == KEEP {
            return Err(Errno::EINVAL);
        }
        if c.has_cap(cap::SETGID) {
            (c.gid, c.sgid) = (gid, gid);
        } else if gid != c.gid && gid != c.sgid {
            return Err(Errno::EPERM);
        }
        (c.egid, c.fsgid) = (gid, gid);
        Ok(())
    })
}

/// `setregid(2)`.
pub fn setregid(r: u32, e: u32) -> Result<()> {
    change(|c| {
        let may = c.has_cap(cap::SETGID);
        let old = c.clone();
        if r != KEEP {
            if !may && r != old.gid && r != old.egid {
                return Err(Errno::EPERM);
            }
            c.gid = r;
        }
        if e != KEEP {
            if !may && ![old.gid, old.egid, old.sgid].contains(&e) {
                return Err(Errno::EPERM);
            }
            c.egid = e;
        }
        if r != KEEP || e != KEEP && e != old.gid {
            c.sgid = c.egid;
        }
        c.fsgid = c.egid;
        Ok(())
    })
}

/// `setresgid(2)`.
pub fn setresgid(r: u32, e: u32, s: u32) -> Result<()> {
    change(|c| {
        let own = [c.gid, c.egid, c.sgid];
        if !c.has_cap(cap::SETGID) && [r, e, s].iter().any(|n| *n != KEEP && !own.contains(n)) {
            return Err(Errno::EPERM);
        }
        let pick = |n, old| if n == KEEP { old } else { n };
        (c.gid, c.egid, c.sgid) = (pick(r, c.gid), pick(e, c.egid), pick(s, c.sgid));
        c.fsgid = c.egid;
        Ok(())
    })
}

/// `setfsgid(2)`.
pub fn setfsgid(gid: u32) -> u32 {
    let old = current().cred().fsgid;
    let _ = change(|c| {
        if gid == KEEP || !c.has_cap(cap::SETGID) && ![c.gid, c.egid, c.sgid, c.fsgid].contains(&gid) {
            return Err(Errno::EPERM);
        }
        c.fsgid = gid;
        Ok(())
    });
    old
}

/// `setgroups(2)`.
pub fn setgroups(mut groups: Vec<u32>) -> Result<()> {
    if groups.len() > NGROUPS_MAX {
        return Err(Errno::EINVAL);
    }
    change(|c| {
        if !c.has_cap(cap::SETGID) {
            return Err(Errno::EPERM);
        }
        groups.sort_unstable();
        c.groups = Arc::from(groups);
        Ok(())
    })
}

/// Three sets of capabilities: effective, permitted, inheritable.
pub type CapSets = (u64, u64, u64);

/// `capget(2)` of a thread; 0: the running one.
pub fn capget(tid: u32) -> Result<CapSets> {
    let c = if tid == 0 {
        current().cred()
    } else {
        let t = sched::pid::find(tid).ok_or(Errno::ESRCH)?;
        match crate::process::data(&t) {
            Some(d) => d.cred(),
            None => return Ok((cap::FULL, cap::FULL, 0)),
        }
    };
    Ok((c.cap_effective, c.cap_permitted, c.cap_inheritable))
}

/// `capset(2)` of the running thread.
pub fn capset((e, p, i): CapSets) -> Result<()> {
    let (e, p, i) = (e & cap::FULL, p & cap::FULL, i & cap::FULL);
    change(|c| {
        let raises = i & !(c.cap_inheritable | c.cap_permitted) != 0 && !c.has_cap(cap::SETPCAP);
        if raises
            || i & !(c.cap_inheritable | c.cap_bounding) != 0
            || p & !c.cap_permitted != 0
            || e & !p != 0
        {
            return Err(Errno::EPERM);
        }
        (c.cap_effective, c.cap_permitted, c.cap_inheritable) = (e, p, i);
        c.cap_ambient &= p & i;
        Ok(())
    })
}

/// For `prctl`: any change of the running thread's credentials that needs no rule of its own.
pub(crate) fn adjust(f: impl FnOnce(&mut Cred) -> Result<()>) -> Result<()> {
    change(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_root_drops_capabilities() {
        let old = Cred::root();
        let mut new = old.clone();
        (new.uid, new.euid, new.suid, new.fsuid) = (5, 5, 5, 5);
        fix_caps(&mut new, &old);
        assert_eq!((new.cap_effective, new.cap_permitted), (0, 0));
        let mut e = old.clone();
        (e.euid, e.fsuid) = (5, 5);
        fix_caps(&mut e, &old);
        assert_eq!((e.cap_effective, e.cap_permitted), (0, cap::FULL));
        let mut back = e.clone();
        (back.euid, back.fsuid) = (0, 0);
        fix_caps(&mut back, &e);
        assert_eq!(back.cap_effective, cap::FULL);
        caps_for_exec(&mut new);
        assert_eq!(new.cap_permitted, 0);
        (new.euid, new.suid) = (0, 0);
        caps_for_exec(&mut new);
        assert_eq!(new.cap_effective, cap::FULL);
    }
}
