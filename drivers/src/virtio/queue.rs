//! A split queue (VIRTIO 1.2, section 2.7).
//!
//! ```text
//!   descriptors   16 bytes each: address, length, flags, next      written here, read by the device
//!   available     flags, index, ring of heads, used_event          written here
//!   used          flags, index, ring of (head, bytes written), avail_event      written by the device
//! ```
//! The free list, the length of each chain and its token are kept in private memory. The shared descriptors are only written, so
//! nothing that a device puts there can lead this side astray. From the used ring three things are believed only after a check:
//! the index may not run ahead of what is out, a head must be out, and the bytes written are at most what was offered.
//!
//! With event indices each side says from which index on it wants to hear of news, instead of only whether.

use alloc::vec::Vec;

use base::{Errno, Result};
use frame::dma::{self, DmaBuffer};

/// A part of a chain: a physical address and a length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    pub address: u64,
    pub len: u32,
}

impl Segment {
    /// The first `len` bytes of a buffer.
    pub fn of(buffer: &DmaBuffer, len: usize) -> Segment {
        Segment { address: buffer.address(), len: len.min(buffer.len()) as u32 }
    }
}

/// Where a queue is: descriptors, what the driver offers, what the device has used.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub number: u16,
    pub size: u16,
    pub rings: [u64; 3],
}

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;
const DESCRIPTOR: usize = 16;

/// A chain that the device has.
struct Chain<T> {
    token: T,
    descriptors: u16,
    /// Bytes that the device may write.
    writable: u32,
}

/// A queue. `T` is what the driver remembers with a chain and gets back with it: it should own the chain's buffers, so that they
/// live while the device may use them. The lock around it is the driver's.
pub struct Queue<T> {
    number: u16,
    size: u16,
    ring: DmaBuffer,
    event_idx: bool,
    /// Private: the next free descriptor after each free one.
    next: Vec<u16>,
    free_head: u16,
    free: u16,
    out: Vec<Option<Chain<T>>>,
    out_count: u16,
    available: u16,
    /// `available` when the bell was last considered.
    notified: u16,
    used: u16,
    broken: bool,
}

impl<T> Queue<T> {
    /// A queue of the longest power of two that is at most `limit`, not started. ENOMEM; EINVAL for a limit of 0.
    pub(super) fn new(number: u16, limit: u16, event_idx: bool) -> Result<Queue<T>> {
        // The specification ends at 32768.
        let limit = limit.min(1 << 15);
        if limit == 0 {
            return Err(Errno::EINVAL);
        }
        let size = 1 << limit.ilog2();
        let n = usize::from(size);
        let ring = DmaBuffer::new(used_at(n) + 6 + 8 * n).ok_or(Errno::ENOMEM)?;
        let (mut next, mut out) = (Vec::new(), Vec::new());
        next.try_reserve_exact(n)?;
        next.extend(1..=size);
        out.try_reserve_exact(n)?;
        out.resize_with(n, || None);
        Ok(Queue {
            number,
            size,
            ring,
            event_idx,
            next,
            free_head: 0,
            free: size,
            out,
            out_count: 0,
            available: 0,
            notified: 0,
            used: 0,
            broken: false,
        })
    }
    pub fn number(&self) -> u16 {
        self.number
    }
    pub fn size(&self) -> u16 {
        self.size
    }
    /// What the device must know to use it.
    pub fn layout(&self) -> Layout {
        let (base, n) = (self.ring.address(), usize::from(self.size));
        let rings = [base, base + available_at(n) as u64, base + used_at(n) as u64];
        Layout { number: self.number, size: self.size, rings }
    }
    /// Descriptors that are left.
    pub fn room(&self) -> u16 {
        self.free
    }
    /// Chains that the device has.
    pub fn outstanding(&self) -> u16 {
        self.out_count
    }
    /// True once the device broke a rule.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Gives the device a chain: first what it reads, then what it writes. ENOSPC (with the token back) if there are not enough
    /// descriptors now, EIO for a broken device, EINVAL for an empty chain.
    pub fn add(&mut self, read: &[Segment], write: &[Segment], token: T) -> Result<(), (Errno, T)> {
        let count = read.len() + write.len();
        if self.broken {
            return Err((Errno::EIO, token));
        }
        if count == 0 {
            return Err((Errno::EINVAL, token));
        }
        if count > usize::from(self.free) {
            return Err((Errno::ENOSPC, token));
        }
        let head = self.free_head;
        let mut at = head;
        let both = read.iter().map(|s| (s, 0)).chain(write.iter().map(|s| (s, WRITE)));
        for (i, (s, flag)) in both.enumerate() {
            let next = self.next[usize::from(at)];
            let last = i + 1 == count;
            let d = usize::from(at) * DESCRIPTOR;
            self.ring.write_u64(d, s.address);
            self.ring.write_u32(d + 8, s.len);
            self.ring.write_u16(d + 12, flag | if last { 0 } else { NEXT });
            self.ring.write_u16(d + 14, if last { 0 } else { next });
            at = next;
        }
        self.free_head = at;
        self.free -= count as u16;
        let writable = write.iter().fold(0u32, |n, s| n.saturating_add(s.len));
        self.out[usize::from(head)] = Some(Chain { token, descriptors: count as u16, writable });
        self.out_count += 1;
        let n = usize::from(self.size);
        let slot = available_at(n) + 4 + 2 * usize::from(self.available % self.size);
        self.ring.write_u16(slot, head);
        // The device must see the chain before the index that gives it away.
        dma::write_barrier();
        self.available = self.available.wrapping_add(1);
        self.ring.write_u16(available_at(n) + 2, self.available);
        Ok(())
    }

    /// True if the bell must be rung for what was added since this was last asked.
    pub fn needs_notify(&mut self) -> bool {
        // The index must be visible before the device's wish is read, or both sides wait.
        dma::full_barrier();
        let n = usize::from(self.size);
        let (old, new) = (self.notified, self.available);
        self.notified = new;
        if self.event_idx {
            let event = self.ring.read_u16(used_at(n) + 4 + 8 * n);
            passes(event, new, old)
        } else {
            old != new && self.ring.read_u16(used_at(n)) & NO_NOTIFY == 0
        }
    }

    /// Takes back the next chain that the device has used, with the number of bytes that it wrote. EIO, once and for all, when the
    /// device breaks a rule.
    pub fn take_used(&mut self) -> Result<Option<(T, u32)>> {
        if self.broken {
            return Err(Errno::EIO);
        }
        let n = usize::from(self.size);
        let ahead = self.ring.read_u16(used_at(n) + 2).wrapping_sub(self.used);
        if ahead == 0 {
            return Ok(None);
        }
        if ahead > self.out_count {
            return Err(self.fail("has used more than it was given"));
        }
        dma::read_barrier();
        let slot = used_at(n) + 4 + 8 * usize::from(self.used % self.size);
        let (head, written) = (self.ring.read_u32(slot), self.ring.read_u32(slot + 4));
        let taken = self.out.get_mut(head as usize).and_then(Option::take);
        let Some(chain) = taken else {
            return Err(self.fail("has used a chain that it was not given"));
        };
        self.used = self.used.wrapping_add(1);
        self.out_count -= 1;
        self.give_back(head as u16, chain.descriptors);
        if self.event_idx {
            self.ring.write_u16(available_at(n) + 4 + 2 * n, self.used);
        }
        Ok(Some((chain.token, written.min(chain.writable))))
    }

    fn fail(&mut self, what: &str) -> Errno {
        self.broken = true;
        base::pr_err!("virtio: queue {}: the device {what}; it gets no more work", self.number);
        Errno::EIO
    }

    /// Puts a chain back onto the free list, by the private links.
    fn give_back(&mut self, head: u16, count: u16) {
        let mut last = head;
        for _ in 1..count {
            last = self.next[usize::from(last)];
        }
        self.next[usize::from(last)] = self.free_head;
        self.free_head = head;
        self.free += count;
    }

    /// Asks for interrupts. True if something was used meanwhile: look again.
    pub fn enable_interrupts(&mut self) -> bool {
        let n = usize::from(self.size);
        self.ring.write_u16(available_at(n), 0);
        if self.event_idx {
            self.ring.write_u16(available_at(n) + 4 + 2 * n, self.used);
        }
        dma::full_barrier();
        self.ring.read_u16(used_at(n) + 2) != self.used
    }
    /// Asks for none, for now. The device may still interrupt.
    pub fn disable_interrupts(&mut self) {
        if !self.event_idx {
            self.ring.write_u16(available_at(usize::from(self.size)), NO_INTERRUPT);
        }
    }

    /// Takes everything back from a device that was reset.
    pub fn drain(&mut self) -> Vec<T> {
        self.out_count = 0;
        self.broken = true;
        self.out.iter_mut().filter_map(|c| c.take().map(|c| c.token)).collect()
    }
}

/// The device wants to hear when the index passes `event`: has it, going from `old` to `new`?
fn passes(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

fn available_at(n: usize) -> usize {
    DESCRIPTOR * n
}
fn used_at(n: usize) -> usize {
    (available_at(n) + 6 + 2 * n).next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use frame::sim::{self, Config};

    /// Runs `f` where there is memory for queues.
    fn machine(f: impl FnOnce()) {
        let config = Config { memory_mib: 16, ..Config::default() };
        let out = sim::run(config, || {
            mm::init();
            f();
            frame::boot::power_off()
        });
        assert!(out.is_ok(), "{:?}\n{}", out.result, out.report);
    }

    /// The device's side, on the same memory.
    struct Fake {
        seen: u16,
        used: u16,
    }
    impl Fake {
        fn next(&mut self, q: &Queue<u32>) -> Option<u16> {
            let n = usize::from(q.size);
            if q.ring.read_u16(available_at(n) + 2) == self.seen {
                return None;
            }
            let head = q.ring.read_u16(available_at(n) + 4 + 2 * usize::from(self.seen % q.size));
            self.seen = self.seen.wrapping_add(1);
            Some(head)
        }
        fn finish(&mut self, q: &Queue<u32>, head: u32, len: u32) {
            let n = usize::from(q.size);
            let slot = used_at(n) + 4 + 8 * usize::from(self.used % q.size);
            q.ring.write_u32(slot, head);
            q.ring.write_u32(slot + 4, len);
            self.used = self.used.wrapping_add(1);
            q.ring.write_u16(used_at(n) + 2, self.used);
        }
    }

    fn seg(len: u32) -> Segment {
        Segment { address: 0x1000, len }
    }
    fn queue(size: u16) -> (Queue<u32>, Fake) {
        (Queue::new(0, size, false).unwrap(), Fake { seen: 0, used: 0 })
    }

    #[test]
    fn chains_come_back_with_their_tokens() {
        machine(|| {
            let (mut q, mut d) = queue(5);
            assert_eq!(q.size(), 4);
            q.add(&[seg(1)], &[seg(16), seg(16)], 7).unwrap();
            assert_eq!(q.add(&[seg(1), seg(2)], &[], 8), Err((Errno::ENOSPC, 8)));
            assert!(q.needs_notify() && !q.needs_notify());
            assert_eq!(q.take_used(), Ok(None));
            let head = d.next(&q).unwrap();
            d.finish(&q, head.into(), 20);
            assert_eq!(q.take_used(), Ok(Some((7, 20))));
            assert_eq!(q.room(), 4);
        });
    }

    #[test]
    fn lies_are_noticed() {
        machine(|| {
            let (mut q, mut d) = queue(4);
            q.add(&[], &[seg(8)], 1).unwrap();
            let head = d.next(&q).unwrap();
            d.finish(&q, head.into(), u32::MAX);
            assert_eq!(q.take_used(), Ok(Some((1, 8))), "no more than was offered");
            // The same chain again.
            q.add(&[], &[seg(8)], 2).unwrap();
            d.finish(&q, 3, 0);
            assert_eq!(q.take_used(), Err(Errno::EIO));
            assert_eq!(q.add(&[], &[seg(8)], 3), Err((Errno::EIO, 3)));
            assert_eq!(q.drain(), [2]);

            let (mut q, mut d) = queue(4);
            q.add(&[], &[seg(8)], 1).unwrap();
            d.finish(&q, 0x1_0000, 0);
            assert_eq!(q.take_used(), Err(Errno::EIO), "a head beyond the queue");

            let (mut q, mut d) = queue(4);
            q.add(&[], &[seg(8)], 1).unwrap();
            d.finish(&q, 0, 0);
            d.finish(&q, 0, 0);
            assert_eq!(q.take_used(), Err(Errno::EIO), "more than is out");
        });
    }

    #[test]
    fn an_event_index_is_passed_once() {
        assert!(passes(0, 1, 0) && !passes(1, 1, 0) && passes(5, 8, 3) && !passes(8, 8, 3));
        assert!(passes(0xffff, 2, 0xfffe), "also over the end of the count");
    }

    proptest! {
        /// Whatever the order in which the device finishes, each token comes back once and no descriptor is lost.
        #[test]
        fn nothing_is_lost(steps in proptest::collection::vec((0usize..4, 1usize..5, any::<u16>()), 1..300)) {
            machine(move || {
            let (mut q, mut d) = queue(8);
            let (mut held, mut expected, mut token) = (Vec::new(), Vec::new(), 0u32);
            for (what, count, pick) in steps {
                match what {
                    0 | 1 => {
                        let w = vec![seg(10); count];
                        let before = q.room();
                        match q.add(&[], &w, token) {
                            Ok(()) => token += 1,
                            Err((e, _)) => { assert_eq!(e, Errno::ENOSPC); assert!(usize::from(before) < count); }
                        }
                        while let Some(h) = d.next(&q) { held.push((h, token - 1)); }
                    }
                    2 if !held.is_empty() => {
                        let (h, t) = held.remove(usize::from(pick) % held.len());
                        d.finish(&q, h.into(), 3);
                        expected.push(t);
                    }
                    _ => {
                        while let Some((t, n)) = q.take_used().unwrap() {
                            assert_eq!(n, 3);
                            assert_eq!(t, expected.remove(0));
                        }
                        assert!(expected.is_empty());
                    }
                }
            }
            });
        }
    }
}
