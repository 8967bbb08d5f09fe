//! The frame that a signal handler runs on: `struct rt_sigframe` of x86-64, byte for byte (Linux's `asm/sigframe.h`,
//! `asm/sigcontext.h`).
//!
//! ```text
//!   old sp ─┐  128 bytes of red zone (x86-64 ABI), unless on the alternate stack
//!           │  FPU state: XSAVE area, 64-byte aligned, with Linux's marks at 464 and after its end
//!    +312   │  siginfo       128
//!    +8     │  ucontext      flags 8, link 8, stack_t 24, sigcontext 256, mask 8   = 304
//!    sp ──▶ │  restorer      8            (sp + 8) is a multiple of 16: as after a call
//!
//!   sigcontext: r8…r15 0  rdi 64 rsi 72 rbp 80 rbx 88 rdx 96 rax 104 rcx 112 rsp 120 rip 128 rflags 136
//!               cs gs fs ss 144…152  err 152  trapno 160  oldmask 168  cr2 176  fpstate 184  reserved 192…256
//! ```

use base::{Errno, Result};
use frame::{
    task::fpu_frame_len,
    user::{self, Regs},
};

use super::{
    action::{SA_ONSTACK, SA_RESTORER, SA_SIGINFO, SigAction},
    altstack::AltStack,
    deliver::set_blocked,
    info::{self, SigInfo},
    set::SigSet,
};
use crate::process::{Me, current};

const UCONTEXT: usize = 8;
const STACK: usize = UCONTEXT + 16;
const MCONTEXT: usize = UCONTEXT + 40;
const MASK: usize = MCONTEXT + 256;
const INFO: usize = MASK + 8;
/// Bytes of the frame without FPU state.
pub const SIZE: usize = INFO + info::SIZE;
const CS: usize = MCONTEXT + 144;
const FPSTATE: usize = MCONTEXT + 184;

const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;
const USER_CS: u64 = 0x33;
const USER_SS: u64 = 0x2b;

const RED_ZONE: u64 = 128;
const FXSAVE: usize = 512;
/// Direction, trap and resume flag: not for handlers.
const RF: u64 = 0x1_0000;
const DF: u64 = 0x400;
const TF: u64 = 0x100;
/// What `sigreturn` takes from the frame: OF, DF, TF, SF, ZF, AF, PF, CF, RF, AC.
const FIX_EFLAGS: u64 = 0x0005_0dd5;

/// Registers in the order of `struct sigcontext`.
macro_rules! each_register {
    ($m:ident, $regs:expr) => {
        $m!($regs, r8 0 r9 8 r10 16 r11 24 r12 32 r13 40 r14 48 r15 56 rdi 64 rsi 72 rbp 80 rbx 88 rdx 96 rax 104 rcx 112 rsp 120 rip 128)
    };
}

/// The fixed part of the frame without the siginfo. `fp` is where the FPU state lies, 0 for none.
fn fixed(regs: &Regs, action: &SigAction, mask: SigSet, alt: &AltStack, fp: u64, xstate: bool) -> [u8; INFO] {
    let mut f = [0u8; INFO];
    let mut put = |at: usize, v: u64| f[at..at + 8].copy_from_slice(&v.to_le_bytes());
    put(0, action.restorer);
    put(UCONTEXT, UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS | if xstate { UC_FP_XSTATE } else { 0 });
    macro_rules! save {
        ($r:expr, $($n:ident $o:literal)*) => { $(put(MCONTEXT + $o, $r.$n);)* };
    }
    each_register!(save, regs);
    put(MCONTEXT + 136, regs.rflags);
    put(CS, USER_CS | USER_SS << 48);
    put(MCONTEXT + 168, mask.0);
    put(FPSTATE, fp);
    put(MASK, mask.0);
    f[STACK..STACK + 24].copy_from_slice(&alt.to_bytes(regs.rsp));
    f
}

/// Addresses of the FPU state (64-byte aligned) and of the frame below `sp`.
fn place(sp: u64, fp_len: usize) -> Option<(u64, u64)> {
    let fp = sp.checked_sub(fp_len as u64)? & !63;
    Some((fp, (fp.checked_sub(SIZE as u64)? & !15).checked_sub(8)?))
}

/// Writes the frame and points the registers at the handler.
pub(super) fn build(
    me: &Me,
    regs: &mut Regs,
    info: &SigInfo,
    action: &SigAction,
    mask: SigSet,
) -> Result<()> {
    if !action.has(SA_RESTORER) {
        return Err(Errno::EFAULT);
    }
    let fp_len = fpu_frame_len();
    let xstate = fp_len > FXSAVE;
    let alt = *me.altstack.lock();
    let mut sp = regs.rsp.wrapping_sub(RED_ZONE);
    if action.has(SA_ONSTACK) {
        let entry = alt.entry(regs.rsp);
        if entry != regs.rsp {
            sp = entry;
        }
    }
    let (fp, at) = place(sp, fp_len).ok_or(Errno::EFAULT)?;
    if action.has(SA_ONSTACK) && alt.overflowed(sp, at) {
        return Err(Errno::EFAULT);
    }
    me.task().fpu_to_user(fp as usize)?;
    let f = fixed(regs, action, mask, &alt, fp, xstate);
    user::copy_to_user(at as usize, &f)?;
    // As Linux: only handlers that ask for it get the reason.
    if action.has(SA_SIGINFO) {
        user::copy_to_user(at as usize + INFO, &info.to_bytes())?;
    }
    if alt != AltStack::default() {
        me.altstack.lock().auto_disarm();
    }

    regs.rdi = info.signo as u64;
    regs.rsi = at + INFO as u64;
    regs.rdx = at + UCONTEXT as u64;
    regs.rax = 0;
    regs.rip = action.handler;
    regs.rsp = at;
    regs.rflags &= !(DF | RF | TF);
    Ok(())
}

/// `rt_sigreturn(2)`: takes everything back from the frame; the result is what `rax` was. A bad frame is `SIGSEGV`.
pub fn sigreturn(regs: &mut Regs) {
    if restore(regs).is_err() {
        super::send::force(SigInfo::kernel(super::set::SEGV));
    }
    // Never restart this call.
    regs.orig_rax = !0;
}

fn restore(regs: &mut Regs) -> Result<()> {
    let me = current();
    let at = regs.rsp.wrapping_sub(8);
    let f = user::read_array::<INFO>(at as usize)?;
    let long = |o: usize| u64::from_le_bytes(core::array::from_fn(|k| f[o + k]));
    macro_rules! load {
        ($r:expr, $($n:ident $o:literal)*) => { $($r.$n = long(MCONTEXT + $o);)* };
    }
    each_register!(load, regs);
    regs.rflags = regs.rflags & !FIX_EFLAGS | long(MCONTEXT + 136) & FIX_EFLAGS;
    set_blocked(&me, SigSet(long(MASK)));
    restore_fpu(&me, long(FPSTATE))?;
    let mut st = [0; 24];
    st.copy_from_slice(&f[STACK..STACK + 24]);
    // As Linux: a stack that cannot be set back is not an error here.
    let old = *me.altstack.lock();
    if let Ok(new) = old.replace(&st, regs.rsp) {
        *me.altstack.lock() = new;
    }
    Ok(())
}

fn restore_fpu(me: &Me, at: u64) -> Result<()> {
    if at == 0 {
        if !me.task().reset_fpu() {
            return Err(Errno::ENOMEM);
        }
        return Ok(());
    }
    me.task().fpu_from_user(at as usize).map_err(|_| Errno::EINVAL)
}

/// Bytes of stack that a signal needs: `AT_MINSIGSTKSZ`.
pub fn min_stack(fpu_len: usize) -> u64 {
    (SIZE as u64 + fpu_len as u64 + 63 + 15 + 8).next_multiple_of(16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_linux_s() {
        assert_eq!((UCONTEXT, MCONTEXT, MASK, INFO, SIZE), (8, 48, 304, 312, 440));
        let regs =
            Regs { rax: 1, rbx: 2, rsp: 0x7000, rip: 0x400000, rflags: 0x246, r15: 15, ..Regs::default() };
        let a = SigAction { handler: 9, flags: SA_SIGINFO, restorer: 0x1234, mask: SigSet::EMPTY };
        let f = fixed(&regs, &a, SigSet(0x55), &AltStack::default(), 0x6000, true);
        let long = |o: usize| u64::from_le_bytes(f[o..o + 8].try_into().unwrap());
        assert_eq!((long(0), long(8), long(16)), (0x1234, 7, 0));
        assert_eq!(f[32..36], 2u32.to_le_bytes(), "no alternate stack: SS_DISABLE");
        assert_eq!(
            (long(48 + 56), long(48 + 88), long(48 + 104), long(48 + 120), long(48 + 128)),
            (15, 2, 1, 0x7000, 0x400000)
        );
        assert_eq!((f[192], f[198]), (0x33, 0x2b));
        assert_eq!((long(232), long(304)), (0x6000, 0x55));
    }

    proptest! {
        #[test]
        fn frames_are_aligned_as_after_a_call(sp in 0x10000u64..0x7fff_ffff_0000, len in 0usize..3000) {
            let (fp, at) = place(sp, len).unwrap();
            prop_assert!(fp % 64 == 0 && (at + 8) % 16 == 0 && at + SIZE as u64 <= fp && fp + len as u64 <= sp);
        }
    }
}
