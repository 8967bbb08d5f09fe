//! Starting the other processors: INIT, a pause, then one start-up message at a time, each with its own block and stacks.

use alloc::boxed::Box;

use super::{
    Stack, acpi, apic, clock, cpu,
    desc::{self, IST_DOUBLE_FAULT, IST_MACHINE_CHECK, IST_NMI},
    insn::{relax, without_interrupts},
    memory::{handover, kernel_root, phys_to_ptr},
    percpu::PerCpu,
};
use crate::{
    atomic::{AtomicU32, AtomicUsize, Ordering},
    cpu::{CpuId, MAX_CPUS},
};

/// Where the trampoline runs; the start-up vector is this divided by 4096.
const TRAMPOLINE: u64 = 0x8000;
const INIT: u32 = 0x4500;
const STARTUP: u32 = 0x4600 | (TRAMPOLINE >> 12) as u32;
/// A virtual processor is a thread of the host, which may schedule it late: only after this long is it given up.
const PATIENCE_NS: u64 = 10_000_000_000;

// SAFETY: the declarations match the labels of the start-up code.
unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
    static trampoline_slots: u8;
    static boot_pml4_phys: u64;
}

/// The processor that started last.
static STARTED: AtomicU32 = AtomicU32::new(0);
/// What they all run (a `fn(CpuId) -> !`).
static ENTRY: AtomicUsize = AtomicUsize::new(0);

/// Assigns numbers: the boot processor is 0, the others follow in the firmware's order. How many there are.
pub(super) fn number_processors() -> usize {
    let p = acpi::platform();
    let boot = apic::id();
    let mut n = 1;
    for &id in p.apic_ids[..p.cpus].iter().filter(|&&id| id != boot) {
        if n < MAX_CPUS {
            apic::set_id_of(n as u32, id);
            n += 1;
        }
    }
    n
}

/// Gives a processor block its emergency stacks. The word above the frame tells `entry.s` which processor it is on.
///
/// # Safety
/// The tops are those of stacks that live for ever and serve nothing else; `cpu` is not running on them.
pub(super) unsafe fn set_emergency_stacks(cpu: *mut PerCpu, tops: [usize; 3]) {
    for (ist, top) in [IST_DOUBLE_FAULT, IST_NMI, IST_MACHINE_CHECK].into_iter().zip(tops) {
        let at = top - 16;
        // SAFETY: the caller's promise; 16 keeps the alignment.
        unsafe {
            core::ptr::with_exposed_provenance_mut::<u64>(at).write(cpu as u64);
            (&raw mut (*cpu).tss.ist[usize::from(ist) - 1]).write_unaligned(at as u64);
        }
    }
}

/// Pages of a boot stack (which becomes the idle task's) and of an emergency stack.
const STACK_PAGES: usize = 4;
const EMERGENCY_PAGES: usize = 2;

fn new_processor(id: u32) -> Option<(*mut PerCpu, usize)> {
    let cpu = Box::into_raw(crate::heap::try_box(PerCpu::new(id))?);
    let mut tops = [0; 3];
    for t in &mut tops {
        let s = Stack::new(EMERGENCY_PAGES)?;
        *t = s.top();
        core::mem::forget(s);
    }
    let stack = Stack::new(STACK_PAGES)?;
    let top = stack.top();
    core::mem::forget(stack);
    // SAFETY: all new, and leaked.
    unsafe { set_emergency_stacks(cpu, tops) };
    Some((cpu, top))
}

fn wait_until(ns: u64, done: impl Fn() -> bool) -> bool {
    let end = clock::now_ns() + ns;
    while !done() {
        if clock::now_ns() > end {
            return false;
        }
        relax();
    }
    true
}

/// The processors that the command line allows (`maxcpus=N`, `nosmp`).
fn allowed() -> usize {
    let h = handover();
    let words = || h.cmdline[..h.cmdline_len].split(|&b| b == b' ');
    if words().any(|w| w == b"nosmp") {
        return 1;
    }
    words()
        .filter_map(|w| core::str::from_utf8(w.strip_prefix(b"maxcpus=")?).ok()?.parse::<usize>().ok())
        .next_back()
        .map_or(MAX_CPUS, |n| n.max(1))
}

/// Brings up the other processors; each runs `entry` on its own boot stack with interrupts off. How many answered.
pub fn start_others(entry: fn(CpuId) -> !) -> usize {
    let n = crate::cpu::possible().min(allowed()) as u32;
    if n < 2 {
        return 0;
    }
    ENTRY.store(entry as usize, Ordering::Release);
    let code = &raw const trampoline_start;
    let len = (&raw const trampoline_end).addr() - code.addr();
    let slots = TRAMPOLINE + ((&raw const trampoline_slots).addr() - code.addr()) as u64;
    // SAFETY: page 8 was kept out of the memory map for this.
    unsafe { core::ptr::copy_nonoverlapping(code, phys_to_ptr(TRAMPOLINE), len) };
    for cpu in 1..n {
        apic::command(apic::id_of(cpu), INIT);
    }
    wait_until(10_000_000, || false);
    let mut up = 0;
    for cpu in 1..n {
        let Some((block, top)) = new_processor(cpu) else { break };
        // SAFETY: the slots lie in the copied trampoline, which no processor runs now: each is waited for, and one that
        // did not answer ends the loop.
        unsafe {
            let w = phys_to_ptr(slots).cast::<u64>();
            w.write_volatile((&raw const boot_pml4_phys).read());
            w.add(1).write_volatile(kernel_root() * 4096);
            w.add(2).write_volatile(top as u64);
            w.add(3).write_volatile(block as u64);
        }
        let answered = || STARTED.load(Ordering::Acquire) == cpu;
        without_interrupts(|| apic::command(apic::id_of(cpu), STARTUP));
        // A second message is harmless to a processor that runs already.
        if !wait_until(100_000_000, answered) {
            apic::command(apic::id_of(cpu), STARTUP);
        }
        if !wait_until(PATIENCE_NS, answered) {
            break;
        }
        up += 1;
    }
    up
}

/// Where another processor enters Rust, on its own stack and the final tables.
// SAFETY: the name is the start-up code's alone, and is defined once.
#[unsafe(no_mangle)]
unsafe extern "C" fn ap_start(block: *mut PerCpu) -> ! {
    // SAFETY: the block was made for this processor by `new_processor`.
    unsafe { desc::load(block) };
    desc::load_idt();
    cpu::enable();
    apic::init();
    let id = super::percpu::cpu_id();
    STARTED.store(id, Ordering::Release);
    // SAFETY: stored by `start_others` from a value of this type.
    let entry = unsafe { core::mem::transmute::<usize, fn(CpuId) -> !>(ENTRY.load(Ordering::Acquire)) };
    entry(CpuId::new_unchecked(id))
}
