//! What terminals ask of processes: groups, sessions, and each session's controlling terminal.
//!
//! A session's terminal is kept by session number; its entry goes when the session's leader ends or the terminal is given
//! up. `Process::tty_nr` of the session's processes follows it; a process that detached itself (TIOCNOTTY) has 0 there, and so
//! have its children.

use alloc::{collections::BTreeMap, sync::Arc};

use base::{Errno, Result, cred::cap};
use drivers::tty::{
    Tty,
    job::{self, Caller, JobControl},
};
use frame::{
    atomic::Ordering::Relaxed,
    sync::{LockClass, SpinLock},
};

use vfs::{Ctx, File};

use crate::{
    process::{Process, try_current},
    rlimit,
    signal::{
        SigInfo,
        action::SIG_IGN,
        send::{self, Force},
        set::{CONT, HUP},
    },
    tree::TREE,
};

static CLASS: LockClass = LockClass::new("session_ttys");
static TTYS: SpinLock<BTreeMap<u32, Arc<Tty>>> = SpinLock::new(&CLASS, BTreeMap::new());

/// The group that was in the foreground when a session's terminal was hung up, until the session's leader ends.
static HUNG_UP: SpinLock<BTreeMap<u32, u32>> = SpinLock::new(&CLASS, BTreeMap::new());

struct Jobs;

/// Installs the answers.
pub(crate) fn init() {
    job::install(&Jobs);
    crate::exit::install_leave_tty(leave);
}

/// The leader of a session ends.
fn leave(leader: &Arc<Process>) {
    let tty = TTYS.lock().get(&leader.pid()).cloned();
    let group = HUNG_UP.lock().remove(&leader.pid());
    match (tty, group) {
        (Some(t), _) => t.release_session(leader.pid(), true),
        (None, Some(g)) => {
            Jobs.signal_group(g, HUP as i32);
            Jobs.signal_group(g, CONT as i32);
        }
        (None, None) => {}
    }
}

/// vhangup(2): the caller's terminal, if it has one.
pub fn vhangup() {
    if let Some(t) = Jobs.session_tty() {
        t.hang_up();
    }
}

/// The foreground group of a process's terminal: `tpgid` of `/proc/PID/stat`.
pub(crate) fn foreground(p: &Process) -> Option<u32> {
    if p.tty_nr.load(Relaxed) == 0 {
        return None;
    }
    let session = TREE.lock().get(p.pid())?.sid;
    let tty = TTYS.lock().get(&session).cloned();
    tty?.foreground()
}

impl JobControl for Jobs {
    fn caller(&self) -> Option<Caller> {
        let me = try_current()?;
        let pid = me.process.pid();
        let (group, session) = {
            let tree = TREE.lock();
            let n = tree.get(pid)?;
            (n.pgid, n.sid)
        };
        Some(Caller {
            group,
            session,
            leads_session: session == pid,
            is_privileged: me.cred().has_cap(cap::SYS_ADMIN),
            has_tty: me.process.tty_nr.load(Relaxed) != 0,
        })
    }
    fn caller_has_cap(&self, cap: u32) -> bool {
        try_current().is_none_or(|me| me.cred().has_cap(cap))
    }
    fn signal_group(&self, group: u32, signal: i32) {
        send::send_group(group, &SigInfo::kernel(signal as u32));
    }
    fn caller_ignores(&self, signal: i32) -> bool {
        let Some(me) = try_current() else { return true };
        let sig = signal as u32;
        me.blocked().contains(sig) || me.process.sig.lock().action(sig).handler == SIG_IGN
    }
    fn is_orphaned(&self, group: u32) -> bool {
        TREE.lock().is_orphaned(group, None)
    }
    fn session_of(&self, group: u32) -> Option<u32> {
        let tree = TREE.lock();
        tree.group(group).next().map(|(_, n)| n.sid)
    }
    fn session_tty(&self) -> Option<Arc<Tty>> {
        let session = self.caller().filter(|c| c.has_tty)?.session;
        TTYS.lock().get(&session).cloned()
    }
    fn set_session_tty(&self, session: u32, tty: Option<Arc<Tty>>) {
        let nr = tty.as_ref().map_or(0, |t| t.num.encode() as u32);
        let old = match tty {
            Some(t) => TTYS.lock().insert(session, t),
            None => TTYS.lock().remove(&session),
        };
        drop(old);
        let tree = TREE.lock();
        tree.iter().filter(|(_, n)| n.sid == session).for_each(|(_, n)| n.what.tty_nr.store(nr, Relaxed));
    }
    fn hang_up_session(&self, session: u32, foreground: u32) {
        self.set_session_tty(session, None);
        let leader = TREE.lock().get(session).map(|n| n.what.clone());
        let Some(leader) = leader else { return };
        if foreground != 0 {
            HUNG_UP.lock().insert(session, foreground);
        }
        for sig in [HUP, CONT] {
            let _ = send::send_process(&leader, SigInfo::kernel(sig), Force::Kernel);
        }
    }
    fn leave_tty(&self) {
        if let Some(me) = try_current() {
            me.process.tty_nr.store(0, Relaxed);
        }
    }
    fn install_file(&self, file: Arc<File>, cloexec: bool) -> Result<usize> {
        let me = try_current().ok_or(Errno::EBADF)?;
        let limit = me.process.limit(rlimit::NOFILE);
        Ok(me.files().install(file, cloexec, limit)? as usize)
    }
    fn ctx(&self) -> Option<Ctx> {
        let me = try_current()?;
        Some(me.try_fs()?.ctx(&me.cred()))
    }
}
