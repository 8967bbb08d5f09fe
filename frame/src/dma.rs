//! Memory that a device reads and writes by itself.
//!
//! A device may change such memory at any time, so it is never seen through a reference: all access is by copy, word by word
//! where the word must not tear. On x86 devices see what processors write and the other way round without flushing caches;
//! what is left is order, and the barriers here give that.
//!
//! Nothing here holds a device to its buffers: there is no IOMMU, and a device that is told a wrong address, or was not stopped
//! before its buffer was let go, writes where it should not. A driver stops its device first.

use crate::{
    arch,
    atomic::{Ordering, fence},
    page::{AllocFlags, MAX_ORDER, PAGE_SHIFT, PAGE_SIZE, PageRef, alloc_pages},
};

/// Physically contiguous memory, zeroed, that processor and device see alike.
#[derive(Debug)]
pub struct DmaBuffer {
    pages: PageRef,
    len: usize,
}

impl DmaBuffer {
    /// At least `len` bytes at a page boundary. `None` without memory, for 0, or for more than [`MAX_BYTES`].
    pub fn new(len: usize) -> Option<DmaBuffer> {
        Self::with_flags(len, AllocFlags::ZERO)
    }
    /// The same below 4 GiB, for devices with 32-bit addresses.
    pub fn new_low(len: usize) -> Option<DmaBuffer> {
        let b = Self::with_flags(len, AllocFlags::ZERO | AllocFlags::DMA32)?;
        (b.address() + b.len() as u64 <= 1 << 32).then_some(b)
    }
    fn with_flags(len: usize, flags: AllocFlags) -> Option<DmaBuffer> {
        if len == 0 || len > MAX_BYTES {
            return None;
        }
        let order = len.div_ceil(PAGE_SIZE).next_power_of_two().trailing_zeros();
        Some(DmaBuffer { pages: alloc_pages(order, flags)?, len })
    }
    /// Where the device finds it.
    pub fn address(&self) -> u64 {
        address(&self.pages)
    }
    #[expect(clippy::len_without_is_empty, reason = "a buffer is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }
    /// Copies bytes out. All accesses panic outside of the buffer.
    pub fn read(&self, off: usize, out: &mut [u8]) {
        self.check(off, out.len());
        self.pages.read(off, out);
    }
    /// Copies bytes in.
    pub fn write(&self, off: usize, bytes: &[u8]) {
        self.check(off, bytes.len());
        self.pages.write(off, bytes);
    }
    /// Zeroes part of it.
    pub fn zero(&self, off: usize, len: usize) {
        self.check(off, len);
        self.pages.zero_range(off, len);
    }
    fn check(&self, off: usize, len: usize) {
        assert!(off <= self.len && len <= self.len - off, "{len} bytes at {off} of a buffer of {}", self.len);
    }
    fn word<T>(&self, off: usize) -> *mut T {
        self.check(off, size_of::<T>());
        assert!(off.is_multiple_of(size_of::<T>()), "offset {off} of a word");
        arch::preempt_point();
        self.pages.ptr_at(off, size_of::<T>()).cast()
    }
}

/// The largest buffer: the largest contiguous run of frames.
pub const MAX_BYTES: usize = PAGE_SIZE << MAX_ORDER;

macro_rules! words {
    ($($read:ident $write:ident $t:ty),*) => { impl DmaBuffer { $(
        /// Reads a little-endian word at an aligned offset, untorn.
        #[inline]
        pub fn $read(&self, off: usize) -> $t {
            // SAFETY: aligned and inside, and the pages live as long as `self`; volatile, since a device may write.
            unsafe { self.word::<$t>(off).read_volatile() }
        }
        /// Writes a little-endian word at an aligned offset, untorn.
        #[inline]
        pub fn $write(&self, off: usize, v: $t) {
            // SAFETY: as above.
            unsafe { self.word::<$t>(off).write_volatile(v) }
        }
    )* } };
}
words!(read_u8 write_u8 u8, read_u16 write_u16 u16, read_u32 write_u32 u32, read_u64 write_u64 u64);

/// Where a device finds a page.
pub fn address(p: &PageRef) -> u64 {
    p.pfn() << PAGE_SHIFT
}

/// What was written before is seen by devices before what is written after.
#[inline]
pub fn write_barrier() {
    fence(Ordering::Release);
}
/// What is read after is read after what was read before.
#[inline]
pub fn read_barrier() {
    fence(Ordering::Acquire);
}
/// Both, and what is read after is read when what was written before is seen.
#[inline]
pub fn full_barrier() {
    fence(Ordering::SeqCst);
}
