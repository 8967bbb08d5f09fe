//! Outside of any simulation: plain threads of `cargo test` may use frame's primitives.

use frame::{
    arch, context,
    context::{IrqGuard, PreemptGuard},
    sync::{LockClass, Mutex, RwSemaphore, SpinLock, SpinLockIrq},
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
fn sleeping_locks_wait_between_threads() {
    static SLEEPS: LockClass = LockClass::new("lone_sleeping");
    static MUTEX: Mutex<u64> = Mutex::new(&SLEEPS, 0);
    static SEM: RwSemaphore<u64> = RwSemaphore::new(&SLEEPS, 0);
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for _ in 0..1000 {
                    let mut g = MUTEX.lock();
                    *g += 1;
                    if g.is_multiple_of(100) {
                        std::thread::yield_now();
                    }
                    drop(g);
                    *SEM.write() += 1;
                    assert!(*SEM.read() > 0);
                }
            });
        }
    });
    assert_eq!((*MUTEX.lock(), *SEM.read()), (4000, 4000));
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
