//! Descriptors on their way (`SCM_RIGHTS`): counted against their sender, and known to the collector.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result, cred::cap};
use frame::sync::{LockClass, SpinLock};
use vfs::File;

use super::{UnixSock, gc};
use crate::caller;

static LATER_CLASS: LockClass = LockClass::new("unix_let_go");

/// Files in a message. Dropping it gives the files up.
pub(super) struct InFlight {
    files: Vec<Arc<File>>,
    /// The user who is charged.
    uid: u32,
    /// The collector's number for this message; `None`: no socket among the files.
    record: Option<u64>,
}

impl InFlight {
    /// Takes `files` on their way into the queue of `to`. `ETOOMANYREFS` where the user has more on the way than descriptors allowed.
    pub(super) fn send(files: Vec<Arc<File>>, to: &Arc<UnixSock>) -> Result<InFlight> {
        let who = caller::get()?;
        let cred = who.cred();
        let privileged = cred.has_cap(cap::SYS_RESOURCE) || cred.has_cap(cap::SYS_ADMIN);
        let limit = if privileged { u64::MAX } else { who.nofile() };
        gc::throttle(cred.uid);
        let record = gc::begin(&files, cred.uid, limit, to)?;
        Ok(InFlight { files, uid: cred.uid, record })
    }
    /// They have arrived.
    pub(super) fn receive(mut self) -> Vec<Arc<File>> {
        let files = core::mem::take(&mut self.files);
        gc::end(&files, self.uid, self.record.take());
        files
    }
    /// Somebody looks at them without taking them.
    pub(super) fn peek(&self) -> Result<Vec<Arc<File>>> {
        let mut v = Vec::new();
        v.try_reserve_exact(self.files.len()).map_err(|_| Errno::ENOMEM)?;
        gc::peek(|| v.extend(self.files.iter().cloned()));
        Ok(v)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.files.is_empty() {
            gc::end(&self.files, self.uid, self.record.take());
            close(core::mem::take(&mut self.files));
        }
    }
}

/// Files to be closed, and whether somebody is at it.
struct Later {
    busy: bool,
    files: Vec<Arc<File>>,
}
static LATER: SpinLock<Later> = SpinLock::new(&LATER_CLASS, Later { busy: false, files: Vec::new() });

/// Drops files. Dropping the last reference to a socket drops what waits in its queue, and so on: the depth is the program's choice, and
/// the stack is not deep. So the outermost call drops, and those within put theirs on its list.
pub(super) fn close(files: Vec<Arc<File>>) {
    let mut l = LATER.lock();
    if l.files.try_reserve(files.len()).is_err() {
        drop(l);
        return drop(files);
    }
    l.files.extend(files);
    if l.busy {
        return;
    }
    l.busy = true;
    while let Some(f) = l.files.pop() {
        drop(l);
        drop(f);
        l = LATER.lock();
    }
    l.busy = false;
}
