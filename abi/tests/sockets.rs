//! Sockets through the system-call table: what programs may get wrong in the structures around a message.

mod common;

use common::{Asker, boot};
use frame::sim;
use linux_raw_sys::{general as raw, net};

const SEEDS: u64 = 10;
const MSG_CTRUNC: u32 = net::MSG_CTRUNC;
/// Offsets of `struct msghdr` and of what it points at, from the data area.
const IOV: u64 = 64;
const BYTE: u64 = 96;
const CONTROL: u64 = 128;
const PAIR: u64 = 256;

/// A `struct msghdr` with one byte and this control buffer.
fn header(a: &Asker<'_>, control: u64, len: u64) -> u64 {
    let (at, d) = (a.data(), a.data());
    for (off, v) in [(0, 0), (8, 0), (16, d + IOV), (24, 1), (32, control), (40, len), (48, 0)] {
        a.u.store(at + off, &u64::to_le_bytes(v));
    }
    a.u.store(d + IOV, &(d + BYTE).to_le_bytes());
    a.u.store(d + IOV + 8, &1u64.to_le_bytes());
    at
}

fn send_descriptor(a: &Asker<'_>, through: u64, fd: u64) {
    let c = a.data() + CONTROL;
    for (off, v) in [(0, 20u64), (8, 1 | 1 << 32), (16, fd)] {
        a.u.store(c + off, &v.to_le_bytes());
    }
    let h = header(a, c, 24);
    assert_eq!(a.call(raw::__NR_sendmsg, [through, h, 0]), Ok(1));
}

/// A control buffer that cannot be written to is told as cut; the descriptor is closed, and nothing else happens.
#[test]
fn a_wild_control_buffer_loses_its_descriptor_only() {
    sim::campaign("scm_wild", SEEDS, |_| {
        boot(
            || ::net::init().unwrap(),
            |a| {
                let pair = a.data() + PAIR;
                a.call(raw::__NR_socketpair, [1, 1, 0, pair]).unwrap();
                let (s, r) = (a.u.load_u32(pair).into(), a.u.load_u32(pair + 4).into());
                for control in [!7u64, !15, !0, 8, 1 << 47, 1 << 63] {
                    let free = a.call(raw::__NR_dup, [s]).unwrap();
                    a.call(raw::__NR_close, [free]).unwrap();
                    send_descriptor(a, s, r);
                    let h = header(a, control, 64);
                    assert_eq!(a.call(raw::__NR_recvmsg, [r, h, 0]), Ok(1), "{control:#x}");
                    assert_eq!(a.u.load_u32(h + 48), MSG_CTRUNC, "{control:#x}");
                    assert_eq!(a.call(raw::__NR_dup, [s]), Ok(free), "a descriptor stayed");
                    a.call(raw::__NR_close, [free]).unwrap();
                }
            },
        )
    });
}
