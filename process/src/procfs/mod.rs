//! The content of `/proc/PID` and `/proc/PID/task/TID`, as a table that the file system presents.
//!
//! Kernel threads appear with what they have: no memory, no program, no open files. Where reading needs the right to look into
//! the process (`ptrace(2)`, access mode checks), [`may_read`] decides: the same user, or `CAP_SYS_PTRACE`.
//!
//! Not here, since nothing is behind them: `cgroup`, `loginuid`, `sessionid`, `ns/`, `smaps`, `syscall`, `stack`, `wchan`.

mod fds;
mod kallsyms;
mod memory;
mod net;
mod stat;
mod status;

use alloc::vec::Vec;

use base::{Errno, Result, cred::cap, tree::Out};
use frame::atomic::Ordering::Relaxed;
use fs::procfs::{Body, Entry, Scope, Show, Store, TaskDir};
use sched::TaskRef;
use vfs::Link;

use crate::{
    coredump,
    process::{ThreadData, data, try_current},
    rlimit,
    tree::TREE,
};

const fn file(name: &'static str, mode: u32, show: Show) -> Entry {
    Entry { name, mode, scope: Scope::Both, body: Body::File { show, store: None } }
}
const fn knob(name: &'static str, show: Show, store: Store) -> Entry {
    Entry { name, mode: 0o644, scope: Scope::Both, body: Body::File { show, store: Some(store) } }
}
const fn link(name: &'static str, target: fn(&TaskRef) -> Result<Link>) -> Entry {
    Entry { name, mode: 0o777, scope: Scope::Both, body: Body::Link(target) }
}
const fn dir(name: &'static str, mode: u32, d: &'static dyn TaskDir) -> Entry {
    Entry { name, mode, scope: Scope::Both, body: Body::Dir(d) }
}

/// What stands in `/proc/PID` and `/proc/PID/task/TID`. `task/` itself is the file system's.
pub static ENTRIES: &[Entry] = &[
    file("stat", 0o444, stat::show),
    file("status", 0o444, status::show),
    file("statm", 0o444, memory::statm),
    file("cmdline", 0o444, memory::cmdline),
    file("environ", 0o400, memory::environ),
    file("auxv", 0o400, memory::auxv),
    knob("comm", comm, set_comm),
    file("maps", 0o444, memory::maps),
    file("smaps_rollup", 0o444, memory::smaps_rollup),
    file("limits", 0o444, limits),
    file("oom_score", 0o444, oom_score),
    knob("oom_score_adj", oom_score_adj, set_oom_score_adj),
    knob("coredump_filter", core_filter, set_core_filter),
    file("mounts", 0o444, mounts),
    file("mountinfo", 0o444, mountinfo),
    Entry {
        name: "timers",
        mode: 0o444,
        scope: Scope::Process,
        body: Body::File { show: crate::posix_timer::show, store: None },
    },
    Entry {
        name: "children",
        mode: 0o444,
        scope: Scope::Thread,
        body: Body::File { show: children, store: None },
    },
    link("exe", exe),
    link("cwd", cwd),
    link("root", root),
    dir("fd", 0o500, &fds::Fds),
    dir("fdinfo", 0o555, &fds::FdInfos),
    dir("net", 0o555, &net::Net),
];

/// Hands the table to procfs, and who owns a task's folder: its effective user and group; root where the task is not dumpable
/// and for kernel threads.
pub(crate) fn register() -> Result<()> {
    fs::procfs::install_owner(|t| match data(t) {
        Some(d) if d.process.dumpable.load(Relaxed) == coredump::USER => {
            let c = d.cred();
            (c.euid, c.egid)
        }
        _ => (0, 0),
    });
    kallsyms::init()?;
    fs::procfs::register(ENTRIES)
}

/// Numbers of the threads of a process, for `task/`: those that run, and a leader that has ended but is not yet collected.
pub fn threads(t: &TaskRef) -> Vec<u32> {
    let Some(d) = data(t) else { return alloc::vec![sched::thread(t).pid()] };
    let s = d.process.sig.lock();
    let mut v: Vec<u32> = s.threads.iter().chain(&s.leader).map(|t| sched::thread(t).pid()).collect();
    v.sort_unstable();
    v.dedup();
    v
}

/// May the reader look into this task?
pub fn may_read(t: &TaskRef) -> bool {
    let Some(me) = try_current() else { return true };
    let c = me.cred();
    if c.has_cap(cap::SYS_PTRACE) {
        return true;
    }
    let Some(d) = data(t) else { return false };
    if alloc::sync::Arc::ptr_eq(&d.process, &me.process) {
        return true;
    }
    let o = d.cred();
    d.process.dumpable.load(Relaxed) == coredump::USER
        && [o.uid, o.euid, o.suid] == [c.fsuid; 3]
        && [o.gid, o.egid, o.sgid] == [c.fsgid; 3]
}

fn check(t: &TaskRef) -> Result<()> {
    if may_read(t) { Ok(()) } else { Err(Errno::EACCES) }
}

/// The letter of the state. A leader that has ended is a zombie until it is collected.
fn state(t: &TaskRef) -> char {
    sched::state_char(t)
}

fn user(t: &TaskRef) -> Option<&ThreadData> {
    data(t)
}

fn comm(t: &TaskRef, out: &mut Out) -> Result<()> {
    out.push(sched::thread(t).proc_name().full())?;
    out.push(b"\n")
}

fn set_comm(t: &TaskRef, b: &[u8]) -> Result<()> {
    // Only a thread of the same process, as on Linux.
    let (Some(d), Some(me)) = (data(t), try_current()) else { return Err(Errno::EINVAL) };
    if !alloc::sync::Arc::ptr_eq(&d.process, &me.process) {
        return Err(Errno::EINVAL);
    }
    let b = &b[..b.len().min(15)];
    let name = b.strip_suffix(b"\n").unwrap_or(b);
    crate::trace::renamed(t, name);
    sched::thread(t).set_comm_bytes(name);
    Ok(())
}

fn limits(t: &TaskRef, out: &mut Out) -> Result<()> {
    let l = match data(t) {
        Some(d) => d.process.limits(),
        None => return Ok(()),
    };
    writeln!(out, "{:<25} {:<20} {:<20} {:<10}", "Limit", "Soft Limit", "Hard Limit", "Units")?;
    let text = |v: u64| {
        if v == rlimit::INFINITY { alloc::string::String::from("unlimited") } else { alloc::format!("{v}") }
    };
    for (i, (name, unit)) in rlimit::NAMES.iter().enumerate() {
        let (soft, hard) = l.get(i);
        write!(out, "{:<25} {:<20} {:<20} ", name, text(soft), text(hard))?;
        if unit.is_empty() {
            writeln!(out)?;
        } else {
            writeln!(out, "{unit:<10}")?;
        }
    }
    Ok(())
}

fn oom_score(t: &TaskRef, out: &mut Out) -> Result<()> {
    let score = match data(t) {
        Some(d) => match d.process.mm() {
            Some(m) => mm::oom::score(&m, d.process.oom_score_adj.load(Relaxed) as i16),
            None => 0,
        },
        None => 0,
    };
    Ok(writeln!(out, "{score}")?)
}

fn oom_score_adj(t: &TaskRef, out: &mut Out) -> Result<()> {
    Ok(writeln!(out, "{}", data(t).map_or(0, |d| d.process.oom_score_adj.load(Relaxed)))?)
}

fn set_oom_score_adj(t: &TaskRef, b: &[u8]) -> Result<()> {
    let n: i32 = base::tree::kstrto(b.trim_ascii())?;
    if !(-1000..=1000).contains(&n) {
        return Err(Errno::EINVAL);
    }
    let d = data(t).ok_or(Errno::EINVAL)?;
    let old = d.process.oom_score_adj.load(Relaxed);
    if n < old && !try_current().is_none_or(|me| me.cred().has_cap(cap::SYS_RESOURCE)) {
        return Err(Errno::EACCES);
    }
    d.process.oom_score_adj.store(n, Relaxed);
    Ok(())
}

/// Nothing for a kernel thread, or a process that has ended.
fn core_filter(t: &TaskRef, out: &mut Out) -> Result<()> {
    match data(t) {
        Some(d) if d.process.mm().is_some() => {
            Ok(writeln!(out, "{:08x}", d.process.core_filter.load(Relaxed))?)
        }
        _ => Ok(()),
    }
}

fn set_core_filter(t: &TaskRef, b: &[u8]) -> Result<()> {
    let n: u32 = base::tree::kstrto(b)?;
    let d = data(t).ok_or(Errno::ESRCH)?;
    d.process.core_filter.store(coredump::regions::Filter::from_bits_truncate(n).bits(), Relaxed);
    Ok(())
}

fn children(t: &TaskRef, out: &mut Out) -> Result<()> {
    let Some(d) = data(t) else { return Ok(()) };
    let tid = sched::thread(t).pid();
    let tree = TREE.lock();
    let Some(n) = tree.get(d.process.pid()) else { return Ok(()) };
    for c in &n.children {
        if tree.get(*c).is_some_and(|c| c.parent_tid == tid) {
            write!(out, "{c} ")?;
        }
    }
    Ok(())
}

fn mounts(t: &TaskRef, out: &mut Out) -> Result<()> {
    let root = fs_of(t)?.root();
    out.push(vfs::mounts_text(&root)?.as_bytes())
}

fn mountinfo(t: &TaskRef, out: &mut Out) -> Result<()> {
    let root = fs_of(t)?.root();
    out.push(vfs::mountinfo_text(&root)?.as_bytes())
}

fn fs_of(t: &TaskRef) -> Result<alloc::sync::Arc<vfs::FsContext>> {
    match data(t) {
        Some(d) => d.try_fs().ok_or(Errno::EINVAL),
        // Kernel threads see what init sees.
        None => crate::init::process()
            .and_then(|p| p.leader())
            .and_then(|l| data(&l).and_then(|d| d.try_fs()))
            .ok_or(Errno::EINVAL),
    }
}

fn exe(t: &TaskRef) -> Result<Link> {
    check(t)?;
    let m = data(t).and_then(|d| d.process.mm()).ok_or(Errno::ENOENT)?;
    let f = m.exe().ok_or(Errno::ENOENT)?;
    let f = f.downcast::<vfs::File>().map_err(|_| Errno::ENOENT)?;
    Ok(Link::Magic(f.path().clone()))
}

fn cwd(t: &TaskRef) -> Result<Link> {
    check(t)?;
    Ok(Link::Magic(fs_of(t).map_err(|_| Errno::ENOENT)?.cwd()))
}

fn root(t: &TaskRef) -> Result<Link> {
    check(t)?;
    Ok(Link::Magic(fs_of(t).map_err(|_| Errno::ENOENT)?.root()))
}
