use std::collections::BTreeMap;

use frame::page::{self, AllocFlags, FreeRun, MAX_ORDER, Pfn};
use proptest::prelude::*;

use super::{
    area::FreeArea,
    pcp::Pcp,
    watermark::{self, Watermarks},
};

const FRAMES: u64 = 1 << MAX_ORDER;

fn run_of(order: u32) -> FreeRun {
    frame::arch::early_memory();
    page::alloc_pages(order, AllocFlags::ATOMIC).unwrap().try_unwrap().unwrap()
}

/// One largest block as a zone.
fn zone() -> (FreeArea, Pfn) {
    let run = run_of(MAX_ORDER);
    let start = run.pfn();
    let mut a = FreeArea::new(start, start + FRAMES);
    a.put(run);
    (a, start)
}

fn free_frames(a: &FreeArea) -> u64 {
    a.blocks().iter().enumerate().map(|(o, n)| n << o).sum()
}

/// Every free block is aligned, no two overlap, no two are buddies; they are as many as the counts say.
fn check(a: &FreeArea, start: Pfn, held: &BTreeMap<Pfn, FreeRun>) {
    let mut seen = [0; MAX_ORDER as usize + 1];
    let mut pfn = start;
    while pfn < start + FRAMES {
        if let Some(run) = held.get(&pfn) {
            assert!(!page::page(pfn).unwrap().is_free());
            pfn += 1 << run.order();
            continue;
        }
        let p = page::page(pfn).unwrap();
        assert!(p.is_free(), "frame {pfn:#x} is neither free nor held");
        let order = p.order();
        assert!(pfn.is_multiple_of(1 << order));
        if order < MAX_ORDER {
            let b = page::page(pfn ^ (1 << order)).unwrap();
            assert!(
                held.contains_key(&b.pfn()) || !(b.is_free() && b.order() == order),
                "buddies {pfn:#x} are not joined"
            );
        }
        seen[order as usize] += 1;
        pfn += 1 << order;
    }
    assert_eq!(pfn, start + FRAMES);
    assert_eq!(seen, a.blocks());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn frames_are_conserved_aligned_and_joined(ops in proptest::collection::vec((0u32..=MAX_ORDER, any::<prop::sample::Index>(), any::<bool>()), 1..120)) {
        let (mut a, start) = zone();
        let mut held: BTreeMap<Pfn, FreeRun> = BTreeMap::new();
        let mut out = 0;
        for (order, which, take) in ops {
            if take || held.is_empty() {
                let room = a.blocks()[order as usize..].iter().any(|&n| n > 0);
                let got = a.take(order);
                prop_assert_eq!(got.is_some(), room);
                if let Some(run) = got {
                    prop_assert!(run.order() == order && run.pfn().is_multiple_of(1 << order));
                    out += 1u64 << order;
                    held.insert(run.pfn(), run);
                }
            } else {
                let pfn = *held.keys().nth(which.index(held.len())).unwrap();
                let run = held.remove(&pfn).unwrap();
                out -= 1 << run.order();
                a.put(run);
            }
            prop_assert_eq!(free_frames(&a) + out, FRAMES);
            check(&a, start, &held);
        }
        for (_, run) in held {
            a.put(run);
        }
        prop_assert_eq!(a.blocks()[MAX_ORDER as usize], 1);
        drop(a.take(MAX_ORDER).unwrap().into_page());
    }

    #[test]
    fn watermarks_are_ordered(pages in 1u64..1 << 30, kb in 0u64..1 << 20, scale in 1u64..1000) {
        let w = Watermarks::of_zone(pages, pages, kb, scale);
        prop_assert!(w.min <= w.low && w.low <= w.high);
        let m = |f| watermark::mark(w.min, f);
        prop_assert!(m(AllocFlags::MEMALLOC) == 0 && m(AllocFlags::USER) == w.min);
        prop_assert!(m(AllocFlags::ATOMIC) <= m(AllocFlags::empty()) && m(AllocFlags::empty()) <= w.min);
    }
}

#[test]
fn a_block_goes_out_split_only_as_far_as_needed() {
    let (mut a, start) = zone();
    let run = a.take(3).unwrap();
    let mut blocks = [0; MAX_ORDER as usize + 1];
    blocks[3..MAX_ORDER as usize].fill(1);
    assert_eq!(a.blocks(), blocks);
    assert_eq!(run.pfn(), start);
    a.put(run);
    drop(a.take(MAX_ORDER).unwrap().into_page());
}

#[test]
fn a_list_without_memory_keeps_nothing() {
    let run = run_of(0);
    let mut p = Pcp::new();
    assert_eq!(p.refill_size(0), 1);
    let run = p.push(run).expect("no room");
    let mut p = Pcp::make_lists(31, 1 << 20);
    assert!(p.refill_size(0) == 31 && p.refill_size(3) == 3);
    assert!(p.push(run).is_none());
    assert_eq!(p.pages(), 1);
    drop(p.pop(0).unwrap().into_page());
}

#[test]
fn figures_are_those_of_linux() {
    // 16 MiB, 128 MiB, 1 GiB of memory: the table in the comment of Linux's `init_per_zone_wmark_min`.
    assert_eq!(watermark::default_min_free_kbytes(16 << 8), 512);
    assert_eq!(watermark::default_min_free_kbytes(128 << 8), 1448);
    assert_eq!(watermark::default_min_free_kbytes(1024 << 8), 4096);
    assert_eq!(watermark::batch(1 << 20), 63);
}
