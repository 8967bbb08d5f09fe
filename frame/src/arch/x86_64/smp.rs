//! Starting the other processors: INIT, a pause, then one start-up message at a time, each with its own block and stacks.

use alloc::boxed::Box;

use super::{
    Stack, acpi, apic, clock, cpu,
    desc::{self, IST_DOUBLE_FAULT, IST_MACHINE_CHECK, IST_NMI},
    insn::relax,
    memory::{handover, kernel_root, phys_to_ptr},
    percpu::PerCpu,
};
use crate::{
    atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering},
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

/// Assigns numbers: the boot processor is 0, the others follow in the firmware's order, those that are not plugged in last. How
/// many there can be, and how many there are.
pub(super) fn number_processors() -> (usize, usize) {
    let p = acpi::platform();
    let boot = apic::id();
    let (mut n, mut present) = (1, 1);
    for (at, &id) in p.apic_ids[..p.cpus].iter().enumerate().filter(|(_, id)| **id != boot) {
        if n < MAX_CPUS {
            apic::set_id_of(n as u32, id);
            n += 1;
            present += usize::from(at < p.enabled);
        }
    }
    (n, present)
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

/// Block and boot stack (its top) of each processor that was ever started.
static BLOCKS: [AtomicPtr<PerCpu>; MAX_CPUS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];
static TOPS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// The processor's block and stack: those that it had, or new ones.
fn block_of(cpu: u32) -> Option<(*mut PerCpu, usize)> {
    let slot = cpu as usize;
    if BLOCKS[slot].load(Ordering::Acquire).is_null() {
        let (block, top) = new_processor(cpu)?;
        TOPS[slot].store(top, Ordering::Relaxed);
        BLOCKS[slot].store(block, Ordering::Release);
    }
    Some((BLOCKS[slot].load(Ordering::Acquire), TOPS[slot].load(Ordering::Relaxed)))
}

/// Puts the trampoline in its place; the address of its slots.
fn copy_trampoline() -> u64 {
    let code = &raw const trampoline_start;
    let len = (&raw const trampoline_end).addr() - code.addr();
    // SAFETY: page 8 was kept out of the memory map for this.
    unsafe { core::ptr::copy_nonoverlapping(code, phys_to_ptr(TRAMPOLINE), len) };
    TRAMPOLINE + ((&raw const trampoline_slots).addr() - code.addr()) as u64
}

/// Sends the start-up message to a processor that has had its INIT. False if it does not answer.
fn start_up(cpu: u32, slots: u64) -> bool {
    let Some((block, top)) = block_of(cpu) else { return false };
    STARTED.store(0, Ordering::Release);
    // SAFETY: the slots lie in the copied trampoline, which no processor runs now: each is waited for, and one that did not
    // answer is given up after seconds.
    unsafe {
        let w = phys_to_ptr(slots).cast::<u64>();
        w.write_volatile((&raw const boot_pml4_phys).read());
        w.add(1).write_volatile(kernel_root() * 4096);
        w.add(2).write_volatile(top as u64);
        w.add(3).write_volatile(block as u64);
    }
    let answered = || STARTED.load(Ordering::Acquire) == cpu;
    let end = clock::now_ns() + PATIENCE_NS;
    // A second message is harmless to a processor that runs already.
    while clock::now_ns() < end {
        apic::command(apic::id_of(cpu), STARTUP);
        if wait_until(100_000_000, answered) {
            return true;
        }
    }
    answered()
}

/// Brings up the other processors; each runs `entry` on its own boot stack with interrupts off. How many answered.
pub fn start_others(entry: fn(CpuId) -> !) -> usize {
    let n = (crate::cpu::present().count() as usize).min(allowed()) as u32;
    if n < 2 {
        return 0;
    }
    ENTRY.store(entry as usize, Ordering::Release);
    let slots = copy_trampoline();
    for cpu in 1..n {
        apic::command(apic::id_of(cpu), INIT);
    }
    wait_until(10_000_000, || false);
    (1..n).take_while(|&cpu| start_up(cpu, slots)).count()
}

/// Between INIT and start-up message: the 10 ms of the manual are for processors of the last century.
const INIT_PAUSE_NS: u64 = 200_000;

/// Starts one processor that does not execute. False if it does not answer. One at a time.
pub fn start_cpu(cpu: u32, entry: fn(CpuId) -> !) -> bool {
    ENTRY.store(entry as usize, Ordering::Release);
    let slots = copy_trampoline();
    apic::command(apic::id_of(cpu), INIT);
    wait_until(INIT_PAUSE_NS, || false);
    start_up(cpu, slots)
}

/// Halts for good: only INIT brings this processor back, and then nothing of what it does here counts.
pub fn die(dead: impl FnOnce()) -> ! {
    dead();
    loop {
        // SAFETY: with interrupts off nothing but a non-maskable interrupt ends the halt, and the loop goes on.
        unsafe { core::arch::asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Where another processor enters Rust.
///
/// # Safety
/// Called by the start-up code alone, on the processor's own stack and the final tables; `block` is what `new_processor` made for it.
// SAFETY: the name is the start-up code's alone, and is defined once.
#[unsafe(no_mangle)]
unsafe extern "C" fn ap_start(block: *mut PerCpu) -> ! {
    // SAFETY: the block was made for this processor by `new_processor`, and nobody else uses it while the processor starts.
    unsafe {
        (*block).reset();
        desc::load(block);
    }
    desc::load_idt();
    cpu::enable();
    apic::init();
    let id = super::percpu::cpu_id();
    STARTED.store(id, Ordering::Release);
    // SAFETY: stored by `start_others` or `start_cpu` from a value of this type.
    let entry = unsafe { core::mem::transmute::<usize, fn(CpuId) -> !>(ENTRY.load(Ordering::Acquire)) };
    entry(CpuId::new_unchecked(id))
}
