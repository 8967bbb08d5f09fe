//! procfs: a folder for each process, and beside them the tree of [`base::tree::proc`].
//!
//! What stands in a process's folder is declared by the rooms that know it, in one table ([`register`]); this file system
//! only presents the table. A folder stays valid as long as its number belongs to the same task.
//!
//! Source of names and formats: `proc(5)`, `Documentation/filesystems/proc.rst`.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use base::{Errno, Result, tree::Out};
use frame::sync::{LockClass, Mutex, RwSpinLock, once::Once};
use sched::TaskRef;
use vfs::{FileSystemType, Link, SuperBlock, SuperOps, superblock::MountRequest};

mod interrupts;
pub mod kmsg;
mod root;
pub mod system;
mod task;

pub use system::{RELEASE, VERSION};

/// `f_type` (linux/magic.h).
const MAGIC: u64 = linux_raw_sys::general::PROC_SUPER_MAGIC as u64;

/// In which folders an entry stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// `/proc/PID` only.
    Process,
    /// `/proc/PID/task/TID` only.
    Thread,
    Both,
}

/// Prints a file about a task.
pub type Show = fn(&TaskRef, &mut Out) -> Result<()>;
/// Takes what is written to it.
pub type Store = fn(&TaskRef, &[u8]) -> Result<()>;

/// One thing in a task's folder.
#[derive(Clone, Copy)]
pub enum Body {
    File {
        show: Show,
        store: Option<Store>,
    },
    Link(fn(&TaskRef) -> Result<Link>),
    /// A folder whose entries are made when asked for.
    Dir(&'static dyn TaskDir),
}

/// A folder like `fd`: numbered or named entries that come and go.
pub trait TaskDir: Sync {
    /// The names at present.
    fn list(&self, task: &TaskRef) -> Result<Vec<Vec<u8>>>;
    /// What stands under `name`. ENOENT.
    fn lookup(&self, task: &TaskRef, name: &[u8]) -> Result<DirEntry>;
}

/// An entry of a [`TaskDir`]. The functions get its name again.
#[derive(Clone, Copy)]
pub struct DirEntry {
    /// Permission bits.
    pub mode: u32,
    pub body: DirBody,
}
/// What it is.
#[derive(Clone, Copy)]
pub enum DirBody {
    File(fn(&TaskRef, &[u8], &mut Out) -> Result<()>),
    Link(fn(&TaskRef, &[u8]) -> Result<Link>),
}

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Entry {
    pub name: &'static str,
    /// Permission bits.
    pub mode: u32,
    pub scope: Scope,
    pub body: Body,
}

static TABLE_CLASS: LockClass = LockClass::new("procfs_table");
static TABLE: RwSpinLock<Vec<Entry>> = RwSpinLock::new(&TABLE_CLASS, Vec::new());
/// Gives user and group.
pub type OwnerFn = fn(&TaskRef) -> (u32, u32);
static OWNER: Once<OwnerFn> = Once::new();

/// Adds entries to every task's folder. EEXIST if a name is taken there.
pub fn register(entries: &[Entry]) -> Result<()> {
    let mut t = TABLE.write();
    for e in entries {
        if t.iter().any(|x| x.name == e.name && x.scope.overlaps(e.scope)) {
            return Err(Errno::EEXIST);
        }
        t.push(*e);
    }
    Ok(())
}

/// Installs who owns a task's folder (user and group).
pub fn install_owner(f: OwnerFn) {
    OWNER.call_once(|| f);
}
fn owner(t: &TaskRef) -> (u32, u32) {
    OWNER.get().map_or((0, 0), |f| f(t))
}
fn entry(name: &[u8], in_thread: bool) -> Option<Entry> {
    TABLE.read().iter().find(|e| e.name.as_bytes() == name && e.scope.covers(in_thread)).copied()
}
fn entries(in_thread: bool) -> Vec<Entry> {
    TABLE.read().iter().filter(|e| e.scope.covers(in_thread)).copied().collect()
}
impl Scope {
    fn overlaps(self, other: Scope) -> bool {
        self == Scope::Both || other == Scope::Both || self == other
    }
    fn covers(self, in_thread: bool) -> bool {
        self == Scope::Both || (self == Scope::Thread) == in_thread
    }
}

/// The file system type.
pub struct Procfs;
struct Ops;
impl SuperOps for Ops {}

static ONE_CLASS: LockClass = LockClass::new("procfs_mount");
/// All mounts show one super block: there is one PID name space.
static ONE: Mutex<Option<Arc<SuperBlock>>> = Mutex::new(&ONE_CLASS, None);

impl FileSystemType for Procfs {
    fn name(&self) -> &'static str {
        "proc"
    }
    fn mount(&self, req: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        let mut one = ONE.lock();
        if let Some(sb) = one.as_ref().filter(|sb| sb.root().is_some()) {
            return Ok(sb.clone());
        }
        let sb = SuperBlock::anonymous("proc", MAGIC, req.read_only, Box::new(Ops))?;
        sb.set_root(root::inode(&sb)?)?;
        *one = Some(sb.clone());
        Ok(sb)
    }
}

/// A process has been collected: its folder leaves the cache of names, which would keep it for ever.
pub fn flush(pid: u32) {
    let root = ONE.lock().as_ref().and_then(|sb| sb.root());
    if let Some(r) = root {
        r.forget(alloc::format!("{pid}").as_bytes());
    }
}

/// Makes procfs known and declares the files about the system as a whole.
pub fn init() -> Result<()> {
    system::declare()?;
    vfs::register_filesystem(Arc::new(Procfs))
}
