//! Who asks: the root, the current directory, the umask and the credentials of a task.

use alloc::sync::Arc;

use base::cred::Cred;
use frame::sync::{LockClass, SpinLock};

use crate::path::Path;

static CLASS: LockClass = LockClass::new("fs_context");

/// What one system call needs to know of its caller.
#[derive(Clone)]
pub struct Ctx {
    pub root: Path,
    pub cwd: Path,
    pub cred: Arc<Cred>,
    pub umask: u32,
}

/// The part that threads made with `CLONE_FS` share.
pub struct FsContext(SpinLock<State>);

#[derive(Clone)]
struct State {
    root: Path,
    cwd: Path,
    umask: u32,
}

impl FsContext {
    /// Starts in `root` with the umask 022 that Linux gives init.
    pub fn new(root: Path) -> FsContext {
        FsContext(SpinLock::new(&CLASS, State { cwd: root.clone(), root, umask: 0o022 }))
    }
    /// A copy for a new process.
    pub fn fork(&self) -> FsContext {
        let s = self.0.lock().clone();
        FsContext(SpinLock::new(&CLASS, s))
    }
    /// A snapshot for one system call.
    pub fn ctx(&self, cred: &Arc<Cred>) -> Ctx {
        let s = self.0.lock();
        Ctx { root: s.root.clone(), cwd: s.cwd.clone(), cred: cred.clone(), umask: s.umask }
    }
    pub fn root(&self) -> Path {
        self.0.lock().root.clone()
    }
    pub fn cwd(&self) -> Path {
        self.0.lock().cwd.clone()
    }
    pub fn set_root(&self, p: Path) {
        let old = core::mem::replace(&mut self.0.lock().root, p);
        drop(old);
    }
    pub fn set_cwd(&self, p: Path) {
        let old = core::mem::replace(&mut self.0.lock().cwd, p);
        drop(old);
    }
    pub fn umask(&self) -> u32 {
        self.0.lock().umask
    }
    /// Sets the umask; returns the old one.
    pub fn set_umask(&self, m: u32) -> u32 {
        core::mem::replace(&mut self.0.lock().umask, m & 0o777)
    }
    /// After pivot_root: a root or current directory that was `old` becomes `new`.
    pub fn replace(&self, old: &Path, new: &Path) {
        let mut dropped = (None, None);
        let mut s = self.0.lock();
        if s.root.is_same(old) {
            dropped.0 = Some(core::mem::replace(&mut s.root, new.clone()));
        }
        if s.cwd.is_same(old) {
            dropped.1 = Some(core::mem::replace(&mut s.cwd, new.clone()));
        }
        drop(s);
    }
}
