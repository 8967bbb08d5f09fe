//! A directory: slots for entries, and an index from names to slots.
//!
//! An entry keeps its slot for life, so the slot's number is a stable position for readdir: entries that stay are seen exactly once
//! whatever is made or removed meanwhile. Free slots are reused. Look-up, insertion and removal take constant time.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};
use hashbrown::HashTable;
use vfs::{DirSink, File, FileOps, Inode, Name, name::hash};

/// Linux's `BOGO_DIRENT_SIZE`: what an entry adds to the size that stat shows.
const ENTRY_BYTES: u64 = 20;

/// The size of a directory of `n` entries, `.` and `..` not counted in `n`.
pub(super) fn size_of(n: u64) -> u64 {
    (n + 2) * ENTRY_BYTES
}

pub(super) struct Entry {
    hash: u64,
    name: Name,
    pub(super) inode: Arc<Inode>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Dir {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    index: HashTable<u32>,
}

impl Dir {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
    fn slot(&self, name: &[u8]) -> Option<u32> {
        let (h, slots) = (hash(name), &self.slots);
        let is_it =
            |i: &u32| slots[*i as usize].as_ref().is_some_and(|e| e.hash == h && e.name.as_bytes() == name);
        self.index.find(h, is_it).copied()
    }
    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<Inode>> {
        self.slots[self.slot(name)? as usize].as_ref().map(|e| &e.inode)
    }
    /// Adds a name that is not there.
    pub(super) fn insert(&mut self, name: &[u8], inode: Arc<Inode>) -> Result<()> {
        let entry = Entry { hash: hash(name), name: Name::new(name)?, inode };
        let h = entry.hash;
        let slots = &self.slots;
        self.index
            .try_reserve(1, |i| slots[*i as usize].as_ref().map_or(0, |e| e.hash))
            .map_err(|_| Errno::ENOMEM)?;
        let i = match self.free.pop() {
            Some(i) => i,
            None => {
                if self.slots.len() >= u32::MAX as usize {
                    return Err(Errno::ENOSPC);
                }
                self.slots.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                // Room to note it free again: removal never fails.
                let want = self.slots.len() + 1 - self.free.len();
                self.free.try_reserve(want).map_err(|_| Errno::ENOMEM)?;
                self.slots.push(None);
                self.slots.len() as u32 - 1
            }
        };
        self.slots[i as usize] = Some(entry);
        let slots = &self.slots;
        self.index.insert_unique(h, i, |i| slots[*i as usize].as_ref().map_or(0, |e| e.hash));
        Ok(())
    }
    /// Removes a name; gives what it named.
    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Arc<Inode>> {
        let i = self.slot(name)?;
        if let Ok(e) = self.index.find_entry(hash(name), |x| *x == i) {
            e.remove();
        }
        let e = self.slots[i as usize].take()?;
        if self.index.is_empty() {
            // Nothing is left to keep a position for.
            self.slots = Vec::new();
            self.free = Vec::new();
        } else {
            self.free.push(i);
        }
        Some(e.inode)
    }
    /// Puts another inode under an existing name; gives the old one.
    pub(super) fn replace(&mut self, name: &[u8], inode: Arc<Inode>) -> Option<Arc<Inode>> {
        let i = self.slot(name)?;
        let e = self.slots[i as usize].as_mut()?;
        Some(core::mem::replace(&mut e.inode, inode))
    }
    /// The first entry at slot `from` or later: its slot, name and inode.
    fn next(&self, from: usize) -> Option<(usize, Result<Name>, Arc<Inode>)> {
        let (i, e) = self.slots.iter().enumerate().skip(from).find_map(|(i, e)| Some((i, e.as_ref()?)))?;
        Some((i, e.name.try_clone(), e.inode.clone()))
    }
    /// Empties it; gives what was there.
    pub(super) fn clear(&mut self) -> Dir {
        core::mem::take(self)
    }
    pub(super) fn into_inodes(self) -> impl Iterator<Item = Arc<Inode>> {
        self.slots.into_iter().flatten().map(|e| e.inode)
    }
}

/// The operations of an open directory.
pub(super) struct TmpDir;

/// Positions 0 and 1 are `.` and `..`; slot N is position N + 2.
const FIRST: u64 = 2;

impl FileOps for TmpDir {
    fn readdir(&self, file: &File, pos: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let node = super::node(file.inode())?;
        let mut emitted = pos;
        let mut sink = Tracking { sink, last: &mut emitted };
        if !vfs::emit_dots(file, pos, &mut sink) {
            return Ok(emitted);
        }
        let mut slot = pos.saturating_sub(FIRST) as usize;
        // The lock is let go for each entry: the sink may touch user memory.
        while let Some((i, name, inode)) = node.dir()?.lock().next(slot) {
            slot = i + 1;
            if !sink.emit(name?.as_bytes(), inode.ino, inode.kind().dtype(), slot as u64 + FIRST) {
                break;
            }
        }
        Ok(emitted)
    }
    fn fsync(&self, _file: &File, _data_only: bool) -> Result<()> {
        Ok(())
    }
    fn llseek(&self, _file: &File, current: u64, offset: i64, whence: u32) -> Result<u64> {
        // Positions are not sizes: only going to a known one makes sense.
        if whence == linux_raw_sys::general::SEEK_END {
            return Err(Errno::EINVAL);
        }
        vfs::file_io::generic_llseek(current, 0, offset, whence)
    }
}

/// Notes the position after the last entry that was taken.
struct Tracking<'a> {
    sink: &'a mut dyn DirSink,
    last: &'a mut u64,
}

impl DirSink for Tracking<'_> {
    fn emit(&mut self, name: &[u8], ino: u64, dtype: u8, next: u64) -> bool {
        let taken = self.sink.emit(name, ino, dtype, next);
        if taken {
            *self.last = next;
        }
        taken
    }
}
