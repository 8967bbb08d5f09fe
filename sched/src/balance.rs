//! Balancing: moving tasks to processors that have less to do.
//!
//! What to do is decided by pure functions over each processor's number of runnable tasks; doing it takes two queue
//! locks for one task at a time. The occasions:
//! * wake-up: [`pick_idle`] chooses among idle processors;
//! * new idle: a processor about to idle takes a task from the busiest one;
//! * periodic: a processor whose tick runs (so it has waiting tasks) evens out with the extremes, in the `SCHED`
//!   softirq; if none of those that wait may go to an idle processor, the one that runs is sent there by
//!   [`migration`](crate::migration);
//! * real-time: whoever passes a real-time task over pushes it to a processor that does something less urgent, and
//!   a processor that turns to something less urgent pulls one.
//!
//! Processors with one task have no tick and need none: if any other has two more, that one has a tick, and pushes.

use frame::{
    atomic::Ordering,
    context::IrqGuard,
    cpu::{CpuId, CpuMask},
};

use crate::{
    core::{Which, cpu, idle_cpus, move_one, rt_waiting},
    migration,
    place::active,
};

/// Time between periodic rounds on one processor: a few ticks, so that a task is not moved for a moment's
/// imbalance.
const INTERVAL_NS: u64 = 16_000_000;

/// Of idle processors that may run a task: where it ran last (its cache lines are there), then where the waker is,
/// then the next number after its last, so that many wake-ups spread.
pub fn pick_idle(idle: CpuMask, prev: CpuId, this: CpuId) -> CpuId {
    if idle.contains(prev) {
        prev
    } else if idle.contains(this) {
        this
    } else {
        let after = CpuMask(idle.0.rotate_right(prev.get()));
        let n = (after.first().map_or(0, CpuId::get) + prev.get()) % 64;
        CpuId::new(n).unwrap_or(prev)
    }
}

/// What a processor should do about the balance: take one task from another, or give one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    Nothing,
    Pull(CpuId),
    Push(CpuId),
}

/// `runnable` by processor number, running tasks included; `others` are those to consider. A move must lessen the
/// difference: it takes at least two.
pub fn plan(me: CpuId, others: CpuMask, runnable: impl Fn(CpuId) -> u32) -> Plan {
    let mine = runnable(me);
    let others = || others.without(me).iter();
    let most = others().max_by_key(|&c| runnable(c));
    let least = others().min_by_key(|&c| runnable(c));
    match (most, least) {
        (Some(m), _) if runnable(m) >= mine + 2 => Plan::Pull(m),
        (_, Some(l)) if mine >= runnable(l) + 2 => Plan::Push(l),
        _ => Plan::Nothing,
    }
}

fn runnable(c: CpuId) -> u32 {
    cpu(c).runnable.load(Ordering::Relaxed)
}

/// A processor has nothing to run: it tries the others from the busiest on. Interrupts are off.
pub(crate) fn new_idle(me: CpuId, now: u64) {
    let mut left = frame::cpu::online().without(me);
    while let Some(busiest) = left.iter().max_by_key(|&c| runnable(c)) {
        if runnable(busiest) < 2 {
            return;
        }
        if move_one(busiest, me, now, Which::Any) {
            return;
        }
        left = left.without(busiest);
    }
}

/// The periodic round.
pub(crate) fn softirq(me: CpuId) {
    let g = IrqGuard::new();
    let now = frame::time::now_ns();
    cpu(me).next_balance_ns.store(now + INTERVAL_NS, Ordering::Relaxed);
    let mut others = active().without(me);
    // At most as many moves as processors: others balance at the same time.
    for _ in 0..active().count() {
        let (from, to, other) = match plan(me, others, runnable) {
            Plan::Nothing => break,
            Plan::Pull(c) => (c, me, c),
            Plan::Push(c) => (me, c, c),
        };
        if move_one(from, to, now, Which::Any) {
            if to != me || idle_cpus().contains(me) {
                frame::task::resched(to);
            }
        } else if from == me && runnable(to) == 0 && migration::push_running(me, to) {
            break;
        } else {
            others = others.without(other);
        }
    }
    drop(g);
}

/// A processor is done with what was urgent: it takes the most urgent task that waits elsewhere, if what it has is less so.
/// Interrupts are off.
#[cold]
pub(crate) fn pull_rt(me: CpuId, now: u64) {
    for from in rt_waiting().without(me).iter() {
        if move_one(from, me, now, Which::Urgent) {
            return;
        }
    }
}

/// This processor has passed real-time tasks over: it looks for processors that do something less urgent. Interrupts are
/// off.
#[cold]
pub(crate) fn push_rt(me: CpuId) {
    let rank = |c: CpuId| cpu(c).rank.load(Ordering::Relaxed);
    let mut left = active().without(me);
    while let Some(least) = left.iter().min_by_key(|&c| rank(c)) {
        if move_one(me, least, frame::time::now_ns(), Which::Urgent) {
            frame::task::resched(least);
        }
        left = left.without(least);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn c(n: u32) -> CpuId {
        CpuId::new(n).unwrap()
    }

    #[test]
    fn idle_choice() {
        let m = |bits: u64| CpuMask(bits);
        assert_eq!(pick_idle(m(0b1111), c(2), c(0)), c(2));
        assert_eq!(pick_idle(m(0b1011), c(2), c(0)), c(0));
        assert_eq!(pick_idle(m(0b1010), c(2), c(0)), c(3));
        assert_eq!(pick_idle(m(0b0010), c(2), c(0)), c(1));
    }

    proptest! {
        #[test]
        fn rounds_converge_and_never_worsen(mut n in proptest::collection::vec(0u32..20, 1..8)) {
            let online = CpuMask((1 << n.len()) - 1);
            let total: u32 = n.iter().sum();
            for _ in 0..200 {
                for me in 0..n.len() {
                    let before = n.iter().max().unwrap() - n.iter().min().unwrap();
                    match plan(c(me as u32), online, |x| n[x.index()]) {
                        Plan::Nothing => {}
                        Plan::Pull(o) => { n[o.index()] -= 1; n[me] += 1; }
                        Plan::Push(o) => { n[me] -= 1; n[o.index()] += 1; }
                    }
                    prop_assert!(n.iter().max().unwrap() - n.iter().min().unwrap() <= before);
                }
            }
            prop_assert_eq!(n.iter().sum::<u32>(), total);
            prop_assert!(n.iter().max().unwrap() - n.iter().min().unwrap() <= 1);
        }
    }
}
