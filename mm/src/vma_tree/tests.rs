use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{CHUNK, VmaTree};
use crate::{VmFlags, Vma};

/// Regions are told apart by a flag, so that some neighbours join and some do not.
fn region(start: usize, end: usize, kind: bool) -> Vma {
    let flags = if kind { VmFlags::READ } else { VmFlags::WRITE };
    Vma::new(start << 12, end << 12, flags, start as u64, None)
}

const PAGES: usize = 600;

#[derive(Clone, Debug)]
enum Op {
    Add(usize, usize, bool),
    Remove(usize, usize),
    High(usize),
    Low(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let range = || (0..PAGES - 8, 1usize..6);
    proptest::collection::vec(
        prop_oneof![
            6 => (range(), any::<bool>()).prop_map(|((a, n), k)| Op::Add(a, n, k)),
            2 => (0..PAGES - 40, 1usize..40).prop_map(|(a, n)| Op::Remove(a, n)),
            1 => (1usize..20).prop_map(Op::High),
            1 => (1usize..20).prop_map(Op::Low),
        ],
        1..700,
    )
}

fn remove(t: &mut VmaTree, start: usize, end: usize) {
    t.reserve(start, end).unwrap();
    for at in [start, end] {
        if let Some(p) = t.find(at)
            && t.get(p).is_some_and(|v| v.start < at)
        {
            t.split(p, at);
        }
    }
    t.remove_range(start, end, |v| assert!(start <= v.start && v.end <= end));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn holds_what_was_put_in_and_finds_holes(ops in ops()) {
        let mut t = VmaTree::new();
        let mut model: BTreeMap<usize, bool> = BTreeMap::new();
        for op in ops {
            let free = |a: usize, n: usize| (a..a + n).all(|p| !model.contains_key(&p));
            match op {
                Op::Add(a, n, k) => {
                    prop_assert_eq!(t.overlaps(a << 12, (a + n) << 12), !free(a, n));
                    if !free(a, n) {
                        continue;
                    }
                    t.reserve(a << 12, (a + n) << 12).unwrap();
                    t.add(region(a, a + n, k));
                    model.extend((a..a + n).map(|p| (p, k)));
                }
                Op::Remove(a, n) => {
                    remove(&mut t, a << 12, (a + n) << 12);
                    (a..a + n).for_each(|p| {
                        model.remove(&p);
                    });
                }
                Op::High(n) => {
                    let want = (0..=PAGES - n).rev().find(|&a| free(a, n));
                    prop_assert_eq!(t.highest_hole(0, PAGES << 12, n << 12, |_| 0), want.map(|a| a << 12));
                }
                Op::Low(n) => {
                    let want = (0..=PAGES - n).find(|&a| free(a, n));
                    prop_assert_eq!(t.lowest_hole(0, PAGES << 12, n << 12, |_| 0), want.map(|a| a << 12));
                }
            }
            t.check();
        }
        // Regions are as large as they can be, and `find` agrees with the list.
        let mut last: Option<(usize, bool)> = None;
        for v in t.iter() {
            let kind = v.flags == VmFlags::READ;
            prop_assert!(last != Some((v.start, kind)), "neighbours that are alike did not join");
            last = Some((v.end, kind));
            for p in v.start >> 12..v.end >> 12 {
                prop_assert_eq!(model.remove(&p), Some(kind));
                prop_assert_eq!(t.containing((p << 12) + 5).map(|w| w.start), Some(v.start));
            }
        }
        prop_assert!(model.is_empty());
    }
}

#[test]
fn many_regions_fill_their_chunks() {
    let mut t = VmaTree::new();
    for i in 0..10 * CHUNK {
        let at = (2 * i) << 12;
        t.reserve(at, at + 4096).unwrap();
        t.insert(region(2 * i, 2 * i + 1, true));
    }
    t.check();
    assert_eq!((t.len(), t.chunks.len()), (10 * CHUNK, 10));
    assert_eq!(t.highest_hole(0, (20 * CHUNK) << 12, 2 << 12, |_| 0), None);
    // Twice, the second time from what the chunks remember.
    assert_eq!(t.highest_hole(0, (20 * CHUNK) << 12, 2 << 12, |_| 0), None);
    remove(&mut t, 7 << 12, 10 << 12);
    // Regions stand at even pages: 8 has gone, and the hole is 7..10.
    assert_eq!(t.highest_hole(0, (20 * CHUNK) << 12, 3 << 12, |_| 0), Some(7 << 12));
    remove(&mut t, 0, (20 * CHUNK) << 12);
    assert_eq!((t.len(), t.chunks.len()), (0, 0));
}

#[test]
fn a_stack_keeps_its_distance() {
    let mut t = VmaTree::new();
    t.reserve(0, 0).unwrap();
    t.insert(region(100, 110, true));
    assert_eq!(t.highest_hole(0, 110 << 12, 4 << 12, |_| 8 << 12), Some(88 << 12));
    assert_eq!(t.highest_hole(0, 110 << 12, 93 << 12, |_| 8 << 12), None);
    assert_eq!(t.lowest_hole(95 << 12, 200 << 12, 4 << 12, |_| 8 << 12), Some(110 << 12));
}
