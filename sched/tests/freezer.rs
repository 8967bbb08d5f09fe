//! The freezer under simulation: tasks that sleep, wake one another, are made and end, while the system is frozen and thawed.
//!
//! Checked: from the moment when freezing has succeeded to the thaw nobody gets anything done, and afterwards everything that was to
//! happen happens: no wake-up is lost.

use std::sync::Arc;

use frame::{
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    sim,
    sync::{Completion, WaitQueue},
    task::{self, State, Work},
};
use sched::{
    SpawnArgs,
    freezer::{self, begin_user_thread, freezing, only_frozen, try_to_freeze, while_frozen_is_fine},
    kthread::{self, Wake},
    pid, s2idle, time, wakeup,
};

const SEEDS: u64 = 200;
const WRONG_SEEDS: u64 = 200;
const US: u64 = 1000;
const MS: u64 = 1_000_000;

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

/// What the tasks do together.
#[derive(Default)]
struct World {
    /// Things done: must stand still while all is frozen.
    done: AtomicU64,
    tokens: AtomicU32,
    queue: WaitQueue,
    stop: AtomicBool,
}

/// How a user task of these tests goes wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Works where it counts as frozen.
    WorkUncounted,
}

/// The way back to user mode.
fn to_user_mode() {
    let me = task::current();
    if me.work().contains(Work::NOTIFY) {
        me.clear_work(Work::NOTIFY);
        try_to_freeze();
    }
}

fn user_task(w: &World, f: Fault) {
    begin_user_thread();
    while !w.stop.load(SeqCst) {
        to_user_mode();
        match sim::random(4) {
            0 => {
                w.tokens.fetch_add(1, SeqCst);
                w.queue.wake_one();
            }
            1 => {
                let take = || w.tokens.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).ok();
                let deadline = time::now_ns() + 50 * US;
                while time::wait_timeout(&w.queue, State::INTERRUPTIBLE, Some(deadline), take).is_err()
                    && only_frozen()
                {}
            }
            2 => {
                // As a parent waits for its `vfork` child.
                while_frozen_is_fine(|| {
                    time::sleep_ns(sim::random(3000) * US);
                    if f == Fault::WorkUncounted {
                        w.done.fetch_add(1, SeqCst);
                    }
                });
            }
            _ => {
                let _ = time::sleep_until(time::now_ns() + 30 * US, State::INTERRUPTIBLE);
            }
        }
        to_user_mode();
        w.done.fetch_add(1, SeqCst);
    }
}

fn spawn_user(f: impl FnOnce() + Send + 'static) -> Arc<Completion> {
    let done = Arc::new(Completion::new());
    let d = done.clone();
    let t = sched::spawn_user_thread(SpawnArgs {
        comm: "user".into(),
        tgid: None,
        pid: pid::reserve().unwrap(),
        payload: Box::new(()),
        entry: Box::new(move || {
            f();
            pid::release(sched::me().pid());
            d.complete();
        }),
    })
    .unwrap();
    sim::watch_task(&t, "user");
    t.start();
    done
}

fn spawn_kernel(w: Arc<World>) -> kthread::KthreadHandle {
    kthread::spawn("freezable", move |k| {
        k.set_freezable();
        let never = WaitQueue::new();
        loop {
            match k.wait(&never, || None::<()>, Some(25 * US)) {
                Wake::Freeze => k.freeze(),
                Wake::Park => k.park(),
                Wake::Stop => return 0,
                Wake::Event(()) | Wake::TimedOut => {
                    w.done.fetch_add(1, SeqCst);
                }
            }
        }
    })
    .unwrap()
}

/// Freezes, sees that all stand still, thaws, some times; then all must come to their end.
fn freeze_and_thaw(f: Fault) {
    let w = Arc::new(World::default());
    let tasks: Vec<_> = (0..1 + sim::random(4))
        .map(|_| {
            let w = w.clone();
            spawn_user(move || user_task(&w, f))
        })
        .collect();
    let k = spawn_kernel(w.clone());
    for _ in 0..1 + sim::random(3) {
        time::sleep_ns(sim::random(200) * US);
        freezer::freeze_processes().expect("user tasks come");
        freezer::freeze_kernel_threads().expect("kernel threads come");
        let before = w.done.load(SeqCst);
        time::sleep_ns(sim::random(300) * US);
        assert_eq!(w.done.load(SeqCst), before, "somebody worked while all was frozen");
        freezer::thaw_kernel_threads();
        freezer::thaw_processes();
        let (seen, mut rounds) = (w.done.load(SeqCst), 0);
        while w.done.load(SeqCst) == seen {
            time::sleep_ns(MS);
            rounds += 1;
            assert!(rounds < 100, "nobody goes on after the thaw");
        }
    }
    w.stop.store(true, SeqCst);
    for t in tasks {
        t.wait();
    }
    k.stop();
}

#[test]
fn nobody_works_while_frozen_and_all_go_on() {
    sim::campaign("freezer", SEEDS, |_| boot(|| freeze_and_thaw(Fault::None)));
}

#[test]
fn a_task_that_works_where_it_counts_as_frozen_is_found() {
    let (seed, out) = sim::expect_failure("freezer_uncounted", WRONG_SEEDS, |_| {
        boot(|| freeze_and_thaw(Fault::WorkUncounted))
    });
    eprintln!("found by seed {seed}");
    assert!(format!("{:?}", out.result).contains("worked while all was frozen"), "{}", out.report);
}

/// A task that does not come is told of by an error, and everything goes on.
#[test]
fn a_task_that_does_not_come_is_given_up() {
    sim::campaign("freezer_refuses", 20, |_| {
        boot(|| {
            freezer::TIMEOUT_MS.store(5, SeqCst);
            let gate = Arc::new(Completion::new());
            let g = gate.clone();
            let t = spawn_user(move || g.wait());
            assert_eq!(freezer::freeze_processes(), Err(base::Errno::EBUSY));
            assert!(!freezing());
            gate.complete();
            t.wait();
        });
    });
}

/// While the machine sleeps its clock stands still, and nothing becomes due; then it goes on from there.
#[test]
fn time_stands_still_in_a_suspend() {
    sim::campaign("s2idle", 100, |_| {
        boot(|| {
            let ran = Arc::new(AtomicU64::new(0));
            let r = ran.clone();
            let sleeper = spawn_user(move || {
                let from = time::now_ns();
                time::sleep_ns(MS);
                r.store(time::now_ns() - from, SeqCst);
            });
            time::sleep_ns(sim::random(100) * US);
            wakeup::arm();
            frame::irq::request(5, wakeup::event).expect("the line is free");
            sim::at(sim::now_ns() + 50 * MS, || sim::raise_line(5));
            let (mono, boot, real) = (time::now_ns(), time::boottime_ns(), time::realtime_ns());
            let slept = s2idle::enter();
            wakeup::disarm();
            assert!(slept > 40 * MS, "{slept}");
            assert!(time::now_ns() - mono < 10 * MS, "the clock went on");
            assert!(time::boottime_ns() - boot > 40 * MS);
            assert!(time::realtime_ns() - real > 40 * MS);
            sleeper.wait();
            assert!(ran.load(SeqCst) >= MS && ran.load(SeqCst) < 20 * MS, "{}", ran.load(SeqCst));
        });
    });
}
