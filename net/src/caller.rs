//! The running process, as sockets need to know it. Processes live in a room above, which installs a [`Caller`].

use alloc::sync::Arc;

use base::{Cred, Errno, Result};
use frame::sync::once::Once;
use vfs::{Ctx, File};

/// Answers for the current task.
pub trait Caller: Sync {
    /// Root, current directory, umask, credentials.
    fn ctx(&self) -> Result<Ctx>;
    fn cred(&self) -> Arc<Cred>;
    /// The file behind a descriptor, `O_PATH` included.
    fn file(&self, fd: i32) -> Result<Arc<File>>;
    /// `RLIMIT_NOFILE`, which also limits what is in flight.
    fn nofile(&self) -> u64;
}

static CALLER: Once<&'static dyn Caller> = Once::new();

/// Installs who answers; the first call decides.
pub fn install(c: &'static dyn Caller) {
    CALLER.call_once(|| c);
}

/// Who asks. `EPERM` while there are no processes.
pub(crate) fn get() -> Result<&'static dyn Caller> {
    CALLER.get().copied().ok_or(Errno::EPERM)
}

/// The credentials of the current task.
pub(crate) fn cred() -> Result<Arc<Cred>> {
    Ok(get()?.cred())
}

/// The process that runs: `getpid`.
pub(crate) fn pid() -> u32 {
    sched::me().tgid()
}
