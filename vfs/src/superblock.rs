//! A mounted file system, and the list of the kinds that exist.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};

use base::{Errno, Result};
use bitflags::bitflags;
use frame::{
    atomic::{
        AtomicU32,
        Ordering::{Relaxed, SeqCst},
    },
    sync::{LockClass, RwSemaphore, SpinLock},
};

use crate::{dentry::Dentry, inode::Inode, types::makedev};

static ROOT_CLASS: LockClass = LockClass::new("sb_root");
static NAMES_CLASS: LockClass = LockClass::new("sb_names");
static TYPES_CLASS: LockClass = LockClass::new("file_systems");
static MINORS_CLASS: LockClass = LockClass::new("anon_minors");

/// What statfs shows.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct StatFs {
    /// The file system's magic number (`f_type`).
    pub magic: u64,
    pub bsize: u32,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub fsid: [u32; 2],
    pub namelen: u32,
    pub frsize: u32,
    /// `ST_*` flags: of the mount and the file system.
    pub flags: u64,
}

/// What a file system answers as a whole.
pub trait SuperOps: Send + Sync {
    /// Fills in sizes; the magic number, the name length and block size of a page are there already.
    fn statfs(&self, _st: &mut StatFs) -> Result<()> {
        Ok(())
    }
    /// Options as `/proc/mounts` shows them, each with a leading comma.
    fn show_options(&self, _out: &mut String) {}
    /// New options at `mount -o remount`.
    fn remount(&self, _read_only: bool, _data: &[u8]) -> Result<()> {
        Ok(())
    }
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    /// The last mount is gone and with it the dentry tree.
    fn kill(&self) {}
}

/// A file system in use.
pub struct SuperBlock {
    /// Kernel-internal device number: of the disk, or an anonymous one (major 0).
    pub dev: u64,
    pub magic: u64,
    fs_name: &'static str,
    ops: Box<dyn SuperOps>,
    read_only: AtomicU32,
    anonymous: bool,
    /// Shared: one directory changes (under its `dir_lock`). Exclusive: rename and rmdir.
    pub names: RwSemaphore<()>,
    root: SpinLock<Option<Arc<Dentry>>>,
    mounts: AtomicU32,
}

impl SuperBlock {
    /// A file system without a disk; gets the next free anonymous device number.
    pub fn anonymous(
        fs_name: &'static str,
        magic: u64,
        read_only: bool,
        ops: Box<dyn SuperOps>,
    ) -> Result<Arc<SuperBlock>> {
        Self::build(fs_name, magic, makedev(0, take_minor()?), true, read_only, ops)
    }
    /// A file system on the block device `dev`.
    pub fn on_device(
        fs_name: &'static str,
        magic: u64,
        dev: u64,
        read_only: bool,
        ops: Box<dyn SuperOps>,
    ) -> Result<Arc<SuperBlock>> {
        Self::build(fs_name, magic, dev, false, read_only, ops)
    }
    fn build(
        fs_name: &'static str,
        magic: u64,
        dev: u64,
        anonymous: bool,
        read_only: bool,
        ops: Box<dyn SuperOps>,
    ) -> Result<Arc<SuperBlock>> {
        frame::heap::try_arc(SuperBlock {
            dev,
            magic,
            fs_name,
            ops,
            read_only: AtomicU32::new(read_only as u32),
            anonymous,
            names: RwSemaphore::new(&NAMES_CLASS, ()),
            root: SpinLock::new(&ROOT_CLASS, None),
            mounts: AtomicU32::new(0),
        })
        .ok_or(Errno::ENOMEM)
    }
    /// Sets the root directory; part of mounting.
    pub fn set_root(&self, inode: Arc<Inode>) -> Result<()> {
        let d = Dentry::new_root(inode)?;
        *self.root.lock() = Some(d);
        Ok(())
    }
    /// The root, until the last mount goes.
    pub fn root(&self) -> Option<Arc<Dentry>> {
        self.root.lock().clone()
    }
    pub fn fs_name(&self) -> &'static str {
        self.fs_name
    }
    pub fn ops(&self) -> &dyn SuperOps {
        &*self.ops
    }
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(SeqCst) != 0
    }
    pub(crate) fn set_read_only(&self, ro: bool) {
        self.read_only.store(ro as u32, SeqCst);
    }
    pub fn statfs(&self) -> Result<StatFs> {
        let mut st = StatFs {
            magic: self.magic,
            bsize: 4096,
            frsize: 4096,
            namelen: crate::types::NAME_MAX as u32,
            fsid: [crate::types::encode_dev(self.dev) as u32, 0],
            ..StatFs::default()
        };
        self.ops.statfs(&mut st)?;
        Ok(st)
    }
    pub(crate) fn get_mount(&self) {
        self.mounts.fetch_add(1, Relaxed);
    }
    /// One mount less; the last one ends the file system.
    pub(crate) fn put_mount(&self) {
        if self.mounts.fetch_sub(1, SeqCst) == 1 {
            let root = self.root.lock().take();
            if let Some(r) = root {
                r.shrink_tree();
            }
            self.ops.kill();
        }
    }
}

impl Drop for SuperBlock {
    fn drop(&mut self) {
        if self.anonymous {
            give_minor(crate::types::minor(self.dev));
        }
    }
}

/// Bit N is set while minor N of the anonymous major 0 is taken. Minor 0 is never used.
static MINORS: SpinLock<Vec<u64>> = SpinLock::new(&MINORS_CLASS, Vec::new());

fn take_minor() -> Result<u32> {
    let mut m = MINORS.lock();
    if m.is_empty() {
        m.try_reserve(16).map_err(|_| Errno::ENOMEM)?;
        m.push(1);
    }
    if let Some(i) = m.iter().position(|w| *w != u64::MAX) {
        let bit = m[i].trailing_ones();
        m[i] |= 1 << bit;
        return Ok(i as u32 * 64 + bit);
    }
    // Twenty bits of minor numbers.
    if m.len() >= (1 << 20) / 64 {
        return Err(Errno::EMFILE);
    }
    m.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    m.push(1);
    Ok((m.len() as u32 - 1) * 64)
}

fn give_minor(n: u32) {
    let mut m = MINORS.lock();
    if let Some(w) = m.get_mut(n as usize / 64) {
        *w &= !(1 << (n % 64));
    }
}

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct FsFlags: u32 {
        /// Needs no block device (`nodev` in `/proc/filesystems`).
        const NODEV = 1;
        /// The kernel's own; mount(2) refuses it.
        const INTERNAL = 2;
    }
}

/// What a mount asks of a file system.
pub struct MountRequest<'a> {
    /// The device name, or whatever was given in its place.
    pub source: &'a [u8],
    pub read_only: bool,
    /// Comma-separated options.
    pub data: &'a [u8],
    pub cred: &'a base::cred::Cred,
    /// For a file system with a device: what `source` named.
    pub device: Option<u64>,
}

/// A kind of file system.
pub trait FileSystemType: Send + Sync {
    fn name(&self) -> &'static str;
    fn flags(&self) -> FsFlags {
        FsFlags::NODEV
    }
    /// A super block with its root set: a new one, or one that is already in use.
    fn mount(&self, req: &MountRequest<'_>) -> Result<Arc<SuperBlock>>;
}

static TYPES: SpinLock<Vec<Arc<dyn FileSystemType>>> = SpinLock::new(&TYPES_CLASS, Vec::new());

/// Makes a kind of file system known. `EBUSY` if the name is taken.
pub fn register_filesystem(t: Arc<dyn FileSystemType>) -> Result<()> {
    let mut l = TYPES.lock();
    if l.iter().any(|x| x.name() == t.name()) {
        return Err(Errno::EBUSY);
    }
    l.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    l.push(t);
    Ok(())
}

/// The file system type called `name`.
pub fn get_fs_type(name: &[u8]) -> Option<Arc<dyn FileSystemType>> {
    TYPES.lock().iter().find(|t| t.name().as_bytes() == name).cloned()
}

/// The text of `/proc/filesystems`.
pub fn filesystems_text() -> String {
    let list = TYPES.lock().clone();
    let mut s = String::new();
    for t in list.iter() {
        s.push_str(if t.flags().contains(FsFlags::NODEV) { "nodev" } else { "" });
        s.push('\t');
        s.push_str(t.name());
        s.push('\n');
    }
    s
}
