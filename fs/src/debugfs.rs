//! debugfs: on this kernel only the place where the documents look for tracing, `/sys/kernel/debug/tracing`.
//!
//! That folder is a mount point for [`crate::tracefs`], mounted when somebody first walks through it, as on Linux. Rooms add
//! files of their own through [`base::tree`] when they have any.

use alloc::{boxed::Box, sync::Arc};

use base::{Errno, Result, cred::Cred};
use frame::sync::{LockClass, Mutex};
use linux_raw_sys::general::DEBUGFS_MAGIC;
use vfs::{
    DirSink, File, FileOps, FileSystemType, FileType, Inode, InodeFlags, InodeOps, NewInode, OpenFlags,
    SuperBlock, SuperOps, superblock::MountRequest,
};

use crate::knobs::dots;

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
    fn lookup(&self, dir: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        if name != b"tracing" {
            return Err(Errno::ENOENT);
        }
        let new = NewInode { mode: FileType::Dir.bits() | 0o555, uid: 0, gid: 0, rdev: 0 };
        let sb = dir.sb().ok_or(Errno::ENOENT)?;
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
        if pos == 2 && sink.emit(b"tracing", TRACING_INO, FileType::Dir.dtype(), 3) {
            return Ok(3);
        }
        Ok(pos)
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
