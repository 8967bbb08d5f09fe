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

/// The name of the function at a code address, and the distance from its start. `None` for an address outside of the
/// image, for an image without its table of symbols, and hosted, where backtraces carry their names already.
pub fn symbol(addr: u64) -> Option<(&'static str, u64)> {
    arch::symbol(addr)
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
const DEPTH: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_leaves_room_for_the_next() {
        assert!(trigger_allbutself_cpu_backtrace());
        assert!(trigger_allbutself_cpu_backtrace());
    }
}
