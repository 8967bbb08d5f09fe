//! How long a processor may take to wake up from idling: the PM QoS limit on processor latency, which `/dev/cpu_dma_latency`
//! sets (Linux `Documentation/power/pm_qos_interface.rst`).
//!
//! Whoever cares holds a [`Request`]; the least of them holds for all. There is one way to halt, and nobody knows how long a
//! hypervisor takes to come back from it. So any limit but 0 lets processors halt, and at 0 they poll.

use alloc::vec::Vec;

use base::{Errno, Result};
use frame::{
    atomic::{AtomicI32, Ordering},
    sync::{LockClass, SpinLock},
};

/// No limit: 2000 seconds, in microseconds (`PM_QOS_CPU_LATENCY_DEFAULT_VALUE`).
pub const NO_LIMIT: i32 = 2_000_000_000;

static CLASS: LockClass = LockClass::new("cpu_latency");
static REQUESTS: SpinLock<Requests> = SpinLock::new(&CLASS, Requests { next: 0, all: Vec::new() });
static LIMIT: AtomicI32 = AtomicI32::new(NO_LIMIT);

struct Requests {
    next: u64,
    all: Vec<(u64, i32)>,
}

/// One party's limit. It holds until it is dropped.
pub struct Request(u64);

impl Request {
    /// A request for at most so many microseconds. ENOMEM.
    pub fn new(us: i32) -> Result<Request> {
        let id = {
            let mut r = REQUESTS.lock();
            r.all.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let id = r.next;
            r.next += 1;
            r.all.push((id, us));
            publish(&r);
            id
        };
        wake_idle();
        Ok(Request(id))
    }
    /// Changes it. A negative limit makes no sense and changes nothing.
    pub fn update(&self, us: i32) {
        if us < 0 {
            return;
        }
        {
            let mut r = REQUESTS.lock();
            r.all.iter_mut().filter(|(id, _)| *id == self.0).for_each(|(_, v)| *v = us);
            publish(&r);
        }
        wake_idle();
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut r = REQUESTS.lock();
        r.all.retain(|(id, _)| *id != self.0);
        publish(&r);
    }
}

fn publish(r: &Requests) {
    LIMIT.store(r.all.iter().map(|&(_, v)| v).min().unwrap_or(NO_LIMIT), Ordering::SeqCst);
}

/// Processors that halt already hear of a limit that forbids it.
fn wake_idle() {
    if must_poll() {
        frame::cpu::online().iter().for_each(frame::task::resched);
    }
}

/// The limit in microseconds.
pub fn limit_us() -> i32 {
    LIMIT.load(Ordering::SeqCst)
}

/// Whether idle processors poll instead of halting.
#[inline]
pub fn must_poll() -> bool {
    LIMIT.load(Ordering::Relaxed) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_request_holds() {
        let a = Request::new(NO_LIMIT).unwrap();
        assert_eq!(limit_us(), NO_LIMIT);
        let b = Request::new(100).unwrap();
        a.update(0);
        assert!(must_poll());
        a.update(-5);
        assert!(must_poll());
        drop(a);
        assert_eq!(limit_us(), 100);
        drop(b);
        assert_eq!(limit_us(), NO_LIMIT);
    }
}
