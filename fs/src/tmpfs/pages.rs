//! A regular file: its pages, and reading and writing them.
//!
//! | | read | write, truncate, allocate | page fault |
//! |---|---|---|---|
//! | held outside | nothing | `io_lock` exclusive | the address space |
//! | a page is looked up | `tree` (spinning), a reference is taken | the same | the same |
//! | a page is added | never | `tree`; one added meanwhile by a fault wins | `tree`; the same |
//! | pages go | | size first, then `tree`, then the mappings | beyond the size: `ENXIO` |
//!
//! A page is filled before it is entered, so nobody sees what it held before. A fault enters its page only if, under `tree`, the
//! file still reaches there: truncation stores the size before it takes `tree`, so none stays behind beyond the end. What a
//! fault found before and maps after that goes with the mappings: it holds the address space from look-up to mapping.

use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};
use core::{fmt, ops::Range};

use base::{Errno, Result};
use frame::{
    atomic::{
        AtomicU64,
        Ordering::{Acquire, Release},
    },
    containers::XArray,
    page::{AllocFlags, PageRef, alloc_page},
    sync::{LockClass, SpinLock},
};
use linux_raw_sys::general::{FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, SEEK_DATA, SEEK_HOLE};
use mm::{MapIdent, MapObject, Mappings};
use vfs::{Dentry, File, FileOps, Inode, IoDst, IoSrc, MAX_OFFSET, Mount, PAGE_SIZE, Path, major, minor};

use super::Shared;

static TREE_CLASS: LockClass = LockClass::new("tmpfs_pages");
static PLACE_CLASS: LockClass = LockClass::new("tmpfs_place");

const PAGE: u64 = PAGE_SIZE as u64;
/// So many pages are taken out of the tree in one go, so that the lock is never held long.
const BATCH: usize = 64;

/// Who adds a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// A system call, which holds `io_lock` and may go beyond the end.
    Call,
    /// A page fault, which races with truncation.
    Fault,
}

/// The contents of a file. Mappings share it with the inode.
pub(super) struct Pages {
    shared: Arc<Shared>,
    dev: u64,
    ino: u64,
    tree: SpinLock<XArray<PageRef>>,
    /// The inode's size again, for faults.
    size: AtomicU64,
    mappings: Mappings,
    me: Weak<Pages>,
    /// Under which name it was mapped last.
    place: SpinLock<Option<(Weak<Mount>, Weak<Dentry>)>>,
}

impl Pages {
    pub(super) fn new(shared: &Arc<Shared>, dev: u64, ino: u64) -> Result<Arc<Pages>> {
        Ok(Arc::new_cyclic(|me| Pages {
            shared: shared.clone(),
            dev,
            ino,
            tree: SpinLock::new(&TREE_CLASS, XArray::new()),
            size: AtomicU64::new(0),
            mappings: Mappings::new(),
            me: me.clone(),
            place: SpinLock::new(&PLACE_CLASS, None),
        }))
    }
    #[inline]
    fn get(&self, index: u64) -> Option<PageRef> {
        self.tree.lock().get(index)
    }
    /// A page that is not in the tree, paid for.
    fn new_page(&self, flags: AllocFlags) -> Result<PageRef> {
        self.shared.pages.charge(1)?;
        alloc_page(flags | AllocFlags::USER).ok_or_else(|| {
            self.shared.pages.give_back(1);
            Errno::ENOMEM
        })
    }
    /// True if the file reaches into page `index`.
    fn reaches(&self, index: u64) -> bool {
        index < self.size.load(Acquire).div_ceil(PAGE)
    }
    /// Enters a paid-for page. If there is one already, that one is returned and the new one given up. A fault's page must lie
    /// within the file: ENXIO.
    fn enter(&self, index: u64, page: PageRef, by: By) -> Result<Option<PageRef>> {
        let mut t = self.tree.lock();
        let found = match t.get(index) {
            Some(p) => Ok(Some(p)),
            None if by == By::Fault && !self.reaches(index) => Err(Errno::ENXIO),
            None => {
                mm::enter_shmem(&page, index);
                t.insert(index, page).map(|_| None).map_err(|_| {
                    mm::leave_shmem(1);
                    Errno::ENOMEM
                })
            }
        };
        drop(t);
        if !matches!(found, Ok(None)) {
            self.shared.pages.give_back(1);
        }
        found
    }
    /// The page at `index`, made of zeros if there is none.
    fn get_or_zero(&self, index: u64, by: By) -> Result<PageRef> {
        if let Some(p) = self.get(index) {
            return Ok(p);
        }
        let fresh = self.new_page(AllocFlags::ZERO)?;
        Ok(self.enter(index, fresh.clone(), by)?.unwrap_or(fresh))
    }
    /// Removes the pages `range`.
    fn remove(&self, range: Range<u64>) {
        let mut gone: Vec<PageRef> = Vec::new();
        let mut from = range.start;
        loop {
            let mut t = self.tree.lock();
            let mut n = 0;
            while n < BATCH {
                let Some((i, _)) = t.next_ref(from) else { break };
                if i >= range.end {
                    break;
                }
                from = i + 1;
                n += 1;
                // Kept until the lock is free where there is room; freeing under it is merely slower.
                if let Some(p) = t.remove(i)
                    && gone.try_reserve(1).is_ok()
                {
                    gone.push(p);
                }
            }
            drop(t);
            self.shared.pages.give_back(n as u64);
            mm::leave_shmem(n as u64);
            gone.clear();
            if n < BATCH {
                return;
            }
        }
    }
    fn note_blocks(&self, inode: &Inode) {
        inode.set_blocks(self.tree.lock().len() as u64 * (PAGE / 512));
    }
    /// Truncates or extends. `io_lock` is held.
    pub(super) fn set_size(&self, inode: &Inode, size: u64) -> Result<()> {
        let old = inode.size();
        inode.set_size(size);
        self.size.store(size, Release);
        if size < old {
            let first = size.div_ceil(PAGE);
            self.remove(first..u64::MAX);
            self.unmap(first..u64::MAX);
            // What lies behind the end in the last page must read as zeros if the file grows again.
            if !size.is_multiple_of(PAGE)
                && let Some(p) = self.get(size / PAGE)
            {
                let off = (size % PAGE) as usize;
                p.zero_range(off, PAGE_SIZE - off);
            }
            self.note_blocks(inode);
        }
        Ok(())
    }
    fn unmap(&self, range: Range<u64>) {
        if self.mappings.is_empty() {
            return;
        }
        if let Some(me) = self.me.upgrade() {
            let object: Arc<dyn MapObject> = me;
            self.mappings.unmap(&object, range, true);
        }
    }
    fn grow(&self, inode: &Inode, to: u64) {
        if to > inode.size() {
            inode.set_size(to);
            self.size.store(to, Release);
        }
    }
    fn punch(&self, inode: Option<&Inode>, off: u64, len: u64) {
        let end = off.saturating_add(len);
        let (first, last) = (off.div_ceil(PAGE), end / PAGE);
        let zero = |index: u64, from: u64, to: u64| {
            if let Some(p) = self.get(index) {
                p.zero_range((from - index * PAGE) as usize, (to - from) as usize);
            }
        };
        if first > last {
            zero(off / PAGE, off, end);
        } else {
            if !off.is_multiple_of(PAGE) {
                zero(off / PAGE, off, first * PAGE);
            }
            if !end.is_multiple_of(PAGE) {
                zero(last, last * PAGE, end);
            }
            self.remove(first..last);
            self.unmap(first..last);
        }
        if let Some(i) = inode {
            self.note_blocks(i);
            i.touch_modified();
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let n = self.tree.get_mut().len() as u64;
        self.shared.pages.give_back(n);
        mm::leave_shmem(n);
    }
}

impl MapObject for Pages {
    fn page(&self, index: u64, _write: bool) -> Result<PageRef> {
        if !self.reaches(index) {
            return Err(Errno::ENXIO);
        }
        self.get_or_zero(index, By::Fault)
    }
    fn size(&self) -> u64 {
        self.size.load(Acquire)
    }
    fn ident(&self) -> MapIdent {
        MapIdent { dev: (major(self.dev), minor(self.dev)), ino: self.ino }
    }
    fn path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let place = self.place.lock().as_ref().map(|(m, d)| (m.upgrade(), d.upgrade()));
        let Some((Some(mount), Some(dentry))) = place else { return out.write_str("/ (deleted)") };
        let text = vfs::d_path(&Path { mount, dentry }, &vfs::mount::root()).map_err(|_| fmt::Error)?;
        for c in text.into_display().utf8_chunks() {
            out.write_str(c.valid())?;
        }
        Ok(())
    }
    fn is_shmem(&self) -> bool {
        true
    }
    fn map_around(&self, range: Range<u64>, each: &mut dyn FnMut(u64, PageRef) -> bool) {
        let end = range.end.min(self.size.load(Acquire).div_ceil(PAGE));
        for i in range.start..end {
            if let Some(p) = self.get(i)
                && !each(i, p)
            {
                return;
            }
        }
    }
    fn is_resident(&self, index: u64) -> bool {
        self.tree.lock().contains(index)
    }
    fn punch_hole(&self, range: Range<u64>) -> Result<()> {
        self.punch(None, range.start * PAGE, (range.end - range.start) * PAGE);
        Ok(())
    }
    fn mappings(&self) -> Option<&Mappings> {
        Some(&self.mappings)
    }
}

fn pages(file: &File) -> Result<&Arc<Pages>> {
    super::node(file.inode())?.pages()
}

/// The operations of an open regular file.
pub(super) struct TmpFile;

impl FileOps for TmpFile {
    fn read_at(&self, file: &File, off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        let pages = pages(file)?;
        let mut done = 0;
        while !dst.is_empty() {
            let at = off + done as u64;
            let left = file.inode().size().saturating_sub(at);
            let in_page = (at % PAGE) as usize;
            let want = (PAGE_SIZE - in_page).min(dst.len()).min(left.min(PAGE) as usize);
            if want == 0 {
                break;
            }
            let got = match pages.get(at / PAGE) {
                Some(p) => dst.put_page(&p, in_page, want),
                None => dst.put_zeros(want),
            };
            match got {
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
                Ok(n) => {
                    done += n;
                    if n < want {
                        break;
                    }
                }
            }
        }
        Ok(done)
    }
    fn write_at(&self, file: &File, off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        let (pages, inode) = (pages(file)?, file.inode());
        let mut done = 0;
        let mut added = false;
        let mut result = Ok(());
        while !src.is_empty() {
            let at = off + done as u64;
            let in_page = (at % PAGE) as usize;
            let want = (PAGE_SIZE - in_page).min(src.len());
            let got = match pages.get(at / PAGE) {
                Some(p) => src.take_page(&p, in_page, want),
                None => {
                    added = true;
                    pages.write_new(at / PAGE, in_page, want, src)
                }
            };
            match got {
                Ok(n) => {
                    done += n;
                    pages.grow(inode, at + n as u64);
                    if n < want {
                        break;
                    }
                }
                Err(e) => {
                    result = Err(e);
                    break;
                }
            }
        }
        if added {
            pages.note_blocks(inode);
        }
        if done == 0 {
            return result.map(|()| 0);
        }
        inode.touch_modified();
        Ok(done)
    }
    fn fsync(&self, _file: &File, _data_only: bool) -> Result<()> {
        Ok(())
    }
    fn map_object(&self, file: &File) -> Result<Arc<dyn MapObject>> {
        let p = pages(file)?;
        let here = (Arc::downgrade(&file.path().mount), Arc::downgrade(&file.path().dentry));
        let old = p.place.lock().replace(here);
        drop(old);
        Ok(p.clone())
    }
    fn llseek(&self, file: &File, current: u64, offset: i64, whence: u32) -> Result<u64> {
        let size = file.inode().size();
        if whence != SEEK_DATA && whence != SEEK_HOLE {
            return vfs::file_io::generic_llseek(current, size, offset, whence);
        }
        if offset < 0 || offset as u64 >= size {
            return Err(Errno::ENXIO);
        }
        let at = offset as u64;
        let t = pages(file)?.tree.lock();
        let page = if whence == SEEK_DATA {
            t.next_ref(at / PAGE).map(|(i, _)| i).filter(|i| i * PAGE < size).ok_or(Errno::ENXIO)?
        } else {
            t.first_free(at / PAGE..=MAX_OFFSET / PAGE).unwrap_or(MAX_OFFSET / PAGE)
        };
        Ok((page * PAGE).clamp(at, size))
    }
    fn fallocate(&self, file: &File, mode: u32, off: u64, len: u64) -> Result<()> {
        let (pages, inode) = (pages(file)?, file.inode());
        match mode {
            m if m == FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE => {
                pages.punch(Some(inode), off, len);
                return Ok(());
            }
            m if m & !FALLOC_FL_KEEP_SIZE == 0 => {}
            _ => return Err(Errno::EOPNOTSUPP),
        }
        let (first, last) = (off / PAGE, (off + len).div_ceil(PAGE));
        let limit = pages.shared.pages.limit();
        if limit != 0 && last - first > limit {
            return Err(Errno::ENOSPC);
        }
        let mut made: Vec<Range<u64>> = Vec::new();
        let mut result = Ok(());
        for i in first..last {
            if pages.tree.lock().contains(i) {
                continue;
            }
            result = pages.get_or_zero(i, By::Call).map(drop);
            if result.is_err() {
                break;
            }
            if let Some(r) = made.last_mut().filter(|r| r.end == i) {
                r.end = i + 1;
            } else if made.try_reserve(1).is_ok() {
                made.push(i..i + 1);
            } else {
                pages.remove(i..i + 1);
                result = Err(Errno::ENOMEM);
                break;
            }
        }
        if let Err(e) = result {
            // All or nothing.
            for r in made {
                pages.remove(r);
            }
            pages.note_blocks(inode);
            return Err(e);
        }
        if mode & FALLOC_FL_KEEP_SIZE == 0 {
            pages.grow(inode, off + len);
        }
        pages.note_blocks(inode);
        inode.touch_modified();
        Ok(())
    }
    fn lend_page(&self, file: &File, off: u64) -> Option<PageRef> {
        pages(file).ok()?.get(off / PAGE)
    }
}

impl Pages {
    /// Writes into a page that is not there yet.
    fn write_new(&self, index: u64, in_page: usize, want: usize, src: &mut IoSrc<'_>) -> Result<usize> {
        let page = self.new_page(AllocFlags::empty())?;
        let filled = src.take_page(&page, in_page, want);
        let n = match filled {
            Ok(n) if n > 0 => n,
            r => {
                self.shared.pages.give_back(1);
                return r;
            }
        };
        page.zero_range(0, in_page);
        page.zero_range(in_page + n, PAGE_SIZE - in_page - n);
        if let Some(there) = self.enter(index, page.clone(), By::Call)? {
            // A fault entered one meanwhile: the bytes go there.
            let mut buf = [0; 256];
            let mut k = 0;
            while k < n {
                let step = buf.len().min(n - k);
                page.read(in_page + k, &mut buf[..step]);
                there.write(in_page + k, &buf[..step]);
                k += step;
            }
        }
        Ok(n)
    }
}
