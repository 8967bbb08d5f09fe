//! Faults that a simulation injects, to show that its checks would see them. The machine has none.

/// One bit each.
pub mod bits {
    /// A worker that goes to sleep calls nobody in its place.
    pub const LOSE_WAKEUP: u32 = 1;
    /// An item that is being executed may be begun by another worker.
    pub const REENTER: u32 = 2;
    /// Workers cannot be created: an environment, not a fault of ours.
    pub const DENY_CREATION: u32 = 4;
    /// Nobody calls the rescuers.
    pub const NO_MAYDAY: u32 = 8;
    /// Ordered queues let two items go at once.
    pub const DISORDER: u32 = 16;
    /// `flush` does not wait for what is being executed.
    pub const FLUSH_EARLY: u32 = 32;
    /// `cancel_sync` does not keep others from queueing meanwhile.
    pub const CANCEL_OPEN: u32 = 64;
    /// The limit of a queue is forgotten when an item ends.
    pub const NO_LIMIT: u32 = 128;
    /// Items go to a pool for all processors, whatever their scope.
    pub const WRONG_POD: u32 = 256;
    /// A slot that becomes free is not given to another pod.
    pub const LOSE_SLOT: u32 = 512;
}

#[cfg(target_os = "none")]
#[inline]
pub(super) const fn is(_bit: u32) -> bool {
    false
}

#[cfg(not(target_os = "none"))]
mod hosted {
    use frame::atomic::{AtomicU32, Ordering};
    static INJECTED: AtomicU32 = AtomicU32::new(0);
    pub(in crate::workqueue) fn is(bit: u32) -> bool {
        INJECTED.load(Ordering::Relaxed) & bit != 0
    }
    /// Replaces what is injected.
    pub fn inject(bits: u32) {
        INJECTED.store(bits, Ordering::Relaxed);
    }
}
#[cfg(not(target_os = "none"))]
pub use hosted::inject;
#[cfg(not(target_os = "none"))]
pub(super) use hosted::is;
