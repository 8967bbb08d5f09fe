use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MARKS: [Mark; 3] = [Mark::Mark0, Mark::Mark1, Mark::Mark2];

#[test]
fn height_follows_the_largest_index() {
    let mut x = XArray::new();
    x.insert(63, 'a').unwrap();
    assert_eq!(x.shift, 0);
    x.insert(64, 'b').unwrap();
    assert_eq!(x.shift, BITS);
    x.insert(u64::MAX, 'c').unwrap();
    assert_eq!((x.get(63), x.get(u64::MAX), x.len()), (Some('a'), Some('c'), 3));
    assert_eq!(x.remove(u64::MAX), Some('c'));
    assert_eq!(x.shift, BITS);
    x.remove(64);
    assert_eq!(x.shift, 0);
    x.remove(63);
    assert!(x.root.is_none() && x.is_empty());
}

#[test]
fn marks_survive_growing_and_replacing_but_not_removal() {
    let mut x = XArray::new();
    x.insert(1, 1).unwrap();
    assert!(x.set_mark(1, Mark::Mark1) && !x.set_mark(2, Mark::Mark1));
    x.insert(1 << 40, 2).unwrap();
    x.insert(1, 3).unwrap();
    assert_eq!(x.next_marked(0, Mark::Mark1), Some((1, 3)));
    assert_eq!(x.replace(1, 4), Ok(3));
    assert_eq!(x.replace(5, 4), Err(4));
    x.remove(1);
    x.insert(1, 5).unwrap();
    assert!(!x.get_mark(1, Mark::Mark1) && !x.any_marked(Mark::Mark1));
}

#[test]
fn free_indices_at_the_edges() {
    let mut x = XArray::new();
    assert_eq!(x.first_free(5..=9), Some(5));
    (0..64).for_each(|i| assert_eq!(x.insert(i, ()), Ok(None)));
    assert_eq!(x.first_free(0..=u64::MAX), Some(64));
    assert_eq!(x.first_free(0..=63), None);
    x.insert(u64::MAX, ()).unwrap();
    assert_eq!(x.first_free(u64::MAX..=u64::MAX), None);
    assert_eq!(x.first_free(u64::MAX - 1..=u64::MAX), Some(u64::MAX - 1));
    assert_eq!(x.next_ref(64), Some((u64::MAX, &())));
    assert_eq!(x.iter().count(), 65);
    assert_eq!(x.first_free(3..=3), None);
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u64, u32),
    Remove(u64),
    Mark(u64, usize, bool),
    Next(u64),
    NextMarked(u64, usize),
    Free(u64, u64),
}

/// Indices that meet: dense low ones, and some near each power.
fn index() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..200u64,
        1 => (0..64u32, 0..4u64).prop_map(|(s, d)| (1u64 << s).wrapping_add(d)),
        1 => (0..4u64).prop_map(|d| u64::MAX - d),
        1 => any::<u64>(),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (index(), any::<u32>()).prop_map(|(i, v)| Op::Insert(i, v)),
        2 => index().prop_map(Op::Remove),
        2 => (index(), 0..3usize, any::<bool>()).prop_map(|(i, m, on)| Op::Mark(i, m, on)),
        1 => index().prop_map(Op::Next),
        1 => (index(), 0..3usize).prop_map(|(i, m)| Op::NextMarked(i, m)),
        1 => (index(), index()).prop_map(|(a, b)| Op::Free(a, b)),
    ]
}

proptest! {
    #[test]
    fn like_a_map(ops in proptest::collection::vec(op(), 1..400)) {
        let mut x = XArray::new();
        let mut m = BTreeMap::<u64, (u32, [bool; 3])>::new();
        for op in ops {
            match op {
                Op::Insert(i, v) => {
                    let old = m.get(&i).copied();
                    prop_assert_eq!(x.insert(i, v), Ok(old.map(|o| o.0)));
                    m.insert(i, (v, old.map_or([false; 3], |o| o.1)));
                }
                Op::Remove(i) => prop_assert_eq!(x.remove(i), m.remove(&i).map(|o| o.0)),
                Op::Mark(i, k, on) => {
                    let there = m.get_mut(&i).map(|o| o.1[k] = on).is_some();
                    prop_assert_eq!(if on { x.set_mark(i, MARKS[k]) } else { x.clear_mark(i, MARKS[k]) }, there);
                }
                Op::Next(i) => prop_assert_eq!(x.next(i), m.range(i..).next().map(|(&i, o)| (i, o.0))),
                Op::NextMarked(i, k) => {
                    prop_assert_eq!(x.next_marked(i, MARKS[k]), m.range(i..).find(|(_, o)| o.1[k]).map(|(&i, o)| (i, o.0)));
                }
                Op::Free(a, b) => {
                    let mut free = Some(a);
                    while let Some(f) = free && m.contains_key(&f) {
                        free = f.checked_add(1);
                    }
                    prop_assert_eq!(x.first_free(a..=b), free.filter(|&f| f <= b));
                }
            }
            prop_assert_eq!(x.len(), m.len());
        }
        prop_assert_eq!(x.iter().map(|(i, &v)| (i, v)).collect::<Vec<_>>(), m.iter().map(|(&i, o)| (i, o.0)).collect::<Vec<_>>());
        for (&i, o) in &m {
            for (mark, on) in MARKS.into_iter().zip(o.1) {
                prop_assert_eq!(x.get_mark(i, mark), on);
            }
        }
        for i in m.keys() {
            x.remove(*i);
        }
        prop_assert!(x.root.is_none());
    }
}
