//! `hwrng`: feeds the random-number generator from the current hardware source.
//!
//! | | |
//! |---|---|
//! | for | entropy that does not come from this machine's own timing, at start-up and again and again |
//! | woken by | time; it exists only while there is a current source whose quality is not 0 |
//! | may never | credit more than the source's quality says; keep other readers from the source while it sleeps |
//! | knobs, counters | `/sys/class/misc/hw_random/*`; `/sys/kernel/nightshift/daemons/hwrng/{bytes,bits,reads,failures}` |
//! | documented | Linux: `Documentation/admin-guide/hw_random.rst`, random(4) |
//!
//! Policy ([`Account`], [`pause_ns`]) is apart from the loop: how many whole bits a read is worth, and how long to sleep after it. It
//! sleeps as long as Linux's generator waits between two renewals of its key: half of the time that the machine is up, between a
//! second and a minute; not at all while the generator still waits for its first bits.

use base::{Result, tree};
use frame::{
    atomic::{AtomicU64, Ordering},
    sync::{LockClass, Mutex, WaitQueue},
};
use sched::kthread::{self, Kthread, KthreadHandle, Wake};

use super::{READING, current};
use crate::random;

static CARD: base::daemon::Card = base::daemon::Card {
    name: "hwrng",
    purpose: "feeds the random-number generator from the current hardware source",
    woken_by: "time: after as long as half of the up-time, 1 to 60 seconds",
    never: "credits more entropy than the source's quality says",
    documented: "Linux: Documentation/admin-guide/hw_random.rst",
};

const SECOND_NS: u64 = 1_000_000_000;
/// Bytes per read: Linux's `rng_buffer_size`, a cache line and no less than 32.
const BYTES: usize = 64;
/// How long to leave a source alone that gave nothing.
const AFTER_FAILURE_NS: u64 = 10 * SECOND_NS;
/// The shortest and the longest time between two feedings of a generator that is ready.
const SHORTEST_NS: u64 = SECOND_NS;
const LONGEST_NS: u64 = 60 * SECOND_NS;

static QUEUE: WaitQueue = WaitQueue::new();
static BYTES_READ: AtomicU64 = AtomicU64::new(0);
static BITS: AtomicU64 = AtomicU64::new(0);
static READS: AtomicU64 = AtomicU64::new(0);
static FAILURES: AtomicU64 = AtomicU64::new(0);

static CLASS: LockClass = LockClass::new("hwrng_thread");
static THREAD: Mutex<Option<KthreadHandle>> = Mutex::new(&CLASS, None);

/// Registers the card and the counters.
pub(super) fn init() -> Result<()> {
    base::daemon::register(&CARD)?;
    base::daemon::count_work(&CARD, "bytes", || BYTES_READ.load(Ordering::Relaxed))?;
    for (name, c) in [("bytes", &BYTES_READ), ("bits", &BITS), ("reads", &READS), ("failures", &FAILURES)] {
        tree::sys().file(&alloc::format!("kernel/nightshift/daemons/hwrng/{name}"), 0o444, |o| {
            Ok(writeln!(o, "{}", c.load(Ordering::Relaxed))?)
        })?;
    }
    Ok(())
}

/// Starts the thread if there is something to do, stops it if not. Task context.
pub(super) fn reconsider() {
    let wanted = current().is_some_and(|c| c.1 != 0);
    let mut thread = THREAD.lock();
    match (&*thread, wanted) {
        (None, true) => match kthread::spawn("hwrng", run) {
            Ok(t) => *thread = Some(t),
            Err(e) => base::pr_err!("hwrng: cannot start the thread: {e}"),
        },
        (Some(_), false) => {
            if let Some(t) = thread.take() {
                t.stop();
            }
        }
        _ => {}
    }
}

/// Whole bits of what was read so far; the fractions of 1024ths stay for the next time.
#[derive(Default)]
struct Account {
    fraction: u64,
}

impl Account {
    /// What `bytes` of this quality are worth, in whole bits.
    fn credit(&mut self, bytes: usize, quality: u16) -> u32 {
        let sum = self.fraction + bytes as u64 * 8 * u64::from(quality);
        self.fraction = sum % 1024;
        (sum / 1024) as u32
    }
}

/// How long to sleep after feeding.
fn pause_ns(up_ns: u64, ready: bool, credited: bool) -> u64 {
    // A generator that is not ready wants the next bits at once, but what counts nothing must not be a busy loop.
    if !ready && credited { 0 } else { (up_ns / 2).clamp(SHORTEST_NS, LONGEST_NS) }
}

fn feed(account: &mut Account) -> u64 {
    let mut buf = [0; BYTES];
    let read = {
        let _turn = READING.lock();
        current().map(|(s, q)| (s.read(&mut buf, true), q))
    };
    let Some((Ok(n @ 1..), quality)) = read else {
        FAILURES.fetch_add(1, Ordering::Relaxed);
        return AFTER_FAILURE_NS;
    };
    let bits = account.credit(n, quality);
    random::mix(&buf[..n], bits);
    buf.fill(0);
    READS.fetch_add(1, Ordering::Relaxed);
    BYTES_READ.fetch_add(n as u64, Ordering::Relaxed);
    BITS.fetch_add(bits.into(), Ordering::Relaxed);
    pause_ns(sched::time::boottime_ns(), random::is_ready(), bits != 0)
}

fn run(k: &Kthread) -> i32 {
    let mut account = Account::default();
    loop {
        let pause = feed(&mut account);
        match k.wait(&QUEUE, || None::<()>, Some(pause)) {
            Wake::TimedOut | Wake::Event(()) => {}
            Wake::Stop => return 0,
            Wake::Park => k.park(),
            Wake::Freeze => k.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_of_bits_are_kept() {
        let mut a = Account::default();
        assert_eq!(a.credit(64, 1024), 512);
        assert_eq!(a.credit(64, 1000), 500);
        let mut a = Account::default();
        let sum: u32 = (0..1024).map(|_| a.credit(1, 1)).sum();
        assert_eq!(sum, 8, "1024 bytes of quality 1 are 8 bits");
        assert_eq!(a.credit(4096, 0), 0);
    }

    #[test]
    fn the_pause_grows_with_the_up_time() {
        assert_eq!(pause_ns(0, true, true), SHORTEST_NS);
        assert_eq!(pause_ns(20 * SECOND_NS, true, true), 10 * SECOND_NS);
        assert_eq!(pause_ns(10_000 * SECOND_NS, true, true), LONGEST_NS);
        assert_eq!(pause_ns(SECOND_NS, false, true), 0);
        assert_ne!(pause_ns(SECOND_NS, false, false), 0);
    }
}
