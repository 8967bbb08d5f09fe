//! [`PageRef`]: a counted reference to an allocated page.

use super::{Kind, PAGE_SIZE, Page, Pfn, alloc, page, word};
use crate::atomic::{Ordering, fence};

/// A counted reference. The page goes back to the allocator with the last one.
pub struct PageRef {
    head: &'static Page,
}

/// A count from which on something must be wrong. Far enough below the top that no number of processors gets past it between
/// the addition and the check.
const TOO_MANY: u32 = i32::MAX as u32;

impl PageRef {
    /// For a page whose count includes this reference.
    #[inline]
    pub(super) fn from_head(head: &'static Page) -> PageRef {
        PageRef { head }
    }

    /// Frame number of the first frame.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        self.head.pfn()
    }
    #[inline]
    pub fn page(&self) -> &'static Page {
        self.head
    }
    #[inline]
    pub fn order(&self) -> u32 {
        self.head.order()
    }
    /// Bytes of the page: [`PAGE_SIZE`] times `2^order`.
    #[inline]
    pub fn size(&self) -> usize {
        PAGE_SIZE << self.order()
    }
    /// How many references there are; a snapshot.
    #[inline]
    pub fn refs(&self) -> u32 {
        self.head.refs()
    }

    /// A reference to the page that `pfn` is part of, if there is an allocated one: Linux's `get_page_unless_zero`. What the
    /// number belonged to before may be gone and something else be there; look at the page again.
    pub fn try_from_pfn(pfn: Pfn) -> Option<PageRef> {
        let w = page(pfn)?.kind.load(Ordering::Acquire);
        let head_pfn =
            if w & 0xff == Kind::Tail as u32 { pfn & !((1u64 << (w >> 8 & 0xff)) - 1) } else { pfn };
        let head = page(head_pfn)?;
        let mut n = head.refs.load(Ordering::Relaxed);
        loop {
            if n == 0 || n >= TOO_MANY {
                return None;
            }
            match head.refs.compare_exchange_weak(n, n + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => n = now,
            }
        }
        let r = PageRef { head };
        // The order was that of an earlier page, perhaps: only now can it not change any more.
        (pfn - head_pfn < 1 << head.order()).then_some(r)
    }

    /// Frees the page's references into a [`super::FreeRun`], if this is the only one.
    pub fn try_unwrap(self) -> Result<super::FreeRun, PageRef> {
        match self.head.refs.compare_exchange(1, 0, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => {
                let head = self.head;
                core::mem::forget(self);
                // SAFETY: the count went from 1 to 0 here.
                Ok(unsafe { super::FreeRun::from_last_ref(head) })
            }
            Err(_) => Err(self),
        }
    }

    /// Splits a large page into its frames, each a page of its own with one reference, if this is the only reference.
    pub fn split(self) -> Result<impl Iterator<Item = PageRef>, PageRef> {
        let run = self.try_unwrap()?;
        let (pfn, order) = run.into_raw();
        Ok((pfn..pfn + (1 << order)).map(|p| {
            // SAFETY: the run owned the frames, and each is taken out of it once.
            unsafe { super::FreeRun::new(p, 0) }.into_page()
        }))
    }

    /// Turns the reference into a number; [`PageRef::from_raw`] brings it back.
    #[inline]
    pub(crate) fn into_raw(self) -> Pfn {
        let pfn = self.pfn();
        core::mem::forget(self);
        pfn
    }

    /// The head of the page that a mapped frame is part of.
    #[inline]
    fn head_of(pfn: Pfn) -> &'static Page {
        let p = super::page_at(pfn);
        let w = p.kind.load(Ordering::Relaxed);
        if w & 0xff == Kind::Page as u32 {
            return p;
        }
        debug_assert_eq!(w & 0xff, Kind::Tail as u32, "a mapped frame is not part of a page");
        super::page_at(pfn & !((1u64 << (w >> 8 & 0xff)) - 1))
    }

    /// The reference that a page-table entry with this frame number holds.
    ///
    /// # Safety
    /// One reference was turned into a number for this frame (or for the head of its page), and is used up by this.
    #[inline]
    pub(crate) unsafe fn from_raw(pfn: Pfn) -> PageRef {
        PageRef { head: Self::head_of(pfn) }
    }

    /// A further reference beside the one that a page-table entry holds.
    ///
    /// # Safety
    /// Such an entry exists and cannot go away meanwhile.
    #[inline]
    pub(crate) unsafe fn clone_raw(pfn: Pfn) -> PageRef {
        let head = Self::head_of(pfn);
        add_ref(head);
        PageRef { head }
    }

    /// Counts a further reference for an entry that is being copied, in one atomic step.
    ///
    /// # Safety
    /// As for [`PageRef::clone_raw`]; the caller stores the entry that holds the new reference.
    #[inline]
    pub(crate) unsafe fn dup_raw(pfn: Pfn) -> &'static Page {
        let head = Self::head_of(pfn);
        add_ref(head);
        head
    }
}

/// A page that is never freed: one reference to it is given up for good.
#[derive(Clone, Copy)]
pub struct Immortal {
    head: &'static Page,
}

impl PageRef {
    /// Keeps the page for ever.
    pub fn leak(self) -> Immortal {
        let head = self.head;
        core::mem::forget(self);
        Immortal { head }
    }
}

impl Immortal {
    #[inline]
    pub fn pfn(&self) -> Pfn {
        self.head.pfn()
    }
    pub fn page(&self) -> &'static Page {
        self.head
    }
    /// A counted reference.
    pub fn get(&self) -> PageRef {
        add_ref(self.head);
        PageRef { head: self.head }
    }
}

#[inline]
fn add_ref(head: &Page) {
    let n = head.refs.fetch_add(1, Ordering::Relaxed);
    if n.wrapping_sub(1) >= TOO_MANY - 1 {
        bad_count(head, n);
    }
}

#[cold]
fn bad_count(head: &Page, n: u32) -> ! {
    panic!("BUG: reference count of frame {:#x} is {n:#x}", head.pfn());
}

impl Clone for PageRef {
    #[inline]
    fn clone(&self) -> PageRef {
        add_ref(self.head);
        PageRef { head: self.head }
    }
}

impl Drop for PageRef {
    #[inline]
    fn drop(&mut self) {
        if self.head.refs.fetch_sub(1, Ordering::Release) == 1 {
            last(self.head);
        }
    }
}

#[cold]
#[inline(never)]
fn last(head: &'static Page) {
    fence(Ordering::Acquire);
    debug_assert_eq!(head.kind.load(Ordering::Relaxed), word(Kind::Page, head.order()));
    // SAFETY: the count went from 1 to 0 in the caller.
    alloc::free(unsafe { super::FreeRun::from_last_ref(head) });
}

impl PartialEq for PageRef {
    /// The same page, not the same contents.
    fn eq(&self, o: &PageRef) -> bool {
        core::ptr::eq(self.head, o.head)
    }
}
impl Eq for PageRef {}

impl core::fmt::Debug for PageRef {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PageRef({:#x}, order {}, {} refs)", self.pfn(), self.order(), self.refs())
    }
}
