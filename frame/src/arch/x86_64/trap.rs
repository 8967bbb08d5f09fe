//! Exceptions and interrupts that arrive while the kernel runs, and interrupts from user mode.

use super::{
    apic::{self, CALL, RESCHEDULE, SHOOTDOWN, SPURIOUS, TIMER},
    insn::{cr2, irqs_enabled},
    panic, stack,
};
use crate::{
    context::{self, NMI_OFFSET},
    cpu,
    irq::{self, Internal, note_internal},
    paging,
    report::Registers,
    task,
};

/// The registers of interrupted kernel code, in the order in which `entry.s` pushes them.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) r15: u64,
    pub(super) r14: u64,
    pub(super) r13: u64,
    pub(super) r12: u64,
    pub(super) r11: u64,
    pub(super) r10: u64,
    pub(super) r9: u64,
    pub(super) r8: u64,
    pub(super) rbp: u64,
    pub(super) rdi: u64,
    pub(super) rsi: u64,
    pub(super) rdx: u64,
    pub(super) rcx: u64,
    pub(super) rbx: u64,
    pub(super) rax: u64,
    pub(super) vector: u64,
    pub(super) error: u64,
    pub(super) rip: u64,
    pub(super) cs: u64,
    pub(super) rflags: u64,
    pub(super) rsp: u64,
    pub(super) ss: u64,
}

impl From<&Frame> for Registers {
    fn from(f: &Frame) -> Registers {
        Registers {
            rip: f.rip,
            cs: f.cs,
            rflags: f.rflags,
            rsp: f.rsp,
            ss: f.ss,
            general: [
                f.rax, f.rbx, f.rcx, f.rdx, f.rsi, f.rdi, f.rbp, f.r8, f.r9, f.r10, f.r11, f.r12, f.r13,
                f.r14, f.r15,
            ],
        }
    }
}

/// Which kernel code each processor's present interrupt came upon.
mod interrupted {
    use super::{super::percpu, Frame};
    use crate::{
        atomic::{AtomicUsize, Ordering},
        cpu::MAX_CPUS,
    };

    /// Address of the `Frame`; 0 outside of interrupts, and in one that came upon user code.
    static FRAMES: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

    pub(super) fn enter(f: &Frame) -> usize {
        FRAMES[percpu::cpu_id() as usize].swap(core::ptr::from_ref(f).expose_provenance(), Ordering::Relaxed)
    }
    pub(super) fn leave(outer: usize) {
        FRAMES[percpu::cpu_id() as usize].store(outer, Ordering::Relaxed);
    }
    /// A copy of it. The caller cannot leave this processor, or is in no interrupt.
    pub(super) fn frame() -> Option<Frame> {
        let at = FRAMES[percpu::cpu_id() as usize].load(Ordering::Relaxed);
        // SAFETY: set by `trap_kernel` of this processor for as long as its interrupt is served. Whoever runs here now runs on top
        // of that (nothing is switched to before `leave`), so the frame is still on the stack, and nobody writes it.
        (at != 0).then(|| unsafe { *core::ptr::with_exposed_provenance::<Frame>(at) })
    }
}

/// The registers of the kernel code that this processor's present interrupt came upon.
pub(super) fn interrupted_frame() -> Option<Frame> {
    context::in_interrupt().then(interrupted::frame).flatten()
}

const NMI: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;
const RFLAGS_IF: u64 = 0x200;
const NAMES: [&str; 22] = [
    "divide error",
    "debug exception",
    "NMI",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "no coprocessor",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack-segment fault",
    "general protection fault",
    "page fault",
    "exception 15",
    "x87 floating-point error",
    "alignment check",
    "machine check",
    "SIMD floating-point error",
    "virtualization exception",
    "control protection exception",
];

fn name(vector: u64) -> &'static str {
    NAMES.get(vector as usize).copied().unwrap_or("unknown exception")
}

/// Serves a hardware interrupt. Interrupts are off, before and after.
pub(super) fn interrupt(vector: u8) {
    context::irq_enter();
    match vector {
        TIMER => {
            note_internal(Internal::Timer);
            apic::eoi();
            apic::on_timer();
        }
        RESCHEDULE => {
            note_internal(Internal::Reschedule);
            apic::eoi();
            irq::on_reschedule();
        }
        CALL => {
            note_internal(Internal::Call);
            apic::eoi();
            cpu::on_call();
        }
        SHOOTDOWN => {
            note_internal(Internal::Shootdown);
            apic::eoi();
            paging::on_shootdown();
        }
        SPURIOUS => {}
        v if (irq::LINE_VECTORS..TIMER).contains(&v) => {
            // The handler quiets the device first: a level-triggered line would fire again at once.
            irq::on_vector(v);
            apic::eoi();
        }
        // The masked 8259s' spurious interrupts (vectors 0x27, 0x2f) know no end-of-interrupt.
        _ => {}
    }
    context::irq_exit();
}

/// From `entry.s`, in kernel mode, with interrupts off.
// SAFETY: the name is the entry code's alone, and is defined once.
#[unsafe(no_mangle)]
extern "C" fn trap_kernel(f: &mut Frame) {
    match f.vector {
        PAGE_FAULT => page_fault(f),
        v if v >= 32 => {
            let outer = interrupted::enter(f);
            interrupt(v as u8);
            interrupted::leave(outer);
            if f.rflags & RFLAGS_IF != 0 {
                task::preempt_from_irq();
            }
        }
        v => fatal(f, format_args!("{} in the kernel, error code {:#x}", name(v), f.error)),
    }
    debug_assert!(!irqs_enabled());
}

/// Ends with a panic that shows the interrupted registers.
fn fatal(f: &Frame, what: core::fmt::Arguments<'_>) -> ! {
    panic::note_frame(f);
    panic!("{what}");
}

// SAFETY: the declarations match the labels of the assembly that defines them.
unsafe extern "C" {
    static __ex_table_start: [u64; 2];
    static __ex_table_end: [u64; 2];
}

/// Where to go on after a fault at `rip`, if that instruction touches user memory on purpose.
fn fixup(rip: u64) -> Option<u64> {
    let start = &raw const __ex_table_start;
    let n = ((&raw const __ex_table_end).addr() - start.addr()) / size_of::<[u64; 2]>();
    // SAFETY: the linker gathers the pairs between these two symbols, in read-only memory.
    let table = unsafe { core::slice::from_raw_parts(start, n) };
    table.iter().find(|e| e[0] == rip).map(|e| e[1])
}

fn page_fault(f: &mut Frame) {
    let va = cr2() as usize;
    if let Some(to) = fixup(f.rip)
        && crate::user::range_ok(va, 1)
    {
        if paging::on_fault(va, f.error, false, f.rflags & RFLAGS_IF != 0).is_err() {
            f.rip = to;
        }
        return;
    }
    let access = match f.error {
        e if e & 16 != 0 => "execute",
        e if e & 2 != 0 => "write",
        _ => "read",
    };
    if stack::is_guard(va) {
        fatal(f, format_args!("kernel stack overflow ({access} at {va:#x})"));
    }
    let why = if f.error & 1 != 0 { "protection" } else { "not mapped" };
    fatal(f, format_args!("unable to {access} kernel memory at {va:#x} ({why})"));
}

/// From `entry.s`: NMI, double fault, machine check, on their own stacks, from any state.
// SAFETY: the name is the entry code's alone, and is defined once.
#[unsafe(no_mangle)]
extern "C" fn trap_paranoid(f: &mut Frame) {
    match f.vector {
        NMI => {
            crate::arch::preempt_add(NMI_OFFSET);
            note_internal(Internal::Nmi);
            panic::on_nmi(f);
            crate::arch::preempt_sub(NMI_OFFSET);
        }
        DOUBLE_FAULT => {
            let va = cr2() as usize;
            if stack::is_guard(va) {
                fatal(f, format_args!("kernel stack overflow (at {va:#x})"));
            }
            fatal(f, format_args!("double fault (last fault address {va:#x})"));
        }
        v => fatal(f, format_args!("{}", name(v))),
    }
}
