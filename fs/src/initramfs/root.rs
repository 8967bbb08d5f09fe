//! The sink that makes the files.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use base::Result as KResult;
use vfs::{
    Ctx, File, FileType, IoSrc, LookupFlags, Metadata, OpenFlags, Path, S_IALLUGO, SetTime, Timespec, makedev,
};

use super::{Error, Header, Sink};

/// The file that is being written.
struct Open {
    file: Arc<File>,
    header: Header,
}

/// See the module.
pub(super) struct RootSink {
    ctx: Ctx,
    open: Option<Open>,
    /// Where the first name of a file with several is, by inode and device in the archive and by type.
    links: BTreeMap<(u32, u32, u32, u32), Vec<u8>>,
    dirs: Vec<(Path, u32)>,
}

impl RootSink {
    pub(super) fn new(ctx: Ctx) -> RootSink {
        RootSink { ctx, open: None, links: BTreeMap::new(), dirs: Vec::new() }
    }
    /// Sets the times of directories, the deepest last made first.
    pub(super) fn finish(&mut self) {
        self.open = None;
        while let Some((p, mtime)) = self.dirs.pop() {
            // The directory may have been replaced meanwhile: nothing is lost by that.
            let _ = self.set_mtime(&p, mtime);
        }
    }
    fn set_mtime(&self, p: &Path, mtime: u32) -> KResult<()> {
        let t = SetTime::At(Timespec { sec: mtime as i64, nsec: 0 });
        vfs::utimens(p, Some(t), Some(t), &self.ctx.cred)
    }
    fn find(&self, name: &[u8]) -> KResult<Path> {
        vfs::lookup(&self.ctx, None, name, LookupFlags::empty())
    }
    /// Removes what has `name` already, unless it is of the type of `mode`.
    fn clean(&self, name: &[u8], mode: u32) {
        let Ok(st) = vfs::stat(&self.ctx, None, name, LookupFlags::empty()) else { return };
        let have: Metadata = st;
        if FileType::from_mode(mode) != FileType::from_mode(have.mode)
            || have.file_type() == FileType::Symlink
        {
            // What cannot be removed makes the entry fail, and that is reported.
            let _ = match have.file_type() {
                FileType::Dir => vfs::rmdir(&self.ctx, None, name),
                _ => vfs::unlink(&self.ctx, None, name),
            };
        }
    }
    /// Makes `name` a further link of a file that came before. True if it is one.
    fn is_link(&mut self, h: &Header, name: &[u8]) -> Result<bool, Error> {
        if h.nlink < 2 {
            return Ok(false);
        }
        let kind = h.mode & vfs::S_IFMT;
        match self.links.get(&(h.major, h.minor, h.ino, kind)) {
            Some(first) => {
                self.clean(name, 0);
                vfs::link(&self.ctx, None, first, None, name, LookupFlags::empty())
                    .map_err(|_| "link failed")?;
                Ok(true)
            }
            None => {
                self.links.insert((h.major, h.minor, h.ino, kind), name.to_vec());
                Ok(false)
            }
        }
    }
    /// Owner, then mode (a change of owner takes setuid away).
    fn own(&self, p: &Path, h: &Header) -> KResult<()> {
        vfs::chown(p, Some(h.uid), Some(h.gid), &self.ctx.cred)?;
        if p.inode().kind() != FileType::Symlink {
            vfs::chmod(p, h.mode & S_IALLUGO, &self.ctx.cred)?;
        }
        Ok(())
    }
}

impl Sink for RootSink {
    fn file(&mut self, h: &Header, name: &[u8]) -> Result<bool, Error> {
        self.clean(name, h.mode);
        let again = self.is_link(h, name)?;
        // Of several names only one carries the data; the others are empty and must not truncate it.
        if again && h.size == 0 {
            return Ok(false);
        }
        let mut flags = OpenFlags::WRONLY | OpenFlags::CREAT | OpenFlags::LARGEFILE;
        if !again {
            flags |= OpenFlags::TRUNC;
        }
        // As Linux: a file that cannot be made (a missing directory) is left out.
        let Ok(file) = vfs::open(&self.ctx, None, name, flags, h.mode & S_IALLUGO) else { return Ok(false) };
        let _ = self.own(file.path(), h);
        self.open = Some(Open { file, header: *h });
        Ok(true)
    }
    fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(o) = &self.open else { return Ok(()) };
        match o.file.write(&mut IoSrc::kernel(bytes)) {
            Ok(n) if n == bytes.len() => Ok(()),
            _ => Err("write error"),
        }
    }
    fn end_file(&mut self) -> Result<(), Error> {
        if let Some(o) = self.open.take() {
            // Writing took setuid away from nobody: root writes. Only the time is left.
            let _ = self.set_mtime(o.file.path(), o.header.mtime);
        }
        Ok(())
    }
    fn symlink(&mut self, h: &Header, name: &[u8], target: &[u8]) -> Result<(), Error> {
        self.clean(name, 0);
        if vfs::symlink(&self.ctx, target, None, name).is_ok()
            && let Ok(p) = self.find(name)
        {
            let _ = self.own(&p, h);
            let _ = self.set_mtime(&p, h.mtime);
        }
        Ok(())
    }
    fn node(&mut self, h: &Header, name: &[u8]) -> Result<(), Error> {
        let Some(kind) = FileType::from_mode(h.mode) else { return Ok(()) };
        self.clean(name, h.mode);
        let perm = h.mode & S_IALLUGO;
        if kind == FileType::Dir {
            // It may be there already.
            let _ = vfs::mkdir(&self.ctx, None, name, perm);
            if let Ok(p) = self.find(name) {
                let _ = self.own(&p, h);
                self.dirs.try_reserve(1).map_err(|_| "can't allocate buffers")?;
                self.dirs.push((p, h.mtime));
            }
            return Ok(());
        }
        if self.is_link(h, name)? {
            return Ok(());
        }
        let rdev = makedev(h.rdev_major, h.rdev_minor);
        let _ = vfs::mknod(&self.ctx, None, name, h.mode, rdev);
        if let Ok(p) = self.find(name) {
            let _ = self.own(&p, h);
            let _ = self.set_mtime(&p, h.mtime);
        }
        Ok(())
    }
    fn trailer(&mut self) -> Result<(), Error> {
        self.links.clear();
        Ok(())
    }
}
