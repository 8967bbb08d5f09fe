//! Address spaces under simulation: fork, `mprotect`, `munmap` and truncation race with the faults of running programs.
//!
//! `NIGHTSHIFT_SEEDS=10000 cargo test -p mm --test sim` for a long campaign; `NIGHTSHIFT_SEED=n` replays one.

mod common;

use std::sync::Arc;

use common::{File, PAGE, RW, announce, boot, exit, map_fixed, request, retire, run};
use frame::{
    atomic::{AtomicBool, Ordering},
    sim::{self, Config, UserCtx},
};
use mm::{FileMapping, Limits, MapFlags, MapObject, MapRequest, Mm, Prot};

const SEEDS: u64 = 500;
const VA: usize = 0x40_0000;
const PAGES: usize = 4;
const LEN: usize = PAGES * PAGE;

fn word(mm: &Mm, at: usize) -> u64 {
    let mut b = [0; 8];
    assert_eq!(mm.read_remote(at, &mut b), 8);
    u64::from_le_bytes(b)
}

/// Owns one word of each page: what it reads is what it wrote last.
fn counter(u: &UserCtx) {
    let slot = u.regs().rdi * 8;
    for round in 1..6 {
        for p in 0..PAGES {
            let at = (VA + p * PAGE) as u64 + slot;
            let was = u.load_u64(at);
            assert_eq!(was, round - 1, "thread {slot}: {at:#x} has changed by itself");
            u.store_u64(at, round);
            assert_eq!(u.load_u64(at), round, "thread {slot}: {at:#x} lost a write");
        }
        u.syscall(39, [0; 6]);
    }
    exit(u);
}

/// Sees a snapshot that stays as it is, and what it writes is its own.
fn heir(u: &UserCtx) {
    let at = |p: usize, slot: u64| (VA + p * PAGE) as u64 + slot * 8;
    let all = |u: &UserCtx| -> Vec<u64> {
        (0..PAGES).flat_map(|p| [u.load_u64(at(p, 0)), u.load_u64(at(p, 1))]).collect()
    };
    let first = all(u);
    u.syscall(39, [0; 6]);
    assert_eq!(all(u), first, "a child sees what others write after fork");
    for p in 0..PAGES {
        u.store_u64(at(p, 0), 1000);
    }
    u.syscall(39, [0; 6]);
    for p in 0..PAGES {
        assert_eq!(u.load_u64(at(p, 0)), 1000);
        assert_eq!(u.load_u64(at(p, 1)), first[2 * p + 1]);
    }
    exit(u);
}

fn fork_under_writers() {
    boot(|| {
        let mm = Mm::new().unwrap();
        map_fixed(&mm, VA, PAGES, RW);
        announce(&mm);
        let threads: Vec<_> = (0..2).map(|i| run(&mm, "counter", i, counter)).collect();
        let mut children = Vec::new();
        for _ in 0..1 + sim::random(3) {
            sched::time::sleep_ns(sim::random(60_000));
            let child = mm.fork().unwrap();
            announce(&child);
            let done = run(&child, "heir", 0, heir);
            if sim::random(2) == 0 {
                // A grandchild: three address spaces share pages.
                let grandchild = child.fork().unwrap();
                announce(&grandchild);
                children.push((run(&grandchild, "heir", 0, heir), grandchild));
            }
            children.push((done, child));
        }
        for t in threads {
            t.wait();
        }
        for p in 0..PAGES {
            for slot in 0..2 {
                assert_eq!(word(&mm, VA + p * PAGE + slot * 8), 5);
            }
        }
        for (done, child) in children {
            done.wait();
            retire(&child);
        }
        assert_eq!(mm.resident(), PAGES as u64);
        retire(&mm);
    });
}

#[test]
fn fork_copies_on_write_under_running_threads() {
    sim::campaign("fork", SEEDS, |_| fork_under_writers());
}

fn several(seed: u64) -> Config {
    let c = Config::from_seed(seed);
    Config { cpus: c.cpus.max(2), ..c }
}

/// A processor that keeps the parent's writable translations over a fork.
#[test]
fn a_missing_shoot_down_at_fork_is_found() {
    let (seed, out) = sim::expect_failure_with("fork_broken", 500, several, |_| {
        sim::break_tlb_flushes(1);
        fork_under_writers()
    });
    eprintln!("found by seed {seed}: {:?}", out.result);
}

/// Writes for ever, refused or not.
static STOP: AtomicBool = AtomicBool::new(false);
fn writer(u: &UserCtx) {
    let slot = u.regs().rdi * 8;
    let mut round = 0;
    while !STOP.load(Ordering::Relaxed) {
        round += 1;
        for p in 0..PAGES {
            let at = (VA + p * PAGE) as u64 + slot;
            u.store_u64(at, round);
            let got = u.load_u64(at);
            assert!(got == round || got == 0, "{at:#x}: {got} in round {round}");
        }
        u.syscall(39, [0; 6]);
    }
    exit(u);
}

/// After `mprotect` to read-only has returned, nothing changes; after `munmap`, what is mapped again is zero.
fn protect_and_unmap_under_writers() {
    boot(|| {
        let mm = Mm::new().unwrap();
        map_fixed(&mm, VA, PAGES, RW);
        announce(&mm);
        let threads: Vec<_> = (0..2).map(|i| run(&mm, "writer", i, writer)).collect();
        let limits = Limits::root();
        let all = |mm: &Mm| -> Vec<u64> {
            (0..PAGES).flat_map(|p| [0, 8].map(|s| word(mm, VA + p * PAGE + s))).collect()
        };
        for _ in 0..6 {
            sched::time::sleep_ns(sim::random(20_000));
            match sim::random(4) {
                0 => {
                    mm.mprotect(VA, LEN, Prot::READ, &limits).unwrap();
                    let before = all(&mm);
                    sched::time::sleep_ns(sim::random(20_000));
                    assert_eq!(all(&mm), before, "written after mprotect had taken the right away");
                    mm.mprotect(VA, LEN, RW, &limits).unwrap();
                }
                1 => {
                    mm.munmap(VA + PAGE, 2 * PAGE).unwrap();
                    assert_eq!(mm.map_count(), 2);
                    sched::time::sleep_ns(sim::random(10_000));
                    assert_eq!(
                        mm.read_remote(VA + PAGE, &mut [0]),
                        0,
                        "a fault brought back what is not mapped"
                    );
                    map_fixed(&mm, VA + PAGE, 2, RW);
                }
                2 => mm.madvise(VA, LEN, 4).unwrap(),
                _ => {
                    let away = VA + 64 * PAGE;
                    let flags = mm::RemapFlags::MAYMOVE | mm::RemapFlags::FIXED;
                    let there =
                        mm::Remap { old: VA, old_len: LEN, new_len: LEN, flags, new_addr: away, limits };
                    assert_eq!(mm.mremap(&there), Ok(away));
                    let before: Vec<_> = (0..PAGES).map(|p| word(&mm, away + p * PAGE)).collect();
                    sched::time::sleep_ns(sim::random(10_000));
                    let after: Vec<_> = (0..PAGES).map(|p| word(&mm, away + p * PAGE)).collect();
                    assert_eq!(after, before, "written through the old place");
                    assert_eq!(mm.mremap(&mm::Remap { old: away, new_addr: VA, ..there }), Ok(VA));
                }
            }
        }
        STOP.store(true, Ordering::Relaxed);
        for t in threads {
            t.wait();
        }
        assert_eq!(mm.map_count(), 1);
        let mut rss = 0;
        mm.for_each_usage(|_, u| {
            rss += u.rss;
            Ok(())
        })
        .unwrap();
        assert_eq!(mm.resident(), rss, "resident pages are counted wrong");
        retire(&mm);
    });
}

/// Whole page tables move to and fro under running writers: nothing is written through the old place once the call has returned.
fn move_tables_under_writers() {
    const SPAN: usize = 2 << 20;
    boot(|| {
        let mm = Mm::new().unwrap();
        map_fixed(&mm, VA, SPAN / PAGE, RW);
        announce(&mm);
        let threads: Vec<_> = (0..2).map(|i| run(&mm, "writer", i, writer)).collect();
        let flags = mm::RemapFlags::MAYMOVE | mm::RemapFlags::FIXED;
        let away = VA + 2 * SPAN;
        let there = mm::Remap {
            old: VA,
            old_len: SPAN,
            new_len: SPAN,
            flags,
            new_addr: away,
            limits: Limits::root(),
        };
        for _ in 0..6 {
            sched::time::sleep_ns(sim::random(20_000));
            assert_eq!(mm.mremap(&there), Ok(away));
            let words = || (0..PAGES).map(|p| word(&mm, away + p * PAGE)).collect::<Vec<_>>();
            let before = words();
            sched::time::sleep_ns(sim::random(10_000));
            assert_eq!(words(), before, "written through the old place");
            assert_eq!(mm.mremap(&mm::Remap { old: away, new_addr: VA, ..there }), Ok(VA));
        }
        STOP.store(true, Ordering::Relaxed);
        for t in threads {
            t.wait();
        }
        retire(&mm);
    });
}

#[test]
fn moved_tables_are_reached_by_one_way() {
    sim::campaign("move_tables", SEEDS, |_| move_tables_under_writers());
}

#[test]
fn a_missing_shoot_down_at_mremap_is_found() {
    let (seed, out) = sim::expect_failure_with("move_tables_broken", 500, several, |_| {
        sim::break_tlb_flushes(1);
        move_tables_under_writers()
    });
    eprintln!("found by seed {seed}: {:?}", out.result);
}

#[test]
fn rights_and_mappings_end_when_the_call_returns() {
    sim::campaign("protect", SEEDS, |_| protect_and_unmap_under_writers());
}

#[test]
fn a_missing_shoot_down_at_mprotect_is_found() {
    let (seed, out) = sim::expect_failure_with("protect_broken", 500, several, |_| {
        sim::break_tlb_flushes(1);
        protect_and_unmap_under_writers()
    });
    eprintln!("found by seed {seed}: {:?}", out.result);
}

fn file_request(object: Arc<dyn MapObject>, addr: usize, flags: MapFlags) -> MapRequest {
    let file = FileMapping { object, offset: 0, readable: true, writable: true, executable: true };
    MapRequest { file: Some(file), ..request(addr, PAGES, RW, flags | MapFlags::FIXED) }
}

/// A file is cut short while programs use shared and private mappings of it, and one forks: no page of it may stay mapped anywhere.
/// With `too_early` the translations are taken out before the pages leave the file: wrong, a fault brings them back.
fn truncate_under_users(too_early: bool) {
    boot(move || {
        let file = File::new(PAGES as u64);
        let object: Arc<dyn MapObject> = file.clone();
        let mm = Mm::new().unwrap();
        mm.mmap(&file_request(object.clone(), VA, MapFlags::SHARED)).unwrap();
        mm.mmap(&file_request(object.clone(), VA + LEN, MapFlags::PRIVATE)).unwrap();
        announce(&mm);
        let user = |u: &UserCtx| {
            let mut i = u.regs().rdi;
            while !STOP.load(Ordering::Relaxed) {
                i = i.wrapping_mul(5).wrapping_add(3);
                let at = (VA + (i as usize % (2 * PAGES)) * PAGE) as u64;
                if i.is_multiple_of(3) {
                    u.store_u64(at, i);
                } else {
                    u.load_u64(at);
                }
                u.syscall(39, [0; 6]);
            }
            exit(u);
        };
        let mut threads: Vec<_> = (0..2).map(|i| run(&mm, "user", i + 1, user)).collect();
        let mut mms = vec![mm];
        for _ in 0..4 {
            sched::time::sleep_ns(sim::random(30_000));
            if mms.len() < 3 && sim::random(2) == 0 {
                let child = mms[0].fork().unwrap();
                announce(&child);
                threads.push(run(&child, "child", 7, user));
                mms.push(child);
            }
            if too_early {
                file.mappings.unmap(&object, 0..PAGES as u64, true);
                file.cut();
            } else {
                file.cut();
                file.mappings.unmap(&object, 0..PAGES as u64, true);
            }
            for m in &mms {
                assert_eq!(m.resident(), 0, "a page of the file is mapped beyond its end");
            }
            assert_eq!(file.store.pages(), 0);
            file.grow(PAGES as u64);
        }
        STOP.store(true, Ordering::Relaxed);
        for t in threads {
            t.wait();
        }
        mms.iter().for_each(retire);
    });
}

#[test]
fn nothing_stays_mapped_beyond_the_end_of_a_file() {
    sim::campaign("truncate", SEEDS, |_| truncate_under_users(false));
}

#[test]
fn unmapping_before_the_pages_have_left_the_file_is_found() {
    let (seed, out) =
        sim::expect_failure_with("truncate_early", 500, several, |_| truncate_under_users(true));
    eprintln!("found by seed {seed}: {:?}", out.result);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 17, 42] {
        let config = Config::from_seed(seed);
        let one = sim::run(config.clone(), fork_under_writers);
        let two = sim::run(config.clone(), fork_under_writers);
        assert!(one.is_ok(), "{}", one.report);
        assert_eq!((one.hash, one.steps), (two.hash, two.steps));
    }
}
