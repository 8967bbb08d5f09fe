//! `trace_pipe_raw`: takes records out of one ring as they come, in Linux's binary pages (`base::trace::page`).
//!
//! A read gives the page that the last one began, or a new one with what there is now. It shares the ring with `trace_pipe`: what one
//! takes the other does not see.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use base::{
    Errno, Result,
    trace::{
        COMM_LEN,
        buffer::{self, Consumer},
        page::{self, RawPage},
    },
};
use frame::{
    cpu::CpuId,
    sync::{LockClass, Mutex},
};
use vfs::{File, FileKind, FileOps, IoDst, PollFlags, PollTable};

static CLASS: LockClass = LockClass::new("trace_pipe_raw");

struct Raw {
    cpu: CpuId,
    state: Mutex<State>,
}

struct State {
    consumer: Consumer,
    page: RawPage,
    /// How much of the page has been read; all of it where there is none.
    read: usize,
    /// A record that was taken out and did not fit: time, records lost before it, bytes.
    next: Option<(u64, u64, Vec<u8>)>,
}

pub(super) fn open(cpu: CpuId) -> Result<Arc<dyn FileOps>> {
    let (consumer, page) = (Consumer::new(Some(cpu))?, RawPage::new()?);
    let state = State { consumer, page, read: page::SIZE, next: None };
    Ok(Arc::new(Raw { cpu, state: Mutex::new(&CLASS, state) }))
}

/// A name and its length.
type Name = ([u8; COMM_LEN], usize);

static NAMES_CLASS: LockClass = LockClass::new("trace_raw_names");
/// Names of tasks whose records were taken out: the binary form has numbers only, and who prints it asks `saved_cmdlines` afterwards.
static NAMES: Mutex<BTreeMap<i32, Name>> = Mutex::new(&NAMES_CLASS, BTreeMap::new());
/// Tasks whose names are kept.
const MOST_NAMES: usize = 1024;

/// Names by task number.
pub(super) fn names() -> BTreeMap<i32, Name> {
    NAMES.lock().clone()
}

fn note(names: &mut BTreeMap<i32, Name>, e: &buffer::Entry) {
    let pid = super::knob::pid_of(e.record());
    if pid == 0 {
        return;
    }
    let mut comm = [0; COMM_LEN];
    let n = e.comm().len().min(COMM_LEN);
    comm[..n].copy_from_slice(&e.comm()[..n]);
    if names.len() == MOST_NAMES && !names.contains_key(&pid) {
        names.pop_first();
    }
    names.insert(pid, (comm, n));
}

impl State {
    /// Fills the page. False if there is nothing.
    fn fill(&mut self) -> Result<bool> {
        self.page.reset();
        if let Some((ts, lost, r)) = self.next.take()
            && !self.page.push(ts, lost, &r)
        {
            // Longer than a page: no ring takes such a record.
            return Err(Errno::EIO);
        }
        let mut names = NAMES.lock();
        while let Some(e) = self.consumer.take() {
            note(&mut names, e);
            if self.page.push(e.ts, e.lost, e.record()) {
                continue;
            }
            let mut r = Vec::new();
            r.try_reserve_exact(e.record().len())?;
            r.extend_from_slice(e.record());
            self.next = Some((e.ts, e.lost, r));
            break;
        }
        Ok(!self.page.is_empty())
    }
    /// Gives what there is. 0: nothing.
    fn give(&mut self, dst: &mut IoDst<'_>) -> Result<usize> {
        if self.read == page::SIZE {
            if !self.fill()? {
                return Ok(0);
            }
            self.read = 0;
        }
        let n = dst.put(&self.page.finish()[self.read..])?;
        self.read += n;
        Ok(n)
    }
    fn has_some(&self) -> bool {
        self.read < page::SIZE || self.next.is_some()
    }
}

impl Raw {
    fn is_ready(&self) -> bool {
        buffer::want();
        !buffer::is_empty(Some(self.cpu))
    }
}

impl FileOps for Raw {
    fn kind(&self) -> FileKind {
        FileKind::Stream
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        if dst.is_empty() {
            return Ok(0);
        }
        loop {
            let n = self.state.lock().give(dst)?;
            if n > 0 {
                return Ok(n);
            }
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            buffer::WAITERS.get().wait_interruptible(|| self.is_ready().then_some(()))?;
        }
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register(buffer::WAITERS.get());
        }
        let ready = self.is_ready() || self.state.lock().has_some();
        if ready { PollFlags::READABLE } else { PollFlags::empty() }
    }
}
