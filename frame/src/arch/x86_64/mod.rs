//! The machine: x86-64 under QEMU or another hypervisor, entered through PVH.
//!
//! | file | what |
//! |---|---|
//! | `boot.s`, `memory`, `start_info` | from the loader to the final page tables |
//! | `percpu`, `insn` | this processor: its block behind GS, its instructions |
//! | `cpu`, `desc` | features and control registers; segments, TSS, interrupt table |
//! | `entry.s`, `trap`, `user` | traps, system calls, user mode, access to user memory |
//! | `switch`, `stack`, `fpu` | what a task's execution consists of |
//! | `acpi`, `apic`, `ioapic`, `smp` | the platform: processors, interrupts |
//! | `clock`, `serial`, `power` | time, first console, ends |
//! | `vdso.s`, `vdso` | the clock for user mode |
//! | `panic`, `symbols` | last words |
//!
//! # Order at boot
//! `boot.s` → [`start`]: processor block and interrupt table (from here a fault is reported), memory, ACPI, interrupt
//! controllers, clock, page frames and heap, boot facts → the kernel's `main`, with interrupts off.

use alloc::{string::String, vec::Vec};
use core::cell::UnsafeCell;

mod acpi;
mod apic;
mod asm;
mod clock;
mod cpu;
mod desc;
mod fpu;
mod insn;
mod ioapic;
mod memory;
mod panic;
mod percpu;
mod power;
mod serial;
mod smp;
mod stack;
mod start_info;
mod switch;
mod symbols;
mod trap;
mod user;
mod vdso;

pub use acpi::acpi_table;
pub use apic::{
    hardware_id, message, send_call, send_reschedule, send_shootdown, send_vector, set_timer, vector_pending,
};
pub use clock::{now_ns, ticks, ticks_to_ns, tsc_hz, wall_clock_at_boot_ns};
pub use cpu::{cpuid, hardware_random};
pub use fpu::Fpu;
pub use insn::{
    halt_forever, irq_disable, irq_enable, irqs_enabled, mmio_read, mmio_write, port_read8, port_read16,
    port_read32, port_write8, port_write16, port_write32, preempt_point, relax, wait_for_interrupt,
};
pub use ioapic::{isa_line, line_count, line_mode, route_line};
pub use memory::{
    device_window, early_memory, flush_all, flush_page, kernel_root, load_page_table, map_device,
    phys_to_ptr, ptr_to_phys,
};
pub use panic::{
    ask_frames, backtrace_here, frames_here, install_panic_action, interrupted, nmi_backtrace_all,
};
pub use percpu::{
    cpu_id, current, irq_depth_add, irq_was_on, need_resched, preempt_add, preempt_count, preempt_sub,
    set_current, set_irq_was_on, set_need_resched, set_switched_from, take_switched_from,
};
pub use power::{power_off, reset};
pub use serial::console_write;
pub use smp::{die, start_cpu, start_others};
pub use stack::Stack;
pub use switch::{Context, saved_frames, set_kernel_stack, switch};
pub use symbols::{lookup as symbol, nth as nth_symbol};
pub use user::{
    run_user, user_clear, user_cmpxchg_u32, user_load_u32, user_load_u64, user_read, user_store_u32,
    user_store_u64, user_write,
};
pub use vdso::vdso_code;

use percpu::PerCpu;

struct BootCpu(UnsafeCell<PerCpu>);
// SAFETY: used only by the boot processor, through GS.
unsafe impl Sync for BootCpu {}
static BOOT_CPU: BootCpu = BootCpu(UnsafeCell::new(PerCpu::new(0)));

#[repr(C, align(4096))]
struct Emergency(UnsafeCell<[[u8; 8192]; 3]>);
// SAFETY: the processor alone uses them, as stacks.
unsafe impl Sync for Emergency {}
static EMERGENCY: Emergency = Emergency(UnsafeCell::new([[0; 8192]; 3]));

// SAFETY: `kernel_entry!` is the only place that defines it, with this type.
unsafe extern "Rust" {
    fn __nightshift_main() -> !;
}

/// Where `boot.s` enters Rust.
///
/// # Safety
/// Called once, by the boot processor: long mode, the boot tables, the boot stack, interrupts off.
// SAFETY: the name is the entry code's alone, and is defined once.
#[unsafe(no_mangle)]
unsafe extern "C" fn rust_start(start_info: u64) -> ! {
    let cpu = BOOT_CPU.0.get();
    let stacks = EMERGENCY.0.get().expose_provenance();
    // SAFETY: once, first of all, on the boot processor; the block and the stacks are its own.
    unsafe {
        smp::set_emergency_stacks(cpu, [stacks + 8192, stacks + 2 * 8192, stacks + 3 * 8192]);
        desc::load(cpu);
    }
    desc::load_idt();
    clock::start();
    serial::init();
    cpu::enable();
    // SAFETY: once, on the boot tables.
    unsafe { memory::init(start_info) };
    apic::init();
    ioapic::init();
    let (possible, present) = smp::number_processors();
    crate::cpu::set_possible(possible, present);
    clock::calibrate();
    clock::read_wall_clock();
    crate::page::init(early_memory());
    publish_boot_facts();
    // SAFETY: `kernel_entry!` defines it with this type.
    unsafe { __nightshift_main() }
}

fn publish_boot_facts() {
    let h = memory::handover();
    crate::boot::INFO.call_once(|| crate::boot::BootInfo {
        command_line: String::from_utf8_lossy(&h.cmdline[..h.cmdline_len]).into_owned(),
        memory: Vec::from(early_memory()),
        initrd: h.initrd.map(|(a, b)| a..b),
    });
}
