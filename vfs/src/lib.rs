//! Files as programs see them: names, mounts, open files, and the waiting on them.
//!
//! # Theory
//! A *file system* keeps [`Inode`]s; [`InodeOps`] is what it must answer. A [`Dentry`] is a cached name: a node of a tree that
//! mirrors the directories looked at so far. A [`Mount`] shows one tree of dentries at a place in the tree of mounts. A place is
//! therefore a pair, a [`Path`] of mount and dentry, and [`walk`] turns names into places. Opening a place gives a [`File`],
//! whose [`FileOps`] move the bytes; an [`FdTable`] gives files small numbers.
//!
//! ```text
//!   fd ──▶ FdTable ──▶ File ──▶ Path ──▶ Mount ──▶ SuperBlock
//!                       │         └────▶ Dentry ──▶ Inode ──▶ InodeOps (tmpfs, procfs, …)
//!                       └──▶ FileOps
//! ```
//!
//! # Locks, outermost first
//!
//! | lock | guards |
//! |---|---|
//! | `mount::NAMESPACE` (sleeping) | changes of the mount tree |
//! | `SuperBlock::names` (sleeping; shared, or exclusive for rename and rmdir) | which directory holds which name |
//! | `Inode::dir_lock` (sleeping) | one directory's entries while they change |
//! | `Inode::io_lock` (sleeping) | a regular file's contents, size and attributes while they change |
//! | `File::pos` (sleeping, outside `io_lock`) | a file's position |
//! | `Dentry::children`, `Dentry::at`, `Mount::children` (spinning) | the caches that the walk reads |
//!
//! Two directories are never locked at once: whatever moves between directories holds `names` exclusively instead.
//! A walk through cached names takes one spin lock per component and allocates nothing.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod anon;
pub mod attr;
pub mod context;
pub mod copy;
pub mod dentry;
pub mod drop_caches;
pub mod emergency;
pub mod epoll;
pub mod eventfd;
pub mod fdtable;
pub mod file;
pub mod file_io;
pub mod file_limits;
pub mod inode;
pub mod io;
pub mod locks;
pub mod mount;
pub mod mount_ops;
pub mod mount_text;
pub mod name;
pub mod namei;
pub mod open;
pub mod path;
pub mod poll;
pub mod rename;
pub mod select;
pub mod special;
pub mod superblock;
pub mod timerfd;
pub mod types;
pub mod walk;

pub use attr::*;
pub use context::{Ctx, FsContext};
pub use dentry::Dentry;
pub use fdtable::{Fd, FdTable};
pub use file::{DirSink, File, FileKind, FileOps, emit_dots};
pub use inode::{DcachePolicy, Inode, InodeFlags, InodeOps, Link, NewInode, SetAttr, SetTime};
pub use io::{IoDst, IoSrc, IoVec};
pub use mount::Mount;
pub use mount_ops::{do_mount, pivot_root, umount};
pub use mount_text::{mountinfo_text, mounts_text};
pub use name::Name;
pub use namei::*;
pub use open::{open, open_path};
pub use path::{Path, d_path};
pub use poll::{PollFlags, PollQueue, PollTable};
pub use rename::rename;
pub use superblock::{FileSystemType, FsFlags, StatFs, SuperBlock, SuperOps, register_filesystem};
pub use types::*;
pub use walk::{LookupFlags, lookup};
