//! What tmpfs answers for an inode.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use base::{Errno, Result, cred::Cred};
use frame::sync::{LockClass, SpinLock};
use mm::MapObject;
use vfs::{
    FileOps, FileType, Inode, InodeOps, Link, NewInode, OpenFlags, RenameFlags, SetAttr, SuperBlock,
    inode::Rename,
};

use super::{
    Shared,
    dir::{self, Dir},
    make_inode,
    pages::Pages,
};

static DIR_CLASS: LockClass = LockClass::new("tmpfs_dir");
static XATTR_CLASS: LockClass = LockClass::new("tmpfs_xattr");

/// Linux's `SHORT_SYMLINK_LEN`: a longer target, its NUL counted, is charged a page.
const SHORT_LINK: usize = 128;

enum Data {
    File(Arc<Pages>),
    Dir(SpinLock<Dir>),
    Link(Arc<[u8]>),
    Special,
}

type Xattr = (Box<[u8]>, Vec<u8>);

/// The tmpfs part of an inode.
pub(super) struct TmpNode {
    shared: Arc<Shared>,
    data: Data,
    xattrs: SpinLock<Vec<Xattr>>,
}

impl TmpNode {
    pub(super) fn new(
        shared: &Arc<Shared>,
        kind: FileType,
        dev: u64,
        ino: u64,
        target: Option<&[u8]>,
    ) -> Result<TmpNode> {
        shared.inodes.charge(1)?;
        let made = Self::data(shared, kind, dev, ino, target);
        let data = made.inspect_err(|_| shared.inodes.give_back(1))?;
        Ok(TmpNode { shared: shared.clone(), data, xattrs: SpinLock::new(&XATTR_CLASS, Vec::new()) })
    }
    fn data(shared: &Arc<Shared>, kind: FileType, dev: u64, ino: u64, target: Option<&[u8]>) -> Result<Data> {
        Ok(match (kind, target) {
            (FileType::Regular, _) => Data::File(Pages::new(shared, dev, ino)?),
            (FileType::Dir, _) => Data::Dir(SpinLock::new(&DIR_CLASS, Dir::default())),
            (FileType::Symlink, Some(t)) => {
                if t.len() + 1 > SHORT_LINK {
                    shared.pages.charge(1)?;
                }
                // At most a page (PATH_MAX), charged above.
                Data::Link(Arc::from(t))
            }
            (FileType::Symlink, None) => return Err(Errno::EINVAL),
            _ => Data::Special,
        })
    }
    pub(super) fn pages(&self) -> Result<&Arc<Pages>> {
        match &self.data {
            Data::File(p) => Ok(p),
            _ => Err(Errno::EINVAL),
        }
    }
    pub(super) fn dir(&self) -> Result<&SpinLock<Dir>> {
        match &self.data {
            Data::Dir(d) => Ok(d),
            _ => Err(Errno::ENOTDIR),
        }
    }
    /// Makes an inode and names it.
    fn add(
        &self,
        dir: &Arc<Inode>,
        name: &[u8],
        new: &NewInode,
        target: Option<&[u8]>,
    ) -> Result<Arc<Inode>> {
        let sb = dir.sb().ok_or(Errno::EIO)?;
        let inode = make_inode(&sb, &self.shared, new, target)?;
        self.insert(dir, name, &inode)?;
        if inode.is_dir() {
            dir.inc_nlink();
        }
        Ok(inode)
    }
    fn insert(&self, dir: &Inode, name: &[u8], inode: &Arc<Inode>) -> Result<()> {
        let len = {
            let mut d = self.dir()?.lock();
            d.insert(name, inode.clone())?;
            d.len()
        };
        dir.set_size(dir::size_of(len as u64));
        dir.touch_modified();
        Ok(())
    }
    /// Takes a name away; the inode comes back so that it is dropped outside the lock.
    fn take(&self, dir: &Inode, name: &[u8]) -> Result<Arc<Inode>> {
        let (gone, len) = {
            let mut d = self.dir()?.lock();
            (d.remove(name), d.len())
        };
        dir.set_size(dir::size_of(len as u64));
        dir.touch_modified();
        gone.ok_or(Errno::ENOENT)
    }
    /// A name of `victim` is gone.
    fn dropped(&self, victim: &Inode) {
        if victim.nlink() > 1 && !victim.is_dir() {
            self.shared.inodes.give_back(1);
        }
        victim.drop_nlink();
        victim.touch_changed();
    }
}

impl Drop for TmpNode {
    fn drop(&mut self) {
        if let Data::Link(t) = &self.data
            && t.len() + 1 > SHORT_LINK
        {
            self.shared.pages.give_back(1);
        }
        self.shared.inodes.give_back(1);
        // A deep tree is taken apart level by level, not by recursion through the drops of its inodes.
        if let Data::Dir(d) = &mut self.data {
            let mut todo = alloc::vec![d.get_mut().clear()];
            while let Some(d) = todo.pop() {
                for i in d.into_inodes() {
                    if let Some(i) = Arc::into_inner(i)
                        && let Some(n) = i.ops_as::<TmpNode>()
                        && let Data::Dir(inner) = &n.data
                    {
                        todo.push(inner.lock().clear());
                    }
                }
            }
        }
    }
}

impl InodeOps for TmpNode {
    fn lookup(&self, _dir: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        self.dir()?.lock().get(name).cloned().ok_or(Errno::ENOENT)
    }
    fn create(&self, dir: &Arc<Inode>, name: &[u8], new: &NewInode) -> Result<Arc<Inode>> {
        self.add(dir, name, new, None)
    }
    fn mkdir(&self, dir: &Arc<Inode>, name: &[u8], new: &NewInode) -> Result<Arc<Inode>> {
        self.add(dir, name, new, None)
    }
    fn mknod(&self, dir: &Arc<Inode>, name: &[u8], new: &NewInode) -> Result<Arc<Inode>> {
        self.add(dir, name, new, None)
    }
    fn symlink(&self, dir: &Arc<Inode>, name: &[u8], target: &[u8], new: &NewInode) -> Result<Arc<Inode>> {
        self.add(dir, name, new, Some(target))
    }
    fn tmpfile(&self, dir: &Arc<Inode>, new: &NewInode) -> Result<Arc<Inode>> {
        let sb: Arc<SuperBlock> = dir.sb().ok_or(Errno::EIO)?;
        let inode = make_inode(&sb, &self.shared, new, None)?;
        inode.set_nlink(0);
        Ok(inode)
    }
    fn link(&self, dir: &Arc<Inode>, name: &[u8], to: &Arc<Inode>) -> Result<()> {
        // The first name of a temporary file is paid for already.
        let extra = to.nlink() > 0;
        if extra {
            self.shared.inodes.charge(1)?;
        }
        self.insert(dir, name, to).inspect_err(|_| {
            if extra {
                self.shared.inodes.give_back(1);
            }
        })?;
        to.inc_nlink();
        to.touch_changed();
        Ok(())
    }
    fn unlink(&self, dir: &Arc<Inode>, name: &[u8], victim: &Arc<Inode>) -> Result<()> {
        let gone = self.take(dir, name)?;
        self.dropped(victim);
        drop(gone);
        Ok(())
    }
    fn rmdir(&self, dir: &Arc<Inode>, name: &[u8], victim: &Arc<Inode>) -> Result<()> {
        if super::node(victim)?.dir()?.lock().len() > 0 {
            return Err(Errno::ENOTEMPTY);
        }
        let gone = self.take(dir, name)?;
        victim.set_nlink(0);
        victim.touch_changed();
        dir.drop_nlink();
        drop(gone);
        Ok(())
    }
    fn rename(&self, r: &Rename<'_>) -> Result<()> {
        let (from, to) = (self, super::node(r.new_dir)?);
        let crossing = !Arc::ptr_eq(r.old_dir, r.new_dir);
        let is_dir = |i: &Inode| i.is_dir();
        if r.flags.contains(RenameFlags::EXCHANGE) {
            let target = r.target.ok_or(Errno::ENOENT)?;
            let a = from.dir()?.lock().replace(r.old_name, target.clone());
            let b = to.dir()?.lock().replace(r.new_name, r.old.clone());
            drop((a, b));
            if crossing && is_dir(r.old) != is_dir(target) {
                let (gains, loses) =
                    if is_dir(r.old) { (r.new_dir, r.old_dir) } else { (r.old_dir, r.new_dir) };
                gains.inc_nlink();
                loses.drop_nlink();
            }
            target.touch_changed();
            r.new_dir.touch_modified();
        } else if let Some(target) = r.target {
            if is_dir(target) {
                if super::node(target)?.dir()?.lock().len() > 0 {
                    return Err(Errno::ENOTEMPTY);
                }
                target.set_nlink(0);
                target.touch_changed();
                // One subdirectory less; the one that comes in its place is counted below.
                r.new_dir.drop_nlink();
            } else {
                self.dropped(target);
            }
            let old = to.dir()?.lock().replace(r.new_name, r.old.clone());
            drop(old);
            drop(from.take(r.old_dir, r.old_name)?);
            r.new_dir.touch_modified();
            if is_dir(r.old) {
                r.old_dir.drop_nlink();
                r.new_dir.inc_nlink();
            }
        } else {
            to.insert(r.new_dir, r.new_name, r.old)?;
            drop(from.take(r.old_dir, r.old_name)?);
            if crossing && is_dir(r.old) {
                r.old_dir.drop_nlink();
                r.new_dir.inc_nlink();
            }
        }
        r.old.touch_changed();
        r.old_dir.touch_modified();
        Ok(())
    }
    fn get_link(&self, _inode: &Arc<Inode>) -> Result<Link> {
        match &self.data {
            Data::Link(t) => Ok(Link::Text(t.clone())),
            _ => Err(Errno::EINVAL),
        }
    }
    fn setattr(&self, inode: &Arc<Inode>, set: &SetAttr) -> Result<()> {
        if let Some(size) = set.size {
            self.pages()?.set_size(inode, size)?;
        }
        inode.apply(set);
        Ok(())
    }
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        match &self.data {
            Data::File(_) => Ok(self.shared.file_ops.clone()),
            Data::Dir(_) => Ok(self.shared.dir_ops.clone()),
            _ => Err(Errno::ENXIO),
        }
    }
    fn map_object(&self, _inode: &Arc<Inode>) -> Option<Arc<dyn MapObject>> {
        Some(self.pages().ok()?.clone())
    }
    fn get_xattr(&self, _inode: &Arc<Inode>, name: &[u8]) -> Result<Vec<u8>> {
        known_xattr(name)?;
        let x = self.xattrs.lock();
        x.iter().find(|(n, _)| **n == *name).map(|(_, v)| v.clone()).ok_or(Errno::ENODATA)
    }
    fn set_xattr(&self, inode: &Arc<Inode>, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        const CREATE: u32 = 1;
        const REPLACE: u32 = 2;
        /// All values of an inode together: nobody pays for them, so they must stay few.
        const MAX_TOTAL: usize = 128 * 1024;
        known_xattr(name)?;
        let mut v = Vec::new();
        let mut key = Vec::new();
        v.try_reserve_exact(value.len()).map_err(|_| Errno::ENOMEM)?;
        v.extend_from_slice(value);
        key.try_reserve_exact(name.len()).map_err(|_| Errno::ENOMEM)?;
        key.extend_from_slice(name);
        let old;
        {
            let mut x = self.xattrs.lock();
            let total: usize = x.iter().filter(|(n, _)| **n != *name).map(|(n, v)| n.len() + v.len()).sum();
            if total + name.len() + value.len() > MAX_TOTAL {
                return Err(Errno::ENOSPC);
            }
            match x.iter_mut().find(|(n, _)| **n == *name) {
                Some(_) if flags & CREATE != 0 => return Err(Errno::EEXIST),
                Some((_, have)) => old = core::mem::replace(have, v),
                None if flags & REPLACE != 0 => return Err(Errno::ENODATA),
                None => {
                    x.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                    x.push((key.into_boxed_slice(), v));
                    old = Vec::new();
                }
            }
        }
        drop(old);
        inode.touch_changed();
        Ok(())
    }
    fn remove_xattr(&self, inode: &Arc<Inode>, name: &[u8]) -> Result<()> {
        known_xattr(name)?;
        let gone = {
            let mut x = self.xattrs.lock();
            let i = x.iter().position(|(n, _)| **n == *name).ok_or(Errno::ENODATA)?;
            x.swap_remove(i)
        };
        drop(gone);
        inode.touch_changed();
        Ok(())
    }
    fn list_xattr(&self, _inode: &Arc<Inode>) -> Result<Vec<u8>> {
        let x = self.xattrs.lock();
        let mut v = Vec::new();
        v.try_reserve(x.iter().map(|(n, _)| n.len() + 1).sum()).map_err(|_| Errno::ENOMEM)?;
        for (n, _) in x.iter() {
            v.extend_from_slice(n);
            v.push(0);
        }
        Ok(v)
    }
}

/// Name spaces that tmpfs keeps (xattr(7)).
fn known_xattr(name: &[u8]) -> Result<()> {
    let known = [&b"user."[..], b"trusted.", b"security."];
    if known.iter().any(|p| name.starts_with(p) && name.len() > p.len()) {
        Ok(())
    } else {
        Err(Errno::EOPNOTSUPP)
    }
}
