//! tmpfs: a file system whose files are their pages in memory.
//!
//! # Theory
//! Nothing is stored anywhere else: a page that a file has *is* the file's contents, a directory is a table of names
//! ([`dir`]), and both go when the last user does. What must be watched is how much memory that takes: each mount has a limit of
//! pages and of inodes, charged before something is made and given back when it is dropped. A charge that does not fit is
//! `ENOSPC`, exactly at the limit.
//!
//! A hard link is charged as an inode of its own, as on Linux, so that links cannot fill memory unseen.
//!
//! Options (tmpfs(5)): `size=`, `nr_blocks=`, `nr_inodes=`, `mode=`, `uid=`, `gid=`; by default half of the memory, as many
//! inodes as pages, and mode 1777. Swap, quotas and huge pages are not supported; their options are errors.

mod dir;
mod node;
mod options;
mod pages;

use alloc::{boxed::Box, string::String, sync::Arc};
use core::fmt::Write;

use base::{Errno, Result};
use frame::{
    atomic::{AtomicU64, Ordering::Relaxed},
    sync::{LockClass, SpinLock},
};
use vfs::{
    FileOps, FileSystemType, FileType, Inode, NewInode, Path, StatFs, SuperBlock, SuperOps,
    inode::InodeFlags, superblock::MountRequest,
};

use options::Options;

/// `TMPFS_MAGIC` (linux/magic.h).
const TMPFS_MAGIC: u64 = 0x0102_1994;
const DEFAULT_MODE: u32 = 0o1777;

static SHOWN_CLASS: LockClass = LockClass::new("tmpfs_options");

/// What all inodes of one mount share: the accounts.
struct Shared {
    pages: Account,
    inodes: Account,
    next_ino: AtomicU64,
    /// Files of one kind share their operations.
    file_ops: Arc<dyn FileOps>,
    dir_ops: Arc<dyn FileOps>,
}

/// A limited number of things. A limit of 0 is none.
struct Account {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Account {
    fn new(limit: u64) -> Account {
        Account { used: AtomicU64::new(0), limit: AtomicU64::new(limit) }
    }
    /// Takes `n`, or nothing and `ENOSPC`.
    fn charge(&self, n: u64) -> Result<()> {
        let limit = self.limit.load(Relaxed);
        self.used
            .fetch_update(Relaxed, Relaxed, |u| u.checked_add(n).filter(|s| limit == 0 || *s <= limit))
            .map(|_| ())
            .map_err(|_| Errno::ENOSPC)
    }
    fn give_back(&self, n: u64) {
        self.used.fetch_sub(n, Relaxed);
    }
    fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }
    fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }
}

struct Super {
    shared: Arc<Shared>,
    options: SpinLock<Options>,
}

/// Makes an inode of kind and mode `new`, charging it.
fn make_inode(
    sb: &Arc<SuperBlock>,
    shared: &Arc<Shared>,
    new: &NewInode,
    target: Option<&[u8]>,
) -> Result<Arc<Inode>> {
    let kind = FileType::from_mode(new.mode).ok_or(Errno::EINVAL)?;
    let ino = shared.next_ino.fetch_add(1, Relaxed);
    let node = node::TmpNode::new(shared, kind, sb.dev, ino, target)?;
    let inode = Inode::with_flags(sb, ino, new, Box::new(node), InodeFlags::PLAIN_PERMISSION)?;
    match (kind, target) {
        (FileType::Dir, _) => inode.set_size(dir::size_of(0)),
        (_, Some(t)) => inode.set_size(t.len() as u64),
        _ => {}
    }
    Ok(inode)
}

/// A new file system with these options.
fn make_super(fs_name: &'static str, req: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
    let mut o = Options::default_for(req.cred);
    o.parse(req.data)?;
    let shared = frame::heap::try_arc(Shared {
        pages: Account::new(o.pages.unwrap_or_else(default_pages)),
        inodes: Account::new(o.inodes.unwrap_or_else(default_pages)),
        next_ino: AtomicU64::new(1),
        file_ops: Arc::new(pages::TmpFile),
        dir_ops: Arc::new(dir::TmpDir),
    })
    .ok_or(Errno::ENOMEM)?;
    let root = NewInode { mode: FileType::Dir.bits() | o.mode, uid: o.uid, gid: o.gid, rdev: 0 };
    let ops = Super { shared: shared.clone(), options: SpinLock::new(&SHOWN_CLASS, o) };
    let sb = SuperBlock::anonymous(fs_name, TMPFS_MAGIC, req.read_only, Box::new(ops))?;
    sb.set_root(make_inode(&sb, &shared, &root, None)?)?;
    Ok(sb)
}

/// Half of the memory, in pages.
fn default_pages() -> u64 {
    let usable = frame::boot::info().memory.iter().filter(|r| r.kind == frame::boot::RegionKind::Usable);
    usable.map(|r| (r.end - r.start) / vfs::PAGE_SIZE as u64).sum::<u64>() / 2
}

impl SuperOps for Super {
    fn statfs(&self, st: &mut StatFs) -> Result<()> {
        let s = &self.shared;
        if s.pages.limit() != 0 {
            st.blocks = s.pages.limit();
            st.bfree = st.blocks.saturating_sub(s.pages.used());
            st.bavail = st.bfree;
        }
        if s.inodes.limit() != 0 {
            st.files = s.inodes.limit();
            st.ffree = st.files.saturating_sub(s.inodes.used());
        }
        Ok(())
    }
    fn show_options(&self, out: &mut String) {
        let o = *self.options.lock();
        // A string that cannot grow loses the rest of the line, nothing else.
        let mut show = |a: core::fmt::Arguments<'_>| {
            let _ = out.write_fmt(a);
        };
        if let Some(p) = o.pages {
            show(format_args!(",size={}k", p * 4));
        }
        if let Some(i) = o.inodes {
            show(format_args!(",nr_inodes={i}"));
        }
        if o.mode != DEFAULT_MODE {
            show(format_args!(",mode={:03o}", o.mode));
        }
        if o.uid != 0 {
            show(format_args!(",uid={}", o.uid));
        }
        if o.gid != 0 {
            show(format_args!(",gid={}", o.gid));
        }
    }
    fn remount(&self, _read_only: bool, data: &[u8]) -> Result<()> {
        let old = *self.options.lock();
        let mut new = old;
        new.parse(data)?;
        let s = &self.shared;
        for (account, old, want) in [(&s.pages, old.pages, new.pages), (&s.inodes, old.inodes, new.inodes)] {
            let Some(n) = want.filter(|_| want != old) else { continue };
            // A limit can neither appear on an unlimited mount nor fall below what is used.
            if n != 0 && (account.limit() == 0 || account.used() > n) {
                return Err(Errno::EINVAL);
            }
        }
        if let Some(p) = new.pages {
            s.pages.limit.store(p, Relaxed);
        }
        if let Some(i) = new.inodes {
            s.inodes.limit.store(i, Relaxed);
        }
        *self.options.lock() = new;
        Ok(())
    }
}

struct Tmpfs(&'static str);

impl FileSystemType for Tmpfs {
    fn name(&self) -> &'static str {
        self.0
    }
    fn mount(&self, req: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        make_super(self.0, req)
    }
}

/// Registers `tmpfs`.
pub fn init() -> Result<()> {
    vfs::register_filesystem(Arc::new(Tmpfs("tmpfs")))
}

/// Mounts the root file system of the boot: an empty tmpfs that calls itself `rootfs`.
pub fn mount_rootfs() -> Result<Path> {
    let cred = base::cred::Cred::root();
    let req =
        MountRequest { source: b"rootfs", read_only: false, data: b"mode=755", cred: &cred, device: None };
    let sb = make_super("rootfs", &req)?;
    if let Some(root) = sb.root() {
        root.inode().set_mode(FileType::Dir.bits() | 0o755);
    }
    vfs::mount::set_root(&sb, b"rootfs")
}

/// A tmpfs for kernel use (devtmpfs), with its own name and a root of mode 755.
pub fn new_super(fs_name: &'static str, data: &[u8]) -> Result<Arc<SuperBlock>> {
    let cred = base::cred::Cred::root();
    make_super(
        fs_name,
        &MountRequest { source: fs_name.as_bytes(), read_only: false, data, cred: &cred, device: None },
    )
}

/// The tmpfs node behind an inode.
fn node(inode: &Inode) -> Result<&node::TmpNode> {
    inode.ops_as::<node::TmpNode>().ok_or(Errno::EIO)
}
