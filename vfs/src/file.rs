//! Open files.
//!
//! A [`File`] is what open(2) makes and what dup(2), fork(2) and `SCM_RIGHTS` share: a place, a position, flags. Its behaviour
//! is a [`FileOps`], which may be one object for all files of a file system; it finds what it needs through the file.

use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};
use core::any::Any;

use base::{Errno, Result, cred::Cred};
use frame::{
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    page::PageRef,
    sync::{LockClass, Mutex, SpinLock},
};
use mm::MapObject;

use crate::{
    epoll,
    file_limits::Counted,
    inode::Inode,
    io::{IoDst, IoSrc},
    locks,
    path::Path,
    poll::{PollFlags, PollTable},
    types::{FileType, OpenFlags},
};

static POS_CLASS: LockClass = LockClass::new("file_pos");
static WATCHERS_CLASS: LockClass = LockClass::new("file_watchers");

/// How a file's position behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// It has a position; reads and writes move it, seeks set it.
    Seekable,
    /// It has none: `ESPIPE`, and offsets are ignored.
    Stream,
}

/// Takes directory entries one by one.
pub trait DirSink {
    /// `next` is the position after this entry. False: no more room, this entry was not taken.
    fn emit(&mut self, name: &[u8], ino: u64, dtype: u8, next: u64) -> bool;
}

/// What an open file does. Called in task context, without locks unless said.
pub trait FileOps: Send + Sync + Any {
    fn kind(&self) -> FileKind {
        FileKind::Seekable
    }
    /// Reads at `off` until `dst` is full or there is no more; 0 is the end.
    fn read_at(&self, _file: &File, _off: u64, _dst: &mut IoDst<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }
    /// Writes at `off`. For regular files with contents `io_lock` is held exclusively and `off` is already the end
    /// for `O_APPEND`.
    fn write_at(&self, _file: &File, _off: u64, _src: &mut IoSrc<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }
    /// False for a file whose text is a question and not its contents (a knob): what is written is handed over without `io_lock`, so
    /// that a write which takes for ever does not keep others from the file.
    fn has_contents(&self) -> bool {
        true
    }
    /// Gives entries from position `pos` on until the sink is full; returns the new position. `dir_lock` is held shared.
    fn readdir(&self, _file: &File, _pos: u64, _sink: &mut dyn DirSink) -> Result<u64> {
        Err(Errno::ENOTDIR)
    }
    fn ioctl(&self, _file: &File, _cmd: u32, _arg: usize) -> Result<usize> {
        Err(Errno::ENOTTY)
    }
    /// What is ready now. With a table, first registers on every queue that announces a change.
    fn poll(&self, _file: &File, _table: Option<&mut PollTable>) -> PollFlags {
        PollFlags::DEFAULT
    }
    /// False: epoll refuses the file (`EPERM`), as it does regular files and directories.
    fn can_poll(&self) -> bool {
        false
    }
    /// The pages, for mmap.
    fn map_object(&self, file: &File) -> Result<Arc<dyn MapObject>> {
        file.inode().ops().map_object(file.inode()).ok_or(Errno::ENODEV)
    }
    fn fsync(&self, _file: &File, _data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }
    /// The position after a seek, given the current one. The caller holds the position.
    fn llseek(&self, file: &File, current: u64, offset: i64, whence: u32) -> Result<u64> {
        crate::file_io::generic_llseek(current, file.metadata_size(), offset, whence)
    }
    fn fallocate(&self, _file: &File, _mode: u32, _off: u64, _len: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// One descriptor was closed; its error is close's.
    fn flush(&self, _file: &File) -> Result<()> {
        Ok(())
    }
    /// The last reference is gone.
    fn release(&self, _file: &File) {}
    /// The page at `off` as it is now, for sending without a copy. `None` where there is none to lend.
    fn lend_page(&self, _file: &File, _off: u64) -> Option<PageRef> {
        None
    }
    /// Takes over `len` bytes at `off` of a page into a stream. `None`: copy instead.
    fn take_page(&self, _file: &File, _page: &PageRef, _off: usize, _len: usize) -> Option<Result<usize>> {
        None
    }
    /// `O_NONBLOCK` and others changed.
    fn flags_changed(&self, _file: &File, _new: OpenFlags) -> Result<()> {
        Ok(())
    }
    /// Lines for `/proc/PID/fdinfo/N` beyond the common ones.
    fn fdinfo(&self, _file: &File, _out: &mut alloc::string::String) {}
}

/// An open file.
pub struct File {
    path: Path,
    ops: Arc<dyn FileOps>,
    kind: FileKind,
    flags: AtomicU32,
    /// Where read and write go on. Changed under `moving`; looked at without, for a file in `/proc` may ask while it is itself read.
    pub(crate) pos: AtomicU64,
    pub(crate) moving: Mutex<()>,
    cred: Arc<Cred>,
    /// This file counts as a writer of its mount and inode.
    counted_writer: bool,
    watchers: SpinLock<Vec<Weak<epoll::Item>>>,
    /// Some lock of `locks` may belong to this file.
    pub(crate) may_hold_locks: AtomicU32,
    _counted: Counted,
}

impl File {
    /// An open file. `counted_writer` says that `begin_write` of the mount and `get_write_access` of the inode were called for it.
    pub(crate) fn build(
        path: Path,
        ops: Arc<dyn FileOps>,
        flags: OpenFlags,
        cred: &Arc<Cred>,
        counted_writer: bool,
    ) -> Result<Arc<File>> {
        let kept = flags
            - (OpenFlags::CREAT
                | OpenFlags::EXCL
                | OpenFlags::NOCTTY
                | OpenFlags::TRUNC
                | OpenFlags::CLOEXEC);
        let kind = ops.kind();
        let counted = Counted::new(cred)?;
        frame::heap::try_arc(File {
            path,
            kind,
            ops,
            flags: AtomicU32::new(kept.bits()),
            pos: AtomicU64::new(0),
            moving: Mutex::new(&POS_CLASS, ()),
            cred: cred.clone(),
            counted_writer,
            watchers: SpinLock::new(&WATCHERS_CLASS, Vec::new()),
            may_hold_locks: AtomicU32::new(0),
            _counted: counted,
        })
        .ok_or(Errno::ENOMEM)
    }
    /// A file with the given operations at a place that the caller made (anonymous files, pipes, sockets).
    pub fn new(path: Path, ops: Arc<dyn FileOps>, flags: OpenFlags, cred: &Arc<Cred>) -> Result<Arc<File>> {
        Self::build(path, ops, flags, cred, false)
    }
    #[inline]
    pub fn path(&self) -> &Path {
        &self.path
    }
    #[inline]
    pub fn inode(&self) -> &Arc<Inode> {
        self.path.inode()
    }
    #[inline]
    pub fn ops(&self) -> &Arc<dyn FileOps> {
        &self.ops
    }
    /// The type behind [`File::ops`].
    #[inline]
    pub fn ops_as<T: FileOps>(&self) -> Option<&T> {
        (&*self.ops as &dyn Any).downcast_ref()
    }
    #[inline]
    pub fn kind(&self) -> FileKind {
        self.kind
    }
    #[inline]
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Relaxed))
    }
    /// Who opened it: later checks use these credentials.
    pub fn cred(&self) -> &Arc<Cred> {
        &self.cred
    }
    pub fn is_nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }
    /// Opened with `O_PATH`: a place, not a file to read or write.
    #[inline]
    pub fn is_path_only(&self) -> bool {
        self.flags().contains(OpenFlags::PATH)
    }
    /// `F_SETFL`: sets those flags that may change.
    pub fn set_flags(&self, new: OpenFlags) -> Result<()> {
        let old = self.flags();
        // NOATIME is for owners alone, also later.
        if new.contains(OpenFlags::NOATIME)
            && !old.contains(OpenFlags::NOATIME)
            && !self.inode().owner_or_capable(&self.cred)
        {
            return Err(Errno::EPERM);
        }
        if self.inode().flags().contains(crate::inode::InodeFlags::APPEND_ONLY)
            && old.contains(OpenFlags::APPEND)
            && !new.contains(OpenFlags::APPEND)
        {
            return Err(Errno::EPERM);
        }
        self.ops.flags_changed(self, new)?;
        self.flags.store(((new & OpenFlags::SETFL) | (old - OpenFlags::SETFL)).bits(), Relaxed);
        Ok(())
    }
    /// The size that `SEEK_END` counts from.
    pub(crate) fn metadata_size(&self) -> u64 {
        match self.inode().kind() {
            FileType::Regular | FileType::Dir => self.inode().metadata().size,
            _ => self.inode().size(),
        }
    }
    pub fn poll(&self, table: Option<&mut PollTable>) -> PollFlags {
        self.ops.poll(self, table)
    }
    /// Remembers that an epoll instance watches this file.
    pub(crate) fn add_watcher(&self, item: &Arc<epoll::Item>) -> Result<()> {
        let mut w = self.watchers.lock();
        w.retain(|i| i.strong_count() > 0);
        w.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        w.push(Arc::downgrade(item));
        Ok(())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let watchers = core::mem::take(self.watchers.get_mut());
        for item in watchers.iter().filter_map(Weak::upgrade) {
            epoll::forget(&item);
        }
        if self.may_hold_locks.load(Relaxed) != 0 {
            locks::file_closed(self);
        }
        if !self.is_path_only() {
            self.ops.release(self);
        }
        if self.counted_writer {
            self.inode().put_write_access();
            self.path.mount.end_write();
        }
    }
}

impl core::fmt::Debug for File {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "File({:?})", self.path)
    }
}

/// Emits `.` and `..` for a directory whose other entries begin at position 2. False: the sink is full.
pub fn emit_dots(file: &File, pos: u64, sink: &mut dyn DirSink) -> bool {
    const DT_DIR: u8 = FileType::Dir.dtype();
    let inode = file.inode();
    if pos == 0 && !sink.emit(b".", inode.ino, DT_DIR, 1) {
        return false;
    }
    let up = file.path().dentry.parent().map_or(inode.ino, |p| p.inode().ino);
    pos >= 2 || sink.emit(b"..", up, DT_DIR, 2)
}
