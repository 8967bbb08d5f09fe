//! Presents a [`base::tree`] as a file system: all of sysfs, and what procfs shows besides processes.
//!
//! A file is printed when it is first read after opening (and again after a seek to its start), so that a reader sees one
//! moment's state however small its reads are. Names are looked up anew each time, because entries come and go.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use base::{
    Errno, Result,
    cred::Cred,
    tree::{Kind, Node},
};
use frame::sync::{LockClass, Mutex, RwSpinLock};
use vfs::{
    DcachePolicy, DirSink, File, FileOps, FileType, Inode, InodeOps, IoDst, IoSrc, Link, Metadata, NewInode,
    OpenFlags, SetAttr, SuperBlock,
};

/// The longest single write that a knob is handed: a page, as in sysfs and for sysctls.
const MAX_WRITE: usize = 4096;

/// Opens a file that is more than a text. Gets the opener's credentials.
pub type OpenOwn = fn(&Cred) -> Result<Arc<dyn FileOps>>;
static OWN_CLASS: LockClass = LockClass::new("own_files");
/// By inode number.
static OWN: RwSpinLock<Vec<(u64, OpenOwn)>> = RwSpinLock::new(&OWN_CLASS, Vec::new());

/// Declares a file of a tree that is opened by `open`: one that is waited for, or that has a position of its own. EEXIST.
pub fn own_file(root: &base::tree::Root, path: &str, mode: u32, open: OpenOwn) -> Result<()> {
    root.file(path, mode, |_| Err(Errno::EINVAL))?;
    let ino = root.find(path)?.ino();
    OWN.write().push((ino, open));
    Ok(())
}

/// An inode of `node`.
pub fn inode(sb: &Arc<SuperBlock>, node: Arc<Node>) -> Result<Arc<Inode>> {
    let kind = match node.kind() {
        Kind::Dir => FileType::Dir,
        Kind::File => FileType::Regular,
        Kind::Link => FileType::Symlink,
    };
    let new = NewInode { mode: kind.bits() | node.mode(), uid: 0, gid: 0, rdev: 0 };
    Inode::new(sb, node.ino(), &new, Box::new(KnobInode { node }))
}

struct KnobInode {
    node: Arc<Node>,
}

impl InodeOps for KnobInode {
    fn metadata(&self, inode: &Inode) -> Metadata {
        let mut m = inode.generic_metadata();
        if self.node.kind() == Kind::Dir {
            m.nlink = 2 + self.node.subdirs() as u32;
        }
        m
    }
    fn dcache_policy(&self) -> DcachePolicy {
        DcachePolicy::Revalidate
    }
    fn revalidate(&self, _dir: &Arc<Inode>, name: &[u8], child: &Arc<Inode>) -> bool {
        let now = core::str::from_utf8(name).ok().and_then(|n| self.node.lookup(n).ok());
        now.is_some_and(|n| n.ino() == child.ino)
    }
    fn lookup(&self, dir: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        let name = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        inode(&dir.sb().ok_or(Errno::ENOENT)?, self.node.lookup(name)?)
    }
    fn get_link(&self, _inode: &Arc<Inode>) -> Result<Link> {
        Ok(Link::Owned(self.node.target()?.as_bytes().into()))
    }
    /// Truncation before a write is accepted and means nothing, as on Linux.
    fn setattr(&self, inode: &Arc<Inode>, set: &SetAttr) -> Result<()> {
        inode.apply(set);
        Ok(())
    }
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, cred: &Cred) -> Result<Arc<dyn FileOps>> {
        let own = OWN.read().iter().find(|(ino, _)| *ino == self.node.ino()).map(|(_, open)| *open);
        if let Some(open) = own {
            return open(cred);
        }
        Ok(match self.node.kind() {
            Kind::Dir => Arc::new(KnobDir { node: self.node.clone() }),
            _ => {
                let node = self.node.clone();
                Arc::new(TextFile::new(move || node.read(), {
                    let node = self.node.clone();
                    move |b| node.write(b)
                }))
            }
        })
    }
}

/// An open folder.
pub struct KnobDir {
    node: Arc<Node>,
}

impl KnobDir {
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

impl FileOps for KnobDir {
    fn readdir(&self, file: &File, pos: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let pos = match dots(file, pos, sink) {
            Ok(p) => p,
            Err(full_at) => return Ok(full_at),
        };
        list_nodes(&self.node, pos, 2, sink)
    }
}

/// Gives `.` and `..`, positions 0 and 1. `Err`: the sink is full at that position.
pub fn dots(file: &File, mut pos: u64, sink: &mut dyn DirSink) -> Result<u64, u64> {
    let dtype = FileType::Dir.dtype();
    for name in [&b"."[..], b".."].iter().skip(pos.min(2) as usize) {
        let here = file.inode().ino;
        let ino =
            if name.len() == 1 { here } else { file.path().dentry.parent().map_or(here, |d| d.inode().ino) };
        if !sink.emit(name, ino, dtype, pos + 1) {
            return Err(pos);
        }
        pos += 1;
    }
    Ok(pos)
}

/// Gives the entries of `node` from position `pos` on; the first has position `base`.
pub fn list_nodes(node: &Node, pos: u64, base: u64, sink: &mut dyn DirSink) -> Result<u64> {
    let mut pos = pos;
    for (i, (name, n)) in node.list()?.into_iter().enumerate() {
        let at = base + i as u64;
        if at < pos {
            continue;
        }
        let t = match n.kind() {
            Kind::Dir => FileType::Dir,
            Kind::File => FileType::Regular,
            Kind::Link => FileType::Symlink,
        };
        if !sink.emit(name.as_bytes(), n.ino(), t.dtype(), at + 1) {
            return Ok(at);
        }
        pos = at + 1;
    }
    Ok(pos)
}

type Show = Box<dyn Fn() -> Result<Vec<u8>> + Send + Sync>;
type Store = Box<dyn Fn(&[u8]) -> Result<()> + Send + Sync>;

/// An open file whose text is made by a function when it is read.
pub struct TextFile {
    show: Show,
    store: Store,
    /// What the first read printed.
    text: Mutex<Option<Vec<u8>>>,
}

static CLASS: LockClass = LockClass::new("text_file");

impl TextFile {
    pub fn new(
        show: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static,
        store: impl Fn(&[u8]) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self { show: Box::new(show), store: Box::new(store), text: Mutex::new(&CLASS, None) }
    }
}

impl FileOps for TextFile {
    fn read_at(&self, _file: &File, off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        let mut text = self.text.lock();
        if off == 0 || text.is_none() {
            *text = Some((self.show)()?);
        }
        let t = text.as_deref().unwrap_or_default();
        match usize::try_from(off).ok().and_then(|o| t.get(o..)) {
            Some(rest) => dst.put(rest),
            None => Ok(0),
        }
    }
    fn has_contents(&self) -> bool {
        false
    }
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        let want = src.len();
        if want > MAX_WRITE {
            return Err(Errno::EINVAL);
        }
        let mut b = Vec::new();
        b.try_reserve_exact(want)?;
        b.resize(want, 0);
        let n = src.take(&mut b)?;
        (self.store)(&b[..n])?;
        Ok(n)
    }
}
