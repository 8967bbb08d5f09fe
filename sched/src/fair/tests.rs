//! Properties of the fair class, on a processor that exists only here.

use proptest::prelude::*;

use super::*;
use crate::{
    policy::Policy,
    runqueue::{Ent, Entity, Picked, RunQueue},
    weights,
};
use frame::cpu::CpuMask;

const MS: u64 = 1_000_000;

fn ent(id: usize, nice: i8) -> Ent<usize> {
    Box::new(Node::new(Entity::new(Policy::Other, nice, CpuMask::ALL, 3 * MS, id)))
}

/// A processor with a tick, and what each task has got.
struct Machine {
    rq: RunQueue<usize>,
    now: u64,
    got: Vec<u64>,
    last_ran: Vec<u64>,
}

impl Machine {
    fn new(nices: &[i8]) -> Self {
        let mut m = Machine {
            rq: RunQueue::new(),
            now: 1,
            got: vec![0; nices.len()],
            last_ran: vec![0; nices.len()],
        };
        for (id, &n) in nices.iter().enumerate() {
            m.rq.enqueue(ent(id, n), m.now);
        }
        m.rq.pick(m.now, |_| ());
        m
    }
    fn run(&mut self, ns: u64) {
        if let Some(c) = self.rq.current() {
            self.got[c.payload] += ns;
            self.last_ran[c.payload] = self.now + ns;
        }
        self.now += ns;
        if self.rq.charge(self.now) {
            self.rq.pick(self.now, |_| ());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn shares_follow_weights(nices in proptest::collection::vec(-10i8..10, 1..8)) {
        let mut m = Machine::new(&nices);
        let total = 400_000;
        for _ in 0..total / 4 {
            m.run(4 * MS);
        }
        let sum: u64 = nices.iter().map(|&n| weights::of_nice(n) as u64).sum();
        for (i, &n) in nices.iter().enumerate() {
            let want = total as f64 * weights::of_nice(n) as f64 / sum as f64;
            let got = m.got[i] as f64 / MS as f64;
            // Lag is bounded by some slices, whatever the length of the run.
            prop_assert!((got - want).abs() <= 40.0 + want * 0.001, "task {} of {:?}: {} of {}", i, nices, got, want);
        }
    }

    #[test]
    fn nobody_starves_while_others_come_and_go(seed in any::<u64>(), n in 2usize..8) {
        let mut rng = seed | 1;
        let mut rand = |k: u64| { rng ^= rng << 13; rng ^= rng >> 7; rng ^= rng << 17; (rng >> 11) % k };
        let nices: Vec<i8> = (0..n).map(|_| rand(11) as i8 - 5).collect();
        let mut m = Machine::new(&nices);
        let mut asleep: Vec<Ent<usize>> = Vec::new();
        // Task 0 is always runnable.
        for _ in 0..20_000 {
            let step = 1 + rand(4 * MS);
            m.run(step);
            match rand(4) {
                0 if m.rq.current().is_some_and(|c| c.payload != 0) => {
                    asleep.push(m.rq.take_current(m.now).unwrap());
                    m.rq.pick(m.now, |_| ());
                }
                1 if !asleep.is_empty() => {
                    let e = asleep.swap_remove(rand(asleep.len() as u64) as usize);
                    let now = m.now;
                    m.last_ran[e.value.payload] = now;
                    if m.rq.enqueue(e, now) {
                        m.rq.pick(now, |_| ());
                    }
                }
                2 => m.rq.yield_current(m.now),
                _ => {}
            }
            prop_assert!(m.rq.current().is_some());
            prop_assert_eq!(m.rq.len() + asleep.len(), n);
            let waited = m.now - m.last_ran[0];
            // The lightest of eight has a fiftieth of the processor: a turn of 3 ms each 150 ms, and newcomers add some of these.
            prop_assert!(waited < 1000 * MS, "task 0 of {} has waited {} ms", n, waited / MS);
        }
    }

    #[test]
    fn lag_is_bounded_and_sums_to_nothing(nices in proptest::collection::vec(-5i8..6, 2..10), steps in proptest::collection::vec(1u64..8 * MS, 1..400)) {
        let mut m = Machine::new(&nices);
        for ns in steps {
            m.run(ns);
            let mut all = Vec::new();
            while m.rq.take_current(m.now).map(|e| all.push(e)).is_some() {
                m.rq.pick(m.now, |_| ());
            }
            for e in &all {
                let f = &e.value.fair;
                let limit = f.virt(8 * MS) as i64;
                prop_assert!(f.vlag.abs() <= limit);
            }
            // Put them back in the same order: none is lost.
            prop_assert_eq!(all.len(), nices.len());
            for e in all.into_iter().rev() {
                m.rq.enqueue(e, m.now);
            }
            m.rq.pick(m.now, |_| ());
        }
    }

    #[test]
    fn sleeping_and_waking_at_once_keeps_the_lag(a in -5i8..6, b in -5i8..6, ran in 1u64..6 * MS) {
        let mut m = Machine::new(&[a, b]);
        m.run(ran);
        let mut e = m.rq.take_current(m.now).unwrap();
        let lag = e.value.fair.vlag;
        m.rq.pick(m.now, |_| ());
        m.rq.enqueue(e, m.now);
        e = m.rq.take_waiting(|_| true).unwrap();
        // One more rounding in each division.
        prop_assert!((e.value.fair.vlag - lag).abs() <= 4, "{} became {}", lag, e.value.fair.vlag);
    }
}

#[test]
fn real_time_before_fair_and_not_for_ever() {
    let mut m = Machine::new(&[0]);
    let mut e = ent(1, 0);
    e.value.set_policy(Policy::Fifo(10), 0);
    m.got.push(0);
    m.last_ran.push(0);
    assert!(m.rq.enqueue(e, m.now));
    assert_eq!(m.rq.pick(m.now, |_| ()), Picked::Switched);
    for _ in 0..2500 {
        m.run(4 * MS);
    }
    let share = m.got[0] as f64 / m.now as f64;
    assert!((0.04..0.06).contains(&share), "{share}");
}

#[test]
fn round_robin_takes_turns() {
    let mut rq = RunQueue::new();
    for id in 0..3 {
        let mut e = ent(id, 0);
        e.value.set_policy(Policy::Rr(5), 0);
        rq.enqueue(e, 1);
    }
    rq.pick(1, |_| ());
    let mut turns = vec![rq.current().unwrap().payload];
    let mut now = 1;
    for _ in 0..200 {
        now += 4 * MS;
        if rq.charge(now) {
            rq.pick(now, |_| ());
            turns.push(rq.current().unwrap().payload);
        }
    }
    assert_eq!(turns, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn two_yielders_alternate() {
    let mut m = Machine::new(&[0, 0]);
    let mut turns = [0u32; 2];
    for _ in 0..1000 {
        turns[m.rq.current().unwrap().payload] += 1;
        m.now += 1000;
        m.rq.yield_current(m.now);
        m.rq.pick(m.now, |_| ());
    }
    assert!(turns[0].abs_diff(turns[1]) < 20, "{turns:?}");
}

#[test]
fn a_light_sleeper_displaces_a_hog() {
    let mut m = Machine::new(&[0, 0]);
    // 1 sleeps, 0 runs on for a while, 1 wakes with lag left and displaces it.
    while m.rq.current().unwrap().payload != 1 {
        m.run(MS);
    }
    m.now += 10_000;
    let e = m.rq.take_current(m.now).unwrap();
    m.rq.pick(m.now, |_| ());
    m.now += 2 * MS;
    m.rq.charge(m.now);
    assert!(m.rq.enqueue(e, m.now));
}

#[test]
fn idle_policy_makes_way() {
    let mut rq = RunQueue::new();
    let mut e = ent(0, 0);
    e.value.set_policy(Policy::Idle, 0);
    rq.enqueue(e, 1);
    rq.pick(1, |_| ());
    assert!(rq.enqueue(ent(1, 0), 2));
}
