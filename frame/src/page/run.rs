//! [`FreeRun`]: frames that one value owns, and nobody else.

use super::{Kind, MAX_ORDER, Page, PageRef, Pfn, page, page_at, word};
use crate::atomic::Ordering;

/// `2^order` free frames, aligned to their number. Dropping one loses the memory (safely); give it to the allocator instead.
#[must_use = "dropping a run loses its memory"]
#[derive(Debug)]
pub struct FreeRun {
    pfn: Pfn,
    order: u8,
}

impl FreeRun {
    /// Makes the value for frames that nobody has.
    ///
    /// # Safety
    /// The frames are usable RAM, and no value, table or list owns any of them.
    pub(super) unsafe fn new(pfn: Pfn, order: u32) -> FreeRun {
        debug_assert!(order <= MAX_ORDER && pfn.is_multiple_of(1 << order));
        page_at(pfn).kind.store(word(Kind::Held, order), Ordering::Relaxed);
        FreeRun { pfn, order: order as u8 }
    }

    #[inline]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }
    #[inline]
    pub fn order(&self) -> u32 {
        u32::from(self.order)
    }
    fn head(&self) -> &'static Page {
        page_at(self.pfn)
    }

    /// Two halves, the lower one first. `Err` gives back a single frame.
    pub fn split(self) -> Result<(FreeRun, FreeRun), FreeRun> {
        if self.order == 0 {
            return Err(self);
        }
        let order = self.order() - 1;
        // SAFETY: this value owned all frames; the two new ones own a half each, and this one is consumed.
        Ok(unsafe { (FreeRun::new(self.pfn, order), FreeRun::new(self.pfn + (1 << order), order)) })
    }

    /// Puts two halves (buddies, in either order) together; gives them back if they are not.
    pub fn join(a: FreeRun, b: FreeRun) -> Result<FreeRun, (FreeRun, FreeRun)> {
        if a.order != b.order || a.order() >= MAX_ORDER || a.pfn ^ b.pfn != 1 << a.order {
            return Err((a, b));
        }
        let (low, high) = if a.pfn < b.pfn { (a, b) } else { (b, a) };
        high.head().kind.store(word(Kind::Tail, 0), Ordering::Relaxed);
        // SAFETY: the two values owned all frames and are consumed.
        Ok(unsafe { FreeRun::new(low.pfn, low.order() + 1) })
    }

    /// Makes an allocated page of it, with one reference. The public words of [`Page`] keep what they held.
    #[inline]
    pub fn into_page(self) -> PageRef {
        let (head, order) = (self.head(), self.order());
        for i in 1..1u64 << order {
            page_at(self.pfn + i).kind.store(word(Kind::Tail, order), Ordering::Relaxed);
        }
        debug_assert_eq!(head.refs(), 0);
        head.kind.store(word(Kind::Page, order), Ordering::Relaxed);
        // Whoever sees the count sees the kind.
        head.refs.store(1, Ordering::Release);
        PageRef::from_head(head)
    }

    /// Puts the run away: only [`FreeRun::claim`] brings it back. Returns the frame number to note down.
    #[inline]
    pub fn into_free_entry(self) -> Pfn {
        self.head().kind.store(word(Kind::Free, self.order()), Ordering::Release);
        self.pfn
    }

    /// Takes back a run that was put away with this very order. `None` if there is none; of several callers one succeeds.
    #[inline]
    pub fn claim(pfn: Pfn, order: u32) -> Option<FreeRun> {
        if order > MAX_ORDER {
            return None;
        }
        page(pfn)?
            .kind
            .compare_exchange(
                word(Kind::Free, order),
                word(Kind::Held, order),
                Ordering::Acquire,
                Ordering::Relaxed,
            )
            .ok()?;
        Some(FreeRun { pfn, order: order as u8 })
    }

    /// Hands the frames to an owner inside `frame`. The reference count stays 0, so no [`PageRef`] can come to exist.
    pub(crate) fn into_owned(self, kind: Kind) -> Pfn {
        debug_assert!(matches!(kind, Kind::Table | Kind::Slab | Kind::Large));
        self.head().kind.store(word(kind, self.order()), Ordering::Release);
        self.pfn
    }

    /// Takes the frames back from an owner inside `frame`.
    ///
    /// # Panics
    /// If the owner is another one: a double free.
    ///
    /// # Safety
    /// The caller is that owner and gives up every pointer into the frames.
    pub(crate) unsafe fn from_owned(pfn: Pfn, kind: Kind) -> FreeRun {
        let head = page_at(pfn);
        let w = head.kind.load(Ordering::Acquire);
        assert!(w & 0xff == kind as u32, "frame {pfn:#x} freed as {kind:?}, but its kind word is {w:#x}");
        let order = w >> 8 & 0xff;
        head.kind.store(word(Kind::Held, order), Ordering::Relaxed);
        FreeRun { pfn, order: order as u8 }
    }

    /// Forgets the value; the frames are noted down elsewhere in this module.
    pub(super) fn into_raw(self) -> (Pfn, u32) {
        self.head().kind.store(word(Kind::Tail, 0), Ordering::Relaxed);
        (self.pfn, self.order())
    }

    /// For the last reference of a page.
    ///
    /// # Safety
    /// The caller brought the reference count from 1 to 0.
    pub(super) unsafe fn from_last_ref(head: &'static Page) -> FreeRun {
        let order = head.order();
        head.kind.store(word(Kind::Held, order), Ordering::Relaxed);
        FreeRun { pfn: head.pfn(), order: order as u8 }
    }
}
