//! Regions that the kernel puts into every program: the vDSO and its data.
//!
//! They are mapped by `exec` and are then regions like others: a program may unmap or move them. What differs is where their pages
//! come from ([`MapObject`]), and that they are made from flags, not from what a program asked for.

use alloc::sync::Arc;

use base::{Errno, Result};

use crate::{MapFlags, MapObject, Mm, PAGE_SHIFT, PAGE_SIZE, VmFlags, Vma, page_align};

/// One region: its length in bytes, its flags and where its pages come from.
pub struct Special {
    pub len: usize,
    pub flags: VmFlags,
    pub object: Arc<dyn MapObject>,
}

impl Mm {
    /// Maps the regions side by side, in ascending order, where a program's mapping without a fixed place would go; the address of
    /// the first. `RLIMIT_AS` does not hold for them, as on Linux.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn map_specials(&self, regions: &[Special], limits: &crate::Limits) -> Result<usize> {
        let len = regions.iter().map(|r| page_align(r.len)).sum();
        let mut space = self.space.write();
        let start = space.place(0, len, MapFlags::empty(), limits)?;
        let mut at = start;
        for r in regions {
            let end = at + page_align(r.len).max(PAGE_SIZE);
            if space.is_released || !space.has_room_for_region() {
                return Err(Errno::ENOMEM);
            }
            space.vmas.reserve(at, end)?;
            let flags = r.flags | VmFlags::DONTEXPAND;
            space.vmas.insert(Vma::new(at, end, flags, 0, Some(r.object.clone())));
            space.account(flags, (end - at) >> PAGE_SHIFT);
            at = end;
        }
        Ok(start)
    }
}
