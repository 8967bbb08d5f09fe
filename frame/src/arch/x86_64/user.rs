//! User memory and user mode: the Rust side of `entry.s`.

use super::{
    insn::{cr2, irq_enable},
    trap,
};
use crate::user::{RawTrap, Regs};

/// What single accesses return in rax and rdx.
#[repr(C)]
struct Word {
    value: u64,
    bad: u64,
}

// SAFETY: the declarations match the labels of the assembly that defines them.
unsafe extern "C" {
    fn user_copy(to: usize, from: usize, len: usize) -> usize;
    #[link_name = "user_clear"]
    fn user_clear_asm(to: usize, len: usize) -> usize;
    fn user_load32(at: usize) -> Word;
    fn user_load64(at: usize) -> Word;
    fn user_store32(at: usize, v: u32) -> Word;
    fn user_store64(at: usize, v: u64) -> Word;
    fn user_cmpxchg32(at: usize, old: u32, new: u32) -> Word;
}

/// What `enter_user` returns for a system call; vectors are below.
const SYSCALL: u64 = 256;
const PAGE_FAULT: u64 = 14;
const FIRST_INTERRUPT: u64 = 32;

/// Enters user mode with these registers; returns with what ended it. Interrupts are off on entry, on at return. `left` runs
/// with them still off. `rip`, `rflags` and the bases were made safe by `user::run`.
#[inline]
pub fn run_user(regs: &mut Regs, left: impl FnOnce()) -> RawTrap {
    let (vector, error): (u64, u64);
    // SAFETY: the registers are valid for writes, their values cannot fault the return to user mode, and the stack that
    // traps use is the one that this call runs on. Every register but rbx, rbp and rsp is given up.
    unsafe {
        core::arch::asm!(
            "call enter_user",
            inlateout("rdi") core::ptr::from_mut(regs) => _,
            lateout("rax") vector, lateout("rdx") error, lateout("rcx") _, lateout("rsi") _,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
        );
    }
    left();
    match vector {
        SYSCALL => {
            irq_enable();
            RawTrap::Syscall
        }
        PAGE_FAULT => {
            let va = cr2() as usize;
            irq_enable();
            RawTrap::PageFault { va, error }
        }
        v if v < FIRST_INTERRUPT => {
            irq_enable();
            RawTrap::Exception { vector: v as u8, error }
        }
        v => {
            trap::interrupt(v as u8);
            irq_enable();
            RawTrap::Interrupt
        }
    }
}

/// Copies from user memory; returns how many bytes were not copied.
///
/// # Safety
/// `dst` is writable for `len` bytes; the user range lies below `user::END`.
#[inline]
pub unsafe fn user_read(dst: *mut u8, uva: usize, len: usize) -> usize {
    // SAFETY: the caller's promise; faults on the user side end the copy.
    unsafe { user_copy(dst.expose_provenance(), uva, len) }
}
/// Copies to user memory; returns how many bytes were not copied.
///
/// # Safety
/// `src` is readable for `len` bytes; the user range lies below `user::END`.
#[inline]
pub unsafe fn user_write(uva: usize, src: *const u8, len: usize) -> usize {
    // SAFETY: as in `user_read`.
    unsafe { user_copy(uva, src.expose_provenance(), len) }
}
/// Zeroes user memory below `user::END`; returns how many bytes were not written.
#[inline]
pub fn user_clear(uva: usize, len: usize) -> usize {
    debug_assert!(crate::user::range_ok(uva, len));
    // SAFETY: only user memory is written, which is no Rust object; faults end the run.
    unsafe { user_clear_asm(uva, len) }
}

fn word(w: Word) -> Result<u64, ()> {
    if w.bad == 0 { Ok(w.value) } else { Err(()) }
}
/// One aligned load, not torn.
#[inline]
pub fn user_load_u32(uva: usize) -> Result<u32, ()> {
    // SAFETY: user memory (the caller checked the range); a fault gives an error.
    word(unsafe { user_load32(uva) }).map(|v| v as u32)
}
/// One aligned load, not torn.
#[inline]
pub fn user_load_u64(uva: usize) -> Result<u64, ()> {
    // SAFETY: as above.
    word(unsafe { user_load64(uva) })
}
/// One aligned store, not torn.
#[inline]
pub fn user_store_u32(uva: usize, v: u32) -> Result<(), ()> {
    // SAFETY: as above; what is written is user memory, which is no Rust object.
    word(unsafe { user_store32(uva, v) }).map(|_| ())
}
/// One aligned store, not torn.
#[inline]
pub fn user_store_u64(uva: usize, v: u64) -> Result<(), ()> {
    // SAFETY: as above.
    word(unsafe { user_store64(uva, v) }).map(|_| ())
}
/// Atomic compare and exchange; what was there.
#[inline]
pub fn user_cmpxchg_u32(uva: usize, old: u32, new: u32) -> Result<u32, ()> {
    // SAFETY: as above.
    word(unsafe { user_cmpxchg32(uva, old, new) }).map(|v| v as u32)
}
