//! The detectors of lockups and of hung tasks, in simulation: what is stuck is told as often as it should be, and nothing else ever.
//!
//! `NIGHTSHIFT_SEEDS=5000 cargo test -p sched --test detectors --release` for a long campaign; `NIGHTSHIFT_SEED=n` replays one.

use std::sync::Arc;

use base::{log, tree};
use frame::{
    atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst},
    context::{IrqGuard, PreemptGuard},
    cpu::CpuId,
    sim,
    sync::{Completion, WaitQueue},
    task::{self, State},
};
use sched::{TaskRef, cpuhp, faults, kthread, stat, thread, time};

const SEEDS: u64 = 100;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

fn boot(f: impl FnOnce() + Send + 'static) {
    sched::init_boot_cpu();
    let init = sched::spawn_init(
        None,
        Box::new(move || {
            sched::start_other_cpus();
            sched::start_daemons().unwrap();
            sched::start_detectors().unwrap();
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

fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> (TaskRef, Arc<Completion>) {
    let done = Arc::new(Completion::new());
    let d = done.clone();
    let h = kthread::spawn(name, move |_| {
        f();
        d.complete();
        0
    })
    .unwrap();
    sim::watch_task(h.task(), name);
    (h.task().clone(), done)
}

fn set(knob: &str, value: impl ToString) {
    let n = tree::proc().find(&format!("sys/kernel/{knob}")).unwrap();
    n.write(value.to_string().as_bytes()).unwrap();
}
fn get(knob: &str) -> String {
    let text = tree::proc().find(&format!("sys/kernel/{knob}")).unwrap().read().unwrap();
    String::from_utf8(text).unwrap().trim().to_owned()
}

/// Records since `seq` that contain `what`: when, and the text.
fn said(seq: u64, what: &str) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let mut at = seq;
    while let Some(r) = log::read_from(at) {
        at = r.seq + 1;
        if r.text.contains(what) {
            found.push((r.ts_ns, r.text));
        }
    }
    found
}
const HUNG: &str = "blocked for more than";

/// In short sleeps, so that whoever waits here is no hung task.
fn pass(ns: u64) {
    let end = time::now_ns() + ns;
    while time::now_ns() < end {
        time::sleep_ns((end - time::now_ns()).min(300 * MS));
    }
}

/// Tasks that are not hung, though they sleep as one could think they are.
struct Innocents {
    over: Arc<AtomicBool>,
    queue: Arc<WaitQueue>,
    tasks: Vec<(TaskRef, Arc<Completion>)>,
}

impl Innocents {
    fn start() -> Innocents {
        let (over, queue) = (Arc::new(AtomicBool::new(false)), Arc::new(WaitQueue::new()));
        let waits = [State::INTERRUPTIBLE, State::KILLABLE, State::IDLE].map(|state| {
            let (o, q) = (over.clone(), queue.clone());
            spawn("waits", move || {
                let _ = q.wait_as(state, || o.load(SeqCst).then_some(()));
            })
        });
        let o = over.clone();
        // Uninterruptible nearly all of the time, but it runs.
        let naps = spawn("naps", move || {
            while !o.load(SeqCst) {
                time::sleep_ns((100 + random(500)) * MS);
            }
        });
        Innocents { over, queue, tasks: waits.into_iter().chain([naps]).collect() }
    }
    fn end(self) {
        self.over.store(true, SeqCst);
        self.queue.wake_all();
        self.tasks.iter().for_each(|t| t.1.wait());
    }
}

/// A task that hangs is told once per interval, from one to two time-outs on, until the allowance is used; a new one brings the reports
/// back; once it runs there are none.
fn a_hung_task() {
    let seq = log::next_seq();
    let timeout = 1 + random(3);
    let interval = random(2) * (1 + random(timeout));
    let between = if interval == 0 { timeout } else { interval } * SECOND;
    let allowance = 1 + random(3);
    set("hung_task_check_interval_secs", interval);
    set("hung_task_warnings", allowance);
    set("hung_task_timeout_secs", timeout);
    let innocents = Innocents::start();
    pass(random(2000) * MS);
    let (free, queue) = (Arc::new(AtomicBool::new(false)), Arc::new(WaitQueue::new()));
    let (f, q) = (free.clone(), queue.clone());
    let (stuck, done) = spawn("stuck", move || q.wait(|| f.load(SeqCst).then_some(())));
    let name = format!("INFO: task stuck:{} {HUNG}", thread(&stuck).pid());
    while stuck.state() != State::UNINTERRUPTIBLE {
        time::sleep_ns(MS);
    }
    let begun = time::now_ns();
    // A scan itself may take some time on a processor that stalls.
    let slack = 100 * MS;
    pass(timeout * SECOND + (allowance + 3) * (between + slack));
    let told = said(seq, &name);
    assert_eq!(told.len() as u64, allowance, "{told:?}");
    assert_eq!(get("hung_task_warnings"), "0");
    assert!(told[0].0 + slack >= begun + timeout * SECOND, "too early");
    let latest = begun + timeout * SECOND + 2 * between + slack;
    assert!(told[0].0 <= latest, "told after {} ms", (told[0].0 - begun) / MS);
    for pair in told.windows(2) {
        let ns = pair[1].0 - pair[0].0;
        assert!(ns + slack >= between && ns <= between + slack, "{} ms between two", ns / MS);
    }
    assert_eq!(said(seq, "Future hung task reports are suppressed").len(), 1);

    set("hung_task_warnings", 1);
    pass(2 * between + slack);
    assert_eq!(said(seq, &name).len() as u64, allowance + 1);

    set("hung_task_warnings", -1);
    set("hung_task_timeout_secs", 0);
    pass(3 * between);
    assert_eq!(said(seq, &name).len() as u64, allowance + 1, "0 is off");

    free.store(true, SeqCst);
    queue.wake_all();
    done.wait();
    set("hung_task_timeout_secs", timeout);
    pass(3 * between);
    assert_eq!(said(seq, HUNG).len() as u64, allowance + 1, "only what hangs is told");
    assert_eq!(get("hung_task_warnings"), "-1");
    innocents.end();
}

#[test]
fn hung_tasks() {
    sim::campaign("a_hung_task", SEEDS, |_| boot(a_hung_task));
}

/// A detector that does not see that a task has run in between is a test failure.
#[test]
fn one_that_accuses_who_runs_is_found() {
    sim::expect_failure("blind_to_switches", SEEDS, |_| {
        boot(|| {
            faults::BLIND_TO_SWITCHES.store(true, Relaxed);
            a_hung_task();
        })
    });
}

fn last_cpu() -> CpuId {
    stat::possible_cpus().last().unwrap()
}
const SOFT: &str = "BUG: soft lockup";
const HARD: &str = "hard LOCKUP";

/// Moves to a processor and stays there.
fn go_to(c: CpuId) {
    sched::set_affinity(&task::current().arc(), frame::cpu::CpuMask::one(c)).unwrap();
}

/// A processor that does not schedule, for some time.
fn stuck(c: CpuId, ns: u64) {
    let (_, done) = spawn("hog", move || {
        go_to(c);
        let _here = PreemptGuard::new();
        frame::time::spin_ns(ns);
    });
    done.wait();
}

/// Twice the threshold and not less is told; where, how long and who is right; the processor goes on.
fn soft_lockups() {
    let (seq, c) = (log::next_seq(), last_cpu());
    set("watchdog_thresh", 1);
    stuck(c, 1900 * MS);
    assert!(said(seq, SOFT).is_empty(), "told too early");
    stuck(c, 4 * SECOND);
    let told = said(seq, SOFT);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].1.contains(&format!("soft lockup - CPU#{c} stuck for 3s! [hog:")), "{told:?}");
    assert_eq!(base::taint::bits(), 1 << base::taint::Taint::SoftLockup as u32);
    for (knob, off, on) in
        [("soft_watchdog", "0", "1"), ("watchdog_thresh", "0", "1"), ("watchdog", "0", "1")]
    {
        set(knob, off);
        stuck(c, 4 * SECOND);
        assert_eq!(said(seq, SOFT).len(), 1, "{knob} is off");
        set(knob, on);
    }
    stuck(c, 4 * SECOND);
    assert_eq!(said(seq, SOFT).len(), 2);
    assert!(said(seq, HARD).is_empty());
}

#[test]
fn a_processor_that_does_not_schedule() {
    sim::campaign("soft_lockups", SEEDS / 4, |_| boot(soft_lockups));
}

/// A processor without interrupts is told once, by another.
fn hard_lockups() {
    let (seq, c) = (log::next_seq(), last_cpu());
    if c == CpuId::BOOT {
        return;
    }
    set("watchdog_thresh", 1);
    let deaf = || {
        let (_, done) = spawn("hog", move || {
            go_to(c);
            let _deaf = IrqGuard::new();
            frame::time::spin_ns(8 * SECOND);
        });
        done.wait();
        pass(SECOND);
    };
    deaf();
    let told = said(seq, HARD);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].1.ends_with(&format!("Watchdog detected hard LOCKUP on cpu {c}")));
    set("nmi_watchdog", 0);
    deaf();
    assert_eq!(said(seq, HARD).len(), 1, "it is off");
    set("nmi_watchdog", 1);
    deaf();
    assert_eq!(said(seq, HARD).len(), 2);
}

#[test]
fn a_processor_without_interrupts() {
    sim::campaign("hard_lockups", SEEDS / 4, |_| boot(hard_lockups));
}

fn samples() -> Vec<u64> {
    let text = tree::sys().find("kernel/nightshift/watchdog/samples").unwrap().read().unwrap();
    let text = String::from_utf8(text).unwrap();
    text.lines().map(|l| l.split(' ').nth(1).unwrap().parse().unwrap()).collect()
}

/// Knobs are turned and processors come and go: nobody is accused, and in the end each processor that is there is watched, once.
fn a_quiet_machine() {
    let seq = log::next_seq();
    let cpus: Vec<_> = stat::possible_cpus().collect();
    for _ in 0..4 + random(8) {
        match random(6) {
            0 => set("watchdog", random(2)),
            1 => set("soft_watchdog", random(2)),
            2 => set("nmi_watchdog", random(2)),
            3 => set("watchdog_thresh", random(4)),
            4 => set("watchdog_cpumask", base::cpulist::text(frame::cpu::CpuMask(random(1 << cpus.len())))),
            _ if cpus.len() > 1 => {
                let c = cpus[1 + random(cpus.len() as u64 - 1) as usize];
                let online = frame::cpu::online().contains(c);
                let r = if online { cpuhp::cpu_down(c) } else { cpuhp::cpu_up(c) };
                r.unwrap();
            }
            _ => {}
        }
        pass(random(4000) * MS);
    }
    for (knob, v) in [("watchdog", 1), ("soft_watchdog", 1), ("nmi_watchdog", 1), ("watchdog_thresh", 1)] {
        set(knob, v);
    }
    set("watchdog_cpumask", format!("0-{}", cpus.len() - 1));
    let (before, begun) = (samples(), time::now_ns());
    pass(4 * SECOND);
    // One in 400 ms.
    let expect = (time::now_ns() - begun) / (400 * MS);
    for (i, (a, b)) in before.iter().zip(samples()).enumerate() {
        let n = b - a;
        if frame::cpu::online().contains(cpus[i]) {
            assert!(n + 2 >= expect && n <= expect + 1, "{n} samples of processor {i}, and not {expect}");
        } else {
            assert_eq!(n, 0, "processor {i} is not there");
        }
    }
    let wrong = [said(seq, SOFT), said(seq, HARD), said(seq, HUNG)].concat();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn nobody_is_accused_without_cause() {
    sim::campaign("a_quiet_machine", SEEDS, |_| boot(a_quiet_machine));
}

/// A processor that goes and stays in the ring of the watched is accused: a test failure.
#[test]
fn one_that_watches_who_has_gone_is_found() {
    sim::expect_failure("watched_after_death", SEEDS, |_| {
        boot(|| {
            faults::LEAVE_WATCHED.store(true, Relaxed);
            a_quiet_machine();
        })
    });
}
