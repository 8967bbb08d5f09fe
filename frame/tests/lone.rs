//! Outside of any simulation: plain threads of `cargo test` may use frame's primitives.

use frame::{
    arch, context,
    context::{IrqGuard, PreemptGuard},
    sync::{LockClass, SpinLock, SpinLockIrq},
};

static CLASS: LockClass = LockClass::new("lone");
static PLAIN: SpinLock<u64> = SpinLock::new(&CLASS, 0);
static IRQ: SpinLockIrq<u64> = SpinLockIrq::new(&CLASS, 0);

#[test]
fn locks_work_between_threads() {
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for _ in 0..1000 {
                    *PLAIN.lock() += 1;
                    *IRQ.lock() += 1;
                }
            });
        }
    });
    assert_eq!((*PLAIN.lock(), *IRQ.lock()), (4000, 4000));
}

#[test]
fn each_thread_has_its_own_context() {
    assert!(arch::lone() && arch::irqs_enabled() && context::word() == 0);
    let a = PreemptGuard::new();
    let b = IrqGuard::new();
    assert!(!arch::irqs_enabled() && context::word() == 1);
    std::thread::scope(|s| {
        s.spawn(|| assert!(arch::irqs_enabled() && context::word() == 0));
    });
    drop(a);
    drop(b);
    assert!(arch::irqs_enabled() && context::word() == 0);
}

#[test]
fn the_clock_runs() {
    let t = frame::time::now_ns();
    frame::time::spin_ns(1000);
    assert!(frame::time::now_ns() >= t + 1000);
}
