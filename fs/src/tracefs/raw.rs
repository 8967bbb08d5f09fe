//! `trace_pipe_raw`: takes records out of one ring as they come, in Linux's binary pages (`base::trace::page`).
//!
//! A read gives the page that the last one began, or a new one with what there is now. It shares the ring with `trace_pipe`: what one
//! takes the other does not see.

use alloc::{sync::Arc, vec::Vec};

use base::{
    Result,
    trace::{
        COMM_LEN, Field,
        buffer::{self, Consumer},
        page::{self, RawPage},
        ring,
    },
};
use frame::{
    cpu::CpuId,
    sync::{LockClass, Mutex},
};
use vfs::{FileOps, IoDst};

use super::reader::{Reader, Source};

/// Where a record has its task's number: `common_pid`.
const COMMON_PID: usize = 4;

struct Raw {
    consumer: Consumer,
    page: RawPage,
    /// How much of the page has been read; all of it where there is none.
    read: usize,
    /// A record that was taken out and did not fit: time, and records lost before it; its bytes are in `held`, which has room for any.
    next: Option<(u64, u64)>,
    held: Vec<u8>,
}

pub(super) fn open(cpu: CpuId) -> Result<Arc<dyn FileOps>> {
    let (consumer, page) = (Consumer::new(Some(cpu))?, RawPage::new()?);
    let mut held = Vec::new();
    held.try_reserve_exact(ring::MAX_RECORD)?;
    let raw = Raw { consumer, page, read: page::SIZE, next: None, held };
    Ok(Arc::new(Reader::new(Some(cpu), raw)))
}

/// A task's number and name.
type Name = (i32, [u8; COMM_LEN]);

static NAMES_CLASS: LockClass = LockClass::new("trace_raw_names");
/// Names of tasks whose records were taken out, by the low bits of their numbers: the binary form has numbers only, and who prints it
/// asks `saved_cmdlines` afterwards.
static NAMES: Mutex<[Name; 1024]> = Mutex::new(&NAMES_CLASS, [(0, [0; COMM_LEN]); 1024]);

/// Calls `f` for each.
pub(super) fn for_each_name(mut f: impl FnMut(Name)) {
    NAMES.lock().iter().filter(|n| n.0 != 0).for_each(|n| f(*n));
}

/// The task of a record.
pub(super) fn name_of(e: &buffer::Entry) -> Name {
    let mut comm = [0; COMM_LEN];
    let n = e.comm().len().min(COMM_LEN);
    comm[..n].copy_from_slice(&e.comm()[..n]);
    (i32::get(e.record(), COMMON_PID), comm)
}

impl Raw {
    /// Fills the page. False if there is nothing.
    fn fill(&mut self) -> bool {
        self.page.reset();
        if let Some((ts, lost)) = self.next.take() {
            let fits = self.page.push(ts, lost, &self.held);
            debug_assert!(fits, "a record of the ring is longer than a page");
        }
        let mut names = NAMES.lock();
        while let Some(e) = self.consumer.take() {
            let name = name_of(e);
            names[name.0 as usize % 1024] = name;
            if self.page.push(e.ts, e.lost, e.record()) {
                continue;
            }
            self.held.clear();
            self.held.extend_from_slice(e.record());
            self.next = Some((e.ts, e.lost));
            break;
        }
        !self.page.is_empty()
    }
}

impl Source for Raw {
    fn give(&mut self, dst: &mut IoDst<'_>) -> Result<usize> {
        if self.read == page::SIZE {
            if !self.fill() {
                return Ok(0);
            }
            self.read = 0;
        }
        let n = dst.put(&self.page.finish()[self.read..])?;
        self.read += n;
        Ok(n)
    }
    fn has_rest(&self) -> bool {
        self.read < page::SIZE || self.next.is_some()
    }
    fn ends_when_off(&self) -> bool {
        false
    }
}
