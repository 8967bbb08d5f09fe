//! Reading and writing what is in a page, by copy.

use super::{PAGE_SIZE, PageRef, copy, frame_ptr};

impl PageRef {
    /// Where `len` bytes at `off` are.
    ///
    /// # Panics
    /// If they are not all inside the page.
    #[inline]
    pub(crate) fn ptr_at(&self, off: usize, len: usize) -> *mut u8 {
        let size = self.size();
        assert!(off <= size && len <= size - off, "{len} bytes at {off} of a page of {size}");
        // SAFETY: the page's frames are contiguous in the direct map, and `off` is inside.
        unsafe { frame_ptr(self.pfn()).add(off) }
    }

    /// Copies bytes out. All functions here panic if the range is not inside the page.
    #[inline]
    pub fn read(&self, off: usize, out: &mut [u8]) {
        // SAFETY: the range is checked and this reference keeps the page; `out` is ours.
        unsafe { copy::copy(out.as_mut_ptr(), self.ptr_at(off, out.len()), out.len()) }
    }
    /// Copies bytes in.
    #[inline]
    pub fn write(&self, off: usize, data: &[u8]) {
        // SAFETY: as above.
        unsafe { copy::copy(self.ptr_at(off, data.len()), data.as_ptr(), data.len()) }
    }
    /// Fills part of it.
    #[inline]
    pub fn fill(&self, off: usize, len: usize, byte: u8) {
        // SAFETY: as above.
        unsafe { copy::fill(self.ptr_at(off, len), byte, len) }
    }
    /// Zeroes all of it.
    #[inline]
    pub fn zero(&self) {
        self.fill(0, self.size(), 0);
    }
    /// Zeroes part of it.
    pub fn zero_range(&self, off: usize, len: usize) {
        self.fill(off, len, 0);
    }
    /// Copies another page of the same size.
    ///
    /// # Panics
    /// If the sizes differ.
    #[inline]
    pub fn copy_from(&self, src: &PageRef) {
        let size = self.size();
        assert_eq!(size, src.size(), "copy between pages of different sizes");
        if self != src {
            // SAFETY: both ranges are whole pages that the references keep, and different ones.
            unsafe { copy::copy(self.ptr_at(0, size), src.ptr_at(0, size), size) }
        }
    }
    /// Copies one 4 KiB frame of `src` (number `from`) to frame `to` of this page: parts of large pages.
    pub fn copy_frame_from(&self, to: usize, src: &PageRef, from: usize) {
        let (d, s) = (self.ptr_at(to * PAGE_SIZE, PAGE_SIZE), src.ptr_at(from * PAGE_SIZE, PAGE_SIZE));
        if d != s {
            // SAFETY: as above; frames are equal or disjoint.
            unsafe { copy::copy(d, s, PAGE_SIZE) }
        }
    }

    /// Reads the little-endian word at an aligned offset, untorn.
    #[inline]
    pub fn read_u64(&self, off: usize) -> u64 {
        assert!(off.is_multiple_of(8), "offset {off} of a word");
        // SAFETY: aligned and inside; volatile, since others may write.
        unsafe { self.ptr_at(off, 8).cast::<u64>().read_volatile() }
    }
    /// Writes a word at an aligned offset, untorn.
    #[inline]
    pub fn write_u64(&self, off: usize, v: u64) {
        assert!(off.is_multiple_of(8), "offset {off} of a word");
        // SAFETY: as above.
        unsafe { self.ptr_at(off, 8).cast::<u64>().write_volatile(v) }
    }

    fn words(&self) -> impl Iterator<Item = u64> {
        let (base, n) = (self.ptr_at(0, 0).cast::<u64>(), self.size() / 8);
        // SAFETY: every index is inside the page, which `self` (borrowed by the iterator's user) keeps.
        (0..n).map(move |i| unsafe { base.add(i).read_volatile() })
    }
    /// True if every byte is zero (at this moment).
    pub fn is_all_zero(&self) -> bool {
        self.words().all(|w| w == 0)
    }
    /// A fast hash of the contents, not for hostile input: two pages that differ may agree. For KSM's change detection.
    pub fn checksum(&self) -> u64 {
        // FNV-1a's constants, by words; the rotation carries high bits down.
        self.words().fold(0xcbf2_9ce4_8422_2325, |h, w| (h ^ w).wrapping_mul(0x100_0000_01b3).rotate_left(23))
    }
    /// Orders pages by contents (as little-endian words), for KSM's trees. A page that is being written gives some order.
    pub fn compare(&self, o: &PageRef) -> core::cmp::Ordering {
        self.words().cmp(o.words())
    }
    /// True if the contents are the same.
    pub fn same_contents(&self, o: &PageRef) -> bool {
        self.size() == o.size() && self.words().eq(o.words())
    }
}
