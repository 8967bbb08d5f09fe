//! A task's folder: `/proc/PID` and `/proc/PID/task/TID`.

use alloc::{
    boxed::Box,
    format,
    sync::{Arc, Weak},
    vec::Vec,
};

use base::{Errno, Result, cred::Cred, tree::Out};
use frame::task::Task;
use sched::TaskRef;
use vfs::{
    DcachePolicy, DirSink, File, FileOps, FileType, Inode, InodeOps, Link, Metadata, NewInode, OpenFlags,
    SetAttr, SuperBlock,
};

use super::{Body, DirBody, TaskDir, entries, entry, owner, root};
use crate::knobs::{TextFile, dots};

/// Inode numbers: a block of 2¹⁶ per task for its process folder, another for its thread folder.
fn base_ino(pid: u32, in_thread: bool) -> u64 {
    1 << 40 | u64::from(in_thread) << 39 | u64::from(pid) << 16
}
pub(super) fn folder_ino(t: &TaskRef, in_thread: bool) -> u64 {
    base_ino(sched::thread(t).pid(), in_thread)
}

/// What all inodes below a task's folder have: the task, as long as it lives.
struct Owned {
    task: Weak<Task>,
    pid: u32,
    in_thread: bool,
}

impl Owned {
    fn of(t: &TaskRef, in_thread: bool) -> Self {
        Owned { task: Arc::downgrade(t), pid: sched::thread(t).pid(), in_thread }
    }
    /// The task, if its number still belongs to it.
    fn task(&self) -> Result<TaskRef> {
        let t = self.task.upgrade().ok_or(Errno::ESRCH)?;
        match sched::pid::find(self.pid) {
            Some(now) if Arc::ptr_eq(&now, &t) => Ok(t),
            _ => Err(Errno::ESRCH),
        }
    }
    fn metadata(&self, inode: &Inode) -> Metadata {
        let mut m = inode.generic_metadata();
        if let Ok(t) = self.task() {
            (m.uid, m.gid) = owner(&t);
        }
        m
    }
}

fn make(
    sb: &Arc<SuperBlock>,
    ino: u64,
    kind: FileType,
    mode: u32,
    t: &TaskRef,
    ops: Box<dyn InodeOps>,
) -> Result<Arc<Inode>> {
    let (uid, gid) = owner(t);
    Inode::new(sb, ino, &NewInode { mode: kind.bits() | mode, uid, gid, rdev: 0 }, ops)
}

/// The inode of a task's folder.
pub(super) fn folder(sb: &Arc<SuperBlock>, t: &TaskRef, in_thread: bool) -> Result<Arc<Inode>> {
    make(sb, folder_ino(t, in_thread), FileType::Dir, 0o555, t, Box::new(Folder(Owned::of(t, in_thread))))
}
/// True if `inode` is the folder of this very task.
pub(super) fn is_folder_of(inode: &Inode, t: &TaskRef) -> bool {
    inode.ops_as::<Folder>().is_some_and(|f| f.0.task.as_ptr() == Arc::as_ptr(t))
}

struct Folder(Owned);

impl InodeOps for Folder {
    fn metadata(&self, inode: &Inode) -> Metadata {
        self.0.metadata(inode)
    }
    fn dcache_policy(&self) -> DcachePolicy {
        DcachePolicy::Revalidate
    }
    fn revalidate(&self, _dir: &Arc<Inode>, _name: &[u8], _child: &Arc<Inode>) -> bool {
        self.0.task().is_ok()
    }
    fn lookup(&self, dir: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        let (sb, t) = (dir.sb().ok_or(Errno::ENOENT)?, self.0.task().map_err(|_| Errno::ENOENT)?);
        let at = base_ino(self.0.pid, self.0.in_thread);
        if name == b"task" && !self.0.in_thread {
            return make(&sb, at + 1, FileType::Dir, 0o555, &t, Box::new(Threads(Owned::of(&t, false))));
        }
        let index =
            entries(self.0.in_thread).iter().position(|e| e.name.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let e = entry(name, self.0.in_thread).ok_or(Errno::ENOENT)?;
        let (ino, own) = (at + 2 + index as u64, Owned::of(&t, self.0.in_thread));
        match e.body {
            Body::File { .. } => {
                make(&sb, ino, FileType::Regular, e.mode, &t, Box::new(TaskFile { own, body: e.body }))
            }
            Body::Link(f) => make(&sb, ino, FileType::Symlink, e.mode, &t, Box::new(TaskLink { own, f })),
            Body::Dir(d) => make(&sb, ino, FileType::Dir, e.mode, &t, Box::new(SubDir { own, dir: d, ino })),
        }
    }
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        self.0.task().map_err(|_| Errno::ENOENT)?;
        let (pid, in_thread) = (self.0.pid, self.0.in_thread);
        let mut names: Vec<(Vec<u8>, u64, FileType)> = Vec::new();
        let at = base_ino(pid, in_thread);
        if !in_thread {
            names.push((b"task".to_vec(), at + 1, FileType::Dir));
        }
        for (i, e) in entries(in_thread).iter().enumerate() {
            let kind = match e.body {
                Body::File { .. } => FileType::Regular,
                Body::Link(_) => FileType::Symlink,
                Body::Dir(_) => FileType::Dir,
            };
            names.push((e.name.as_bytes().to_vec(), at + 2 + i as u64, kind));
        }
        Ok(Arc::new(Listing(names)))
    }
}

/// A file.
struct TaskFile {
    own: Owned,
    body: Body,
}
impl InodeOps for TaskFile {
    fn metadata(&self, inode: &Inode) -> Metadata {
        self.own.metadata(inode)
    }
    fn setattr(&self, inode: &Arc<Inode>, set: &SetAttr) -> Result<()> {
        // O_TRUNC means nothing here; anything else may not be changed.
        if set.mode.is_some() || set.uid.is_some() || set.gid.is_some() {
            return Err(Errno::EPERM);
        }
        inode.apply(&SetAttr::default());
        Ok(())
    }
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        let Body::File { show, store } = self.body else { return Err(Errno::EINVAL) };
        self.own.task()?;
        let again = |o: &Owned| Owned { task: o.task.clone(), pid: o.pid, in_thread: o.in_thread };
        let (for_read, for_write) = (again(&self.own), again(&self.own));
        Ok(Arc::new(TextFile::new(
            move || {
                let mut out = Out::new();
                show(&for_read.task()?, &mut out)?;
                Ok(out.into_vec())
            },
            move |b| store.ok_or(Errno::EINVAL)?(&for_write.task()?, b),
        )))
    }
}

/// A symbolic link.
struct TaskLink {
    own: Owned,
    f: fn(&TaskRef) -> Result<Link>,
}
impl InodeOps for TaskLink {
    fn metadata(&self, inode: &Inode) -> Metadata {
        self.own.metadata(inode)
    }
    fn get_link(&self, _inode: &Arc<Inode>) -> Result<Link> {
        (self.f)(&self.own.task().map_err(|_| Errno::ENOENT)?)
    }
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ELOOP)
    }
}

/// A folder like `fd`.
struct SubDir {
    own: Owned,
    dir: &'static dyn TaskDir,
    ino: u64,
}
impl InodeOps for SubDir {
    fn metadata(&self, inode: &Inode) -> Metadata {
        self.own.metadata(inode)
    }
    fn dcache_policy(&self) -> DcachePolicy {
        DcachePolicy::None
    }
    fn lookup(&self, dir: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        let (sb, t) = (dir.sb().ok_or(Errno::ENOENT)?, self.own.task().map_err(|_| Errno::ENOENT)?);
        let e = self.dir.lookup(&t, name)?;
        let own = Owned::of(&t, self.own.in_thread);
        let kind = if matches!(e.body, DirBody::Link(_)) { FileType::Symlink } else { FileType::Regular };
        make(
            &sb,
            sub_ino(self.ino, name),
            kind,
            e.mode,
            &t,
            Box::new(Named { own, name: name.into(), body: e.body }),
        )
    }
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        let t = self.own.task().map_err(|_| Errno::ENOENT)?;
        let names = self.dir.list(&t)?.into_iter().map(|n| {
            let kind = match self.dir.lookup(&t, &n) {
                Ok(e) if matches!(e.body, DirBody::File(_)) => FileType::Regular,
                _ => FileType::Symlink,
            };
            (n.clone(), sub_ino(self.ino, &n), kind)
        });
        Ok(Arc::new(Listing(names.collect())))
    }
}
/// Numbers below one folder need only differ from each other.
fn sub_ino(dir: u64, name: &[u8]) -> u64 {
    let n = root::parse_pid(name)
        .map_or_else(|| name.iter().fold(7u64, |h, &b| h.wrapping_mul(31) + u64::from(b)), u64::from);
    dir << 20 | (n & 0xf_ffff)
}

struct Named {
    own: Owned,
    name: Vec<u8>,
    body: DirBody,
}
impl InodeOps for Named {
    fn metadata(&self, inode: &Inode) -> Metadata {
        self.own.metadata(inode)
    }
    fn get_link(&self, _inode: &Arc<Inode>) -> Result<Link> {
        let DirBody::Link(f) = self.body else { return Err(Errno::EINVAL) };
        f(&self.own.task().map_err(|_| Errno::ENOENT)?, &self.name)
    }
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        let DirBody::File(f) = self.body else { return Err(Errno::ELOOP) };
        let (own, name) = (
            Owned { task: self.own.task.clone(), pid: self.own.pid, in_thread: self.own.in_thread },
            self.name.clone(),
        );
        Ok(Arc::new(TextFile::new(
            move || {
                let mut out = Out::new();
                f(&own.task()?, &name, &mut out)?;
                Ok(out.into_vec())
            },
            |_| Err(Errno::EINVAL),
        )))
    }
}

/// `/proc/PID/task`.
struct Threads(Owned);
impl InodeOps for Threads {
    fn metadata(&self, inode: &Inode) -> Metadata {
        let mut m = self.0.metadata(inode);
        m.nlink = 2 + root::threads_of(self.0.pid).len() as u32;
        m
    }
    fn dcache_policy(&self) -> DcachePolicy {
        DcachePolicy::Revalidate
    }
    fn revalidate(&self, _dir: &Arc<Inode>, name: &[u8], child: &Arc<Inode>) -> bool {
        root::parse_pid(name).and_then(sched::pid::find).is_some_and(|t| is_folder_of(child, &t))
    }
    fn lookup(&self, dir: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        let sb = dir.sb().ok_or(Errno::ENOENT)?;
        let t = root::parse_pid(name).and_then(sched::pid::find).ok_or(Errno::ENOENT)?;
        let tgid = sched::thread(&*self.0.task().map_err(|_| Errno::ENOENT)?).tgid();
        if sched::thread(&t).tgid() != tgid {
            return Err(Errno::ENOENT);
        }
        folder(&sb, &t, true)
    }
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        let tgid = sched::thread(&*self.0.task().map_err(|_| Errno::ENOENT)?).tgid();
        let names = root::threads_of(tgid).into_iter().map(|t| {
            (format!("{}", sched::thread(&t).pid()).into_bytes(), folder_ino(&t, true), FileType::Dir)
        });
        Ok(Arc::new(Listing(names.collect())))
    }
}

/// A folder's names as they were when it was opened.
struct Listing(Vec<(Vec<u8>, u64, FileType)>);
impl FileOps for Listing {
    fn readdir(&self, file: &File, pos: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let mut pos = match dots(file, pos, sink) {
            Ok(p) => p,
            Err(full_at) => return Ok(full_at),
        };
        for (name, ino, kind) in self.0.iter().skip(pos.saturating_sub(2) as usize) {
            if !sink.emit(name, *ino, kind.dtype(), pos + 1) {
                return Ok(pos);
            }
            pos += 1;
        }
        Ok(pos)
    }
}
