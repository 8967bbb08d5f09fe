//! Processors that come and go under load, in simulation: nothing may be lost.
//!
//! `NIGHTSHIFT_SEEDS=10000 cargo test -p sched --test hotplug --release` for a long campaign; `NIGHTSHIFT_SEED=n` replays one.

use std::sync::Arc;

use frame::{
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    context::PreemptGuard,
    cpu::{CpuId, CpuMask},
    sim,
    sync::{Completion, WaitQueue, rcu},
    task::State,
};
use sched::{
    Policy, cpuhp, faults,
    kthread::{self, PerCpuThread, PerCpuThreads},
    migration, stat, time,
};

const SEEDS: u64 = 300;
const US: u64 = 1000;
const MS: u64 = 1_000_000;
/// A timer or a wake-up that comes later than this has been lost: all work of a run together takes less.
const LOST_NS: u64 = 2_000 * MS;

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

fn possible() -> Vec<CpuId> {
    stat::possible_cpus().collect()
}

/// A random non-empty set of possible processors.
fn random_mask() -> CpuMask {
    CpuMask(1 + random((1 << possible().len()) - 1))
}

/// What all tasks share.
struct World {
    stop: AtomicBool,
    boxes: Vec<(WaitQueue, AtomicU32)>,
    callbacks: AtomicU32,
}

/// A task sleeps, is woken by its neighbour, works, passes the token on, changes its affinity, waits for timers.
fn worker(w: &World, i: usize, rounds: u32) {
    let me = sched::current().arc();
    for _ in 0..rounds {
        let (q, tokens) = &w.boxes[i];
        q.wait(|| tokens.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).ok());
        match random(5) {
            0 => {
                match sched::set_affinity(&me, random_mask()) {
                    // The last of the set may go at any moment; then the task may run everywhere.
                    Ok(()) => (0..5).for_each(|_| {
                        let g = PreemptGuard::new();
                        let (here, may) = (g.cpu(), sched::thread(&me).affinity());
                        assert!(may.contains(here), "runs on {here}, may on {:#x}", may.0);
                    }),
                    Err(e) => assert_eq!(e, base::Errno::EINVAL),
                }
            }
            1 => sleep_precisely(),
            2 => a_timer_fires(),
            3 => sched::yield_now(),
            _ => {
                rcu::synchronize();
            }
        }
        let (q, tokens) = &w.boxes[(i + 1) % w.boxes.len()];
        tokens.fetch_add(1, Ordering::SeqCst);
        q.wake_one();
    }
}

fn sleep_precisely() {
    let at = time::now_ns() + random(500) * US;
    time::sleep_until(at, State::UNINTERRUPTIBLE).unwrap();
    let now = time::now_ns();
    assert!(now >= at && now - at < LOST_NS, "a sleep ended {} ns after its time", now - at);
}

fn a_timer_fires() {
    let fired = Arc::new(Completion::new());
    let f = fired.clone();
    let at = time::now_ns() + random(500) * US;
    if random(2) == 0 {
        let t = time::Timer::new(move |_| f.complete()).unwrap();
        t.arm(at);
        fired.wait();
    } else {
        let t = time::TimerWheel::new(move |_| f.complete()).unwrap();
        t.arm_in(at - time::now_ns().min(at));
        fired.wait();
    }
    let now = time::now_ns();
    assert!(now >= at && now - at < LOST_NS, "a timer fired {} ns after its time", now - at);
}

/// Work that must be done on its own processor.
static ASKED: [AtomicU32; 8] = [const { AtomicU32::new(0) }; 8];
static WORKED: [AtomicU32; 8] = [const { AtomicU32::new(0) }; 8];
static ROW: PerCpuThread = PerCpuThread {
    name: "percpu",
    setup: |me| assert_eq!(frame::cpu::raw_id(), me),
    should_run: |me| ASKED[me.index()].load(Ordering::SeqCst) > WORKED[me.index()].load(Ordering::SeqCst),
    work: |me| {
        assert_eq!(frame::cpu::raw_id(), me, "a per-processor thread works elsewhere");
        WORKED[me.index()].fetch_add(1, Ordering::SeqCst);
    },
    park: |me| assert_eq!(frame::cpu::raw_id(), me),
    unpark: |me| assert_eq!(frame::cpu::raw_id(), me),
};

fn sysfs(path: &str, value: &str) -> base::Result<()> {
    base::tree::sys().find(&format!("devices/system/cpu/{path}")).unwrap().write(value.as_bytes())
}

/// Takes a processor down and up, with failing steps now and then.
fn cycle(c: CpuId) {
    // What happens before the processor comes cannot be made to fail while it is there, nor what it does with interrupts off.
    for n in [1u32, 20, 24, 51, 52] {
        assert_eq!(
            sysfs(&format!("cpu{c}/hotplug/fail"), &n.to_string()),
            Err(base::Errno::EINVAL),
            "step {n}"
        );
    }
    let failing = random(3) == 0;
    let n = [26u32, 27, 28, 50][random(4) as usize];
    if failing {
        sysfs(&format!("cpu{c}/hotplug/fail"), &n.to_string()).unwrap();
    }
    let r = sysfs(&format!("cpu{c}/online"), "0");
    if failing {
        assert_eq!(r, Err(base::Errno::EAGAIN), "step {n}");
        assert_eq!(cpuhp::state_of(c), cpuhp::state::ONLINE);
        assert!(frame::cpu::online().contains(c) && sched::place::active().contains(c));
        return;
    }
    r.unwrap();
    assert!(!frame::cpu::online().contains(c));
    assert_eq!(cpuhp::state_of(c), cpuhp::state::OFFLINE);
    let t = sched::current().arc();
    assert_eq!(sched::set_affinity(&t, CpuMask::one(c)), Err(base::Errno::EINVAL));
    let (before, _) = (stat::cpu_times(c), time::sleep_ns(random(400) * US));
    assert_eq!(stat::cpu_times(c), before, "the times of a processor that is down go on");
    if random(4) == 0 {
        let n = [1u32, 20, 28, 50][random(4) as usize];
        sysfs(&format!("cpu{c}/hotplug/fail"), &n.to_string()).unwrap();
        assert_eq!(cpuhp::cpu_up(c), Err(base::Errno::EAGAIN), "step {n}");
        assert_eq!(cpuhp::state_of(c), cpuhp::state::OFFLINE);
    }
    cpuhp::cpu_up(c).unwrap();
    assert!(frame::cpu::online().contains(c) && sched::place::active().contains(c));
}

fn everything() {
    let cpus = possible();
    if cpus.len() < 2 {
        return;
    }
    const N: usize = 4;
    let w = Arc::new(World {
        stop: AtomicBool::new(false),
        boxes: (0..N).map(|_| (WaitQueue::new(), AtomicU32::new(0))).collect(),
        callbacks: AtomicU32::new(0),
    });
    let rows = PerCpuThreads::start(&ROW).unwrap();
    let busy: Vec<_> = (0..2)
        .map(|i| {
            let w = w.clone();
            spawn(&format!("busy/{i}"), move || {
                if i == 0 {
                    let me = sched::current().arc();
                    let _ = sched::set_affinity(&me, CpuMask::one(possible()[1]));
                    if random(2) == 0 {
                        sched::set_policy(&me, Policy::Rr(5), 0).unwrap();
                    }
                }
                while !w.stop.load(Ordering::Relaxed) {
                    if random(30) == 0 {
                        time::sleep_ns(random(100) * US);
                    }
                }
            })
        })
        .collect();
    let workers: Vec<_> = (0..N)
        .map(|i| {
            let w = w.clone();
            spawn(&format!("worker/{i}"), move || worker(&w, i, 6))
        })
        .collect();
    let passer = w.clone();
    let callbacks = spawn("callbacks", move || {
        for _ in 0..8 {
            let w = passer.clone();
            rcu::call(Box::new(move || {
                w.callbacks.fetch_add(1, Ordering::SeqCst);
            }));
            time::sleep_ns(random(300) * US);
        }
    });
    for (q, tokens) in w.boxes.iter().take(2) {
        tokens.fetch_add(1, Ordering::SeqCst);
        q.wake_one();
    }
    for _ in 0..3 {
        let c = cpus[1 + random(cpus.len() as u64 - 1) as usize];
        cycle(c);
        ASKED[c.index()].fetch_add(1, Ordering::SeqCst);
        rows.wake(c);
        let until = time::now_ns() + LOST_NS;
        while WORKED[c.index()].load(Ordering::SeqCst) < ASKED[c.index()].load(Ordering::SeqCst) {
            assert!(time::now_ns() < until, "the thread of processor {c} does not work");
            time::sleep_ns(50 * US);
        }
        if random(2) == 0 {
            migration::stop_machine(|_| ()).unwrap();
        }
    }
    let until = time::now_ns() + LOST_NS;
    for d in &workers {
        // Tokens of workers that have had their rounds are replaced.
        while !d.try_wait() {
            assert!(time::now_ns() < until, "a worker does not end");
            for (q, tokens) in &w.boxes {
                if tokens.load(Ordering::SeqCst) == 0 {
                    tokens.fetch_add(1, Ordering::SeqCst);
                    q.wake_one();
                }
            }
            time::sleep_ns(200 * US);
        }
    }
    callbacks.wait();
    while w.callbacks.load(Ordering::SeqCst) != 8 {
        assert!(time::now_ns() < until, "callbacks are lost");
        time::sleep_ns(MS);
    }
    w.stop.store(true, Ordering::Relaxed);
    busy.iter().for_each(|b| b.wait());
}

#[test]
fn hotplug() {
    sim::campaign("hotplug", SEEDS, |_| boot(everything));
}

/// Timers of every kind that were armed on a processor fire on time although it is away.
fn timers_go_on() {
    let cpus = possible();
    if cpus.len() < 2 {
        return;
    }
    let c = cpus[1 + random(cpus.len() as u64 - 1) as usize];
    let left = Arc::new(AtomicU32::new(3));
    let l = left.clone();
    let asleep = Arc::new(Completion::new());
    let a = asleep.clone();
    let _sleeper = spawn("sleeper", move || {
        let me = sched::current().arc();
        sched::set_affinity(&me, CpuMask::one(c)).unwrap();
        let fires = || {
            let l = l.clone();
            move || {
                let _ = l.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let (f, g) = (fires(), fires());
        let precise = time::Timer::new(move |_| f()).unwrap();
        let coarse = time::TimerWheel::new(move |_| g()).unwrap();
        let at = time::now_ns() + (20 + random(40)) * MS;
        precise.arm(at);
        coarse.arm_in((20 + random(40)) * MS);
        a.complete();
        time::sleep_until(at, State::UNINTERRUPTIBLE).unwrap();
        l.fetch_sub(1, Ordering::SeqCst);
        time::sleep_ns(500 * MS);
    });
    asleep.wait();
    time::sleep_ns(random(2000) * US);
    cpuhp::cpu_down(c).unwrap();
    let until = time::now_ns() + 200 * MS;
    while left.load(Ordering::SeqCst) != 0 {
        assert!(time::now_ns() < until, "{} timers do not fire", left.load(Ordering::SeqCst));
        time::sleep_ns(MS);
    }
    cpuhp::cpu_up(c).unwrap();
}

#[test]
fn timers_of_a_processor_that_goes() {
    sim::campaign("timers_go_on", SEEDS, |_| boot(timers_go_on));
}

/// Timers that stay on the processor that went are a test failure.
#[test]
fn a_timer_left_behind_is_found() {
    sim::expect_failure("timer_left_behind", 100, |_| {
        boot(|| {
            faults::LEAVE_TIMERS.store(true, Ordering::Relaxed);
            timers_go_on();
        })
    });
}

/// A task that is bound to the processor and runs, or waits, goes on elsewhere.
fn tasks_go_on() {
    let cpus = possible();
    if cpus.len() < 2 {
        return;
    }
    let c = cpus[1 + random(cpus.len() as u64 - 1) as usize];
    let over = Arc::new(AtomicBool::new(false));
    let rounds: Vec<_> = (0..2).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let hogs: Vec<_> = rounds
        .iter()
        .map(|r| {
            let (o, r) = (over.clone(), r.clone());
            spawn("hog", move || {
                sched::set_affinity(&sched::current().arc(), CpuMask::one(c)).unwrap();
                while !o.load(Ordering::Relaxed) {
                    r.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    while rounds.iter().any(|r| r.load(Ordering::Relaxed) == 0) {
        time::sleep_ns(MS);
    }
    cpuhp::cpu_down(c).unwrap();
    let read = || rounds.iter().map(|r| r.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let (before, until) = (read(), time::now_ns() + 200 * MS);
    while read().iter().zip(&before).any(|(a, b)| a == b) {
        assert!(time::now_ns() < until, "a task does not go on");
        time::sleep_ns(MS);
    }
    cpuhp::cpu_up(c).unwrap();
    over.store(true, Ordering::Relaxed);
    hogs.iter().for_each(|h| h.wait());
}

#[test]
fn tasks_of_a_processor_that_goes() {
    sim::campaign("tasks_go_on", SEEDS / 3, |_| boot(tasks_go_on));
}

/// A task that stays on its queue is a test failure.
#[test]
fn a_task_left_behind_is_found() {
    sim::expect_failure("task_left_behind", 50, |_| {
        boot(|| {
            faults::LEAVE_TASKS.store(true, Ordering::Relaxed);
            tasks_go_on();
        })
    });
}

/// Stopping the machine really stops it: nothing changes while the function runs, and every job runs once.
#[test]
fn stop_machine() {
    sim::campaign("stop_machine", SEEDS / 2, |_| {
        boot(|| {
            let counter = Arc::new(AtomicU64::new(0));
            let over = Arc::new(AtomicBool::new(false));
            let counting: Vec<_> = (0..3)
                .map(|i| {
                    let (c, o) = (counter.clone(), over.clone());
                    spawn(&format!("count/{i}"), move || {
                        while !o.load(Ordering::Relaxed) {
                            c.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            let jobs = Arc::new(AtomicU32::new(0));
            let callers: Vec<_> = (0..3)
                .map(|i| {
                    let (c, jobs) = (counter.clone(), jobs.clone());
                    spawn(&format!("stop/{i}"), move || {
                        let cpus = possible();
                        let one = |_: u64| cpus[random(cpus.len() as u64) as usize];
                        for _ in 0..3 {
                            let (c, j) = (c.clone(), jobs.clone());
                            match random(3) {
                                0 => migration::stop_machine(move |_| {
                                    let a = c.load(Ordering::Relaxed);
                                    (0..50).for_each(|_| frame::cpu::relax());
                                    assert_eq!(a, c.load(Ordering::Relaxed), "the machine was not stopped");
                                    j.fetch_add(1, Ordering::Relaxed);
                                })
                                .unwrap(),
                                1 => {
                                    let here = one(0);
                                    migration::stop_one_cpu(here, move |on| {
                                        assert_eq!((on, frame::cpu::raw_id()), (here, here));
                                        j.fetch_add(1, Ordering::Relaxed);
                                    })
                                    .unwrap()
                                }
                                _ => migration::stop_two_cpus(one(0), one(1), move |_| {
                                    j.fetch_add(1, Ordering::Relaxed);
                                })
                                .unwrap(),
                            }
                        }
                    })
                })
                .collect();
            callers.iter().for_each(|c| c.wait());
            assert_eq!(jobs.load(Ordering::Relaxed), 9);
            over.store(true, Ordering::Relaxed);
            counting.iter().for_each(|c| c.wait());
        })
    });
}

/// A running task that may stay nowhere but elsewhere is elsewhere when the call returns.
#[test]
fn a_running_task_is_moved() {
    sim::campaign("moved", SEEDS / 2, |_| {
        boot(|| {
            let over = Arc::new(AtomicBool::new(false));
            let o = over.clone();
            let h = kthread::create("hog", move |_| {
                while !o.load(Ordering::Relaxed) {}
                0
            })
            .unwrap();
            h.run();
            for _ in 0..5 {
                let cpus = possible();
                let c = cpus[random(cpus.len() as u64) as usize];
                sched::set_affinity(h.task(), CpuMask::one(c)).unwrap();
                assert_eq!(h.task().cpu(), c);
                time::sleep_ns(random(200) * US);
            }
            over.store(true, Ordering::Relaxed);
            h.stop();
        })
    });
}

/// Processors are pulled out and plugged in while others bring them up and down, and their tasks go on.
fn plugged_and_pulled() {
    let cpus = possible();
    if cpus.len() < 2 {
        return;
    }
    let c = cpus[1 + random(cpus.len() as u64 - 1) as usize];
    let stop = Arc::new(AtomicBool::new(false));
    let (s, runs) = (stop.clone(), Arc::new(AtomicU64::new(0)));
    let r = runs.clone();
    let worker = spawn("worker", move || {
        let me = sched::current().arc();
        while !s.load(Ordering::Relaxed) {
            let _ = sched::set_affinity(&me, random_mask());
            r.fetch_add(1, Ordering::Relaxed);
            sleep_precisely();
        }
    });
    let s = stop.clone();
    let switcher = spawn("switcher", move || {
        while !s.load(Ordering::Relaxed) {
            let r = if random(2) == 0 { cpuhp::cpu_up(c) } else { cpuhp::cpu_down(c) };
            // One that is pulled out cannot be brought up.
            assert!(matches!(r, Ok(()) | Err(base::Errno::EINVAL)), "{r:?}");
            time::sleep_ns(random(300) * US);
        }
    });
    let folder = format!("devices/system/cpu/cpu{c}");
    for _ in 0..3 {
        cpuhp::unplug(c).unwrap();
        let gone = frame::cpu::present().or(frame::cpu::online());
        assert!(!gone.contains(c) && base::tree::sys().find(&folder).is_err());
        assert_eq!(cpuhp::unplug(c), Err(base::Errno::ENODEV));
        assert_eq!(cpuhp::cpu_up(c), Err(base::Errno::EINVAL));
        time::sleep_ns(random(500) * US);
        cpuhp::plug(c).unwrap();
        assert_eq!(cpuhp::plug(c), Err(base::Errno::EEXIST));
        assert!(base::tree::sys().find(&folder).is_ok());
        time::sleep_ns(random(500) * US);
    }
    assert_eq!(cpuhp::unplug(CpuId::BOOT), Err(base::Errno::EBUSY));
    stop.store(true, Ordering::Relaxed);
    worker.wait();
    switcher.wait();
    cpuhp::cpu_up(c).unwrap();
    assert!(runs.load(Ordering::Relaxed) > 0 && frame::cpu::online().contains(c));
}

#[test]
fn processors_are_plugged_and_pulled() {
    sim::campaign("plugged_and_pulled", SEEDS, |_| boot(plugged_and_pulled));
}
