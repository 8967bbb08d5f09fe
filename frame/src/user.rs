//! User memory and user mode, as safe code sees them.
//!
//! A user address is an *allegation*: a number that a program claims to be its memory. Everything here checks the range
//! first (below [`END`], no wrap-around), then touches the memory with instructions whose faults the back end catches. Such a
//! fault asks the installed [`paging::FaultHandler`] for the page, if the caller may sleep; in atomic context, and when the
//! handler refuses, the access ends short and the caller gets [`Fault`] (or the number of bytes that did arrive).
//!
//! User memory is never seen through a Rust reference: other threads of the program can change it at any time. It is copied
//! in, then judged; what was judged is never read again.
//!
//! [`run`] is the only way into user mode.

use crate::{
    arch,
    atomic::{AtomicU64, Ordering},
    context,
    cpu::{CpuId, MAX_CPUS},
    page::PageRef,
    paging::{self, Access},
    sync::{lockdep, rcu},
    task,
};

/// The first address that no user mapping can reach: one guard page below the end of the lower canonical half, as Linux's
/// `TASK_SIZE_MAX` with four-level tables. The guard page keeps `syscall` at the very end from making a non-canonical `rip`.
pub const END: usize = 0x0000_7fff_ffff_f000;

/// A bad user address: `EFAULT`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

/// True if `len` bytes from `uva` lie in the user half.
#[inline]
pub const fn range_ok(uva: usize, len: usize) -> bool {
    len <= END && uva <= END - len
}

#[inline]
fn check(uva: usize, len: usize) -> Result<(), Fault> {
    if range_ok(uva, len) { Ok(()) } else { Err(Fault) }
}

/// The part of `len` bytes from `uva` that lies in the user half.
fn clip(uva: usize, len: usize) -> usize {
    if uva >= END { 0 } else { len.min(END - uva) }
}

/// Copies all of `out` from user memory.
#[inline]
pub fn copy_from_user(out: &mut [u8], uva: usize) -> Result<(), Fault> {
    check(uva, out.len())?;
    // SAFETY: `out` is writable for its length; the user range is checked.
    if unsafe { arch::user_read(out.as_mut_ptr(), uva, out.len()) } == 0 { Ok(()) } else { Err(Fault) }
}

/// Copies `N` bytes from user memory.
#[inline]
pub fn read_array<const N: usize>(uva: usize) -> Result<[u8; N], Fault> {
    check(uva, N)?;
    let mut out = core::mem::MaybeUninit::<[u8; N]>::uninit();
    // SAFETY: `out` is writable for `N` bytes; the user range is checked.
    if unsafe { arch::user_read(out.as_mut_ptr().cast(), uva, N) } != 0 {
        return Err(Fault);
    }
    // SAFETY: all of it was written.
    Ok(unsafe { out.assume_init() })
}

/// Copies all of `data` to user memory. On a fault some of it may have been written.
#[inline]
pub fn copy_to_user(uva: usize, data: &[u8]) -> Result<(), Fault> {
    check(uva, data.len())?;
    // SAFETY: `data` is readable for its length; the user range is checked.
    if unsafe { arch::user_write(uva, data.as_ptr(), data.len()) } == 0 { Ok(()) } else { Err(Fault) }
}

/// Copies as much as can be read; the number of bytes.
pub fn copy_from_user_partial(out: &mut [u8], uva: usize) -> usize {
    let len = clip(uva, out.len());
    // SAFETY: as in `copy_from_user`; `len` is at most the length of `out`.
    len - unsafe { arch::user_read(out.as_mut_ptr(), uva, len) }
}

/// Copies as much as can be written; the number of bytes.
pub fn copy_to_user_partial(uva: usize, data: &[u8]) -> usize {
    let len = clip(uva, data.len());
    // SAFETY: as in `copy_to_user`; `len` is at most the length of `data`.
    len - unsafe { arch::user_write(uva, data.as_ptr(), len) }
}

/// Zeroes user memory.
pub fn clear_user(uva: usize, len: usize) -> Result<(), Fault> {
    check(uva, len)?;
    if arch::user_clear(uva, len) == 0 { Ok(()) } else { Err(Fault) }
}

/// Zeroes as much as can be written; the number of bytes.
#[inline]
pub fn clear_user_partial(uva: usize, len: usize) -> usize {
    let len = clip(uva, len);
    len - arch::user_clear(uva, len)
}

/// Bytes that [`read_user_str`] fetches at a time: a short path in one go, and little waste after the NUL.
const STR_CHUNK: usize = 64;
const PAGE: usize = 4096;

/// Copies a string up to and without its NUL into `out`; its length. `out.len()` if there is no NUL within `out` (the caller
/// decides whether that is `ENAMETOOLONG`). Nothing after the page that holds the NUL is touched.
pub fn read_user_str(uva: usize, out: &mut [u8]) -> Result<usize, Fault> {
    let mut done = 0;
    while done < out.len() {
        let at = uva.checked_add(done).ok_or(Fault)?;
        let want = STR_CHUNK.min(out.len() - done).min(PAGE - at % PAGE);
        let chunk = &mut out[done..done + want];
        copy_from_user(chunk, at)?;
        if let Some(n) = chunk.iter().position(|&b| b == 0) {
            return Ok(done + n);
        }
        done += want;
    }
    Ok(done)
}

#[inline]
fn check_word(uva: usize, size: usize) -> Result<(), Fault> {
    if !uva.is_multiple_of(size) { Err(Fault) } else { check(uva, size) }
}

/// Loads an aligned word in one access.
#[inline]
pub fn load_u32(uva: usize) -> Result<u32, Fault> {
    check_word(uva, 4)?;
    arch::user_load_u32(uva).map_err(|()| Fault)
}
/// Loads an aligned word in one access.
#[inline]
pub fn load_u64(uva: usize) -> Result<u64, Fault> {
    check_word(uva, 8)?;
    arch::user_load_u64(uva).map_err(|()| Fault)
}
/// Stores an aligned word in one access.
#[inline]
pub fn store_u32(uva: usize, v: u32) -> Result<(), Fault> {
    check_word(uva, 4)?;
    arch::user_store_u32(uva, v).map_err(|()| Fault)
}
/// Stores an aligned word in one access.
#[inline]
pub fn store_u64(uva: usize, v: u64) -> Result<(), Fault> {
    check_word(uva, 8)?;
    arch::user_store_u64(uva, v).map_err(|()| Fault)
}

/// Atomically replaces `old` by `new`. The inner result is that of `compare_exchange`.
pub fn cmpxchg_u32(uva: usize, old: u32, new: u32) -> Result<Result<u32, u32>, Fault> {
    check_word(uva, 4)?;
    let was = arch::user_cmpxchg_u32(uva, old, new).map_err(|()| Fault)?;
    Ok(if was == old { Ok(was) } else { Err(was) })
}

/// Atomically replaces the word by `f` of it; what was there before. `f` may run several times.
pub fn fetch_op_u32(uva: usize, f: impl Fn(u32) -> u32) -> Result<u32, Fault> {
    let mut v = load_u32(uva)?;
    loop {
        match cmpxchg_u32(uva, v, f(v))? {
            Ok(was) => return Ok(was),
            Err(now) => v = now,
        }
    }
}

impl PageRef {
    /// Copies `len` bytes of user memory into the page at `off`; how many arrived. A fault that needs this very page locked
    /// by the caller deadlocks as on Linux: fault the source in first.
    pub fn copy_from_user(&self, off: usize, uva: usize, len: usize) -> usize {
        let n = clip(uva, len);
        // SAFETY: `ptr_at` checks that the range is inside the page, which this reference keeps.
        n - unsafe { arch::user_read(self.ptr_at(off, len), uva, n) }
    }
    /// Copies `len` bytes of the page at `off` to user memory; how many arrived.
    pub fn copy_to_user(&self, off: usize, uva: usize, len: usize) -> usize {
        let n = clip(uva, len);
        // SAFETY: as above.
        n - unsafe { arch::user_write(uva, self.ptr_at(off, len), n) }
    }
}

/// A user program's registers between two runs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Regs {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    /// The number of the system call being served, for restarts and `ptrace`; `-1` outside of one.
    pub orig_rax: u64,
}

/// What ended a run, as the back end reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RawTrap {
    /// `syscall`, with `rcx` and `r11` as the instruction leaves them.
    Syscall,
    /// A page fault with the processor's error code.
    PageFault { va: usize, error: u64 },
    /// Any other exception.
    Exception { vector: u8, error: u64 },
    /// A hardware interrupt, already served.
    Interrupt,
}

/// What ended a run and is the caller's business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    /// The program made a system call.
    Syscall,
    /// It touched memory that the fault handler refused, for the reason given.
    Fault { va: usize, access: Access, why: paging::Fault },
    /// It caused another exception.
    Exception { vector: u8, error: u64 },
    /// The task has [`task::Work`] to look at.
    Interrupt,
}

/// Flags that a program may set: CF, PF, AF, ZF, SF, TF, DF, OF, NT, RF, AC, ID (Intel SDM volume 1, 3.4.3).
const RFLAGS_USER: u64 = 0x0001
    | 0x0004
    | 0x0010
    | 0x0040
    | 0x0080
    | 0x0100
    | 0x0400
    | 0x0800
    | 0x4000
    | 0x1_0000
    | 0x4_0000
    | 0x20_0000;
/// Always set: bit 1 by definition, and interrupts on.
const RFLAGS_FIXED: u64 = 0x0002 | 0x0200;
/// General-protection fault.
const GP: u8 = 13;

/// How long a processor has been in user mode; written by that processor with interrupts off.
#[repr(align(64))]
struct Clock {
    /// Ticks of the spans that are over.
    spent: AtomicU64,
    /// When the present span began; 0 outside of user mode.
    since: AtomicU64,
}

static CLOCKS: [Clock; MAX_CPUS] =
    [const { Clock { spent: AtomicU64::new(0), since: AtomicU64::new(0) } }; MAX_CPUS];

/// Nanoseconds that `cpu` has spent in user mode up to now. The time of interrupts that came there is not in it. Read on
/// another processor, a span that ends at this very moment may be missing.
pub fn time_ns(cpu: CpuId) -> u64 {
    let c = &CLOCKS[cpu.index()];
    loop {
        let spent = c.spent.load(Ordering::Acquire);
        let since = c.since.load(Ordering::Acquire);
        if c.spent.load(Ordering::Acquire) == spent {
            let running = if since == 0 { 0 } else { arch::ticks().saturating_sub(since) };
            return arch::ticks_to_ns(spent + running);
        }
    }
}

/// Runs the program until it needs something. Page faults are served here by the installed handler, hardware interrupts
/// and preemption too.
///
/// Registers that would fault inside the kernel (`rip` or a base outside the user half) give the exception that they would
/// have given outside.
///
/// # Panics
/// In atomic context.
#[inline]
pub fn run(regs: &mut Regs) -> Trap {
    loop {
        regs.rflags = regs.rflags & RFLAGS_USER | RFLAGS_FIXED;
        arch::irq_disable();
        if arch::need_resched() && task::scheduling() {
            arch::irq_enable();
            task::preempt_check();
            continue;
        }
        if !task::current().work().is_empty() {
            arch::irq_enable();
            return Trap::Interrupt;
        }
        // After the work: the signal that the last such exception made must get its turn.
        if (regs.rip | regs.fs_base | regs.gs_base) >> 47 != 0 {
            arch::irq_enable();
            return Trap::Exception { vector: GP, error: 0 };
        }
        if context::word() != 0 {
            panic!("BUG: entering user mode in atomic context {:#x}", context::word());
        }
        // No RCU reader and no lock can be left from here on.
        rcu::note_user_entry();
        lockdep::assert_none_held("entering user mode");
        let clock = &CLOCKS[arch::cpu_id() as usize % MAX_CPUS];
        let began = arch::ticks();
        clock.since.store(began, Ordering::Relaxed);
        let left = || {
            let spent = arch::ticks().wrapping_sub(began);
            // In this order: a reader that comes between counts the span later, never twice.
            clock.since.store(0, Ordering::Release);
            clock.spent.store(clock.spent.load(Ordering::Relaxed) + spent, Ordering::Release);
        };
        match arch::run_user(regs, left) {
            RawTrap::Syscall => return Trap::Syscall,
            RawTrap::PageFault { va, error } => {
                let access = Access::from_error(error);
                if let Err(why) = paging::handle_user_fault(va, access) {
                    return Trap::Fault { va, access, why };
                }
            }
            RawTrap::Exception { vector, error } => return Trap::Exception { vector, error },
            RawTrap::Interrupt => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_at_the_user_half() {
        assert!(range_ok(0, 0) && range_ok(END, 0) && range_ok(END - 1, 1) && range_ok(0, END));
        assert!(
            !range_ok(END, 1)
                && !range_ok(END - 1, 2)
                && !range_ok(usize::MAX, 1)
                && !range_ok(1, usize::MAX)
        );
        assert!(!range_ok(usize::MAX, usize::MAX));
        assert_eq!(clip(END - 3, 10), 3);
        assert_eq!(clip(END + 3, 10), 0);
    }

    #[test]
    fn words_must_be_aligned() {
        assert_eq!(load_u32(2), Err(Fault));
        assert_eq!(store_u64(4, 1), Err(Fault));
        assert_eq!(cmpxchg_u32(END, 0, 1), Err(Fault));
    }
}
