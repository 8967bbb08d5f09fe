use std::collections::HashMap;

use proptest::prelude::*;

use super::{
    AllocFlags, FreeRun, Kind, PAGE_SIZE, PageRef, alloc_page, alloc_pages, alloc_run, free_run, max_pfn,
    page, word,
};

fn ready() {
    crate::arch::early_memory();
}

#[test]
fn any_frame_number_is_safe_to_ask_about() {
    ready();
    assert!(page(max_pfn() - 1).is_some());
    for pfn in [max_pfn(), max_pfn() + 1, u64::MAX, u64::MAX >> 12] {
        assert!(
            page(pfn).is_none() && PageRef::try_from_pfn(pfn).is_none() && FreeRun::claim(pfn, 0).is_none()
        );
    }
    assert!(PageRef::try_from_pfn(0).is_none());
    assert_eq!(page(5).unwrap().pfn(), 5);
}

#[test]
fn a_run_put_away_is_claimed_once_and_with_its_order() {
    ready();
    let pfn = alloc_run(2, AllocFlags::ATOMIC).unwrap().into_free_entry();
    assert!(
        FreeRun::claim(pfn, 1).is_none()
            && FreeRun::claim(pfn + 1, 0).is_none()
            && FreeRun::claim(pfn, 99).is_none()
    );
    let run = FreeRun::claim(pfn, 2).unwrap();
    assert!(FreeRun::claim(pfn, 2).is_none());
    free_run(run);
}

#[test]
fn only_buddies_join() {
    ready();
    let (a, b) = alloc_run(2, AllocFlags::ATOMIC).unwrap().split().unwrap();
    let (b0, b1) = b.split().unwrap();
    let (a, b0) = FreeRun::join(a, b0).unwrap_err();
    let b = FreeRun::join(b1, b0).unwrap();
    let run = FreeRun::join(b, a).unwrap();
    assert_eq!(run.order(), 2);
    assert!(alloc_run(0, AllocFlags::ATOMIC).unwrap().split().is_err_and(|r| {
        free_run(r);
        true
    }));
    free_run(run);
}

#[test]
fn references_are_counted_and_tails_lead_to_their_head() {
    ready();
    let p = alloc_pages(3, AllocFlags::ZERO).unwrap();
    let pfn = p.pfn();
    let t = PageRef::try_from_pfn(pfn + 7).unwrap();
    assert!(t == p && p.refs() == 2 && p.order() == 3 && p.size() == 8 * PAGE_SIZE);
    assert!(PageRef::try_from_pfn(pfn + 8).is_none_or(|q| q != p));
    let p = p.try_unwrap().unwrap_err();
    drop(t);
    let parts: Vec<_> = p.split().unwrap().collect();
    assert!(
        parts.iter().enumerate().all(|(i, q)| q.pfn() == pfn + i as u64 && q.order() == 0 && q.refs() == 1)
    );
    assert!(parts.iter().all(|q| PageRef::try_from_pfn(q.pfn()).unwrap() == *q));
}

#[test]
fn frames_that_frame_uses_cannot_be_referenced() {
    ready();
    let pfn = alloc_run(1, AllocFlags::ATOMIC).unwrap().into_owned(Kind::Table);
    assert!(PageRef::try_from_pfn(pfn).is_none() && FreeRun::claim(pfn, 1).is_none());
    assert!(page(pfn).unwrap().is_kernel());
    assert_eq!(page(pfn).unwrap().aux_add(3), 3);
    assert_eq!(page(pfn).unwrap().aux_add(-3), 0);
    // SAFETY: the owner is this test.
    free_run(unsafe { FreeRun::from_owned(pfn, Kind::Table) });
}

#[test]
#[should_panic(expected = "freed as Slab")]
fn a_double_free_inside_frame_is_found() {
    ready();
    let pfn = alloc_run(0, AllocFlags::ATOMIC).unwrap().into_owned(Kind::Table);
    // SAFETY: the panic is the point.
    let _ = unsafe { FreeRun::from_owned(pfn, Kind::Slab) };
}

#[test]
fn contents_are_copied_and_compared() {
    ready();
    let (a, b) = (alloc_page(AllocFlags::ZERO).unwrap(), alloc_page(AllocFlags::ZERO).unwrap());
    assert!(a.is_all_zero() && a.same_contents(&b));
    a.write(4089, b"nightsh");
    let mut out = [0; 9];
    a.read(4087, &mut out);
    assert_eq!(&out, b"\0\0nightsh");
    assert!(!a.is_all_zero() && a.checksum() != b.checksum() && a.compare(&b).is_gt());
    b.copy_from(&a);
    assert!(a.same_contents(&b) && a.compare(&b).is_eq());
    a.fill(1, 11, 0xee);
    assert_eq!(a.read_u64(0), 0xeeee_eeee_eeee_ee00);
    assert_eq!(a.read_u64(8), 0xeeee_eeee);
    a.zero_range(0, 12);
    a.write_u64(8, 7);
    assert_eq!((a.read_u64(0), a.read_u64(8)), (0, 7));
    a.write(PAGE_SIZE, &[]);
}

#[test]
#[should_panic(expected = "bytes at 4090")]
fn contents_end_with_the_page() {
    ready();
    alloc_page(AllocFlags::ZERO).unwrap().write(4090, &[0; 7]);
}

proptest! {
    /// Splits, joins, entries and pages in any order: a frame has one owner at any time, and the words say which.
    #[test]
    fn every_frame_has_one_owner(ops in proptest::collection::vec((0u8..6, 0usize..64, 0u64..64), 1..200)) {
        ready();
        const ORDER: u32 = 6;
        let whole = alloc_run(ORDER, AllocFlags::ATOMIC).unwrap();
        let base = whole.pfn();
        let mut runs = vec![whole];
        let mut pages: Vec<PageRef> = Vec::new();
        let mut entries: HashMap<u64, u32> = HashMap::new();
        for (op, i, n) in ops {
            match op {
                0 if !runs.is_empty() => match runs.swap_remove(i % runs.len()).split() {
                    Ok((a, b)) => runs.extend([a, b]),
                    Err(r) => runs.push(r),
                },
                1 if runs.len() > 1 => {
                    let a = runs.swap_remove(i % runs.len());
                    let at = runs.iter().position(|b| b.pfn() == a.pfn() ^ (1 << a.order())).unwrap_or(0);
                    let b = runs.swap_remove(at);
                    let buddies = a.order() == b.order() && a.pfn() ^ b.pfn() == 1 << a.order();
                    match FreeRun::join(a, b) {
                        Ok(r) => {
                            prop_assert!(buddies);
                            runs.push(r);
                        }
                        Err((a, b)) => {
                            prop_assert!(!buddies);
                            runs.extend([a, b]);
                        }
                    }
                }
                2 if !runs.is_empty() => pages.push(runs.swap_remove(i % runs.len()).into_page()),
                3 if !pages.is_empty() => {
                    let p = pages.swap_remove(i % pages.len());
                    let copies = pages.iter().filter(|q| **q == p).count();
                    match p.try_unwrap() {
                        Ok(r) => {
                            prop_assert_eq!(copies, 0);
                            runs.push(r);
                        }
                        Err(p) => {
                            prop_assert!(copies > 0);
                            pages.push(p);
                        }
                    }
                }
                4 if !runs.is_empty() => {
                    let r = runs.swap_remove(i % runs.len());
                    let order = r.order();
                    entries.insert(r.into_free_entry(), order);
                }
                5 => {
                    let (pfn, order) = (base + n, i as u32 % 8);
                    let claimed = FreeRun::claim(pfn, order);
                    prop_assert_eq!(claimed.is_some(), entries.get(&pfn) == Some(&order));
                    if let Some(r) = claimed {
                        entries.remove(&pfn);
                        runs.push(r);
                    }
                }
                _ => {
                    let found = PageRef::try_from_pfn(base + n);
                    let covers = |p: &PageRef| (p.pfn()..p.pfn() + (1 << p.order())).contains(&(base + n));
                    prop_assert_eq!(found.as_ref(), pages.iter().find(|p| covers(p)));
                    pages.extend(found);
                }
            }
            for r in &runs {
                prop_assert_eq!(page(r.pfn()).unwrap().kind_word(), word(Kind::Held, r.order()));
            }
            for (&pfn, &order) in &entries {
                prop_assert!(page(pfn).unwrap().is_free() && page(pfn).unwrap().order() == order);
            }
            for p in &pages {
                prop_assert_eq!(p.refs() as usize, pages.iter().filter(|q| *q == p).count());
            }
        }
        drop(pages.drain(..));
        for (pfn, order) in entries {
            free_run(FreeRun::claim(pfn, order).unwrap());
        }
        runs.into_iter().for_each(free_run);
    }
}
