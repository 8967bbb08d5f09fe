//! Reading, writing and seeking: the checks that do not depend on the file system.

use alloc::sync::Arc;

use base::{Errno, Result, cred::cap};
use frame::atomic::Ordering::Relaxed;
use linux_raw_sys::general::{SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET};

use crate::{
    file::{DirSink, File, FileKind},
    inode::SetAttr,
    io::{IoDst, IoSrc},
    mount::MountFlags,
    types::{FileType, MAX_OFFSET, OpenFlags},
};

impl File {
    /// read(2), readv(2).
    pub fn read(&self, dst: &mut IoDst<'_>) -> Result<usize> {
        self.may_read()?;
        if self.kind() == FileKind::Stream {
            return self.ops().read_at(self, 0, dst);
        }
        let _one = self.moving.lock();
        let pos = self.position();
        let n = self.read_from(pos, dst)?;
        self.pos.store(pos + n as u64, Relaxed);
        Ok(n)
    }
    /// pread(2), preadv(2).
    pub fn pread(&self, off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        if off > MAX_OFFSET {
            return Err(Errno::EINVAL);
        }
        if self.kind() == FileKind::Stream {
            return Err(Errno::ESPIPE);
        }
        self.may_read()?;
        self.read_from(off, dst)
    }
    /// write(2), writev(2).
    pub fn write(&self, src: &mut IoSrc<'_>) -> Result<usize> {
        self.may_write()?;
        if self.kind() == FileKind::Stream {
            return self.ops().write_at(self, 0, src);
        }
        let _one = self.moving.lock();
        let (n, end) = self.write_to(self.position(), src)?;
        self.pos.store(end, Relaxed);
        Ok(n)
    }
    /// pwrite(2), pwritev(2).
    pub fn pwrite(&self, off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        if off > MAX_OFFSET {
            return Err(Errno::EINVAL);
        }
        if self.kind() == FileKind::Stream {
            return Err(Errno::ESPIPE);
        }
        self.may_write()?;
        self.write_to(off, src).map(|(n, _)| n)
    }

    fn may_read(&self) -> Result<()> {
        if self.flags().readable() { Ok(()) } else { Err(Errno::EBADF) }
    }
    fn may_write(&self) -> Result<()> {
        if self.flags().writable() { Ok(()) } else { Err(Errno::EBADF) }
    }

    fn read_from(&self, off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        if self.inode().is_dir() {
            return Err(Errno::EISDIR);
        }
        let n = self.ops().read_at(self, off, dst)?;
        self.touch_accessed();
        Ok(n)
    }
    pub(crate) fn touch_accessed(&self) {
        let m = self.path().mount.flags();
        let inode = self.inode();
        if self.flags().contains(OpenFlags::NOATIME)
            || m.contains(MountFlags::NOATIME)
            || m.contains(MountFlags::NODIRATIME) && inode.is_dir()
            || inode.flags().contains(crate::inode::InodeFlags::NOATIME)
            || self.path().mount.is_read_only()
        {
            return;
        }
        inode.touch_accessed(!m.contains(MountFlags::RELATIME));
    }
    /// Returns how much was written and the position after it.
    fn write_to(&self, off: u64, src: &mut IoSrc<'_>) -> Result<(usize, u64)> {
        let inode = self.inode();
        if inode.kind() != FileType::Regular || !self.ops().has_contents() {
            let n = self.ops().write_at(self, off, src)?;
            return Ok((n, off + n as u64));
        }
        let _io = inode.io_lock.write();
        let off = if self.flags().contains(OpenFlags::APPEND) { inode.size() } else { off };
        if src.is_empty() {
            return Ok((0, off));
        }
        if off > MAX_OFFSET - src.len() as u64 {
            return Err(Errno::EFBIG);
        }
        if let Some(mode) = inode.mode_without_privileges()
            && !self.cred().has_cap(cap::FSETID)
        {
            inode.ops().setattr(inode, &SetAttr { mode: Some(mode), ..SetAttr::default() })?;
        }
        let n = self.ops().write_at(self, off, src)?;
        Ok((n, off + n as u64))
    }

    /// lseek(2).
    pub fn lseek(&self, offset: i64, whence: u32) -> Result<u64> {
        if self.kind() == FileKind::Stream {
            return Err(Errno::ESPIPE);
        }
        let _one = self.moving.lock();
        let new = self.ops().llseek(self, self.position(), offset, whence)?;
        self.pos.store(new, Relaxed);
        Ok(new)
    }
    /// The position now.
    pub fn position(&self) -> u64 {
        self.pos.load(Relaxed)
    }
    /// Moves the position on (sendfile).
    pub fn set_position(&self, p: u64) {
        let _one = self.moving.lock();
        self.pos.store(p, Relaxed);
    }
    /// getdents(2).
    pub fn readdir(&self, sink: &mut dyn DirSink) -> Result<()> {
        let inode = self.inode();
        if !inode.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        let _one = self.moving.lock();
        if inode.is_dead() {
            return Err(Errno::ENOENT);
        }
        let new = {
            let _dir = inode.dir_lock.read();
            self.ops().readdir(self, self.position(), sink)?
        };
        self.pos.store(new, Relaxed);
        self.touch_accessed();
        Ok(())
    }
    /// fsync(2), fdatasync(2).
    pub fn fsync(&self, data_only: bool) -> Result<()> {
        self.ops().fsync(self, data_only)
    }
    /// ftruncate(2).
    pub fn truncate(self: &Arc<File>, size: u64) -> Result<()> {
        if size > MAX_OFFSET {
            return Err(Errno::EINVAL);
        }
        if self.inode().kind() != FileType::Regular || !self.flags().writable() {
            return Err(Errno::EINVAL);
        }
        crate::attr::set_size(self.inode(), size, self.cred())
    }
    /// fallocate(2).
    pub fn fallocate(&self, mode: u32, off: i64, len: i64) -> Result<()> {
        if off < 0 || len <= 0 {
            return Err(Errno::EINVAL);
        }
        if !self.flags().writable() {
            return Err(Errno::EBADF);
        }
        match self.inode().kind() {
            FileType::Regular | FileType::Block => {}
            FileType::Fifo => return Err(Errno::ESPIPE),
            FileType::Dir => return Err(Errno::EISDIR),
            _ => return Err(Errno::ENODEV),
        }
        if off.checked_add(len).is_none() {
            return Err(Errno::EFBIG);
        }
        let _io = self.inode().io_lock.write();
        self.ops().fallocate(self, mode, off as u64, len as u64)
    }
}

/// The usual meaning of a seek. `SEEK_DATA` and `SEEK_HOLE` see one piece of data up to the end.
pub fn generic_llseek(current: u64, size: u64, offset: i64, whence: u32) -> Result<u64> {
    let base = match whence {
        SEEK_SET => 0,
        SEEK_CUR => current as i64,
        SEEK_END => size as i64,
        SEEK_DATA | SEEK_HOLE => {
            if offset < 0 || offset as u64 >= size {
                return Err(Errno::ENXIO);
            }
            return Ok(if whence == SEEK_DATA { offset as u64 } else { size });
        }
        _ => return Err(Errno::EINVAL),
    };
    match base.checked_add(offset) {
        None => Err(Errno::EOVERFLOW),
        Some(n) if n < 0 => Err(Errno::EINVAL),
        Some(n) => Ok(n as u64),
    }
}
