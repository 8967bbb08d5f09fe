//! When there is no memory left.
//!
//! # Progress
//! [`make_room`] is called with no locks by a fault that found no page. It asks the registered shrinkers; then it chooses the program
//! that has most memory, kills it and takes its private memory away at once, in the caller's context, since the victim may
//! itself be unable to run. Each round either frees memory, or marks one more program as exhausted, or ends with an error for the
//! caller, who is then killed: the loop is finite and nothing here waits for an event that may not come.
//!
//! A victim may use the reserve below the `min` watermark, so that it can end.
//!
//! Linux differs in that a kernel thread (`oom_reaper`) takes the memory away, after up to two seconds' patience.

use alloc::sync::Arc;

use base::{pr_err, pr_warn};
use frame::{
    atomic::{AtomicBool, AtomicU64, Ordering},
    sync::{LockClass, Mutex, once::Once},
};

use crate::{
    Fault, Mm, PAGE_SHIFT, buddy,
    mm::{OOM_SKIP, OOM_VICTIM},
    stat,
};

/// A program that could be killed.
pub struct Candidate {
    pub pid: u32,
    pub uid: u32,
    pub comm: alloc::string::String,
    pub mm: Arc<Mm>,
    /// -1000 (never) to 1000 (first).
    pub oom_score_adj: i16,
    /// Init, kernel threads: never chosen.
    pub unkillable: bool,
}

/// What `process` installs.
pub trait OomVictims: Sync {
    /// Visits every process once. Must not allocate for the sake of the visit.
    fn for_each(&self, f: &mut dyn FnMut(Candidate));
    /// Sends `SIGKILL` to the process, and to all that share its address space.
    fn kill(&self, pid: u32);
    /// The caller, for the log: pid, name, `oom_score_adj`.
    fn current(&self) -> Option<(u32, alloc::string::String, i16)> {
        None
    }
}

/// Something that can give memory back: a cache of names, of inodes, of pages.
pub trait Shrinker: Sync {
    /// Frees up to `pages` pages' worth; how many objects went. Called without locks, where sleeping is allowed.
    fn shrink(&self, pages: u64) -> u64;
}

static VICTIMS: Once<&'static dyn OomVictims> = Once::new();
const MAX_SHRINKERS: usize = 16;
static SHRINKERS: [Once<&'static dyn Shrinker>; MAX_SHRINKERS] = [const { Once::new() }; MAX_SHRINKERS];
static N_SHRINKERS: AtomicU64 = AtomicU64::new(0);
static CLASS: LockClass = LockClass::new("oom_lock");
/// One killer at a time: the second caller finds the memory that the first one freed.
static OOM_LOCK: Mutex<()> = Mutex::new(&CLASS, ());
/// Nobody is killed while processes are frozen: they could not end.
static DISABLED: AtomicBool = AtomicBool::new(false);

/// Switches the killing off or on again. Off, who finds no memory is refused it.
pub fn set_enabled(on: bool) {
    let _after_who_kills = OOM_LOCK.lock();
    DISABLED.store(!on, Ordering::SeqCst);
}

/// Installs the list of processes; the first call decides.
pub fn install_victims(v: &'static dyn OomVictims) {
    VICTIMS.call_once(|| v);
}

/// Adds a cache to ask before anyone is killed. False if there are too many already.
pub fn register_shrinker(s: &'static dyn Shrinker) -> bool {
    let n = N_SHRINKERS.fetch_add(1, Ordering::AcqRel) as usize;
    match SHRINKERS.get(n) {
        Some(slot) => {
            slot.call_once(|| s);
            true
        }
        None => false,
    }
}

/// Linux's `oom_badness`: resident pages and page tables, moved by the adjustment, which is in thousandths of all memory. `None`: never.
pub fn badness(resident: u64, table_pages: u64, adj: i16, total_pages: u64) -> Option<i64> {
    if adj == -1000 {
        return None;
    }
    Some((resident + table_pages) as i64 + i64::from(adj) * (total_pages as i64 / 1000))
}

/// `/proc/PID/oom_score`: 0 to 2000.
pub fn score(mm: &Mm, adj: i16) -> u64 {
    let total = buddy::managed_pages().max(1);
    match badness(mm.resident(), mm.page_table_bytes() >> PAGE_SHIFT, adj, total) {
        None => 0,
        Some(b) => ((1000 + b * 1000 / total as i64) * 2 / 3).max(0) as u64,
    }
}

fn shrink(pages: u64) -> u64 {
    frame::heap::shrink();
    SHRINKERS.iter().filter_map(|s| s.get()).map(|s| s.shrink(pages)).sum()
}

/// Pages that one round of shrinking asks for: Linux's `SWAP_CLUSTER_MAX`.
const BATCH: u64 = 32;

/// Finds memory for a fault of `mm`, which holds no locks; then the fault is tried again.
///
/// # Errors
/// `OutOfMemory`: `mm` was chosen, or nobody can be.
pub(crate) fn make_room(mm: &Mm) -> Result<(), Fault> {
    if mm.is_oom_victim() {
        return Err(Fault::OutOfMemory);
    }
    stat::add(stat::Item::AllocStallNormal, 1);
    buddy::drain_all();
    if shrink(BATCH) > 0 && buddy::is_above_min() {
        return Ok(());
    }
    out_of_memory(mm)
}

/// Kills one program, whatever memory is left: what SysRq `f` does.
pub fn kill_one() {
    let _g = OOM_LOCK.lock();
    let Some(victims) = VICTIMS.get() else { return };
    match choose(*victims) {
        Some(v) => kill(*victims, &v),
        None => pr_err!("Out of memory and no killable processes..."),
    }
}

/// Kills one program to free memory.
///
/// # Errors
/// As for `make_room`.
pub fn out_of_memory(mm: &Mm) -> Result<(), Fault> {
    let _g = OOM_LOCK.lock();
    // Another caller may have made room while this one waited.
    if buddy::is_above_min() {
        return Ok(());
    }
    if DISABLED.load(Ordering::SeqCst) {
        return Err(Fault::OutOfMemory);
    }
    let Some(victims) = VICTIMS.get() else { return Err(Fault::OutOfMemory) };
    if let Some((pid, comm, adj)) = victims.current() {
        pr_warn!(
            "{comm} invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO), order=0, oom_score_adj={adj} [pid {pid}]"
        );
    }
    loop {
        let Some(v) = choose(*victims) else {
            pr_err!("Out of memory and no killable processes...");
            return Err(Fault::OutOfMemory);
        };
        kill(*victims, &v);
        if reap_patiently(&v.mm) {
            let (anon, file, shmem) = v.mm.resident_by_kind();
            let kb = |n: u64| n << (PAGE_SHIFT - 10);
            pr_warn!(
                "oom: reaped process {} ({}), now anon-rss:{}kB, file-rss:{}kB, shmem-rss:{}kB",
                v.pid,
                v.comm,
                kb(anon),
                kb(file),
                kb(shmem)
            );
        } else {
            // Its region lock is held for writing all the time. It stays chosen; look at another.
            v.mm.oom.fetch_or(OOM_SKIP, Ordering::Relaxed);
        }
        if core::ptr::eq(&*v.mm, mm) {
            return Err(Fault::OutOfMemory);
        }
        if buddy::is_above_min() {
            return Ok(());
        }
    }
}

/// Takes the victim's memory away. A system call of the victim's may hold its region lock for writing; none waits for memory with it, so
/// it is soon done, and killing another program meanwhile would be rash: ten tries, 10 ms apart.
fn reap_patiently(mm: &Mm) -> bool {
    for _ in 0..10 {
        if mm.reap() {
            return true;
        }
        sched::time::sleep_ns(10_000_000);
    }
    false
}

/// The program with the highest badness that has not been tried yet.
fn choose(victims: &dyn OomVictims) -> Option<Candidate> {
    let total = buddy::managed_pages();
    let mut best: Option<(i64, Candidate)> = None;
    victims.for_each(&mut |c| {
        if c.unkillable || c.mm.oom.load(Ordering::Relaxed) & OOM_SKIP != 0 {
            return;
        }
        let Some(b) = badness(c.mm.resident(), c.mm.page_table_bytes() >> PAGE_SHIFT, c.oom_score_adj, total)
        else {
            return;
        };
        if best.as_ref().is_none_or(|(most, _)| b > *most) {
            best = Some((b, c));
        }
    });
    best.map(|(_, c)| c)
}

fn kill(victims: &dyn OomVictims, v: &Candidate) {
    if v.mm.oom.fetch_or(OOM_VICTIM, Ordering::SeqCst) & OOM_VICTIM != 0 {
        return;
    }
    let r = v.mm.counters();
    let kb = |n: u64| n << (PAGE_SHIFT - 10);
    pr_err!(
        "Out of memory: Killed process {} ({}) total-vm:{}kB, anon-rss:{}kB, file-rss:{}kB, shmem-rss:{}kB, UID:{} pgtables:{}kB oom_score_adj:{}",
        v.pid,
        v.comm,
        kb(r.total_vm),
        kb(r.anon),
        kb(r.file),
        kb(r.shmem),
        v.uid,
        v.mm.page_table_bytes() >> 10,
        v.oom_score_adj
    );
    stat::add(stat::Item::OomKill, 1);
    victims.kill(v.pid);
}
