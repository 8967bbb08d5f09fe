//! A place: a dentry as seen through a mount; and its name as text.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};
use frame::atomic::Ordering::Acquire;

use crate::{
    dentry::{Dentry, RENAME_SEQ},
    inode::Inode,
    mount::Mount,
};

/// A place in the tree of mounts. Holding one keeps the mount busy.
#[derive(Clone)]
pub struct Path {
    pub mount: Arc<Mount>,
    pub dentry: Arc<Dentry>,
}

impl Path {
    #[inline]
    pub fn inode(&self) -> &Arc<Inode> {
        self.dentry.inode()
    }
    #[inline]
    pub fn is_same(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.dentry, &other.dentry) && Arc::ptr_eq(&self.mount, &other.mount)
    }
    /// True at the root of its mount.
    pub fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.dentry, self.mount.root())
    }
}

impl core::fmt::Debug for Path {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{}", self.mount.id(), self.inode().ino)
    }
}

/// The result of [`d_path`].
#[derive(PartialEq, Eq, Debug, Clone)]
pub struct PathText {
    pub text: Vec<u8>,
    /// The walk upwards ended at `root`; otherwise the place cannot be reached from there.
    pub reachable: bool,
    /// The name has been removed.
    pub deleted: bool,
}

impl PathText {
    /// As `/proc/PID/fd` and `/proc/PID/maps` show it: with ` (deleted)` where the name is gone.
    pub fn into_display(mut self) -> Vec<u8> {
        if self.deleted {
            self.text.extend_from_slice(b" (deleted)");
        }
        self.text
    }
    /// As getcwd(2) returns it: `ENOENT` for a removed directory, `(unreachable)` before a place outside the root.
    pub fn into_cwd(self) -> Result<Vec<u8>> {
        if self.deleted {
            return Err(Errno::ENOENT);
        }
        if self.reachable {
            return Ok(self.text);
        }
        let mut v = b"(unreachable)".to_vec();
        v.extend_from_slice(&self.text);
        Ok(v)
    }
}

/// The absolute name of `path` as seen from `root`.
pub fn d_path(path: &Path, root: &Path) -> Result<PathText> {
    // A rename on the way would give a name that never existed: look again. After some tries take what there is.
    for _ in 0..8 {
        let before = RENAME_SEQ.load(Acquire);
        let t = once(path, root)?;
        if before & 1 == 0 && before == RENAME_SEQ.load(Acquire) {
            return Ok(t);
        }
    }
    once(path, root)
}

fn once(path: &Path, root: &Path) -> Result<PathText> {
    let deleted = path.dentry.is_deleted();
    if path.dentry.is_anonymous() {
        return Ok(PathText {
            text: path.dentry.name()?.as_bytes().to_vec(),
            reachable: true,
            deleted: false,
        });
    }
    let mut at = path.clone();
    // Components in reverse order.
    let mut parts = Vec::new();
    let reachable = loop {
        if at.is_same(root) {
            break true;
        }
        if at.is_mount_root() {
            match at.mount.mountpoint() {
                Some(p) => at = p,
                None => break false,
            }
            continue;
        }
        let Some(parent) = at.dentry.parent() else { break false };
        parts.push(at.dentry.name()?);
        at.dentry = parent;
    };
    let mut text = Vec::new();
    text.try_reserve(parts.iter().map(|n| n.as_bytes().len() + 1).sum::<usize>() + 1)
        .map_err(|_| Errno::ENOMEM)?;
    for n in parts.iter().rev() {
        text.push(b'/');
        text.extend_from_slice(n.as_bytes());
    }
    if text.is_empty() {
        text.push(b'/');
    }
    Ok(PathText { text, reachable, deleted })
}
