//! What is done to all file systems at once: sync(2), and the SysRq commands `s` and `u`.

use alloc::{sync::Arc, vec::Vec};

use crate::{mount::NAMESPACE, mount_ops::all_mounts, superblock::SuperBlock, types::major};

/// The super blocks of all mounts, each once.
pub(crate) fn all() -> Vec<Arc<SuperBlock>> {
    let mut list: Vec<Arc<SuperBlock>> = Vec::new();
    for m in all_mounts(&NAMESPACE.lock()) {
        if !list.iter().any(|s| Arc::ptr_eq(s, m.sb())) {
            list.push(m.sb().clone());
        }
    }
    list
}

/// Writes everything back. As on Linux, an error is for those who call `fsync`.
pub fn sync_all() {
    for sb in all() {
        let _ = sb.ops().sync();
    }
}

/// Makes every file system on a device read-only, even if files are open for writing.
pub fn emergency_remount() {
    for sb in all().into_iter().filter(|s| major(s.dev) != 0 && !s.is_read_only()) {
        sb.set_read_only(true);
        // It may still have something to write, and must not say no.
        let _ = sb.ops().remount(true, b"");
    }
}
