//! Calls on attributes: the `stat` family with Linux's layouts, modes, owners, times, sizes.

use base::{Errno, Result};
use frame::user::Regs;
use linux_raw_sys::general as raw;
use process::current;
use vfs::{LookupFlags, Metadata, Path, SetTime, StatFs, Timespec, encode_dev, major, minor};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{
    args::{Args, NS_PER_SEC, Ret, UserPath, get, put},
    files::file,
    names::{CWD, at_flags, place},
};

/// `struct stat`.
#[derive(Clone, Copy, IntoBytes, Immutable, FromBytes)]
#[repr(C)]
struct Stat {
    dev: u64,
    ino: u64,
    nlink: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    pad: u32,
    rdev: u64,
    size: u64,
    blksize: u64,
    blocks: u64,
    /// Access, modification, change.
    times: [[i64; 2]; 3],
    unused: [u64; 3],
}

impl Stat {
    fn new(m: &Metadata) -> Stat {
        let t = |t: Timespec| [t.sec, t.nsec as i64];
        Stat {
            dev: encode_dev(m.dev),
            ino: m.ino,
            nlink: m.nlink as u64,
            mode: m.mode,
            uid: m.uid,
            gid: m.gid,
            pad: 0,
            rdev: encode_dev(m.rdev),
            size: m.size,
            blksize: m.blksize as u64,
            blocks: m.blocks,
            times: [t(m.atime), t(m.mtime), t(m.ctime)],
            unused: [0; 3],
        }
    }
}

/// Copies `struct stat` out.
fn give_stat(m: &Metadata, at: usize) -> Ret {
    put(at, &Stat::new(m))?;
    Ok(0)
}

/// The place that a `stat` call with `AT_` flags means. With `AT_EMPTY_PATH` the path may be the null pointer.
fn stat_place(dirfd: i32, path: Option<usize>, how: LookupFlags) -> Result<Path> {
    if path.is_none() && how.contains(LookupFlags::EMPTY) {
        if dirfd == CWD {
            return Ok(current().fs().cwd());
        }
        return Ok(current().files().get_any(dirfd)?.path().clone());
    }
    place(&current(), dirfd, path.ok_or(Errno::EFAULT)?, how)
}

/// True if the string there has no bytes.
fn is_empty(path: usize) -> Result<bool> {
    Ok(get::<u8>(path)? == 0)
}

pub(crate) fn stat(r: &mut Regs) -> Ret {
    let p = place(&current(), CWD, r.size::<0>(), LookupFlags::FOLLOW)?;
    give_stat(&p.inode().metadata(), r.size::<1>())
}
pub(crate) fn lstat(r: &mut Regs) -> Ret {
    let p = place(&current(), CWD, r.size::<0>(), LookupFlags::empty())?;
    give_stat(&p.inode().metadata(), r.size::<1>())
}
pub(crate) fn fstat(r: &mut Regs) -> Ret {
    let f = current().file_any(r.int::<0>())?;
    give_stat(&f.inode().metadata(), r.size::<1>())
}
pub(crate) fn newfstatat(r: &mut Regs) -> Ret {
    let how = at_flags(r.uint::<3>(), raw::AT_SYMLINK_NOFOLLOW | raw::AT_NO_AUTOMOUNT | raw::AT_EMPTY_PATH)?;
    let (dirfd, path) = (r.int::<0>(), r.ptr::<1>());
    // What the C library makes of fstat: no name to copy, no place to hold.
    if how.contains(LookupFlags::EMPTY) && dirfd != CWD && path.map_or(Ok(true), is_empty)? {
        let f = current().file_any(dirfd)?;
        return give_stat(&f.inode().metadata(), r.size::<2>());
    }
    let p = stat_place(dirfd, path, how)?;
    give_stat(&p.inode().metadata(), r.size::<2>())
}

/// `struct statx_timestamp`.
#[derive(Clone, Copy, IntoBytes, Immutable, FromBytes)]
#[repr(C)]
struct Stamp {
    sec: i64,
    nsec: u32,
    pad: u32,
}

/// `struct statx`.
#[derive(Clone, Copy, IntoBytes, Immutable, FromBytes)]
#[repr(C)]
struct Statx {
    mask: u32,
    blksize: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    pad: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    /// Access, birth, change, modification.
    times: [Stamp; 4],
    rdev: [u32; 2],
    dev: [u32; 2],
    mnt_id: u64,
    dio_align: [u32; 2],
    spare: [u64; 12],
}

pub(crate) fn statx(r: &mut Regs) -> Ret {
    let (flags, mask) = (r.uint::<2>(), r.uint::<3>());
    let sync = flags & (raw::AT_STATX_FORCE_SYNC | raw::AT_STATX_DONT_SYNC);
    if mask & raw::STATX__RESERVED != 0 || sync == raw::AT_STATX_FORCE_SYNC | raw::AT_STATX_DONT_SYNC {
        return Err(Errno::EINVAL);
    }
    let how = at_flags(flags & !sync, raw::AT_SYMLINK_NOFOLLOW | raw::AT_NO_AUTOMOUNT | raw::AT_EMPTY_PATH)?;
    let p = stat_place(r.int::<0>(), r.ptr::<1>(), how)?;
    let m = p.inode().metadata();
    let t = |t: Timespec| Stamp { sec: t.sec, nsec: t.nsec, pad: 0 };
    let has_birth = m.btime != Timespec::default();
    let root = raw::STATX_ATTR_MOUNT_ROOT as u64;
    let x = Statx {
        mask: raw::STATX_BASIC_STATS | raw::STATX_MNT_ID | if has_birth { raw::STATX_BTIME } else { 0 },
        blksize: m.blksize,
        attributes: if p.is_mount_root() { root } else { 0 },
        nlink: m.nlink,
        uid: m.uid,
        gid: m.gid,
        mode: m.mode as u16,
        pad: 0,
        ino: m.ino,
        size: m.size,
        blocks: m.blocks,
        attributes_mask: root,
        times: [t(m.atime), t(m.btime), t(m.ctime), t(m.mtime)],
        rdev: [major(m.rdev), minor(m.rdev)],
        dev: [major(m.dev), minor(m.dev)],
        mnt_id: p.mount.id() as u64,
        dio_align: [0; 2],
        spare: [0; 12],
    };
    put(r.size::<4>(), &x)?;
    Ok(0)
}

/// `struct statfs`: all members are words but the two halves of the identity.
fn give_statfs(s: &StatFs, at: usize) -> Ret {
    let id = s.fsid[0] as u64 | (s.fsid[1] as u64) << 32;
    let words: [u64; 15] = [
        s.magic,
        s.bsize as u64,
        s.blocks,
        s.bfree,
        s.bavail,
        s.files,
        s.ffree,
        id,
        s.namelen as u64,
        s.frsize as u64,
        s.flags,
        0,
        0,
        0,
        0,
    ];
    put(at, &words)?;
    Ok(0)
}
pub(crate) fn statfs(r: &mut Regs) -> Ret {
    let p = place(&current(), CWD, r.size::<0>(), LookupFlags::FOLLOW)?;
    give_statfs(&vfs::statfs(&p)?, r.size::<1>())
}
pub(crate) fn fstatfs(r: &mut Regs) -> Ret {
    let f = current().files().get_any(r.int::<0>())?;
    give_statfs(&vfs::statfs(f.path())?, r.size::<1>())
}

fn do_chmod(p: &Path, mode: u32) -> Ret {
    vfs::chmod(p, mode, &current().cred())?;
    Ok(0)
}
pub(crate) fn chmod(r: &mut Regs) -> Ret {
    do_chmod(&place(&current(), CWD, r.size::<0>(), LookupFlags::FOLLOW)?, r.uint::<1>())
}
pub(crate) fn fchmod(r: &mut Regs) -> Ret {
    do_chmod(file(r.int::<0>())?.path(), r.uint::<1>())
}
pub(crate) fn fchmodat(r: &mut Regs) -> Ret {
    do_chmod(&place(&current(), r.int::<0>(), r.size::<1>(), LookupFlags::FOLLOW)?, r.uint::<2>())
}
pub(crate) fn fchmodat2(r: &mut Regs) -> Ret {
    let how = at_flags(r.uint::<3>(), raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH)?;
    do_chmod(&place(&current(), r.int::<0>(), r.size::<1>(), how)?, r.uint::<2>())
}

/// -1 leaves an owner alone.
fn do_chown(p: &Path, uid: u32, gid: u32) -> Ret {
    let some = |n: u32| (n != u32::MAX).then_some(n);
    vfs::chown(p, some(uid), some(gid), &current().cred())?;
    Ok(0)
}
pub(crate) fn chown(r: &mut Regs) -> Ret {
    do_chown(&place(&current(), CWD, r.size::<0>(), LookupFlags::FOLLOW)?, r.uint::<1>(), r.uint::<2>())
}
pub(crate) fn lchown(r: &mut Regs) -> Ret {
    do_chown(&place(&current(), CWD, r.size::<0>(), LookupFlags::empty())?, r.uint::<1>(), r.uint::<2>())
}
pub(crate) fn fchown(r: &mut Regs) -> Ret {
    do_chown(file(r.int::<0>())?.path(), r.uint::<1>(), r.uint::<2>())
}
pub(crate) fn fchownat(r: &mut Regs) -> Ret {
    let how = at_flags(r.uint::<4>(), raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH)?;
    do_chown(&place(&current(), r.int::<0>(), r.size::<1>(), how)?, r.uint::<2>(), r.uint::<3>())
}

/// A time to set: the moment, "now", or `None` for "leave it".
fn set_time(sec: i64, nsec: i64) -> Result<Option<SetTime>> {
    match nsec {
        n if n == raw::UTIME_NOW as i64 => Ok(Some(SetTime::Now)),
        n if n == raw::UTIME_OMIT as i64 => Ok(None),
        n if (0..NS_PER_SEC as i64).contains(&n) => Ok(Some(SetTime::At(Timespec { sec, nsec: n as u32 }))),
        _ => Err(Errno::EINVAL),
    }
}

type Times = (Option<SetTime>, Option<SetTime>);
const BOTH_NOW: Times = (Some(SetTime::Now), Some(SetTime::Now));

fn utimes_at(dirfd: i32, path: Option<usize>, (a, m): Times, how: LookupFlags) -> Ret {
    let cred = current().cred();
    let p = match path {
        Some(p) => place(&current(), dirfd, p, how)?,
        None if dirfd == CWD => return Err(Errno::EFAULT),
        None => file(dirfd)?.path().clone(),
    };
    vfs::utimens(&p, a, m, &cred)?;
    Ok(0)
}

pub(crate) fn utimensat(r: &mut Regs) -> Ret {
    let (path, times, flags) = (r.ptr::<1>(), r.ptr::<2>(), r.uint::<3>());
    let t = match times {
        None => BOTH_NOW,
        Some(at) => {
            let [s0, n0, s1, n1] = get::<[i64; 4]>(at)?;
            (set_time(s0, n0)?, set_time(s1, n1)?)
        }
    };
    // Nothing to set: Linux does not even look at the path.
    if t == (None, None) {
        return Ok(0);
    }
    let how = at_flags(flags, raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH)?;
    if path.is_none() && flags != 0 && r.int::<0>() != CWD {
        return Err(Errno::EINVAL);
    }
    utimes_at(r.int::<0>(), path, t, how)
}

/// Two `struct timeval`.
fn two_timevals(at: Option<usize>) -> Result<Times> {
    let Some(at) = at else { return Ok(BOTH_NOW) };
    let [s0, u0, s1, u1] = get::<[i64; 4]>(at)?;
    let t = |s, u: i64| if (0..1_000_000).contains(&u) { set_time(s, u * 1000) } else { Err(Errno::EINVAL) };
    Ok((t(s0, u0)?, t(s1, u1)?))
}
pub(crate) fn utimes(r: &mut Regs) -> Ret {
    let t = two_timevals(r.ptr::<1>())?;
    utimes_at(CWD, r.ptr::<0>(), t, LookupFlags::FOLLOW)
}
pub(crate) fn futimesat(r: &mut Regs) -> Ret {
    let t = two_timevals(r.ptr::<2>())?;
    utimes_at(r.int::<0>(), r.ptr::<1>(), t, LookupFlags::FOLLOW)
}
pub(crate) fn utime(r: &mut Regs) -> Ret {
    let t = match r.ptr::<1>() {
        None => BOTH_NOW,
        Some(at) => {
            let [a, m] = get::<[i64; 2]>(at)?;
            (set_time(a, 0)?, set_time(m, 0)?)
        }
    };
    utimes_at(CWD, r.ptr::<0>(), t, LookupFlags::FOLLOW)
}

pub(crate) fn truncate(r: &mut Regs) -> Ret {
    if r.long::<1>() < 0 {
        return Err(Errno::EINVAL);
    }
    let path = UserPath::get(r.size::<0>())?;
    vfs::truncate(&current().ctx(), None, &path, r.long::<1>())?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_linux_s_sizes() {
        assert_eq!(size_of::<Stat>(), size_of::<raw::stat>());
        assert_eq!(size_of::<Stat>(), 144);
        assert_eq!(size_of::<Statx>(), size_of::<raw::statx>());
        assert_eq!(core::mem::offset_of!(Stat, times), core::mem::offset_of!(raw::stat, st_atime));
        assert_eq!(core::mem::offset_of!(Statx, mnt_id), core::mem::offset_of!(raw::statx, stx_mnt_id));
        assert_eq!(size_of::<raw::statfs64>(), 15 * 8);
    }
    #[test]
    fn times_can_be_now_or_left() {
        assert_eq!(set_time(5, raw::UTIME_OMIT as i64), Ok(None));
        assert_eq!(set_time(5, raw::UTIME_NOW as i64), Ok(Some(SetTime::Now)));
        assert_eq!(set_time(-5, 0), Ok(Some(SetTime::At(Timespec { sec: -5, nsec: 0 }))));
        assert_eq!(set_time(0, NS_PER_SEC as i64), Err(Errno::EINVAL));
    }
}
