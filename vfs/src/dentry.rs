//! Dentries: the cache of names.
//!
//! A dentry is a name that exists: it holds its inode for life. A directory's dentry has a table from names to child dentries;
//! an entry without a dentry is a *negative* one, a name known not to exist. Rename moves a dentry (and whatever hangs below
//! it) to another table; unlink takes it out of its table and marks it deleted, and files that are still open keep it.
//!
//! Parents hold their children and children their parent, so a tree lives until [`Dentry::shrink_tree`] (the last unmount) or
//! [`Dentry::prune`] takes it apart.
//!
//! Negative entries cost memory that nobody asked for: a directory keeps at most `NEGATIVE_BASE` more of them than names.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};
use frame::{
    atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    sync::{LockClass, SpinLock},
};
use hashbrown::HashTable;

use crate::{
    inode::{Inode, InodeFlags},
    name::{self, Name},
};

static CHILDREN_CLASS: LockClass = LockClass::new("dentry_children");
static AT_CLASS: LockClass = LockClass::new("dentry_at");

/// Something is mounted here, in at least one mount.
const MOUNTED: u32 = 1;
/// The name is gone.
const DELETED: u32 = 2;
/// Never had a place in a tree (pipes, sockets, anonymous inodes).
const ANONYMOUS: u32 = 4;

/// A thousand misses are remembered beyond the number of names: about 64 KiB a directory at the very most.
const NEGATIVE_BASE: usize = 1024;

/// Odd while a rename changes places; even values differ when one has happened in between. See [`crate::path::d_path`].
pub(crate) static RENAME_SEQ: AtomicU64 = AtomicU64::new(0);

struct Entry {
    hash: u64,
    name: Name,
    /// `None`: the name does not exist.
    dentry: Option<Arc<Dentry>>,
}

#[derive(Default)]
struct Children {
    table: HashTable<Entry>,
    negative: usize,
}

struct At {
    parent: Option<Arc<Dentry>>,
    name: Name,
}

/// A name in the cached tree.
pub struct Dentry {
    inode: Arc<Inode>,
    at: SpinLock<At>,
    flags: AtomicU32,
    children: SpinLock<Children>,
}

/// What the cache knows of a name.
pub enum Cached {
    Hit(Arc<Dentry>),
    /// It does not exist.
    Negative,
    Unknown,
}

impl Dentry {
    fn build(inode: Arc<Inode>, parent: Option<Arc<Dentry>>, name: Name, flags: u32) -> Result<Arc<Dentry>> {
        // Walks look for a mount there, find none, and make it.
        let flags = if inode.flags().contains(InodeFlags::AUTOMOUNT) { flags | MOUNTED } else { flags };
        frame::heap::try_arc(Dentry {
            inode,
            at: SpinLock::new(&AT_CLASS, At { parent, name }),
            flags: AtomicU32::new(flags),
            children: SpinLock::new(&CHILDREN_CLASS, Children::default()),
        })
        .ok_or(Errno::ENOMEM)
    }
    /// The root of a file system.
    pub fn new_root(inode: Arc<Inode>) -> Result<Arc<Dentry>> {
        Self::build(inode, None, Name::new(b"/")?, 0)
    }
    /// A dentry outside any tree; `name` is what `/proc/PID/fd` shows.
    pub fn new_anonymous(inode: Arc<Inode>, name: &[u8]) -> Result<Arc<Dentry>> {
        Self::build(inode, None, Name::new(name)?, ANONYMOUS)
    }
    /// A child that is not entered in the cache (uncached directories, temporary files).
    pub fn new_child(parent: &Arc<Dentry>, name: &[u8], inode: Arc<Inode>) -> Result<Arc<Dentry>> {
        Self::build(inode, Some(parent.clone()), Name::new(name)?, 0)
    }
    #[inline]
    pub fn inode(&self) -> &Arc<Inode> {
        &self.inode
    }
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.at.lock().parent.clone()
    }
    /// Appends the name to `out`.
    pub fn name(&self) -> Result<Name> {
        self.at.lock().name.try_clone()
    }
    pub fn is_deleted(&self) -> bool {
        self.flags.load(Acquire) & DELETED != 0
    }
    pub fn is_anonymous(&self) -> bool {
        self.flags.load(Relaxed) & ANONYMOUS != 0
    }
    #[inline]
    pub(crate) fn is_mountpoint(&self) -> bool {
        self.flags.load(Acquire) & MOUNTED != 0
    }
    pub(crate) fn set_mountpoint(&self) {
        self.flags.fetch_or(MOUNTED, Release);
    }
    pub(crate) fn set_deleted(&self) {
        self.flags.fetch_or(DELETED, Release);
    }
    /// A temporary file got its first name.
    pub(crate) fn is_below(self: &Arc<Dentry>, ancestor: &Arc<Dentry>) -> bool {
        let mut d = self.clone();
        loop {
            if Arc::ptr_eq(&d, ancestor) {
                return true;
            }
            let Some(p) = d.parent() else { return false };
            d = p;
        }
    }

    /// Looks `name` up in the cache alone.
    #[inline]
    pub fn find(&self, hash: u64, name: &[u8]) -> Cached {
        let c = self.children.lock();
        match c.table.find(hash, |e| e.hash == hash && e.name.as_bytes() == name) {
            Some(Entry { dentry: Some(d), .. }) => Cached::Hit(d.clone()),
            Some(_) => Cached::Negative,
            None => Cached::Unknown,
        }
    }

    /// Enters `name` for `inode`, in place of whatever was known. Returns the dentry, or the one that was there for the same inode.
    pub(crate) fn insert(self: &Arc<Dentry>, name: &[u8], inode: Arc<Inode>) -> Result<Arc<Dentry>> {
        let fresh = Self::new_child(self, name, inode)?;
        let key = Name::new(name)?;
        let hash = name::hash(name);
        let mut old = None;
        let mut c = self.children.lock();
        if let Some(e) = c.table.find_mut(hash, |e| e.hash == hash && e.name.as_bytes() == name) {
            match &e.dentry {
                Some(d) if Arc::ptr_eq(&d.inode, &fresh.inode) => {
                    let d = d.clone();
                    drop(c);
                    return Ok(d);
                }
                Some(_) => old = e.dentry.replace(fresh.clone()),
                None => {
                    e.dentry = Some(fresh.clone());
                    c.negative -= 1;
                }
            }
        } else {
            c.table.try_reserve(1, |e| e.hash).map_err(|_| Errno::ENOMEM)?;
            c.table.insert_unique(hash, Entry { hash, name: key, dentry: Some(fresh.clone()) }, |e| e.hash);
        }
        drop(c);
        if let Some(o) = old {
            o.set_deleted();
        }
        Ok(fresh)
    }

    /// Remembers that `name` does not exist. Best effort.
    pub(crate) fn insert_negative(&self, name: &[u8]) {
        let Ok(key) = Name::new(name) else { return };
        let hash = name::hash(name);
        let mut c = self.children.lock();
        let names = c.table.len() - c.negative;
        if c.negative > names + NEGATIVE_BASE {
            c.table.retain(|e| e.dentry.is_some());
            c.negative = 0;
        }
        if c.table.find(hash, |e| e.hash == hash && e.name.as_bytes() == name).is_none()
            && c.table.try_reserve(1, |e| e.hash).is_ok()
        {
            c.table.insert_unique(hash, Entry { hash, name: key, dentry: None }, |e| e.hash);
            c.negative += 1;
        }
    }

    /// Takes `name` out of the cache. What was there is marked deleted and returned.
    pub(crate) fn remove(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        let hash = name::hash(name);
        let mut c = self.children.lock();
        let e = c.table.find_entry(hash, |e| e.hash == hash && e.name.as_bytes() == name).ok()?;
        let (gone, _) = e.remove();
        if gone.dentry.is_none() {
            c.negative -= 1;
        }
        drop(c);
        let d = gone.dentry?;
        d.set_deleted();
        Some(d)
    }

    /// Makes `name` a negative entry after an unlink; the dentry that was there is marked deleted.
    pub(crate) fn make_negative(&self, name: &[u8]) {
        let hash = name::hash(name);
        let mut c = self.children.lock();
        let Some(e) = c.table.find_mut(hash, |e| e.hash == hash && e.name.as_bytes() == name) else { return };
        let Some(d) = e.dentry.take() else { return };
        c.negative += 1;
        drop(c);
        d.set_deleted();
    }

    /// Moves the dentry of `old` in `from` to `new` in `to`; what `new` named before becomes deleted, or moves to `old` if
    /// `exchange`. The caller holds `names` exclusively.
    pub(crate) fn rename(
        from: &Arc<Dentry>,
        old: &[u8],
        to: &Arc<Dentry>,
        new: &[u8],
        exchange: bool,
    ) -> Result<()> {
        let (old_key, new_key) = (Name::new(old)?, Name::new(new)?);
        RENAME_SEQ.fetch_add(1, Acquire);
        let moved = from.take(old);
        let target = to.take(new);
        if let Some(d) = moved {
            let prev = core::mem::replace(&mut *d.at.lock(), At { parent: Some(to.clone()), name: new_key });
            drop(prev);
            to.put(new, d);
        }
        match target {
            Some(t) if exchange => {
                let prev =
                    core::mem::replace(&mut *t.at.lock(), At { parent: Some(from.clone()), name: old_key });
                drop(prev);
                from.put(old, t);
            }
            Some(t) => t.set_deleted(),
            None => {}
        }
        RENAME_SEQ.fetch_add(1, Release);
        Ok(())
    }
    fn take(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        let hash = name::hash(name);
        let mut c = self.children.lock();
        let (e, _) = c.table.find_entry(hash, |e| e.hash == hash && e.name.as_bytes() == name).ok()?.remove();
        if e.dentry.is_none() {
            c.negative -= 1;
        }
        e.dentry
    }
    /// Enters a dentry that has its place already. Without memory the cache merely forgets it.
    fn put(&self, name: &[u8], d: Arc<Dentry>) {
        let Ok(key) = Name::new(name) else { return };
        let hash = name::hash(name);
        let mut c = self.children.lock();
        if c.table.try_reserve(1, |e| e.hash).is_ok() {
            c.table.insert_unique(hash, Entry { hash, name: key, dentry: Some(d) }, |e| e.hash);
        }
    }

    /// Forgets every cached child that nobody uses, and all negative entries. Returns how many names went.
    pub fn prune(&self) -> usize {
        let mut gone: Vec<Arc<Dentry>> = Vec::new();
        let mut c = self.children.lock();
        let n = c.table.len();
        c.table.retain(|e| match &e.dentry {
            None => false,
            Some(d) => {
                let busy = Arc::strong_count(d) > 1 || d.is_mountpoint();
                if !busy && gone.try_reserve(1).is_ok() {
                    gone.push(d.clone());
                    return false;
                }
                true
            }
        });
        c.negative = 0;
        let n = n - c.table.len();
        drop(c);
        n
    }

    /// Appends the cached children that are folders. `ENOMEM`: some, or none.
    pub(crate) fn collect_folders(&self, out: &mut Vec<Arc<Dentry>>) -> Result<()> {
        let c = self.children.lock();
        out.try_reserve(c.table.len())?;
        let children = c.table.iter().filter_map(|e| e.dentry.as_ref());
        out.extend(children.filter(|d| d.inode.is_dir()).cloned());
        Ok(())
    }

    /// A name is gone without anyone having removed it (a process has ended): it and all below it leave the cache.
    pub fn forget(&self, name: &[u8]) {
        if let Some(d) = self.remove(name) {
            d.shrink_tree();
        }
    }

    /// Takes the whole tree below apart (the file system goes away).
    pub(crate) fn shrink_tree(self: &Arc<Dentry>) {
        let mut todo = alloc::vec![self.clone()];
        while let Some(d) = todo.pop() {
            let children = core::mem::take(&mut *d.children.lock());
            todo.extend(children.table.into_iter().filter_map(|e| e.dentry));
        }
    }
}
