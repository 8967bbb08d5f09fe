//! Storage outlives a run that ends by a power cut; the next run finds exactly what was written before.

mod common;

use std::sync::Arc;

use common::boot;
use frame::{
    boot::power_off,
    sim::{self, Config, Persistent, RunResult},
    task, time,
};

/// A write-ahead pair: the second copy may lag the first by one, never lead it.
fn count(disk: &Persistent, write: bool) {
    let get = |off| {
        let mut b = [0; 8];
        disk.read(off, &mut b);
        u64::from_le_bytes(b)
    };
    let (a, b) = (get(0), get(8));
    assert!(a == b || a == b + 1, "{a} {b}");
    if write {
        // Recovery: what the first copy says counts.
        disk.write(8, &a.to_le_bytes());
        for n in a + 1.. {
            disk.write(0, &n.to_le_bytes());
            task::schedule();
            disk.write(8, &n.to_le_bytes());
            task::schedule();
        }
    }
}

#[test]
fn storage_survives_power_cuts() {
    sim::supervise("power", 100, |seed| {
        let disk = Arc::new(Persistent::new(4096));
        for life in 0..3 {
            let config = Config::from_seed(seed * 3 + life);
            let out = sim::run(config, || {
                let disk = disk.clone();
                let cut_at = sim::random(200_000);
                boot(move || {
                    let now = time::now_ns();
                    sim::at(now + cut_at, || sim::power_cut());
                    count(&disk, true);
                })
            });
            assert!(out.result == RunResult::PowerCut, "{:?}\n{}", out.result, out.report);
        }
        let out = sim::run(Config::from_seed(seed), || {
            count(&disk, false);
            power_off()
        });
        assert!(out.is_ok(), "{:?}", out.result);
    });
}

#[test]
#[should_panic(expected = "the second life is wrong")]
fn a_supervisor_that_panics_fails_its_seed() {
    sim::supervise("panic", 1, |_| panic!("the second life is wrong"));
}
