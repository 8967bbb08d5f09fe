//! Faults on request, to try what is to notice them: `/sys/kernel/debug/provoke-crash/DIRECT`, Linux's LKDTM.
//!
//! Reading lists the kinds; writing one does it, at once, in the task that writes. Only those are there that this kernel can truly
//! have. It does not go on after a `BUG` (Linux kills the task, unless `panic_on_oops` is set): the machine ends by a panic.
//! Other crash points than `DIRECT` need kprobes, which there are none.
//!
//! Documented: Linux `Documentation/fault-injection/provoke-crashes.rst`.

use core::hint::black_box;

use base::{Errno, Result, pr_info, tree};
use frame::{
    atomic::{
        AtomicBool, AtomicU32,
        Ordering::{Acquire, Relaxed},
    },
    context::{IrqGuard, PreemptGuard},
    cpu,
    sync::WaitQueue,
};

type Crash = (&'static str, fn());

/// In the order in which they are listed.
static CRASHES: [Crash; 10] = [
    ("PANIC", panic_now),
    ("BUG", bug),
    ("WARNING", warning),
    ("WARNING_MESSAGE", warning_message),
    ("LOOP", endless_loop),
    ("EXHAUST_STACK", exhaust_stack),
    ("SOFTLOCKUP", soft_lockup),
    ("HARDLOCKUP", hard_lockup),
    ("SPINLOCKUP", spin_lockup),
    ("HUNG_TASK", hung_task),
];

fn panic_now() {
    panic!("dumptest");
}
fn bug() {
    panic!("kernel BUG at {}:{}!", file!(), line!());
}
#[inline(never)]
fn warning() {
    sched::report::warn(None);
}
#[inline(never)]
fn warning_message() {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let n = COUNT.fetch_add(1, Relaxed);
    sched::report::warn(Some(format_args!("Warning message trigger count: {n}")));
}
/// It can be preempted, so that only this task is lost.
#[inline(never)]
fn endless_loop() {
    loop {
        cpu::relax();
    }
}
/// Runs into the page below the stack.
#[inline(never)]
fn exhaust_stack() {
    const PAGE: usize = 512;
    #[expect(unconditional_recursion, reason = "that is the fault")]
    fn deeper(n: usize) -> usize {
        let page = black_box([n; PAGE]);
        page[n % PAGE].wrapping_add(deeper(black_box(n + 1))).wrapping_add(black_box(page)[0])
    }
    black_box(deeper(0));
}
#[inline(never)]
fn soft_lockup() {
    let _here = PreemptGuard::new();
    endless_loop();
}
#[inline(never)]
fn hard_lockup() {
    let _off = IrqGuard::new();
    endless_loop();
}
/// The first call takes the lock and keeps it, the second waits for it.
#[inline(never)]
fn spin_lockup() {
    static LOCKED: AtomicBool = AtomicBool::new(false);
    let _here = PreemptGuard::new();
    while LOCKED.swap(true, Acquire) {
        cpu::relax();
    }
}
/// Sleeps where no signal reaches it, for an event that never comes.
#[inline(never)]
fn hung_task() {
    static NOTHING: WaitQueue = WaitQueue::new();
    NOTHING.wait(|| None::<()>);
}

fn find(text: &[u8]) -> Result<&'static Crash> {
    let name = text.trim_ascii();
    CRASHES.iter().find(|(n, _)| n.as_bytes() == name).ok_or(Errno::EINVAL)
}

/// Declares the file.
pub(crate) fn init() -> Result<()> {
    tree::debug().knob(
        "provoke-crash/DIRECT",
        0o644,
        |o| {
            writeln!(o, "Available crash types:")?;
            CRASHES.iter().try_for_each(|(n, _)| Ok(writeln!(o, "{n}")?))
        },
        |b| {
            let (name, crash) = find(b)?;
            pr_info!("lkdtm: Performing direct entry {name}");
            crash();
            Ok(())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_whole() {
        assert_eq!(find(b"SOFTLOCKUP\n").map(|c| c.0), Ok("SOFTLOCKUP"));
        for b in [&b""[..], b"SOFT", b"SOFTLOCKUP HARDLOCKUP", b"softlockup"] {
            assert_eq!(find(b).err(), Some(Errno::EINVAL));
        }
    }
}
