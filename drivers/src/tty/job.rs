//! What a terminal needs to know of processes. Processes live in a room above, which installs a [`JobControl`].

use alloc::sync::Arc;

use base::Result;
use frame::sync::once::Once;
use vfs::{Ctx, File};

use super::Tty;

/// Signal numbers that terminals send (`signal(7)`, x86-64).
pub mod sig {
    pub const HUP: i32 = 1;
    pub const INT: i32 = 2;
    pub const QUIT: i32 = 3;
    pub const CONT: i32 = 18;
    pub const TSTP: i32 = 20;
    pub const TTIN: i32 = 21;
    pub const TTOU: i32 = 22;
    pub const WINCH: i32 = 28;
}

/// The identities of the calling process that job control compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    pub group: u32,
    pub session: u32,
    pub leads_session: bool,
    pub is_privileged: bool,
    /// Its session's terminal is its own too: it did not detach from it (TIOCNOTTY).
    pub has_tty: bool,
}

/// Questions about processes, answered by the room above. Called with no spin lock held; may sleep.
pub trait JobControl: Sync {
    /// The calling process; `None` for a kernel thread.
    fn caller(&self) -> Option<Caller>;
    /// Whether the calling process has a capability (of `base::cred::cap`); true for a kernel thread.
    fn caller_has_cap(&self, cap: u32) -> bool;
    /// Sends a signal to every process of a group.
    fn signal_group(&self, group: u32, signal: i32);
    /// True if the calling thread ignores or blocks the signal.
    fn caller_ignores(&self, signal: i32) -> bool;
    /// True if nobody outside the group but inside its session could continue it (POSIX: orphaned process group).
    fn is_orphaned(&self, group: u32) -> bool;
    /// The session of a process group, if the group exists.
    fn session_of(&self, group: u32) -> Option<u32>;
    /// The controlling terminal of the caller.
    fn session_tty(&self) -> Option<Arc<Tty>>;
    /// Gives a session its controlling terminal, or takes it away.
    fn set_session_tty(&self, session: u32, tty: Option<Arc<Tty>>);
    /// The session's terminal was hung up: its leader gets SIGHUP and SIGCONT, and so does the foreground group when the
    /// leader ends.
    fn hang_up_session(&self, session: u32, foreground: u32);
    /// The calling process has no controlling terminal from now on.
    fn leave_tty(&self);
    /// A descriptor of the caller for `file`. EMFILE, ENOMEM.
    fn install_file(&self, file: Arc<File>, cloexec: bool) -> Result<usize>;
    /// The caller's view of the file system.
    fn ctx(&self) -> Option<Ctx>;
}

static JOBS: Once<&'static dyn JobControl> = Once::new();

/// Installs the answers.
pub fn install(j: &'static dyn JobControl) {
    JOBS.call_once(|| j);
}
/// The caller's view of the file system, with its credentials; `None` for a kernel thread.
pub(crate) fn ctx() -> Option<Ctx> {
    jobs()?.ctx()
}
/// The answers; `None` before there are processes.
pub(super) fn jobs() -> Option<&'static dyn JobControl> {
    JOBS.get().copied()
}
/// Whether the calling process has a capability. True where there are no processes yet.
pub(crate) fn caller_has_cap(cap: u32) -> bool {
    jobs().is_none_or(|j| j.caller_has_cap(cap))
}
