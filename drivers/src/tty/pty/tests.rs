//! The parts of a pair alone; whole pairs are under simulation in `abi/tests/terminals.rs`.

use alloc::{vec, vec::Vec};

use proptest::prelude::*;

use super::{slave::Pair, wire::Wire};

proptest! {
    #[test]
    fn a_wire_keeps_order_and_its_limit(steps in prop::collection::vec((0usize..300, 0usize..300), 1..50)) {
        let w = Wire::new(256).unwrap();
        let (mut sent, mut seen): (u32, u32) = (0, 0);
        for (put, get) in steps {
            let bytes: Vec<u8> = (0..put as u32).map(|i| (sent + i) as u8).collect();
            let free = w.free();
            let n = w.put(&bytes);
            prop_assert_eq!(n, put.min(free));
            sent += n as u32;
            let mut into = vec![0; get];
            let n = w.get(&mut into);
            for b in &into[..n] {
                prop_assert_eq!(*b, seen as u8);
                seen += 1;
            }
            prop_assert_eq!(w.len() as u32, sent - seen);
        }
    }
}

#[test]
fn a_new_pair_is_locked_and_open_ended() {
    let p = Pair::new().unwrap();
    let s = p.status.lock();
    assert!(s.locked && !s.master_closed && !s.slave_closed && !s.packet);
}
