//! How much memory may be promised (`vm.overcommit_*`, Linux's `Documentation/mm/overcommit-accounting.rst`).
//!
//! Private writable pages are promised when they are mapped, and needed only when they are written. Mode 0 refuses only
//! what could never be kept; mode 1 refuses nothing; mode 2 keeps the sum of promises below a limit.

use base::{Errno, Result};
use frame::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::{PAGE_SHIFT, buddy};

/// `vm.overcommit_memory`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// A single request larger than all memory is refused.
    Guess = 0,
    Always = 1,
    /// The sum stays below the commit limit.
    Never = 2,
}

static COMMITTED: AtomicI64 = AtomicI64::new(0);
static MODE: AtomicU64 = AtomicU64::new(0);
/// Percent of memory that mode 2 lets be promised.
static RATIO: AtomicU64 = AtomicU64::new(50);
/// KiB that mode 2 lets be promised; 0: use the ratio.
static KBYTES: AtomicU64 = AtomicU64::new(0);
/// KiB kept for the administrator in mode 2: Linux's 8 MiB, or 1/32 of free memory if that is less.
static ADMIN_RESERVE_KB: AtomicU64 = AtomicU64::new(8192);
/// KiB kept from one program, so that others can be started to kill it: 128 MiB, or 1/32 of free memory.
static USER_RESERVE_KB: AtomicU64 = AtomicU64::new(131_072);

/// Sets the reserves from the memory that is free at start.
pub(crate) fn init(free_pages: u64) {
    let kb = free_pages << (PAGE_SHIFT - 10);
    ADMIN_RESERVE_KB.store((kb / 32).min(8192), Ordering::Relaxed);
    USER_RESERVE_KB.store((kb / 32).min(131_072), Ordering::Relaxed);
}

pub fn mode() -> Mode {
    match MODE.load(Ordering::Relaxed) {
        1 => Mode::Always,
        2 => Mode::Never,
        _ => Mode::Guess,
    }
}

/// Pages promised: `Committed_AS`.
pub fn committed() -> u64 {
    COMMITTED.load(Ordering::Relaxed).max(0) as u64
}

/// Pages that mode 2 lets be promised: `CommitLimit`.
pub fn limit() -> u64 {
    let kb = KBYTES.load(Ordering::Relaxed);
    if kb != 0 {
        kb >> (PAGE_SHIFT - 10)
    } else {
        buddy::managed_pages() * RATIO.load(Ordering::Relaxed) / 100
    }
}

/// The decision of mode 2, apart from the counters.
fn fits(committed: u64, limit: u64, total_vm: u64, is_admin: bool) -> bool {
    let mut allowed = limit;
    if !is_admin {
        allowed = allowed.saturating_sub(ADMIN_RESERVE_KB.load(Ordering::Relaxed) >> (PAGE_SHIFT - 10));
    }
    let user = USER_RESERVE_KB.load(Ordering::Relaxed) >> (PAGE_SHIFT - 10);
    committed < allowed.saturating_sub((total_vm / 32).min(user))
}

/// Promises `pages` to a program whose size is `total_vm` pages.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn charge(pages: usize, total_vm: usize, is_admin: bool) -> Result<()> {
    let pages = pages as u64;
    let ok = match mode() {
        Mode::Always => true,
        Mode::Guess => pages <= buddy::managed_pages(),
        Mode::Never => {
            let sum = COMMITTED.fetch_add(pages as i64, Ordering::Relaxed) + pages as i64;
            if fits(sum.max(0) as u64, limit(), total_vm as u64, is_admin) {
                return Ok(());
            }
            COMMITTED.fetch_sub(pages as i64, Ordering::Relaxed);
            false
        }
    };
    if !ok {
        return Err(Errno::ENOMEM);
    }
    COMMITTED.fetch_add(pages as i64, Ordering::Relaxed);
    Ok(())
}

/// Takes a promise back.
pub(crate) fn uncharge(pages: usize) {
    if pages != 0 {
        COMMITTED.fetch_sub(pages as i64, Ordering::Relaxed);
    }
}

/// The knobs under `/proc/sys/vm`, as (name, cell, largest value).
pub(crate) static KNOBS: [(&str, &AtomicU64, u64); 5] = [
    ("overcommit_memory", &MODE, 2),
    ("overcommit_ratio", &RATIO, i32::MAX as u64),
    ("overcommit_kbytes", &KBYTES, u64::MAX >> 12),
    ("admin_reserve_kbytes", &ADMIN_RESERVE_KB, u64::MAX >> 12),
    ("user_reserve_kbytes", &USER_RESERVE_KB, u64::MAX >> 12),
];

#[cfg(test)]
mod tests {
    #[test]
    fn mode_two_keeps_reserves() {
        // 1000 pages allowed; the administrator's reserve is 2048 pages, so nobody else gets any.
        assert!(super::fits(900, 1000, 0, true));
        assert!(!super::fits(900, 1000, 0, false));
        assert!(!super::fits(990, 1000, 640, true), "a program of 640 pages leaves 20 to others");
    }
}
