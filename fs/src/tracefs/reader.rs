//! What `trace_pipe` and `trace_pipe_raw` have in common: reads that take what there is, and wait for more.

use base::{Errno, Result, trace::buffer};
use frame::{
    cpu::CpuId,
    sync::{LockClass, Mutex},
};
use vfs::{File, FileKind, FileOps, IoDst, PollFlags, PollTable};

static CLASS: LockClass = LockClass::new("trace_reader");

/// What takes records out of the rings and makes bytes of them.
pub(super) trait Source: Send + 'static {
    /// Gives what there is. 0: nothing.
    fn give(&mut self, dst: &mut IoDst<'_>) -> Result<usize>;
    /// It holds bytes that were taken out and not yet read.
    fn has_rest(&self) -> bool;
    /// Whether a read finds the end when nothing is left and recording is off.
    fn ends_when_off(&self) -> bool;
}

/// An open pipe of one ring or of all.
pub(super) struct Reader<S> {
    cpu: Option<CpuId>,
    source: Mutex<S>,
}

impl<S: Source> Reader<S> {
    pub(super) fn new(cpu: Option<CpuId>, source: S) -> Reader<S> {
        Reader { cpu, source: Mutex::new(&CLASS, source) }
    }
    fn has_records(&self) -> bool {
        buffer::want();
        !buffer::is_empty(self.cpu)
    }
}

impl<S: Source> FileOps for Reader<S> {
    fn kind(&self) -> FileKind {
        FileKind::Stream
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        if dst.is_empty() {
            return Ok(0);
        }
        loop {
            let mut source = self.source.lock();
            let n = source.give(dst)?;
            let ends = source.ends_when_off();
            drop(source);
            let has_ended = || ends && !buffer::is_on();
            if n > 0 || has_ended() {
                return Ok(n);
            }
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            let queue = buffer::WAITERS.get();
            queue.wait_interruptible(|| (self.has_records() || has_ended()).then_some(()))?;
        }
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register(buffer::WAITERS.get());
        }
        let ready = self.has_records() || self.source.lock().has_rest();
        if ready { PollFlags::READABLE } else { PollFlags::empty() }
    }
}
