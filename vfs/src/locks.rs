//! Advisory locks: flock(2), POSIX record locks and open-file-description locks (fcntl(2)).
//!
//! An inode has a table of locks once the first one is asked for. Record locks belong to a descriptor table (POSIX) or to an open file
//! (OFD) and cover byte ranges; one owner's ranges never overlap in the list. `flock` locks belong to an open file, cover everything,
//! and do not see record locks.
//!
//! A blocked POSIX locker notes for whom it waits; a chain of such notes that leads back to itself is `EDEADLK`.

use alloc::vec::Vec;

use base::{Errno, Result};
use frame::{
    atomic::Ordering::Relaxed,
    sync::{LockClass, Mutex, WaitQueue},
};
use linux_raw_sys::general::{SEEK_CUR, SEEK_END, SEEK_SET};

use crate::{file::File, inode::InodeFlags, types::MAX_OFFSET};

static TABLE_CLASS: LockClass = LockClass::new("file_locks");
static WAITS_CLASS: LockClass = LockClass::new("file_lock_waits");

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    Shared,
    Exclusive,
}

/// Who holds a record lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// A descriptor table, by its id.
    Posix(u64),
    /// An open file, by its address.
    Ofd(usize),
}

impl Owner {
    /// The owner of the open-file-description locks of `file`.
    pub fn ofd(file: &File) -> Owner {
        Owner::Ofd(core::ptr::from_ref(file) as usize)
    }
}

/// A record lock: bytes `start..=end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    pub kind: LockKind,
    pub start: u64,
    pub end: u64,
    pub owner: Owner,
    /// Who asked, for `F_GETLK` (-1 for OFD locks there) and `/proc/locks`.
    pub pid: u32,
}

impl Record {
    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start <= end && start <= self.end
    }
    fn conflicts(&self, o: &Record) -> bool {
        self.owner != o.owner
            && self.overlaps(o.start, o.end)
            && (self.kind == LockKind::Exclusive || o.kind == LockKind::Exclusive)
    }
}

#[derive(Default)]
struct Locks {
    records: Vec<Record>,
    /// The `flock` holders: file address and kind.
    whole: Vec<(usize, LockKind)>,
}

/// The locks of one inode.
pub struct LockTable {
    locks: Mutex<Locks>,
    waiters: WaitQueue,
}

impl LockTable {
    pub(crate) fn new() -> LockTable {
        LockTable { locks: Mutex::new(&TABLE_CLASS, Locks::default()), waiters: WaitQueue::new() }
    }
}

/// POSIX lockers that wait: (who, for whom).
static WAITS: Mutex<Vec<(u64, u64)>> = Mutex::new(&WAITS_CLASS, Vec::new());

/// Turns `l_whence`, `l_start`, `l_len` into a byte range, ends included.
pub fn range(file: &File, whence: u32, start: i64, len: i64) -> Result<(u64, u64)> {
    let base = match whence {
        SEEK_SET => 0,
        SEEK_CUR => file.position() as i64,
        SEEK_END => file.metadata_size() as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(start).ok_or(Errno::EOVERFLOW)?;
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    let (from, to) = match len {
        0 => (start, MAX_OFFSET as i64),
        1.. => (start, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        _ => (start + len, start - 1),
    };
    if from < 0 { Err(Errno::EINVAL) } else { Ok((from as u64, to as u64)) }
}

/// `F_GETLK`, `F_OFD_GETLK`: the first lock that stands in the way of `want`.
pub fn get_lock(file: &File, want: &Record) -> Result<Option<Record>> {
    let Some(t) = file.inode().existing_lock_table() else { return Ok(None) };
    let l = t.locks.lock();
    Ok(l.records.iter().find(|r| r.conflicts(want)).copied())
}

/// `F_SETLK`, `F_SETLKW` and the OFD forms. `kind` `None` unlocks; `want.kind` is then ignored.
pub fn set_lock(file: &File, kind: Option<LockKind>, mut want: Record, wait: bool) -> Result<()> {
    match kind {
        Some(LockKind::Shared) if !file.flags().readable() => return Err(Errno::EBADF),
        Some(LockKind::Exclusive) if !file.flags().writable() => return Err(Errno::EBADF),
        _ => {}
    }
    let inode = file.inode();
    let Some(kind) = kind else {
        if let Some(t) = inode.existing_lock_table() {
            let mut l = t.locks.lock();
            l.cut(want.owner, want.start, want.end)?;
            drop(l);
            t.waiters.wake_all();
        }
        return Ok(());
    };
    want.kind = kind;
    let t = inode.lock_table()?;
    inode.set_flag(InodeFlags::HAS_LOCKS);
    if matches!(want.owner, Owner::Ofd(_)) {
        file.may_hold_locks.store(1, Relaxed);
    }
    let attempt = || -> Result<Option<Record>> {
        let mut l = t.locks.lock();
        if let Some(c) = l.records.iter().find(|r| r.conflicts(&want)) {
            return Ok(Some(*c));
        }
        l.add(want)?;
        Ok(None)
    };
    let Some(first) = attempt()? else {
        t.waiters.wake_all();
        return Ok(());
    };
    if !wait {
        return Err(Errno::EAGAIN);
    }
    let me = WaitNote::new(want.owner, first.owner)?;
    t.waiters.wait_interruptible(|| match attempt() {
        Ok(None) => Some(Ok(())),
        Ok(Some(c)) => me.now_for(c.owner).err().map(Err),
        Err(e) => Some(Err(e)),
    })??;
    t.waiters.wake_all();
    Ok(())
}

/// The note of one waiting POSIX locker; others need none.
struct WaitNote(Option<u64>);

impl WaitNote {
    fn new(me: Owner, holder: Owner) -> Result<WaitNote> {
        let Owner::Posix(id) = me else { return Ok(WaitNote(None)) };
        let n = WaitNote(Some(id));
        n.now_for(holder)?;
        Ok(n)
    }
    /// Waits for `holder` from now on; `EDEADLK` if that one waits, over others, for us.
    fn now_for(&self, holder: Owner) -> Result<()> {
        let (Some(me), Owner::Posix(holder)) = (self.0, holder) else { return Ok(()) };
        let mut w = WAITS.lock();
        w.retain(|(who, _)| *who != me);
        let mut at = holder;
        // A chain without a loop is not longer than the list.
        for _ in 0..=w.len() {
            if at == me {
                return Err(Errno::EDEADLK);
            }
            let Some((_, next)) = w.iter().find(|(who, _)| *who == at) else { break };
            at = *next;
        }
        w.try_reserve(1).map_err(|_| Errno::ENOLCK)?;
        w.push((me, holder));
        Ok(())
    }
}

impl Drop for WaitNote {
    fn drop(&mut self) {
        if let Some(me) = self.0 {
            WAITS.lock().retain(|(who, _)| *who != me);
        }
    }
}

impl Locks {
    /// Takes `start..=end` out of the owner's locks.
    fn cut(&mut self, owner: Owner, start: u64, end: u64) -> Result<()> {
        // Cutting the middle out of a lock makes one more.
        self.records.try_reserve(1).map_err(|_| Errno::ENOLCK)?;
        let mut i = 0;
        while i < self.records.len() {
            let r = self.records[i];
            if r.owner != owner || !r.overlaps(start, end) {
                i += 1;
                continue;
            }
            let left = (r.start < start).then(|| Record { end: start - 1, ..r });
            let right = (r.end > end).then(|| Record { start: end + 1, ..r });
            match (left, right) {
                (Some(l), Some(r)) => {
                    self.records[i] = l;
                    self.records.push(r);
                    return Ok(());
                }
                (Some(x), None) | (None, Some(x)) => {
                    self.records[i] = x;
                    i += 1;
                }
                (None, None) => {
                    self.records.swap_remove(i);
                }
            }
        }
        Ok(())
    }
    /// Adds a lock that conflicts with nothing, joining it with the owner's neighbours of the same kind.
    fn add(&mut self, mut want: Record) -> Result<()> {
        self.records.try_reserve(2).map_err(|_| Errno::ENOLCK)?;
        self.cut(want.owner, want.start, want.end)?;
        self.records.retain(|r| {
            let joins = r.owner == want.owner
                && r.kind == want.kind
                && (r.end.checked_add(1) == Some(want.start) || want.end.checked_add(1) == Some(r.start));
            if joins {
                want.start = want.start.min(r.start);
                want.end = want.end.max(r.end);
            }
            !joins
        });
        self.records.push(want);
        Ok(())
    }
}

/// flock(2); `None` unlocks.
pub fn flock(file: &File, kind: Option<LockKind>, nonblock: bool) -> Result<()> {
    let me = core::ptr::from_ref(file) as usize;
    let inode = file.inode();
    let Some(kind) = kind else {
        if let Some(t) = inode.existing_lock_table() {
            t.locks.lock().whole.retain(|(f, _)| *f != me);
            t.waiters.wake_all();
        }
        return Ok(());
    };
    let t = inode.lock_table()?;
    inode.set_flag(InodeFlags::HAS_LOCKS);
    file.may_hold_locks.store(1, Relaxed);
    let attempt = || -> Result<bool> {
        let mut l = t.locks.lock();
        if l.whole.contains(&(me, kind)) {
            return Ok(true);
        }
        // A change of kind gives the old lock up first, also where the new one cannot be had (flock(2)).
        l.whole.retain(|(f, _)| *f != me);
        if l.whole.iter().any(|(_, k)| kind == LockKind::Exclusive || *k == LockKind::Exclusive) {
            return Ok(false);
        }
        l.whole.try_reserve(1).map_err(|_| Errno::ENOLCK)?;
        l.whole.push((me, kind));
        Ok(true)
    };
    let got = attempt()?;
    // A downgrade, or the lock given up above, may let others in.
    t.waiters.wake_all();
    if got {
        return Ok(());
    }
    if nonblock {
        return Err(Errno::EAGAIN);
    }
    t.waiters.wait_interruptible(|| match attempt() {
        Ok(true) => Some(Ok(())),
        Ok(false) => None,
        Err(e) => Some(Err(e)),
    })?
}

/// A descriptor of `file` was closed in table `id`: all of that table's record locks on the inode go (POSIX).
pub(crate) fn descriptor_closed(file: &File, id: u64) {
    if !file.inode().flags().contains(InodeFlags::HAS_LOCKS) {
        return;
    }
    let Some(t) = file.inode().existing_lock_table() else { return };
    t.locks.lock().records.retain(|r| r.owner != Owner::Posix(id));
    t.waiters.wake_all();
}

/// The file is gone: its `flock` and OFD locks go.
pub(crate) fn file_closed(file: &File) {
    let Some(t) = file.inode().existing_lock_table() else { return };
    let me = core::ptr::from_ref(file) as usize;
    {
        let mut l = t.locks.lock();
        l.records.retain(|r| r.owner != Owner::Ofd(me));
        l.whole.retain(|(f, _)| *f != me);
    }
    t.waiters.wake_all();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rec(kind: LockKind, start: u64, end: u64, owner: u64) -> Record {
        Record { kind, start, end, owner: Owner::Posix(owner), pid: 1 }
    }

    proptest! {
        /// The list against a model that keeps the kind of each byte.
        #[test]
        fn ranges_cut_and_join(ops in prop::collection::vec((0u64..40, 0u64..12, 0u8..3), 1..60)) {
            let mut l = Locks::default();
            let mut model = [None; 64];
            for (start, len, what) in ops {
                let end = start + len;
                let kind = match what { 0 => None, 1 => Some(LockKind::Shared), _ => Some(LockKind::Exclusive) };
                match kind {
                    None => l.cut(Owner::Posix(1), start, end).unwrap(),
                    Some(k) => l.add(rec(k, start, end, 1)).unwrap(),
                }
                model[start as usize..=end as usize].fill(kind);
                let mut seen = [None; 64];
                for r in &l.records {
                    for b in r.start..=r.end {
                        prop_assert!(seen[b as usize].is_none());
                        seen[b as usize] = Some(r.kind);
                    }
                }
                prop_assert_eq!(seen, model);
                // Neighbours of one kind are one lock.
                for a in &l.records {
                    prop_assert!(!l.records.iter().any(|b| a.end + 1 == b.start && a.kind == b.kind));
                }
            }
        }
    }

    #[test]
    fn only_exclusive_or_mixed_owners_conflict() {
        let a = rec(LockKind::Shared, 0, 9, 1);
        assert!(!a.conflicts(&rec(LockKind::Shared, 5, 6, 2)));
        assert!(a.conflicts(&rec(LockKind::Exclusive, 9, 20, 2)));
        assert!(!a.conflicts(&rec(LockKind::Exclusive, 10, 20, 2)));
        assert!(!a.conflicts(&rec(LockKind::Exclusive, 0, 9, 1)));
    }
}
