//! The end of the kernel: says why, where, and what every processor was doing.
//!
//! The first processor that panics prints; the others are stopped one after the other by NMI, each printing its own
//! backtrace. Then the installed action runs, and the `panic=` of the command line decides: a negative number restarts at
//! once, a positive one after that many seconds, zero (the default) halts.
//!
//! Nothing here allocates or takes a lock.

use core::{fmt::Write, panic::PanicInfo};

use super::{
    apic, clock,
    insn::{halt_forever, irq_disable, relax},
    memory::{self, handover},
    percpu, power, symbols,
    trap::{self, Frame},
};
use crate::{
    atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    cpu::{self, CpuId, MAX_CPUS},
    report::{self, Registers},
    sync::once::Once,
};

/// The processor that panics, plus one.
static PANICKING: AtomicU32 = AtomicU32::new(0);
/// The registers to show, if an exception is the cause: address of a `Frame` on the panicking processor's stack.
static FRAME: AtomicUsize = AtomicUsize::new(0);
static STOP: AtomicBool = AtomicBool::new(false);
static ASKED: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
static ACTION: Once<fn(&PanicInfo<'_>)> = Once::new();

/// Installs what runs after a panic's report, before the restart or halt. False if there is one already.
pub fn install_panic_action(f: fn(&PanicInfo<'_>)) -> bool {
    let mut mine = false;
    ACTION.call_once(|| {
        mine = true;
        f
    });
    mine
}

/// A line, so that it reaches the console in one piece.
struct Line {
    buf: [u8; 200],
    len: usize,
}
impl Write for Line {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        let n = s.len().min(self.buf.len() - 1 - self.len);
        self.buf[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}
fn line(a: core::fmt::Arguments<'_>) {
    let mut l = Line { buf: [0; 200], len: 0 };
    let _ = l.write_fmt(a);
    l.buf[l.len] = b'\n';
    crate::console::write(&l.buf[..=l.len]);
}
macro_rules! line {
    ($($t:tt)*) => { line(format_args!($($t)*)) };
}

pub(super) fn note_frame(f: &Frame) {
    FRAME.store(core::ptr::from_ref(f).expose_provenance(), Ordering::Release);
}

fn show_address(addr: u64) {
    match symbols::lookup(addr) {
        Some((name, off)) => line!("  [{addr:#018x}] {name}+{off:#x}"),
        None => line!("  [{addr:#018x}]"),
    }
}

fn show_registers(f: &Frame) {
    line!("rip {:04x}:{:016x} rsp {:04x}:{:016x} rflags {:08x}", f.cs, f.rip, f.ss, f.rsp, f.rflags);
    line!("rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}", f.rax, f.rbx, f.rcx, f.rdx);
    line!("rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}", f.rsi, f.rdi, f.rbp, f.r8);
    line!("r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}", f.r9, f.r10, f.r11, f.r12);
    line!("r13 {:016x} r14 {:016x} r15 {:016x} cr2 {:016x}", f.r13, f.r14, f.r15, super::insn::cr2());
}

/// Frames shown; deeper ones are the idle loop's and boot code's.
const DEPTH: usize = 48;

/// Two words of the stack whose part above `low` is looked at. No kernel stack is larger than 64 KiB.
fn readable(at: u64, low: u64) -> bool {
    at.is_multiple_of(8)
        && at >= low
        && at < low.saturating_add(64 << 10)
        && memory::is_mapped(at as usize)
        && memory::is_mapped(at as usize + 15)
}

/// Prints the chain of frame pointers from `rbp`.
fn backtrace(rbp: u64) {
    walk(rbp, |ret| show_address(ret - 1));
}

/// Walks the chain of frame pointers from `rbp`, and gives the addresses to which functions return. It only climbs.
fn walk(mut rbp: u64, mut show: impl FnMut(u64)) {
    const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;
    let low = rbp;
    for _ in 0..DEPTH {
        if rbp < KERNEL_HALF || !readable(rbp, low) {
            break;
        }
        // SAFETY: mapped kernel memory, read once; a broken chain shows wrong addresses but cannot do harm.
        let [next, ret] =
            unsafe { core::ptr::with_exposed_provenance::<[u64; 2]>(rbp as usize).read_volatile() };
        if ret < KERNEL_HALF {
            break;
        }
        show(ret);
        if next <= rbp {
            break;
        }
        rbp = next;
    }
}

#[inline(always)]
fn frame_pointer() -> u64 {
    let rbp;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    rbp
}

/// Prints where the caller is and how it got there.
pub fn backtrace_here() {
    backtrace(frame_pointer());
}

/// The addresses to which the caller and those who called it return.
pub fn frames_here(show: impl FnMut(u64)) {
    walk(frame_pointer(), show);
}

/// Registers and return addresses of the kernel code that this processor's present interrupt came upon.
pub fn interrupted(show: impl FnMut(u64)) -> Option<Registers> {
    let f = trap::interrupted_frame()?;
    walk(f.rbp, show);
    Some(Registers::from(&f))
}

/// What a processor leaves for the one that asked it by NMI.
struct Answer {
    /// Who is asked, plus one; 0: nobody.
    wanted: AtomicU32,
    registers: [AtomicU64; Registers::WORDS],
    calls: [AtomicU64; report::DEPTH],
    len: AtomicUsize,
}

static ANSWER: Answer = Answer {
    wanted: AtomicU32::new(0),
    registers: [const { AtomicU64::new(0) }; Registers::WORDS],
    calls: [const { AtomicU64::new(0) }; report::DEPTH],
    len: AtomicUsize::new(0),
};

impl Answer {
    fn give(&self, f: &Frame) {
        for (to, v) in self.registers.iter().zip(Registers::from(f).words()) {
            to.store(v, Ordering::Relaxed);
        }
        let mut n = 0;
        if f.cs & 3 == 0 {
            walk(f.rbp, |ret| {
                if let Some(c) = self.calls.get(n) {
                    c.store(ret, Ordering::Relaxed);
                    n += 1;
                }
            });
        }
        self.len.store(n, Ordering::Relaxed);
    }
}

/// Asks another processor by NMI for its registers and return addresses. `None` if it does not answer within a second. One request at a
/// time.
pub fn ask_frames(cpu: u32, mut show: impl FnMut(u64)) -> Option<Registers> {
    ANSWER.wanted.store(cpu + 1, Ordering::Relaxed);
    let answered = send_and_wait(CpuId::new(cpu)?);
    ANSWER.wanted.store(0, Ordering::Relaxed);
    if !answered {
        return None;
    }
    let len = ANSWER.len.load(Ordering::Relaxed).min(report::DEPTH);
    ANSWER.calls[..len].iter().for_each(|c| show(c.load(Ordering::Relaxed)));
    Some(Registers::from_words(core::array::from_fn(|i| ANSWER.registers[i].load(Ordering::Relaxed))))
}

/// An NMI that someone asked for, or one from the hardware.
pub(super) fn on_nmi(f: &Frame) {
    let me = percpu::cpu_id() as usize;
    if !ASKED[me].load(Ordering::Acquire) {
        line!("NMI received for unknown reason on CPU {me}");
        return;
    }
    let stop = STOP.load(Ordering::Acquire);
    if !stop && ANSWER.wanted.load(Ordering::Relaxed) == me as u32 + 1 {
        ANSWER.give(f);
    } else if f.cs & 3 != 0 {
        line!("CPU {me}: in user mode at {:#x}", f.rip);
    } else {
        line!("CPU {me}:");
        show_address(f.rip);
        backtrace(f.rbp);
    }
    ASKED[me].store(false, Ordering::Release);
    if stop {
        halt_forever();
    }
}

/// How long a processor may take to answer.
const PATIENCE_NS: u64 = 1_000_000_000;

fn ask(cpu: CpuId) {
    if !send_and_wait(cpu) {
        line!("CPU {cpu}: no answer");
    }
}

/// False if there was no answer.
fn send_and_wait(cpu: CpuId) -> bool {
    ASKED[cpu.index()].store(true, Ordering::Release);
    apic::send_nmi(cpu.get());
    let end = clock::now_ns() + PATIENCE_NS;
    while ASKED[cpu.index()].load(Ordering::Acquire) {
        if clock::now_ns() > end {
            return false;
        }
        relax();
    }
    true
}

/// Makes every other processor print its backtrace, one after the other.
pub fn nmi_backtrace_all() {
    let me = percpu::cpu_id();
    for cpu in cpu::online().iter().filter(|c| c.get() != me) {
        ask(cpu);
    }
}

/// The `panic=` of the command line, in seconds; the last one counts.
fn panic_timeout() -> i64 {
    let h = handover();
    h.cmdline[..h.cmdline_len]
        .split(|&b| b == b' ')
        .filter_map(|w| core::str::from_utf8(w.strip_prefix(b"panic=")?).ok()?.parse().ok())
        .next_back()
        .unwrap_or(0)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    irq_disable();
    let me = percpu::cpu_id();
    match PANICKING.compare_exchange(0, me + 1, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(p) if p == me + 1 => {
            line!("panic while panicking: {}", info.message());
            end();
        }
        // Another processor panics already; its NMI will come.
        Err(_) => halt_forever(),
    }
    line!("Kernel panic - not syncing: {}", info.message());
    if let Some(l) = info.location() {
        line!("CPU {me}, at {}:{}:{}", l.file(), l.line(), l.column());
    }
    let frame = FRAME.load(Ordering::Acquire);
    if frame != 0 {
        // SAFETY: set by this processor (or one that panics no more) right before it panicked; that stack still exists.
        let f = unsafe { *core::ptr::with_exposed_provenance::<Frame>(frame) };
        show_registers(&f);
        line!("Call trace:");
        show_address(f.rip);
        backtrace(f.rbp);
    } else {
        line!("Call trace:");
        backtrace(frame_pointer());
    }
    STOP.store(true, Ordering::Release);
    nmi_backtrace_all();
    if let Some(f) = ACTION.get() {
        f(info);
    }
    line!("---[ end Kernel panic - not syncing: {} ]---", info.message());
    end()
}

/// What `panic=` asks for.
fn end() -> ! {
    let secs = panic_timeout();
    if secs != 0 {
        let end = clock::now_ns().saturating_add(secs.max(0) as u64 * 1_000_000_000);
        while clock::now_ns() < end {
            relax();
        }
        power::reset();
    }
    halt_forever()
}
