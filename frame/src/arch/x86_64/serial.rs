//! The first console: COM1, polled.
//!
//! Callable from any context on any processor, NMIs and panics included. A writer keeps others out so that lines do not
//! mix, but never waits for ever: not for a holder that was stopped, not for a port that does not answer.

use super::{
    clock,
    insn::{port_read8, port_write8, relax, without_interrupts},
};
use crate::atomic::{AtomicBool, AtomicU64, Ordering};

const BASE: u16 = 0x3f8;
const LSR: u16 = BASE + 5;
const LSR_THR_EMPTY: u8 = 0x20;
/// Bytes that the transmitter takes at once when it is empty (16550A).
const FIFO: usize = 16;
/// How long one writer waits for another, and for the transmitter: at 115200 baud a FIFO takes 1.4 ms.
const PATIENCE_NS: u64 = 100_000_000;

/// Which processor writes, plus one; 0: nobody. A nested writer (an NMI) knows its own processor and goes ahead.
static HOLDER: AtomicU64 = AtomicU64::new(0);
static ABSENT: AtomicBool = AtomicBool::new(false);

/// 115200 baud, 8 bits, no parity; interrupts off.
pub(super) fn init() {
    for (r, v) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 0xc7), (4, 3)] {
        port_write8(BASE + r, v);
    }
    // The scratch register keeps what is written where a UART exists; an absent port reads as 0xff.
    port_write8(BASE + 7, 0x5a);
    ABSENT.store(port_read8(BASE + 7) != 0x5a, Ordering::Relaxed);
}

/// Writes raw bytes.
pub fn console_write(bytes: &[u8]) {
    if ABSENT.load(Ordering::Relaxed) {
        return;
    }
    without_interrupts(|| {
        let me = u64::from(super::percpu::cpu_id()) + 1;
        let start = clock::now_ns();
        let taken = loop {
            match HOLDER.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break true,
                Err(h) if h == me => break false,
                Err(_) if clock::now_ns() - start > PATIENCE_NS => {
                    // Its holder was stopped, most likely: take it over, so that the next line need not wait as well.
                    HOLDER.store(me, Ordering::Relaxed);
                    break true;
                }
                Err(_) => relax(),
            }
        };
        for chunk in bytes.chunks(FIFO) {
            let start = clock::now_ns();
            while port_read8(LSR) & LSR_THR_EMPTY == 0 && clock::now_ns() - start < PATIENCE_NS {
                relax();
            }
            for &b in chunk {
                port_write8(BASE, b);
            }
        }
        if taken {
            HOLDER.store(0, Ordering::Release);
        }
    });
}
