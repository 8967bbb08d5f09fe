//! devtmpfs: a tmpfs that the kernel fills with device nodes. One file system, however often it is mounted.

use alloc::sync::Arc;

use base::{Errno, Result};
use frame::sync::once::Once;
use vfs::{FileSystemType, Mount, Path, SuperBlock, superblock::MountRequest};

static SUPER: Once<Arc<SuperBlock>> = Once::new();
/// Keeps the file system alive and is what `kdevtmpfs` walks: outside of every process's tree.
static MOUNT: Once<Arc<Mount>> = Once::new();

/// The file system type.
pub struct Devtmpfs;

impl FileSystemType for Devtmpfs {
    fn name(&self) -> &'static str {
        "devtmpfs"
    }
    /// Options of later mounts change nothing, as on Linux.
    fn mount(&self, _req: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        SUPER.get().cloned().ok_or(Errno::ENODEV)
    }
}

/// The root folder, as the kernel sees it.
pub(crate) fn root() -> Result<Path> {
    let mount = MOUNT.get().ok_or(Errno::ENODEV)?;
    Ok(Path { mount: mount.clone(), dentry: mount.root().clone() })
}

/// Makes the file system, before any device is registered.
pub fn init() -> Result<()> {
    let sb = crate::tmpfs::new_super("devtmpfs", b"mode=755")?;
    let mount = Mount::internal(&sb)?;
    SUPER.call_once(|| sb);
    MOUNT.call_once(|| mount);
    vfs::register_filesystem(Arc::new(Devtmpfs))
}
