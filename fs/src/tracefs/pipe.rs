//! `trace_pipe`: takes records out of the rings as they come, and waits for more.
//!
//! A ring has one consumer: whoever has the pipe of all processors open excludes those of single ones, and the other way round
//! (`EBUSY`).

use alloc::{sync::Arc, vec::Vec};

use base::{
    Errno, Result,
    trace::{
        buffer::{self, Consumer},
        text,
    },
    tree::Out,
};
use frame::{
    cpu::{CpuId, CpuMask},
    sync::{LockClass, Mutex, SpinLock},
};
use vfs::{File, FileKind, FileOps, IoDst, PollFlags, PollTable};

static CLASS: LockClass = LockClass::new("trace_pipe");
static TAKEN_CLASS: LockClass = LockClass::new("trace_pipe_taken");
/// The rings whose pipes are open.
static TAKEN: SpinLock<CpuMask> = SpinLock::new(&TAKEN_CLASS, CpuMask::NONE);

/// How much text one read makes at most.
const CHUNK: usize = 4096;

struct Pipe {
    cpu: Option<CpuId>,
    state: Mutex<State>,
}

struct State {
    consumer: Consumer,
    /// Text that the last read had no room for.
    rest: Vec<u8>,
    /// Something was read: with recording off, the end is the end.
    had: bool,
}

fn mask(cpu: Option<CpuId>) -> CpuMask {
    cpu.map_or(CpuMask::ALL, CpuMask::one)
}

pub(super) fn open(cpu: Option<CpuId>) -> Result<Arc<dyn FileOps>> {
    let consumer = Consumer::new(cpu)?;
    let state = Mutex::new(&CLASS, State { consumer, rest: Vec::new(), had: false });
    let mut taken = TAKEN.lock();
    if !taken.and(mask(cpu)).is_empty() {
        return Err(Errno::EBUSY);
    }
    *taken = taken.or(mask(cpu));
    drop(taken);
    Ok(Arc::new(Pipe { cpu, state }))
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut taken = TAKEN.lock();
        *taken = CpuMask(taken.0 & !mask(self.cpu).0);
    }
}

impl State {
    /// Gives what there is. 0: nothing.
    fn give(&mut self, dst: &mut IoDst<'_>) -> Result<usize> {
        if self.rest.is_empty() {
            let mut out = Out::new();
            let most = dst.len().min(CHUNK);
            while out.len() < most {
                let Some(e) = self.consumer.take() else { break };
                text::lost(e, &mut out)?;
                text::entry(e, &mut out)?;
            }
            self.rest = out.into_vec();
        }
        if self.rest.is_empty() {
            return Ok(0);
        }
        let n = dst.put(&self.rest)?;
        self.rest.drain(..n);
        self.had = true;
        Ok(n)
    }
}

impl Pipe {
    fn is_ready(&self) -> bool {
        buffer::want();
        !buffer::is_empty(self.cpu)
    }
}

impl FileOps for Pipe {
    fn kind(&self) -> FileKind {
        FileKind::Stream
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        if dst.is_empty() {
            return Ok(0);
        }
        loop {
            let had = {
                let mut s = self.state.lock();
                let n = s.give(dst)?;
                if n > 0 {
                    return Ok(n);
                }
                s.had
            };
            let ended = || had && !buffer::is_on();
            if ended() {
                return Ok(0);
            }
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            buffer::WAITERS.get().wait_interruptible(|| (self.is_ready() || ended()).then_some(()))?;
        }
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register(buffer::WAITERS.get());
        }
        let ready = self.is_ready() || !self.state.lock().rest.is_empty();
        if ready { PollFlags::READABLE } else { PollFlags::empty() }
    }
}
