use std::{collections::BTreeMap, ops::Range, sync::Arc};

use proptest::prelude::*;

use super::{Entry, Flags, MAX_SWAP, MapError, Mapping, PageTable, TlbBatch, entry};
use crate::{
    page::{AllocFlags, PAGE_SIZE, PageRef, alloc_page, alloc_pages},
    user,
};

fn table() -> Arc<PageTable> {
    crate::arch::early_memory();
    PageTable::new().unwrap()
}
fn a_page() -> PageRef {
    alloc_page(AllocFlags::ZERO).unwrap()
}
const RW: Flags = Flags::READ.union(Flags::WRITE).union(Flags::USER);
const RO: Flags = Flags::READ.union(Flags::USER);

#[test]
fn flags_survive_the_entry() {
    for bits in 0..1u64 << 5 {
        let mut f = Flags::USER;
        for (i, x) in
            [Flags::READ, Flags::WRITE, Flags::EXEC, Flags::DIRTY, Flags::COW].into_iter().enumerate()
        {
            f.set(x, bits >> i & 1 != 0);
        }
        let access = f & (Flags::READ | Flags::WRITE | Flags::EXEC);
        let e = entry::make(0x12345, f);
        assert!(entry::is_page(e) && entry::pfn(e) == 0x12345);
        if access.is_empty() {
            assert_eq!(e & entry::P, 0);
            assert_eq!(entry::flags(e), f);
        } else {
            // What can be written or executed can be read: x86 has no less.
            assert_eq!(entry::flags(e), f | Flags::READ);
        }
    }
}

#[test]
fn swap_values_survive_the_entry() {
    for v in [0, 1, 0xdead_beef, MAX_SWAP - 1] {
        let e = entry::swap(v);
        assert!(e != 0 && !entry::is_page(e) && entry::decode(e) == Entry::Swap(v));
    }
}

#[test]
fn what_loses_rights_is_flushed() {
    let e = |f| entry::make(5, f);
    assert!(!entry::must_flush(e(RO), e(RW)) && entry::must_flush(e(RW), e(RO)));
    assert!(!entry::must_flush(e(RO), e(RO | Flags::EXEC)) && entry::must_flush(e(RO | Flags::EXEC), e(RO)));
    assert!(entry::must_flush(e(RO), e(Flags::USER)) && !entry::must_flush(e(Flags::USER), e(RO)));
    assert!(entry::must_flush(e(RW | Flags::DIRTY), e(RW)) && entry::must_flush(e(RO), entry::make(6, RO)));
}

#[test]
fn a_mapping_owns_its_reference() {
    let pt = table();
    let p = a_page();
    let mut c = pt.lock();
    c.map(0x1000, p.clone(), RW).unwrap();
    assert_eq!(c.map(0x1fff, p.clone(), RW), Err(MapError::Busy));
    assert_eq!(p.refs(), 2);
    assert_eq!(c.mapping(0x1234), Some(Mapping { pfn: p.pfn(), flags: RW }));
    assert_eq!(c.page(0x1000).unwrap(), p);
    assert_eq!(c.map(user::END, p.clone(), RW), Err(MapError::BadAddress));
    assert_eq!(c.query(usize::MAX), Entry::None);
    let mut b = TlbBatch::new(&pt);
    assert!(c.protect(0x1000, RO, &mut b));
    assert!(!c.mapping(0x1000).unwrap().writable());
    assert_eq!(c.unmap(0x1000, &mut b), Entry::Page(Mapping { pfn: p.pfn(), flags: RO }));
    assert_eq!((p.refs(), c.query(0x1000)), (2, Entry::None));
    drop(b);
    assert_eq!(p.refs(), 1);
}

#[test]
fn parts_of_large_pages_and_immortal_ones() {
    let pt = table();
    let large = alloc_pages(2, AllocFlags::ZERO).unwrap();
    let zero = a_page().leak();
    let mut c = pt.lock();
    c.map_part(0x5000, large.clone(), 3, RO).unwrap();
    c.map_special(0x6000, zero, RO).unwrap();
    assert_eq!(c.mapping(0x5000).unwrap().pfn, large.pfn() + 3);
    assert!(c.page(0x5000).unwrap() == large && c.page(0x6000).unwrap() == zero.get());
    let mut b = TlbBatch::new(&pt);
    assert!(c.protect(0x6000, RW, &mut b));
    assert!(c.mapping(0x6000).unwrap().flags.contains(Flags::SPECIAL));
    c.unmap_range(0..user::END, &mut b);
    drop((b, c));
    assert_eq!((large.refs(), zero.page().refs()), (1, 1));
}

#[test]
fn empty_tables_are_freed_and_reserves_are_used() {
    let pt = table();
    let mut c = pt.lock();
    c.give(PageTable::reserve().unwrap());
    c.map(0x1234_5678_9000, a_page(), RW).unwrap();
    c.map(0x1234_5678_a000, a_page(), RW).unwrap();
    let mut b = TlbBatch::new(&pt);
    c.unmap_range(0x1234_5678_9000..0x1234_5678_a000, &mut b);
    assert!(c.find_leaf(0x1234_5678_9000).is_some());
    c.unmap_range(0..user::END, &mut b);
    assert!(c.find_leaf(0x1234_5678_9000).is_none());
    c.map(0x1234_5678_9000, a_page(), RW).unwrap();
}

/// What is mapped, by address.
fn contents(pt: &PageTable) -> BTreeMap<usize, u64> {
    let mut all = BTreeMap::new();
    pt.lock().for_each_mapped(0..user::END, |va, m| {
        all.insert(va, m.pfn);
    });
    all
}

#[test]
fn whole_tables_move_and_what_they_leave_is_freed() {
    const SPAN: usize = 2 << 20;
    let pt = table();
    let (from, to, len) = (5 * SPAN, 0x7000_0000_0000, 3 * SPAN);
    let bare = pt.table_pages();
    {
        let mut c = pt.lock();
        for va in (from + PAGE_SIZE..from + len).step_by(3 * PAGE_SIZE) {
            c.map(va, a_page(), RW).unwrap();
        }
        // A table in the new place that was prepared and not used.
        c.prepare(to + SPAN).unwrap();
    }
    let before = contents(&pt);
    let moved: BTreeMap<_, _> = before.iter().map(|(va, pfn)| (va - from + to, *pfn)).collect();
    let mut b = TlbBatch::new(&pt);
    pt.lock().move_range(from, to, len, &mut b).unwrap();
    assert_eq!(contents(&pt), moved);
    pt.lock().move_range(to, from, len, &mut b).unwrap();
    assert_eq!(contents(&pt), before);
    pt.lock().move_range(from, to, len, &mut b).unwrap();
    {
        let mut c = pt.lock();
        c.map(from, a_page(), RW).unwrap();
        assert_eq!(c.move_range(from, to, SPAN, &mut b), Err(MapError::Busy));
        c.unmap_range(from..from + len, &mut b);
    }
    assert_eq!(contents(&pt), moved);
    // Three leaf tables and two above them, of the new place alone.
    assert_eq!(pt.table_pages(), bare + 5);
    pt.lock().unmap_range(to..to + len, &mut b);
    b.flush();
    assert_eq!(pt.table_pages(), bare);
}

proptest! {
    /// Any moves, whole tables or parts of them, are what a list of pages says.
    #[test]
    fn moves_are_what_a_list_says(
        pages in proptest::collection::btree_set(0usize..2048, 1..40),
        moves in proptest::collection::vec((0usize..8, 0usize..8, 1usize..4, prop_oneof![Just(0usize), 0usize..512]), 1..12),
    ) {
        const SPAN: usize = 2 << 20;
        let pt = table();
        let bare = pt.table_pages();
        let mut list = BTreeMap::new();
        for &i in &pages {
            let p = a_page();
            list.insert(i * PAGE_SIZE, p.pfn());
            pt.lock().map(i * PAGE_SIZE, p, RW).unwrap();
        }
        let mut b = TlbBatch::new(&pt);
        for (from, to, spans, off) in moves {
            let (from, to, len) = (from * SPAN, to * SPAN + off * PAGE_SIZE, spans * SPAN);
            if from < to + len && to < from + len {
                continue;
            }
            pt.lock().unmap_range(to..to + len, &mut b);
            list.retain(|va, _| !(to..to + len).contains(va));
            pt.lock().move_range(from, to, len, &mut b).unwrap();
            list = list.into_iter().map(|(va, p)| (if (from..from + len).contains(&va) { va - from + to } else { va }, p)).collect();
            prop_assert_eq!(&contents(&pt), &list);
        }
        pt.lock().unmap_range(0..user::END, &mut b);
        prop_assert_eq!(pt.table_pages(), bare);
    }
}

#[test]
fn large_batches_keep_all_their_pages() {
    let pt = table();
    let p = a_page();
    let mut c = pt.lock();
    for i in 0..2000 {
        c.map(i * PAGE_SIZE, p.clone(), RW).unwrap();
    }
    assert_eq!(p.refs(), 2001);
    let mut b = TlbBatch::new(&pt);
    c.unmap_range(0..user::END, &mut b);
    assert_eq!(p.refs(), 2001);
    b.flush();
    assert_eq!(p.refs(), 1);
    assert!(b.is_empty());
}

#[test]
#[should_panic(expected = "batch of another page table")]
fn a_batch_of_another_table_is_refused() {
    let (a, b) = (table(), table());
    let mut batch = TlbBatch::new(&b);
    a.lock().unmap(0x1000, &mut batch);
}

#[test]
fn dropping_a_table_drops_its_pages() {
    let p = a_page();
    let pt = table();
    for va in [0, 0x20_0000, 0x4000_0000, user::END - PAGE_SIZE] {
        pt.lock().map(va, p.clone(), RW).unwrap();
    }
    drop(pt);
    assert_eq!(p.refs(), 1);
}

/// Addresses of the model: neighbours, and each level's boundary.
fn va(i: u8) -> usize {
    const SPOTS: [usize; 6] =
        [0, 0x1f_e000, 0x3fff_e000, 0x7f_ffff_e000, 0x80_0000_0000 * 5, user::END - 8 * PAGE_SIZE];
    SPOTS[usize::from(i) % 6] + usize::from(i) / 6 % 8 * PAGE_SIZE
}
fn range(i: u8, j: u8) -> Range<usize> {
    let (a, b) = (va(i), va(j));
    a.min(b)..a.max(b) + PAGE_SIZE
}

#[derive(Clone, Debug)]
enum Op {
    Map(u8, bool),
    Unmap(u8),
    UnmapRange(u8, u8),
    Protect(u8, bool),
    ProtectRange(u8, u8, bool),
    Replace(u8),
    Swap(u8, u32),
    Copy(u8, u8, bool),
}

fn op() -> impl Strategy<Value = Op> {
    let b = any::<bool>;
    let n = any::<u8>;
    prop_oneof![
        6 => (n(), b()).prop_map(|(i, w)| Op::Map(i, w)),
        2 => n().prop_map(Op::Unmap),
        1 => (n(), n()).prop_map(|(i, j)| Op::UnmapRange(i, j)),
        2 => (n(), b()).prop_map(|(i, w)| Op::Protect(i, w)),
        1 => (n(), n(), b()).prop_map(|(i, j, w)| Op::ProtectRange(i, j, w)),
        1 => n().prop_map(Op::Replace),
        1 => (n(), any::<u32>()).prop_map(|(i, v)| Op::Swap(i, v)),
        1 => (n(), n(), b()).prop_map(|(i, j, w)| Op::Copy(i, j, w)),
    ]
}

#[derive(Clone, PartialEq, Debug)]
enum Model {
    Page(PageRef, bool),
    Swap(u64),
}

fn check(pt: &PageTable, model: &BTreeMap<usize, Model>) -> Result<(), TestCaseError> {
    let mut seen = BTreeMap::new();
    pt.lock().for_each(0..user::END, |va, e| {
        seen.insert(va, e);
    });
    prop_assert_eq!(seen.len(), model.len());
    for (va, m) in model {
        match (m, &seen[va]) {
            (Model::Page(p, w), Entry::Page(m)) => prop_assert_eq!((m.pfn, m.writable()), (p.pfn(), *w)),
            (Model::Swap(v), Entry::Swap(s)) => prop_assert_eq!(v, s),
            (m, s) => prop_assert!(false, "{va:#x}: {m:?} is {s:?}"),
        }
    }
    Ok(())
}

fn flags(w: bool) -> Flags {
    if w { RW } else { RO }
}

proptest! {
    #[test]
    fn tables_behave_like_a_map(ops in proptest::collection::vec(op(), 1..80)) {
        let pt = table();
        let mut model: BTreeMap<usize, Model> = BTreeMap::new();
        let mut all: Vec<PageRef> = Vec::new();
        for op in ops {
            let mut batch = TlbBatch::new(&pt);
            let mut c = pt.lock();
            match op {
                Op::Map(i, w) => {
                    let p = a_page();
                    all.push(p.clone());
                    let r = c.map(va(i), p.clone(), flags(w));
                    prop_assert_eq!(r.is_err(), model.contains_key(&va(i)));
                    if r.is_ok() {
                        model.insert(va(i), Model::Page(p, w));
                    }
                }
                Op::Unmap(i) => {
                    let e = c.unmap(va(i), &mut batch);
                    prop_assert_eq!(e == Entry::None, model.remove(&va(i)).is_none());
                }
                Op::UnmapRange(i, j) => {
                    c.unmap_range(range(i, j), &mut batch);
                    model.retain(|va, _| !range(i, j).contains(va));
                }
                Op::Protect(i, w) => {
                    let done = c.protect(va(i), flags(w), &mut batch);
                    let m = model.get_mut(&va(i));
                    prop_assert_eq!(done, matches!(m, Some(Model::Page(..))));
                    if let Some(Model::Page(_, now)) = m {
                        *now = w;
                    }
                }
                Op::ProtectRange(i, j, w) => {
                    c.protect_range(range(i, j), flags(w), &mut batch);
                    for (_, m) in model.range_mut(range(i, j)) {
                        if let Model::Page(_, now) = m {
                            *now = w;
                        }
                    }
                }
                Op::Replace(i) => {
                    let p = a_page();
                    all.push(p.clone());
                    c.replace(va(i), p.clone(), RW, &mut batch).unwrap();
                    model.insert(va(i), Model::Page(p, true));
                }
                Op::Swap(i, v) => {
                    c.set_swap(va(i), v.into(), &mut batch).unwrap();
                    model.insert(va(i), Model::Swap(v.into()));
                }
                Op::Copy(i, j, protect) => {
                    let child = PageTable::new().unwrap();
                    let n = c.copy_range(&mut child.lock_second(), range(i, j), protect, &mut batch).unwrap();
                    let mut copied: BTreeMap<_, _> = model.range(range(i, j)).map(|(k, v)| (*k, v.clone())).collect();
                    prop_assert_eq!(n, copied.len());
                    if protect {
                        for m in copied.values_mut().chain(model.range_mut(range(i, j)).map(|(_, v)| v)) {
                            if let Model::Page(_, w) = m {
                                *w = false;
                            }
                        }
                    }
                    check(&child, &copied)?;
                    drop(c);
                    drop(batch);
                    check(&pt, &model)?;
                    continue;
                }
            }
            drop(c);
            drop(batch);
            check(&pt, &model)?;
        }
        drop(pt);
        for p in &all {
            let mapped = model.values().filter(|m| matches!(m, Model::Page(q, _) if q == p)).count();
            prop_assert_eq!(p.refs() as usize, all.iter().filter(|q| *q == p).count() + mapped);
        }
    }
}
