//! The tree of mounts.
//!
//! A mount shows a dentry tree (`root`) at a *mountpoint*: a dentry seen through the parent mount. Each mount lists its
//! children with their mountpoints. A dentry on which something is mounted carries a flag, so a walk asks the list only there.
//! Mounting on a place that is a mountpoint already stacks: the new mount goes onto the root of the one on top.
//!
//! A [`Path`] keeps its mount alive and *busy*. `umount` refuses a busy mount; a detached one (`MNT_DETACH`) disappears from the
//! tree at once and ends when its last user goes.
//!
//! There is one mount name space. All mounts are private: no propagation (`MS_SHARED` is refused).

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};
use bitflags::bitflags;
use frame::{
    atomic::{
        AtomicU32,
        Ordering::{Relaxed, SeqCst},
        fence,
    },
    sync::{LockClass, Mutex, SpinLock},
};
use linux_raw_sys::general as raw;

use crate::{dentry::Dentry, path::Path, superblock::SuperBlock};

static NAMESPACE_CLASS: LockClass = LockClass::new("mount_namespace");
static CHILDREN_CLASS: LockClass = LockClass::new("mount_children");
static AT_CLASS: LockClass = LockClass::new("mount_at");

bitflags! {
    /// Properties of one mount; the values are those of mount(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MountFlags: u32 {
        const RDONLY = raw::MS_RDONLY;
        const NOSUID = raw::MS_NOSUID;
        const NODEV = raw::MS_NODEV;
        const NOEXEC = raw::MS_NOEXEC;
        const NOSYMFOLLOW = raw::MS_NOSYMFOLLOW;
        const NOATIME = raw::MS_NOATIME;
        const NODIRATIME = raw::MS_NODIRATIME;
        const RELATIME = raw::MS_RELATIME;
    }
}

/// One mount.
pub struct Mount {
    id: u32,
    sb: Arc<SuperBlock>,
    root: Arc<Dentry>,
    flags: AtomicU32,
    /// Files open for writing and changes under way.
    writers: AtomicU32,
    source: Vec<u8>,
    at: SpinLock<Option<Path>>,
    children: SpinLock<Vec<(Arc<Dentry>, Arc<Mount>)>>,
}

/// Serialises changes of the tree; holds its root.
pub(crate) struct Namespace {
    pub(crate) root: Option<Arc<Mount>>,
}
pub(crate) static NAMESPACE: Mutex<Namespace> = Mutex::new(&NAMESPACE_CLASS, Namespace { root: None });
static NEXT_ID: AtomicU32 = AtomicU32::new(1);

impl Mount {
    /// A mount that is not in the tree.
    pub fn new(
        sb: &Arc<SuperBlock>,
        root: Arc<Dentry>,
        source: &[u8],
        flags: MountFlags,
    ) -> Result<Arc<Mount>> {
        let mut s = Vec::new();
        s.try_reserve_exact(source.len()).map_err(|_| Errno::ENOMEM)?;
        s.extend_from_slice(source);
        let m = frame::heap::try_arc(Mount {
            id: NEXT_ID.fetch_add(1, Relaxed),
            sb: sb.clone(),
            root,
            flags: AtomicU32::new(flags.bits()),
            writers: AtomicU32::new(0),
            source: s,
            at: SpinLock::new(&AT_CLASS, None),
            children: SpinLock::new(&CHILDREN_CLASS, Vec::new()),
        });
        // Counted only once it exists: its drop gives the count back.
        let m = m.ok_or(Errno::ENOMEM)?;
        sb.get_mount();
        Ok(m)
    }
    /// A kernel-internal mount of a whole file system, outside the tree (pipes, anonymous inodes).
    pub fn internal(sb: &Arc<SuperBlock>) -> Result<Arc<Mount>> {
        let root = sb.root().ok_or(Errno::ENODEV)?;
        Self::new(sb, root, b"none", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC)
    }
    pub fn id(&self) -> u32 {
        self.id
    }
    #[inline]
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }
    pub fn sb(&self) -> &Arc<SuperBlock> {
        &self.sb
    }
    pub fn source(&self) -> &[u8] {
        &self.source
    }
    #[inline]
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_retain(self.flags.load(SeqCst))
    }
    /// The mount or its file system is read-only.
    pub fn is_read_only(&self) -> bool {
        self.flags().contains(MountFlags::RDONLY) || self.sb.is_read_only()
    }
    /// Where it is mounted; `None` for the root and for detached mounts.
    pub fn mountpoint(&self) -> Option<Path> {
        self.at.lock().clone()
    }
    pub(crate) fn children(&self) -> Vec<(Arc<Dentry>, Arc<Mount>)> {
        self.children.lock().clone()
    }
    /// True while it can be reached from the root of the name space.
    pub(crate) fn is_attached(self: &Arc<Mount>, ns: &Namespace) -> bool {
        let mut m = self.clone();
        while let Some(p) = m.mountpoint() {
            m = p.mount;
        }
        ns.root.as_ref().is_some_and(|r| Arc::ptr_eq(r, &m))
    }
    /// The mount on `dentry`, if there is one.
    pub(crate) fn child_at(&self, dentry: &Arc<Dentry>) -> Option<Arc<Mount>> {
        self.children.lock().iter().find(|(d, _)| Arc::ptr_eq(d, dentry)).map(|(_, m)| m.clone())
    }
    /// Puts this mount at `at`, which nothing is mounted on yet.
    pub(crate) fn attach(self: &Arc<Mount>, at: &Path) -> Result<()> {
        at.dentry.set_mountpoint();
        let mut c = at.mount.children.lock();
        c.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        c.push((at.dentry.clone(), self.clone()));
        drop(c);
        *self.at.lock() = Some(at.clone());
        Ok(())
    }
    /// Takes this mount (with all below it) out of the tree. Gives the place where it was.
    pub(crate) fn detach(self: &Arc<Mount>) -> Option<Path> {
        let at = self.at.lock().take()?;
        let mut c = at.mount.children.lock();
        let gone = c.iter().position(|(_, m)| Arc::ptr_eq(m, self)).map(|i| c.remove(i));
        drop(c);
        drop(gone);
        Some(at)
    }
    /// As [`Mount::detach`], only if nobody but the tree and `held` references of the caller use it.
    pub(crate) fn detach_unless_busy(self: &Arc<Mount>, held: usize) -> Result<Path> {
        let at = self.mountpoint().ok_or(Errno::EINVAL)?;
        // A child would hold a reference too; looked at apart because two of these locks never nest.
        if !self.children.lock().is_empty() {
            return Err(Errno::EBUSY);
        }
        let gone = {
            // Walkers get their reference under this lock: with it held the count can only fall.
            let mut c = at.mount.children.lock();
            if Arc::strong_count(self) > held + 1 {
                return Err(Errno::EBUSY);
            }
            c.iter().position(|(_, m)| Arc::ptr_eq(m, self)).map(|i| c.remove(i))
        };
        drop(gone);
        let old = self.at.lock().take();
        drop(old);
        Ok(at)
    }

    /// Changes the flags. `EBUSY` if it is to become read-only while something is open for writing.
    pub(crate) fn set_flags(&self, new: MountFlags) -> Result<()> {
        let old = self.flags.swap(new.bits(), SeqCst);
        fence(SeqCst);
        if new.contains(MountFlags::RDONLY)
            && old & MountFlags::RDONLY.bits() == 0
            && self.writers.load(SeqCst) > 0
        {
            self.flags.store(old, SeqCst);
            return Err(Errno::EBUSY);
        }
        Ok(())
    }
    pub(crate) fn writers(&self) -> u32 {
        self.writers.load(SeqCst)
    }
    /// Announces a change; `EROFS` on a read-only mount. Must be paired with [`Mount::end_write`]; prefer [`WriteGuard`].
    pub(crate) fn begin_write(&self) -> Result<()> {
        // Announce, then look: the remounter stores the flag, then counts.
        self.writers.fetch_add(1, SeqCst);
        if self.is_read_only() {
            self.end_write();
            return Err(Errno::EROFS);
        }
        Ok(())
    }
    pub(crate) fn end_write(&self) {
        self.writers.fetch_sub(1, SeqCst);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.sb.put_mount();
    }
}

/// A change through a mount is under way.
pub(crate) struct WriteGuard<'a>(&'a Mount);

impl<'a> WriteGuard<'a> {
    pub(crate) fn new(m: &'a Mount) -> Result<WriteGuard<'a>> {
        m.begin_write()?;
        Ok(WriteGuard(m))
    }
}
impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        self.0.end_write();
    }
}

impl Path {
    /// Goes down to the root of whatever is mounted here.
    #[inline]
    pub(crate) fn follow_mounts(&mut self) {
        while self.dentry.is_mountpoint() {
            let Some(m) = self.mount.child_at(&self.dentry) else { return };
            self.dentry = m.root.clone();
            self.mount = m;
        }
    }
}

/// The root of the mount tree.
///
/// # Panics
/// Before [`set_root`].
pub fn root() -> Path {
    let m = NAMESPACE.lock().root.clone().expect("no root file system is mounted");
    let mut p = Path { dentry: m.root.clone(), mount: m };
    p.follow_mounts();
    p
}

/// Mounts the first file system of all, the root.
pub fn set_root(sb: &Arc<SuperBlock>, source: &[u8]) -> Result<Path> {
    let root = sb.root().ok_or(Errno::EINVAL)?;
    let m = Mount::new(sb, root.clone(), source, MountFlags::empty())?;
    NAMESPACE.lock().root = Some(m.clone());
    Ok(Path { mount: m, dentry: root })
}
