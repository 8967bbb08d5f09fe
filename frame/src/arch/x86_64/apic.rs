//! The local APIC of each processor: its timer and inter-processor interrupts, by memory (xAPIC) or by MSR (x2APIC).

use super::{
    acpi::platform,
    clock, cpu,
    insn::{rdmsr, relax, without_interrupts, wrmsr},
    memory::phys_to_ptr,
    percpu,
};
use crate::{
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    cpu::MAX_CPUS,
    irq::Message,
};

/// Vectors. Those from [`crate::irq::LINE_VECTORS`] up to the timer's belong to devices.
pub(super) const TIMER: u8 = 0xef;
pub(super) const SHOOTDOWN: u8 = 0xfa;
pub(super) const CALL: u8 = 0xfb;
pub(super) const RESCHEDULE: u8 = 0xfd;
pub(super) const SPURIOUS: u8 = 0xff;

const MSR_APIC_BASE: u32 = 0x1b;
const ID: u32 = 0x20;
const EOI: u32 = 0xb0;
const SVR: u32 = 0xf0;
const IRR: u32 = 0x200;
const ICR: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
const TIMER_INITIAL: u32 = 0x380;
const TIMER_CURRENT: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3e0;
const MASKED: u32 = 1 << 16;
const ICR_PENDING: u32 = 1 << 12;

/// The local APICs' registers, and the addresses to which devices write their messages.
pub(super) const REGISTERS: core::ops::Range<u64> = 0xfee0_0000..0xfef0_0000;

static X2APIC: AtomicBool = AtomicBool::new(false);
static BASE: AtomicU64 = AtomicU64::new(0xfee0_0000);
/// APIC id of each processor.
static IDS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

fn read(reg: u32) -> u32 {
    if X2APIC.load(Ordering::Relaxed) {
        // SAFETY: the register exists in x2APIC mode, which is on.
        unsafe { rdmsr(0x800 + (reg >> 4)) as u32 }
    } else {
        // SAFETY: the processor's own APIC page, in the direct map.
        unsafe { phys_to_ptr(BASE.load(Ordering::Relaxed) + u64::from(reg)).cast::<u32>().read_volatile() }
    }
}
fn write(reg: u32, v: u32) {
    if X2APIC.load(Ordering::Relaxed) {
        // SAFETY: as in `read`; what is written follows the manual.
        unsafe { wrmsr(0x800 + (reg >> 4), v.into()) };
    } else {
        // SAFETY: as in `read`.
        unsafe { phys_to_ptr(BASE.load(Ordering::Relaxed) + u64::from(reg)).cast::<u32>().write_volatile(v) };
    }
}

/// Turns this processor's APIC on. The boot processor's call decides the mode.
pub(super) fn init() {
    let boot = percpu::cpu_id() == 0;
    if boot {
        BASE.store(platform().lapic, Ordering::Relaxed);
        X2APIC.store(cpu::features().x2apic, Ordering::Relaxed);
    }
    // SAFETY: enables the APIC in the mode that CPUID offers; the address stays what it is.
    unsafe {
        let base = rdmsr(MSR_APIC_BASE) | 1 << 11;
        wrmsr(MSR_APIC_BASE, base);
        if X2APIC.load(Ordering::Relaxed) {
            wrmsr(MSR_APIC_BASE, base | 1 << 10);
        }
    }
    write(LVT_TIMER, MASKED | u32::from(TIMER));
    write(LVT_LINT0, MASKED);
    // LINT1 is the NMI pin.
    write(LVT_LINT1, if boot { 0x400 } else { MASKED });
    write(LVT_ERROR, MASKED);
    write(TIMER_DIVIDE, 0xb);
    write(SVR, 0x100 | u32::from(SPURIOUS));
    IDS[percpu::cpu_id() as usize].store(id(), Ordering::Relaxed);
}

/// This processor's APIC id.
pub(super) fn id() -> u32 {
    if X2APIC.load(Ordering::Relaxed) { read(ID) } else { read(ID) >> 24 }
}
pub(super) fn id_of(cpu: u32) -> u32 {
    IDS[cpu as usize].load(Ordering::Relaxed)
}
/// APIC id of a processor.
pub fn hardware_id(cpu: u32) -> u32 {
    id_of(cpu)
}
pub(super) fn set_id_of(cpu: u32, id: u32) {
    IDS[cpu as usize].store(id, Ordering::Relaxed);
}
pub(super) fn eoi() {
    write(EOI, 0);
}

/// Sends the command in the low word of the ICR to an APIC id.
pub(super) fn command(id: u32, low: u32) {
    without_interrupts(|| {
        if X2APIC.load(Ordering::Relaxed) {
            // SAFETY: x2APIC's ICR is one 64-bit register. The fence makes what was stored before visible to the receiver,
            // since this write, unlike one to memory, is not ordered with stores.
            unsafe {
                core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
                wrmsr(0x800 + (ICR >> 4), u64::from(id) << 32 | u64::from(low));
            }
        } else {
            while read(ICR) & ICR_PENDING != 0 {
                relax();
            }
            write(ICR_HIGH, id << 24);
            write(ICR, low);
        }
    });
}

const FIXED_ASSERT: u32 = 1 << 14;
const NMI: u32 = 4 << 8 | FIXED_ASSERT;

/// Asks another processor to reschedule; it calls `irq::on_reschedule`.
pub fn send_reschedule(cpu: u32) {
    command(id_of(cpu), FIXED_ASSERT | u32::from(RESCHEDULE));
}
/// Makes another processor serve its call queue; it calls `cpu::on_call`.
pub fn send_call(cpu: u32) {
    command(id_of(cpu), FIXED_ASSERT | u32::from(CALL));
}
/// Makes another processor serve translation shoot-downs; it calls `paging::on_shootdown`.
pub fn send_shootdown(cpu: u32) {
    command(id_of(cpu), FIXED_ASSERT | u32::from(SHOOTDOWN));
}
/// Interrupts a processor as a device would.
pub fn send_vector(cpu: u32, vector: u8) {
    command(id_of(cpu), FIXED_ASSERT | u32::from(vector));
}
/// What a device writes to interrupt a processor: fixed delivery, physical destination, edge. (Intel SDM 3A, 11.11.)
pub fn message(cpu: u32, vector: u8) -> Message {
    Message { address: 0xfee0_0000 | u64::from(id_of(cpu)) << 12, data: vector.into() }
}
/// True if this processor has received a vector and not begun to serve it.
pub fn vector_pending(vector: u8) -> bool {
    read(IRR + u32::from(vector / 32) * 0x10) >> (vector % 32) & 1 != 0
}
pub(super) fn send_nmi(cpu: u32) {
    command(id_of(cpu), NMI);
}

/// Lets the timer count down from its highest value without interrupting.
pub(super) fn timer_start_counting() {
    write(LVT_TIMER, MASKED | u32::from(TIMER));
    write(TIMER_INITIAL, u32::MAX);
}
pub(super) fn timer_count() -> u32 {
    read(TIMER_CURRENT)
}
pub(super) fn timer_stop() {
    write(TIMER_INITIAL, 0);
}

/// One-shot timer of this processor, in nanoseconds since boot; `time::on_timer` is called at or after that time.
pub fn set_timer(at_ns: Option<u64>) {
    let at = at_ns.unwrap_or(u64::MAX);
    percpu::set_timer_at(at);
    arm(at);
}

fn arm(at: u64) {
    if at == u64::MAX {
        write(TIMER_INITIAL, 0);
        return;
    }
    write(LVT_TIMER, u32::from(TIMER));
    write(TIMER_INITIAL, clock::apic_ticks(at.saturating_sub(clock::now_ns())));
}

/// The timer's interrupt. The counter may be a little fast, or too short for the whole time: then it goes on.
pub(super) fn on_timer() {
    let at = percpu::timer_at();
    if at == u64::MAX {
        return;
    }
    if clock::now_ns() < at {
        arm(at);
        return;
    }
    percpu::set_timer_at(u64::MAX);
    crate::time::on_timer();
}
