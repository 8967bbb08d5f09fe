//! The top folder: `self`, `thread-self`, one folder per process, and the declared tree.

use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};

use base::{Errno, Result, cred::Cred};
use sched::TaskRef;
use vfs::{
    DcachePolicy, DirSink, File, FileOps, FileType, Inode, InodeOps, Link, Metadata, NewInode, OpenFlags,
    SuperBlock,
};

use super::task;
use crate::knobs;

/// Inode number of the top, as on Linux.
const ROOT_INO: u64 = 1;
/// Numbers of `self` and `thread-self`: below those of the declared tree.
const SELF_INO: u64 = 2;

pub(super) fn inode(sb: &Arc<SuperBlock>) -> Result<Arc<Inode>> {
    let new = NewInode { mode: FileType::Dir.bits() | 0o555, uid: 0, gid: 0, rdev: 0 };
    Inode::new(sb, ROOT_INO, &new, Box::new(Root))
}

struct Root;

/// A process's number: decimal, without a leading zero.
pub(super) fn parse_pid(name: &[u8]) -> Option<u32> {
    let s = core::str::from_utf8(name).ok()?;
    if s.is_empty() || s.starts_with('0') || !s.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    s.parse().ok()
}

/// The process (leader of its thread group) or thread of that number. Threads can be looked up at the top too, though
/// they are not listed there.
fn find(name: &[u8]) -> Option<TaskRef> {
    sched::pid::find(parse_pid(name)?)
}

impl InodeOps for Root {
    fn metadata(&self, inode: &Inode) -> Metadata {
        let mut m = inode.generic_metadata();
        m.nlink = 2 + base::tree::proc().top().subdirs() as u32 + sched::pid::count() as u32;
        m
    }
    fn dcache_policy(&self) -> DcachePolicy {
        DcachePolicy::Revalidate
    }
    fn revalidate(&self, _dir: &Arc<Inode>, name: &[u8], child: &Arc<Inode>) -> bool {
        if let Some(n) = core::str::from_utf8(name).ok().and_then(|n| base::tree::proc().top().lookup(n).ok())
        {
            return n.ino() == child.ino;
        }
        match name {
            b"self" | b"thread-self" => true,
            _ => find(name).is_some_and(|t| task::is_folder_of(child, &t)),
        }
    }
    fn lookup(&self, dir: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        let sb = dir.sb().ok_or(Errno::ENOENT)?;
        match name {
            b"self" => return self_link(&sb, SELF_INO, || format!("{}", sched::me().tgid())),
            b"thread-self" => {
                return self_link(&sb, SELF_INO + 1, || {
                    format!("{}/task/{}", sched::me().tgid(), sched::me().pid())
                });
            }
            _ => {}
        }
        if let Some(t) = find(name) {
            return task::folder(&sb, &t, false);
        }
        let name = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        knobs::inode(&sb, base::tree::proc().top().lookup(name)?)
    }
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(RootDir))
    }
}

struct SelfLink(fn() -> String);
fn self_link(sb: &Arc<SuperBlock>, ino: u64, text: fn() -> String) -> Result<Arc<Inode>> {
    let new = NewInode { mode: FileType::Symlink.bits() | 0o777, uid: 0, gid: 0, rdev: 0 };
    Inode::new(sb, ino, &new, Box::new(SelfLink(text)))
}
impl InodeOps for SelfLink {
    fn get_link(&self, _inode: &Arc<Inode>) -> Result<Link> {
        Ok(Link::Owned((self.0)().into_bytes()))
    }
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ELOOP)
    }
}

/// Positions: 0, 1 dots; 2, 3 the self links; then the declared tree; from [`FIRST_PID`] on, PIDs.
struct RootDir;
const FIRST_KNOB: u64 = 4;
const FIRST_PID: u64 = 0x1_0000;

impl FileOps for RootDir {
    fn readdir(&self, file: &File, pos: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let mut pos = match knobs::dots(file, pos, sink) {
            Ok(p) => p,
            Err(full_at) => return Ok(full_at),
        };
        for name in [&b"self"[..], b"thread-self"].iter().skip(pos.saturating_sub(2).min(2) as usize) {
            if !sink.emit(name, SELF_INO + pos - 2, FileType::Symlink.dtype(), pos + 1) {
                return Ok(pos);
            }
            pos += 1;
        }
        let top = base::tree::proc().top();
        if pos < FIRST_PID {
            let count = top.list()?.len() as u64;
            pos = knobs::list_nodes(top, pos, FIRST_KNOB, sink)?;
            if pos < FIRST_KNOB + count {
                return Ok(pos);
            }
            pos = FIRST_PID;
        }
        // PIDs in order: a process that ends between two calls moves nobody.
        while let Some((pid, t)) = next_leader((pos - FIRST_PID) as u32) {
            let name = format!("{pid}");
            let next = FIRST_PID + u64::from(pid) + 1;
            if !sink.emit(name.as_bytes(), task::folder_ino(&t, false), FileType::Dir.dtype(), next) {
                return Ok(FIRST_PID + u64::from(pid));
            }
            pos = next;
        }
        Ok(pos)
    }
}

/// The first process with a number of at least `from`.
fn next_leader(mut from: u32) -> Option<(u32, TaskRef)> {
    loop {
        let t = sched::pid::next(from.max(1))?;
        let (pid, tgid) = (sched::thread(&t).pid(), sched::thread(&t).tgid());
        if pid == tgid {
            return Some((pid, t));
        }
        from = pid + 1;
    }
}

/// The threads of a process, by number.
pub(super) fn threads_of(tgid: u32) -> Vec<TaskRef> {
    let mut v = Vec::new();
    sched::pid::for_each(|t| {
        if sched::thread(t).tgid() == tgid {
            v.push(t.clone());
        }
    });
    v
}
