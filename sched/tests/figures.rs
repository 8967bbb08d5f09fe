//! What the cards of daemons say, under simulation: each wait's end is counted once, with its reason, processor time is that of the
//! threads, and what threads did that have ended is not forgotten.

use std::sync::Arc;

use base::daemon::{self, Card};
use frame::{
    atomic::{AtomicU64, Ordering::SeqCst},
    sim,
    sync::WaitQueue,
};
use sched::{
    kthread::{self, Kthread, Wake},
    workqueue::{Flags, Work, Workqueue},
};

static CARD: Card = Card { name: "testd", purpose: "", woken_by: "", never: "", documented: "" };
static QUEUE_CARD: Card = Card { name: "testq", purpose: "", woken_by: "", never: "", documented: "" };

fn boot(f: impl FnOnce() + Send + 'static) {
    sched::init_boot_cpu();
    let init = sched::spawn_init(
        None,
        Box::new(move || {
            sched::start_other_cpus();
            sched::start_daemons().unwrap();
            daemon::register(&CARD).unwrap();
            daemon::register(&QUEUE_CARD).unwrap();
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

fn read(path: &str) -> String {
    let n = base::tree::sys().find(&format!("kernel/nightshift/daemons/{path}")).unwrap();
    String::from_utf8(n.read().unwrap()).unwrap().trim().to_string()
}
fn number(path: &str) -> u64 {
    read(path).split(' ').next().unwrap().parse().unwrap()
}

static QUEUE: WaitQueue = WaitQueue::new();
static ASKED: AtomicU64 = AtomicU64::new(0);
static ENDS: AtomicU64 = AtomicU64::new(0);

/// Burns a little time at each event.
fn run(k: &Kthread) -> i32 {
    loop {
        let w = k.wait(&QUEUE, || (ASKED.swap(0, SeqCst) != 0).then_some(()), Some(40_000));
        ENDS.fetch_add(1, SeqCst);
        match w {
            Wake::Event(()) => burn(5_000),
            Wake::TimedOut => {}
            Wake::Stop => return 0,
            Wake::Park => k.park(),
            Wake::Freeze => k.freeze(),
        }
    }
}

fn burn(ns: u64) {
    let until = sched::time::now_ns() + ns;
    while sched::time::now_ns() < until {
        frame::cpu::relax();
    }
}

fn threads_are_counted() {
    assert_eq!(read("testd/last_wake"), "never");
    let h = kthread::spawn("testd/0", run).unwrap();
    let mut before = 0;
    for _ in 0..5 {
        ASKED.store(1, SeqCst);
        QUEUE.wake_all();
        sched::time::sleep_ns(10_000);
        let busy = number("testd/busy_ns");
        assert!(busy >= before, "processor time never falls");
        before = busy;
    }
    sched::time::sleep_ns(100_000);
    assert!(
        read("testd/last_wake").starts_with("time-out ") || read("testd/last_wake").starts_with("event ")
    );
    assert!(read("testd/threads").starts_with(&format!("testd/0 {} ", h.pid())));
    assert!(before >= 5_000, "{before}");
    h.stop();
    assert_eq!(number("testd/wakeups"), ENDS.load(SeqCst));
    assert!(number("testd/busy_ns") >= before, "what has ended is not forgotten");
    assert_eq!(read("testd/threads"), "");
    assert!(number("kthreadd/work") > 1);
}

#[test]
fn each_wait_is_counted_once() {
    sim::campaign("figures_threads", 200, |_| boot(threads_are_counted));
}

fn items_are_counted() {
    let q = Workqueue::new("testq", Flags::UNBOUND, 4).unwrap();
    let ran = Arc::new(AtomicU64::new(0));
    let r = ran.clone();
    let w = Work::new("item", move |_| {
        r.fetch_add(1, SeqCst);
        burn(3_000);
    })
    .unwrap();
    for _ in 0..6 {
        q.queue(&w);
        w.flush();
    }
    // A flush ends with the function; the count follows.
    while number("testq/wakeups") < ran.load(SeqCst) {
        sched::time::sleep_ns(1_000);
    }
    assert_eq!((number("testq/wakeups"), ran.load(SeqCst)), (6, 6));
    assert!(number("testq/busy_ns") >= 18_000, "{}", number("testq/busy_ns"));
    assert!(read("testq/last_wake").starts_with("item "));
    assert!(number("kworker/work") >= 6 && number("kworker/busy_ns") >= 18_000);
}

#[test]
fn items_of_a_queue_are_counted() {
    sim::campaign("figures_items", 200, |_| boot(items_are_counted));
}
