//! Making and removing names: mkdir, mknod, symlink, link, unlink, rmdir, readlink.

use alloc::{sync::Arc, vec::Vec};

use base::{
    Errno, Result,
    cred::{Cred, cap},
};

use crate::{
    context::Ctx,
    dentry::Dentry,
    inode::{Inode, InodeFlags, Link, NewInode},
    mount::WriteGuard,
    path::{Path, d_path},
    types::{Access, FileType, PATH_MAX, S_IALLUGO, S_IFMT, S_ISGID, S_ISVTX},
    walk::{Last, LookupFlags, Walk, lookup_locked},
};

/// May `cred` make names in `dir`?
pub(crate) fn may_create(dir: &Inode, cred: &Cred) -> Result<()> {
    if dir.is_dead() {
        return Err(Errno::ENOENT);
    }
    dir.permission(cred, Access::WRITE | Access::EXEC)
}

/// May `cred` remove `victim` from `dir`? `want_dir` says what the call removes.
pub(crate) fn may_delete(dir: &Inode, victim: &Dentry, want_dir: bool, cred: &Cred) -> Result<()> {
    dir.permission(cred, Access::WRITE | Access::EXEC)?;
    let v = victim.inode();
    if dir.flags().contains(InodeFlags::APPEND_ONLY) {
        return Err(Errno::EPERM);
    }
    let sticky = dir.mode() & S_ISVTX != 0 && cred.fsuid != v.uid() && cred.fsuid != dir.uid();
    if sticky && !cred.has_cap(cap::FOWNER)
        || v.flags().intersects(InodeFlags::APPEND_ONLY | InodeFlags::IMMUTABLE)
    {
        return Err(Errno::EPERM);
    }
    match (want_dir, v.is_dir()) {
        (true, false) => Err(Errno::ENOTDIR),
        (false, true) => Err(Errno::EISDIR),
        _ if dir.is_dead() => Err(Errno::ENOENT),
        _ => Ok(()),
    }
}

/// Owner and mode of what `ctx` makes in `dir`: the umask, and setgid directories.
pub(crate) fn new_inode(dir: &Inode, ctx: &Ctx, kind: FileType, mode: u32, rdev: u64) -> NewInode {
    let mut mode = mode & !ctx.umask | kind.bits();
    if kind == FileType::Symlink {
        mode = kind.bits() | 0o777;
    }
    let mut gid = ctx.cred.fsgid;
    if dir.mode() & S_ISGID != 0 {
        gid = dir.gid();
        if kind == FileType::Dir {
            mode |= S_ISGID;
        } else if mode & (S_ISGID | 0o010) == S_ISGID | 0o010
            && !ctx.cred.in_group(gid)
            && !ctx.cred.has_cap(cap::FSETID)
        {
            mode &= !S_ISGID;
        }
    }
    NewInode { mode, uid: ctx.cred.fsuid, gid, rdev }
}

/// Finds where a new name goes, checks, and lets `make` make it.
fn add_name(
    ctx: &Ctx,
    at: Option<&Path>,
    path: &[u8],
    is_dir: bool,
    make: impl FnOnce(&Path, &[u8]) -> Result<Arc<Inode>>,
) -> Result<Path> {
    let parent = Walk::new(ctx, at, LookupFlags::empty()).parent(at, path)?;
    let Last::Name(name) = &parent.last else { return Err(Errno::EEXIST) };
    let name = name.as_bytes();
    let dir = &parent.dir;
    // As on Linux, an existing name is reported before a read-only file system.
    let change = WriteGuard::new(&dir.mount);
    let _names = dir.mount.sb().names.read();
    let _lock = dir.inode().dir_lock.write();
    match lookup_locked(&dir.dentry, name) {
        Ok(_) => return Err(Errno::EEXIST),
        Err(Errno::ENOENT) if parent.trailing && !is_dir => return Err(Errno::ENOENT),
        Err(Errno::ENOENT) => {}
        Err(e) => return Err(e),
    }
    let _change = change?;
    may_create(dir.inode(), &ctx.cred)?;
    let made = make(dir, name)?;
    Ok(Path { dentry: dir.dentry.insert(name, made)?, mount: dir.mount.clone() })
}

/// mkdirat(2).
pub fn mkdir(ctx: &Ctx, at: Option<&Path>, path: &[u8], mode: u32) -> Result<()> {
    add_name(ctx, at, path, true, |dir, name| {
        let dir = dir.inode();
        let new = new_inode(dir, ctx, FileType::Dir, mode & (0o777 | S_ISVTX), 0);
        dir.ops().mkdir(dir, name, &new)
    })
    .map(|_| ())
}

/// mknodat(2). `rdev` is kernel-internal (see [`crate::types::decode_dev`]).
pub fn mknod(ctx: &Ctx, at: Option<&Path>, path: &[u8], mode: u32, rdev: u64) -> Result<()> {
    make_node(ctx, at, path, mode, rdev).map(|_| ())
}

/// As [`mknod`]; gives the place of the new node, whatever its name means by now (binding a socket).
pub fn make_node(ctx: &Ctx, at: Option<&Path>, path: &[u8], mode: u32, rdev: u64) -> Result<Path> {
    let kind = match mode & S_IFMT {
        0 => FileType::Regular,
        _ => match FileType::from_mode(mode) {
            Some(FileType::Dir) => return Err(Errno::EPERM),
            None | Some(FileType::Symlink) => return Err(Errno::EINVAL),
            Some(k) => k,
        },
    };
    let is_device = matches!(kind, FileType::Char | FileType::Block);
    add_name(ctx, at, path, false, |dir, name| {
        if is_device && !ctx.cred.has_cap(cap::MKNOD) {
            return Err(Errno::EPERM);
        }
        let dir = dir.inode();
        let new = new_inode(dir, ctx, kind, mode & S_IALLUGO, if is_device { rdev } else { 0 });
        if kind == FileType::Regular {
            dir.ops().create(dir, name, &new)
        } else {
            dir.ops().mknod(dir, name, &new)
        }
    })
}

/// symlinkat(2).
pub fn symlink(ctx: &Ctx, target: &[u8], at: Option<&Path>, path: &[u8]) -> Result<()> {
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    if target.len() >= PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    add_name(ctx, at, path, false, |dir, name| {
        let dir = dir.inode();
        let new = new_inode(dir, ctx, FileType::Symlink, 0o777, 0);
        dir.ops().symlink(dir, name, target, &new)
    })
    .map(|_| ())
}

/// linkat(2). `how`: `FOLLOW` for `AT_SYMLINK_FOLLOW`, `EMPTY` for `AT_EMPTY_PATH` (which needs `CAP_DAC_READ_SEARCH`).
pub fn link(
    ctx: &Ctx,
    old_at: Option<&Path>,
    old: &[u8],
    new_at: Option<&Path>,
    new: &[u8],
    how: LookupFlags,
) -> Result<()> {
    if how.contains(LookupFlags::EMPTY) && !ctx.cred.has_cap(cap::DAC_READ_SEARCH) {
        return Err(Errno::ENOENT);
    }
    let from = Walk::new(ctx, old_at, how).place(old_at, old)?;
    add_name(ctx, new_at, new, false, |dir, name| {
        if !Arc::ptr_eq(&dir.mount, &from.mount) {
            return Err(Errno::EXDEV);
        }
        let inode = from.inode();
        if inode.flags().intersects(InodeFlags::APPEND_ONLY | InodeFlags::IMMUTABLE) || inode.is_dir() {
            return Err(Errno::EPERM);
        }
        if inode.nlink() == 0 && !inode.flags().contains(InodeFlags::LINKABLE) {
            return Err(Errno::ENOENT);
        }
        dir.inode().ops().link(dir.inode(), name, inode)?;
        inode.clear_flag(InodeFlags::LINKABLE);
        Ok(inode.clone())
    })
    .map(|_| ())
}

/// unlinkat(2) without `AT_REMOVEDIR`.
pub fn unlink(ctx: &Ctx, at: Option<&Path>, path: &[u8]) -> Result<()> {
    let parent = Walk::new(ctx, at, LookupFlags::empty()).parent(at, path)?;
    let Last::Name(name) = &parent.last else { return Err(Errno::EISDIR) };
    let name = name.as_bytes();
    let dir = &parent.dir;
    let _change = WriteGuard::new(&dir.mount)?;
    let _names = dir.mount.sb().names.read();
    // Kept beyond the locks: dropping the last reference frees the file's pages.
    let victim;
    {
        let inode = dir.inode();
        let _lock = inode.dir_lock.write();
        victim = lookup_locked(&dir.dentry, name)?;
        if parent.trailing {
            return Err(if victim.inode().is_dir() { Errno::EISDIR } else { Errno::ENOTDIR });
        }
        may_delete(inode, &victim, false, &ctx.cred)?;
        if victim.is_mountpoint() && is_mounted_on(&dir.mount, &victim) {
            return Err(Errno::EBUSY);
        }
        inode.ops().unlink(inode, name, victim.inode())?;
        dir.dentry.make_negative(name);
    }
    Ok(())
}

/// unlinkat(2) with `AT_REMOVEDIR`.
pub fn rmdir(ctx: &Ctx, at: Option<&Path>, path: &[u8]) -> Result<()> {
    let parent = Walk::new(ctx, at, LookupFlags::empty()).parent(at, path)?;
    let name = match &parent.last {
        Last::Name(n) => n.as_bytes(),
        Last::Dot => return Err(Errno::EINVAL),
        Last::DotDot => return Err(Errno::ENOTEMPTY),
        Last::Root => return Err(Errno::EBUSY),
    };
    let dir = &parent.dir;
    let _change = WriteGuard::new(&dir.mount)?;
    // Exclusive: nothing can be made in the victim meanwhile.
    let _names = dir.mount.sb().names.write();
    let victim = lookup_locked(&dir.dentry, name)?;
    let inode = dir.inode();
    may_delete(inode, &victim, true, &ctx.cred)?;
    if victim.is_mountpoint() && is_mounted_on(&dir.mount, &victim) {
        return Err(Errno::EBUSY);
    }
    inode.ops().rmdir(inode, name, victim.inode())?;
    victim.inode().set_flag(InodeFlags::DEAD);
    dir.dentry.make_negative(name);
    victim.prune();
    Ok(())
}

/// Is something mounted on `d`, as seen through `m`?
pub(crate) fn is_mounted_on(m: &crate::Mount, d: &Arc<Dentry>) -> bool {
    m.child_at(d).is_some()
}

/// readlinkat(2).
pub fn readlink(ctx: &Ctx, at: Option<&Path>, path: &[u8]) -> Result<Vec<u8>> {
    let p = Walk::new(ctx, at, LookupFlags::EMPTY).place(at, path)?;
    if p.inode().kind() != FileType::Symlink {
        return Err(if path.is_empty() { Errno::ENOENT } else { Errno::EINVAL });
    }
    if !p.mount.is_read_only() {
        p.inode().touch_accessed(false);
    }
    match p.inode().ops().get_link(p.inode())? {
        Link::Text(t) => Ok(t.to_vec()),
        Link::Owned(t) => Ok(t),
        Link::Magic(to) => Ok(d_path(&to, &ctx.root)?.into_display()),
    }
}
