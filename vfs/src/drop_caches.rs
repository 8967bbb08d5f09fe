//! `/proc/sys/vm/drop_caches`: lets go of what the kernel remembers only to be quick.
//!
//! | written | what goes |
//! |---|---|
//! | 1 | clean page cache. Pages of tmpfs are the files themselves, and no other file system has a page cache here: nothing |
//! | 2 | names that nobody uses, with their inodes, and names known not to exist, in all mounted file systems |
//! | 3 | both |
//! | 4 | nothing; and from now on the log is not told |
//!
//! It is for measuring and for tests: a machine that is short of memory does not wait for it. Nothing is lost by it, and what is
//! in use stays: open files, current directories, mount points, and the folders on the way to them.
//!
//! Documented: Linux `Documentation/admin-guide/sysctl/vm.rst`, `fs/drop_caches.c`.

use alloc::{sync::Arc, vec::Vec};

use base::{
    Errno, Result, pr_info,
    tree::{self, parse_int},
};
use frame::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::{dentry::Dentry, emergency};

const PAGE_CACHE: i64 = 1;
const SLAB: i64 = 2;
const SILENT: i64 = 4;

/// Somebody has written 4.
static IS_SILENT: AtomicBool = AtomicBool::new(false);
/// How often each was dropped: `drop_pagecache` and `drop_slab` of `/proc/vmstat`.
static PAGE_CACHE_DROPS: AtomicU64 = AtomicU64::new(0);
static SLAB_DROPS: AtomicU64 = AtomicU64::new(0);

/// Declares the knob and its counters.
pub fn init() -> Result<()> {
    base::stat::list_in_vmstat("drop_pagecache", || PAGE_CACHE_DROPS.load(Relaxed));
    base::stat::list_in_vmstat("drop_slab", || SLAB_DROPS.load(Relaxed));
    tree::proc().trigger("sys/vm/drop_caches", 0o200, store)
}

fn store(text: &[u8]) -> Result<()> {
    let what = parse_int(text)?;
    if !(PAGE_CACHE..=SILENT).contains(&what) {
        return Err(Errno::EINVAL);
    }
    if what & PAGE_CACHE != 0 {
        PAGE_CACHE_DROPS.fetch_add(1, Relaxed);
    }
    if what & SLAB != 0 {
        for sb in emergency::all() {
            if let Some(root) = sb.root() {
                prune_below(&root);
            }
        }
        SLAB_DROPS.fetch_add(1, Relaxed);
    }
    if !IS_SILENT.load(Relaxed) {
        let me = sched::me();
        pr_info!("{} ({}): drop_caches: {what}", me.comm(), me.pid());
    }
    if what & SILENT != 0 {
        IS_SILENT.store(true, Relaxed);
    }
    Ok(())
}

/// Forgets every name below `root` that nobody uses; how many. The folders are collected from the top and pruned from the
/// bottom, each after all that stand in it: then it may itself be unused when its turn comes. Without memory for the list, the part that fits.
fn prune_below(root: &Arc<Dentry>) -> usize {
    let mut folders: Vec<Arc<Dentry>> = Vec::new();
    if folders.try_reserve(1).is_err() {
        return 0;
    }
    folders.push(root.clone());
    let mut next = 0;
    while let Some(d) = folders.get(next).cloned() {
        if d.collect_folders(&mut folders).is_err() {
            break;
        }
        next += 1;
        sched::cond_resched();
    }
    let mut gone = 0;
    while let Some(d) = folders.pop() {
        gone += d.prune();
        sched::cond_resched();
    }
    gone
}

/// For tests: [`prune_below`] of one tree.
#[doc(hidden)]
pub fn prune_tree(root: &Arc<Dentry>) -> usize {
    prune_below(root)
}
