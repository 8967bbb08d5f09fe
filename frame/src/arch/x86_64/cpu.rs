//! What this kind of processor can do, and the control registers that turn it on.
//!
//! CR4.FSGSBASE stays off even where it exists: the user's FS and GS bases then change only through the kernel, so that no
//! trap has to read them back, and `Regs` is always the truth. (Programs learn this from AT_HWCAP2 and use arch_prctl.)

use core::arch::x86_64::{__cpuid, __cpuid_count};

use super::insn::{cr0, cr4, rdmsr, set_cr0, set_cr4, wrmsr};
use crate::sync::once::Once;

pub(super) const MSR_FS_BASE: u32 = 0xc000_0100;
pub(super) const MSR_GS_BASE: u32 = 0xc000_0101;
pub(super) const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;
const MSR_EFER: u32 = 0xc000_0080;
const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_CSTAR: u32 = 0xc000_0083;
const MSR_SFMASK: u32 = 0xc000_0084;
const MSR_SYSENTER_CS: u32 = 0x174;

/// What CPUID says, where it matters here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Features {
    pub(super) gigabyte_pages: bool,
    pub(super) smep: bool,
    pub(super) smap: bool,
    pub(super) umip: bool,
    pub(super) x2apic: bool,
    pub(super) xsave: bool,
    pub(super) xsaveopt: bool,
    pub(super) avx: bool,
    pub(super) pge: bool,
    /// Of TSC, in Hz, if CPUID gives it.
    pub(super) tsc_hz: Option<u64>,
}

static FEATURES: Once<Features> = Once::new();

/// Linux's HWCAP2 bit 1 (FSGSBASE) is not among the answers: see the module's comment.
pub(super) fn features() -> &'static Features {
    FEATURES.call_once(detect)
}

/// The four registers of a CPUID leaf: eax, ebx, ecx, edx.
pub fn cpuid(leaf: u32, sub: u32) -> [u32; 4] {
    let r = __cpuid_count(leaf, sub);
    [r.eax, r.ebx, r.ecx, r.edx]
}

fn detect() -> Features {
    let max = __cpuid(0).eax;
    let max_ext = __cpuid(0x8000_0000).eax;
    let l1 = __cpuid(1);
    let l7 = if max >= 7 { cpuid(7, 0) } else { [0; 4] };
    let ext1 = if max_ext >= 0x8000_0001 { cpuid(0x8000_0001, 0) } else { [0; 4] };
    let xsave = l1.ecx >> 26 & 1 != 0 && max >= 0xd;
    Features {
        gigabyte_pages: ext1[3] >> 26 & 1 != 0,
        smep: l7[1] >> 7 & 1 != 0,
        smap: l7[1] >> 20 & 1 != 0,
        umip: l7[2] >> 2 & 1 != 0,
        x2apic: l1.ecx >> 21 & 1 != 0,
        xsave,
        xsaveopt: xsave && cpuid(0xd, 1)[0] & 1 != 0,
        avx: xsave && l1.ecx >> 28 & 1 != 0,
        pge: l1.edx >> 13 & 1 != 0,
        tsc_hz: tsc_hz(max, l1.ecx >> 31 & 1 != 0),
    }
}

/// The TSC's frequency from leaf 0x15 (crystal and ratio), or from the hypervisor's leaf 0x40000010 (kHz).
fn tsc_hz(max: u32, hypervisor: bool) -> Option<u64> {
    if max >= 0x15 {
        let [den, num, crystal, _] = cpuid(0x15, 0);
        if den != 0 && num != 0 && crystal != 0 {
            return Some(u64::from(crystal) * u64::from(num) / u64::from(den));
        }
    }
    if hypervisor {
        let m = __cpuid(0x4000_0000).eax;
        // More leaves than exist would be the answer of a processor that repeats its last basic leaf.
        if (0x4000_0010..0x4000_0100).contains(&m) {
            let khz = cpuid(0x4000_0010, 0)[0];
            if khz != 0 {
                return Some(u64::from(khz) * 1000);
            }
        }
    }
    None
}

// SAFETY: the declarations match the labels of the assembly that defines them.
unsafe extern "C" {
    fn syscall_entry();
    fn syscall_compat_entry();
}

/// Turns on what the kernel uses, on this processor. The same on all of them.
pub(super) fn enable() {
    let f = features();
    // SAFETY: each bit is set only where CPUID reports it. The system-call targets are the entry points written for them.
    unsafe {
        // CR0: MP, NE, WP on; EM, TS off.
        set_cr0((cr0() | 1 << 1 | 1 << 5 | 1 << 16) & !(1 << 2 | 1 << 3));
        // CR4: OSFXSR, OSXMMEXCPT always (64-bit processors have SSE2).
        let mut v = cr4() | 1 << 9 | 1 << 10;
        v |= u64::from(f.pge) << 7 | u64::from(f.umip) << 11 | u64::from(f.xsave) << 18;
        v |= u64::from(f.smep) << 20 | u64::from(f.smap) << 21;
        set_cr4(v);
        if f.xsave {
            super::fpu::enable_xsave(f.avx);
        }
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | 1 | 1 << 11);
        // Kernel CS 0x10 (SS 0x18); sysret's base 0x23 makes SS 0x2b and CS 0x33.
        wrmsr(MSR_STAR, 0x10 << 32 | 0x23 << 48);
        wrmsr(MSR_LSTAR, syscall_entry as *const () as u64);
        wrmsr(MSR_CSTAR, syscall_compat_entry as *const () as u64);
        // Cleared on entry: TF, IF, DF, IOPL, NT, RF, AC.
        wrmsr(MSR_SFMASK, 0x0100 | 0x0200 | 0x0400 | 0x3000 | 0x4000 | 0x1_0000 | 0x4_0000);
        // No 32-bit system calls: sysenter faults.
        wrmsr(MSR_SYSENTER_CS, 0);
    }
}

/// One try at RDRAND; `None` where there is no such instruction or it had nothing.
pub fn hardware_random() -> Option<u64> {
    if cpuid(1, 0)[2] >> 30 & 1 == 0 {
        return None;
    }
    let (value, good): (u64, u8);
    // SAFETY: the instruction exists, and writes a register and the carry flag only.
    unsafe {
        core::arch::asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) good, options(nomem, nostack))
    };
    (good != 0).then_some(value)
}
