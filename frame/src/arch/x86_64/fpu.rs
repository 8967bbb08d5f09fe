//! FPU, SSE and AVX state of user tasks. The kernel is compiled without floating point, so a task's state stays in the
//! registers through system calls and interrupts; it moves only when the processor changes tasks.
//!
//! With XSAVE the image has the standard (not compacted) layout, which is also what Linux puts into signal frames; without
//! it, the 512 bytes of FXSAVE.

use alloc::{
    alloc::{Layout, alloc_zeroed, dealloc},
    vec::Vec,
};
use core::{arch::asm, mem::MaybeUninit, ptr::NonNull};

use super::{
    cpu::{cpuid, features},
    insn::without_interrupts,
};
use crate::{sync::once::Once, user};

/// x87 and SSE.
const LEGACY: u64 = 3;
const AVX: u64 = 4;
const FXSAVE_SIZE: usize = 512;
/// Offset of the XSAVE header: XSTATE_BV, XCOMP_BV, reserved.
const HEADER: usize = 512;
const HEADER_SIZE: usize = 64;
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
const MXCSR_INIT: u32 = 0x1f80;
const FCW_INIT: u16 = 0x37f;
/// Bytes of the FXSAVE area that are software's (`struct _fpx_sw_bytes`).
const SW_BYTES: usize = 464;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;

#[derive(Clone, Copy)]
struct Shape {
    /// XCR0; 0 without XSAVE.
    mask: u64,
    size: usize,
    mxcsr_mask: u32,
    xsaveopt: bool,
}
static SHAPE: Once<Shape> = Once::new();

/// Sets XCR0 on this processor.
///
/// # Safety
/// CR4.OSXSAVE is set, and `avx` is what CPUID says.
pub(super) unsafe fn enable_xsave(avx: bool) {
    let mask = LEGACY | if avx { AVX } else { 0 };
    // SAFETY: the caller's promise; these components exist.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") mask as u32, in("edx") 0, options(nostack, preserves_flags))
    };
}

#[repr(C, align(64))]
struct Legacy([u8; FXSAVE_SIZE]);

fn shape() -> &'static Shape {
    SHAPE.call_once(|| {
        let f = features();
        let mut l = Legacy([0; FXSAVE_SIZE]);
        // SAFETY: 512 bytes, aligned.
        unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut l, options(nostack, preserves_flags)) };
        let m = u32::from_le_bytes([
            l.0[MXCSR_MASK],
            l.0[MXCSR_MASK + 1],
            l.0[MXCSR_MASK + 2],
            l.0[MXCSR_MASK + 3],
        ]);
        Shape {
            mask: if !f.xsave { 0 } else { LEGACY | if f.avx { AVX } else { 0 } },
            // EBX of leaf 0xD: bytes for what XCR0 enables now.
            size: if f.xsave { cpuid(0xd, 0)[1] as usize } else { FXSAVE_SIZE },
            // 0 means the architectural default (Intel SDM volume 1, 11.6.6).
            mxcsr_mask: if m == 0 { 0xffbf } else { m },
            xsaveopt: f.xsaveopt,
        }
    })
}

/// An image in memory that refused to be a state. `EFAULT` or `EINVAL` to the program, as the caller sees fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadImage;

/// The saved state of one task.
pub struct Fpu {
    area: NonNull<u8>,
}
// SAFETY: a plain buffer, used by whoever owns the value.
unsafe impl Send for Fpu {}
// SAFETY: `save` and `restore` are unsafe and ask for exclusive use; the rest reads.
unsafe impl Sync for Fpu {}

fn layout() -> Layout {
    Layout::from_size_align(shape().size, 64).expect("a few KiB")
}

impl Fpu {
    /// The state of a fresh program. `None` without memory.
    pub fn new() -> Option<Fpu> {
        // SAFETY: the size is not zero.
        let area = NonNull::new(unsafe { alloc_zeroed(layout()) })?;
        let mut f = Fpu { area };
        let b = f.bytes_mut();
        b[..2].copy_from_slice(&FCW_INIT.to_le_bytes());
        b[MXCSR..MXCSR + 4].copy_from_slice(&MXCSR_INIT.to_le_bytes());
        Some(f)
    }
    /// A copy of what this processor's registers hold. `None` without memory.
    pub fn clone_from_live() -> Option<Fpu> {
        let f = Fpu::new()?;
        // SAFETY: a fresh buffer of our own.
        unsafe { f.save() };
        Some(f)
    }
    /// A copy of the saved state. `None` without memory.
    pub fn try_clone(&self) -> Option<Fpu> {
        let mut f = Fpu::new()?;
        f.bytes_mut().copy_from_slice(self.bytes());
        Some(f)
    }
    fn bytes(&self) -> &[u8] {
        // SAFETY: our own buffer of that size.
        unsafe { core::slice::from_raw_parts(self.area.as_ptr(), shape().size) }
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, exclusively borrowed.
        unsafe { core::slice::from_raw_parts_mut(self.area.as_ptr(), shape().size) }
    }

    /// Saves this processor's registers here.
    ///
    /// # Safety
    /// Nothing else uses this value meanwhile, and the registers are this task's.
    pub unsafe fn save(&self) {
        let s = shape();
        let (p, lo) = (self.area.as_ptr(), s.mask as u32);
        // SAFETY: the buffer is aligned and large enough for what the mask names.
        unsafe {
            if s.xsaveopt {
                asm!("xsaveopt64 [{}]", in(reg) p, in("eax") lo, in("edx") 0, options(nostack, preserves_flags));
            } else if s.mask != 0 {
                asm!("xsave64 [{}]", in(reg) p, in("eax") lo, in("edx") 0, options(nostack, preserves_flags));
            } else {
                asm!("fxsave64 [{}]", in(reg) p, options(nostack, preserves_flags));
            }
        }
    }
    /// Loads this processor's registers from here.
    ///
    /// # Safety
    /// The registers hold nothing that is still needed, and nothing else uses this value meanwhile.
    pub unsafe fn restore(&self) {
        // SAFETY: the image came from `save`, `new` or a copy of one, so the instruction does not fault.
        unsafe { load(self.area.as_ptr(), shape()) }
    }

    /// The saved state as it stands in a Linux signal frame: with XSAVE, the software-reserved bytes name the size and the
    /// components, and a second magic number follows. `None` without memory.
    pub fn image(&self) -> Option<Vec<u8>> {
        let s = shape();
        let total = if s.mask == 0 { FXSAVE_SIZE } else { s.size + 4 };
        let mut v = Vec::new();
        v.try_reserve_exact(total).ok()?;
        v.extend_from_slice(self.bytes());
        if s.mask == 0 {
            return Some(v);
        }
        // Components in their initial state are not written by the save: write out what they stand for.
        let bv = u64_at(&v, HEADER);
        if bv & 1 == 0 {
            let mxcsr: [u8; 8] = v[MXCSR..MXCSR + 8].try_into().expect("eight bytes");
            v[..160].fill(0);
            v[..2].copy_from_slice(&FCW_INIT.to_le_bytes());
            v[MXCSR..MXCSR + 8].copy_from_slice(&mxcsr);
        }
        if bv & 2 == 0 {
            v[160..416].fill(0);
        }
        if bv & AVX == 0 && s.mask & AVX != 0 {
            v[HEADER + HEADER_SIZE..s.size].fill(0);
        }
        v[HEADER..HEADER + 8].copy_from_slice(&(bv | LEGACY).to_le_bytes());
        v[SW_BYTES..FXSAVE_SIZE].fill(0);
        v[SW_BYTES..SW_BYTES + 4].copy_from_slice(&MAGIC1.to_le_bytes());
        v[SW_BYTES + 4..SW_BYTES + 8].copy_from_slice(&(total as u32).to_le_bytes());
        v[SW_BYTES + 8..SW_BYTES + 16].copy_from_slice(&s.mask.to_le_bytes());
        v[SW_BYTES + 16..SW_BYTES + 20].copy_from_slice(&(s.size as u32).to_le_bytes());
        v.extend_from_slice(&MAGIC2.to_le_bytes());
        Some(v)
    }

    /// Bytes of a signal frame's FPU part.
    #[inline]
    pub fn frame_len() -> usize {
        let s = shape();
        if s.mask == 0 { FXSAVE_SIZE } else { s.size + 4 }
    }

    /// Writes what this processor's registers hold to a signal frame at `uva`, without a copy in between. False on a fault.
    ///
    /// # Safety
    /// This is the running task's own state. The user range lies below `user::END`.
    pub unsafe fn to_user(&self, uva: usize) -> bool {
        let s = shape();
        let p = self.area.as_ptr();
        without_interrupts(|| {
            // SAFETY: own state and registers; the accesses lie inside the buffer, to which no reference exists.
            unsafe {
                self.save();
                if s.mask != 0 {
                    self.write_out_initial(s);
                }
            }
        });
        // The copy may sleep. Should the task be switched meanwhile, the same registers are saved here once more: the kernel
        // does not use them, and what was written out above stays.
        // SAFETY: the buffer has that size; the user range is the caller's promise.
        unsafe {
            super::user_write(uva, p, s.size) == 0
                && (s.mask == 0 || super::user_write(uva + s.size, MAGIC2.to_le_bytes().as_ptr(), 4) == 0)
        }
    }

    /// Components in their initial state are not written by a save: writes out what they stand for, and Linux's marks.
    ///
    /// # Safety
    /// Interrupts are off, the state is the running task's and has just been saved.
    unsafe fn write_out_initial(&self, s: &Shape) {
        let p = self.area.as_ptr();
        // SAFETY: all inside the buffer of `s.size` bytes, aligned to 64; no reference to it exists.
        unsafe {
            let bv = p.add(HEADER).cast::<u64>().read();
            if bv & 1 == 0 {
                let mxcsr = p.add(MXCSR).cast::<u64>().read();
                p.write_bytes(0, 160);
                p.cast::<u16>().write(FCW_INIT);
                p.add(MXCSR).cast::<u64>().write(mxcsr);
            }
            if bv & 2 == 0 {
                p.add(160).write_bytes(0, 256);
            }
            if bv & AVX == 0 && s.mask & AVX != 0 {
                p.add(HEADER + HEADER_SIZE).write_bytes(0, s.size - HEADER - HEADER_SIZE);
            }
            p.add(HEADER).cast::<u64>().write(bv | LEGACY);
            let sw = p.add(SW_BYTES);
            sw.cast::<[u32; 2]>().write([MAGIC1, s.size as u32 + 4]);
            sw.add(8).cast::<u64>().write(s.mask);
            sw.add(16).cast::<[u32; 7]>().write([s.size as u32, 0, 0, 0, 0, 0, 0]);
        }
    }

    /// Loads this processor's registers from a signal frame, as a program left it. Without valid magic numbers only the 512
    /// bytes of x87 and SSE count, as on Linux.
    pub fn from_user(&self, uva: usize) -> Result<(), BadImage> {
        /// Larger than any state that `enable_xsave` allows (832 bytes with AVX).
        const MOST: usize = 1024;
        #[repr(C, align(64))]
        struct Copy(MaybeUninit<[u8; MOST]>);
        let s = shape();
        assert!(s.size + 4 <= MOST);
        let mut copy = Copy(MaybeUninit::uninit());
        let p = copy.0.as_mut_ptr().cast::<u8>();
        let fetch = |from: usize, to: usize| {
            // SAFETY: inside of `copy`, as `to <= MOST`; the user range is checked.
            user::range_ok(uva, to) && unsafe { super::user_read(p.add(from), uva + from, to - from) == 0 }
        };
        if !fetch(0, FXSAVE_SIZE) {
            return Err(BadImage);
        }
        // SAFETY: aligned words inside of what was just fetched, or is fetched before the word is asked for.
        let word = |at: usize| unsafe { p.add(at).cast::<u32>().read_unaligned() };
        if word(MXCSR) & !s.mxcsr_mask != 0 {
            return Err(BadImage);
        }
        let total = s.size + 4;
        let announced = s.mask != 0
            && word(SW_BYTES) == MAGIC1
            && word(SW_BYTES + 4) as usize >= total
            && word(SW_BYTES + 16) as usize == s.size;
        if announced && !fetch(FXSAVE_SIZE, total) {
            return Err(BadImage);
        }
        if announced && word(s.size) == MAGIC2 {
            // SAFETY: fetched.
            let header: [u64; HEADER_SIZE / 8] = unsafe { p.add(HEADER).cast::<[u64; 8]>().read() };
            if header[0] & !s.mask != 0 || header[1..].iter().any(|&w| w != 0) {
                return Err(BadImage);
            }
        } else if s.mask != 0 {
            // SAFETY: inside of `copy`, aligned.
            unsafe { p.add(HEADER).cast::<[u64; 8]>().write([LEGACY, 0, 0, 0, 0, 0, 0, 0]) };
        }
        // SAFETY: checked above: no reserved bit of MXCSR or of the header is set, so the instruction does not fault. The old
        // contents are given up, and the next switch saves the new ones into the task's own area.
        without_interrupts(|| unsafe { load(p, s) });
        Ok(())
    }
}

/// Loads this processor's registers.
///
/// # Safety
/// `p` is a good image of shape `s`, aligned to 64, and the registers hold nothing that is still needed.
#[inline]
unsafe fn load(p: *const u8, s: &Shape) {
    let lo = s.mask as u32;
    // SAFETY: the caller's promise.
    unsafe {
        if s.mask != 0 {
            asm!("xrstor64 [{}]", in(reg) p, in("eax") lo, in("edx") 0, options(nostack, preserves_flags));
        } else {
            asm!("fxrstor64 [{}]", in(reg) p, options(nostack, preserves_flags));
        }
    }
}

impl Drop for Fpu {
    fn drop(&mut self) {
        // SAFETY: made with the same layout.
        unsafe { dealloc(self.area.as_ptr(), layout()) };
    }
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}
fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}
