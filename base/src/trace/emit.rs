//! From a trace point into this processor's ring.

use super::Event;

/// Takes a finished record whose common fields are still empty.
pub(super) fn commit(event: &'static Event, record: &mut [u8]) {
    let section = frame::sync::rcu::read();
    if event.filter.load(&section).is_some_and(|f| !f.accepts(record)) {}
}
