//! Requests for modules: runs `modprobe -q -- NAME` and waits for it. Who asks, and why, is in [`base::kmod`].
//!
//! `/proc/sys/kernel/modprobe` is the program's path; empty, nothing is run. At most [`MOST`] requests run at once; who waits for a
//! place longer than five seconds gets `ETIME`, since the programs may be waiting for one another.

use alloc::vec::Vec;

use base::{Errno, Result, kmod, pr_warn, tree};
use frame::{
    atomic::{AtomicU32, Ordering::SeqCst},
    sync::{LockClass, Mutex, WaitQueue},
    task::State,
};

use crate::umh::{self, Program, Wait};

/// Requests at once (`MAX_KMOD_CONCURRENT`).
const MOST: u32 = 50;
/// How long to wait for a place (`MAX_KMOD_ALL_BUSY_TIMEOUT`).
const PATIENCE_SECS: u64 = 5;
/// Longest path with its NUL (`KMOD_PATH_LEN`).
const PATH_LEN: usize = 256;

static CLASS: LockClass = LockClass::new("modprobe_path");
static PATH: Mutex<Vec<u8>> = Mutex::new(&CLASS, Vec::new());
static FREE: AtomicU32 = AtomicU32::new(MOST);
static FREED: WaitQueue = WaitQueue::new();

/// A place among the requests.
struct Place;

impl Place {
    fn take(name: &str) -> Result<Place> {
        let free = || FREE.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok().then_some(Place);
        let deadline = sched::time::now_ns().saturating_add(PATIENCE_SECS * 1_000_000_000);
        match sched::time::wait_timeout(&FREED, State::KILLABLE, Some(deadline), free) {
            Ok(Some(p)) => Ok(p),
            Ok(None) => {
                pr_warn!(
                    "request_module: modprobe {name} cannot be processed, kmod busy with {MOST} threads for more than {PATIENCE_SECS} seconds now"
                );
                Err(Errno::ETIME)
            }
            Err(_) => Err(Errno::EINTR),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        FREE.fetch_add(1, SeqCst);
        FREED.wake_one();
    }
}

fn run(name: &str) -> Result<i32> {
    let path = PATH.lock().clone();
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let _place = Place::take(name)?;
    let program = Program::new([&path[..], b"-q", b"--", name.as_bytes()], umh::ENVIRONMENT)?;
    umh::call(program, Wait::End, true)
}

/// The first line, cut to what a path may have.
fn path_of(written: &[u8]) -> &[u8] {
    let end = written.iter().position(|&b| b == b'\n' || b == 0).unwrap_or(written.len());
    &written[..end.min(PATH_LEN - 1)]
}

/// Declares the knob and answers requests.
pub(crate) fn init() -> Result<()> {
    PATH.lock().extend_from_slice(b"/sbin/modprobe");
    tree::proc().knob(
        "sys/kernel/modprobe",
        0o644,
        |o| {
            o.push(&PATH.lock())?;
            o.push(b"\n")
        },
        |b| {
            let mut new = Vec::new();
            new.try_reserve_exact(PATH_LEN)?;
            new.extend_from_slice(path_of(b));
            *PATH.lock() = new;
            Ok(())
        },
    )?;
    kmod::install(run);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_line() {
        assert_eq!(path_of(b"/sbin/modprobe\nrest"), b"/sbin/modprobe");
        assert_eq!(path_of(b"\n"), b"");
        assert_eq!(path_of(&[b'x'; 300]).len(), PATH_LEN - 1);
    }
}
