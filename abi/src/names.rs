//! Calls on names: making, removing, renaming, reading directories, the current directory, mounts.

use alloc::vec::Vec;

use base::{Errno, Result, cred::cap};
use frame::user::{self, Regs};
use linux_raw_sys::general as raw;
use process::{ThreadData, current};
use vfs::{Access, DirSink, LookupFlags, Path, RenameFlags, decode_dev, lookup};

use crate::args::{Args, Ret, UserPath, buffer, bytes, string};

/// Where a relative path starts: `None` for the current directory, and for absolute paths, which look at no descriptor.
pub(crate) fn start(dirfd: i32, path: &[u8]) -> Result<Option<Path>> {
    if dirfd == raw::AT_FDCWD || path.first() == Some(&b'/') {
        return Ok(None);
    }
    let f = current().files().get_any(dirfd)?;
    Ok(Some(f.path().clone()))
}

/// The look-up flags for `AT_` flags; others than `allowed` are `EINVAL`. `follow`: links are followed unless `AT_SYMLINK_NOFOLLOW`.
pub(crate) fn at_flags(flags: u32, allowed: u32) -> Result<LookupFlags> {
    if flags & !allowed != 0 {
        return Err(Errno::EINVAL);
    }
    let mut how = LookupFlags::FOLLOW;
    if flags & raw::AT_SYMLINK_NOFOLLOW != 0 {
        how = LookupFlags::empty();
    }
    if flags & raw::AT_EMPTY_PATH != 0 {
        how |= LookupFlags::EMPTY;
    }
    Ok(how)
}

/// The place that a user path names.
pub(crate) fn place(me: &ThreadData, dirfd: i32, path: usize, how: LookupFlags) -> Result<Path> {
    let path = UserPath::get(path)?;
    let at = start(dirfd, &path)?;
    lookup(&me.ctx(), at.as_ref(), &path, how)
}

pub(crate) const CWD: i32 = raw::AT_FDCWD;

fn access_at(dirfd: i32, path: usize, mode: u32, flags: u32) -> Ret {
    let want = Access::from_bits(mode).ok_or(Errno::EINVAL)?;
    let how = at_flags(flags & !raw::AT_EACCESS, raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH)?;
    let path = UserPath::get(path)?;
    let at = start(dirfd, &path)?;
    vfs::access(&current().ctx(), at.as_ref(), &path, want, how, flags & raw::AT_EACCESS != 0)?;
    Ok(0)
}
pub(crate) fn access(r: &mut Regs) -> Ret {
    access_at(CWD, r.size::<0>(), r.uint::<1>(), 0)
}
pub(crate) fn faccessat(r: &mut Regs) -> Ret {
    access_at(r.int::<0>(), r.size::<1>(), r.uint::<2>(), 0)
}
pub(crate) fn faccessat2(r: &mut Regs) -> Ret {
    access_at(r.int::<0>(), r.size::<1>(), r.uint::<2>(), r.uint::<3>())
}

fn mkdir_at(dirfd: i32, path: usize, mode: u32) -> Ret {
    let path = UserPath::get(path)?;
    let at = start(dirfd, &path)?;
    vfs::mkdir(&current().ctx(), at.as_ref(), &path, mode)?;
    Ok(0)
}
pub(crate) fn mkdir(r: &mut Regs) -> Ret {
    mkdir_at(CWD, r.size::<0>(), r.uint::<1>())
}
pub(crate) fn mkdirat(r: &mut Regs) -> Ret {
    mkdir_at(r.int::<0>(), r.size::<1>(), r.uint::<2>())
}

fn mknod_at(dirfd: i32, path: usize, mode: u32, dev: u32) -> Ret {
    let path = UserPath::get(path)?;
    let at = start(dirfd, &path)?;
    vfs::mknod(&current().ctx(), at.as_ref(), &path, mode, decode_dev(dev))?;
    Ok(0)
}
pub(crate) fn mknod(r: &mut Regs) -> Ret {
    mknod_at(CWD, r.size::<0>(), r.uint::<1>(), r.uint::<2>())
}
pub(crate) fn mknodat(r: &mut Regs) -> Ret {
    mknod_at(r.int::<0>(), r.size::<1>(), r.uint::<2>(), r.uint::<3>())
}

fn unlink_at(dirfd: i32, path: usize, flags: u32) -> Ret {
    if flags & !raw::AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let path = UserPath::get(path)?;
    let at = start(dirfd, &path)?;
    let ctx = current().ctx();
    if flags != 0 {
        vfs::rmdir(&ctx, at.as_ref(), &path)?
    } else {
        vfs::unlink(&ctx, at.as_ref(), &path)?
    }
    Ok(0)
}
pub(crate) fn unlink(r: &mut Regs) -> Ret {
    unlink_at(CWD, r.size::<0>(), 0)
}
pub(crate) fn rmdir(r: &mut Regs) -> Ret {
    unlink_at(CWD, r.size::<0>(), raw::AT_REMOVEDIR)
}
pub(crate) fn unlinkat(r: &mut Regs) -> Ret {
    unlink_at(r.int::<0>(), r.size::<1>(), r.uint::<2>())
}

fn rename_at(old_fd: i32, old: usize, new_fd: i32, new: usize, flags: u32) -> Ret {
    let flags = RenameFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let (old, new) = (UserPath::get(old)?, UserPath::get(new)?);
    let (from, to) = (start(old_fd, &old)?, start(new_fd, &new)?);
    vfs::rename(&current().ctx(), from.as_ref(), &old, to.as_ref(), &new, flags)?;
    Ok(0)
}
pub(crate) fn rename(r: &mut Regs) -> Ret {
    rename_at(CWD, r.size::<0>(), CWD, r.size::<1>(), 0)
}
pub(crate) fn renameat(r: &mut Regs) -> Ret {
    rename_at(r.int::<0>(), r.size::<1>(), r.int::<2>(), r.size::<3>(), 0)
}
pub(crate) fn renameat2(r: &mut Regs) -> Ret {
    rename_at(r.int::<0>(), r.size::<1>(), r.int::<2>(), r.size::<3>(), r.uint::<4>())
}

fn link_at(old_fd: i32, old: usize, new_fd: i32, new: usize, flags: u32) -> Ret {
    if flags & !(raw::AT_SYMLINK_FOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut how = LookupFlags::empty();
    how.set(LookupFlags::FOLLOW, flags & raw::AT_SYMLINK_FOLLOW != 0);
    how.set(LookupFlags::EMPTY, flags & raw::AT_EMPTY_PATH != 0);
    let (old, new) = (UserPath::get(old)?, UserPath::get(new)?);
    let (from, to) = (start(old_fd, &old)?, start(new_fd, &new)?);
    vfs::link(&current().ctx(), from.as_ref(), &old, to.as_ref(), &new, how)?;
    Ok(0)
}
pub(crate) fn link(r: &mut Regs) -> Ret {
    link_at(CWD, r.size::<0>(), CWD, r.size::<1>(), 0)
}
pub(crate) fn linkat(r: &mut Regs) -> Ret {
    link_at(r.int::<0>(), r.size::<1>(), r.int::<2>(), r.size::<3>(), r.uint::<4>())
}

fn symlink_at(target: usize, dirfd: i32, path: usize) -> Ret {
    let (target, path) = (UserPath::get(target)?, UserPath::get(path)?);
    let at = start(dirfd, &path)?;
    vfs::symlink(&current().ctx(), &target, at.as_ref(), &path)?;
    Ok(0)
}
pub(crate) fn symlink(r: &mut Regs) -> Ret {
    symlink_at(r.size::<0>(), CWD, r.size::<1>())
}
pub(crate) fn symlinkat(r: &mut Regs) -> Ret {
    symlink_at(r.size::<0>(), r.int::<1>(), r.size::<2>())
}

fn readlink_at(dirfd: i32, path: usize, out: usize, len: i32) -> Ret {
    if len <= 0 {
        return Err(Errno::EINVAL);
    }
    let path = UserPath::get(path)?;
    let at = start(dirfd, &path)?;
    let text = vfs::readlink(&current().ctx(), at.as_ref(), &path)?;
    let n = text.len().min(len as usize);
    user::copy_to_user(out, &text[..n])?;
    Ok(n)
}
pub(crate) fn readlink(r: &mut Regs) -> Ret {
    readlink_at(CWD, r.size::<0>(), r.size::<1>(), r.int::<2>())
}
pub(crate) fn readlinkat(r: &mut Regs) -> Ret {
    readlink_at(r.int::<0>(), r.size::<1>(), r.size::<2>(), r.int::<3>())
}

/// A buffer never needs more to make progress; a larger one of the program's is filled in several calls.
const DIRENTS_MAX: usize = 32 << 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// `struct linux_dirent`: the type in the last byte.
    Old,
    /// `struct linux_dirent64`.
    New,
}

/// Packs directory entries: inode, offset of the next, record length, type, name.
struct Packer {
    out: Vec<u8>,
    room: usize,
    layout: Layout,
    is_full: bool,
}

impl DirSink for Packer {
    fn emit(&mut self, name: &[u8], ino: u64, dtype: u8, next: u64) -> bool {
        let at = self.out.len();
        // Both layouts take 19 bytes and a NUL beside the name, and keep records aligned.
        let len = (19 + name.len() + 1).next_multiple_of(8);
        if len > self.room - at {
            self.is_full = true;
            return false;
        }
        self.out.extend_from_slice(&ino.to_le_bytes());
        self.out.extend_from_slice(&next.to_le_bytes());
        self.out.extend_from_slice(&(len as u16).to_le_bytes());
        if self.layout == Layout::New {
            self.out.push(dtype);
        }
        self.out.extend_from_slice(name);
        self.out.resize(at + len, 0);
        if self.layout == Layout::Old {
            self.out[at + len - 1] = dtype;
        }
        true
    }
}

fn dirents(r: &Regs, layout: Layout) -> Ret {
    let f = crate::files::file(r.int::<0>())?;
    let room = (r.uint::<2>() as usize).min(DIRENTS_MAX);
    let mut out = Vec::new();
    out.try_reserve_exact(room)?;
    let mut p = Packer { out, room, layout, is_full: false };
    f.readdir(&mut p)?;
    if p.out.is_empty() && p.is_full {
        return Err(Errno::EINVAL);
    }
    user::copy_to_user(r.size::<1>(), &p.out)?;
    Ok(p.out.len())
}
pub(crate) fn getdents(r: &mut Regs) -> Ret {
    dirents(r, Layout::Old)
}
pub(crate) fn getdents64(r: &mut Regs) -> Ret {
    dirents(r, Layout::New)
}

pub(crate) fn getcwd(r: &mut Regs) -> Ret {
    let fs = current().fs();
    let mut text = vfs::d_path(&fs.cwd(), &fs.root())?.into_cwd()?;
    text.push(0);
    if text.len() > vfs::PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if text.len() > r.size::<1>() {
        return Err(Errno::ERANGE);
    }
    user::copy_to_user(r.size::<0>(), &text)?;
    Ok(text.len())
}
pub(crate) fn chdir(r: &mut Regs) -> Ret {
    let path = UserPath::get(r.size::<0>())?;
    let me = current();
    let p = vfs::walk::lookup_dir(&me.ctx(), None, &path)?;
    me.fs().set_cwd(p);
    Ok(0)
}
pub(crate) fn fchdir(r: &mut Regs) -> Ret {
    let me = current();
    let f = me.files().get_any(r.int::<0>())?;
    if !f.inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    f.inode().permission(&me.cred(), Access::EXEC)?;
    me.fs().set_cwd(f.path().clone());
    Ok(0)
}
pub(crate) fn chroot(r: &mut Regs) -> Ret {
    let path = UserPath::get(r.size::<0>())?;
    let me = current();
    let p = vfs::walk::lookup_dir(&me.ctx(), None, &path)?;
    if !me.cred().has_cap(cap::SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    me.fs().set_root(p);
    Ok(0)
}
pub(crate) fn umask(r: &mut Regs) -> Ret {
    Ok(current().fs().set_umask(r.uint::<0>()) as usize)
}

/// An optional string argument of `mount`.
fn mount_string(at: Option<usize>) -> Result<Option<Vec<u8>>> {
    at.map(|a| string(a, vfs::PATH_MAX - 1, Errno::EINVAL)).transpose()
}

pub(crate) fn mount(r: &mut Regs) -> Ret {
    let fstype = mount_string(r.ptr::<2>())?;
    let source = mount_string(r.ptr::<0>())?.unwrap_or_default();
    // Options end at a NUL, or with the page; memory may end before that.
    let mut data = Vec::new();
    if let Some(at) = r.ptr::<4>() {
        data = buffer(vfs::PAGE_SIZE)?;
        let n = user::copy_from_user_partial(&mut data, at);
        if n == 0 {
            return Err(Errno::EFAULT);
        }
        data.truncate(data[..n].iter().position(|b| *b == 0).unwrap_or(n));
    }
    let target = UserPath::get(r.size::<1>())?;
    vfs::do_mount(&current().ctx(), &source, &target, fstype.as_deref(), r.uint::<3>(), &data)?;
    Ok(0)
}
pub(crate) fn umount2(r: &mut Regs) -> Ret {
    let target = UserPath::get(r.size::<0>())?;
    vfs::umount(&current().ctx(), &target, r.uint::<1>())?;
    Ok(0)
}
pub(crate) fn pivot_root(r: &mut Regs) -> Ret {
    let (new, old) = (UserPath::get(r.size::<0>())?, UserPath::get(r.size::<1>())?);
    vfs::pivot_root(&current().ctx(), &new, &old)?;
    Ok(0)
}

/// `sync` cannot fail. All file systems so far live in memory; the root's is asked all the same.
pub(crate) fn sync(_: &mut Regs) -> Ret {
    sync_all();
    Ok(0)
}
pub(crate) fn sync_all() {
    vfs::emergency::sync_all();
}
pub(crate) fn syncfs(r: &mut Regs) -> Ret {
    let f = crate::files::file(r.int::<0>())?;
    f.path().mount.sb().ops().sync()?;
    Ok(0)
}

/// Which place an attribute call means.
fn attr_place(r: &Regs, by: By) -> Result<Path> {
    match by {
        By::Path => place(&current(), CWD, r.size::<0>(), LookupFlags::FOLLOW),
        By::Link => place(&current(), CWD, r.size::<0>(), LookupFlags::empty()),
        By::Fd => Ok(crate::files::file(r.int::<0>())?.path().clone()),
    }
}
#[derive(Clone, Copy)]
enum By {
    Path,
    Link,
    Fd,
}

/// `XATTR_NAME_MAX` (linux/limits.h).
const XATTR_NAME_MAX: usize = 255;

fn xattr_name(at: usize) -> Result<Vec<u8>> {
    let n = string(at, XATTR_NAME_MAX, Errno::ERANGE)?;
    if n.is_empty() { Err(Errno::ERANGE) } else { Ok(n) }
}
/// Copies a value or list out; size 0 only asks for its length.
fn give(v: &[u8], at: usize, size: usize) -> Ret {
    if size == 0 {
        return Ok(v.len());
    }
    if v.len() > size {
        return Err(Errno::ERANGE);
    }
    user::copy_to_user(at, v)?;
    Ok(v.len())
}
fn set_xattr(r: &Regs, by: By) -> Ret {
    let (size, flags) = (r.size::<3>(), r.uint::<4>());
    if flags & !(raw::XATTR_CREATE | raw::XATTR_REPLACE) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = xattr_name(r.size::<1>())?;
    if size > vfs::attr::XATTR_SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    let value = bytes(r.size::<2>(), size)?;
    vfs::set_xattr(&attr_place(r, by)?, &name, &value, flags, &current().cred())?;
    Ok(0)
}
fn get_xattr(r: &Regs, by: By) -> Ret {
    let name = xattr_name(r.size::<1>())?;
    let v = vfs::get_xattr(&attr_place(r, by)?, &name, &current().cred())?;
    give(&v, r.size::<2>(), r.size::<3>())
}
fn list_xattr(r: &Regs, by: By) -> Ret {
    let v = vfs::list_xattr(&attr_place(r, by)?, &current().cred())?;
    give(&v, r.size::<1>(), r.size::<2>())
}
fn remove_xattr(r: &Regs, by: By) -> Ret {
    let name = xattr_name(r.size::<1>())?;
    vfs::remove_xattr(&attr_place(r, by)?, &name, &current().cred())?;
    Ok(0)
}
pub(crate) fn setxattr(r: &mut Regs) -> Ret {
    set_xattr(r, By::Path)
}
pub(crate) fn lsetxattr(r: &mut Regs) -> Ret {
    set_xattr(r, By::Link)
}
pub(crate) fn fsetxattr(r: &mut Regs) -> Ret {
    set_xattr(r, By::Fd)
}
pub(crate) fn getxattr(r: &mut Regs) -> Ret {
    get_xattr(r, By::Path)
}
pub(crate) fn lgetxattr(r: &mut Regs) -> Ret {
    get_xattr(r, By::Link)
}
pub(crate) fn fgetxattr(r: &mut Regs) -> Ret {
    get_xattr(r, By::Fd)
}
pub(crate) fn listxattr(r: &mut Regs) -> Ret {
    list_xattr(r, By::Path)
}
pub(crate) fn llistxattr(r: &mut Regs) -> Ret {
    list_xattr(r, By::Link)
}
pub(crate) fn flistxattr(r: &mut Regs) -> Ret {
    list_xattr(r, By::Fd)
}
pub(crate) fn removexattr(r: &mut Regs) -> Ret {
    remove_xattr(r, By::Path)
}
pub(crate) fn lremovexattr(r: &mut Regs) -> Ret {
    remove_xattr(r, By::Link)
}
pub(crate) fn fremovexattr(r: &mut Regs) -> Ret {
    remove_xattr(r, By::Fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_packed_as_linux_does() {
        let mut p = Packer { out: Vec::new(), room: 50, layout: Layout::New, is_full: false };
        assert!(p.emit(b".", 7, 4, 1) && !p.is_full);
        assert_eq!(p.out.len(), 24);
        assert_eq!((p.out[0], p.out[8], p.out[16], p.out[18], &p.out[19..21]), (7, 1, 24, 4, &b".\0"[..]));
        assert!(p.emit(b"abcd", 8, 8, 2) && !p.emit(b"x", 9, 8, 3) && p.is_full);
        assert_eq!(p.out.len(), 48);
        let mut p = Packer { out: Vec::new(), room: 24, layout: Layout::Old, is_full: false };
        assert!(p.emit(b"abcd", 8, 8, 2));
        assert_eq!((&p.out[18..23], p.out[23]), (&b"abcd\0"[..], 8));
    }
    #[test]
    fn unknown_at_flags_are_refused() {
        assert_eq!(at_flags(raw::AT_REMOVEDIR, raw::AT_EMPTY_PATH), Err(Errno::EINVAL));
        assert_eq!(at_flags(0, 0), Ok(LookupFlags::FOLLOW));
        assert_eq!(at_flags(raw::AT_SYMLINK_NOFOLLOW, raw::AT_SYMLINK_NOFOLLOW), Ok(LookupFlags::empty()));
    }
}
