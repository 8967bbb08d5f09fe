//! `/proc/sys/kernel/core_pattern`, `core_uses_pid`, `core_pipe_limit`, and `/proc/sys/fs/suid_dumpable`.

use alloc::vec::Vec;

use base::{
    Errno, Result, pr_warn,
    tree::{self, parse_int},
};
use frame::{
    atomic::{AtomicU32, Ordering::Relaxed},
    sync::{LockClass, Mutex},
};

use super::pattern::PATTERN_LEN;

static CLASS: LockClass = LockClass::new("core_pattern");
static PATTERN: Mutex<Vec<u8>> = Mutex::new(&CLASS, Vec::new());
static USES_PID: AtomicU32 = AtomicU32::new(0);
static PIPE_LIMIT: AtomicU32 = AtomicU32::new(0);
static SUID_DUMPABLE: AtomicU32 = AtomicU32::new(super::DISABLE);

/// How many dumps may go into pipes at once, each then waited for; 0: any number, and nobody waits.
pub(super) fn pipe_limit() -> u32 {
    PIPE_LIMIT.load(Relaxed)
}
/// How processes are dumped that changed their user.
pub(crate) fn suid_dumpable() -> u32 {
    SUID_DUMPABLE.load(Relaxed)
}
/// The pattern, and whether the process's number is to be added.
pub(super) fn with_pattern<R>(f: impl FnOnce(&[u8], bool) -> Result<R>) -> Result<R> {
    let mut copy = [0; PATTERN_LEN];
    let n = {
        let p = PATTERN.lock();
        copy[..p.len()].copy_from_slice(&p);
        p.len()
    };
    f(&copy[..n], USES_PID.load(Relaxed) != 0)
}

fn warn_if_unsafe() {
    let p = PATTERN.lock();
    if suid_dumpable() == super::ROOT && !matches!(p.first(), Some(b'/' | b'|')) {
        pr_warn!(
            "Unsafe core_pattern used with fs.suid_dumpable=2.\nPipe handler or fully qualified core dump path required.\nSet kernel.core_pattern before fs.suid_dumpable."
        );
    }
}

fn set_pattern(b: &[u8]) -> Result<()> {
    let end = b.iter().position(|&c| c == b'\n' || c == 0).unwrap_or(b.len()).min(PATTERN_LEN - 1);
    let mut new = Vec::new();
    new.try_reserve_exact(end)?;
    new.extend_from_slice(&b[..end]);
    *PATTERN.lock() = new;
    warn_if_unsafe();
    Ok(())
}

fn number(path: &str, cell: &'static AtomicU32, most: i64, changed: fn()) -> Result<()> {
    tree::proc().knob(
        path,
        0o644,
        move |o| Ok(writeln!(o, "{}", cell.load(Relaxed))?),
        move |b| {
            let n = parse_int(b)?;
            if !(0..=most).contains(&n) {
                return Err(Errno::EINVAL);
            }
            cell.store(n as u32, Relaxed);
            changed();
            Ok(())
        },
    )
}

/// Declares them.
pub(crate) fn init() -> Result<()> {
    set_pattern(b"core")?;
    tree::proc().knob(
        "sys/kernel/core_pattern",
        0o644,
        |o| {
            o.push(&PATTERN.lock())?;
            o.push(b"\n")
        },
        set_pattern,
    )?;
    number("sys/kernel/core_uses_pid", &USES_PID, i64::from(i32::MAX), || {})?;
    number("sys/kernel/core_pipe_limit", &PIPE_LIMIT, i64::from(i32::MAX), || {})?;
    number("sys/fs/suid_dumpable", &SUID_DUMPABLE, i64::from(super::ROOT), warn_if_unsafe)
}
