//! The assembly sources, with the offsets that they need from Rust's types.

use core::{arch::global_asm, mem::offset_of};

use super::{desc::Tss, percpu::PerCpu};
use crate::user::Regs;

global_asm!(include_str!("boot.s"), options(att_syntax));

global_asm!(
    include_str!("entry.s"),
    RSP0 = const offset_of!(PerCpu, tss) + offset_of!(Tss, rsp0),
    SCRATCH = const offset_of!(PerCpu, scratch),
    LOADED_FS = const offset_of!(PerCpu, loaded_fs),
    LOADED_GS = const offset_of!(PerCpu, loaded_gs),
    R_RAX = const offset_of!(Regs, rax),
    R_RBX = const offset_of!(Regs, rbx),
    R_RCX = const offset_of!(Regs, rcx),
    R_RDX = const offset_of!(Regs, rdx),
    R_RSI = const offset_of!(Regs, rsi),
    R_RDI = const offset_of!(Regs, rdi),
    R_RBP = const offset_of!(Regs, rbp),
    R_RSP = const offset_of!(Regs, rsp),
    R_R8 = const offset_of!(Regs, r8),
    R_R9 = const offset_of!(Regs, r9),
    R_R10 = const offset_of!(Regs, r10),
    R_R11 = const offset_of!(Regs, r11),
    R_R12 = const offset_of!(Regs, r12),
    R_R13 = const offset_of!(Regs, r13),
    R_R14 = const offset_of!(Regs, r14),
    R_R15 = const offset_of!(Regs, r15),
    R_RIP = const offset_of!(Regs, rip),
    R_RFLAGS = const offset_of!(Regs, rflags),
    R_FS_BASE = const offset_of!(Regs, fs_base),
    R_GS_BASE = const offset_of!(Regs, gs_base),
    R_ORIG_RAX = const offset_of!(Regs, orig_rax),
    options(att_syntax)
);
