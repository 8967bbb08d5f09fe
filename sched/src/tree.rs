//! An ordered tree whose nodes are boxes that move in and out.
//!
//! Run queues and timers need an ordered set that never allocates: they change with interrupts off, and a wake-up
//! must not fail for want of memory. So the node is allocated once, with its task or timer, and *ownership* of the
//! box moves: into the tree while it is queued, back to its owner when it leaves. Whoever holds the box may change
//! it, nobody else can reach it, and no unsafe code is needed.
//!
//! It is a treap: ordered by `(key, seq)`, heap-shaped by a rank that is a hash of `seq`, so its expected depth is
//! logarithmic whatever the order of insertion. Each node also knows the least `aug` value of its subtree, which
//! lets the fair class find the earliest deadline among the eligible in one descent.
//!
//! `key` and `aug` compare as wrapping counters: all values in one tree lie within 2^63 of each other.

use alloc::boxed::Box;

type Link<T> = Option<Box<Node<T>>>;

/// True if counter `a` lies before `b`.
#[inline]
pub fn before(a: u64, b: u64) -> bool {
    (a.wrapping_sub(b) as i64) < 0
}

/// One element with its place in the order.
#[derive(Debug)]
pub struct Node<T> {
    key: u64,
    seq: u64,
    aug: u64,
    /// Least `aug` of this subtree.
    min_aug: u64,
    rank: u32,
    left: Link<T>,
    right: Link<T>,
    pub value: T,
}

impl<T> Node<T> {
    pub fn new(value: T) -> Self {
        Node { key: 0, seq: 0, aug: 0, min_aug: 0, rank: 0, left: None, right: None, value }
    }
    #[inline]
    pub fn key(&self) -> u64 {
        self.key
    }
    #[inline]
    pub fn seq(&self) -> u64 {
        self.seq
    }
    #[inline]
    fn at(&self, key: u64, seq: u64) -> core::cmp::Ordering {
        // Where (key, seq) lies as seen from this node.
        (key.wrapping_sub(self.key) as i64).cmp(&0).then((seq.wrapping_sub(self.seq) as i64).cmp(&0))
    }
    fn update(&mut self) {
        let mut m = self.aug;
        for c in [&self.left, &self.right].into_iter().flatten() {
            if before(c.min_aug, m) {
                m = c.min_aug;
            }
        }
        self.min_aug = m;
    }
}

/// The tree.
#[derive(Debug)]
pub struct Tree<T> {
    root: Link<T>,
    len: usize,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Tree<T> {
    pub const fn new() -> Self {
        Tree { root: None, len: 0 }
    }
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Puts a node at `(key, seq)`; `seq` must be unique in the tree.
    pub fn insert(&mut self, mut n: Box<Node<T>>, key: u64, seq: u64, aug: u64) {
        n.key = key;
        n.seq = seq;
        n.aug = aug;
        n.min_aug = aug;
        n.rank = (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
        self.len += 1;
        let mut at = &mut self.root;
        while at.as_ref().is_some_and(|r| r.rank >= n.rank) {
            let r = at.as_mut().expect("checked");
            if before(aug, r.min_aug) {
                r.min_aug = aug;
            }
            at = if r.at(key, seq).is_lt() { &mut r.left } else { &mut r.right };
        }
        if let Some(below) = at.take() {
            (n.left, n.right) = split(below, key, seq);
            n.update();
        }
        *at = Some(n);
    }

    /// Takes the node at `(key, seq)` out.
    pub fn remove(&mut self, key: u64, seq: u64) -> Option<Box<Node<T>>> {
        let n = remove_at(&mut self.root, key, seq)?;
        self.len -= 1;
        Some(n)
    }

    /// The first node in order.
    pub fn first(&self) -> Option<&Node<T>> {
        let mut n = self.root.as_deref()?;
        while let Some(l) = n.left.as_deref() {
            n = l;
        }
        Some(n)
    }

    /// Takes the first node in order out.
    pub fn pop_first(&mut self) -> Option<Box<Node<T>>> {
        let n = pop_at(&mut self.root)?;
        self.len -= 1;
        Some(n)
    }

    /// The first node in order whose `aug` meets `fits`, which must hold for every value before one for which it
    /// holds.
    pub fn first_fit(&self, fits: impl Fn(u64) -> bool) -> Option<&Node<T>> {
        let mut n = self.root.as_deref()?;
        if !fits(n.min_aug) {
            return None;
        }
        loop {
            match n.left.as_deref() {
                Some(l) if fits(l.min_aug) => n = l,
                _ if fits(n.aug) => return Some(n),
                // The subtree has one that fits, and it is neither here nor on the left.
                _ => n = n.right.as_deref()?,
            }
        }
    }

    /// The least `aug` of all.
    #[inline]
    pub fn min_aug(&self) -> Option<u64> {
        self.root.as_ref().map(|r| r.min_aug)
    }

    /// Place `(key, seq)` of the first node in order that `pred` accepts. Looks at every node until then.
    pub fn find(&self, mut pred: impl FnMut(&T) -> bool) -> Option<(u64, u64)> {
        find_in(&self.root, &mut pred)
    }
}

fn find_in<T>(at: &Link<T>, pred: &mut impl FnMut(&T) -> bool) -> Option<(u64, u64)> {
    let n = at.as_deref()?;
    find_in(&n.left, pred)
        .or_else(|| pred(&n.value).then_some((n.key, n.seq)))
        .or_else(|| find_in(&n.right, pred))
}

/// Parts a subtree into what lies before `(key, seq)` and what lies after.
fn split<T>(mut n: Box<Node<T>>, key: u64, seq: u64) -> (Link<T>, Link<T>) {
    if n.at(key, seq).is_lt() {
        let (before, after) = n.left.take().map_or((None, None), |l| split(l, key, seq));
        n.left = after;
        n.update();
        (before, Some(n))
    } else {
        let (before, after) = n.right.take().map_or((None, None), |r| split(r, key, seq));
        n.right = before;
        n.update();
        (Some(n), after)
    }
}

/// Joins two subtrees, all of the first before all of the second.
fn merge<T>(a: Link<T>, b: Link<T>) -> Link<T> {
    match (a, b) {
        (None, x) | (x, None) => x,
        (Some(mut a), Some(mut b)) => Some(if a.rank >= b.rank {
            a.right = merge(a.right.take(), Some(b));
            a.update();
            a
        } else {
            b.left = merge(Some(a), b.left.take());
            b.update();
            b
        }),
    }
}

fn unlink<T>(at: &mut Link<T>) -> Option<Box<Node<T>>> {
    let mut n = at.take()?;
    *at = merge(n.left.take(), n.right.take());
    Some(n)
}

fn remove_at<T>(at: &mut Link<T>, key: u64, seq: u64) -> Option<Box<Node<T>>> {
    let n = at.as_mut()?;
    let got = match n.at(key, seq) {
        core::cmp::Ordering::Equal => return unlink(at),
        core::cmp::Ordering::Less => remove_at(&mut n.left, key, seq)?,
        core::cmp::Ordering::Greater => remove_at(&mut n.right, key, seq)?,
    };
    n.update();
    Some(got)
}

fn pop_at<T>(at: &mut Link<T>) -> Option<Box<Node<T>>> {
    let n = at.as_mut()?;
    if n.left.is_none() {
        return unlink(at);
    }
    let got = pop_at(&mut n.left)?;
    n.update();
    Some(got)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn check<T>(l: &Link<T>) -> Option<u64> {
        let n = l.as_deref()?;
        let mut m = n.aug;
        for c in [&n.left, &n.right] {
            if let Some(x) = check(c) {
                assert!(c.as_ref().unwrap().rank <= n.rank);
                m = if before(x, m) { x } else { m };
            }
        }
        assert_eq!(m, n.min_aug);
        Some(m)
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(base in any::<u64>(), ops in proptest::collection::vec((0u8..4, 0u64..40, 0u64..40), 1..300)) {
            let mut t = Tree::new();
            let mut model: BTreeMap<(u64, u64), u64> = BTreeMap::new();
            for (seq, (op, key, aug)) in ops.into_iter().enumerate() {
                let seq = seq as u64;
                match op {
                    0 | 1 => {
                        t.insert(Box::new(Node::new(seq)), base.wrapping_add(key), seq, base.wrapping_add(aug));
                        model.insert((key, seq), aug);
                    }
                    2 => {
                        let want = model.pop_first();
                        let got = t.pop_first();
                        prop_assert_eq!(got.map(|n| n.value), want.map(|((_, s), _)| s));
                    }
                    _ => {
                        let want = model.keys().copied().nth(key as usize);
                        if let Some((k, s)) = want {
                            model.remove(&(k, s));
                            prop_assert_eq!(t.remove(base.wrapping_add(k), s).unwrap().value, s);
                        }
                    }
                }
                check(&t.root);
                prop_assert_eq!(t.len(), model.len());
                prop_assert_eq!(t.first().map(|n| n.seq), model.keys().next().map(|k| k.1));
                let limit = aug;
                let want = model.iter().find(|(_, a)| **a <= limit).map(|((_, s), _)| *s);
                let got = t.first_fit(|a| !before(base.wrapping_add(limit), a)).map(|n| n.seq);
                prop_assert_eq!(got, want);
                prop_assert_eq!(t.min_aug(), model.values().min().map(|a| base.wrapping_add(*a)));
            }
        }
    }
}
