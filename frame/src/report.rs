//! What a person reads when something is wrong: where code is, on this processor and on the others, and what still
//! runs after a panic's report. Usable from any context: nothing here allocates or sleeps on the machine.
//!
//! Linux has the same under the names `dump_stack()`, `trigger_allbutself_cpu_backtrace()`, `kallsyms` and the panic
//! notifier chain.

use alloc::vec::Vec;
use core::panic::PanicInfo;

use crate::{
    arch,
    atomic::{AtomicBool, Ordering},
    context::PreemptGuard,
    cpu::CpuId,
    task::Task,
};

/// Prints where the caller is and how it got there.
pub fn dump_stack() {
    arch::backtrace_here();
}

/// One request at a time: a second one would find the first one's answers.
static ASKING: AtomicBool = AtomicBool::new(false);

/// Makes every other processor print where it is, one after the other, even one with interrupts off. A processor that
/// does not answer within a second is named. `false` if someone else asks just now; then nothing is printed.
pub fn trigger_allbutself_cpu_backtrace() -> bool {
    let _here = PreemptGuard::new();
    if ASKING.swap(true, Ordering::Acquire) {
        return false;
    }
    arch::nmi_backtrace_all();
    ASKING.store(false, Ordering::Release);
    true
}

/// What a processor's registers held.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Registers {
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
    /// rax, rbx, rcx, rdx, rsi, rdi, rbp, and r8 to r15.
    pub general: [u64; 15],
}

impl Registers {
    /// How many numbers they are.
    pub const WORDS: usize = 20;
    /// In one row, for whom a structure does not suit.
    pub fn words(&self) -> [u64; Self::WORDS] {
        let first = [self.rip, self.cs, self.rflags, self.rsp, self.ss];
        core::array::from_fn(|i| if i < 5 { first[i] } else { self.general[i - 5] })
    }
    /// The other way.
    pub fn from_words(w: [u64; Self::WORDS]) -> Registers {
        let general = core::array::from_fn(|i| w[i + 5]);
        Registers { rip: w[0], cs: w[1], rflags: w[2], rsp: w[3], ss: w[4], general }
    }
    /// True if they are a user program's.
    pub fn is_user(&self) -> bool {
        self.cs & 3 != 0
    }
}

/// Where a processor is and how it got there, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// `None` for a task that made the snapshot of itself.
    pub registers: Option<Registers>,
    calls: [u64; DEPTH],
    len: usize,
}

impl Snapshot {
    const EMPTY: Snapshot = Snapshot { registers: None, calls: [0; DEPTH], len: 0 };
    fn push(&mut self, addr: u64) {
        if let Some(c) = self.calls.get_mut(self.len) {
            *c = addr;
            self.len += 1;
        }
    }
    /// The caller's own.
    pub fn here() -> Snapshot {
        let mut s = Self::EMPTY;
        arch::frames_here(|a| s.push(a));
        s
    }
    /// Of the kernel code that the present interrupt came upon on this processor. `None` outside of interrupts, where one came
    /// upon a user program, and hosted.
    pub fn interrupted() -> Option<Snapshot> {
        let _here = PreemptGuard::new();
        let mut s = Self::EMPTY;
        s.registers = Some(arch::interrupted(|a| s.push(a))?);
        Some(s)
    }
    /// Of another processor, even one with interrupts off. `None` if it does not answer within a second, if someone else asks just now,
    /// and hosted.
    pub fn of_cpu(cpu: CpuId) -> Option<Snapshot> {
        let _here = PreemptGuard::new();
        if cpu == crate::cpu::raw_id() || ASKING.swap(true, Ordering::Acquire) {
            return None;
        }
        let mut s = Self::EMPTY;
        s.registers = arch::ask_frames(cpu.get(), |a| s.push(a));
        ASKING.store(false, Ordering::Release);
        s.registers.is_some().then_some(s)
    }
    /// The addresses to which its functions return, innermost first.
    pub fn calls(&self) -> &[u64] {
        &self.calls[..self.len]
    }
}

/// The name of the function at a code address, and the distance from its start. `None` for an address outside of the
/// image, for an image without its table of symbols, and hosted, where backtraces carry their names already.
pub fn symbol(addr: u64) -> Option<(&'static str, u64)> {
    arch::symbol(addr)
}

/// All functions of the image in the order of their addresses: names and addresses.
pub fn symbols() -> impl Iterator<Item = (&'static str, u64)> {
    (0..).map_while(arch::nth_symbol)
}

/// Installs what runs after a panic's report, before the restart or halt that `panic=` asks for. It runs with interrupts
/// off and the other processors stopped, so it must not wait for a lock, sleep or allocate. The first one installed
/// stays; `false` for the others. Hosted, a panic ends the run right after its report: the answer is always `false`.
pub fn install_panic_action(f: fn(&PanicInfo<'_>)) -> bool {
    arch::install_panic_action(f)
}

/// Where a task that does not run will go on: the addresses to which its functions return, innermost first; none for one that
/// runs, and hosted. A look from outside: a task that begins to run meanwhile gives nonsense, which does no harm.
pub fn stack_of(task: &Task) -> Vec<u64> {
    let mut calls = Vec::new();
    let Some(range) = task.stack_range() else { return calls };
    if task.is_on_cpu() || calls.try_reserve_exact(DEPTH).is_err() {
        return calls;
    }
    arch::saved_frames(task.saved_context(), range, |addr| {
        if calls.len() < DEPTH {
            calls.push(addr);
        }
    });
    calls
}

/// Frames shown at most.
pub(crate) const DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_go_through_words() {
        let general = core::array::from_fn(|i| i as u64 + 6);
        let r = Registers { rip: 1, cs: 0x33, rflags: 3, rsp: 4, ss: 5, general };
        assert_eq!(Registers::from_words(r.words()), r);
        assert!(r.is_user());
    }
    #[test]
    fn a_request_leaves_room_for_the_next() {
        assert!(trigger_allbutself_cpu_backtrace());
        assert!(trigger_allbutself_cpu_backtrace());
    }
}
