//! Affinity scopes: where unbound items are executed, and that one limit holds for all pods.

use std::sync::Arc;

use frame::{
    atomic::{AtomicU32, Ordering::SeqCst},
    context::PreemptGuard,
    cpu::{CpuId, CpuMask},
    sim,
};
use sched::{
    time,
    topology::{self, Topology},
    workqueue::{self, Flags, Work, Workqueue},
};

use crate::{Kind, Limit, SEEDS, US, body, boot, random, spawn};

/// Two processors behind each cache.
const PAIRS: Topology = Topology { core: 0, cache: 1, package: 32 };

fn all() -> CpuMask {
    CpuMask(u64::MAX >> (64 - frame::cpu::possible()))
}
fn random_cpu() -> CpuId {
    CpuId::new(random(frame::cpu::possible() as u64) as u32).unwrap()
}
fn knob(queue: &str, name: &str, value: &str) {
    let n = base::tree::sys().find(&format!("devices/virtual/workqueue/{queue}/{name}")).unwrap();
    n.write(value.as_bytes()).unwrap();
}
fn pod(scope: &str, c: CpuId) -> CpuMask {
    match scope {
        "cpu" | "smt" => CpuMask::one(c),
        "cache" | "default" => CpuMask(3 << (c.get() & !1)).and(all()),
        _ => all(),
    }
}

/// Items of a strict queue stay in the pod of the processor for which they were queued, and the limit holds for all pods together.
pub(crate) fn strict() {
    topology::install(PAIRS);
    let max = 1 + random(3) as u32;
    let q = Workqueue::new("strict", Flags::UNBOUND | Flags::SYSFS, max).unwrap();
    knob("strict", "affinity_strict", "1");
    let scope = ["default", "cpu", "smt", "cache", "numa", "system"][random(6) as usize];
    knob("strict", "affinity_scope", scope);
    let (limit, ended) = (Arc::new(Limit::default()), Arc::new(AtomicU32::new(0)));
    const USERS: u32 = 2;
    const EACH: u32 = 8;
    let users: Vec<_> = (0..USERS)
        .map(|i| {
            let (q, limit, ended) = (q.clone(), limit.clone(), ended.clone());
            spawn(&format!("user/{i}"), move || {
                for _ in 0..EACH {
                    let (c, limit, ended) = (random_cpu(), limit.clone(), ended.clone());
                    let kind = [Kind::Short, Kind::Sleeps, Kind::Spins][random(3) as usize];
                    let w = Work::new("pod_fn", move |_| {
                        limit.enter();
                        for _ in 0..2 {
                            let g = PreemptGuard::new();
                            assert!(
                                pod(scope, c).contains(g.cpu()),
                                "{scope}: queued for {c}, outside of its pod on {}",
                                g.cpu()
                            );
                            drop(g);
                            body(kind);
                        }
                        limit.leave();
                        ended.fetch_add(1, SeqCst);
                    })
                    .unwrap();
                    assert!(q.queue_on(c, &w));
                    time::sleep_ns(random(30) * US);
                }
            })
        })
        .collect();
    users.iter().for_each(|u| u.wait());
    q.flush();
    assert_eq!(ended.load(SeqCst), USERS * EACH, "items were lost");
    let most = limit.most.load(SeqCst);
    assert!(most <= max, "{most} executed at once, at most {max} may be");
    q.destroy();
}

#[test]
fn strict_items_stay_in_their_pod() {
    sim::campaign("wq_strict", SEEDS, |_| boot(strict));
}

/// Where nobody is busy, items begin in their pod, strict or not; but an idle processor may fetch a worker that has to wait there.
fn near() {
    topology::install(PAIRS);
    let q = Workqueue::new("near", Flags::UNBOUND, 0).unwrap();
    let inside = Arc::new(AtomicU32::new(0));
    const ITEMS: u32 = 24;
    for _ in 0..ITEMS {
        let (c, i) = (random_cpu(), inside.clone());
        let w = Work::new("near_fn", move |_| {
            let g = PreemptGuard::new();
            i.fetch_add(u32::from(pod("cache", c).contains(g.cpu())), SeqCst);
        })
        .unwrap();
        q.queue_on(c, &w);
        w.flush();
        time::sleep_ns(random(500) * US);
    }
    let inside = inside.load(SeqCst);
    assert!(inside >= ITEMS * 3 / 4, "{inside} of {ITEMS} begun in their pod");
    q.destroy();
}

#[test]
fn items_begin_in_their_pod() {
    sim::campaign("wq_near", SEEDS, |_| boot(near));
}

/// Pods come and go, and so do scopes: nothing is lost, and what waits is not left behind.
fn pods_come_and_go() {
    topology::install(PAIRS);
    let q = Workqueue::new("pods", Flags::UNBOUND | Flags::SYSFS, 1 + random(2) as u32).unwrap();
    let ended = Arc::new(AtomicU32::new(0));
    let (q2, e) = (q.clone(), ended.clone());
    const ITEMS: u32 = 12;
    let user = spawn("user", move || {
        for _ in 0..ITEMS {
            let e = e.clone();
            let kind = [Kind::Short, Kind::Sleeps][random(2) as usize];
            let w = Work::new("pods_fn", move |_| {
                body(kind);
                e.fetch_add(1, SeqCst);
            })
            .unwrap();
            assert!(q2.queue_on(random_cpu(), &w));
            time::sleep_ns(random(20) * US);
        }
    });
    let default = base::tree::sys().find("module/workqueue/parameters/default_affinity_scope").unwrap();
    for _ in 0..6 {
        match random(4) {
            0 => {
                let c = random_cpu();
                workqueue::cpu_offline(c);
                time::sleep_ns(random(60) * US);
                workqueue::cpu_online(c).unwrap();
            }
            1 => knob("pods", "affinity_scope", ["default", "cpu", "system"][random(3) as usize]),
            2 => knob("pods", "affinity_strict", ["0", "1"][random(2) as usize]),
            _ => default.write([&b"cpu"[..], b"smt", b"cache", b"system"][random(4) as usize]).unwrap(),
        }
        time::sleep_ns(random(40) * US);
    }
    user.wait();
    q.flush();
    assert_eq!(ended.load(SeqCst), ITEMS, "items were lost");
    q.destroy();
}

#[test]
fn nothing_is_lost_when_pods_change() {
    sim::campaign("wq_pods", SEEDS, |_| boot(pods_come_and_go));
}
