//! debugfs: the tree of [`base::tree::debug`], and the place where the documents look for tracing, `/sys/kernel/debug/tracing`.
//!
//! That folder is a mount point for [`crate::tracefs`], mounted when somebody first walks through it, as on Linux. All else is
//! what rooms have declared. Only root gets past the top folder.

use alloc::{boxed::Box, sync::Arc};

use base::{Errno, Result, cred::Cred, tree};
use frame::sync::{LockClass, Mutex};
use linux_raw_sys::general::DEBUGFS_MAGIC;
use vfs::{
    DcachePolicy, DirSink, File, FileOps, FileSystemType, FileType, Inode, InodeFlags, InodeOps, Metadata,
    NewInode, OpenFlags, SuperBlock, SuperOps, superblock::MountRequest,
};

use crate::knobs::{self, dots};

const ROOT_INO: u64 = 1;
const TRACING_INO: u64 = 2;

struct Debugfs;
struct Ops;
impl SuperOps for Ops {}

static CLASS: LockClass = LockClass::new("debugfs_mount");
/// All mounts show one super block.
static ONE: Mutex<Option<Arc<SuperBlock>>> = Mutex::new(&CLASS, None);

impl FileSystemType for Debugfs {
    fn name(&self) -> &'static str {
        "debugfs"
    }
    fn mount(&self, req: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        let mut one = ONE.lock();
        if let Some(sb) = one.as_ref().filter(|sb| sb.root().is_some()) {
            return Ok(sb.clone());
        }
        let sb = SuperBlock::anonymous("debugfs", DEBUGFS_MAGIC.into(), req.read_only, Box::new(Ops))?;
        let new = NewInode { mode: FileType::Dir.bits() | 0o700, uid: 0, gid: 0, rdev: 0 };
        sb.set_root(Inode::new(&sb, ROOT_INO, &new, Box::new(Root))?)?;
        *one = Some(sb.clone());
        Ok(sb)
    }
}

struct Root;

impl InodeOps for Root {
    fn metadata(&self, inode: &Inode) -> Metadata {
        let mut m = inode.generic_metadata();
        m.nlink = 3 + tree::debug().top().subdirs() as u32;
        m
    }
    fn dcache_policy(&self) -> DcachePolicy {
        DcachePolicy::Revalidate
    }
    fn revalidate(&self, _dir: &Arc<Inode>, name: &[u8], child: &Arc<Inode>) -> bool {
        let now = core::str::from_utf8(name).ok().and_then(|n| tree::debug().top().lookup(n).ok());
        child.ino == TRACING_INO || now.is_some_and(|n| n.ino() == child.ino)
    }
    fn lookup(&self, dir: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        let sb = dir.sb().ok_or(Errno::ENOENT)?;
        if name != b"tracing" {
            let name = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
            return knobs::inode(&sb, tree::debug().top().lookup(name)?);
        }
        let new = NewInode { mode: FileType::Dir.bits() | 0o555, uid: 0, gid: 0, rdev: 0 };
        Inode::with_flags(&sb, TRACING_INO, &new, Box::new(Tracing), InodeFlags::AUTOMOUNT)
    }
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(RootDir))
    }
}

struct RootDir;

impl FileOps for RootDir {
    fn readdir(&self, file: &File, pos: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let pos = match dots(file, pos, sink) {
            Ok(p) => p,
            Err(full_at) => return Ok(full_at),
        };
        if pos == 2 && !sink.emit(b"tracing", TRACING_INO, FileType::Dir.dtype(), 3) {
            return Ok(pos);
        }
        knobs::list_nodes(tree::debug().top(), pos.max(3), 3, sink)
    }
}

/// Never seen from inside: what is mounted on it is.
struct Tracing;

impl InodeOps for Tracing {
    fn automount(&self) -> Option<&'static str> {
        Some("tracefs")
    }
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        Err(Errno::EISDIR)
    }
}

/// Makes debugfs known.
pub fn init() -> Result<()> {
    vfs::register_filesystem(Arc::new(Debugfs))
}
