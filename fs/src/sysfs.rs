//! sysfs: the tree of [`base::tree::sys`] and nothing else.

use alloc::{boxed::Box, sync::Arc};

use base::Result;
use frame::sync::{LockClass, Mutex};
use vfs::{FileSystemType, SuperBlock, SuperOps, superblock::MountRequest};

/// `f_type` (linux/magic.h).
const MAGIC: u64 = linux_raw_sys::general::SYSFS_MAGIC as u64;

/// The file system type.
pub struct Sysfs;

struct Ops;
impl SuperOps for Ops {}

static CLASS: LockClass = LockClass::new("sysfs_mount");
/// All mounts show one super block.
static ONE: Mutex<Option<Arc<SuperBlock>>> = Mutex::new(&CLASS, None);

impl FileSystemType for Sysfs {
    fn name(&self) -> &'static str {
        "sysfs"
    }
    fn mount(&self, req: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        let mut one = ONE.lock();
        if let Some(sb) = one.as_ref().filter(|sb| sb.root().is_some()) {
            return Ok(sb.clone());
        }
        let sb = SuperBlock::anonymous("sysfs", MAGIC, req.read_only, Box::new(Ops))?;
        sb.set_root(crate::knobs::inode(&sb, base::tree::sys().top().clone())?)?;
        *one = Some(sb.clone());
        Ok(sb)
    }
}

/// Makes sysfs known, with the folders that programs mount things on.
pub fn init() -> Result<()> {
    for d in [
        "kernel/debug",
        "kernel/tracing",
        "fs",
        "class",
        "devices",
        "dev/char",
        "dev/block",
        "block",
        "module",
        "bus",
        "power",
    ] {
        base::tree::sys().dir(d)?;
    }
    vfs::register_filesystem(Arc::new(Sysfs))
}
