//! From a path's text to a place.
//!
//! The walk is one loop over components. Symbolic links push the rest of the text on a stack, so the kernel stack does not grow
//! with them. A component that the cache knows costs a hash, a spin lock and two reference counts; only a miss takes the
//! sleeping locks and asks the file system.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};
use bitflags::bitflags;

use crate::{
    context::Ctx,
    dentry::{Cached, Dentry},
    inode::{DcachePolicy, InodeFlags, Link},
    mount::MountFlags,
    mount_ops,
    name::{self, Name},
    path::Path,
    types::{Access, FileType, NAME_MAX, PATH_MAX},
};

bitflags! {
    /// How to walk.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct LookupFlags: u32 {
        /// Follow a symbolic link in the last component.
        const FOLLOW = 1;
        /// The result must be a directory.
        const DIRECTORY = 2;
        /// An empty path means the start itself (`AT_EMPTY_PATH`).
        const EMPTY = 4;
        /// `RESOLVE_NO_XDEV`: crossing a mount is `EXDEV`.
        const NO_XDEV = 8;
        /// `RESOLVE_NO_MAGICLINKS`.
        const NO_MAGICLINKS = 16;
        /// `RESOLVE_NO_SYMLINKS`.
        const NO_SYMLINKS = 32;
        /// `RESOLVE_BENEATH`: leaving the start's tree is `EXDEV`.
        const BENEATH = 64;
        /// `RESOLVE_IN_ROOT`: the start is the root.
        const IN_ROOT = 128;
    }
}

/// As many links as one walk follows.
pub const MAX_LINKS: u32 = 40;

/// What a path ends in.
#[derive(Debug)]
pub enum Last {
    Name(Name),
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// The path is only slashes.
    Root,
}

/// The directory that holds the last component, and that component.
pub(crate) struct Parent {
    pub(crate) dir: Path,
    pub(crate) last: Last,
    /// A slash follows the last component.
    pub(crate) trailing: bool,
}

enum Text<'a> {
    Given(&'a [u8]),
    Shared(Arc<[u8]>),
    Owned(Vec<u8>),
}

impl Text<'_> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Text::Given(b) => b,
            Text::Shared(b) => b,
            Text::Owned(b) => b,
        }
    }
}

enum Outcome {
    Place(Path),
    Parent(Parent),
}

/// One walk: who, from where, how, and the links followed so far (an open with `O_CREAT` walks several times).
pub(crate) struct Walk<'a> {
    pub(crate) ctx: &'a Ctx,
    pub(crate) flags: LookupFlags,
    pub(crate) links: u32,
    /// For `BENEATH` and `IN_ROOT`.
    top: Option<Path>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(ctx: &'a Ctx, at: Option<&Path>, flags: LookupFlags) -> Walk<'a> {
        let scoped = flags.intersects(LookupFlags::BENEATH | LookupFlags::IN_ROOT);
        Walk { ctx, flags, links: 0, top: scoped.then(|| at.unwrap_or(&ctx.cwd).clone()) }
    }
    fn root(&self) -> &Path {
        match &self.top {
            Some(t) if self.flags.contains(LookupFlags::IN_ROOT) => t,
            _ => &self.ctx.root,
        }
    }
    /// Counts one more link.
    pub(crate) fn count_link(&mut self) -> Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS { Err(Errno::ELOOP) } else { Ok(()) }
    }

    /// The place that `path` names.
    pub(crate) fn place(&mut self, at: Option<&Path>, path: &[u8]) -> Result<Path> {
        match self.run(at, path, false)? {
            Outcome::Place(p) => Ok(p),
            Outcome::Parent(_) => Err(Errno::EINVAL),
        }
    }
    /// The directory that holds what `path` names.
    pub(crate) fn parent(&mut self, at: Option<&Path>, path: &[u8]) -> Result<Parent> {
        match self.run(at, path, true)? {
            Outcome::Parent(p) => Ok(p),
            Outcome::Place(dir) => Ok(Parent { dir, last: Last::Root, trailing: false }),
        }
    }

    fn run(&mut self, start: Option<&Path>, path: &[u8], parent: bool) -> Result<Outcome> {
        if path.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if path.is_empty() && (!self.flags.contains(LookupFlags::EMPTY) || parent) {
            return Err(Errno::ENOENT);
        }
        let mut at = if path.first() == Some(&b'/') {
            self.absolute()?
        } else {
            start.unwrap_or(&self.ctx.cwd).clone()
        };
        let mut text = Text::Given(path);
        let mut pos = 0;
        let mut stack: Vec<(Text<'_>, usize)> = Vec::new();
        let mut must_be_dir = self.flags.contains(LookupFlags::DIRECTORY);
        loop {
            let bytes = text.bytes();
            while bytes.get(pos) == Some(&b'/') {
                pos += 1;
            }
            if pos == bytes.len() {
                let Some((t, p)) = stack.pop() else { break };
                (text, pos) = (t, p);
                continue;
            }
            let rest = &bytes[pos..];
            let len = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
            let (name, after) = rest.split_at(len);
            let end = pos + len;
            let blank = |t: &[u8]| t.iter().all(|b| *b == b'/');
            let is_last = blank(after) && stack.iter().all(|(t, p)| blank(&t.bytes()[*p..]));
            let trailing = is_last && (!after.is_empty() || stack.iter().any(|(t, p)| *p < t.bytes().len()));
            let inode = at.inode();
            if !inode.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            inode.may_search(&self.ctx.cred)?;
            if is_last && parent {
                let last = match name {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    n if n.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
                    n => Last::Name(Name::new(n)?),
                };
                return Ok(Outcome::Parent(Parent { dir: at, last, trailing }));
            }
            pos = end;
            must_be_dir |= trailing;
            if name[0] == b'.' && len <= 2 && (len == 1 || name[1] == b'.') {
                if len == 2 {
                    self.up(&mut at)?;
                }
                continue;
            }
            let child = lookup_child(&at, name)?;
            if child.inode().kind() == FileType::Symlink
                && (!is_last || trailing || self.flags.contains(LookupFlags::FOLLOW))
            {
                match self.read_link(&at, &child)? {
                    Link::Magic(p) => {
                        if self.top.is_some() {
                            return Err(Errno::EXDEV);
                        }
                        if self.flags.contains(LookupFlags::NO_XDEV) && !Arc::ptr_eq(&p.mount, &at.mount) {
                            return Err(Errno::EXDEV);
                        }
                        at = p;
                        continue;
                    }
                    Link::Text(t) => {
                        stack.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                        stack.push((core::mem::replace(&mut text, Text::Shared(t)), pos));
                    }
                    Link::Owned(t) => {
                        stack.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                        stack.push((core::mem::replace(&mut text, Text::Owned(t)), pos));
                    }
                }
                pos = 0;
                match text.bytes().first() {
                    None => return Err(Errno::ENOENT),
                    Some(b'/') => {
                        if self.flags.contains(LookupFlags::NO_XDEV)
                            && !Arc::ptr_eq(&at.mount, &self.root().mount)
                        {
                            return Err(Errno::EXDEV);
                        }
                        at = self.absolute()?;
                    }
                    Some(_) => {}
                }
                continue;
            }
            at.dentry = child;
            if at.dentry.is_mountpoint() {
                self.down(&mut at)?;
            }
        }
        if must_be_dir && !at.inode().is_dir() {
            return Err(Errno::ENOTDIR);
        }
        Ok(Outcome::Place(at))
    }

    fn absolute(&self) -> Result<Path> {
        if self.flags.contains(LookupFlags::BENEATH) {
            return Err(Errno::EXDEV);
        }
        Ok(self.root().clone())
    }
    fn down(&self, at: &mut Path) -> Result<()> {
        if at.inode().flags().contains(InodeFlags::AUTOMOUNT) && at.mount.child_at(&at.dentry).is_none() {
            mount_ops::automount(at)?;
        }
        if self.flags.contains(LookupFlags::NO_XDEV) && at.mount.child_at(&at.dentry).is_some() {
            return Err(Errno::EXDEV);
        }
        at.follow_mounts();
        Ok(())
    }
    fn up(&self, at: &mut Path) -> Result<()> {
        if self.flags.contains(LookupFlags::BENEATH) && self.top.as_ref().is_some_and(|t| t.is_same(at)) {
            return Err(Errno::EXDEV);
        }
        while !at.is_same(self.root()) {
            if at.is_mount_root() {
                let Some(p) = at.mount.mountpoint() else { break };
                if self.flags.contains(LookupFlags::NO_XDEV) {
                    return Err(Errno::EXDEV);
                }
                *at = p;
                continue;
            }
            if let Some(p) = at.dentry.parent() {
                at.dentry = p;
            }
            break;
        }
        at.follow_mounts();
        Ok(())
    }
    /// Reads the link `child` of `at` in order to follow it.
    pub(crate) fn read_link(&mut self, at: &Path, child: &Arc<Dentry>) -> Result<Link> {
        if self.flags.contains(LookupFlags::NO_SYMLINKS) || at.mount.flags().contains(MountFlags::NOSYMFOLLOW)
        {
            return Err(Errno::ELOOP);
        }
        self.count_link()?;
        let inode = child.inode();
        if !at.mount.flags().contains(MountFlags::NOATIME) && !at.mount.is_read_only() {
            inode.touch_accessed(false);
        }
        let link = inode.ops().get_link(inode)?;
        if matches!(link, Link::Magic(_)) && self.flags.contains(LookupFlags::NO_MAGICLINKS) {
            return Err(Errno::ELOOP);
        }
        Ok(link)
    }
}

/// The child `name` of the directory at `dir`, without crossing mounts or following links.
#[inline]
pub(crate) fn lookup_child(dir: &Path, name: &[u8]) -> Result<Arc<Dentry>> {
    match dir.dentry.find(name::hash(name), name) {
        Cached::Hit(d) if dir.inode().ops().dcache_policy() == DcachePolicy::Keep => Ok(d),
        Cached::Hit(d) if still_valid(&dir.dentry, name, &d) => Ok(d),
        // Only directories of that policy have negative entries.
        Cached::Negative => Err(Errno::ENOENT),
        _ => lookup_slow(dir, name),
    }
}

#[cold]
fn still_valid(dir: &Arc<Dentry>, name: &[u8], d: &Arc<Dentry>) -> bool {
    // A mountpoint stays, whatever the file system thinks.
    if d.is_mountpoint() || dir.inode().ops().revalidate(dir.inode(), name, d.inode()) {
        return true;
    }
    dir.forget(name);
    false
}

fn lookup_slow(dir: &Path, name: &[u8]) -> Result<Arc<Dentry>> {
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let _names = dir.mount.sb().names.read();
    let _dir = dir.inode().dir_lock.write();
    lookup_locked(&dir.dentry, name)
}

/// As [`lookup_child`], with the directory locked (or `names` held exclusively).
pub(crate) fn lookup_locked(dir: &Arc<Dentry>, name: &[u8]) -> Result<Arc<Dentry>> {
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let inode = dir.inode();
    let policy = inode.ops().dcache_policy();
    match dir.find(name::hash(name), name) {
        Cached::Hit(d) if policy == DcachePolicy::Keep || still_valid(dir, name, &d) => return Ok(d),
        Cached::Negative => return Err(Errno::ENOENT),
        _ => {}
    }
    if inode.is_dead() {
        return Err(Errno::ENOENT);
    }
    match inode.ops().lookup(inode, name) {
        Ok(i) if policy == DcachePolicy::None => Dentry::new_child(dir, name, i),
        Ok(i) => dir.insert(name, i),
        Err(Errno::ENOENT) => {
            if policy == DcachePolicy::Keep {
                dir.insert_negative(name);
            }
            Err(Errno::ENOENT)
        }
        Err(e) => Err(e),
    }
}

/// Walks `path` from `at` (or the current directory) to the place that it names.
pub fn lookup(ctx: &Ctx, at: Option<&Path>, path: &[u8], flags: LookupFlags) -> Result<Path> {
    Walk::new(ctx, at, flags).place(at, path)
}

/// For the change of directory and root: a directory that may be searched.
pub fn lookup_dir(ctx: &Ctx, at: Option<&Path>, path: &[u8]) -> Result<Path> {
    let p = lookup(ctx, at, path, LookupFlags::FOLLOW | LookupFlags::DIRECTORY)?;
    p.inode().permission(&ctx.cred, Access::EXEC)?;
    Ok(p)
}
