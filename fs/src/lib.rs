//! File systems.
//!
//! | module | gives |
//! |---|---|
//! | [`tmpfs`] | files in memory: `/tmp`, `/run`, and the root at boot |
//! | [`pipe`] | pipes and FIFOs |
//! | [`procfs`], [`sysfs`] | what the kernel says of itself; [`knobs`] presents their common tree |
//! | [`tracefs`], [`debugfs`] | trace events and what they recorded; the older place for them |
//! | [`devtmpfs`], [`kdevtmpfs`] | `/dev`, and the thread that fills it |
//! | [`devpts`] | `/dev/pts`: the slaves of pseudo-terminals |
//! | [`initramfs`] | unpacking the archive that the boot loader brought into the root |
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod debugfs;
pub mod devpts;
pub mod devtmpfs;
pub mod initramfs;
pub mod kdevtmpfs;
pub mod knobs;
pub mod pipe;
pub mod procfs;
pub mod sysfs;
pub mod tmpfs;
pub mod tracefs;

/// Registers the file systems of this room and mounts the (empty) root. Before the first user process.
pub fn init() -> base::Result<vfs::Path> {
    tmpfs::init()?;
    procfs::init()?;
    sysfs::init()?;
    tracefs::init()?;
    debugfs::init()?;
    devtmpfs::init()?;
    devpts::init()?;
    pipe::init()?;
    vfs::drop_caches::init()?;
    vfs::file_limits::init()?;
    tmpfs::mount_rootfs()
}

/// Starts this room's thread. When kernel threads can be made, and before drivers register devices.
pub fn start_daemons() -> base::Result<()> {
    kdevtmpfs::init()
}
