//! Sleeping locks, wait queues and RCU under random load, and whether the faults they are built against would be found.

mod common;

use std::sync::Arc;

use common::{boot, spawn};
use frame::{
    arch,
    atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering},
    boot::power_off,
    sim::{self, Config, RunResult},
    sync::{
        Completion, Interrupted, LockClass, Mutex, RwSemaphore, Semaphore, SpinLock, Srcu, WaitEntry,
        WaitQueue,
        rcu::{self, Rcu},
    },
    task::{self, State, Task, Work},
    time,
};

/// Seeds per campaign; NIGHTSHIFT_SEEDS raises it.
const SEEDS: u64 = 500;

/// Runs `n` tasks to their end, then `check`, and ends the run.
fn all(n: u64, body: impl Fn(u64) + Send + Sync + 'static, check: impl FnOnce() + Send + 'static) -> ! {
    boot(move || {
        let body = Arc::new(body);
        let done = Arc::new(Completion::new());
        let tasks: Vec<Arc<Task>> = (0..n)
            .map(|i| {
                let (body, done) = (body.clone(), done.clone());
                spawn(&format!("t{i}"), move || {
                    body(i);
                    done.complete();
                })
            })
            .collect();
        for _ in 0..n {
            done.wait();
        }
        drop(tasks);
        check();
        power_off();
    })
}

static CLASS: LockClass = LockClass::new("test");

fn mutexes() -> ! {
    static M: Mutex<(u64, u64)> = Mutex::new(&CLASS, (0, 0));
    static LEFT: AtomicU64 = AtomicU64::new(0);
    all(
        4,
        |i| {
            for k in 0..6 {
                let g = match (i + k) % 3 {
                    0 => M.try_lock(),
                    1 => M.lock_killable().ok(),
                    _ => Some(M.lock()),
                };
                let Some(mut g) = g else {
                    LEFT.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                let v = g.0;
                if sim::random(3) == 0 {
                    task::schedule();
                }
                arch::preempt_point();
                g.1 += 1;
                g.0 = v + 1;
            }
        },
        || {
            let g = M.lock();
            assert_eq!(g.0, g.1);
            assert_eq!(g.0 + LEFT.load(Ordering::Relaxed), 24);
            assert!(M.try_lock().is_none());
        },
    )
}

#[test]
fn mutexes_exclude() {
    sim::campaign("mutex", SEEDS, |_| mutexes());
}

#[test]
fn a_seed_repeats_exactly() {
    for (seed, main) in (0..12).zip([mutexes as fn() -> !, wait_queues, rcu_pointers].into_iter().cycle()) {
        let run = || sim::run(Config::from_seed(seed), || main());
        let (a, b) = (run(), run());
        assert!(a.is_ok(), "{a:?}");
        assert_eq!((a.hash, a.steps), (b.hash, b.steps), "seed {seed}");
    }
}

/// A killed waiter leaves, and takes nothing with it.
#[test]
fn a_killed_waiter_gives_up() {
    static M: Mutex<u32> = Mutex::new(&CLASS, 0);
    sim::campaign("mutex_kill", SEEDS, |_| {
        boot(|| {
            let ended = Arc::new(Completion::new());
            let g = M.lock();
            let tasks: Vec<_> = (0..3)
                .map(|i| {
                    let ended = ended.clone();
                    spawn(&format!("w{i}"), move || {
                        match M.lock_killable() {
                            Ok(mut g) => *g += 1,
                            Err(Interrupted) => assert!(task::current().work().contains(Work::KILL)),
                        }
                        ended.complete();
                    })
                })
                .collect();
            let victim = &tasks[sim::random(3) as usize];
            if sim::random(2) == 0 {
                task::schedule();
            }
            victim.set_work(Work::KILL);
            task::wake(victim, State::WAKEKILL);
            if sim::random(2) == 0 {
                ended.wait();
                ended.complete();
            }
            drop(g);
            (0..3).for_each(|_| ended.wait());
            assert!(matches!(*M.lock(), 2 | 3));
            power_off();
        })
    });
}

/// Two that lock again at once must not keep out a third for ever.
#[test]
fn nobody_starves() {
    static M: Mutex<()> = Mutex::new(&CLASS, ());
    static STOP: AtomicBool = AtomicBool::new(false);
    static WANTS: AtomicBool = AtomicBool::new(false);
    static OVERTAKEN: AtomicU32 = AtomicU32::new(0);
    sim::campaign("mutex_fair", SEEDS, |_| {
        all(
            3,
            |i| {
                if i < 2 {
                    while !STOP.load(Ordering::Relaxed) {
                        let _g = M.lock();
                        if WANTS.load(Ordering::Relaxed) {
                            OVERTAKEN.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                } else {
                    for _ in 0..5 {
                        WANTS.store(true, Ordering::Relaxed);
                        drop(M.lock());
                        WANTS.store(false, Ordering::Relaxed);
                    }
                    STOP.store(true, Ordering::Relaxed);
                }
            },
            || {},
        )
    });
}

#[test]
fn rw_semaphores_exclude() {
    static S: RwSemaphore<(u64, u64)> = RwSemaphore::new(&CLASS, (0, 0));
    static WROTE: AtomicU64 = AtomicU64::new(0);
    sim::campaign("rwsem", SEEDS, |_| {
        all(
            5,
            |_| {
                for _ in 0..5 {
                    if sim::random(3) == 0 {
                        let Ok(mut w) = S.write_killable() else { unreachable!() };
                        w.0 += 1;
                        if sim::random(2) == 0 {
                            task::schedule();
                        }
                        w.1 += 1;
                        WROTE.fetch_add(1, Ordering::Relaxed);
                        let seen = w.0;
                        if sim::random(2) == 0 {
                            let r = w.downgrade();
                            arch::preempt_point();
                            assert_eq!((r.0, r.1), (seen, seen));
                        }
                    } else {
                        let r = S.read();
                        let before = r.0;
                        if sim::random(2) == 0 {
                            task::schedule();
                        }
                        arch::preempt_point();
                        assert_eq!((r.0, r.1), (before, before));
                    }
                }
            },
            || assert_eq!(S.try_write().expect("free").0, WROTE.load(Ordering::Relaxed)),
        )
    });
}

/// Writers that give up must let the readers behind them in.
#[test]
fn a_killed_writer_lets_readers_in() {
    static S: RwSemaphore<()> = RwSemaphore::new(&CLASS, ());
    sim::campaign("rwsem_kill", SEEDS, |_| {
        boot(|| {
            let ended = Arc::new(Completion::new());
            let r = S.read();
            let e = ended.clone();
            let writer = spawn("writer", move || {
                let _ = S.write_killable();
                e.complete();
            });
            let e = ended.clone();
            spawn("reader", move || {
                drop(S.read());
                e.complete();
            });
            (0..sim::random(3)).for_each(|_| task::schedule());
            writer.set_work(Work::KILL);
            task::wake(&writer, State::WAKEKILL);
            // Both end while the first reader stays inside.
            (0..2).for_each(|_| ended.wait());
            drop(r);
            assert!(S.try_write().is_some());
            power_off();
        })
    });
}

/// A bounded buffer with exclusive waiters on both sides.
fn wait_queues() -> ! {
    static ITEMS: SpinLock<Vec<u64>> = SpinLock::new(&CLASS, Vec::new());
    static NOT_EMPTY: WaitQueue = WaitQueue::new();
    static NOT_FULL: WaitQueue = WaitQueue::new();
    static SUM: AtomicU64 = AtomicU64::new(0);
    all(
        4,
        |i| {
            for k in 0..6u64 {
                if i % 2 == 0 {
                    NOT_FULL.wait_exclusive(|| {
                        let mut q = ITEMS.lock();
                        (q.len() < 2).then(|| q.push(i * 100 + k))
                    });
                    NOT_EMPTY.wake_one();
                } else {
                    let Ok(v) = NOT_EMPTY.wait_exclusive_interruptible(|| ITEMS.lock().pop()) else {
                        unreachable!()
                    };
                    SUM.fetch_add(v, Ordering::Relaxed);
                    NOT_FULL.wake_one();
                }
            }
        },
        || {
            assert_eq!(SUM.load(Ordering::Relaxed), 15 + 200 * 6 + 15);
            assert!(NOT_EMPTY.is_empty() && NOT_FULL.is_empty());
        },
    )
}

#[test]
fn wait_queues_lose_nothing() {
    sim::campaign("wait_queue", SEEDS, |_| wait_queues());
}

/// An exclusive waiter that a signal takes away passes its wake-up on.
#[test]
fn an_interrupted_waiter_passes_on() {
    static WQ: WaitQueue = WaitQueue::new();
    static TOKENS: Semaphore = Semaphore::new(0);
    static GOT: AtomicU32 = AtomicU32::new(0);
    sim::campaign("pass_on", SEEDS, |_| {
        boot(|| {
            let take = || TOKENS.try_down().then_some(());
            let ended = Arc::new(Completion::new());
            let tasks: Vec<_> = (0..2)
                .map(|i| {
                    let ended = ended.clone();
                    spawn(&format!("w{i}"), move || {
                        if WQ.wait_exclusive_interruptible(take).is_ok() {
                            GOT.fetch_add(1, Ordering::Relaxed);
                        }
                        ended.complete();
                    })
                })
                .collect();
            (0..sim::random(4)).for_each(|_| task::schedule());
            let t = tasks[0].clone();
            spawn("signal", move || {
                t.set_work(Work::SIGNAL);
                task::wake(&t, State::INTERRUPTIBLE);
            });
            TOKENS.up();
            WQ.wake_one();
            ended.wait();
            if GOT.load(Ordering::Relaxed) == 0 || TOKENS.count() == 0 {
                // One took the token; the other is interrupted, or waits for this one.
                TOKENS.up();
                WQ.wake_one();
            }
            ended.wait();
            power_off();
        })
    });
}

/// One task listens to two queues; callbacks come and go while others wake.
#[test]
fn entries_listen_to_several_queues() {
    static A: WaitQueue = WaitQueue::new();
    static B: WaitQueue = WaitQueue::new();
    static EVENTS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
    sim::campaign("poll", SEEDS, |_| {
        all(
            3,
            |i| {
                if i < 2 {
                    for _ in 0..5 {
                        EVENTS[i as usize].fetch_add(1, Ordering::Relaxed);
                        [&A, &B][i as usize].wake_all_key(1);
                    }
                    return;
                }
                let heard = Arc::new(AtomicU32::new(0));
                let h = heard.clone();
                let callback =
                    WaitEntry::new_callback(Box::new(move |k| _ = h.fetch_add(k, Ordering::Relaxed)));
                let me = task::current().arc();
                let (a, b) = (WaitEntry::new_task(me.clone()), WaitEntry::new_task(me));
                A.add(&a);
                B.add(&b);
                A.add(&callback);
                let mut seen = 0;
                while seen < 10 {
                    let r = frame::sync::sleep_until(State::INTERRUPTIBLE, || {
                        let n: u32 = EVENTS.iter().map(|e| e.swap(0, Ordering::Relaxed)).sum();
                        (n != 0).then_some(n)
                    });
                    seen += r.expect("no signals here");
                }
                assert!(A.remove(&a) && A.remove(&callback) && !A.remove(&b));
                drop(b);
                B.wake_all();
                assert!(A.is_empty() && B.is_empty());
                assert!(heard.load(Ordering::Relaxed) <= 5);
            },
            || {},
        )
    });
}

/// Deliberately wrong: looks, then enrols.
#[test]
fn a_lost_wake_up_is_found() {
    static WQ: WaitQueue = WaitQueue::new();
    static READY: AtomicBool = AtomicBool::new(false);
    let (_, out) = sim::expect_failure("look_then_enrol", 2000, |_| {
        all(
            2,
            |i| {
                if i == 0 {
                    READY.store(true, Ordering::SeqCst);
                    WQ.wake_all();
                } else if !READY.load(Ordering::SeqCst) {
                    let e = WaitEntry::new_task(task::current().arc());
                    WQ.add(&e);
                    task::current().set_state(State::UNINTERRUPTIBLE);
                    task::schedule();
                    WQ.remove(&e);
                }
            },
            || {},
        )
    });
    assert!(matches!(out.result, RunResult::Deadlock(_)), "{out:?}");
}

/// A value that knows whether it is still there.
struct Canary(Arc<AtomicBool>);
impl Canary {
    fn new() -> Arc<Self> {
        Arc::new(Canary(Arc::new(AtomicBool::new(true))))
    }
}
impl Drop for Canary {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Reads for a while and checks that nothing is freed meanwhile.
fn read_canary(p: &Rcu<Arc<Canary>>) {
    let s = rcu::read();
    let alive = p.load(&s).0.clone();
    for _ in 0..sim::random(6) {
        arch::preempt_point();
    }
    assert!(alive.load(Ordering::SeqCst), "freed under a reader");
}

/// The RCU thread and the tick are what `sched` provides on the real kernel.
static KICKED: WaitQueue = WaitQueue::new();
static WORK: AtomicBool = AtomicBool::new(false);

fn rcu_thread() {
    rcu::install_kick(|| {
        WORK.store(true, Ordering::Release);
        KICKED.wake_all();
    });
    spawn("rcu", || {
        loop {
            KICKED.wait_idle(|| WORK.swap(false, Ordering::AcqRel).then_some(()));
            while rcu::advance() {
                task::schedule();
            }
        }
    });
}

fn rcu_pointers() -> ! {
    static P: frame::sync::Lazy<Rcu<Arc<Canary>>> = frame::sync::Lazy::new(|| Rcu::new(Canary::new()));
    static UPDATES: AtomicU64 = AtomicU64::new(0);
    static ONCE: AtomicBool = AtomicBool::new(false);
    all(
        4,
        |i| {
            if sim::random(2) == 0 && !ONCE.swap(true, Ordering::SeqCst) {
                rcu_thread();
            }
            for _ in 0..4 {
                if i == 0 {
                    UPDATES.fetch_add(1, Ordering::Relaxed);
                    match sim::random(3) {
                        0 => P.replace(Canary::new()),
                        1 => P.update(|old| {
                            assert!(old.0.load(Ordering::SeqCst));
                            Canary::new()
                        }),
                        _ => {
                            P.replace(Canary::new());
                            rcu::synchronize();
                        }
                    }
                } else {
                    read_canary(&P);
                    let held = P.get();
                    if sim::random(4) == 0 {
                        task::schedule();
                    }
                    assert!(held.0.load(Ordering::SeqCst));
                }
            }
        },
        || {
            rcu::synchronize();
            while rcu::advance() {
                task::schedule();
            }
            let s = rcu::stats();
            assert_eq!(
                (s.queued, s.invoked),
                (UPDATES.load(Ordering::Relaxed), UPDATES.load(Ordering::Relaxed))
            );
        },
    )
}

#[test]
fn rcu_frees_after_readers() {
    sim::campaign("rcu", SEEDS, |_| rcu_pointers());
}

/// Deliberately wrong: a pointer whose old target goes at once.
#[test]
fn a_free_under_a_reader_is_found() {
    static P: AtomicPtr<Canary> = AtomicPtr::new(core::ptr::null_mut());
    let (_, out) = sim::expect_failure("no_grace_period", 2000, |_| {
        P.store(Box::into_raw(Box::new(Canary(Arc::new(AtomicBool::new(true))))), Ordering::SeqCst);
        all(
            2,
            |i| {
                if i == 0 {
                    let new = Box::into_raw(Box::new(Canary(Arc::new(AtomicBool::new(true)))));
                    let old = P.swap(new, Ordering::SeqCst);
                    // Marked instead of freed, so that the reader may look.
                    // SAFETY: never freed.
                    unsafe { (*old).0.store(false, Ordering::SeqCst) };
                } else {
                    for _ in 0..3 {
                        let _s = rcu::read();
                        // SAFETY: never freed.
                        let c = unsafe { &*P.load(Ordering::SeqCst) };
                        arch::preempt_point();
                        assert!(c.0.load(Ordering::SeqCst), "freed under a reader");
                    }
                }
            },
            || {},
        )
    });
    assert!(matches!(&out.result, RunResult::Panic(m) if m.contains("freed under a reader")), "{out:?}");
}

/// Processors that halt for ever must not hold up a grace period, nor their interrupts be taken for idleness.
#[test]
fn idle_processors_do_not_delay() {
    static P: frame::sync::Lazy<Rcu<Arc<Canary>>> = frame::sync::Lazy::new(|| Rcu::new(Canary::new()));
    static READS: AtomicU32 = AtomicU32::new(0);
    let config = |seed| Config { cpus: 3, ..Config::from_seed(seed) };
    sim::campaign_with("rcu_idle", SEEDS, config, |_| {
        boot(|| {
            frame::irq::request(5, || {
                read_canary(&P);
                READS.fetch_add(1, Ordering::Relaxed);
            })
            .expect("the line is free");
            for i in 1..8 {
                sim::at(time::now_ns() + i * 3_000, || sim::raise_line(5));
            }
            for _ in 0..4 {
                P.replace(Canary::new());
                rcu::synchronize();
                while rcu::advance() {
                    task::schedule();
                }
            }
            assert!(rcu::stats().grace_periods >= 4);
            power_off();
        })
    });
}

#[test]
fn srcu_readers_may_sleep() {
    static S: Srcu = Srcu::new();
    static CURRENT: AtomicU32 = AtomicU32::new(0);
    static ALIVE: [AtomicBool; 6] = [const { AtomicBool::new(true) }; 6];
    sim::campaign("srcu", SEEDS, |_| {
        all(
            4,
            |i| {
                for k in 0..5 {
                    if i == 0 {
                        CURRENT.store(k + 1, Ordering::SeqCst);
                        S.synchronize();
                        ALIVE[k as usize].store(false, Ordering::SeqCst);
                    } else {
                        let _g = S.read();
                        let n = CURRENT.load(Ordering::SeqCst) as usize;
                        (0..sim::random(3)).for_each(|_| task::schedule());
                        assert!(ALIVE[n].load(Ordering::SeqCst));
                    }
                }
            },
            || {},
        )
    });
}

fn fails_with(text: &str, f: impl FnOnce() + Send + 'static) {
    let out = sim::run(Config { backtrace: false, ..Config::default() }, || boot(f));
    assert!(matches!(&out.result, RunResult::Panic(m) if m.contains(text)), "{:?}", out.result);
}

/// What the lock checker is there for; one processor's word is enough, no deadlock has to happen.
#[test]
fn the_lock_checker_speaks() {
    static A: LockClass = LockClass::new("class_a");
    static B: LockClass = LockClass::new("class_b");
    static MA: Mutex<()> = Mutex::new(&A, ());
    static MB: Mutex<()> = Mutex::new(&B, ());
    static SA: [SpinLock<()>; 2] = [SpinLock::new(&A, ()), SpinLock::new(&A, ())];
    fails_with("lock order: class_b", || {
        {
            let _a = MA.lock();
            let _b = MB.lock();
        }
        let _b = MB.lock();
        let _a = MA.lock();
    });
    fails_with("recursive locking: class_a", || {
        let _a = SA[0].lock();
        let _b = SA[0].lock();
    });
    fails_with("two locks of class class_a", || {
        let _a = SA[1].lock();
        let _b = SA[0].lock();
    });
    fails_with("fine after all", || {
        {
            let _a = SA[0].lock();
            let _b = SA[1].lock();
        }
        let _a = SA[1].lock();
        let _b = SA[0].lock_nested();
        panic!("fine after all");
    });
    fails_with("sleeping function called from invalid context", || {
        let _a = SA[0].lock();
        let _b = MB.lock();
    });
    fails_with("hardware interrupts", || {
        drop(SA[0].lock());
        frame::irq::request(5, || drop(SA[1].lock())).expect("the line is free");
        sim::raise_line(5);
        loop {
            arch::preempt_point();
        }
    });
    fails_with("a task exits with lock class_b", || core::mem::forget(MB.lock()));
    fails_with("sleeping function called from invalid context", || {
        let _s = rcu::read();
        rcu::synchronize();
    });
}
