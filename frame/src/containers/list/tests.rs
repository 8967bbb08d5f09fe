use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

struct Other;
struct Item {
    n: usize,
    link: Link<Item>,
    other: Link<Item>,
}
crate::list_node!(Item, link);
crate::list_node!(Item, other, Other);

fn item(n: usize) -> Arc<Item> {
    Arc::new(Item { n, link: Link::new(), other: Link::new() })
}
fn numbers<T>(l: &List<Item, T>) -> Vec<usize>
where
    Item: ListNode<T>,
{
    l.iter().map(|i| i.n).collect()
}

#[test]
fn an_object_can_be_on_one_list_of_each_kind() {
    let (mut a, mut b, mut c) = (List::<Item>::new(), List::<Item>::new(), List::<Item, Other>::new());
    let i = item(1);
    assert!(a.push_back(i.clone()) && c.push_back(i.clone()));
    assert!(!b.push_back(i.clone()) && !b.remove(&i) && !a.push_front(i.clone()));
    assert_eq!(Arc::strong_count(&i), 3);
    assert!(a.remove(&i) && !a.remove(&i) && b.push_front(i.clone()));
    drop((a, b, c));
    assert_eq!(Arc::strong_count(&i), 1);
    assert!(!i.link.is_linked());
}

#[test]
fn cursors_take_out_and_put_in() {
    let mut l = List::<Item>::new();
    (0..5).for_each(|n| assert!(l.push_back(item(n))));
    let mut c = l.cursor_mut();
    while let Some(i) = c.current() {
        if i.n % 2 == 0 {
            c.remove();
        } else {
            c.move_next();
        }
    }
    assert!(c.insert_before(item(9)));
    assert!(l.cursor_mut().insert_before(item(8)));
    assert_eq!(numbers(&l), [8, 1, 3, 9]);
    let three = l.arc_of(l.iter().nth(2).unwrap()).unwrap();
    assert!(l.insert_before(&three, item(7)) && l.move_to_front(&three));
    assert_eq!(numbers(&l), [3, 8, 1, 7, 9]);
    let moved = l;
    assert!(moved.contains(&three));
}

struct Liar {
    link: Link<Liar>,
    spare: Link<Liar>,
    lie: std::sync::atomic::AtomicBool,
}
impl ListNode for Liar {
    fn link(&self) -> &Link<Self> {
        if self.lie.load(Ordering::Relaxed) { &self.spare } else { &self.link }
    }
}

#[test]
fn a_lying_node_is_a_panic() {
    let liar = || Arc::new(Liar { link: Link::new(), spare: Link::new(), lie: false.into() });
    let (a, b) = (liar(), liar());
    let mut l = List::<Liar>::new();
    l.push_back(a.clone());
    l.push_back(b.clone());
    a.lie.store(true, Ordering::Relaxed);
    assert!(!l.remove(&a));
    let r = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| l.pop_front()));
    assert!(r.is_err());
    a.lie.store(false, Ordering::Relaxed);
    assert_eq!(l.iter().count(), 2);
}

proptest! {
    #[test]
    fn like_a_deque(ops in proptest::collection::vec((0..8u8, 0..12usize), 1..200)) {
        let items: Vec<_> = (0..12).map(item).collect();
        let mut l = List::<Item>::new();
        let mut m = VecDeque::new();
        for (op, n) in ops {
            let i = &items[n];
            let on = m.iter().position(|&x| x == n);
            match op {
                0 => { prop_assert_eq!(l.push_back(i.clone()), on.is_none()); if on.is_none() { m.push_back(n) } }
                1 => { prop_assert_eq!(l.push_front(i.clone()), on.is_none()); if on.is_none() { m.push_front(n) } }
                2 => prop_assert_eq!(l.pop_front().map(|i| i.n), m.pop_front()),
                3 => prop_assert_eq!(l.pop_back().map(|i| i.n), m.pop_back()),
                4 => prop_assert_eq!(l.remove(i), on.map(|p| m.remove(p)).is_some()),
                5 => prop_assert_eq!(l.move_to_back(i), on.map(|p| { m.remove(p); m.push_back(n) }).is_some()),
                6 => prop_assert_eq!(l.move_to_front(i), on.map(|p| { m.remove(p); m.push_front(n) }).is_some()),
                _ => prop_assert_eq!(l.contains(i), on.is_some()),
            }
            prop_assert_eq!(numbers(&l), m.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(l.len(), m.len());
            prop_assert_eq!(l.back().map(|i| i.n), m.back().copied());
        }
    }
}
