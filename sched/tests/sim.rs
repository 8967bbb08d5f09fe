//! The scheduler under simulation: several processors, seeded preemption at every atomic access, simulated time.
//!
//! `NIGHTSHIFT_SEEDS=10000 cargo test -p sched --test sim --release` for a long campaign; `NIGHTSHIFT_SEED=n`
//! replays one.

use std::sync::Arc;

use frame::{
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    cpu::{CpuId, CpuMask},
    sim::{self, Config},
    sync::{Completion, WaitQueue, rcu},
    task::{self, State},
};
use sched::{
    Policy,
    kthread::{self, Wake},
    pid, stat, time,
};

const SEEDS: u64 = 500;
const US: u64 = 1000;
const MS: u64 = 1_000_000;

/// Boots, and runs `f` as init.
fn boot(f: impl FnOnce() + Send + 'static) {
    sched::init_boot_cpu();
    let init = sched::spawn_init(
        None,
        Box::new(move || {
            sched::start_other_cpus();
            sched::start_daemons().unwrap();
            f();
            frame::boot::power_off()
        }),
    )
    .unwrap();
    sim::watch_task(&init, "init");
    sched::start_kthreadd().unwrap();
    init.start();
    sched::cpu_idle()
}

fn random(n: u64) -> u64 {
    sim::random(n)
}

/// A random set of online processors, never empty.
fn random_mask() -> CpuMask {
    let online = frame::cpu::online();
    loop {
        let m = CpuMask(random(1 << online.count()));
        if !m.and(online).is_empty() {
            return m;
        }
    }
}

fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> Arc<Completion> {
    let done = Arc::new(Completion::new());
    let d = done.clone();
    let h = kthread::spawn(name, move |_| {
        f();
        d.complete();
        0
    })
    .unwrap();
    sim::watch_task(h.task(), name);
    done
}

/// Every thread runs exactly once or not at all, park and stop are answered in every state, and no number leaks.
fn kthread_protocol() {
    let before = pid::count();
    let runs = Arc::new(AtomicU32::new(0));
    let wanted = Arc::new(AtomicU32::new(0));
    let creators: Vec<_> = (0..3)
        .map(|c| {
            let (runs, wanted) = (runs.clone(), wanted.clone());
            spawn(&format!("creator/{c}"), move || {
                for i in 0..3 {
                    let q = Arc::new(WaitQueue::new());
                    let work = Arc::new(AtomicU32::new(0));
                    let seen = Arc::new(AtomicU32::new(0));
                    let (q2, work2, seen2, runs2) = (q.clone(), work.clone(), seen.clone(), runs.clone());
                    let h = kthread::create(&format!("worker/{c}.{i}"), move |k| {
                        runs2.fetch_add(1, Ordering::Relaxed);
                        loop {
                            let timeout = (random(2) == 0).then_some(50 * US);
                            match k.wait(
                                &q2,
                                || {
                                    work2
                                        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| {
                                            n.checked_sub(1)
                                        })
                                        .ok()
                                },
                                timeout,
                            ) {
                                Wake::Event(_) => {
                                    seen2.fetch_add(1, Ordering::SeqCst);
                                }
                                Wake::TimedOut => {}
                                Wake::Park => k.park(),
                                Wake::Freeze => k.freeze(),
                                Wake::Stop => return 42,
                            }
                        }
                    })
                    .unwrap();
                    sim::watch_task(h.task(), "worker");
                    let (tid, started) = (h.pid(), random(5) != 0);
                    assert!(pid::find(tid).is_some());
                    let mut sent = 0;
                    if started {
                        if random(3) == 0 {
                            let one = frame::cpu::online()
                                .iter()
                                .nth(random(frame::cpu::online().count() as u64) as usize)
                                .unwrap();
                            h.bind(one).unwrap();
                        }
                        h.run();
                        for _ in 0..random(6) {
                            match random(4) {
                                0 => {
                                    h.park().unwrap();
                                    assert!(h.is_parked());
                                    h.unpark();
                                }
                                1 => {
                                    h.freeze().unwrap();
                                    h.thaw();
                                }
                                2 => {
                                    sent += 1;
                                    work.fetch_add(1, Ordering::SeqCst);
                                    q.wake_one();
                                }
                                _ => time::sleep_ns(random(100) * US),
                            }
                        }
                        while seen.load(Ordering::SeqCst) != sent {
                            time::sleep_ns(20 * US);
                        }
                        if random(4) == 0 {
                            h.park().unwrap();
                        }
                    }
                    // One that is stopped before it has begun never runs.
                    match h.stop() {
                        42 => wanted.fetch_add(1, Ordering::Relaxed),
                        -4 => {
                            assert_eq!(sent, 0);
                            0
                        }
                        other => panic!("returned {other}"),
                    };
                    assert!(h.has_exited());
                    assert!(pid::find(tid).is_none());
                }
            })
        })
        .collect();
    creators.iter().for_each(|c| c.wait());
    assert_eq!(runs.load(Ordering::Relaxed), wanted.load(Ordering::Relaxed));
    // The creators themselves end a little later.
    while pid::count() != before {
        time::sleep_ns(100 * US);
    }
    assert_eq!(sched::kthreadd::pending(), 0);
}

#[test]
fn kthreads() {
    sim::campaign("kthreads", SEEDS, |_| boot(kthread_protocol));
}

struct Box1 {
    q: WaitQueue,
    value: AtomicU32,
}

/// Sleepers and wakers hand tokens around while policies and processors change under them and timers fire.
fn sleepers_and_wakers() {
    const N: usize = 5;
    const ROUNDS: u32 = 12;
    let boxes: Arc<Vec<Box1>> =
        Arc::new((0..N).map(|_| Box1 { q: WaitQueue::new(), value: AtomicU32::new(0) }).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    let mut done = Vec::new();
    for i in 0..N {
        let boxes = boxes.clone();
        let d = Arc::new(Completion::new());
        let d2 = d.clone();
        let h = kthread::create(&format!("ring/{i}"), move |_| {
            for round in 0..ROUNDS {
                // Wait for a token, with or without a time-out, then pass it on.
                loop {
                    let take = || {
                        boxes[i]
                            .value
                            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |v| v.checked_sub(1))
                            .ok()
                    };
                    let deadline = (random(2) == 0).then(|| time::now_ns() + random(300) * US);
                    let before = time::now_ns();
                    match time::wait_timeout(&boxes[i].q, State::INTERRUPTIBLE, deadline, take) {
                        Ok(Some(_)) => break,
                        Ok(None) => assert!(time::now_ns() >= deadline.unwrap_or(before)),
                        Err(_) => panic!("nobody interrupts"),
                    }
                }
                if random(4) == 0 {
                    sched::yield_now();
                }
                if random(4) == 0 {
                    let at = time::now_ns() + random(200) * US;
                    time::sleep_until(at, State::UNINTERRUPTIBLE).unwrap();
                    assert!(time::now_ns() >= at);
                }
                let _ = round;
                let next = &boxes[(i + 1) % N];
                next.value.fetch_add(1, Ordering::SeqCst);
                next.q.wake_one();
            }
            d2.complete();
            0
        })
        .unwrap();
        sim::watch_task(h.task(), "ring");
        tasks.push(h.task().clone());
        done.push(d);
        h.run();
    }
    let s = stop.clone();
    let victims = tasks.clone();
    let meddler = spawn("meddler", move || {
        while !s.load(Ordering::Relaxed) {
            let t = &victims[random(victims.len() as u64) as usize];
            let r = match random(4) {
                0 => sched::set_policy(
                    t,
                    [Policy::Other, Policy::Batch, Policy::Idle, Policy::Fifo(3), Policy::Rr(7)]
                        [random(5) as usize],
                    random(40) as i8 - 20,
                ),
                1 => sched::set_nice(t, random(40) as i8 - 20),
                _ => {
                    let m = random_mask();
                    sched::set_affinity(t, m)
                }
            };
            if let Err(e) = r {
                assert_eq!(e, base::Errno::ESRCH);
            }
            time::sleep_ns((1 + random(50)) * US);
        }
    });
    for b in boxes.iter().take(2) {
        b.value.fetch_add(1, Ordering::SeqCst);
        b.q.wake_one();
    }
    // Two tokens go round; the ring's ends let go of theirs, so top up until all have had their rounds.
    for d in &done {
        while !d.try_wait() {
            for b in boxes.iter() {
                if b.value.load(Ordering::SeqCst) == 0 {
                    b.value.fetch_add(1, Ordering::SeqCst);
                    b.q.wake_one();
                }
            }
            time::sleep_ns(200 * US);
        }
    }
    stop.store(true, Ordering::Relaxed);
    meddler.wait();
    assert!(stat::nr_uninterruptible() <= 2);
    assert_eq!(stat::nr_iowait(), 0);
}

#[test]
fn sleepers() {
    sim::campaign("sleepers", SEEDS, |_| boot(sleepers_and_wakers));
}

/// A task whose affinity was changed runs only where it may, from the moment it has passed through the scheduler.
#[test]
fn affinity() {
    sim::campaign("affinity", SEEDS / 2, |_| {
        boot(|| {
            let hogs: Vec<_> = (0..3)
                .map(|i| {
                    spawn(&format!("hog/{i}"), move || {
                        let me = sched::current().arc();
                        for _ in 0..8 {
                            let m = random_mask();
                            sched::set_affinity(&me, m).unwrap();
                            for _ in 0..10 {
                                let g = frame::context::PreemptGuard::new();
                                let here = g.cpu();
                                assert!(m.contains(here), "runs on {here}, may on {:#x}", m.0);
                                drop(g);
                                if random(3) == 0 {
                                    sched::yield_now();
                                }
                            }
                        }
                    })
                })
                .collect();
            hogs.iter().for_each(|h| h.wait());
        })
    });
}

/// Timers fire once, not early, not after a cancel that said it would prevent it; softirqs raised anywhere run.
#[test]
fn timers() {
    sim::campaign("timers", SEEDS, |_| {
        boot(|| {
            let tasks: Vec<_> = (0..3)
                .map(|i| {
                    spawn(&format!("timers/{i}"), move || {
                        let fired = Arc::new(AtomicU32::new(0));
                        let due = Arc::new(AtomicU64::new(0));
                        let (f, d) = (fired.clone(), due.clone());
                        let precise = time::Timer::new(move |_| {
                            assert!(time::now_ns() >= d.load(Ordering::SeqCst));
                            f.fetch_add(1, Ordering::SeqCst);
                        })
                        .unwrap();
                        let (f, d) = (fired.clone(), due.clone());
                        let coarse = time::TimerWheel::new(move |_| {
                            assert!(time::now_ns() >= d.load(Ordering::SeqCst));
                            f.fetch_add(1, Ordering::SeqCst);
                        })
                        .unwrap();
                        for _ in 0..10 {
                            fired.store(0, Ordering::SeqCst);
                            let ns = random(300) * US;
                            due.store(time::now_ns() + ns, Ordering::SeqCst);
                            let is_precise = random(2) == 0;
                            if is_precise {
                                precise.arm(due.load(Ordering::SeqCst));
                            } else {
                                coarse.arm_in(ns);
                            }
                            if random(2) == 0 {
                                time::sleep_ns(random(400) * US);
                                let prevented =
                                    if is_precise { precise.cancel_wait() } else { coarse.cancel_wait() };
                                let n = fired.load(Ordering::SeqCst);
                                assert_eq!(n, if prevented { 0 } else { 1 });
                                time::sleep_ns(random(6 * MS / US) * US);
                                assert_eq!(fired.load(Ordering::SeqCst), n);
                            } else {
                                while fired.load(Ordering::SeqCst) == 0 {
                                    time::sleep_ns(100 * US);
                                }
                                time::sleep_ns(50 * US);
                                assert_eq!(fired.load(Ordering::SeqCst), 1);
                            }
                            if random(4) == 0 {
                                sched::softirq::raise(sched::softirq::Vector::Timer);
                            }
                        }
                    })
                })
                .collect();
            tasks.iter().for_each(|t| t.wait());
        })
    });
}

/// Grace periods end with a processor that never switches of itself, and callbacks run.
#[test]
fn grace_periods() {
    sim::campaign("grace_periods", SEEDS / 2, |_| {
        boot(|| {
            let stop = Arc::new(AtomicBool::new(false));
            let s = stop.clone();
            let hog = spawn("hog", move || while !s.load(Ordering::Relaxed) {});
            let ran = Arc::new(AtomicU32::new(0));
            for _ in 0..5 {
                let r = ran.clone();
                rcu::call(Box::new(move || {
                    r.fetch_add(1, Ordering::SeqCst);
                }));
                rcu::synchronize();
            }
            while ran.load(Ordering::SeqCst) != 5 {
                time::sleep_ns(MS);
            }
            stop.store(true, Ordering::Relaxed);
            hog.wait();
        })
    });
}

/// Time is neither lost nor counted twice: what the processors' columns add up to is what has passed.
#[test]
fn time_adds_up() {
    sim::campaign("time_adds_up", SEEDS / 5, |_| {
        boot(|| {
            let cpus: Vec<CpuId> = frame::cpu::online().iter().collect();
            let total = || -> u64 {
                cpus.iter()
                    .map(|&c| {
                        let t = stat::cpu_times(c);
                        t.user_ns
                            + t.nice_ns
                            + t.system_ns
                            + t.idle_ns
                            + t.iowait_ns
                            + t.irq_ns
                            + t.softirq_ns
                    })
                    .sum()
            };
            // All have idled once.
            time::sleep_ns(5 * MS);
            // A reading takes time itself: its moment lies between two looks at the clock.
            let reading = || (time::now_ns(), total(), time::now_ns());
            let (a0, a, a1) = reading();
            let work: Vec<_> = (0..3)
                .map(|i| {
                    spawn(&format!("work/{i}"), || {
                        for _ in 0..10 {
                            time::sleep_ns(random(500) * US);
                        }
                    })
                })
                .collect();
            work.iter().for_each(|w| w.wait());
            let (b0, b, b1) = reading();
            let n = cpus.len() as u64;
            let (least, most, counted) = ((b0 - a1) * n, (b1 - a0) * n, b - a);
            let slack = most / 20 + 200 * US;
            assert!(
                least <= counted + slack && counted <= most + slack,
                "passed {least} to {most}, counted {counted}"
            );
        })
    });
}

#[test]
fn same_seed_same_run() {
    for seed in [3, 11] {
        let run = || sim::run(Config::from_seed(seed), || boot(sleepers_and_wakers));
        let (a, b) = (run(), run());
        assert!(a.is_ok(), "{}", a.report);
        assert_eq!((a.hash, a.steps, a.time_ns), (b.hash, b.steps, b.time_ns));
    }
}

/// A waiter that looks first and announces its sleep afterwards: the simulation must find the lost wake-up.
#[test]
fn a_wrong_wait_is_found() {
    let (seed, out) = sim::expect_failure("wrong_wait", 200, |_| {
        boot(|| {
            for _ in 0..20 {
                let flag = Arc::new(AtomicBool::new(false));
                let f = flag.clone();
                let over = Arc::new(Completion::new());
                let o = over.clone();
                let h = kthread::spawn("wrong", move |_| {
                    if !f.load(Ordering::SeqCst) {
                        task::current().set_state(State::UNINTERRUPTIBLE);
                        task::schedule();
                    }
                    o.complete();
                    0
                })
                .unwrap();
                for _ in 0..random(200) {
                    flag.load(Ordering::Relaxed);
                }
                flag.store(true, Ordering::SeqCst);
                h.wake();
                over.wait();
            }
        })
    });
    assert!(matches!(out.result, sim::RunResult::Deadlock(_)), "seed {seed}: {}", out.report);
}
