//! Calls on descriptors: opening, moving bytes, positions, closing, `dup`, `fcntl`, `ioctl`.

use alloc::sync::Arc;

use base::{Errno, Result, cred::cap};
use frame::user::{self, Regs};
use linux_raw_sys::{general as raw, ioctl as io};
use process::{current, rlimit};
use vfs::{
    File, FileKind, FileType, IoDst, IoSrc, LookupFlags, MAX_RW_COUNT, OpenFlags,
    locks::{self, LockKind, Owner, Record},
    open::open_how,
};

use crate::{
    args::{Args, IoVecs, Ret, UserPath, get, get_growing, put},
    names::start,
};

/// The file behind a descriptor.
#[inline]
pub(crate) fn file(fd: i32) -> Result<Arc<File>> {
    current().file(fd)
}

/// Gives a new file a number.
pub(crate) fn install(f: Arc<File>, cloexec: bool) -> Ret {
    let me = current();
    let limit = me.process.limit(rlimit::NOFILE);
    Ok(me.files().install(f, cloexec, limit)? as usize)
}

fn do_open(dirfd: i32, path: usize, flags: u32, mode: u32) -> Ret {
    let flags = OpenFlags::from_bits_truncate(flags);
    let mode = if flags.contains(OpenFlags::CREAT) || flags.is_tmpfile() { mode & 0o7777 } else { 0 };
    let path = UserPath::get(path)?;
    let me = current();
    let at = start(dirfd, &path)?;
    let f =
        open_how(&me.ctx(), at.as_ref(), &path, flags | OpenFlags::LARGEFILE, mode, LookupFlags::empty())?;
    install(f, flags.contains(OpenFlags::CLOEXEC))
}

pub(crate) fn open(r: &mut Regs) -> Ret {
    do_open(raw::AT_FDCWD, r.size::<0>(), r.uint::<1>(), r.uint::<2>())
}
pub(crate) fn openat(r: &mut Regs) -> Ret {
    do_open(r.int::<0>(), r.size::<1>(), r.uint::<2>(), r.uint::<3>())
}
pub(crate) fn creat(r: &mut Regs) -> Ret {
    do_open(raw::AT_FDCWD, r.size::<0>(), raw::O_CREAT | raw::O_WRONLY | raw::O_TRUNC, r.uint::<1>())
}

/// `openat2`: flags and mode must be known, and the resolution can be restricted.
pub(crate) fn openat2(r: &mut Regs) -> Ret {
    let size = r.size::<3>();
    if size < 24 {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let [flags, mode, resolve] = get_growing::<[u64; 3]>(r.size::<2>(), size)?;
    let flags = u32::try_from(flags).ok().and_then(OpenFlags::from_bits).ok_or(Errno::EINVAL)?;
    let makes = flags.contains(OpenFlags::CREAT) || flags.is_tmpfile();
    if mode & !0o7777 != 0 || mode != 0 && !makes {
        return Err(Errno::EINVAL);
    }
    let path_flags = OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::PATH | OpenFlags::CLOEXEC;
    if flags.contains(OpenFlags::PATH) && !path_flags.contains(flags) {
        return Err(Errno::EINVAL);
    }
    let mut how = LookupFlags::empty();
    let mut left = resolve;
    for (bit, flag) in [
        (raw::RESOLVE_NO_XDEV, LookupFlags::NO_XDEV),
        (raw::RESOLVE_NO_MAGICLINKS, LookupFlags::NO_MAGICLINKS),
        (raw::RESOLVE_NO_SYMLINKS, LookupFlags::NO_SYMLINKS),
        (raw::RESOLVE_BENEATH, LookupFlags::BENEATH),
        (raw::RESOLVE_IN_ROOT, LookupFlags::IN_ROOT),
    ] {
        if left & bit as u64 != 0 {
            how |= flag;
            left &= !(bit as u64);
        }
    }
    // To look only at names in the cache is a promise that no walk here can give: try again without it.
    if left == raw::RESOLVE_CACHED as u64 {
        return Err(Errno::EAGAIN);
    }
    if left != 0 || how.contains(LookupFlags::BENEATH | LookupFlags::IN_ROOT) {
        return Err(Errno::EINVAL);
    }
    let path = UserPath::get(r.size::<1>())?;
    let at = start(r.int::<0>(), if how.contains(LookupFlags::IN_ROOT) { b"" } else { &path })?;
    let f = open_how(&current().ctx(), at.as_ref(), &path, flags | OpenFlags::LARGEFILE, mode as u32, how)?;
    install(f, flags.contains(OpenFlags::CLOEXEC))
}

/// `EFAULT` for a range outside of user memory, before the file is asked.
#[inline]
fn check(addr: usize, len: usize) -> Result<()> {
    if user::range_ok(addr, len.min(user::END)) && (len as isize) >= 0 {
        Ok(())
    } else if (len as isize) < 0 {
        Err(Errno::EINVAL)
    } else {
        Err(Errno::EFAULT)
    }
}

pub(crate) fn read(r: &mut Regs) -> Ret {
    let f = file(r.int::<0>())?;
    if !f.flags().readable() {
        return Err(Errno::EBADF);
    }
    check(r.size::<1>(), r.size::<2>())?;
    f.read(&mut IoDst::user(r.size::<1>(), r.size::<2>()))
}
pub(crate) fn write(r: &mut Regs) -> Ret {
    let f = file(r.int::<0>())?;
    if !f.flags().writable() {
        return Err(Errno::EBADF);
    }
    check(r.size::<1>(), r.size::<2>())?;
    told_of_pipe(f.write(&mut IoSrc::user(r.size::<1>(), r.size::<2>())))
}

/// Who writes where nobody reads gets `SIGPIPE`.
#[inline]
fn told_of_pipe(r: Ret) -> Ret {
    if r == Err(Errno::EPIPE) {
        tell_of_pipe()?;
    }
    r
}
#[cold]
fn tell_of_pipe() -> Result<()> {
    let me = current();
    let why = process::signal::SigInfo::user(process::signal::set::PIPE, 0, me.process.pid(), me.cred().uid);
    process::signal::send_thread(&me.task_ref(), why, process::signal::send::Force::No)
}

fn offset(v: i64) -> Result<u64> {
    u64::try_from(v).map_err(|_| Errno::EINVAL)
}

pub(crate) fn pread64(r: &mut Regs) -> Ret {
    let off = offset(r.long::<3>())?;
    let f = file(r.int::<0>())?;
    check(r.size::<1>(), r.size::<2>())?;
    f.pread(off, &mut IoDst::user(r.size::<1>(), r.size::<2>()))
}
pub(crate) fn pwrite64(r: &mut Regs) -> Ret {
    let off = offset(r.long::<3>())?;
    let f = file(r.int::<0>())?;
    check(r.size::<1>(), r.size::<2>())?;
    told_of_pipe(f.pwrite(off, &mut IoSrc::user(r.size::<1>(), r.size::<2>())))
}
pub(crate) fn readv(r: &mut Regs) -> Ret {
    let f = file(r.int::<0>())?;
    let v = IoVecs::get(r.size::<1>(), r.size::<2>())?;
    f.read(&mut IoDst::user_vec(&v))
}
pub(crate) fn writev(r: &mut Regs) -> Ret {
    let f = file(r.int::<0>())?;
    let v = IoVecs::get(r.size::<1>(), r.size::<2>())?;
    told_of_pipe(f.write(&mut IoSrc::user_vec(&v)))
}
pub(crate) fn preadv(r: &mut Regs) -> Ret {
    let off = offset(r.long::<3>())?;
    let f = file(r.int::<0>())?;
    let v = IoVecs::get(r.size::<1>(), r.size::<2>())?;
    f.pread(off, &mut IoDst::user_vec(&v))
}
pub(crate) fn pwritev(r: &mut Regs) -> Ret {
    let off = offset(r.long::<3>())?;
    let f = file(r.int::<0>())?;
    let v = IoVecs::get(r.size::<1>(), r.size::<2>())?;
    told_of_pipe(f.pwrite(off, &mut IoSrc::user_vec(&v)))
}

/// The flags of `preadv2` and `pwritev2` that are hints (`RWF_HIPRI`), or that hold anyway where nothing is ever written behind
/// (`RWF_DSYNC`, `RWF_SYNC`).
const RWF_HARMLESS: u32 = raw::RWF_HIPRI | raw::RWF_DSYNC | raw::RWF_SYNC;

fn rwf(flags: u32) -> Result<()> {
    if flags & !RWF_HARMLESS != 0 { Err(Errno::EOPNOTSUPP) } else { Ok(()) }
}
pub(crate) fn preadv2(r: &mut Regs) -> Ret {
    rwf(r.uint::<5>())?;
    if r.long::<3>() == -1 { readv(r) } else { preadv(r) }
}
pub(crate) fn pwritev2(r: &mut Regs) -> Ret {
    rwf(r.uint::<5>())?;
    if r.long::<3>() == -1 { writev(r) } else { pwritev(r) }
}

pub(crate) fn lseek(r: &mut Regs) -> Ret {
    let f = file(r.int::<0>())?;
    if r.uint::<2>() > raw::SEEK_HOLE {
        return Err(Errno::EINVAL);
    }
    Ok(f.lseek(r.long::<1>(), r.uint::<2>())? as usize)
}

pub(crate) fn close(r: &mut Regs) -> Ret {
    match current().files().close(r.int::<0>()) {
        // The number is free already: closing again would close another's file.
        Err(e) if e.is_restart() => Err(Errno::EINTR),
        other => other.map(|()| 0),
    }
}
/// Marks instead of closing (linux/close_range.h).
const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;

pub(crate) fn close_range(r: &mut Regs) -> Ret {
    let (first, last, flags) = (r.uint::<0>(), r.uint::<1>(), r.uint::<2>());
    // Of the two flags `CLOSE_RANGE_UNSHARE` needs a table of one's own, which threads do not get here.
    if flags & !CLOSE_RANGE_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    current().files().close_range(first, last, flags != 0)?;
    Ok(0)
}

pub(crate) fn dup(r: &mut Regs) -> Ret {
    let me = current();
    Ok(me.files().dup(r.int::<0>(), me.process.limit(rlimit::NOFILE))? as usize)
}
pub(crate) fn dup2(r: &mut Regs) -> Ret {
    let (old, new) = (r.int::<0>(), r.int::<1>());
    let me = current();
    let files = me.files();
    if old == new {
        files.get_any(old)?;
        return Ok(new as usize);
    }
    Ok(files.dup3(old, new, false, me.process.limit(rlimit::NOFILE))? as usize)
}
pub(crate) fn dup3(r: &mut Regs) -> Ret {
    let flags = r.uint::<2>();
    if flags & !raw::O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let me = current();
    Ok(me.files().dup3(r.int::<0>(), r.int::<1>(), flags != 0, me.process.limit(rlimit::NOFILE))? as usize)
}

/// `struct flock`: type, whence, start, length, pid.
#[derive(Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub(crate) struct Flock {
    kind: i16,
    whence: i16,
    pad: u32,
    start: i64,
    len: i64,
    pid: i32,
    tail: u32,
}

fn lock_kind(k: i16) -> Result<Option<LockKind>> {
    match k as u32 {
        raw::F_RDLCK => Ok(Some(LockKind::Shared)),
        raw::F_WRLCK => Ok(Some(LockKind::Exclusive)),
        raw::F_UNLCK => Ok(None),
        _ => Err(Errno::EINVAL),
    }
}

fn record_lock(f: &Arc<File>, cmd: u32, at: usize) -> Ret {
    let mut l: Flock = get(at)?;
    let kind = lock_kind(l.kind)?;
    let is_ofd = matches!(cmd, raw::F_OFD_GETLK | raw::F_OFD_SETLK | raw::F_OFD_SETLKW);
    if is_ofd && l.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let (start, end) = locks::range(f, l.whence as u32, l.start, l.len)?;
    let me = current();
    let owner = if is_ofd { Owner::ofd(f) } else { Owner::Posix(me.files().id()) };
    let want = Record { kind: kind.unwrap_or(LockKind::Shared), start, end, owner, pid: me.process.pid() };
    if matches!(cmd, raw::F_GETLK | raw::F_OFD_GETLK) {
        if kind.is_none() && !is_ofd {
            return Err(Errno::EINVAL);
        }
        match locks::get_lock(f, &want)? {
            None => l.kind = raw::F_UNLCK as i16,
            Some(r) => {
                l.kind = (if r.kind == LockKind::Shared { raw::F_RDLCK } else { raw::F_WRLCK }) as i16;
                l.whence = raw::SEEK_SET as i16;
                l.start = r.start as i64;
                l.len = if r.end >= vfs::MAX_OFFSET { 0 } else { (r.end - r.start + 1) as i64 };
                l.pid = if matches!(r.owner, Owner::Ofd(_)) { -1 } else { r.pid as i32 };
            }
        }
        put(at, &l)?;
        return Ok(0);
    }
    locks::set_lock(f, kind, want, matches!(cmd, raw::F_SETLKW | raw::F_OFD_SETLKW))?;
    Ok(0)
}

/// `F_DUPFD_QUERY`, which is in no header of the crate yet: do two descriptors name one open file?
const F_DUPFD_QUERY: u32 = 1027;

pub(crate) fn fcntl(r: &mut Regs) -> Ret {
    let (fd, cmd, arg) = (r.int::<0>(), r.uint::<1>(), r.size::<2>());
    let me = current();
    let files = me.files();
    let f = files.get_any(fd)?;
    match cmd {
        raw::F_DUPFD | raw::F_DUPFD_CLOEXEC => {
            let limit = me.process.limit(rlimit::NOFILE);
            let from = u64::try_from(arg as i32).map_err(|_| Errno::EINVAL)?;
            return Ok(files.dup_from(fd, from, cmd == raw::F_DUPFD_CLOEXEC, limit)? as usize);
        }
        raw::F_GETFD => return Ok(files.cloexec(fd)? as usize),
        raw::F_SETFD => {
            files.set_cloexec(fd, arg as u32 & raw::FD_CLOEXEC != 0)?;
            return Ok(0);
        }
        raw::F_GETFL => return Ok(f.flags().bits() as usize),
        F_DUPFD_QUERY => return Ok(Arc::ptr_eq(&files.get_any(arg as i32)?, &f) as usize),
        _ => {}
    }
    if f.is_path_only() {
        return Err(Errno::EBADF);
    }
    match cmd {
        raw::F_SETFL => {
            f.set_flags(OpenFlags::from_bits_truncate(arg as u32))?;
            Ok(0)
        }
        raw::F_GETLK
        | raw::F_SETLK
        | raw::F_SETLKW
        | raw::F_OFD_GETLK
        | raw::F_OFD_SETLK
        | raw::F_OFD_SETLKW => record_lock(&f, cmd, arg),
        raw::F_GETPIPE_SZ => fs::pipe::size(&f),
        raw::F_SETPIPE_SZ => fs::pipe::set_size(&f, arg as u32 as usize, &me.cred()),
        // No signals on readiness, no leases, no seals: what Linux says of a command it does not know.
        _ => Err(Errno::EINVAL),
    }
}

pub(crate) fn flock(r: &mut Regs) -> Ret {
    let op = r.uint::<1>();
    let kind = match op & !raw::LOCK_NB {
        raw::LOCK_SH => Some(LockKind::Shared),
        raw::LOCK_EX => Some(LockKind::Exclusive),
        raw::LOCK_UN => None,
        _ => return Err(Errno::EINVAL),
    };
    let f = file(r.int::<0>())?;
    locks::flock(&f, kind, op & raw::LOCK_NB != 0)?;
    Ok(0)
}

/// Sets or clears one flag of an open file, as the int at `arg` says.
fn set_flag(f: &Arc<File>, flag: OpenFlags, arg: usize) -> Ret {
    let on: i32 = get(arg)?;
    let now = f.flags();
    f.set_flags(if on != 0 { now | flag } else { now - flag })?;
    Ok(0)
}

pub(crate) fn ioctl(r: &mut Regs) -> Ret {
    let (fd, cmd, arg) = (r.int::<0>(), r.uint::<1>(), r.size::<2>());
    let f = file(fd)?;
    match cmd {
        io::FIOCLEX | io::FIONCLEX => {
            current().files().set_cloexec(fd, cmd == io::FIOCLEX)?;
            Ok(0)
        }
        io::FIONBIO => set_flag(&f, OpenFlags::NONBLOCK, arg),
        io::FIOASYNC => set_flag(&f, OpenFlags::ASYNC, arg),
        io::FIOQSIZE => match f.inode().kind() {
            FileType::Regular | FileType::Dir | FileType::Symlink => {
                put(arg, &f.inode().metadata().size)?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        },
        io::FIGETBSZ if matches!(f.inode().kind(), FileType::Regular | FileType::Dir) => {
            put(arg, &f.inode().metadata().blksize)?;
            Ok(0)
        }
        io::FIONREAD if f.inode().kind() == FileType::Regular => {
            let left = f.inode().metadata().size.saturating_sub(f.position());
            put(arg, &(left as u32))?;
            Ok(0)
        }
        _ => f.ops().ioctl(&f, cmd, arg),
    }
}

pub(crate) fn fsync(r: &mut Regs) -> Ret {
    file(r.int::<0>())?.fsync(false).map(|()| 0)
}
pub(crate) fn fdatasync(r: &mut Regs) -> Ret {
    file(r.int::<0>())?.fsync(true).map(|()| 0)
}
pub(crate) fn sync_file_range(r: &mut Regs) -> Ret {
    let (off, len, flags) = (r.long::<1>(), r.long::<2>(), r.uint::<3>());
    let f = file(r.int::<0>())?;
    if flags & !7 != 0 || off < 0 || len < 0 || off.checked_add(len).is_none() {
        return Err(Errno::EINVAL);
    }
    match f.inode().kind() {
        FileType::Regular | FileType::Block | FileType::Dir | FileType::Symlink => f.fsync(true).map(|()| 0),
        _ => Err(Errno::ESPIPE),
    }
}
pub(crate) fn ftruncate(r: &mut Regs) -> Ret {
    let size = offset(r.long::<1>())?;
    file(r.int::<0>())?.truncate(size).map(|()| 0)
}
pub(crate) fn fallocate(r: &mut Regs) -> Ret {
    file(r.int::<0>())?.fallocate(r.uint::<1>(), r.long::<2>(), r.long::<3>()).map(|()| 0)
}

/// Advice about access patterns changes nothing where all pages are in memory; it is checked all the same.
pub(crate) fn fadvise64(r: &mut Regs) -> Ret {
    let f = file(r.int::<0>())?;
    if f.kind() == FileKind::Stream && f.inode().kind() == FileType::Fifo {
        return Err(Errno::ESPIPE);
    }
    if r.long::<2>() < 0 || r.uint::<3>() > raw::POSIX_FADV_NOREUSE {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}
pub(crate) fn readahead(r: &mut Regs) -> Ret {
    let f = file(r.int::<0>())?;
    if !f.flags().readable() {
        return Err(Errno::EBADF);
    }
    if f.inode().kind() != FileType::Regular { Err(Errno::EINVAL) } else { Ok(0) }
}

pub(crate) fn sendfile(r: &mut Regs) -> Ret {
    let (at, count) = (r.ptr::<2>(), r.size::<3>());
    let start = at.map(get::<i64>).transpose()?.map(offset).transpose()?;
    let (input, out) = (file(r.int::<1>())?, file(r.int::<0>())?);
    if (count as isize) < 0 {
        return Err(Errno::EINVAL);
    }
    let sent = vfs::copy::sendfile(&out, &input, start, count);
    if sent == Err(Errno::EPIPE) {
        return told_of_pipe(Err(Errno::EPIPE));
    }
    let (n, end) = sent?;
    if let Some(at) = at {
        put(at, &end)?;
    }
    Ok(n)
}

pub(crate) fn copy_file_range(r: &mut Regs) -> Ret {
    let (in_at, out_at) = (r.ptr::<1>(), r.ptr::<3>());
    let (input, out) = (file(r.int::<0>())?, file(r.int::<2>())?);
    if r.uint::<5>() != 0 {
        return Err(Errno::EINVAL);
    }
    let pos = |at: Option<usize>, f: &File| at.map_or(Ok(f.position()), |a| offset(get(a)?));
    let (from, to) = (pos(in_at, &input)?, pos(out_at, &out)?);
    let n = vfs::copy::copy_file_range(&input, from, &out, to, r.size::<4>().min(MAX_RW_COUNT))?;
    for (at, f, p) in [(in_at, &input, from), (out_at, &out, to)] {
        let p = p + n as u64;
        match at {
            Some(a) => put(a, &p)?,
            None => f.set_position(p),
        }
    }
    Ok(n)
}

pub(crate) fn vhangup(_: &mut Regs) -> Ret {
    if !current().cred().has_cap(cap::SYS_TTY_CONFIG) {
        return Err(Errno::EPERM);
    }
    process::terminal::vhangup();
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flock_has_linux_s_size() {
        assert_eq!(size_of::<Flock>(), size_of::<raw::flock>());
    }
    #[test]
    fn bad_buffers_are_told_apart() {
        assert_eq!(check(0x1000, usize::MAX), Err(Errno::EINVAL));
        assert_eq!(check(user::END, 1), Err(Errno::EFAULT));
        assert_eq!(check(0x1000, 0), Ok(()));
    }
}
