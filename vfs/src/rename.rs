//! renameat2(2).
//!
//! The super block's `names` is held exclusively, so neither directory changes and no directory can be moved into itself by two
//! renames at once.

use alloc::sync::Arc;

use base::{Errno, Result};

use crate::{
    context::Ctx,
    dentry::Dentry,
    inode::Rename,
    mount::WriteGuard,
    namei::{is_mounted_on, may_create, may_delete},
    path::Path,
    types::{Access, RenameFlags},
    walk::{Last, LookupFlags, Walk, lookup_locked},
};

/// Renames. `WHITEOUT` is `EINVAL`: no file system here has whiteouts.
pub fn rename(
    ctx: &Ctx,
    old_at: Option<&Path>,
    old: &[u8],
    new_at: Option<&Path>,
    new: &[u8],
    flags: RenameFlags,
) -> Result<()> {
    let exchange = flags.contains(RenameFlags::EXCHANGE);
    if flags.bits() & !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).bits() != 0
        || exchange && flags.contains(RenameFlags::NOREPLACE)
    {
        return Err(Errno::EINVAL);
    }
    let from = Walk::new(ctx, old_at, LookupFlags::empty()).parent(old_at, old)?;
    let to = Walk::new(ctx, new_at, LookupFlags::empty()).parent(new_at, new)?;
    if !Arc::ptr_eq(&from.dir.mount, &to.dir.mount) {
        return Err(Errno::EXDEV);
    }
    let Last::Name(old_name) = &from.last else { return Err(Errno::EBUSY) };
    let Last::Name(new_name) = &to.last else {
        return Err(if flags.contains(RenameFlags::NOREPLACE) { Errno::EEXIST } else { Errno::EBUSY });
    };
    let (old_name, new_name) = (old_name.as_bytes(), new_name.as_bytes());
    let mount = &from.dir.mount;
    let _change = WriteGuard::new(mount)?;
    // Dropped after the lock: the last reference to a replaced file frees its pages.
    let (moved, target);
    let _names = mount.sb().names.write();
    let (old_dir, new_dir) = (&from.dir.dentry, &to.dir.dentry);
    moved = lookup_locked(old_dir, old_name)?;
    target = match lookup_locked(new_dir, new_name) {
        Ok(d) => Some(d),
        Err(Errno::ENOENT) => None,
        Err(e) => return Err(e),
    };
    if flags.contains(RenameFlags::NOREPLACE) && target.is_some() {
        return Err(Errno::EEXIST);
    }
    if exchange {
        let t = target.as_ref().ok_or(Errno::ENOENT)?;
        if !t.inode().is_dir() && to.trailing {
            return Err(Errno::ENOTDIR);
        }
    }
    // Only directories may be named with a slash behind.
    if !moved.inode().is_dir() && (from.trailing || !exchange && to.trailing) {
        return Err(Errno::ENOTDIR);
    }
    if new_dir.is_below(&moved) {
        return Err(Errno::EINVAL);
    }
    if let Some(t) = &target
        && old_dir.is_below(t)
    {
        return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    // Two names of one file: nothing happens.
    if target.as_ref().is_some_and(|t| Arc::ptr_eq(t.inode(), moved.inode())) {
        return Ok(());
    }
    check(ctx, old_dir, &moved, new_dir, target.as_ref(), exchange)?;
    let busy = |d: &Arc<Dentry>| d.is_mountpoint() && is_mounted_on(mount, d);
    if busy(&moved) || target.as_ref().is_some_and(busy) {
        return Err(Errno::EBUSY);
    }
    old_dir.inode().ops().rename(&Rename {
        old_dir: old_dir.inode(),
        old_name,
        old: moved.inode(),
        new_dir: new_dir.inode(),
        new_name,
        target: target.as_ref().map(|t| t.inode()),
        flags: flags & RenameFlags::EXCHANGE,
    })?;
    if let Some(t) = &target
        && !exchange
        && t.inode().is_dir()
    {
        t.inode().set_flag(crate::inode::InodeFlags::DEAD);
    }
    Dentry::rename(old_dir, old_name, new_dir, new_name, exchange)
}

fn check(
    ctx: &Ctx,
    old_dir: &Dentry,
    moved: &Dentry,
    new_dir: &Dentry,
    target: Option<&Arc<Dentry>>,
    exchange: bool,
) -> Result<()> {
    let (od, nd, cred) = (old_dir.inode(), new_dir.inode(), &ctx.cred);
    let is_dir = moved.inode().is_dir();
    may_delete(od, moved, is_dir, cred)?;
    match target {
        None => may_create(nd, cred)?,
        Some(t) => may_delete(nd, t, if exchange { t.inode().is_dir() } else { is_dir }, cred)?,
    }
    // A directory that moves to another parent has its `..` rewritten.
    if !Arc::ptr_eq(od, nd) {
        if is_dir {
            moved.inode().permission(cred, Access::WRITE)?;
        }
        if let Some(t) = target
            && exchange
            && t.inode().is_dir()
        {
            t.inode().permission(cred, Access::WRITE)?;
        }
    }
    Ok(())
}
