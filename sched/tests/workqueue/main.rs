//! Work queues under simulation, against a model: random queueing, cancelling, flushing, draining, delays, limits, order, rescue
//! and processors that come and go, on several processors with seeded preemption at every atomic access.
//!
//! `NIGHTSHIFT_SEEDS=100000 cargo test -p sched --test workqueue --release` for a long campaign; `NIGHTSHIFT_SEED=n` replays one.
//! The variants in `wrong` are wrong on purpose: the same checks must find each.

mod changes;
mod scopes;
mod wrong;

use std::sync::Arc;

use frame::{
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    cpu::CpuId,
    sim,
    sync::Completion,
};
use sched::{
    kthread, time,
    workqueue::{
        self, DelayedWork, Flags, Work, Workqueue,
        fault::{self, bits},
    },
};

use wrong::wrong_bits;

const SEEDS: u64 = 300;
/// How many seeds a wrong variant may take to show.
const WRONG_SEEDS: u64 = 400;
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

/// What an item's function does, besides being watched.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Short,
    Sleeps,
    /// Takes the processor for a while.
    Spins,
}

/// An item and what the model knows of it.
struct Item {
    work: Arc<Work>,
    watch: Arc<Watch>,
}

/// Counts. Each is changed on its own; what must hold between them is said where it is checked.
#[derive(Default)]
struct Watch {
    /// Queueings that were accepted, less those that were taken back.
    accepted: AtomicU64,
    taken_back: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
    inside: AtomicU32,
}

/// A queue's limit, as the items see it.
#[derive(Default)]
struct Limit {
    inside: AtomicU32,
    most: AtomicU32,
}

impl Watch {
    fn enter(&self, name: &str) {
        let others = self.inside.fetch_add(1, SeqCst);
        assert_eq!(others, 0, "{name}: executed by two workers at once");
        self.begun.fetch_add(1, SeqCst);
    }
    fn leave(&self) {
        self.inside.fetch_sub(1, SeqCst);
        self.ended.fetch_add(1, SeqCst);
    }
}

impl Limit {
    fn enter(&self) {
        let n = self.inside.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(n, SeqCst);
    }
    fn leave(&self) {
        self.inside.fetch_sub(1, SeqCst);
    }
}

fn body(kind: Kind) {
    match kind {
        Kind::Short => {}
        Kind::Sleeps => time::sleep_ns(random(60) * US),
        Kind::Spins => {
            let end = time::now_ns() + random(30) * US;
            while time::now_ns() < end {
                frame::cpu::relax();
            }
        }
    }
}

fn item(kind: Kind, limit: &Arc<Limit>) -> Item {
    let watch = Arc::new(Watch::default());
    let (w, l) = (watch.clone(), limit.clone());
    let work = Work::new("model_fn", move |_| {
        w.enter("model_fn");
        l.enter();
        body(kind);
        l.leave();
        w.leave();
    })
    .unwrap();
    Item { work, watch }
}

/// Random flags, and the limit that the model expects over all processors.
fn random_queue() -> (Arc<Workqueue>, u32) {
    let cpus = frame::cpu::possible() as u32;
    let max = 1 + random(3) as u32;
    let some = |f: Flags| if random(3) == 0 { f } else { Flags::empty() };
    let extra = some(Flags::HIGHPRI) | some(Flags::CPU_INTENSIVE) | some(Flags::MEM_RECLAIM);
    match random(3) {
        0 => (Workqueue::new("percpu", extra, max).unwrap(), max * cpus),
        1 => (Workqueue::new("unbound", extra | Flags::UNBOUND, max).unwrap(), max),
        _ => (Workqueue::new("ordered", extra | Flags::ORDERED, 1).unwrap(), 1),
    }
}

/// Queues it, perhaps for some processor.
fn queue(q: &Workqueue, i: &Item) -> bool {
    // Counted first: it may have been executed before the call returns.
    i.watch.accepted.fetch_add(1, SeqCst);
    let ok = if random(2) == 0 {
        q.queue(&i.work)
    } else {
        q.queue_on(CpuId::new(random(frame::cpu::possible() as u64) as u32).unwrap(), &i.work)
    };
    if !ok {
        i.watch.accepted.fetch_sub(1, SeqCst);
    }
    ok
}

/// Several tasks do random things to random items of one queue.
fn operations(pushes: u64) {
    let (q, most) = random_queue();
    let limit = Arc::new(Limit::default());
    let kinds = [Kind::Short, Kind::Short, Kind::Sleeps, Kind::Spins];
    let items: Arc<Vec<Item>> = Arc::new((0..5).map(|_| item(kinds[random(4) as usize], &limit)).collect());
    let tasks: Vec<_> = (0..3)
        .map(|t| {
            let (q, items) = (q.clone(), items.clone());
            spawn(&format!("user/{t}"), move || {
                for _ in 0..pushes {
                    one_operation(&q, &items[random(items.len() as u64) as usize]);
                }
            })
        })
        .collect();
    tasks.iter().for_each(|t| t.wait());
    q.flush();
    for i in items.iter() {
        let w = &i.watch;
        assert!(!i.work.is_busy(), "busy after a flush with nobody left to queue");
        let (accepted, back) = (w.accepted.load(SeqCst), w.taken_back.load(SeqCst));
        assert_eq!(w.begun.load(SeqCst), accepted - back, "of {accepted} accepted {back} were taken back");
        assert_eq!(w.ended.load(SeqCst), w.begun.load(SeqCst));
    }
    let seen = limit.most.load(SeqCst);
    assert!(seen <= most, "{seen} executed at once, at most {most} may be");
    q.destroy();
}

fn one_operation(q: &Arc<Workqueue>, i: &Item) {
    let w = &i.watch;
    match random(10) {
        0..5 => {
            queue(q, i);
        }
        5 => {
            if i.work.cancel() {
                w.taken_back.fetch_add(1, SeqCst);
            }
        }
        6 => {
            if i.work.cancel_sync() {
                w.taken_back.fetch_add(1, SeqCst);
            }
        }
        7 => {
            // All that was executing or pending when it was called is over afterwards.
            let begun = w.begun.load(SeqCst);
            i.work.flush();
            assert!(w.ended.load(SeqCst) >= begun, "flush returned before what it found executing had ended");
        }
        8 => {
            let begun = w.begun.load(SeqCst);
            q.flush();
            assert!(w.ended.load(SeqCst) >= begun, "the queue's flush returned too early");
        }
        _ => time::sleep_ns(random(40) * US),
    }
}

#[test]
fn items_are_executed_once_per_queueing() {
    sim::campaign("wq_operations", SEEDS, |_| boot(|| operations(12)));
}

/// One task alone knows exactly what must have happened.
fn sequence() {
    let (q, _) = random_queue();
    let limit = Arc::new(Limit::default());
    let i = item(if random(2) == 0 { Kind::Sleeps } else { Kind::Short }, &limit);
    let w = &i.watch;
    for _ in 0..8 {
        let before = w.ended.load(SeqCst);
        assert!(queue(&q, &i), "nobody else queues it");
        match random(4) {
            0 => {
                i.work.flush();
                assert_eq!(w.ended.load(SeqCst), before + 1, "flush: executed exactly once");
            }
            1 => {
                q.flush();
                assert_eq!(w.ended.load(SeqCst), before + 1, "queue flush: executed exactly once");
            }
            2 => {
                let back = i.work.cancel_sync();
                assert_eq!(w.ended.load(SeqCst), before + !back as u64, "cancel_sync: taken back or over");
                assert!(!i.work.is_busy());
            }
            _ => {
                // Queued while it executes it is executed once more.
                let again = queue(&q, &i);
                i.work.flush();
                assert_eq!(w.ended.load(SeqCst), before + 1 + again as u64);
            }
        }
    }
    q.destroy();
    assert!(!i.work.is_busy());
    assert!(!q.queue(&i.work), "a queue that was taken down takes nothing in");
}

#[test]
fn one_task_knows_what_happened() {
    sim::campaign("wq_sequence", SEEDS, |_| boot(sequence));
}

/// After `cancel_sync` an item that queues itself again and again is not pending.
fn cancel_sync_against_others() {
    let (q, _) = random_queue();
    let q2 = q.clone();
    let w = Work::new("again_fn", move |w| {
        q2.queue(w);
        body(Kind::Sleeps);
    })
    .unwrap();
    for _ in 0..4 {
        q.queue(&w);
        time::sleep_ns(random(60) * US);
        w.cancel_sync();
        assert!(!w.is_busy(), "busy after cancel_sync, with nobody else to queue it");
    }
    q.destroy();
}

#[test]
fn an_item_that_queues_itself_can_be_cancelled() {
    sim::campaign("wq_self", SEEDS, |_| boot(cancel_sync_against_others));
}

/// Disabling against others that queue: until it is enabled, nothing happens.
fn cancel_sync() {
    let (q, _) = random_queue();
    let limit = Arc::new(Limit::default());
    let i = Arc::new(item(Kind::Sleeps, &limit));
    let stop = Arc::new(AtomicBool::new(false));
    let (q2, i2, s2) = (q.clone(), i.clone(), stop.clone());
    let other = spawn("other", move || {
        while !s2.load(SeqCst) {
            q2.queue(&i2.work);
            time::sleep_ns(random(8) * US);
        }
    });
    for _ in 0..6 {
        time::sleep_ns(random(40) * US);
        i.work.disable_sync();
        assert_eq!(i.watch.inside.load(SeqCst), 0, "executed after disable_sync");
        assert!(!q.queue(&i.work), "queued while disabled");
        time::sleep_ns(random(40) * US);
        assert_eq!(i.watch.inside.load(SeqCst), 0);
        i.work.enable();
    }
    stop.store(true, SeqCst);
    other.wait();
    i.work.cancel_sync();
    assert!(!i.work.is_busy());
    q.destroy();
}

#[test]
fn nothing_happens_after_cancel_sync() {
    sim::campaign("wq_cancel_sync", SEEDS, |_| boot(cancel_sync));
}

/// Delays: not early, not twice, not after a cancel that said so; put off and brought forward.
fn delayed() {
    let q =
        Workqueue::new("delayed", if random(2) == 0 { Flags::UNBOUND } else { Flags::empty() }, 0).unwrap();
    let tasks: Vec<_> = (0..3)
        .map(|t| {
            let q = q.clone();
            spawn(&format!("delayed/{t}"), move || {
                let runs = Arc::new(AtomicU32::new(0));
                let due = Arc::new(AtomicU64::new(0));
                let (r, d) = (runs.clone(), due.clone());
                let w = DelayedWork::new("delayed_fn", move |_| {
                    assert!(time::now_ns() >= d.load(SeqCst), "too early");
                    r.fetch_add(1, SeqCst);
                })
                .unwrap();
                for _ in 0..6 {
                    let before = runs.load(SeqCst);
                    let ns = random(10) * MS;
                    due.store(time::now_ns() + ns, SeqCst);
                    assert!(q.queue_delayed(&w, ns));
                    time::sleep_ns(random(6) * MS);
                    match random(4) {
                        0 => {
                            let back = w.cancel_sync();
                            assert_eq!(runs.load(SeqCst), before + !back as u32);
                            time::sleep_ns(random(20) * MS);
                            assert_eq!(runs.load(SeqCst), before + !back as u32, "executed after a cancel");
                        }
                        1 => {
                            due.store(0, SeqCst);
                            w.flush();
                            assert_eq!(runs.load(SeqCst), before + 1, "a flush cuts the delay");
                        }
                        2 => {
                            let ns = random(10) * MS;
                            due.store(0, SeqCst);
                            let was = q.mod_delayed(&w, ns);
                            w.flush();
                            assert_eq!(runs.load(SeqCst), before + 1 + !was as u32);
                        }
                        _ => {
                            while runs.load(SeqCst) == before {
                                time::sleep_ns(MS);
                            }
                            w.flush();
                            assert_eq!(runs.load(SeqCst), before + 1);
                        }
                    }
                }
            })
        })
        .collect();
    tasks.iter().for_each(|t| t.wait());
    q.destroy();
}

#[test]
fn delays() {
    sim::campaign("wq_delayed", SEEDS, |_| boot(delayed));
}

/// Work that waits on work of its own queue: sleepers do not hold up those behind them.
///
/// Twice: in a pool that grows, each worker has just made the next, which looks for work by itself when it first runs. Only where
/// those behind are there already, and sleep, does it take a wake-up to get them.
fn sleepers_let_others_run() {
    // Without the watch over long items, which would find those that were forgotten, a little later.
    let knob = base::tree::sys().find("module/workqueue/parameters/cpu_intensive_thresh_us").unwrap();
    knob.write(b"0").unwrap();
    let q = Workqueue::new("deep", if random(2) == 0 { Flags::HIGHPRI } else { Flags::empty() }, 0).unwrap();
    let cpu = CpuId::new(random(frame::cpu::possible() as u64) as u32).unwrap();
    let n = 2 + random(5) as usize;
    for _ in 0..2 {
        chain(&q, cpu, n);
        // Its workers go to sleep.
        time::sleep_ns(MS);
    }
    q.destroy();
}

/// Queues `n` items on one processor, each of which waits for the one that is queued after it, and waits for all.
fn chain(q: &Arc<Workqueue>, cpu: CpuId, n: usize) {
    let gates: Arc<Vec<Completion>> = Arc::new((0..n).map(|_| Completion::new()).collect());
    let works: Vec<_> = (0..n)
        .map(|k| {
            let g = gates.clone();
            Work::new("chain_fn", move |_| {
                if k + 1 < n {
                    g[k + 1].wait();
                }
                g[k].complete();
            })
            .unwrap()
        })
        .collect();
    for w in &works {
        assert!(q.queue_on(cpu, w));
    }
    gates[0].wait();
    q.flush();
    assert!(works.iter().all(|w| !w.is_busy()));
}

#[test]
fn sleeping_items_do_not_block_others() {
    sim::campaign("wq_sleepers", SEEDS, |_| boot(sleepers_let_others_run));
}

/// No worker can be made: a queue with a rescuer gets through all the same, though its items wait for one another.
fn rescue() {
    let per_cpu = random(2) == 0;
    let f = if per_cpu { Flags::empty() } else { Flags::UNBOUND };
    let q = Workqueue::new("reclaim", f | Flags::MEM_RECLAIM, 0).unwrap();
    let hold = Arc::new(Completion::new());
    fault::inject(wrong_bits() | bits::DENY_CREATION);
    // Every worker that there is blocks.
    let blockers: Vec<_> = (0..12)
        .map(|_| {
            let h = hold.clone();
            Work::new("block_fn", move |_| h.wait()).unwrap()
        })
        .collect();
    for (i, b) in blockers.iter().enumerate() {
        let cpu = CpuId::new((i % frame::cpu::possible()) as u32).unwrap();
        if per_cpu {
            workqueue::events().queue_on(cpu, b);
        } else {
            workqueue::events_unbound().queue(b);
        }
    }
    let done = Arc::new(AtomicU32::new(0));
    let works: Vec<_> = (0..4)
        .map(|_| {
            let d = done.clone();
            Work::new("reclaim_fn", move |_| {
                body(Kind::Sleeps);
                d.fetch_add(1, SeqCst);
            })
            .unwrap()
        })
        .collect();
    for w in &works {
        assert!(q.queue(w));
    }
    let began = time::now_ns();
    works.iter().for_each(|w| {
        w.flush();
    });
    assert_eq!(done.load(SeqCst), 4);
    assert!(time::now_ns() - began < 900 * MS, "rescued too late");
    fault::inject(wrong_bits());
    hold.complete_all();
    blockers.iter().for_each(|b| {
        b.flush();
    });
    q.destroy();
}

#[test]
fn rescuers_rescue() {
    sim::campaign("wq_rescue", SEEDS, |_| boot(rescue));
}

/// Draining lets a chain end and keeps others out.
fn drain() {
    let (q, _) = random_queue();
    let left = Arc::new(AtomicU32::new(3 + random(5) as u32));
    let (l, q2) = (left.clone(), q.clone());
    let chain = Work::new("chained_fn", move |w| {
        body(Kind::Sleeps);
        if l.fetch_sub(1, SeqCst) > 1 {
            assert!(q2.queue(w), "an item's own queueing is taken in while its queue is drained");
        }
    })
    .unwrap();
    assert!(q.queue(&chain));
    let (q3, stop) = (q.clone(), Arc::new(AtomicBool::new(false)));
    let s = stop.clone();
    let other = spawn("other", move || {
        let limit = Arc::new(Limit::default());
        let i = item(Kind::Short, &limit);
        while !s.load(SeqCst) {
            q3.queue(&i.work);
            time::sleep_ns(random(30) * US);
        }
        i.work.cancel_sync();
    });
    q.drain();
    assert_eq!(left.load(SeqCst), 0, "drained before the chain had ended");
    assert!(!chain.is_busy());
    stop.store(true, SeqCst);
    other.wait();
    q.destroy();
}

#[test]
fn drains() {
    sim::campaign("wq_drain", SEEDS, |_| boot(drain));
}

#[test]
fn same_seed_same_run() {
    let run = || sim::run(sim::Config::from_seed(5), || boot(|| operations(12)));
    let (a, b) = (run(), run());
    assert!(a.is_ok(), "{}", a.report);
    assert_eq!((a.hash, a.steps, a.time_ns), (b.hash, b.steps, b.time_ns));
}
