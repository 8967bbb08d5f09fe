//! Freezable queues stop for a suspend: what is being executed ends, what is queued waits.

use frame::atomic::{AtomicBool, Ordering};

use super::queue::{self, Flags};

static FREEZING: AtomicBool = AtomicBool::new(false);

pub(super) fn is_freezing() -> bool {
    FREEZING.load(Ordering::SeqCst)
}

/// Freezable queues start nothing from now on.
pub fn freeze_workqueues_begin() {
    FREEZING.store(true, Ordering::SeqCst);
    adjust();
}
/// Whether an item of a freezable queue is still being executed.
pub fn freeze_workqueues_busy() -> bool {
    let mut busy = false;
    queue::for_each(|q| {
        if q.flags().contains(Flags::FREEZABLE) {
            busy |= q.all.lock().iter().any(|p| p.is_active());
        }
    });
    busy
}
/// They go on with what waits.
pub fn thaw_workqueues() {
    FREEZING.store(false, Ordering::SeqCst);
    adjust();
}

fn adjust() {
    queue::for_each(|q| {
        if q.flags().contains(Flags::FREEZABLE) {
            q.adjust();
        }
    });
}
