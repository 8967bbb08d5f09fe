//! Variants that are wrong on purpose: the checks must find each, and say by which seed.

use frame::{
    atomic::{AtomicU32, Ordering::SeqCst},
    sim,
};
use sched::workqueue::fault::{self, bits};

use crate::{
    WRONG_SEEDS, boot, cancel_sync_against_others, changes::ordered, operations, rescue, scopes::strict,
    sleepers_let_others_run,
};

/// What a wrong variant does wrong.
static WRONG: AtomicU32 = AtomicU32::new(0);
pub(crate) fn wrong_bits() -> u32 {
    WRONG.load(SeqCst)
}

/// Some seed must fail, and its report says how to replay it.
fn is_found(name: &str, wrong: u32, says: &str, check: fn()) {
    let (seed, out) = sim::expect_failure(name, WRONG_SEEDS, move |_| {
        boot(move || {
            WRONG.store(wrong, SeqCst);
            fault::inject(wrong);
            check();
        })
    });
    eprintln!("{name}: found by seed {seed}");
    assert!(out.report.contains(says) || format!("{:?}", out.result).contains(says), "{}", out.report);
}

#[test]
fn a_lost_wake_up_is_found() {
    // The run hangs: everybody waits.
    is_found("wrong_wakeup", bits::LOSE_WAKEUP, "", sleepers_let_others_run);
}
#[test]
fn reentrance_is_found() {
    is_found("wrong_reentrance", bits::REENTER, "executed by two workers at once", || operations(12));
}
#[test]
fn a_missing_mayday_is_found() {
    is_found("wrong_mayday", bits::NO_MAYDAY, "", rescue);
}
#[test]
fn disorder_is_found() {
    is_found("wrong_order", bits::DISORDER, "", ordered);
}
#[test]
fn an_early_flush_is_found() {
    is_found("wrong_flush", bits::FLUSH_EARLY, "flush", || operations(12));
}
#[test]
fn an_open_cancel_is_found() {
    is_found("wrong_cancel", bits::CANCEL_OPEN, "", cancel_sync_against_others);
}
#[test]
fn a_forgotten_limit_is_found() {
    is_found("wrong_limit", bits::NO_LIMIT, "executed at once", || operations(12));
}
#[test]
fn a_wrong_pod_is_found() {
    is_found("wrong_pod", bits::WRONG_POD, "outside of its pod", strict);
}
#[test]
fn a_lost_slot_is_found() {
    // The run hangs: what waits in another pod is never begun.
    is_found("wrong_slot", bits::LOSE_SLOT, "", strict);
}
