//! `trace_pipe`: takes records out of the rings as they come, and waits for more.
//!
//! A ring has one consumer: whoever has the pipe of all processors open excludes those of single ones, and the other way round
//! (`EBUSY`).

use alloc::{sync::Arc, vec::Vec};

use base::{
    Errno, Result,
    trace::{buffer::Consumer, text},
    tree::Out,
};
use frame::{
    cpu::{CpuId, CpuMask},
    sync::{LockClass, SpinLock},
};
use vfs::{FileOps, IoDst};

use super::reader::{Reader, Source};

static TAKEN_CLASS: LockClass = LockClass::new("trace_pipe_taken");
/// The rings whose pipes are open.
static TAKEN: SpinLock<CpuMask> = SpinLock::new(&TAKEN_CLASS, CpuMask::NONE);

/// How much text one read makes at most.
const CHUNK: usize = 4096;

struct Pipe {
    consumer: Consumer,
    /// Text that the last read had no room for.
    rest: Vec<u8>,
    /// Something was read.
    had: bool,
    _claim: Claim,
}

/// Rings that nobody else may open the pipe of.
struct Claim(CpuMask);

impl Claim {
    /// EBUSY.
    fn new(cpu: Option<CpuId>) -> Result<Claim> {
        let want = cpu.map_or(CpuMask::ALL, CpuMask::one);
        let mut taken = TAKEN.lock();
        if !taken.and(want).is_empty() {
            return Err(Errno::EBUSY);
        }
        *taken = taken.or(want);
        Ok(Claim(want))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut taken = TAKEN.lock();
        *taken = CpuMask(taken.0 & !self.0.0);
    }
}

pub(super) fn open(cpu: Option<CpuId>) -> Result<Arc<dyn FileOps>> {
    let consumer = Consumer::new(cpu)?;
    let pipe = Pipe { consumer, rest: Vec::new(), had: false, _claim: Claim::new(cpu)? };
    Ok(Arc::new(Reader::new(cpu, pipe)))
}

impl Source for Pipe {
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
    fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }
    fn ends_when_off(&self) -> bool {
        self.had
    }
}
