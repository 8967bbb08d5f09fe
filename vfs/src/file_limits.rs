//! How many files are open in all, and how many may be: `/proc/sys/fs/{file-nr,file-max,nr_open}`.
//!
//! `file-max` binds whoever has no `CAP_SYS_ADMIN`. `nr_open` is the highest that `RLIMIT_NOFILE` can be raised to. Linux's description:
//! `Documentation/admin-guide/sysctl/fs.rst`.

use base::{
    Cred, Errno, Result,
    cred::cap,
    pr_info,
    tree::{self, kstrto},
};
use frame::atomic::{AtomicU64, Ordering::Relaxed};

static OPEN: AtomicU64 = AtomicU64::new(0);
static FILE_MAX: AtomicU64 = AtomicU64::new(u64::MAX);
static NR_OPEN: AtomicU64 = AtomicU64::new(1024 * 1024);
/// The largest number for which the log was told that there are no more.
static TOLD: AtomicU64 = AtomicU64::new(0);

/// A machine with little memory may still open so many (`NR_FILE`).
const LEAST: u64 = 8192;

/// An open file, in the count.
pub(crate) struct Counted(());

impl Counted {
    /// ENFILE.
    pub(crate) fn new(cred: &Cred) -> Result<Counted> {
        let max = FILE_MAX.load(Relaxed);
        if OPEN.fetch_add(1, Relaxed) >= max && !cred.has_cap(cap::SYS_ADMIN) {
            OPEN.fetch_sub(1, Relaxed);
            if TOLD.fetch_max(max, Relaxed) < max {
                pr_info!("VFS: file-max limit {max} reached");
            }
            return Err(Errno::ENFILE);
        }
        Ok(Counted(()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Relaxed);
    }
}

/// No descriptor is ever as large: `fs.nr_open`.
pub fn nr_open() -> u64 {
    NR_OPEN.load(Relaxed)
}

/// A number within the range. EINVAL.
fn parse(b: &[u8], range: core::ops::RangeInclusive<u64>) -> Result<u64> {
    let n: u64 = kstrto(b.trim_ascii()).map_err(|_| Errno::EINVAL)?;
    if range.contains(&n) { Ok(n) } else { Err(Errno::EINVAL) }
}

/// Declares the knobs.
pub fn init() -> Result<()> {
    // A file with its inode and name takes about a kilobyte: not more than a tenth of memory for them.
    let kilobytes = mm::buddy::managed_pages() * (mm::PAGE_SIZE as u64 / 1024);
    FILE_MAX.store((kilobytes / 10).max(LEAST), Relaxed);
    let t = tree::proc();
    t.file("sys/fs/file-nr", 0o444, |o| {
        Ok(writeln!(o, "{}\t0\t{}", OPEN.load(Relaxed), FILE_MAX.load(Relaxed))?)
    })?;
    let knob = |name: &str, cell: &'static AtomicU64, least: u64, most: u64| {
        t.knob(
            &alloc::format!("sys/fs/{name}"),
            0o644,
            move |o| Ok(writeln!(o, "{}", cell.load(Relaxed))?),
            move |b| {
                cell.store(parse(b, least..=most)?, Relaxed);
                Ok(())
            },
        )
    };
    knob("file-max", &FILE_MAX, 0, i64::MAX as u64)?;
    // Multiples of a word's bits, as the tables grow.
    knob("nr_open", &NR_OPEN, 64, (i32::MAX as u64) & !63)
}
