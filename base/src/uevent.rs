//! Uevents: how the device model tells user space that a device came, went or changed.
//!
//! A uevent is a header `ACTION@DEVPATH` and lines `KEY=VALUE`, each ended by a NUL. The device model calls [`emit`]; whoever carries
//! messages to user space (netlink) installs a *sink*. Events are numbered from 1, and one lock is held from numbering to
//! delivery, so that every listener sees the numbers in order. Without a sink events are numbered and lost, as on Linux before the
//! first listener.
//!
//! | file | |
//! |---|---|
//! | `/sys/kernel/uevent_seqnum` | the number of the last event |
//! | `/sys/kernel/uevent_helper` | a program to run for each event; there only where a *runner* is installed |
//!
//! Linux's behaviour: `Documentation/ABI/testing/sysfs-uevent`, `sysfs-kernel-uevent_helper`, and netlink(7).

use alloc::vec::Vec;

use frame::{
    atomic::{AtomicU64, Ordering::SeqCst},
    sync::{LockClass, Mutex, once::Once},
};

use crate::{
    errno::{Errno, Result},
    tree::{self, Out},
};

/// Longest environment of an event, bytes (`UEVENT_BUFFER_SIZE`).
const BUFFER_SIZE: usize = 2048;
/// Most variables of an event (`UEVENT_NUM_ENVP`).
const NUM_ENVP: usize = 64;
/// Longest path of the helper with its NUL (`UEVENT_HELPER_PATH_LEN`).
const HELPER_PATH_LEN: usize = 256;

/// Carries a finished message. Called in task context with the lock of events held: it must not emit.
pub type Sink = fn(&[u8]);
/// Runs the helper: its path, the subsystem (its argument), and the environment as NUL-ended strings.
pub type Runner = fn(path: &[u8], subsystem: &str, env: &[u8]);

static CLASS: LockClass = LockClass::new("uevent");
static HELPER_CLASS: LockClass = LockClass::new("uevent_helper");
/// Numbering and delivery are one step.
static ORDER: Mutex<()> = Mutex::new(&CLASS, ());
static SEQNUM: AtomicU64 = AtomicU64::new(0);
static SINK: Once<Sink> = Once::new();
static RUNNER: Once<Runner> = Once::new();
static HELPER: Mutex<Vec<u8>> = Mutex::new(&HELPER_CLASS, Vec::new());

/// What happened to a device (`kobject_action`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Add,
    Remove,
    Change,
    Move,
    Online,
    Offline,
    Bind,
    Unbind,
}

impl Action {
    const ALL: [Action; 8] = [
        Action::Add,
        Action::Remove,
        Action::Change,
        Action::Move,
        Action::Online,
        Action::Offline,
        Action::Bind,
        Action::Unbind,
    ];
    /// As it stands in the message.
    pub const fn name(self) -> &'static str {
        match self {
            Action::Add => "add",
            Action::Remove => "remove",
            Action::Change => "change",
            Action::Move => "move",
            Action::Online => "online",
            Action::Offline => "offline",
            Action::Bind => "bind",
            Action::Unbind => "unbind",
        }
    }
    /// From what is written to a device's `uevent` file (without what may follow the action). `EINVAL`.
    pub fn parse(word: &[u8]) -> Result<Action> {
        Action::ALL.into_iter().find(|a| a.name().as_bytes() == word).ok_or(Errno::EINVAL)
    }
}

/// Installs what carries messages to user space; the first call decides.
pub fn set_sink(sink: Sink) {
    SINK.call_once(|| sink);
}

/// The number of the last event.
pub fn seqnum() -> u64 {
    SEQNUM.load(SeqCst)
}

/// Tells user space. `devpath` begins with a slash and is relative to `/sys`; `extra` are further variables in order, such as
/// `("MAJOR", "4")`. `ENOMEM` also where the variables are more or longer than Linux has room for.
pub fn emit(action: Action, devpath: &str, subsystem: &str, extra: &[(&str, &str)]) -> Result<()> {
    let _order = ORDER.lock();
    let n = SEQNUM.fetch_add(1, SeqCst) + 1;
    let (message, header) = message(action, devpath, subsystem, extra, n)?;
    if let Some(sink) = SINK.get() {
        sink(&message);
    }
    if let Some(run) = RUNNER.get() {
        let helper = HELPER.lock();
        if !helper.is_empty() {
            run(&helper, subsystem, &message[header..]);
        }
    }
    Ok(())
}

/// The message, and where its environment begins.
fn message(
    action: Action,
    devpath: &str,
    subsystem: &str,
    extra: &[(&str, &str)],
    seqnum: u64,
) -> Result<(Vec<u8>, usize)> {
    let mut out = Out::new();
    let a = action.name();
    write!(out, "{a}@{devpath}\0")?;
    let header = out.len();
    write!(out, "ACTION={a}\0DEVPATH={devpath}\0SUBSYSTEM={subsystem}\0")?;
    for (key, value) in extra {
        write!(out, "{key}={value}\0")?;
    }
    write!(out, "SEQNUM={seqnum}\0")?;
    if out.len() - header > BUFFER_SIZE || extra.len() + 4 > NUM_ENVP {
        return Err(Errno::ENOMEM);
    }
    Ok((out.into_vec(), header))
}

/// Shows the number of the last event.
pub fn init() -> Result<()> {
    tree::sys().file("kernel/uevent_seqnum", 0o444, |o| Ok(writeln!(o, "{}", seqnum())?))
}

/// Installs what runs the helper, and with it the knob that names the helper.
pub fn set_helper_runner(runner: Runner) -> Result<()> {
    RUNNER.call_once(|| runner);
    tree::sys().knob(
        "kernel/uevent_helper",
        0o644,
        |o| {
            o.push(&HELPER.lock())?;
            o.push(b"\n")
        },
        |b| {
            if b.len() + 1 > HELPER_PATH_LEN {
                return Err(Errno::ENOENT);
            }
            let mut path = Vec::new();
            path.try_reserve_exact(b.len())?;
            path.extend_from_slice(b.strip_suffix(b"\n").unwrap_or(b));
            *HELPER.lock() = path;
            Ok(())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_a_header_and_variables_in_order() {
        let (m, header) = message(Action::Add, "/devices/x", "tty", &[("MAJOR", "4")], 7).unwrap();
        let want = b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=tty\0MAJOR=4\0SEQNUM=7\0";
        assert_eq!(m, want);
        assert_eq!(&m[header..header + 10], b"ACTION=add");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let long = "x".repeat(BUFFER_SIZE);
        assert_eq!(message(Action::Add, "/d", "s", &[("K", &long)], 1).err(), Some(Errno::ENOMEM));
        assert_eq!(message(Action::Add, "/d", "s", &[("K", "v"); 61], 1).err(), Some(Errno::ENOMEM));
        assert!(message(Action::Add, "/d", "s", &[("K", "v"); 60], 1).is_ok());
    }

    #[test]
    fn actions_are_parsed_by_name() {
        assert_eq!(Action::parse(b"offline"), Ok(Action::Offline));
        assert_eq!(Action::parse(b"add "), Err(Errno::EINVAL));
    }

    #[test]
    fn numbers_rise_with_and_without_a_sink() {
        let before = seqnum();
        emit(Action::Change, "/devices/y", "misc", &[]).unwrap();
        assert!(seqnum() > before);
    }
}
