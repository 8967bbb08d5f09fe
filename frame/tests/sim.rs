//! The simulator on itself: does it run tasks, repeat a seed exactly, and catch what it is there to catch?

mod common;

use std::sync::Arc;

use common::{Gate, boot, spawn};
use frame::{
    arch,
    atomic::{AtomicU32, AtomicU64, Ordering},
    boot::power_off,
    context::{IrqGuard, PreemptGuard},
    irq,
    sim::{self, Config, RunResult},
    task, time,
};

static PING: Gate = Gate::new();
static PONG: Gate = Gate::new();
static ROUNDS: AtomicU32 = AtomicU32::new(0);

/// Two tasks wake each other `rounds` times.
fn ping_pong(rounds: u32, pass: fn(&Gate)) -> ! {
    boot(move || {
        let a = task::Task::new(
            Box::new(move || {
                for _ in 0..rounds {
                    pass(&PING);
                    ROUNDS.fetch_add(1, Ordering::Relaxed);
                    PONG.open();
                }
                power_off();
            }),
            false,
        )
        .expect("memory");
        let b = task::Task::new(
            Box::new(move || {
                for _ in 0..rounds {
                    PING.open();
                    pass(&PONG);
                }
            }),
            false,
        )
        .expect("memory");
        sim::watch_task(&a, "a");
        sim::watch_task(&b, "b");
        PING.bind(a.clone());
        PONG.bind(b.clone());
        a.start();
        b.start();
    })
}

#[test]
fn two_tasks_take_turns() {
    sim::campaign("ping_pong", 200, |_| ping_pong(20, Gate::pass));
}

#[test]
fn no_wake_up_is_lost() {
    sim::campaign("park_wake", 10_000, |_| ping_pong(4, Gate::pass));
}

#[test]
fn a_lost_wake_up_is_found() {
    let (_, out) = sim::expect_failure("lost_wake_up", 2000, |_| ping_pong(4, Gate::pass_wrong));
    let RunResult::Deadlock(state) = &out.result else { panic!("not a deadlock: {:?}", out.result) };
    assert!(state.contains("task a:") && state.contains("UNINTERRUPTIBLE"), "{state}");
}

#[test]
fn a_seed_repeats_exactly() {
    let run = |seed| sim::run(Config::from_seed(seed), || ping_pong(20, Gate::pass));
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let (a, b) = (run(seed), run(seed));
        assert!(a.is_ok(), "{a:?}");
        assert_eq!((a.hash, a.steps, a.time_ns), (b.hash, b.steps, b.time_ns), "seed {seed}");
        hashes.insert(a.hash);
    }
    assert_eq!(hashes.len(), 20, "different seeds, different runs");
}

#[test]
fn a_deadlock_is_told() {
    static NEVER: Gate = Gate::new();
    let out = sim::run(Config::default(), || {
        boot(|| {
            NEVER.bind(spawn("sleeper", || NEVER.pass()));
        })
    });
    let RunResult::Deadlock(state) = &out.result else { panic!("{out:?}") };
    assert!(state.contains("task sleeper: State(UNINTERRUPTIBLE)") && state.contains("Halted"), "{state}");
}

#[test]
fn spinning_for_ever_is_told() {
    let out = sim::run(Config::default(), || {
        boot(|| {
            let _g = IrqGuard::new();
            loop {
                arch::relax();
            }
        })
    });
    assert!(matches!(out.result, RunResult::Deadlock(_)), "{out:?}");
}

#[test]
fn a_panic_names_its_place() {
    let out = sim::run(Config::default(), || boot(|| panic!("number {}", 7)));
    let RunResult::Panic(m) = &out.result else { panic!("{out:?}") };
    assert!(m.starts_with("number 7") && m.contains("sim.rs"), "{m}");
    assert!(out.report.contains("first_run"), "a backtrace of the fiber: {}", out.report);
}

#[test]
fn a_full_stack_is_a_crash() {
    #[expect(unconditional_recursion, reason = "the point")]
    fn deep(n: u64) -> u64 {
        core::hint::black_box([n; 64]);
        1 + core::hint::black_box(deep(n + 1))
    }
    let out = sim::run(Config::default(), || {
        boot(|| {
            core::hint::black_box(deep(0));
        })
    });
    assert!(matches!(&out.result, RunResult::Crash(m) if m.contains("guard page")), "{out:?}");
}

/// Sleeping while preemption is held off must be refused.
#[test]
fn sleeping_in_atomic_context_is_refused() {
    let out = sim::run(Config::default(), || {
        boot(|| {
            let _g = PreemptGuard::new();
            task::schedule();
        })
    });
    assert!(matches!(&out.result, RunResult::Panic(m) if m.contains("scheduling while atomic")), "{out:?}");
}

/// An increment in two steps loses counts when another processor, or the tick, comes between.
#[test]
fn a_torn_increment_is_found() {
    static N: AtomicU64 = AtomicU64::new(0);
    static DONE: AtomicU32 = AtomicU32::new(0);
    sim::expect_failure("torn_increment", 500, |_| {
        boot(|| {
            for i in 0..2 {
                spawn(&format!("adder{i}"), || {
                    for _ in 0..10 {
                        N.store(N.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
                    }
                    if DONE.fetch_add(1, Ordering::SeqCst) == 1 {
                        assert_eq!(N.load(Ordering::SeqCst), 20);
                        power_off();
                    }
                });
            }
        })
    });
}

/// A device raises a line at a simulated time; the handler wakes the task that waits for it.
#[test]
fn a_device_interrupt_wakes_its_task() {
    static COME: Gate = Gate::new();
    sim::campaign("device", 200, |_| {
        boot(|| {
            COME.bind(task::current().arc());
            irq::request(5, || COME.open()).expect("the line is free");
            for i in 1..=5 {
                let t = time::now_ns() + 50_000 * i;
                sim::at(t, || sim::raise_line(5));
                COME.pass();
                assert!(time::now_ns() >= t);
            }
            assert_eq!(irq::count(5), 5);
            power_off();
        })
    });
}

#[test]
fn calls_between_processors_run_everywhere() {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    static READY: AtomicU32 = AtomicU32::new(0);
    sim::campaign("call", 200, |_| {
        boot(|| {
            let all = frame::cpu::possible();
            while frame::cpu::online().count() as usize != all {
                arch::relax();
            }
            let two = Arc::new(());
            for _ in 0..2 {
                let two = two.clone();
                spawn("caller", move || {
                    let _two = two;
                    frame::cpu::call_each(frame::cpu::CpuMask::ALL, || {
                        SEEN.fetch_add(1, Ordering::SeqCst);
                    });
                    if READY.fetch_add(1, Ordering::SeqCst) == 1 {
                        assert_eq!(SEEN.load(Ordering::SeqCst), 2 * frame::cpu::possible() as u64);
                        power_off();
                    }
                });
            }
        })
    });
}

/// What things cost on this host. `cargo test -p frame --release --test sim sim_costs -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn sim_costs() {
    let quiet = |seed| Config { seed, cpus: 1, preempt_permille: 0, ..Config::default() };
    let timed = |f: &dyn Fn()| {
        let t = std::time::Instant::now();
        f();
        t.elapsed().as_secs_f64()
    };
    const N: u32 = 200;
    let empty = timed(&|| (0..N).for_each(|i| assert!(sim::run(quiet(u64::from(i)), || ()).is_ok())));
    println!("fork, empty run, collect: {:.0} us", empty / f64::from(N) * 1e6);
    let small = timed(&|| {
        (0..N).for_each(|i| assert!(sim::run(Config { memory_mib: 4, ..quiet(u64::from(i)) }, || ()).is_ok()))
    });
    println!("the same with 4 MiB of memory: {:.0} us", small / f64::from(N) * 1e6);

    let points = |n: u64| {
        timed(&|| {
            let out = sim::run(quiet(0), || (0..n).for_each(|_| arch::preempt_point()));
            assert!(out.is_ok());
        })
    };
    let (a, b) = (points(0), points(50_000_000));
    println!("a preemption point: {:.2} ns", (b - a) / 50_000_000.0 * 1e9);

    let t = timed(&|| assert!(sim::run(quiet(0), || ping_pong(200_000, Gate::pass)).is_ok()));
    println!("sleep, wake-up and switch, one processor: {:.0} ns", t / 400_000.0 * 1e9);

    let raw = timed(&|| {
        let out = sim::run(quiet(0), || {
            common::raw_switches(5_000_000);
        });
        assert!(out.is_ok(), "{out:?}");
    });
    println!("arch::switch alone: {:.2} ns", raw / 10_000_000.0 * 1e9);

    let (mut steps, mut time) = (0, 0);
    let n = 500;
    let t = timed(&|| sim::campaign("average", n, |_| ping_pong(20, Gate::pass)));
    for seed in 0..20 {
        let o = sim::run(Config::from_seed(seed), || ping_pong(20, Gate::pass));
        steps += o.steps;
        time += o.time_ns;
    }
    println!(
        "an average run (20 round trips, {} points, {} us simulated): {:.0} us with all host processors",
        steps / 20,
        time / 20_000,
        t / n as f64 * 1e6
    );
}

/// A kernel with a periodic timer never comes to a deadlock; the limit of simulated time ends it.
#[test]
fn a_hang_with_a_running_timer_is_told() {
    static NEVER: Gate = Gate::new();
    let config = Config { max_time_ns: 10_000_000, ..Config::default() };
    let out = sim::run(config, || {
        boot(|| {
            fn again() {
                sim::at(sim::now_ns() + 100_000, || {
                    sim::raise_line(1);
                    again();
                });
            }
            again();
            NEVER.bind(task::current().arc());
            NEVER.pass();
        })
    });
    assert!(matches!(&out.result, RunResult::Timeout(m) if m.contains("simulated time")), "{out:?}");
}

#[test]
fn traced_values_are_part_of_the_hash() {
    let run = |v| sim::run(Config::default(), || sim::trace(v)).hash;
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
