//! Moving bytes in and out of memory that others may write at the same time.
//!
//! The string instructions are outside of the language's memory model, so a user program that writes under our hands makes the
//! copy's content arbitrary and nothing else. Words first: one step moves eight bytes, and a page is 512 steps.

use core::arch::asm;

/// Copies `len` bytes; the ranges do not overlap.
///
/// # Safety
/// `src` is readable and `dst` writable for `len` bytes, and whatever Rust thinks lives at `dst` may hold any bytes.
#[inline]
pub(crate) unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep movsq", "mov ecx, {rest:e}", "rep movsb",
            rest = in(reg) len & 7,
            inout("rcx") len >> 3 => _, inout("rdi") dst => _, inout("rsi") src => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Fills `len` bytes.
///
/// # Safety
/// `dst` is writable for `len` bytes, and whatever lives there may hold any bytes.
#[inline]
pub(crate) unsafe fn fill(dst: *mut u8, byte: u8, len: usize) {
    // SAFETY: as above.
    unsafe {
        asm!(
            "rep stosq", "mov ecx, {rest:e}", "rep stosb",
            rest = in(reg) len & 7,
            in("rax") u64::from(byte) * 0x0101_0101_0101_0101,
            inout("rcx") len >> 3 => _, inout("rdi") dst => _,
            options(nostack, preserves_flags)
        );
    }
}
