//! Registers of devices in memory: claimed once, mapped uncached, read and written by offset.
//!
//! A claim refuses what is RAM and what another driver has claimed; dropping it lets another driver have the range. The mapping
//! itself stays and is used again, so that no processor ever holds a stale translation.

use alloc::vec::Vec;

use crate::{
    arch,
    boot::RegionKind,
    sync::{LockClass, SpinLockIrq},
};

/// Physical addresses have at most 52 bits.
const PHYS_END: u64 = 1 << 52;

struct Claimed {
    start: u64,
    end: u64,
    va: usize,
    in_use: bool,
}

static CLASS: LockClass = LockClass::new("mmio_claims");
static CLAIMS: SpinLockIrq<Vec<Claimed>> = SpinLockIrq::new(&CLASS, Vec::new());

/// A claimed range of device registers.
#[derive(Debug)]
pub struct Mmio {
    pa: u64,
    va: usize,
    len: usize,
}

impl Mmio {
    /// Claims device memory. `None` if part of it is RAM, frame's own (interrupt controllers) or claimed, the range wraps or is empty, or the window for mappings or
    /// memory for tables is used up. Hosted: `None` unless a simulated device has the range.
    pub fn claim(pa: u64, len: usize) -> Option<Mmio> {
        let end = pa.checked_add(len as u64)?;
        if len == 0 || end > PHYS_END {
            return None;
        }
        let ram = |k| matches!(k, RegionKind::Usable | RegionKind::Kernel | RegionKind::Initrd);
        if arch::early_memory().iter().any(|r| ram(r.kind) && pa < r.end && r.start < end) {
            return None;
        }
        let mut claims = CLAIMS.lock();
        if claims.iter().any(|c| c.in_use && pa < c.end && c.start < end) {
            return None;
        }
        let va = match claims.iter_mut().find(|c| (c.start, c.end) == (pa, end)) {
            Some(c) => {
                c.in_use = true;
                c.va
            }
            None => {
                claims.try_reserve(1).ok()?;
                let va = arch::map_device(pa, len)?;
                claims.push(Claimed { start: pa, end, va, in_use: true });
                va
            }
        };
        Some(Mmio { pa, va, len })
    }
    /// Bytes of the range.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }
    /// The physical address of the first register.
    pub fn address(&self) -> u64 {
        self.pa
    }
    #[inline]
    fn at(&self, off: usize, size: usize) -> usize {
        let at = self.va + off;
        assert!(
            off <= self.len && size <= self.len - off && at.is_multiple_of(size),
            "register at {off:#x} of {:#x}",
            self.len
        );
        at
    }
}

macro_rules! accessors {
    ($($read:ident $write:ident $t:ty),*) => { impl Mmio { $(
        /// Reads a register.
        ///
        /// # Panics
        /// If the offset is outside of the range or not aligned.
        #[inline]
        pub fn $read(&self, off: usize) -> $t {
            // SAFETY: `at` checks that the register is inside the range, which is mapped for good and not RAM.
            unsafe { arch::mmio_read(self.at(off, size_of::<$t>()), size_of::<$t>()) as $t }
        }
        /// Writes a register. Panics like the reader.
        #[inline]
        pub fn $write(&self, off: usize, v: $t) {
            // SAFETY: as above.
            unsafe { arch::mmio_write(self.at(off, size_of::<$t>()), size_of::<$t>(), v.into()) }
        }
    )* } };
}
accessors!(read8 write8 u8, read16 write16 u16, read32 write32 u32, read64 write64 u64);

impl Drop for Mmio {
    fn drop(&mut self) {
        let end = self.pa + self.len as u64;
        if let Some(c) = CLAIMS.lock().iter_mut().find(|c| (c.start, c.end) == (self.pa, end)) {
            c.in_use = false;
        }
    }
}
