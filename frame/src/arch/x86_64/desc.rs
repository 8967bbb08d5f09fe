//! Segments, the task-state segment and the interrupt table.
//!
//! The selectors are those that programs see on Linux (user code 0x33, user data 0x2b). There is no 32-bit code segment,
//! so no program can leave 64-bit mode.

use core::arch::asm;

use super::percpu::PerCpu;
use crate::atomic::{AtomicBool, Ordering};

pub(super) const KERNEL_CS: u16 = 0x10;
const KERNEL_SS: u16 = 0x18;
const TSS_SEL: u16 = 0x40;
/// A data segment of which programs only ask the limit (`lsl`): the number of the processor they are on.
pub(super) const CPU_SEL: u16 = 0x53;

/// Which stack of the TSS's table a vector uses (0: the current one).
pub(super) const IST_DOUBLE_FAULT: u8 = 1;
pub(super) const IST_NMI: u8 = 2;
pub(super) const IST_MACHINE_CHECK: u8 = 3;

/// The 64-bit task-state segment (Intel SDM volume 3, 8.7).
#[repr(C, packed(4))]
pub(super) struct Tss {
    reserved0: u32,
    /// Stack for interrupts from user mode; also where system-call entry finds the kernel's frame.
    pub(super) rsp0: u64,
    rsp1: u64,
    rsp2: u64,
    reserved1: u64,
    pub(super) ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    /// Beyond the limit: no I/O permission map, so no port is open to user mode.
    io_map: u16,
}

impl Tss {
    pub(super) const fn new() -> Self {
        Self {
            reserved0: 0,
            rsp0: 0,
            rsp1: 0,
            rsp2: 0,
            reserved1: 0,
            ist: [0; 7],
            reserved2: 0,
            reserved3: 0,
            io_map: 104,
        }
    }
}

/// Null, unused, kernel code 0x10, kernel data 0x18, (no 32-bit user code) 0x20, user data 0x28, user code 0x30, unused, TSS 0x40,
/// processor number 0x50.
#[repr(C, align(16))]
pub(super) struct Gdt([u64; 11]);

impl Gdt {
    pub(super) const fn new() -> Self {
        Self([
            0,
            0,
            0x00af_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0,
            0x00cf_f300_0000_ffff,
            0x00af_fb00_0000_ffff,
            0,
            0,
            0,
            0,
        ])
    }
}

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Loads this processor's segments and TSS, and GS with its block.
///
/// # Safety
/// `cpu` lives for ever, is this processor's alone, and its stacks are set in the TSS.
pub(super) unsafe fn load(cpu: *mut PerCpu) {
    // SAFETY: the caller's promise gives exclusive use of the block; all descriptors written are valid for it, and the far
    // return reloads CS with the same kind of segment.
    unsafe {
        (*cpu).this = cpu;
        let tss = &raw const (*cpu).tss as u64;
        (*cpu).gdt.0[8] =
            (size_of::<Tss>() as u64 - 1) | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56;
        (*cpu).gdt.0[9] = tss >> 32;
        // Limit in bytes; present, DPL 3, read-only data, 32-bit, marked as accessed.
        let id = u64::from((*cpu).id);
        (*cpu).gdt.0[10] = (id & 0xffff) | 0xf1 << 40 | (id >> 16 & 0xf) << 48 | 1 << 54;
        let p = Pointer { limit: size_of::<Gdt>() as u16 - 1, base: &raw const (*cpu).gdt as u64 };
        asm!("lgdt [{}]", in(reg) &raw const p, options(readonly, nostack, preserves_flags));
        asm!(
            "push {cs}", "lea {t}, [rip + 2f]", "push {t}", "retfq", "2:",
            "mov ds, {z:e}", "mov es, {z:e}", "mov fs, {z:e}", "mov gs, {z:e}", "mov ss, {ss:e}",
            cs = in(reg) u64::from(KERNEL_CS), ss = in(reg) u32::from(KERNEL_SS), z = in(reg) 0u32, t = out(reg) _,
            options(preserves_flags)
        );
        asm!("ltr {:x}", in(reg) TSS_SEL, options(nostack, preserves_flags));
        super::insn::wrmsr(super::cpu::MSR_FS_BASE, 0);
        super::insn::wrmsr(super::cpu::MSR_GS_BASE, cpu as u64);
        super::insn::wrmsr(super::cpu::MSR_KERNEL_GS_BASE, 0);
    }
}

#[repr(C, align(4096))]
struct Idt([[u64; 2]; 256]);
static mut IDT: Idt = Idt([[0; 2]; 256]);
static IDT_READY: AtomicBool = AtomicBool::new(false);

// SAFETY: the declarations match the labels of the assembly that defines them.
unsafe extern "C" {
    static trap_stubs: [[u8; 16]; 256];
}

/// Loads the interrupt table, which all processors share; the first call, on the boot processor alone, fills it.
pub(super) fn load_idt() {
    // SAFETY: written once, before any other processor runs and while interrupts are off; only the processor reads it later.
    unsafe {
        let idt = &raw mut IDT;
        if !IDT_READY.load(Ordering::Acquire) {
            let stubs = (&raw const trap_stubs).addr() as u64;
            for v in 0..256usize {
                let at = stubs + v as u64 * 16;
                let ist = match v {
                    2 => IST_NMI,
                    8 => IST_DOUBLE_FAULT,
                    18 => IST_MACHINE_CHECK,
                    _ => 0,
                };
                // int3 and into may be used by programs; everything else is for the processor alone.
                let dpl: u64 = if v == 3 || v == 4 { 3 } else { 0 };
                (*idt).0[v] = [
                    (at & 0xffff)
                        | u64::from(KERNEL_CS) << 16
                        | u64::from(ist) << 32
                        | 0x8e00 << 32
                        | dpl << 45
                        | (at >> 16 & 0xffff) << 48,
                    at >> 32,
                ];
            }
            IDT_READY.store(true, Ordering::Release);
        }
        let p = Pointer { limit: size_of::<Idt>() as u16 - 1, base: idt as u64 };
        asm!("lidt [{}]", in(reg) &raw const p, options(readonly, nostack, preserves_flags));
    }
}
