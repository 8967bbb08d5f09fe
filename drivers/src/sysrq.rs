//! Magic SysRq: commands that reach the kernel when user space does not answer any more. They come as a letter, written to
//! `/proc/sysrq-trigger` or typed on the serial console after a break.
//!
//! `kernel.sysrq` says what a key may do: 0 nothing, 1 everything, else bits of [`mask`]. Who can write to `/proc/sysrq-trigger` is root
//! anyway, and is not asked. Keys that change state work in a work item on `events`, because they may come in an interrupt.
//!
//! The commands that concern processes are done by the room above, which installs an [`Actions`].
//!
//! Missing, because there is nothing behind them yet: SAK (`k`), keyboard modes (`r`), registers (`p`), frozen file systems (`j`),
//! timers (`q`), the trace (`z`).
//!
//! Documented: Linux `Documentation/admin-guide/sysrq.rst`.

use alloc::{string::String, sync::Arc};

use base::{Errno, Result, log, params, pr_info, tree};
use frame::{
    atomic::{AtomicU32, Ordering::Relaxed},
    sync::once::Once,
};
use sched::{
    thread,
    workqueue::{self, Work},
};

/// What bits of `kernel.sysrq` allow.
mod mask {
    pub(super) const LOG: u32 = 0x2;
    pub(super) const DUMP: u32 = 0x8;
    pub(super) const SYNC: u32 = 0x10;
    pub(super) const REMOUNT: u32 = 0x20;
    pub(super) const SIGNAL: u32 = 0x40;
    pub(super) const BOOT: u32 = 0x80;
    pub(super) const REAL_TIME: u32 = 0x100;
}

/// `CONFIG_MAGIC_SYSRQ_DEFAULT_ENABLE` of Debian's kernel.
const DEFAULT_MASK: u32 = 0x01b6;
/// Log levels that commands set.
const LEVEL_DEFAULT: u32 = 7;
const LEVEL_DEBUG: u32 = 10;

const SIGTERM: u32 = 15;
const SIGKILL: u32 = 9;

/// What is done by those who know processes and file systems. Called in a task, with no lock held.
pub trait Actions: Sync {
    /// Sends a signal to every process but init.
    fn signal_all(&self, signal: u32);
    /// Kills one program to get memory.
    fn kill_for_memory(&self);
}

static ACTIONS: Once<&'static dyn Actions> = Once::new();
static MASK: AtomicU32 = AtomicU32::new(DEFAULT_MASK);

/// Installs them.
pub fn install(a: &'static dyn Actions) {
    ACTIONS.call_once(|| a);
}

/// One command.
struct Op {
    key: u8,
    message: &'static str,
    help: &'static str,
    allowed_by: u32,
    act: fn(u8),
    /// It must work even if no work item would be executed any more.
    at_once: bool,
}

const fn op(key: u8, message: &'static str, help: &'static str, allowed_by: u32, act: fn(u8)) -> Op {
    Op { key, message, help, allowed_by, act, at_once: false }
}
const fn at_once(key: u8, message: &'static str, help: &'static str, allowed_by: u32, act: fn(u8)) -> Op {
    Op { key, message, help, allowed_by, act, at_once: true }
}

/// In the order in which the help names them.
static OPS: [Op; 14] = [
    at_once(b'0', "Changing Loglevel", "loglevel(0-9)", mask::LOG, set_level),
    at_once(b'b', "Resetting", "reboot(b)", mask::BOOT, |_| base::reboot::emergency_restart()),
    at_once(b'c', "Trigger a crash", "crash(c)", mask::DUMP, crash),
    op(b'e', "Terminate All Tasks", "terminate-all-tasks(e)", mask::SIGNAL, |_| signal_all(SIGTERM)),
    op(b'f', "Manual OOM execution", "memory-full-oom-kill(f)", mask::SIGNAL, |_| {
        if let Some(a) = ACTIONS.get() {
            a.kill_for_memory();
        }
    }),
    op(b'i', "Kill All Tasks", "kill-all-tasks(i)", mask::SIGNAL, |_| signal_all(SIGKILL)),
    op(b'l', "Show backtrace of all active CPUs", "show-backtrace-all-active-cpus(l)", mask::DUMP, show_cpus),
    op(b'm', "Show Memory", "show-memory-usage(m)", mask::DUMP, show_memory),
    op(b'n', "Nice All RT Tasks", "nice-all-RT-tasks(n)", mask::REAL_TIME, nice_all),
    op(b'o', "Power Off", "poweroff(o)", mask::BOOT, |_| base::reboot::power_off()),
    op(b's', "Emergency Sync", "sync(s)", mask::SYNC, sync),
    op(b't', "Show State", "show-task-states(t)", mask::DUMP, |_| sched::report::show_state(false)),
    op(b'u', "Emergency Remount R/O", "unmount(u)", mask::REMOUNT, remount),
    op(b'w', "Show Blocked State", "show-blocked-tasks(w)", mask::DUMP, |_| sched::report::show_state(true)),
];

fn find(key: u8) -> Option<&'static Op> {
    let key = if key.is_ascii_digit() { b'0' } else { key };
    OPS.iter().find(|o| o.key == key)
}
/// Whether a mask allows an operation.
fn is_allowed(mask: u32, by: u32) -> bool {
    mask == 1 || mask & by != 0
}

/// Keys that wait for the work item, a byte each, oldest lowest.
static TYPED: AtomicU32 = AtomicU32::new(0);
static WORK: Once<Arc<Work>> = Once::new();

/// Does what a key says. `checked`: only if `kernel.sysrq` allows it. From any context.
fn handle(key: u8, checked: bool) {
    // What it says is for the console, whatever was set.
    let level = log::CONSOLE_LEVEL.swap(LEVEL_DEFAULT, Relaxed);
    let run = match find(key) {
        None => {
            help();
            None
        }
        Some(o) if checked && !is_allowed(MASK.load(Relaxed), o.allowed_by) => {
            pr_info!("sysrq: This sysrq operation is disabled.");
            None
        }
        Some(o) => {
            pr_info!("sysrq: {}", o.message);
            Some(o)
        }
    };
    log::CONSOLE_LEVEL.store(level, Relaxed);
    match run {
        Some(o) if o.at_once => (o.act)(key),
        Some(_) => later(key),
        None => {}
    }
}

/// Leaves a key to the work item. More than four at a time are lost.
fn later(key: u8) {
    let pushed = TYPED.fetch_update(Relaxed, Relaxed, |t| {
        let free = (0..4).find(|i| t >> (8 * i) & 0xff == 0)?;
        Some(t | u32::from(key) << (8 * free))
    });
    if let (Ok(_), Some(w)) = (pushed, WORK.get()) {
        workqueue::schedule_work(w);
    }
}
fn take() -> Option<u8> {
    let old = TYPED.fetch_update(Relaxed, Relaxed, |t| (t != 0).then_some(t >> 8)).ok()?;
    Some(old as u8)
}

/// A key was typed after a break on the console. From any context.
pub(crate) fn typed(key: u8) {
    handle(key, true);
}

/// What is written to the trigger: one key, or, after `_`, several.
fn trigger(bytes: &[u8]) -> Result<()> {
    let keys = match bytes {
        [b'_', rest @ ..] => rest,
        [first, ..] => core::slice::from_ref(first),
        [] => &[],
    };
    keys.iter().filter(|&&k| k != b'\n' && k != b'_').for_each(|&k| {
        handle(k, false);
    });
    // What was left to the work item is done when the writer goes on, so that a script sees its effect.
    if let Some(w) = WORK.get() {
        w.flush();
    }
    Ok(())
}

fn help() {
    let mut s = String::from("sysrq: HELP : ");
    for o in &OPS {
        s += o.help;
        s.push(' ');
    }
    pr_info!("{s}");
}

fn set_level(key: u8) {
    let n = u32::from(key - b'0');
    log::CONSOLE_LEVEL.store(LEVEL_DEFAULT, Relaxed);
    pr_info!("sysrq: Loglevel set to {n}");
    log::CONSOLE_LEVEL.store(n, Relaxed);
}
fn crash(_key: u8) {
    panic!("sysrq triggered crash");
}
fn signal_all(signal: u32) {
    if let Some(a) = ACTIONS.get() {
        a.signal_all(signal);
    }
    log::CONSOLE_LEVEL.store(LEVEL_DEBUG, Relaxed);
}
fn sync(_key: u8) {
    vfs::emergency::sync_all();
    pr_info!("Emergency Sync complete");
}
fn remount(_key: u8) {
    vfs::emergency::emergency_remount();
    pr_info!("Emergency Remount complete");
}
fn show_cpus(_key: u8) {
    sched::report::trigger_all_cpu_backtrace();
}
/// Real-time tasks become ordinary ones.
fn nice_all(_key: u8) {
    for t in sched::pid::all() {
        if !thread(&t).is_kthread() && thread(&t).policy().is_rt() {
            let _ = sched::set_policy(&t, sched::policy::Policy::Other, 0);
        }
    }
}
fn show_memory(_key: u8) {
    pr_info!("Mem-Info:");
    for file in ["meminfo", "buddyinfo"] {
        let Ok(text) = tree::proc().find(file).and_then(|n| n.read()) else { continue };
        String::from_utf8_lossy(&text).lines().for_each(|l| pr_info!("{l}"));
    }
}

/// Makes the files and the work item.
pub(crate) fn init() -> Result<()> {
    if params::flag("sysrq_always_enabled") {
        MASK.store(1, Relaxed);
    }
    let w = Work::new("moom_callback", |_| {
        while let Some(k) = take() {
            if let Some(o) = find(k) {
                (o.act)(k);
            }
        }
    })?;
    WORK.call_once(|| w);
    let t = tree::proc();
    t.trigger("sysrq-trigger", 0o200, trigger)?;
    t.knob(
        "sys/kernel/sysrq",
        0o644,
        |o| Ok(writeln!(o, "{}", MASK.load(Relaxed))?),
        |b| {
            let n = u32::try_from(tree::parse_int(b)?).map_err(|_| Errno::EINVAL)?;
            MASK.store(n, Relaxed);
            Ok(())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        assert!(is_allowed(1, mask::DUMP) && !is_allowed(0, mask::BOOT));
        assert!(is_allowed(DEFAULT_MASK, mask::SYNC) && !is_allowed(DEFAULT_MASK, mask::DUMP));
        assert!(!is_allowed(DEFAULT_MASK, mask::SIGNAL));
    }
    #[test]
    fn keys() {
        assert_eq!(find(b'7').map(|o| o.key), Some(b'0'));
        assert!(find(b'h').is_none() && find(b'S').is_none());
        later(b's');
        later(b'u');
        assert_eq!((take(), take(), take()), (Some(b's'), Some(b'u'), None));
    }
}
