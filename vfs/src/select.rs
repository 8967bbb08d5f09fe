//! poll(2) and select(2) over files.

use alloc::sync::Arc;

use base::Result;
use frame::{sync::WaitQueue, task::State};

use crate::{
    file::File,
    poll::{PollFlags, PollTable},
};

/// What `select` calls readable, writable and exceptional.
pub const SELECT_IN: PollFlags = PollFlags::READABLE
    .union(PollFlags::RDBAND)
    .union(PollFlags::HUP)
    .union(PollFlags::ERR)
    .union(PollFlags::NVAL);
pub const SELECT_OUT: PollFlags =
    PollFlags::WRITABLE.union(PollFlags::WRBAND).union(PollFlags::ERR).union(PollFlags::NVAL);
pub const SELECT_EX: PollFlags = PollFlags::PRI.union(PollFlags::NVAL);

/// One file that is polled.
pub struct PollEntry {
    /// `None` where the descriptor is not open: `NVAL`. Negative descriptors are left out by the caller (`skip`).
    pub file: Option<Arc<File>>,
    pub events: PollFlags,
    /// Not polled at all.
    pub skip: bool,
    pub revents: PollFlags,
}

fn scan(entries: &mut [PollEntry], mut table: Option<&mut PollTable>) -> usize {
    let mut ready = 0;
    for e in entries.iter_mut() {
        e.revents = PollFlags::empty();
        if e.skip {
            continue;
        }
        e.revents = match &e.file {
            None => PollFlags::NVAL,
            // What is found ready needs no further registration: the wait will not happen.
            Some(f) => {
                f.poll(if ready == 0 { table.as_deref_mut() } else { None })
                    & (e.events | PollFlags::ERR | PollFlags::HUP)
            }
        };
        ready += !e.revents.is_empty() as usize;
    }
    ready
}

/// Waits until at least one entry is ready, or until `deadline_ns` (monotonic; `None`: for ever; 0: not at all).
/// Returns how many are.
pub fn poll_files(entries: &mut [PollEntry], deadline_ns: Option<u64>) -> Result<usize> {
    let n = scan(entries, None);
    if n > 0 || deadline_ns == Some(0) {
        return Ok(n);
    }
    let mut table = PollTable::for_current();
    // Nobody wakes this queue: the table's entries wake the task itself.
    let own = WaitQueue::new();
    let mut n = scan(entries, Some(&mut table));
    loop {
        if n > 0 {
            return Ok(n);
        }
        if table.is_out_of_memory() {
            return Err(base::Errno::ENOMEM);
        }
        let woken = sched::time::wait_timeout(&own, State::INTERRUPTIBLE, deadline_ns, || {
            table.take_triggered().then_some(())
        })?;
        n = scan(entries, None);
        if woken.is_none() {
            return Ok(n);
        }
    }
}
