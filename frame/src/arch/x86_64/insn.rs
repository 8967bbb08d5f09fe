//! Single instructions with a Rust face: ports, model-specific and control registers, the interrupt flag.

use core::arch::asm;

/// Reads a port.
pub fn port_read8(port: u16) -> u8 {
    let v;
    // SAFETY: callers are drivers that claimed the port (`io::Ports`) and this back end; a port read touches no Rust memory.
    unsafe { asm!("in al, dx", in("dx") port, out("al") v, options(nostack, preserves_flags)) };
    v
}
/// Writes a port.
pub fn port_write8(port: u16, v: u8) {
    // SAFETY: as in `port_read8`.
    unsafe { asm!("out dx, al", in("dx") port, in("al") v, options(nostack, preserves_flags)) };
}
/// Reads a port, 16 bits at once.
pub fn port_read16(port: u16) -> u16 {
    let v;
    // SAFETY: as in `port_read8`.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") v, options(nostack, preserves_flags)) };
    v
}
/// Writes a port, 16 bits at once.
pub fn port_write16(port: u16, v: u16) {
    // SAFETY: as in `port_read8`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") v, options(nostack, preserves_flags)) };
}

/// Reads a port, 32 bits at once.
pub fn port_read32(port: u16) -> u32 {
    let v;
    // SAFETY: as in `port_read8`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") v, options(nostack, preserves_flags)) };
    v
}
/// Writes a port, 32 bits at once.
pub fn port_write32(port: u16, v: u32) {
    // SAFETY: as in `port_read8`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") v, options(nostack, preserves_flags)) };
}

/// Reads a register of a device: one access of `size` bytes.
///
/// # Safety
/// `at` is aligned, inside a mapping that `map_device` made.
#[inline(always)]
pub unsafe fn mmio_read(at: usize, size: usize) -> u64 {
    let p = core::ptr::with_exposed_provenance::<u8>(at);
    // SAFETY: the caller's promise.
    unsafe {
        match size {
            1 => p.read_volatile().into(),
            2 => p.cast::<u16>().read_volatile().into(),
            4 => p.cast::<u32>().read_volatile().into(),
            _ => p.cast::<u64>().read_volatile(),
        }
    }
}
/// Writes a register of a device: one access of `size` bytes.
///
/// # Safety
/// As for [`mmio_read`].
#[inline(always)]
pub unsafe fn mmio_write(at: usize, size: usize, v: u64) {
    let p = core::ptr::with_exposed_provenance_mut::<u8>(at);
    // SAFETY: the caller's promise.
    unsafe {
        match size {
            1 => p.write_volatile(v as u8),
            2 => p.cast::<u16>().write_volatile(v as u16),
            4 => p.cast::<u32>().write_volatile(v as u32),
            _ => p.cast::<u64>().write_volatile(v),
        }
    }
}

/// # Safety
/// The register exists.
pub(super) unsafe fn rdmsr(msr: u32) -> u64 {
    let (lo, hi): (u32, u32);
    // SAFETY: the caller's promise; reading has no effect on memory.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") lo, out("edx") hi, options(nostack, preserves_flags)) };
    u64::from(hi) << 32 | u64::from(lo)
}
/// # Safety
/// The register exists, and the value keeps what the kernel relies on.
pub(super) unsafe fn wrmsr(msr: u32, v: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") v as u32, in("edx") (v >> 32) as u32, options(nostack, preserves_flags));
    }
}
#[inline]
pub(super) fn rdtsc() -> u64 {
    let (lo, hi): (u32, u32);
    // SAFETY: reads the time-stamp counter. Not ordered with other loads more than the callers need.
    unsafe { asm!("rdtsc", out("eax") lo, out("edx") hi, options(nomem, nostack, preserves_flags)) };
    u64::from(hi) << 32 | u64::from(lo)
}
macro_rules! control_register {
    ($get:ident, $name:literal) => {
        pub(super) fn $get() -> u64 {
            let v;
            // SAFETY: reading a control register changes nothing.
            unsafe { asm!(concat!("mov {}, ", $name), out(reg) v, options(nostack, preserves_flags)) };
            v
        }
    };
    ($get:ident, $set:ident, $name:literal) => {
        control_register!($get, $name);
        /// # Safety
        /// The value keeps what the kernel relies on.
        pub(super) unsafe fn $set(v: u64) {
            // SAFETY: the caller's promise.
            unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) v, options(nostack, preserves_flags)) };
        }
    };
}
control_register!(cr0, set_cr0, "cr0");
control_register!(cr2, "cr2");
control_register!(cr3, set_cr3, "cr3");
control_register!(cr4, set_cr4, "cr4");

/// The hardware interrupt flag of this processor.
#[inline]
pub fn irqs_enabled() -> bool {
    let f: u64;
    // SAFETY: pushes and pops one word of its own.
    unsafe { asm!("pushfq", "pop {}", out(reg) f, options(preserves_flags)) };
    f & 0x200 != 0
}
/// Turns interrupts off. A compiler barrier.
#[inline]
pub fn irq_disable() {
    // SAFETY: holding interrupts off breaks no memory rule.
    unsafe { asm!("cli", options(nostack)) };
}
/// Turns interrupts on. A compiler barrier.
#[inline]
pub fn irq_enable() {
    // SAFETY: every vector has a handler before interrupts are first allowed.
    unsafe { asm!("sti", options(nostack)) };
}
/// Enables interrupts and halts in one step: an interrupt that is pending already ends the halt.
#[inline]
pub fn wait_for_interrupt() {
    // SAFETY: as `irq_enable`; `sti` holds interrupts off until after the next instruction.
    unsafe { asm!("sti", "hlt", options(nostack)) };
}
/// Inside a spin loop.
#[inline]
pub fn relax() {
    core::hint::spin_loop();
}
/// Hosted, a chance to run another processor; the machine has its own.
#[inline(always)]
pub fn preempt_point() {}

/// Runs `f` with interrupts off, without touching the context word: usable before there is a processor block.
pub(super) fn without_interrupts<R>(f: impl FnOnce() -> R) -> R {
    let on = irqs_enabled();
    irq_disable();
    let r = f();
    if on {
        irq_enable();
    }
    r
}
/// This processor does nothing any more.
pub fn halt_forever() -> ! {
    irq_disable();
    loop {
        // SAFETY: halting with interrupts off; only an NMI continues, into the loop.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}
