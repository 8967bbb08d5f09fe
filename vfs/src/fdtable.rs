//! File descriptors: small numbers for open files.
//!
//! One spin lock; a look-up is a bounds check and a reference count. A free number is found from a hint below which all are
//! taken, so that open and close of one file stay constant-time however many are open.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};
use frame::{
    atomic::{AtomicU64, Ordering::Relaxed},
    sync::{LockClass, SpinLock},
};

use crate::{file::File, file_limits::nr_open, locks};

static CLASS: LockClass = LockClass::new("fd_table");
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A file descriptor.
pub type Fd = i32;

#[derive(Clone)]
struct Slot {
    file: Arc<File>,
    cloexec: bool,
}

struct Inner {
    slots: Vec<Option<Slot>>,
    /// All slots below are taken.
    hint: usize,
}

/// The descriptors of a process (of all that share them with `CLONE_FILES`).
pub struct FdTable {
    /// Who owns POSIX record locks.
    id: u64,
    inner: SpinLock<Inner>,
}

impl Default for FdTable {
    fn default() -> Self {
        Self::new()
    }
}

impl FdTable {
    pub fn new() -> FdTable {
        Self::with(Inner { slots: Vec::new(), hint: 0 })
    }
    fn with(inner: Inner) -> FdTable {
        FdTable { id: NEXT_ID.fetch_add(1, Relaxed), inner: SpinLock::new(&CLASS, inner) }
    }
    /// A copy for a new process. Record locks are not inherited.
    pub fn fork(&self) -> Result<FdTable> {
        let mut slots = Vec::new();
        let i = loop {
            let want = self.inner.lock().slots.len();
            slots.try_reserve(want).map_err(|_| Errno::ENOMEM)?;
            let i = self.inner.lock();
            if i.slots.len() <= slots.capacity() {
                break i;
            }
        };
        slots.extend(i.slots.iter().cloned());
        let hint = i.hint;
        drop(i);
        Ok(Self::with(Inner { slots, hint }))
    }
    /// Identifies the owner of record locks.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The file at `fd`, for reading, writing and the like: `EBADF` also for one opened with `O_PATH`.
    #[inline]
    pub fn get(&self, fd: Fd) -> Result<Arc<File>> {
        let f = self.get_any(fd)?;
        if f.is_path_only() { Err(Errno::EBADF) } else { Ok(f) }
    }
    /// The file at `fd`, `O_PATH` included.
    #[inline]
    pub fn get_any(&self, fd: Fd) -> Result<Arc<File>> {
        match self.inner.lock().slots.get(fd as u32 as usize) {
            Some(Some(s)) => Ok(s.file.clone()),
            _ => Err(Errno::EBADF),
        }
    }
    /// Gives `file` the lowest free number from `from` on and below `limit` (`RLIMIT_NOFILE`); `EMFILE` where there is none.
    pub fn install_from(&self, from: u64, file: Arc<File>, cloexec: bool, limit: u64) -> Result<Fd> {
        let mut i = self.inner.lock();
        let start = i.hint.max(from as usize);
        let n = i.slots.get(start..).and_then(|s| s.iter().position(Option::is_none)).map_or(
            // Beyond the end everything is free.
            start.max(i.slots.len()),
            |n| start + n,
        );
        if n as u64 >= limit.min(nr_open()) {
            return Err(Errno::EMFILE);
        }
        i.make_room(n)?;
        i.slots[n] = Some(Slot { file, cloexec });
        if n == i.hint {
            i.hint = n + 1;
        }
        Ok(n as Fd)
    }
    /// `EMFILE` where [`Self::install`] would find no number now: for calls that must not lose what they are about to take.
    pub fn check_room(&self, limit: u64) -> Result<()> {
        let i = self.inner.lock();
        let free =
            i.slots.iter().skip(i.hint).position(Option::is_none).map_or(i.slots.len(), |n| i.hint + n);
        if (free as u64) < limit.min(nr_open()) { Ok(()) } else { Err(Errno::EMFILE) }
    }
    pub fn install(&self, file: Arc<File>, cloexec: bool, limit: u64) -> Result<Fd> {
        self.install_from(0, file, cloexec, limit)
    }
    /// dup(2).
    pub fn dup(&self, fd: Fd, limit: u64) -> Result<Fd> {
        let f = self.get_any(fd)?;
        self.install(f, false, limit)
    }
    /// `F_DUPFD`, `F_DUPFD_CLOEXEC`.
    pub fn dup_from(&self, fd: Fd, from: u64, cloexec: bool, limit: u64) -> Result<Fd> {
        let f = self.get_any(fd)?;
        if from >= limit {
            return Err(Errno::EINVAL);
        }
        self.install_from(from, f, cloexec, limit)
    }
    /// dup3(2). dup2(2) with equal numbers is the caller's case.
    pub fn dup3(&self, old: Fd, new: Fd, cloexec: bool, limit: u64) -> Result<Fd> {
        if old == new {
            return Err(Errno::EINVAL);
        }
        if new < 0 || new as u64 >= limit.min(nr_open()) {
            return Err(Errno::EBADF);
        }
        let file = self.get_any(old)?;
        self.put_at(new, file, cloexec)?;
        Ok(new)
    }
    /// Puts `file` at `fd`, closing what is there.
    pub fn put_at(&self, fd: Fd, file: Arc<File>, cloexec: bool) -> Result<()> {
        let n = fd as usize;
        let mut i = self.inner.lock();
        i.make_room(n)?;
        let old = i.slots[n].replace(Slot { file, cloexec });
        if n == i.hint {
            i.hint = n + 1;
        }
        drop(i);
        if let Some(o) = old {
            // As on Linux, an error of this close is lost.
            let _ = self.finish_close(o.file);
        }
        Ok(())
    }
    /// close(2). The number is free whatever the result says.
    pub fn close(&self, fd: Fd) -> Result<()> {
        let file = self.take(fd as u32 as usize).ok_or(Errno::EBADF)?;
        self.finish_close(file)
    }
    fn take(&self, n: usize) -> Option<Arc<File>> {
        let mut i = self.inner.lock();
        let s = i.slots.get_mut(n)?.take()?;
        i.hint = i.hint.min(n);
        Some(s.file)
    }
    fn finish_close(&self, file: Arc<File>) -> Result<()> {
        if file.is_path_only() {
            return Ok(());
        }
        let r = file.ops().flush(&file);
        locks::descriptor_closed(&file, self.id);
        r
    }
    /// close_range(2) without `CLOSE_RANGE_UNSHARE`, which is the caller's; `cloexec` marks instead of closing.
    pub fn close_range(&self, first: u32, last: u32, cloexec: bool) -> Result<()> {
        if first > last {
            return Err(Errno::EINVAL);
        }
        let mut n = first as usize;
        loop {
            let mut i = self.inner.lock();
            if n >= i.slots.len() || n > last as usize {
                return Ok(());
            }
            if cloexec {
                if let Some(s) = &mut i.slots[n] {
                    s.cloexec = true;
                }
            } else if i.slots[n].is_some() {
                drop(i);
                if let Some(f) = self.take(n) {
                    let _ = self.finish_close(f);
                }
            }
            n += 1;
        }
    }
    /// At exec: closes what is marked.
    pub fn close_on_exec(&self) {
        self.close_where(|s| s.cloexec);
    }
    /// At exit: closes everything.
    pub fn close_all(&self) {
        self.close_where(|_| true);
    }
    fn close_where(&self, which: impl Fn(&Slot) -> bool) {
        let mut n = 0;
        loop {
            let i = self.inner.lock();
            let Some(found) = i.slots.iter().skip(n).position(|s| s.as_ref().is_some_and(&which)) else {
                return;
            };
            n += found;
            drop(i);
            if let Some(f) = self.take(n) {
                let _ = self.finish_close(f);
            }
        }
    }
    pub fn cloexec(&self, fd: Fd) -> Result<bool> {
        match self.inner.lock().slots.get(fd as u32 as usize) {
            Some(Some(s)) => Ok(s.cloexec),
            _ => Err(Errno::EBADF),
        }
    }
    pub fn set_cloexec(&self, fd: Fd, on: bool) -> Result<()> {
        match self.inner.lock().slots.get_mut(fd as u32 as usize) {
            Some(Some(s)) => {
                s.cloexec = on;
                Ok(())
            }
            _ => Err(Errno::EBADF),
        }
    }
    /// All open descriptors, in order.
    pub fn snapshot(&self) -> Vec<(Fd, Arc<File>)> {
        let i = self.inner.lock();
        i.slots.iter().enumerate().filter_map(|(n, s)| Some((n as Fd, s.as_ref()?.file.clone()))).collect()
    }
    /// The numbers in use, in order, from `from` on.
    pub fn next_open(&self, from: Fd) -> Option<Fd> {
        let i = self.inner.lock();
        let from = from.max(0) as usize;
        i.slots.iter().skip(from).position(Option::is_some).map(|n| (from + n) as Fd)
    }
    /// Room in the table, as `FDSize` in `/proc/PID/status`.
    pub fn capacity(&self) -> usize {
        self.inner.lock().slots.len().next_power_of_two().max(64)
    }
}

impl Inner {
    fn make_room(&mut self, n: usize) -> Result<()> {
        if n >= self.slots.len() {
            self.slots.try_reserve(n + 1 - self.slots.len()).map_err(|_| Errno::ENOMEM)?;
            self.slots.resize(n + 1, None);
        }
        Ok(())
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        self.close_all();
    }
}
