//! The two back ends. Both export exactly these items, with the same signatures; portable code calls `arch::…`.
//!
//! | item | contract |
//! |---|---|
//! | `cpu_id() -> u32` | index of this processor; stable only while preemption is held off |
//! | `preempt_count() -> u32`, `preempt_add(n)`, `preempt_sub(n)` | this processor's context word |
//! | `need_resched() -> bool`, `set_need_resched(bool)` | this processor's reschedule flag |
//! | `irqs_enabled() -> bool`, `irq_disable()`, `irq_enable()` | the hardware interrupt flag of this processor |
//! | `irq_depth() -> &'static Cell<u32>`-like `irq_depth_add(i32) -> u32`, `irq_was_on() / set_irq_was_on(bool)` | nesting of `IrqGuard` on this processor |
//! | `wait_for_interrupt()` | called with interrupts off: enables them and halts in one step; returns with them on |
//! | `relax()` | inside a spin loop: `pause`; hosted: lets another processor run |
//! | `preempt_point()` | hosted: a seeded chance to run another processor or take an interrupt; machine: nothing |
//! | `current() -> *const Task`, `set_current(*const Task)`, `take_switched_from()/set_switched_from(*const Task)` | per-processor slots that `task` owns |
//! | `Context`, `Context::new(stack_top, entry: extern "C" fn() -> !)`, `Context::empty()` | a saved stack pointer; what `switch` needs |
//! | `unsafe switch(prev: *mut Context, next: *const Context)` | saves callee-saved state to the current stack, continues `next`. Interrupts are off |
//! | `Stack::new(pages) -> Option<Stack>`, `top()`, `range()` | a kernel stack with a guard page below it |
//! | `Fpu` (`new() -> Option<Fpu>`, `unsafe save(&self)`, `unsafe restore(&self)`, `clone_from_live`, `image()`, `frame_len()`, `unsafe to_user(&self, uva) -> bool`, `from_user(&self, uva)`) | FPU, SSE and AVX state of a user task |
//! | `send_reschedule(cpu)`, `send_call(cpu)` | inter-processor interrupts; the receiver calls `irq::on_reschedule()` / `cpu::on_call()` |
//! | `now_ns() -> u64`, `set_timer(Option<u64>)` | monotonic clock since boot; one-shot timer of this processor (absolute ns), which calls `time::on_timer()` |
//! | `phys_to_ptr(u64) -> *mut u8` | where a physical address is readable (the direct map; hosted: the arena) |
//! | `load_page_table(root_pfn: u64)`, `flush_page(va)`, `flush_all()` | this processor's translation root and TLB |
//! | `early_memory() -> &'static [boot::Region]` | the physical memory map before there is a heap: sorted, disjoint, page aligned; only `Usable` ranges are free (image, initrd, page tables and frame 0 are cut out under other kinds). Before the first allocation the back end calls `page::init(early_memory())` (idempotent); hosted: the first call of `early_memory` makes the arena, and a `page::init` in a unit test is safe. The direct map covers every region, `Acpi` and `Reserved` ones too |
//! | `ptr_to_phys(*const u8) -> u64` | inverse of `phys_to_ptr`, for addresses that came from it |
//! | `kernel_root() -> u64` | frame number of the kernel's own top-level table (user half empty), 0 if there is none (hosted). Its entries 256..512 are copied into each `PageTable` and must never change after the first one is made: every slot that will be used points to a table already |
//! | `device_window() -> Range<usize>` | kernel addresses kept free for device mappings; their top-level slots have tables. Empty if there is none (hosted) |
//! | `send_shootdown(cpu)` | inter-processor interrupt of its own; the receiver calls `paging::on_shootdown()` with interrupts off, inside `irq_enter`/`irq_exit` |
//! | `unsafe user_read(dst: *mut u8, uva: usize, len: usize) -> usize` | copies from user memory through the live page table; returns how many bytes were **not** copied. The range is already checked to lie below `user::END`; faults go to `paging::on_fault`; no fix-up needed by the caller |
//! | `unsafe user_write(uva: usize, src: *const u8, len: usize) -> usize`, `user_clear(uva, len) -> usize` | likewise to user memory; not written |
//! | `user_load_u32(uva) -> Result<u32, ()>`, `user_load_u64`, `user_store_u32(uva, v) -> Result<(), ()>`, `user_store_u64` | single aligned accesses, not torn |
//! | `user_cmpxchg_u32(uva, old, new) -> Result<u32, ()>` | atomic; gives what was there |
//! | `run_user(&mut user::Regs, left: impl FnOnce()) -> user::RawTrap` | enters user mode with these registers; returns with what ended it. Interrupts are off on entry, on at return. `left` is called with them still off, before anything else. A hardware interrupt from user mode is served (`irq_enter` … `irq_exit`) before it returns `RawTrap::Interrupt`. `rip`, `rflags` and the bases were made safe by `user::run` |
//! | `console_write(&[u8])` | raw bytes to the first console, polled |
//! | `halt_forever()`, `power_off()`, `reset()` | ends |
//! | `set_kernel_stack(top)` | where traps from user mode start, if the back end needs to be told |
//! | `start_others(entry) -> usize` | starts the other processors |
//! | `start_cpu(cpu, entry) -> bool` | starts one that does not execute, on the boot stack that it had if it ever did; waits for its answer |
//! | `die(dead: impl FnOnce()) -> !` | ends this processor's execution until then; interrupts are off. `dead` is called when nothing follows but the halt |
//! | `hardware_id(cpu) -> u32` | the processor's APIC id |
//! | `line_count() -> u32`, `isa_line(irq) -> u32`, `line_mode(line) -> irq::LineMode` | what the firmware says of device lines |
//! | `route_line(line, cpu, mode, masked) -> Result<(), ()>` | from now on the line interrupts `cpu` at vector `irq::LINE_VECTORS` + line, or nobody; the receiver calls `irq::on_vector` |
//! | `message(cpu, vector) -> irq::Message`, `send_vector(cpu, vector)`, `vector_pending(vector) -> bool` | what a device must write for that; the same from a processor; whether this processor has received it and not served it |
//! | `port_read8(port)`, `port_write8(port, v)`, and 16 and 32 | I/O ports; hosted: those of simulated devices, others float high |
//! | `map_device(pa, len) -> Option<usize>`, `unsafe mmio_read(at, size) -> u64`, `unsafe mmio_write(at, size, v)` | device registers; the address comes from `map_device`, the size is 1, 2, 4 or 8 and divides it |
//! | `acpi_table(signature, n) -> Option<Vec<u8>>` | a copy of the `n`th table of that name |
//! | `hardware_random() -> Option<u64>` | one try at the processor's random numbers |
//! | `ticks() -> u64`, `ticks_to_ns(u64) -> u64` | the cheapest clock, and how long a span of it is |
//! | `wall_clock_at_boot_ns()`, `tsc_hz()`, `cpuid(leaf, sub)` | what the machine is; hosted: constants |
//! | `install_panic_action(fn)`, `backtrace_here()`, `nmi_backtrace_all()`, `symbol(addr)`, `nth_symbol(i)` | what reports need |
//! | `frames_here(show)` | the caller's return addresses, innermost first |
//! | `interrupted(show) -> Option<Registers>` | registers and return addresses of the kernel code that the present interrupt came upon |
//! | `ask_frames(cpu, show) -> Option<Registers>` | the same of another processor, by NMI; one request at a time |
//! | `saved_frames(*const Context, stack, show)` | the return addresses on the stack of a task that does not run |
//! | hosted only: `lone() -> bool` | true on a thread outside of any simulation; there per-processor state is per thread |
//! | hosted only: `note_frames_freed(pfn, order)` | `page` tells; a simulated TLB entry for them must not be used any more |
//!
//! A back end calls up only through the `on_…` functions of the portable modules.

#[cfg(target_os = "none")]
mod x86_64;
#[cfg(target_os = "none")]
pub use x86_64::*;

#[cfg(not(target_os = "none"))]
mod hosted;
#[cfg(not(target_os = "none"))]
pub use hosted::*;
