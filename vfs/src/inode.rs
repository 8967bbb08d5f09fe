//! Inodes: what the names refer to.
//!
//! The attributes that every walk and every stat reads live in [`Inode`] itself, as atomic words, so that neither has to call
//! the file system. A file system keeps them up to date (`set_size`, `set_nlink`, …); one whose attributes come from elsewhere
//! overrides [`InodeOps::metadata`] and [`InodeOps::permission`].

use alloc::{
    boxed::Box,
    sync::{Arc, Weak},
    vec::Vec,
};
use core::any::Any;

use base::{
    Errno, Result,
    cred::{Cred, cap},
};
use bitflags::bitflags;
use frame::{
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    sync::{LockClass, RwSemaphore, SpinLock},
};
use mm::MapObject;

use crate::{
    file::FileOps,
    locks::LockTable,
    path::Path,
    superblock::SuperBlock,
    types::{Access, FileType, Metadata, OpenFlags, RenameFlags, S_ISGID, S_ISUID, Timespec},
};

static DIR_CLASS: LockClass = LockClass::new("inode_dir");
static IO_CLASS: LockClass = LockClass::new("inode_io");
static TIMES_CLASS: LockClass = LockClass::new("inode_times");
static SIDE_CLASS: LockClass = LockClass::new("inode_side");

/// How long names found in a directory stay valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DcachePolicy {
    /// All changes come through this kernel's calls: cache hits and misses.
    Keep,
    /// Names may vanish on their own: cache hits, and ask [`InodeOps::revalidate`] each time.
    Revalidate,
    /// Never cache.
    None,
}

/// What a symbolic link leads to.
pub enum Link {
    /// Text, to be walked.
    Text(Arc<[u8]>),
    /// Text made for this occasion.
    Owned(Vec<u8>),
    /// A place, whatever its name (`/proc/PID/fd/N`).
    Magic(Path),
}

/// What a new inode starts with; owner and mode are already decided (umask, setgid directories).
#[derive(Clone, Copy, Debug)]
pub struct NewInode {
    /// Type and permissions.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
}

/// A time to set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    Now,
    At(Timespec),
}

/// Attributes to change; `None` leaves one alone. Permission has been checked.
#[derive(Clone, Copy, Default, Debug)]
pub struct SetAttr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
}

/// Which kind of name-value pair set is asked for: the whole name, prefix included (`user.mime_type`).
pub type XattrName = [u8];

/// What a file system answers for one inode. Names are single components, checked for length and never `.` or `..`. The caller
/// has checked permissions and holds `dir_lock` of the directory where one is changed (see the lock table of the crate).
pub trait InodeOps: Send + Sync + Any {
    /// Everything stat shows.
    fn metadata(&self, inode: &Inode) -> Metadata {
        inode.generic_metadata()
    }
    /// May `cred` do this? The default is the permission bits with root's overrides.
    fn permission(&self, inode: &Inode, cred: &Cred, want: Access) -> Result<()> {
        inode.generic_permission(cred, want)
    }
    fn lookup(&self, _dir: &Arc<Inode>, _name: &[u8]) -> Result<Arc<Inode>> {
        Err(Errno::ENOTDIR)
    }
    fn dcache_policy(&self) -> DcachePolicy {
        DcachePolicy::Keep
    }
    /// Is `child`, found before under `name`, still what a lookup would find?
    fn revalidate(&self, _dir: &Arc<Inode>, _name: &[u8], _child: &Arc<Inode>) -> bool {
        true
    }
    /// A regular file.
    fn create(&self, _dir: &Arc<Inode>, _name: &[u8], _new: &NewInode) -> Result<Arc<Inode>> {
        Err(Errno::EACCES)
    }
    fn mkdir(&self, _dir: &Arc<Inode>, _name: &[u8], _new: &NewInode) -> Result<Arc<Inode>> {
        Err(Errno::EPERM)
    }
    /// Devices, FIFOs, sockets.
    fn mknod(&self, _dir: &Arc<Inode>, _name: &[u8], _new: &NewInode) -> Result<Arc<Inode>> {
        Err(Errno::EPERM)
    }
    fn symlink(
        &self,
        _dir: &Arc<Inode>,
        _name: &[u8],
        _target: &[u8],
        _new: &NewInode,
    ) -> Result<Arc<Inode>> {
        Err(Errno::EPERM)
    }
    fn link(&self, _dir: &Arc<Inode>, _name: &[u8], _to: &Arc<Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }
    fn unlink(&self, _dir: &Arc<Inode>, _name: &[u8], _victim: &Arc<Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }
    /// `ENOTEMPTY` where it is not empty.
    fn rmdir(&self, _dir: &Arc<Inode>, _name: &[u8], _victim: &Arc<Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }
    /// `target` is what `new` names now. Unknown flags are `EINVAL`; `NOREPLACE` has been checked.
    fn rename(&self, _r: &Rename<'_>) -> Result<()> {
        Err(Errno::EPERM)
    }
    /// A regular file that has no name (`O_TMPFILE`), link count 0.
    fn tmpfile(&self, _dir: &Arc<Inode>, _new: &NewInode) -> Result<Arc<Inode>> {
        Err(Errno::EOPNOTSUPP)
    }
    fn get_link(&self, _inode: &Arc<Inode>) -> Result<Link> {
        Err(Errno::EINVAL)
    }
    /// Applies changes. The default keeps them in the inode and refuses a new size.
    fn setattr(&self, inode: &Arc<Inode>, set: &SetAttr) -> Result<()> {
        if set.size.is_some() {
            return Err(Errno::EINVAL);
        }
        inode.apply(set);
        Ok(())
    }
    /// Opens; devices and FIFOs do not come here. `flags` holds `CREAT` only if this open created the file.
    fn open(&self, inode: &Arc<Inode>, flags: OpenFlags, cred: &Cred) -> Result<Arc<dyn FileOps>>;
    /// Opens a device node whose file system knows what is behind it (devpts). `None`: the registry of devices knows.
    fn open_device(&self, _inode: &Arc<Inode>, _flags: OpenFlags) -> Option<Result<Arc<dyn FileOps>>> {
        None
    }
    /// The pages, for mmap and exec.
    fn map_object(&self, _inode: &Arc<Inode>) -> Option<Arc<dyn MapObject>> {
        None
    }
    fn get_xattr(&self, _inode: &Arc<Inode>, _name: &XattrName) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }
    /// `flags`: `XATTR_CREATE` 1, `XATTR_REPLACE` 2.
    fn set_xattr(&self, _inode: &Arc<Inode>, _name: &XattrName, _value: &[u8], _flags: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    fn remove_xattr(&self, _inode: &Arc<Inode>, _name: &XattrName) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// The names, each followed by NUL.
    fn list_xattr(&self, _inode: &Arc<Inode>) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
    /// For a directory with [`InodeFlags::AUTOMOUNT`]: the kind of file system that is mounted on it when somebody first walks
    /// through.
    fn automount(&self) -> Option<&'static str> {
        None
    }
    /// The last name is gone and the last user too (called from the inode's drop).
    fn evict(&self, _inode: &Inode) {}
}

/// A rename, as the file system sees it.
pub struct Rename<'a> {
    pub old_dir: &'a Arc<Inode>,
    pub old_name: &'a [u8],
    pub old: &'a Arc<Inode>,
    pub new_dir: &'a Arc<Inode>,
    pub new_name: &'a [u8],
    pub target: Option<&'a Arc<Inode>>,
    pub flags: RenameFlags,
}

bitflags! {
    /// Facts about an inode that outlive a call.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct InodeFlags: u32 {
        /// A directory that was removed: nothing can be made in it.
        const DEAD = 1;
        /// No access times are kept.
        const NOATIME = 2;
        /// [`InodeOps::permission`] is the default: the walk may read the mode itself.
        const PLAIN_PERMISSION = 4;
        /// Nothing about it may change, not even by root.
        const IMMUTABLE = 8;
        /// Written only at the end, never removed.
        const APPEND_ONLY = 16;
        /// Made by `O_TMPFILE` without `O_EXCL`: may get a name although it has no link.
        const LINKABLE = 32;
        /// There was a file lock once: closing must look.
        const HAS_LOCKS = 64;
        /// [`InodeOps::automount`] names a file system.
        const AUTOMOUNT = 128;
    }
}

#[derive(Clone, Copy)]
struct Times {
    atime: Timespec,
    mtime: Timespec,
    ctime: Timespec,
    btime: Timespec,
}

/// A file, directory, link or special file.
pub struct Inode {
    pub ino: u64,
    kind: FileType,
    sb: Weak<SuperBlock>,
    dev: u64,
    ops: Box<dyn InodeOps>,
    mode: AtomicU32,
    uid: AtomicU32,
    gid: AtomicU32,
    nlink: AtomicU32,
    rdev: u64,
    size: AtomicU64,
    blocks: AtomicU64,
    flags: AtomicU32,
    /// More than 0: open for writing that often. Below 0 (as i32): being executed, writers get `ETXTBSY`.
    write_count: AtomicU32,
    times: SpinLock<Times>,
    /// Guards a directory's entries while they change.
    pub dir_lock: RwSemaphore<()>,
    /// Guards a regular file's contents and size while they change.
    pub io_lock: RwSemaphore<()>,
    side: SpinLock<Side>,
}

/// What only few inodes have.
#[derive(Default)]
struct Side {
    locks: Option<Arc<LockTable>>,
    /// A FIFO's pipe, while it is open; belongs to `special`.
    attached: Option<Arc<dyn Any + Send + Sync>>,
}

impl Inode {
    /// Makes an inode of `sb` with link count 1 (2 for a directory), size 0 and all times now.
    pub fn new(sb: &Arc<SuperBlock>, ino: u64, new: &NewInode, ops: Box<dyn InodeOps>) -> Result<Arc<Inode>> {
        Self::with_flags(sb, ino, new, ops, InodeFlags::empty())
    }
    /// As [`Inode::new`]; `PLAIN_PERMISSION` promises that the mode bits decide, which makes walks faster.
    pub fn with_flags(
        sb: &Arc<SuperBlock>,
        ino: u64,
        new: &NewInode,
        ops: Box<dyn InodeOps>,
        flags: InodeFlags,
    ) -> Result<Arc<Inode>> {
        let kind = FileType::from_mode(new.mode).ok_or(Errno::EINVAL)?;
        let now = Timespec::now();
        let nlink = if kind == FileType::Dir { 2 } else { 1 };
        frame::heap::try_arc(Inode {
            ino,
            kind,
            sb: Arc::downgrade(sb),
            dev: sb.dev,
            ops,
            mode: AtomicU32::new(new.mode),
            uid: AtomicU32::new(new.uid),
            gid: AtomicU32::new(new.gid),
            nlink: AtomicU32::new(nlink),
            rdev: new.rdev,
            size: AtomicU64::new(0),
            blocks: AtomicU64::new(0),
            flags: AtomicU32::new(flags.bits()),
            write_count: AtomicU32::new(0),
            times: SpinLock::new(&TIMES_CLASS, Times { atime: now, mtime: now, ctime: now, btime: now }),
            dir_lock: RwSemaphore::new(&DIR_CLASS, ()),
            io_lock: RwSemaphore::new(&IO_CLASS, ()),
            side: SpinLock::new(&SIDE_CLASS, Side::default()),
        })
        .ok_or(Errno::ENOMEM)
    }

    #[inline]
    pub fn kind(&self) -> FileType {
        self.kind
    }
    #[inline]
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Dir
    }
    /// The file system; `None` only while it goes away.
    pub fn sb(&self) -> Option<Arc<SuperBlock>> {
        self.sb.upgrade()
    }
    pub fn dev(&self) -> u64 {
        self.dev
    }
    pub fn rdev(&self) -> u64 {
        self.rdev
    }
    #[inline]
    pub fn ops(&self) -> &dyn InodeOps {
        &*self.ops
    }
    /// The file system's own type behind [`Inode::ops`].
    #[inline]
    pub fn ops_as<T: InodeOps>(&self) -> Option<&T> {
        (&*self.ops as &dyn Any).downcast_ref()
    }
    /// Type and permission bits.
    #[inline]
    pub fn mode(&self) -> u32 {
        self.mode.load(Relaxed)
    }
    pub fn set_mode(&self, mode: u32) {
        self.mode.store(mode, Relaxed);
    }
    pub fn uid(&self) -> u32 {
        self.uid.load(Relaxed)
    }
    pub fn gid(&self) -> u32 {
        self.gid.load(Relaxed)
    }
    pub fn set_owner(&self, uid: u32, gid: u32) {
        self.uid.store(uid, Relaxed);
        self.gid.store(gid, Relaxed);
    }
    pub fn nlink(&self) -> u32 {
        self.nlink.load(Relaxed)
    }
    pub fn set_nlink(&self, n: u32) {
        self.nlink.store(n, Relaxed);
    }
    pub fn inc_nlink(&self) {
        self.nlink.fetch_add(1, Relaxed);
    }
    /// One name less.
    pub fn drop_nlink(&self) {
        let _ = self.nlink.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
    }
    #[inline]
    pub fn size(&self) -> u64 {
        self.size.load(Relaxed)
    }
    pub fn set_size(&self, n: u64) {
        self.size.store(n, Relaxed);
    }
    /// Units of 512 bytes.
    pub fn set_blocks(&self, n: u64) {
        self.blocks.store(n, Relaxed);
    }
    pub fn flags(&self) -> InodeFlags {
        InodeFlags::from_bits_retain(self.flags.load(Relaxed))
    }
    pub fn set_flag(&self, f: InodeFlags) {
        self.flags.fetch_or(f.bits(), Relaxed);
    }
    pub fn clear_flag(&self, f: InodeFlags) {
        self.flags.fetch_and(!f.bits(), Relaxed);
    }
    pub fn is_dead(&self) -> bool {
        self.flags().contains(InodeFlags::DEAD)
    }
    pub fn atime(&self) -> Timespec {
        self.times.lock().atime
    }
    pub fn mtime(&self) -> Timespec {
        self.times.lock().mtime
    }
    pub fn ctime(&self) -> Timespec {
        self.times.lock().ctime
    }
    pub fn set_times(&self, atime: Option<Timespec>, mtime: Option<Timespec>, ctime: Option<Timespec>) {
        let mut t = self.times.lock();
        t.atime = atime.unwrap_or(t.atime);
        t.mtime = mtime.unwrap_or(t.mtime);
        t.ctime = ctime.unwrap_or(t.ctime);
    }
    /// The contents changed now: modification and change time.
    pub fn touch_modified(&self) {
        let now = Timespec::now();
        self.set_times(None, Some(now), Some(now));
    }
    /// The attributes changed now.
    pub fn touch_changed(&self) {
        self.set_times(None, None, Some(Timespec::now()));
    }
    /// A read happened: `relatime` unless `strict`.
    pub(crate) fn touch_accessed(&self, strict: bool) {
        const DAY_S: i64 = 24 * 3600;
        let now = Timespec::now();
        let mut t = self.times.lock();
        if strict || t.atime <= t.mtime || t.atime <= t.ctime || now.sec - t.atime.sec >= DAY_S {
            t.atime = now;
        }
    }

    /// Metadata from the inode's own words.
    pub fn generic_metadata(&self) -> Metadata {
        let t = *self.times.lock();
        Metadata {
            dev: self.dev,
            ino: self.ino,
            mode: self.mode(),
            nlink: self.nlink(),
            uid: self.uid(),
            gid: self.gid(),
            rdev: self.rdev,
            size: self.size(),
            blksize: crate::types::PAGE_SIZE as u32,
            blocks: self.blocks.load(Relaxed),
            atime: t.atime,
            mtime: t.mtime,
            ctime: t.ctime,
            btime: t.btime,
        }
    }
    #[inline]
    pub fn metadata(&self) -> Metadata {
        self.ops.metadata(self)
    }

    /// Changes the words of the inode as `set` says (not the size) and the change time.
    pub fn apply(&self, set: &SetAttr) {
        if let Some(u) = set.uid {
            self.uid.store(u, Relaxed);
        }
        if let Some(g) = set.gid {
            self.gid.store(g, Relaxed);
        }
        if let Some(m) = set.mode {
            self.mode.store((self.mode() & crate::types::S_IFMT) | (m & crate::types::S_IALLUGO), Relaxed);
        }
        let now = Timespec::now();
        let when = |t: Option<SetTime>| {
            t.map(|t| match t {
                SetTime::Now => now,
                SetTime::At(t) => t,
            })
        };
        self.set_times(when(set.atime), when(set.mtime), Some(now));
    }

    /// May `cred` do this, as the file system says?
    pub fn permission(&self, cred: &Cred, want: Access) -> Result<()> {
        if want.contains(Access::WRITE) {
            if self.kind_is_stored() && self.sb().is_some_and(|s| s.is_read_only()) {
                return Err(Errno::EROFS);
            }
            if self.flags().contains(InodeFlags::IMMUTABLE) {
                return Err(Errno::EPERM);
            }
        }
        self.ops.permission(self, cred, want)
    }
    /// True for what a read-only file system protects: regular files, directories, links.
    fn kind_is_stored(&self) -> bool {
        matches!(self.kind, FileType::Regular | FileType::Dir | FileType::Symlink)
    }
    /// May `cred` search this directory? The walk's fast question: if everyone may, no further one is asked.
    #[inline]
    pub(crate) fn may_search(&self, cred: &Cred) -> Result<()> {
        if self.mode() & 0o111 == 0o111 && self.flags().contains(InodeFlags::PLAIN_PERMISSION) {
            return Ok(());
        }
        self.ops.permission(self, cred, Access::EXEC)
    }

    /// The permission bits, then the capabilities that override them.
    pub fn generic_permission(&self, cred: &Cred, want: Access) -> Result<()> {
        let mode = self.mode();
        let bits = if cred.fsuid == self.uid() {
            mode >> 6
        } else if cred.in_group(self.gid()) {
            mode >> 3
        } else {
            mode
        };
        if want.bits() & !bits & 7 == 0 {
            return Ok(());
        }
        if self.is_dir() {
            if !want.contains(Access::WRITE) && cred.has_cap(cap::DAC_READ_SEARCH)
                || cred.has_cap(cap::DAC_OVERRIDE)
            {
                return Ok(());
            }
            return Err(Errno::EACCES);
        }
        if want == Access::READ && cred.has_cap(cap::DAC_READ_SEARCH) {
            return Ok(());
        }
        // Nobody executes what has no execute bit at all.
        if (!want.contains(Access::EXEC) || mode & 0o111 != 0) && cred.has_cap(cap::DAC_OVERRIDE) {
            return Ok(());
        }
        Err(Errno::EACCES)
    }
    /// Is `cred` the owner, or may it act as one?
    pub fn owner_or_capable(&self, cred: &Cred) -> bool {
        cred.fsuid == self.uid() || cred.has_cap(cap::FOWNER)
    }
    /// The mode after an unprivileged write or a change of owner: setuid, and setgid where it means "run as group".
    pub(crate) fn mode_without_privileges(&self) -> Option<u32> {
        let m = self.mode();
        if self.kind != FileType::Regular {
            return None;
        }
        let mut kill = m & S_ISUID;
        if m & (S_ISGID | 0o010) == S_ISGID | 0o010 {
            kill |= S_ISGID;
        }
        (kill != 0).then_some(m & !kill)
    }

    /// Counts one more writer; `ETXTBSY` while the file is executed.
    pub fn get_write_access(&self) -> Result<()> {
        self.write_count
            .fetch_update(Relaxed, Relaxed, |n| ((n as i32) >= 0).then_some(n + 1))
            .map(|_| ())
            .map_err(|_| Errno::ETXTBSY)
    }
    pub fn put_write_access(&self) {
        self.write_count.fetch_sub(1, Relaxed);
    }
    /// Forbids writers while a program runs from this file; `ETXTBSY` while there is one.
    pub fn deny_write_access(&self) -> Result<()> {
        self.write_count
            .fetch_update(Relaxed, Relaxed, |n| ((n as i32) <= 0).then_some(n.wrapping_sub(1)))
            .map(|_| ())
            .map_err(|_| Errno::ETXTBSY)
    }
    pub fn allow_write_access(&self) {
        self.write_count.fetch_add(1, Relaxed);
    }

    /// The table of file locks, made at the first lock.
    pub(crate) fn lock_table(&self) -> Result<Arc<LockTable>> {
        if let Some(t) = self.existing_lock_table() {
            return Ok(t);
        }
        let fresh = frame::heap::try_arc(LockTable::new()).ok_or(Errno::ENOLCK)?;
        Ok(self.side.lock().locks.get_or_insert(fresh).clone())
    }
    pub(crate) fn existing_lock_table(&self) -> Option<Arc<LockTable>> {
        self.side.lock().locks.clone()
    }
    /// What is attached to this inode while it is open (a FIFO's pipe), made by `make` if there is nothing. `make` runs with a
    /// spin lock held.
    pub fn attached_or(
        &self,
        make: impl FnOnce() -> Result<Arc<dyn Any + Send + Sync>>,
    ) -> Result<Arc<dyn Any + Send + Sync>> {
        let mut s = self.side.lock();
        if let Some(a) = &s.attached {
            return Ok(a.clone());
        }
        let a = make()?;
        s.attached = Some(a.clone());
        Ok(a)
    }
    /// Detaches it again.
    pub fn detach(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.side.lock().attached.take()
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        self.ops.evict(self);
    }
}
