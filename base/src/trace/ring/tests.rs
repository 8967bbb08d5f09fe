//! The ring against a model: a list of all records ever written.

use alloc::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Push(usize),
    Consume,
    Look,
    Rewind,
    Clear,
    Resize(usize),
    Overwrite(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (8usize..900).prop_map(Op::Push),
        2 => (3000usize..=MAX_RECORD).prop_map(Op::Push),
        6 => Just(Op::Consume),
        6 => Just(Op::Look),
        1 => Just(Op::Rewind),
        1 => Just(Op::Clear),
        1 => (MIN_PAGES..6).prop_map(Op::Resize),
        1 => any::<bool>().prop_map(Op::Overwrite),
    ]
}

/// Bytes that say which record this is and that none of it is another's.
fn body(n: u64, len: usize) -> Vec<u8> {
    let mut v = vec![(n % 251) as u8; len];
    v[..8].copy_from_slice(&n.to_ne_bytes());
    v
}
/// The number that a copied record carries; panics if it is torn.
fn number(b: &[u8]) -> u64 {
    let n = u64::from_ne_bytes(b[..8].try_into().unwrap());
    assert!(b[8..].iter().all(|&c| c == (n % 251) as u8), "record {n} is torn");
    n
}

proptest! {
    #[test]
    fn no_record_is_torn_or_lost_uncounted(ops in prop::collection::vec(op(), 1..400)) {
        let mut r = Ring::new();
        r.resize(pages(3).unwrap());
        let mut out = [0; PAGE];
        let (mut next, mut consumed_up_to, mut cleared) = (0u64, 0u64, 0u64);
        let mut overwrite = true;
        let (mut pos, mut until) = r.span();
        let mut looked = 0u64;
        for o in ops {
            match o {
                Op::Push(len) => {
                    let b = body(next, len);
                    if r.push(1000 + next, &b[..8], &b[8..]) {
                        next += 1;
                    } else {
                        prop_assert!(!overwrite, "a ring that overwrites takes everything");
                    }
                }
                Op::Consume => match r.consume(&mut out) {
                    Some(i) => {
                        let n = number(&out[..i.len]);
                        prop_assert_eq!(i.ts, 1000 + n);
                        prop_assert_eq!(n, consumed_up_to + i.lost, "each record is consumed or counted");
                        consumed_up_to = n + 1;
                    }
                    None => prop_assert_eq!(r.entries(), 0),
                },
                Op::Look => if let Some(i) = r.look(&mut pos, until, &mut out) {
                    let n = number(&out[..i.len]);
                    prop_assert!(n < until && n >= cleared);
                    prop_assert_eq!(n, looked.max(cleared) + i.lost, "each record is seen or counted");
                    looked = n + 1;
                },
                Op::Rewind => {
                    (pos, until) = r.span();
                    prop_assert_eq!(until, next);
                    looked = next - r.entries();
                }
                Op::Clear => {
                    r.clear();
                    (consumed_up_to, cleared) = (next, next);
                    prop_assert_eq!(r.stats(), Stats::default());
                }
                Op::Resize(n) => {
                    drop(r.resize(pages(n).unwrap()));
                    prop_assert_eq!(r.page_count(), n);
                }
                Op::Overwrite(on) => {
                    overwrite = on;
                    r.set_overwrite(on);
                }
            }
            let s = r.stats();
            prop_assert_eq!(s.entries + s.overrun + s.read, next - cleared);
            prop_assert_eq!(s.oldest == 0, s.entries == 0);
        }
        // What is left comes out whole, in order, to the last.
        while let Some(i) = r.consume(&mut out) {
            let n = number(&out[..i.len]);
            prop_assert_eq!(n, consumed_up_to + i.lost);
            consumed_up_to = n + 1;
        }
        prop_assert_eq!(consumed_up_to, next);
    }
}

#[test]
fn the_newest_survive() {
    let mut r = Ring::new();
    r.resize(pages(2).unwrap());
    for n in 0..1000u64 {
        assert!(r.push(n, &body(n, 100), &[]));
    }
    let mut out = [0; PAGE];
    let (mut pos, until) = r.span();
    let mut seen = Vec::new();
    while let Some(i) = r.look(&mut pos, until, &mut out) {
        seen.push(number(&out[..i.len]));
    }
    assert_eq!(seen.last(), Some(&999));
    assert!(seen.windows(2).all(|w| w[1] == w[0] + 1) && seen.len() >= 32);
    assert_eq!(r.stats().overrun, 1000 - seen.len() as u64);
    // Shrunk further it keeps the last page; grown again, all of that.
    let mut small = Ring::new();
    core::mem::swap(&mut small, &mut r);
    drop(small.resize(pages(8).unwrap()));
    assert_eq!(small.entries(), seen.len() as u64);
}

#[test]
fn sizes_in_kib() {
    assert_eq!(pages_for(0), Err(Errno::EINVAL));
    assert_eq!(pages_for(1), Ok(MIN_PAGES));
    assert_eq!(pages_for(1408), Ok(354));
    assert_eq!(pages_for(u64::MAX), Err(Errno::ENOMEM));
}
