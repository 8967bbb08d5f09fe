//! Page faults: making a page appear at the moment it is touched.
//!
//! | region | touched | what happens |
//! |---|---|---|
//! | private anonymous | read | the shared zero page, read-only |
//! | private anonymous | write | a fresh zeroed page |
//! | private | write to a read-only page | the page itself if nobody else has it, else a copy |
//! | private file | write | a copy of the file's page |
//! | file | read | the file's page, and those around it that are in memory |
//! | shared file | write | the file's page, after [`MapObject::mkwrite`] |
//! | below a stack | any | the stack grows, if limit and guard gap allow |
//!
//! # Shape
//! [`Mm::handle_fault`] is a loop around `attempt`, which holds the region lock for reading. The page is found or made without
//! the table lock, then entered under it if the entry is still as it was; if not, another thread was faster and the program's
//! next try decides. Nothing that may sleep long happens under either lock except the object's own I/O. Without memory, all locks are dropped before
//! the OOM killer is asked.

pub use frame::paging::{Access, Fault};
use frame::{
    atomic::Ordering,
    page::{self, AllocFlags, Immortal, PageRef},
    paging::{Entry, Flags, MapError, Mapping, PageTable, TlbBatch},
    sync::once::Once,
};

use base::Errno;

use crate::{
    MapObject, Mm, PAGE_SHIFT, PAGE_SIZE, VmFlags, Vma,
    layout::STACK_GUARD_GAP,
    mm::{OOM_UNSTABLE, RssKind, Space},
    oom, overcommit, page_floor, stat,
    teardown::{counted, kind_of, mapped, page_flags, unmapped},
    vma::same_object,
};

/// Pages mapped around a read fault on a file, aligned: Linux's `fault_around_bytes`, 64 KiB.
const AROUND: usize = 16;

static ZERO_PAGE: Once<Immortal> = Once::new();

/// Makes the page that all untouched anonymous memory reads from. False without memory.
pub(crate) fn init() -> bool {
    match page::alloc_page(AllocFlags::ZERO) {
        Some(p) => {
            ZERO_PAGE.call_once(|| p.leak());
            true
        }
        None => false,
    }
}

/// How pages of a region with these flags are mapped when nothing holds back.
#[inline]
pub(crate) fn leaf_flags(vm: VmFlags) -> Flags {
    let mut f = Flags::USER;
    if vm.intersects(VmFlags::ACCESS) {
        f |= Flags::READ;
    }
    if vm.contains(VmFlags::WRITE) {
        f |= Flags::WRITE;
    }
    if vm.contains(VmFlags::EXEC) {
        f |= Flags::EXEC;
    }
    f
}

/// Why an attempt did not end well.
enum Stop {
    /// The program gets a signal.
    Refused(Fault),
    /// No memory for a page.
    NoMemory,
    /// No memory for page tables with spinning; with sleeping there may be.
    NoTables,
    /// Below a stack: the region must grow first.
    Grow,
}

impl From<Fault> for Stop {
    fn from(f: Fault) -> Stop {
        Stop::Refused(f)
    }
}

/// What an object's error means for the program.
fn of_object(e: Errno) -> Stop {
    if e == Errno::ENOMEM { Stop::NoMemory } else { Stop::Refused(Fault::Bus) }
}

impl Mm {
    /// Makes the access at `va` possible. Sleeps.
    ///
    /// # Errors
    /// What the program must be told.
    #[inline]
    pub fn handle_fault(&self, va: usize, access: Access) -> Result<(), Fault> {
        stat::add(stat::Item::Fault, 1);
        self.fault_in(va, access)
    }

    #[inline]
    pub(crate) fn fault_in(&self, va: usize, access: Access) -> Result<(), Fault> {
        match self.attempt(va, access) {
            Ok(()) => Ok(()),
            Err(Stop::Refused(f)) => Err(f),
            Err(other) => self.fault_slow(va, access, other),
        }
    }

    #[cold]
    fn fault_slow(&self, va: usize, access: Access, mut why: Stop) -> Result<(), Fault> {
        loop {
            match why {
                Stop::Refused(f) => return Err(f),
                Stop::Grow => self.expand_stack(va, access)?,
                Stop::NoMemory => oom::make_room(self)?,
                Stop::NoTables => match PageTable::reserve() {
                    Some(r) => {
                        let mut c = self.pt.lock();
                        c.give(r);
                        // An empty table is legal: what is mapped next uses it, and exit frees it.
                        let _ = c.prepare(va);
                    }
                    None => oom::make_room(self)?,
                },
            }
            match self.attempt(va, access) {
                Ok(()) => return Ok(()),
                Err(s) => why = s,
            }
        }
    }

    #[inline]
    fn attempt(&self, va: usize, access: Access) -> Result<(), Stop> {
        let space = self.space.read();
        let Some(vma) = space.vmas.find(va).and_then(|p| space.vmas.get(p)) else {
            return Err(Fault::SegvMaperr.into());
        };
        if va < vma.start {
            return Err(if vma.flags.contains(VmFlags::GROWSDOWN) {
                Stop::Grow
            } else {
                Fault::SegvMaperr.into()
            });
        }
        let wanted = match access {
            Access::Write => VmFlags::WRITE,
            Access::Exec => VmFlags::EXEC,
            // The processor has no memory that can be written but not read.
            Access::Read => VmFlags::ACCESS,
        };
        if !vma.flags.intersects(wanted) {
            return Err(Fault::SegvAccerr.into());
        }
        let at = page_floor(va);
        let write = access == Access::Write;
        let mut c = self.pt.lock();
        // Under the table lock: who finds nothing because the reaper took it finds the mark too.
        if self.oom.load(Ordering::Relaxed) & OOM_UNSTABLE != 0 {
            return Err(Fault::OutOfMemory.into());
        }
        match c.query(at) {
            Entry::None => {
                drop(c);
                match &vma.file {
                    None => self.fault_anonymous(&space, vma, at, write),
                    Some(o) => self.fault_object(&space, vma, &**o, at, write),
                }
            }
            Entry::Page(m) if write && !m.writable() => {
                if vma.is_private() {
                    if let Some(p) = counted(&m)
                        && kind_of(p) == RssKind::Anon
                        && p.refs() == 1
                    {
                        // Nobody else has it, and nobody can get it while the table is locked: what forked it away is gone.
                        let mut batch = TlbBatch::new(&self.pt);
                        c.protect(at, leaf_flags(vma.flags) | Flags::DIRTY | Flags::ACCESSED, &mut batch);
                        return Ok(());
                    }
                    let old = if m.flags.contains(Flags::SPECIAL) { None } else { c.page(at) };
                    drop(c);
                    self.copy_on_write(&space, vma, at, m, old)
                } else {
                    drop(c);
                    match &vma.file {
                        Some(o) => self.make_writable(vma, &**o, at, m),
                        None => Ok(()),
                    }
                }
            }
            // Another thread was faster, or a cached translation was out of date.
            Entry::Page(_) => Ok(()),
            // No swap: nothing writes such entries.
            Entry::Swap(_) => Err(Fault::Bus.into()),
        }
    }

    fn new_page(&self, flags: AllocFlags) -> Result<PageRef, Stop> {
        let reserve = if self.is_oom_victim() { AllocFlags::MEMALLOC } else { AllocFlags::empty() };
        let p =
            page::alloc_page(AllocFlags::USER | AllocFlags::MOVABLE | AllocFlags::NOWARN | reserve | flags)
                .ok_or(Stop::NoMemory)?;
        p.page().flags.store(page_flags::ANON, Ordering::Relaxed);
        Ok(p)
    }

    #[inline]
    fn fault_anonymous(&self, space: &Space, vma: &Vma, at: usize, write: bool) -> Result<(), Stop> {
        if !write && let Some(zero) = ZERO_PAGE.get() {
            return self.enter_special(at, *zero, leaf_flags(vma.flags) - Flags::WRITE);
        }
        found_family(space, vma);
        let page = self.new_page(AllocFlags::ZERO)?;
        self.enter(at, page, RssKind::Anon, leaf_flags(vma.flags) | Flags::DIRTY | Flags::ACCESSED)
    }

    /// Enters a page that does not count where nothing is.
    #[inline]
    fn enter_special(&self, at: usize, page: Immortal, flags: Flags) -> Result<(), Stop> {
        match self.pt.lock().map_special(at, page, flags) {
            Ok(()) | Err(MapError::Busy) => Ok(()),
            Err(_) => Err(Stop::NoTables),
        }
    }

    /// Enters a page where nothing is.
    #[inline]
    fn enter(&self, at: usize, page: PageRef, kind: RssKind, flags: Flags) -> Result<(), Stop> {
        let head = page.page();
        // Counted before it can be seen: whoever removes it counts down.
        let mut c = self.pt.lock();
        match c.map(at, page, flags) {
            Ok(()) => {
                mapped(head, kind);
                self.rss_add(kind, 1);
                Ok(())
            }
            Err(MapError::Busy) => Ok(()),
            Err(_) => Err(Stop::NoTables),
        }
    }

    fn fault_object(
        &self,
        space: &Space,
        vma: &Vma,
        object: &dyn MapObject,
        at: usize,
        write: bool,
    ) -> Result<(), Stop> {
        let index = vma.index_of(at);
        let shared = vma.flags.contains(VmFlags::SHARED);
        if vma.flags.contains(VmFlags::PFNMAP)
            && let Some(p) = object.special(index)
        {
            return self.enter_special(at, p, leaf_flags(vma.flags) - Flags::WRITE);
        }
        if !write && self.map_around(vma, object, at) {
            return Ok(());
        }
        let page = object.page(index, write && shared).map_err(of_object)?;
        let full = leaf_flags(vma.flags);
        if write && !shared {
            found_family(space, vma);
            let copy = self.new_page(AllocFlags::empty())?;
            copy.copy_from(&page);
            drop(page);
            return self.enter(at, copy, RssKind::Anon, full | Flags::DIRTY | Flags::ACCESSED);
        }
        let flags = if write {
            object.mkwrite(index).map_err(of_object)?;
            full | Flags::DIRTY | Flags::ACCESSED
        } else if shared && !object.tracks_dirty() {
            full
        } else {
            full - Flags::WRITE
        };
        let kind = kind_of(page.page());
        self.enter(at, page, kind, flags)
    }

    /// Maps what is in memory around a read fault: the next faults there do not happen. True if the page at `at` was among it.
    fn map_around(&self, vma: &Vma, object: &dyn MapObject, at: usize) -> bool {
        let window = at & !(AROUND * PAGE_SIZE - 1);
        let (start, end) = (window.max(vma.start), (window + AROUND * PAGE_SIZE).min(vma.end));
        if end - start <= PAGE_SIZE {
            return false;
        }
        let mut pages: [Option<(usize, PageRef)>; AROUND] = [const { None }; AROUND];
        let mut n = 0;
        let first = vma.index_of(start);
        object.map_around(first..first + ((end - start) >> PAGE_SHIFT) as u64, &mut |i, p| {
            let va = start + (((i - first) as usize) << PAGE_SHIFT);
            if n < AROUND {
                pages[n] = Some((va, p));
                n += 1;
            }
            n < AROUND
        });
        if n == 0 {
            return false;
        }
        let full = leaf_flags(vma.flags);
        let flags = if vma.flags.contains(VmFlags::SHARED) && !object.tracks_dirty() {
            full
        } else {
            full - Flags::WRITE
        };
        let mut added = [0i64; 3];
        let mut done = false;
        let mut c = self.pt.lock();
        for (va, p) in pages.into_iter().flatten() {
            let head = p.page();
            let r = c.map(va, p, flags);
            if r.is_ok() {
                let kind = kind_of(head);
                mapped(head, kind);
                added[kind as usize] += 1;
            }
            // Busy: another thread was faster.
            done |= va == at && matches!(r, Ok(()) | Err(MapError::Busy));
        }
        drop(c);
        for kind in [RssKind::File, RssKind::Shmem] {
            if added[kind as usize] != 0 {
                self.rss_add(kind, added[kind as usize]);
            }
        }
        done
    }

    /// A write to a page that others may have: `old` (`None`: the zero page), which `was` maps.
    fn copy_on_write(
        &self,
        space: &Space,
        vma: &Vma,
        at: usize,
        was: Mapping,
        old: Option<PageRef>,
    ) -> Result<(), Stop> {
        found_family(space, vma);
        let copy = match &old {
            None => self.new_page(AllocFlags::ZERO)?,
            Some(o) => {
                let copy = self.new_page(AllocFlags::empty())?;
                copy.copy_from(o);
                copy
            }
        };
        let head = copy.page();
        let mut batch = TlbBatch::new(&self.pt);
        let mut c = self.pt.lock();
        match c.query(at) {
            Entry::Page(now) if now.pfn == was.pfn && !now.writable() => {}
            _ => return Ok(()),
        }
        // Old translations go before the new one can be seen: else one processor could write the copy, and another, told of it, still
        // read the old page. Faults here wait for the table lock meanwhile.
        c.unmap(at, &mut batch);
        batch.flush();
        if c.map(at, copy, leaf_flags(vma.flags) | Flags::DIRTY | Flags::ACCESSED).is_err() {
            return Err(Stop::NoTables);
        }
        mapped(head, RssKind::Anon);
        match &old {
            None => self.rss_add(RssKind::Anon, 1),
            Some(o) => {
                let kind = kind_of(o.page());
                unmapped(o.page(), kind);
                if kind != RssKind::Anon {
                    self.rss_add(kind, -1);
                    self.rss_add(RssKind::Anon, 1);
                }
            }
        }
        Ok(())
    }

    /// The first write to a page of a shared mapping.
    fn make_writable(&self, vma: &Vma, object: &dyn MapObject, at: usize, was: Mapping) -> Result<(), Stop> {
        object.mkwrite(vma.index_of(at)).map_err(of_object)?;
        let mut batch = TlbBatch::new(&self.pt);
        let mut c = self.pt.lock();
        if let Entry::Page(now) = c.query(at)
            && now.pfn == was.pfn
        {
            c.protect(at, leaf_flags(vma.flags) | Flags::DIRTY | Flags::ACCESSED, &mut batch);
        }
        Ok(())
    }

    /// Lets the stack above `va` grow down to it.
    #[cold]
    fn expand_stack(&self, va: usize, _access: Access) -> Result<(), Fault> {
        let mut space = self.space.write();
        let at = page_floor(va);
        let Some(p) = space.vmas.find(va) else { return Err(Fault::SegvMaperr) };
        let Some(v) = space.vmas.get(p) else { return Err(Fault::SegvMaperr) };
        if v.start <= at {
            return Ok(());
        }
        let (start, end, flags) = (v.start, v.end, v.flags);
        if !flags.contains(VmFlags::GROWSDOWN) || at < crate::layout::mmap_min_addr() {
            return Err(Fault::SegvMaperr);
        }
        let limit = self.stack_limit.load(Ordering::Relaxed);
        if (end - at) as u64 > limit {
            return Err(Fault::SegvMaperr);
        }
        if let Some(below) = space.vmas.prev(Some(p)).and_then(|q| space.vmas.get(q)) {
            let accessible = below.flags.intersects(VmFlags::ACCESS);
            if below.end > at
                || !below.flags.contains(VmFlags::GROWSDOWN) && accessible && at - below.end < STACK_GUARD_GAP
            {
                return Err(Fault::SegvMaperr);
            }
        }
        let pages = (start - at) >> PAGE_SHIFT;
        if flags.contains(VmFlags::ACCOUNT) {
            overcommit::charge(pages, space.total_vm, false).map_err(|_| Fault::SegvMaperr)?;
        }
        if let Some(v) = space.vmas.get_mut(p) {
            v.pgoff = v.pgoff.wrapping_sub(pages as u64);
            v.start = at;
        }
        space.account(flags, pages);
        if flags.contains(VmFlags::LOCKED) {
            space.locked_vm += pages;
        }
        Ok(())
    }
}

/// A private region gets its family with its first page: that of a neighbour that could become one region with it, if possible.
#[inline]
fn found_family(space: &Space, vma: &Vma) {
    if vma.anon.is_none() {
        let alike = |a: &Vma, b: &Vma| {
            a.end == b.start
                && (a.flags ^ b.flags) - VmFlags::ACCESS == VmFlags::empty()
                && same_object(&a.file, &b.file)
                && a.pgoff + a.pages() as u64 == b.pgoff
        };
        let mut with = None;
        if let Some(p) = space.vmas.find(vma.start) {
            let before = space.vmas.prev(Some(p)).and_then(|q| space.vmas.get(q)).filter(|b| alike(b, vma));
            let after = space.vmas.next(p).and_then(|q| space.vmas.get(q)).filter(|a| alike(vma, a));
            with = after.and_then(|v| v.anon.shareable()).or_else(|| before.and_then(|v| v.anon.shareable()));
        }
        vma.anon.found(with);
    }
}
