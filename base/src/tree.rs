//! The tree of knobs: procfs and sysfs present it, subsystems fill it.
//!
//! A subsystem declares an entry as data: path, mode, a function that prints it, a function that takes what is written.
//! The presenting file systems know nothing of what stands in it. Reading prints the whole file into a buffer at the
//! first read of an open file, so a reader sees one moment's state; a write is handed over in one piece.
//!
//! ```text
//!   tree::proc().file("loadavg", 0o444, |out| Ok(writeln!(out, "…")?))
//!   tree::sys().knob("kernel/mm/ksm/run", 0o644, show, store)
//! ```
//! Locking: one lock per root, held only to find or change nodes, never while a show or store function runs.

use alloc::{
    boxed::Box,
    collections::BTreeMap,
    string::{String, ToString},
    sync::{Arc, Weak},
    vec::Vec,
};
use core::fmt;

use frame::{
    atomic::{AtomicU64, Ordering},
    sync::{LockClass, Mutex, once::Once},
};

use crate::errno::{Errno, Result};
pub use crate::number::{kstrto, parse_bool, parse_int};

/// Where a show function prints to. Growing is fallible: a full memory makes the read fail with ENOMEM.
#[derive(Default)]
pub struct Out {
    bytes: Vec<u8>,
}

impl Out {
    pub fn new() -> Self {
        Self::default()
    }
    /// Makes room for `n` more bytes at once.
    pub fn reserve(&mut self, n: usize) -> Result<()> {
        Ok(self.bytes.try_reserve(n)?)
    }
    /// Appends raw bytes.
    #[inline]
    pub fn push(&mut self, b: &[u8]) -> Result<()> {
        self.bytes.try_reserve(b.len())?;
        self.bytes.extend_from_slice(b);
        Ok(())
    }
    /// Appends a number in decimal and a space: several times as fast as `write!`, for files that are little else.
    #[inline]
    pub fn number(&mut self, v: u64) -> Result<()> {
        // One digit is what most numbers of such files have.
        if v < 10 { self.push(&[b'0' + v as u8, b' ']) } else { self.long_number(v) }
    }
    fn long_number(&mut self, mut v: u64) -> Result<()> {
        /// Digits of `u64::MAX`, and the space.
        const MOST: usize = 21;
        let mut b = [b' '; MOST];
        let mut at = MOST - 1;
        while v != 0 {
            at -= 1;
            b[at] = b'0' + (v % 10) as u8;
            v /= 10;
        }
        self.push(&b[at..])
    }
    /// As [`Out::number`], with a sign where it is negative.
    pub fn signed(&mut self, v: i64) -> Result<()> {
        if v < 0 {
            self.push(b"-")?;
        }
        self.number(v.unsigned_abs())
    }
    /// Ends the line: a newline takes the place of the last space.
    pub fn end_line(&mut self) -> Result<()> {
        if self.bytes.last() == Some(&b' ') {
            self.bytes.pop();
        }
        self.push(b"\n")
    }
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
    /// Makes `write!` an inherent call, so that callers need no import.
    pub fn write_fmt(&mut self, a: fmt::Arguments<'_>) -> fmt::Result {
        fmt::Write::write_fmt(self, a)
    }
}
impl fmt::Write for Out {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.push(s.as_bytes()).map_err(|_| fmt::Error)
    }
}

type Show = Box<dyn Fn(&mut Out) -> Result<()> + Send + Sync>;
type Store = Box<dyn Fn(&[u8]) -> Result<()> + Send + Sync>;

/// What an entry is.
enum Body {
    Dir(Mutex<BTreeMap<String, Arc<Node>>>),
    File { show: Option<Show>, store: Option<Store> },
    Link(String),
}

/// One entry.
pub struct Node {
    ino: u64,
    mode: u32,
    parent: Weak<Node>,
    body: Body,
}

/// The kind of an entry, as a directory listing shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Dir,
    File,
    Link,
}

static CLASS: LockClass = LockClass::new("knob_tree");
static NEXT_INO: AtomicU64 = AtomicU64::new(0x1000);

impl Node {
    fn new(mode: u32, parent: Weak<Node>, body: Body) -> Arc<Node> {
        Arc::new(Node { ino: NEXT_INO.fetch_add(1, Ordering::Relaxed), mode, parent, body })
    }
    fn dir(mode: u32, parent: Weak<Node>) -> Arc<Node> {
        Self::new(mode, parent, Body::Dir(Mutex::new(&CLASS, BTreeMap::new())))
    }
    pub fn ino(&self) -> u64 {
        self.ino
    }
    /// Permission bits.
    pub fn mode(&self) -> u32 {
        self.mode
    }
    pub fn kind(&self) -> Kind {
        match self.body {
            Body::Dir(_) => Kind::Dir,
            Body::File { .. } => Kind::File,
            Body::Link(_) => Kind::Link,
        }
    }
    /// The folder that holds it; `None` for a root or after removal of the folder.
    pub fn parent(&self) -> Option<Arc<Node>> {
        self.parent.upgrade()
    }
    /// The entry of that name. ENOTDIR, ENOENT.
    pub fn lookup(&self, name: &str) -> Result<Arc<Node>> {
        let Body::Dir(d) = &self.body else { return Err(Errno::ENOTDIR) };
        d.lock().get(name).cloned().ok_or(Errno::ENOENT)
    }
    /// Names and entries, sorted.
    pub fn list(&self) -> Result<Vec<(String, Arc<Node>)>> {
        let Body::Dir(d) = &self.body else { return Err(Errno::ENOTDIR) };
        Ok(d.lock().iter().map(|(k, v)| (k.clone(), v.clone())).collect())
    }
    /// How many folders stand in it (a folder's link count is two more).
    pub fn subdirs(&self) -> usize {
        match &self.body {
            Body::Dir(d) => d.lock().values().filter(|n| n.kind() == Kind::Dir).count(),
            _ => 0,
        }
    }
    /// Prints it. EIO where it is write-only, EISDIR for a folder.
    pub fn read(&self) -> Result<Vec<u8>> {
        match &self.body {
            Body::File { show: Some(f), .. } => {
                let mut out = Out::new();
                f(&mut out)?;
                Ok(out.into_vec())
            }
            Body::File { .. } => Err(Errno::EIO),
            Body::Dir(_) => Err(Errno::EISDIR),
            Body::Link(_) => Err(Errno::EINVAL),
        }
    }
    /// Hands over what was written. EIO where it is read-only.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        match &self.body {
            Body::File { store: Some(f), .. } => f(bytes),
            Body::File { .. } => Err(Errno::EIO),
            Body::Dir(_) => Err(Errno::EISDIR),
            Body::Link(_) => Err(Errno::EINVAL),
        }
    }
    /// A symbolic link's text.
    pub fn target(&self) -> Result<&str> {
        match &self.body {
            Body::Link(t) => Ok(t),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// A tree. Paths have no leading slash; missing folders on the way are made.
pub struct Root {
    top: Arc<Node>,
}

impl Root {
    #[expect(clippy::new_without_default, reason = "an accidental root would be lost")]
    pub fn new() -> Root {
        Self::with_folders(0o555)
    }
    /// One whose folders have these permission bits.
    pub fn with_folders(mode: u32) -> Root {
        Root { top: Node::dir(mode, Weak::new()) }
    }
    /// The top folder.
    pub fn top(&self) -> &Arc<Node> {
        &self.top
    }
    /// A read-only file. EEXIST if the name is taken.
    pub fn file(
        &self,
        path: &str,
        mode: u32,
        show: impl Fn(&mut Out) -> Result<()> + Send + Sync + 'static,
    ) -> Result<()> {
        self.insert(path, mode, Body::File { show: Some(Box::new(show)), store: None })
    }
    /// A file that can be read and written.
    pub fn knob(
        &self,
        path: &str,
        mode: u32,
        show: impl Fn(&mut Out) -> Result<()> + Send + Sync + 'static,
        store: impl Fn(&[u8]) -> Result<()> + Send + Sync + 'static,
    ) -> Result<()> {
        self.insert(path, mode, Body::File { show: Some(Box::new(show)), store: Some(Box::new(store)) })
    }
    /// A file that can only be written.
    pub fn trigger(
        &self,
        path: &str,
        mode: u32,
        store: impl Fn(&[u8]) -> Result<()> + Send + Sync + 'static,
    ) -> Result<()> {
        self.insert(path, mode, Body::File { show: None, store: Some(Box::new(store)) })
    }
    /// A symbolic link.
    pub fn link(&self, path: &str, target: &str) -> Result<()> {
        self.insert(path, 0o777, Body::Link(target.to_string()))
    }
    /// An empty folder (or the one that is there), as a mount point.
    pub fn dir(&self, path: &str) -> Result<Arc<Node>> {
        self.dir_at(path.split('/'))
    }
    /// Takes an entry and everything below it away. False if there was none.
    pub fn remove(&self, path: &str) -> bool {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Ok(d) = self.find(dir) else { return false };
        let Body::Dir(m) = &d.body else { return false };
        let gone = m.lock().remove(name);
        gone.is_some()
    }
    /// The entry at a path; the top for "".
    pub fn find(&self, path: &str) -> Result<Arc<Node>> {
        path.split('/').filter(|s| !s.is_empty()).try_fold(self.top.clone(), |n, s| n.lookup(s))
    }

    fn dir_at<'a>(&self, parts: impl Iterator<Item = &'a str>) -> Result<Arc<Node>> {
        parts.filter(|s| !s.is_empty()).try_fold(self.top.clone(), |n, s| {
            let Body::Dir(d) = &n.body else { return Err(Errno::ENOTDIR) };
            let next = d
                .lock()
                .entry(s.to_string())
                .or_insert_with(|| Node::dir(n.mode, Arc::downgrade(&n)))
                .clone();
            Ok(next)
        })
    }
    fn insert(&self, path: &str, mode: u32, body: Body) -> Result<()> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let d = self.dir_at(dir.split('/'))?;
        let Body::Dir(m) = &d.body else { return Err(Errno::ENOTDIR) };
        let node = Node::new(mode, Arc::downgrade(&d), body);
        let mut m = m.lock();
        if m.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        m.insert(name.to_string(), node);
        Ok(())
    }
}

/// What `/proc` shows besides the processes.
pub fn proc() -> &'static Root {
    static ROOT: Once<Root> = Once::new();
    ROOT.call_once(Root::new)
}
/// What `/proc/PID/net` shows: files about the network, the same for all processes.
pub fn net() -> &'static Root {
    static ROOT: Once<Root> = Once::new();
    ROOT.call_once(Root::new)
}
/// What `/sys` shows.
pub fn sys() -> &'static Root {
    static ROOT: Once<Root> = Once::new();
    ROOT.call_once(Root::new)
}

/// What `/sys/kernel/debug` shows.
pub fn debug() -> &'static Root {
    static ROOT: Once<Root> = Once::new();
    ROOT.call_once(|| Root::with_folders(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_write_prints_them() {
        let mut o = Out::new();
        for v in [0, 9, 10, 99, 100, 12_345, u64::MAX] {
            o.number(v).unwrap();
        }
        for v in [0, -1, i64::MIN, 77] {
            o.signed(v).unwrap();
        }
        o.end_line().unwrap();
        let want = b"0 9 10 99 100 12345 18446744073709551615 0 -1 -9223372036854775808 77\n";
        assert_eq!(o.into_vec(), want);
    }

    #[test]
    fn entries_are_found_listed_and_removed() {
        let r = Root::new();
        r.file("sys/kernel/ostype", 0o444, |o| Ok(writeln!(o, "Linux")?)).unwrap();
        r.link("self", "1").unwrap();
        assert_eq!(r.find("sys/kernel/ostype").unwrap().read().unwrap(), b"Linux\n");
        assert_eq!(r.find("sys").unwrap().kind(), Kind::Dir);
        assert_eq!(r.find("self").unwrap().target().unwrap(), "1");
        assert_eq!(r.file("self", 0o444, |_| Ok(())).unwrap_err(), Errno::EEXIST);
        assert_eq!(r.find("sys/nothing").err(), Some(Errno::ENOENT));
        assert_eq!(r.find("self/x").err(), Some(Errno::ENOTDIR));
        assert!(r.remove("sys/kernel") && !r.remove("sys/kernel"));
        assert_eq!(r.top().list().unwrap().len(), 2);
    }

    #[test]
    fn knobs_take_what_is_written() {
        let r = Root::new();
        let v = Arc::new(AtomicU64::new(5));
        let (a, b) = (v.clone(), v);
        r.knob(
            "k",
            0o644,
            move |o| Ok(writeln!(o, "{}", a.load(Ordering::Relaxed))?),
            move |s| {
                b.store(parse_int(s)? as u64, Ordering::Relaxed);
                Ok(())
            },
        )
        .unwrap();
        let n = r.find("k").unwrap();
        n.write(b" 77\n").unwrap();
        assert_eq!(n.read().unwrap(), b"77\n");
        assert_eq!(n.write(b"x"), Err(Errno::EINVAL));
    }
}
