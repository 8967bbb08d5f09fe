//! Files without a name: anonymous inodes (`anon_inode:[eventfd]`) and the file systems of pipes and sockets.

use alloc::{boxed::Box, format, sync::Arc};

use base::{Errno, Result, cred::Cred};
use frame::{
    atomic::{AtomicU64, Ordering::Relaxed},
    sync::once::Once,
};
use linux_raw_sys::general::S_IFREG;

use crate::{
    dentry::Dentry,
    file::{File, FileOps},
    inode::{Inode, InodeFlags, InodeOps, NewInode},
    mount::Mount,
    path::Path,
    superblock::{SuperBlock, SuperOps},
    types::{Metadata, OpenFlags, S_IALLUGO},
};

/// `ANON_INODE_FS_MAGIC` (linux/magic.h).
const ANON_INODE_FS_MAGIC: u64 = 0x0904_1934;

struct NoSuperOps;
impl SuperOps for NoSuperOps {}

/// Inodes that have nothing to do; their files bring their own operations.
pub struct Bare;
impl InodeOps for Bare {
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
}

/// The inode of all anonymous files.
struct Nameless;
impl InodeOps for Nameless {
    /// As on Linux its mode names no type.
    fn metadata(&self, inode: &Inode) -> Metadata {
        let m = inode.generic_metadata();
        Metadata { mode: m.mode & S_IALLUGO, ..m }
    }
    fn open(&self, inode: &Arc<Inode>, flags: OpenFlags, cred: &Cred) -> Result<Arc<dyn FileOps>> {
        Bare.open(inode, flags, cred)
    }
}

/// A file system that only gives identities: an inode number, `stat`, a text for `/proc/PID/fd`.
pub struct PseudoFs {
    mount: Arc<Mount>,
    next_ino: AtomicU64,
}

impl PseudoFs {
    pub fn new(fs_name: &'static str, magic: u64) -> Result<PseudoFs> {
        let sb = SuperBlock::anonymous(fs_name, magic, false, Box::new(NoSuperOps))?;
        let root = NewInode { mode: crate::types::FileType::Dir.bits() | 0o555, uid: 0, gid: 0, rdev: 0 };
        sb.set_root(Inode::new(&sb, 1, &root, Box::new(Bare))?)?;
        Ok(PseudoFs { mount: Mount::internal(&sb)?, next_ino: AtomicU64::new(2) })
    }
    /// A new inode, shown as `PREFIX:[INO]`.
    pub fn place(&self, prefix: &str, mode: u32, cred: &Cred, ops: Box<dyn InodeOps>) -> Result<Path> {
        let ino = self.next_ino.fetch_add(1, Relaxed);
        let new = NewInode { mode, uid: cred.fsuid, gid: cred.fsgid, rdev: 0 };
        let inode = Inode::with_flags(
            self.mount.sb(),
            ino,
            &new,
            ops,
            InodeFlags::PLAIN_PERMISSION | InodeFlags::NOATIME,
        )?;
        let name = NameBuf::new(prefix, ino);
        Ok(Path { mount: self.mount.clone(), dentry: Dentry::new_anonymous(inode, name.as_bytes())? })
    }
    /// A place with a given text for an inode that exists.
    pub fn named(&self, inode: Arc<Inode>, text: &[u8]) -> Result<Path> {
        Ok(Path { mount: self.mount.clone(), dentry: Dentry::new_anonymous(inode, text)? })
    }
    pub fn sb(&self) -> &Arc<SuperBlock> {
        self.mount.sb()
    }
}

/// `PREFIX:[N]` without an allocation.
struct NameBuf {
    bytes: [u8; 48],
    len: usize,
}

impl NameBuf {
    fn new(prefix: &str, mut n: u64) -> NameBuf {
        let mut b = NameBuf { bytes: [0; 48], len: 0 };
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                break;
            }
        }
        for part in [prefix.as_bytes(), b":[", &digits[at..], b"]"] {
            let k = part.len().min(b.bytes.len() - b.len);
            b.bytes[b.len..b.len + k].copy_from_slice(&part[..k]);
            b.len += k;
        }
        b
    }
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

struct AnonInodes {
    fs: PseudoFs,
    /// All anonymous files share one inode, as on Linux.
    inode: Arc<Inode>,
}

static ANON: Once<Option<AnonInodes>> = Once::new();

fn anon() -> Result<&'static AnonInodes> {
    ANON.call_once(|| {
        let fs = PseudoFs::new("anon_inodefs", ANON_INODE_FS_MAGIC).ok()?;
        let new = NewInode { mode: S_IFREG | 0o600, uid: 0, gid: 0, rdev: 0 };
        let inode = Inode::new(fs.sb(), 1, &new, Box::new(Nameless)).ok()?;
        Some(AnonInodes { fs, inode })
    })
    .as_ref()
    .ok_or(Errno::ENOMEM)
}

/// A file shown as `anon_inode:NAME` (`[eventfd]`, `[eventpoll]`, `inotify`).
pub fn new_file(name: &str, ops: Arc<dyn FileOps>, flags: OpenFlags, cred: &Arc<Cred>) -> Result<Arc<File>> {
    let a = anon()?;
    let path = a.fs.named(a.inode.clone(), format!("anon_inode:{name}").as_bytes())?;
    File::new(path, ops, flags, cred)
}
