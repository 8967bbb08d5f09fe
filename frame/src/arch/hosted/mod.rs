//! The hosted back end: an ordinary process in which tasks are fibers and processors are simulated.
//!
//! # Theory
//! All simulated processors share one host thread. A processor that does not run just now is a saved stack pointer, exactly
//! as a task that does not run; both are changed by the same [`switch`]. At every *preemption point* (each atomic access,
//! lock, interrupt-enable, pause) a seeded draw may
//!
//! - let another simulated processor run ([`point`]), which is what makes races happen;
//! - deliver an interrupt to this one, if its simulated interrupt flag is on: the handler runs on the current stack
//!   between `irq_enter` and `irq_exit`, and then the task may be preempted, as on the machine.
//!
//! Between two points nothing else runs, so everything here is plain single-threaded code. The order of events depends
//! on the seed alone: the same seed gives the same run.
//!
//! # Outside a simulation
//! `cargo test` also runs plain unit tests, on many host threads. There each thread is *lone*: it is processor 0 with an
//! interrupt flag and a context word of its own, there are no tasks, no point does anything, and locks work because the
//! atomics under them are real. [`lone`] tells; code with per-processor state of its own must not share it between lone threads.
//!
//! | file | what |
//! |---|---|
//! | [`cpu`] | the state of each simulated processor |
//! | [`point`] | preemption points, interrupts, idling, simulated time |
//! | [`fiber`] | stacks, contexts, `switch` |
//! | [`memory`] | simulated physical memory, boot facts |
//! | [`mmu`] | software page walk and TLB, user copies |
//! | [`usermode`] | user programs |
//! | [`device`] | simulated devices and their interrupts |
//! | [`misc`] | console, ends, FPU image |

pub(crate) mod cpu;
pub(crate) mod device;
pub(crate) mod fiber;
pub(crate) mod memory;
pub(crate) mod misc;
pub(crate) mod mmu;
pub(crate) mod point;
pub(crate) mod usermode;

pub use cpu::{
    cpu_id, current, irq_depth_add, irq_disable, irq_was_on, irqs_enabled, lone, need_resched, preempt_add,
    preempt_count, preempt_sub, set_current, set_irq_was_on, set_kernel_stack, set_need_resched,
    set_switched_from, take_switched_from,
};
pub use device::{
    acpi_table, isa_line, line_count, line_mode, map_device, message, mmio_read, mmio_write, port_read8,
    port_read16, port_read32, port_write8, port_write16, port_write32, route_line, send_vector,
    vector_pending,
};
pub use fiber::{Context, Stack, switch};
pub use memory::{device_window, early_memory, kernel_root, phys_to_ptr, ptr_to_phys};
pub use misc::{
    Fpu, ask_frames, backtrace_here, console_write, cpuid, frames_here, halt_forever, hardware_id,
    hardware_random, install_panic_action, interrupted, nmi_backtrace_all, nth_symbol, power_off, reset,
    saved_frames, symbol, tsc_hz, vdso_code, wall_clock_at_boot_ns,
};
pub use mmu::{
    flush_all, flush_page, load_page_table, note_frames_freed, user_clear, user_cmpxchg_u32, user_load_u32,
    user_load_u64, user_read, user_store_u32, user_store_u64, user_write,
};
pub use point::{
    die, irq_enable, now_ns, preempt_point, relax, send_call, send_reschedule, send_shootdown, set_timer,
    start_cpu, start_others, ticks, ticks_to_ns, wait_for_interrupt,
};
pub use usermode::run_user;
