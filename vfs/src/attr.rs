//! Reading and changing attributes: stat, chmod, chown, utimens, truncate, access, statfs, extended attributes.

use alloc::{sync::Arc, vec::Vec};

use base::{
    Errno, Result,
    cred::{Cred, cap},
};
use linux_raw_sys::general as raw;

use crate::{
    context::Ctx,
    inode::{Inode, InodeFlags, SetAttr, SetTime},
    mount::{MountFlags, WriteGuard},
    path::Path,
    superblock::StatFs,
    types::{Access, FileType, MAX_OFFSET, Metadata, S_IALLUGO, S_ISGID, S_ISUID},
    walk::{LookupFlags, lookup},
};

/// stat(2), lstat(2), statx(2) by path; `flags` are `FOLLOW` and `EMPTY`.
pub fn stat(ctx: &Ctx, at: Option<&Path>, path: &[u8], flags: LookupFlags) -> Result<Metadata> {
    Ok(lookup(ctx, at, path, flags)?.inode().metadata())
}

/// Applies an attribute change through a mount; `allowed` checks and completes it under the inode's lock.
fn change(path: &Path, set: impl FnOnce(&Arc<Inode>) -> Result<SetAttr>) -> Result<()> {
    let _change = WriteGuard::new(&path.mount)?;
    let inode = path.inode();
    let _io = inode.io_lock.write();
    let set = set(inode)?;
    if inode.flags().intersects(InodeFlags::IMMUTABLE | InodeFlags::APPEND_ONLY) {
        return Err(Errno::EPERM);
    }
    inode.ops().setattr(inode, &set)
}

/// fchmod(2) and, with a looked-up place, chmod(2). Symbolic links have no mode to change: `EOPNOTSUPP`.
pub fn chmod(path: &Path, mode: u32, cred: &Cred) -> Result<()> {
    if path.inode().kind() == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    change(path, |inode| {
        if !inode.owner_or_capable(cred) {
            return Err(Errno::EPERM);
        }
        let mut mode = mode & S_IALLUGO;
        if !cred.in_group(inode.gid()) && !cred.has_cap(cap::FSETID) {
            mode &= !S_ISGID;
        }
        Ok(SetAttr { mode: Some(mode), ..SetAttr::default() })
    })
}

/// chown(2) and relatives; `None` leaves a number alone.
pub fn chown(path: &Path, uid: Option<u32>, gid: Option<u32>, cred: &Cred) -> Result<()> {
    change(path, |inode| {
        let owner = cred.fsuid == inode.uid();
        let may_uid = uid.is_none_or(|u| owner && u == inode.uid()) || cred.has_cap(cap::CHOWN);
        let may_gid =
            gid.is_none_or(|g| owner && (cred.in_group(g) || g == inode.gid())) || cred.has_cap(cap::CHOWN);
        if !may_uid || !may_gid {
            return Err(Errno::EPERM);
        }
        let m = inode.mode();
        let mut mode = None;
        if !inode.is_dir() && m & (S_ISUID | S_ISGID) != 0 {
            let mut kill = m & S_ISUID;
            if m & S_ISGID != 0
                && (m & 0o010 != 0 || !cred.in_group(inode.gid()) && !cred.has_cap(cap::FSETID))
            {
                kill |= S_ISGID;
            }
            mode = Some(m & S_IALLUGO & !kill);
        }
        Ok(SetAttr { uid, gid, mode, ..SetAttr::default() })
    })
}

/// utimensat(2). `None` leaves a time alone; both `None` succeeds without a check, as on Linux.
pub fn utimens(path: &Path, atime: Option<SetTime>, mtime: Option<SetTime>, cred: &Cred) -> Result<()> {
    if atime.is_none() && mtime.is_none() {
        return Ok(());
    }
    let both_now = atime == Some(SetTime::Now) && mtime == Some(SetTime::Now);
    change(path, |inode| {
        if !inode.owner_or_capable(cred) {
            if !both_now {
                return Err(Errno::EPERM);
            }
            inode.permission(cred, Access::WRITE)?;
        }
        Ok(SetAttr { atime, mtime, ..SetAttr::default() })
    })
}

/// Sets a regular file's size; the caller has checked that it may.
pub(crate) fn set_size(inode: &Arc<Inode>, size: u64, cred: &Cred) -> Result<()> {
    let _io = inode.io_lock.write();
    let mode = inode.mode_without_privileges().filter(|_| !cred.has_cap(cap::FSETID));
    inode
        .ops()
        .setattr(inode, &SetAttr { size: Some(size), mode, mtime: Some(SetTime::Now), ..SetAttr::default() })
}

/// truncate(2).
pub fn truncate(ctx: &Ctx, at: Option<&Path>, path: &[u8], size: i64) -> Result<()> {
    if size < 0 || size as u64 > MAX_OFFSET {
        return Err(Errno::EINVAL);
    }
    let p = lookup(ctx, at, path, LookupFlags::FOLLOW)?;
    let inode = p.inode();
    match inode.kind() {
        FileType::Regular => {}
        FileType::Dir => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    let _change = WriteGuard::new(&p.mount)?;
    inode.permission(&ctx.cred, Access::WRITE)?;
    if inode.flags().contains(InodeFlags::APPEND_ONLY) {
        return Err(Errno::EPERM);
    }
    inode.get_write_access()?;
    let r = set_size(inode, size as u64, &ctx.cred);
    inode.put_write_access();
    r
}

/// faccessat2(2). `want` empty only asks whether it exists. Without `effective` the real ids decide.
pub fn access(
    ctx: &Ctx,
    at: Option<&Path>,
    path: &[u8],
    want: Access,
    flags: LookupFlags,
    effective: bool,
) -> Result<()> {
    let mut as_real = None;
    if !effective && (ctx.cred.fsuid != ctx.cred.uid || ctx.cred.fsgid != ctx.cred.gid || ctx.cred.uid != 0) {
        let mut c = (*ctx.cred).clone();
        c.fsuid = c.uid;
        c.fsgid = c.gid;
        c.cap_effective = if c.uid == 0 { c.cap_permitted } else { 0 };
        as_real = Some(Ctx { cred: Arc::new(c), ..ctx.clone() });
    }
    let ctx = as_real.as_ref().unwrap_or(ctx);
    let p = lookup(ctx, at, path, flags)?;
    if want.is_empty() {
        return Ok(());
    }
    let inode = p.inode();
    if want.contains(Access::EXEC)
        && inode.kind() == FileType::Regular
        && p.mount.flags().contains(MountFlags::NOEXEC)
    {
        return Err(Errno::EACCES);
    }
    inode.permission(&ctx.cred, want)?;
    let is_special = !matches!(inode.kind(), FileType::Regular | FileType::Dir | FileType::Symlink);
    if want.contains(Access::WRITE) && !is_special && p.mount.is_read_only() {
        return Err(Errno::EROFS);
    }
    Ok(())
}

/// statfs(2) of a place.
pub fn statfs(path: &Path) -> Result<StatFs> {
    let mut st = path.mount.sb().statfs()?;
    /// `ST_VALID`: the flags are filled in.
    const ST_VALID: u64 = 0x20;
    let m = path.mount.flags();
    // The `ST_` numbers are those of `MS_` for these four; the times have their own.
    let same = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mut f = ST_VALID | (m & same).bits() as u64;
    for (has, st) in [
        (MountFlags::NOATIME, 0x400),
        (MountFlags::NODIRATIME, 0x800),
        (MountFlags::RELATIME, 0x1000),
        (MountFlags::NOSYMFOLLOW, 0x2000),
    ] {
        if m.contains(has) {
            f |= st;
        }
    }
    if path.mount.sb().is_read_only() {
        f |= raw::MS_RDONLY as u64;
    }
    st.flags = f;
    Ok(st)
}

/// Which name spaces of extended attributes `cred` may use on this inode (xattr(7)).
fn may_xattr(inode: &Inode, name: &[u8], cred: &Cred, write: bool) -> Result<()> {
    if write && inode.flags().intersects(InodeFlags::IMMUTABLE | InodeFlags::APPEND_ONLY) {
        return Err(Errno::EPERM);
    }
    if name.starts_with(b"security.") || name.starts_with(b"system.") {
        return Ok(());
    }
    if name.starts_with(b"trusted.") {
        return if cred.has_cap(cap::SYS_ADMIN) {
            Ok(())
        } else {
            Err(if write { Errno::EPERM } else { Errno::ENODATA })
        };
    }
    if name.starts_with(b"user.") {
        if !matches!(inode.kind(), FileType::Regular | FileType::Dir) {
            return Err(if write { Errno::EPERM } else { Errno::ENODATA });
        }
        let sticky_dir = inode.is_dir() && inode.mode() & crate::types::S_ISVTX != 0;
        if write && sticky_dir && !inode.owner_or_capable(cred) {
            return Err(Errno::EPERM);
        }
    }
    inode.permission(cred, if write { Access::WRITE } else { Access::READ })
}

/// `XATTR_NAME_MAX` and `XATTR_SIZE_MAX`.
const XATTR_NAME_MAX: usize = 255;
pub const XATTR_SIZE_MAX: usize = 65536;

fn check_xattr_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name.len() > XATTR_NAME_MAX { Err(Errno::ERANGE) } else { Ok(()) }
}

/// getxattr(2).
pub fn get_xattr(path: &Path, name: &[u8], cred: &Cred) -> Result<Vec<u8>> {
    check_xattr_name(name)?;
    may_xattr(path.inode(), name, cred, false)?;
    path.inode().ops().get_xattr(path.inode(), name)
}
/// setxattr(2).
pub fn set_xattr(path: &Path, name: &[u8], value: &[u8], flags: u32, cred: &Cred) -> Result<()> {
    check_xattr_name(name)?;
    if flags & !3 != 0 {
        return Err(Errno::EINVAL);
    }
    if value.len() > XATTR_SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    let _change = WriteGuard::new(&path.mount)?;
    let inode = path.inode();
    let _io = inode.io_lock.write();
    may_xattr(inode, name, cred, true)?;
    inode.ops().set_xattr(inode, name, value, flags)
}
/// removexattr(2).
pub fn remove_xattr(path: &Path, name: &[u8], cred: &Cred) -> Result<()> {
    check_xattr_name(name)?;
    let _change = WriteGuard::new(&path.mount)?;
    let inode = path.inode();
    let _io = inode.io_lock.write();
    may_xattr(inode, name, cred, true)?;
    inode.ops().remove_xattr(inode, name)
}
/// listxattr(2): the names that `cred` may see, each followed by NUL.
pub fn list_xattr(path: &Path, cred: &Cred) -> Result<Vec<u8>> {
    let all = path.inode().ops().list_xattr(path.inode())?;
    if cred.has_cap(cap::SYS_ADMIN) {
        return Ok(all);
    }
    Ok(all.split_inclusive(|b| *b == 0).filter(|n| !n.starts_with(b"trusted.")).flatten().copied().collect())
}
