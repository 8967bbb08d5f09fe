//! tracefs: switching trace events, reading the rings.
//!
//! The events and rings are [`base::trace`]'s; here is only their presentation, so every file is found by asking what there is
//! now. A node is a value that says which file or folder it is ([`node`]); what a file does is in [`knob`] for the small ones,
//! in [`look`], [`pipe`] and [`set_event`] for those that stream or parse.
//!
//! Missing against Linux, and so not there: function tracers, kprobes, instances, snapshots, triggers and histograms, the
//! binary pages (`trace_pipe_raw`, and so `header_page` and `header_event`, which describe them).
//! `saved_cmdlines` is made from the records, each of which has its task's name, so it knows all tasks in the rings and needs no size.
//!
//! Documented: Linux `Documentation/trace/{ftrace,events}.rst`.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};

use base::{Errno, Result, cred::Cred, trace::pids};
use frame::sync::{LockClass, Mutex};
use linux_raw_sys::general::TRACEFS_MAGIC;
use vfs::{
    DcachePolicy, DirSink, File, FileOps, FileSystemType, FileType, Inode, InodeOps, NewInode, OpenFlags,
    SetAttr, SuperBlock, SuperOps, superblock::MountRequest,
};

mod knob;
mod look;
mod node;
mod pipe;
mod raw;
mod reader;
mod set_event;

use node::Node;

struct Tracefs;
struct Ops;
impl SuperOps for Ops {}

static CLASS: LockClass = LockClass::new("tracefs_mount");
/// All mounts show one super block.
static ONE: Mutex<Option<Arc<SuperBlock>>> = Mutex::new(&CLASS, None);

impl FileSystemType for Tracefs {
    fn name(&self) -> &'static str {
        "tracefs"
    }
    fn mount(&self, req: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        let mut one = ONE.lock();
        if let Some(sb) = one.as_ref().filter(|sb| sb.root().is_some()) {
            return Ok(sb.clone());
        }
        let sb = SuperBlock::anonymous("tracefs", TRACEFS_MAGIC.into(), req.read_only, Box::new(Ops))?;
        sb.set_root(inode(&sb, Node::Root)?)?;
        *one = Some(sb.clone());
        Ok(sb)
    }
}

fn inode(sb: &Arc<SuperBlock>, node: Node) -> Result<Arc<Inode>> {
    let kind = if node.is_dir() { FileType::Dir } else { FileType::Regular };
    let new = NewInode { mode: kind.bits() | node.mode(), uid: 0, gid: 0, rdev: 0 };
    Inode::new(sb, node.ino(), &new, Box::new(TraceInode { node }))
}

struct TraceInode {
    node: Node,
}

impl InodeOps for TraceInode {
    fn dcache_policy(&self) -> DcachePolicy {
        DcachePolicy::Revalidate
    }
    fn lookup(&self, dir: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        let name = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let found = self.node.children()?.into_iter().find(|(n, _)| n == name);
        inode(&dir.sb().ok_or(Errno::ENOENT)?, found.ok_or(Errno::ENOENT)?.1)
    }
    /// What truncation means is for the opening to say.
    fn setattr(&self, inode: &Arc<Inode>, set: &SetAttr) -> Result<()> {
        inode.apply(set);
        Ok(())
    }
    fn open(&self, _inode: &Arc<Inode>, flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        let truncate = flags.contains(OpenFlags::TRUNC) && flags.writable();
        Ok(match self.node {
            Node::File(node::What::Trace(cpu)) => look::open(cpu, truncate),
            Node::File(node::What::Pipe(cpu)) => pipe::open(cpu)?,
            Node::File(node::What::PipeRaw(cpu)) => raw::open(cpu)?,
            Node::File(node::What::SetEvent) => set_event::open(truncate),
            Node::File(node::What::SetEventPid) => set_event::open_pids(&pids::ONLY, truncate),
            Node::File(node::What::SetEventNotracePid) => set_event::open_pids(&pids::NOT, truncate),
            Node::File(what) => {
                if truncate && matches!(what, node::What::ErrorLog) {
                    base::trace::errors::clear();
                }
                knob::open(what)
            }
            dir => Arc::new(Folder { entries: dir.children()? }),
        })
    }
}

/// An open folder: what stood in it when it was opened.
struct Folder {
    entries: Vec<(String, Node)>,
}

impl FileOps for Folder {
    fn readdir(&self, file: &File, pos: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let mut pos = match crate::knobs::dots(file, pos, sink) {
            Ok(p) => p,
            Err(full_at) => return Ok(full_at),
        };
        while let Some((name, n)) = self.entries.get((pos - 2) as usize) {
            let kind = if n.is_dir() { FileType::Dir } else { FileType::Regular };
            if !sink.emit(name.as_bytes(), n.ino(), kind.dtype(), pos + 1) {
                break;
            }
            pos += 1;
        }
        Ok(pos)
    }
}

/// Gives the rings their first memory and makes tracefs known. After the processors are counted.
pub fn init() -> Result<()> {
    base::trace::buffer::init()?;
    vfs::register_filesystem(Arc::new(Tracefs))
}
