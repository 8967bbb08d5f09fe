//! The loop between user mode and the kernel, one per user thread.
//!
//! ```text
//!   run ──▶ system call: dispatch; if it was interrupted or there is work: signals
//!       ──▶ fault or exception: the signal for it
//!       ──▶ interrupt: there is work
//! ```
//! The path of a system call without work is the shortest there is: one test of the result, one of the work word.

use frame::{
    sync::once::Once,
    task::{Current, Work},
    user::{self, Regs, Trap},
};
use linux_raw_sys::general as uapi;

use crate::{
    process::current,
    signal::{
        self, SigInfo, deliver,
        set::{BUS, FPE, ILL, SEGV, Signo, TRAP},
    },
    trace,
};

/// Serves one system call: takes the arguments from the registers, gives what `rax` is to be, errors as negative numbers.
pub type Handler = fn(&mut Regs) -> u64;

static CALLS: Once<&'static [Handler]> = Once::new();
static NOTIFY: Once<fn()> = Once::new();

/// Installs the system-call table, by number. What lies beyond its end is `ENOSYS`.
pub fn install_calls(table: &'static [Handler]) {
    CALLS.call_once(|| table);
}
/// Installs who serves `Work::NOTIFY` (the freezer).
pub fn install_notify(f: fn()) {
    NOTIFY.call_once(|| f);
}

const ENOSYS: u64 = -(base::Errno::ENOSYS.code() as i64) as u64;

/// `ERESTARTSYS` to `ERESTART_RESTARTBLOCK`, as results.
const RESTART: core::ops::RangeInclusive<u64> = (-516i64) as u64..=(-512i64) as u64;

/// Runs the program of the running thread until it ends.
pub fn run(mut regs: Regs) -> ! {
    let task = frame::task::current();
    let calls = CALLS.get().copied().unwrap_or(&[]);
    loop {
        let trap = user::run(&mut regs);
        match trap {
            Trap::Syscall => {
                regs.orig_rax = regs.rax;
                base::trace!(trace::sys_enter {
                    id: i64::from(regs.rax as i32),
                    args: [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9],
                });
                // As Linux, by the low half of `rax` only.
                regs.rax = match calls.get(regs.rax as u32 as usize) {
                    Some(serve) => serve(&mut regs),
                    None => ENOSYS,
                };
                base::trace!(trace::sys_exit { id: i64::from(regs.orig_rax as i32), ret: regs.rax as i64 });
                if !task.work().is_empty() || RESTART.contains(&regs.rax) {
                    work(&task, &mut regs, true);
                }
                regs.orig_rax = !0;
            }
            Trap::Interrupt => work(&task, &mut regs, false),
            Trap::Fault { va, why, .. } => fault(va, why),
            Trap::Exception { vector, .. } => exception(&regs, vector),
        }
        if cfg!(debug_assertions) {
            frame::sync::lockdep::assert_none_held("return to user mode");
        }
    }
}

/// `in_call`: a system call's result is in `rax`, unless `sigreturn` put another program's there.
#[cold]
fn work(task: &Current, regs: &mut Regs, in_call: bool) {
    let in_call = in_call && regs.orig_rax != !0;
    let w = task.work();
    if w.contains(Work::NOTIFY) {
        task.clear_work(Work::NOTIFY);
        if let Some(f) = NOTIFY.get() {
            f();
        }
    }
    deliver::signals(task, regs, in_call);
}

#[cold]
fn fault(va: usize, why: frame::paging::Fault) {
    use frame::paging::Fault;
    let (sig, code) = match why {
        Fault::SegvMaperr => (SEGV, uapi::SEGV_MAPERR),
        Fault::SegvAccerr => (SEGV, uapi::SEGV_ACCERR),
        Fault::Bus => (BUS, uapi::BUS_ADRERR),
        Fault::OutOfMemory => {
            // Either this program was chosen to end, and its work word says so, or the access is tried again.
            if !deliver::fatal_pending(&current()) {
                sched::yield_now();
            }
            return;
        }
    };
    signal::force(SigInfo::fault(sig, code, va as u64));
}

/// Which signal an exception is, and its code; 0: the kernel's word (`SI_KERNEL`), without an address.
fn signal_for(vector: u8) -> (Signo, u32) {
    match vector {
        0 => (FPE, uapi::FPE_INTDIV),
        1 => (TRAP, uapi::TRAP_TRACE),
        3 => (TRAP, 0),
        6 => (ILL, uapi::ILL_ILLOPN),
        11 | 12 => (BUS, 0),
        16 | 19 => (FPE, uapi::FPE_FLTINV),
        17 => (BUS, uapi::BUS_ADRALN),
        _ => (SEGV, 0),
    }
}

#[cold]
fn exception(regs: &Regs, vector: u8) {
    let (sig, code) = signal_for(vector);
    signal::force(if code == 0 { SigInfo::kernel(sig) } else { SigInfo::fault(sig, code, regs.rip) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_become_linux_s_signals() {
        assert_eq!(signal_for(0), (8, 1));
        assert_eq!(signal_for(6), (4, 2));
        assert_eq!(signal_for(13), (11, 0));
        assert_eq!(signal_for(17), (7, 1));
    }
    #[test]
    fn restart_codes_are_a_range() {
        assert!(RESTART.contains(&(-512i64 as u64)) && RESTART.contains(&(-516i64 as u64)));
        assert!(
            !RESTART.contains(&(-4i64 as u64))
                && !RESTART.contains(&0)
                && !RESTART.contains(&(-517i64 as u64))
        );
    }
}
