//! Wake-up events: what must not be slept through.
//!
//! A driver whose device may wake the machine reports each event with [`event`]. They are counted, and the count guards against
//! the race between "nothing to do, suspend" and an event just then: user space reads `/sys/power/wakeup_count`, looks at what it has to
//! do, writes the count back (refused if it has changed), and then suspends; an event since then ends that suspend before it began.
//!
//! ```text
//!   event ──▶ COUNT + 1 ──▶ while suspended to idle: wakes the machine
//!   save(n): n == COUNT? then SAVED = n, and `pending` compares until it has been true once
//! ```
//! Linux's behaviour: `drivers/base/power/wakeup.c`, `Documentation/ABI/testing/sysfs-power`.

use frame::{
    atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    sync::WaitQueue,
};

static COUNT: AtomicU32 = AtomicU32::new(0);
static SAVED: AtomicU32 = AtomicU32::new(0);
static CHECK: AtomicBool = AtomicBool::new(false);
/// The machine is suspended, or about to be, and an event must end that.
static ARMED: AtomicBool = AtomicBool::new(false);
static WOKEN: AtomicBool = AtomicBool::new(false);
static SLEEPER: WaitQueue = WaitQueue::new();

/// Something happened that the machine must be awake for. From any context.
pub fn event() {
    COUNT.fetch_add(1, SeqCst);
    if ARMED.load(SeqCst) {
        WOKEN.store(true, SeqCst);
        SLEEPER.wake_all();
    }
}

/// How many events there were.
pub fn count() -> u32 {
    COUNT.load(SeqCst)
}

/// From now on an event since the count `n` keeps the machine from being suspended. False: there has been one.
pub fn save(n: u32) -> bool {
    CHECK.store(false, SeqCst);
    SAVED.store(n, SeqCst);
    let same = COUNT.load(SeqCst) == n;
    CHECK.store(same, SeqCst);
    same
}

/// True if an event came that must end a suspend. Says so once for a saved count.
pub fn pending() -> bool {
    if ARMED.load(SeqCst) && WOKEN.load(SeqCst) {
        return true;
    }
    CHECK.load(SeqCst) && COUNT.load(SeqCst) != SAVED.load(SeqCst) && CHECK.swap(false, SeqCst)
}

/// From here to [`disarm`] events wake the machine.
pub fn arm() {
    WOKEN.store(false, SeqCst);
    ARMED.store(true, SeqCst);
}
pub fn disarm() {
    ARMED.store(false, SeqCst);
}

/// Sleeps until an event comes.
pub(crate) fn wait() {
    SLEEPER.wait_idle(|| pending().then_some(()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_after_the_count_was_saved_is_pending_once() {
        let n = count();
        assert!(!save(n + 1000) && !pending());
        assert!(save(n) && !pending());
        event();
        assert!(pending() && !pending());
        arm();
        assert!(!pending());
        event();
        assert!(pending() && pending());
        disarm();
        assert!(!pending());
    }
}
