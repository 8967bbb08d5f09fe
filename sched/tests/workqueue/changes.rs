//! What changes under a queue's feet: its attributes, processors, the freezer, the size of its pool.

use std::sync::Arc;

use frame::{
    atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    cpu::CpuId,
    sim,
    sync::Completion,
};
use sched::{
    time,
    workqueue::{
        self, DelayedWork, Flags, Work, Workqueue,
        fault::{self, bits},
    },
};

use crate::{Kind, Limit, MS, SEEDS, US, body, boot, item, one_operation, random, spawn, wrong::wrong_bits};

/// The items of an ordered queue are executed in the order of queueing, one at a time, whoever queues them and even if its
/// pool is exchanged.
pub(crate) fn ordered() {
    let q = Workqueue::new("ordered", Flags::ORDERED | Flags::SYSFS, 1).unwrap();
    let lock = Arc::new(frame::sync::SpinLockIrq::new(&ORDER, Vec::<u32>::new()));
    let seen = Arc::new(frame::sync::SpinLockIrq::new(&ORDER, Vec::<u32>::new()));
    let inside = Arc::new(AtomicU32::new(0));
    let next = Arc::new(AtomicU32::new(0));
    let users: Vec<_> = (0..2)
        .map(|t| {
            let (q, lock, seen, inside, next) =
                (q.clone(), lock.clone(), seen.clone(), inside.clone(), next.clone());
            spawn(&format!("user/{t}"), move || {
                for _ in 0..6 {
                    let n = next.fetch_add(1, SeqCst);
                    let (seen, inside) = (seen.clone(), inside.clone());
                    let kind = if random(2) == 0 { Kind::Sleeps } else { Kind::Short };
                    let w = Work::new("ordered_fn", move |_| {
                        assert_eq!(inside.fetch_add(1, SeqCst), 0, "two items of an ordered queue at once");
                        body(kind);
                        seen.lock().push(n);
                        inside.fetch_sub(1, SeqCst);
                    })
                    .unwrap();
                    // The order is the one in which they get the lock.
                    let mut l = lock.lock();
                    l.push(n);
                    assert!(q.queue(&w));
                    drop(l);
                    time::sleep_ns(random(20) * US);
                }
            })
        })
        .collect();
    let nice = base::tree::sys().find("devices/virtual/workqueue/ordered/nice").unwrap();
    for _ in 0..random(4) {
        time::sleep_ns(random(60) * US);
        nice.write(format!("{}", random(20)).as_bytes()).unwrap();
    }
    users.iter().for_each(|u| u.wait());
    q.flush();
    let want = lock.lock().clone();
    let got = seen.lock().clone();
    assert_eq!(got, want, "out of order");
    q.destroy();
}

static ORDER: frame::sync::LockClass = frame::sync::LockClass::new("test_order");

#[test]
fn ordered_is_in_order() {
    sim::campaign("wq_ordered", SEEDS, |_| boot(ordered));
}

/// Attributes change, processors leave and come back, and the freezer comes by: nothing is lost.
fn upheaval() {
    let per_cpu = Workqueue::new("percpu", Flags::empty(), 2).unwrap();
    let unbound = Workqueue::new("unbound", Flags::UNBOUND | Flags::SYSFS, 2).unwrap();
    let frozen = Workqueue::new("frozen", Flags::FREEZABLE, 2).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let s = stop.clone();
    let meddler = spawn("meddler", move || {
        let cpus = frame::cpu::possible() as u64;
        let knob = |name: &str, v: u64| {
            let n = base::tree::sys().find(&format!("devices/virtual/workqueue/unbound/{name}")).unwrap();
            n.write(format!("{v:x}").as_bytes()).unwrap();
        };
        while !s.load(SeqCst) {
            let cpu = CpuId::new(random(cpus) as u32).unwrap();
            match random(5) {
                0 => {
                    workqueue::cpu_offline(cpu);
                    time::sleep_ns(random(60) * US);
                    workqueue::cpu_online(cpu).unwrap();
                }
                1 => knob("nice", random(9)),
                2 => knob("cpumask", 1 + random((1 << cpus) - 1)),
                3 => knob("max_active", 1 + random(3)),
                _ => {
                    workqueue::freeze_workqueues_begin();
                    while workqueue::freeze_workqueues_busy() {
                        time::sleep_ns(10 * US);
                    }
                    time::sleep_ns(random(60) * US);
                    workqueue::thaw_workqueues();
                }
            }
            time::sleep_ns(random(50) * US);
        }
    });
    let users: Vec<_> = [&per_cpu, &unbound, &frozen]
        .map(|q| {
            let q = q.clone();
            spawn("user", move || {
                let limit = Arc::new(Limit::default());
                let items: Vec<_> = (0..3).map(|_| item(Kind::Sleeps, &limit)).collect();
                for _ in 0..12 {
                    one_operation(&q, &items[random(3) as usize]);
                }
                q.flush();
                for i in &items {
                    let (a, b) = (i.watch.accepted.load(SeqCst), i.watch.taken_back.load(SeqCst));
                    assert_eq!(i.watch.ended.load(SeqCst), a - b);
                }
            })
        })
        .into_iter()
        .collect();
    users.iter().for_each(|u| u.wait());
    stop.store(true, SeqCst);
    meddler.wait();
    [per_cpu, unbound, frozen].iter().for_each(|q| q.destroy());
}

#[test]
fn upheaval_loses_nothing() {
    sim::campaign("wq_upheaval", SEEDS, |_| boot(upheaval));
}

/// After five minutes idle a pool that had grown is small again, and its workers' numbers are free.
fn cull() {
    let before = sched::pid::count();
    let hold = Arc::new(Completion::new());
    let works: Vec<_> = (0..10)
        .map(|_| {
            let h = hold.clone();
            Work::new("block_fn", move |_| h.wait()).unwrap()
        })
        .collect();
    works.iter().for_each(|w| {
        workqueue::events().queue_on(CpuId::BOOT, w);
    });
    while sched::pid::count() < before + 10 {
        time::sleep_ns(MS);
    }
    hold.complete_all();
    works.iter().for_each(|w| {
        w.flush();
    });
    time::sleep_ns(400_000 * MS);
    let now = sched::pid::count();
    assert!((before..before + 2).contains(&now), "{before} tasks before, {now} after");
}

#[test]
fn idle_workers_go() {
    sim::campaign("wq_cull", SEEDS / 10, |_| boot(cull));
}

/// A delay that is cut to nothing keeps neither item nor queue.
fn cut() {
    let q = Workqueue::new("cut", Flags::empty(), 0).unwrap();
    let kept = (Arc::strong_count(&q), 1);
    let w = DelayedWork::new("cut_fn", |_| ()).unwrap();
    for _ in 0..3 {
        assert!(q.queue_delayed(&w, 3 * MS));
        time::sleep_ns(random(3) * MS);
        q.mod_delayed(&w, 0);
        w.flush();
    }
    // The timer may still be on its way.
    time::sleep_ns(20 * MS);
    assert_eq!((Arc::strong_count(&q), Arc::strong_count(&w)), kept, "kept by a delay that is over");
    q.destroy();
}

#[test]
fn a_delay_that_is_cut_keeps_nothing() {
    sim::campaign("wq_cut", SEEDS / 10, |_| boot(cut));
}

/// What `show` says of a pool that is stuck since `seq`.
fn complaints(seq: u64, pool: &str) -> usize {
    let lines = (seq..base::log::next_seq()).filter_map(base::log::read_from);
    lines.filter(|r| r.text.starts_with("BUG: workqueue lockup - pool") && r.text.contains(pool)).count()
}

/// Pools of either kind that get no worker are told of, as soon as the threshold in force says, whenever that was set.
fn stuck() {
    let knob = base::tree::sys().find("module/workqueue/parameters/watchdog_thresh").unwrap();
    knob.write(b"0").unwrap();
    fault::inject(wrong_bits() | bits::DENY_CREATION);
    let hold = Arc::new(Completion::new());
    let works: Vec<_> = (0..12)
        .map(|_| {
            let h = hold.clone();
            Work::new("stuck_fn", move |_| h.wait()).unwrap()
        })
        .collect();
    let (bound, unbound) = works.split_at(6);
    bound.iter().for_each(|w| assert!(workqueue::events().queue_on(CpuId::BOOT, w)));
    unbound.iter().for_each(|w| assert!(workqueue::events_unbound().queue(w)));
    let seq = base::log::next_seq();
    time::sleep_ns(5_000 * MS);
    assert_eq!(complaints(seq, ""), 0, "nobody looks with a threshold of 0");
    knob.write(b"2").unwrap();
    time::sleep_ns(4_000 * MS);
    assert!(complaints(seq, " cpus=0 flags=0x2 nice=0 stuck for ") > 0, "the processor's pool");
    let all = base::tree::sys().find("devices/virtual/workqueue/cpumask").unwrap().read().unwrap();
    let cpus = u64::from_str_radix(std::str::from_utf8(&all).unwrap().trim(), 16).unwrap().count_ones();
    let cpus = if cpus == 1 { "0".to_string() } else { format!("0-{}", cpus - 1) };
    assert!(complaints(seq, &format!(" cpus={cpus} flags=0x6 nice=0 stuck for ")) > 0, "the unbound pool");
    fault::inject(wrong_bits());
    hold.complete_all();
    works.iter().for_each(|w| {
        w.flush();
    });
}

#[test]
fn stuck_pools_are_told_of() {
    sim::campaign("wq_stuck", SEEDS / 10, |_| boot(stuck));
}

/// Knobs take and refuse what Linux's do.
fn knobs() {
    let q = Workqueue::new("knobs", Flags::UNBOUND | Flags::SYSFS, 0).unwrap();
    let file = |name: &str| base::tree::sys().find(&format!("devices/virtual/workqueue/{name}")).unwrap();
    let show = |name: &str| String::from_utf8(file(name).read().unwrap()).unwrap();
    let einval = Err(base::Errno::EINVAL);
    for (name, bad) in [
        ("knobs/max_active", &["0", "-1", "x", "", "3000000000"][..]),
        ("knobs/nice", &["20", "-21", "x"]),
        ("knobs/cpumask", &["all", "", "0x1"]),
        ("cpumask", &["0", "x"]),
    ] {
        for b in bad {
            assert_eq!(file(name).write(b.as_bytes()), einval, "{name} {b:?}");
        }
    }
    for (written, shown) in [("1\n", "1\n"), ("600", "512\n"), ("99999999999", "512\n"), ("7 8", "7\n")] {
        file("knobs/max_active").write(written.as_bytes()).unwrap();
        assert_eq!(show("knobs/max_active"), shown);
    }
    let all = show("cpumask");
    assert_eq!((show("cpumask_requested"), show("cpumask_isolated")), (all.clone(), "0\n".into()));
    file("cpumask").write(b"1\n").unwrap();
    assert_eq!((show("cpumask"), show("cpumask_requested")), ("1\n".into(), "1\n".into()));
    file("cpumask").write(all.as_bytes()).unwrap();
    // Two that change different attributes at once do not undo each other's.
    let nice = spawn("nice", move || {
        for n in 1..10 {
            base::tree::sys()
                .find("devices/virtual/workqueue/knobs/nice")
                .unwrap()
                .write(&[b'0' + n])
                .unwrap();
        }
    });
    for _ in 0..10 {
        file("knobs/cpumask").write(b"1").unwrap();
    }
    nice.wait();
    assert_eq!((show("knobs/nice"), show("knobs/cpumask")), ("9\n".into(), "1\n".into()));
    q.destroy();
}

#[test]
fn knobs_are_linux_s() {
    sim::campaign("wq_knobs", SEEDS, |_| boot(knobs));
}
