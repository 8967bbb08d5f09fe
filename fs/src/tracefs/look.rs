//! `trace`: the text of what is in the rings, which stays there. Opening it for writing empties them.

use alloc::{sync::Arc, vec::Vec};

use base::{
    Result,
    trace::{
        buffer::{self, Looker},
        options, text,
    },
    tree::Out,
};
use frame::{
    cpu::{CpuId, CpuMask},
    sync::{LockClass, Mutex},
};
use vfs::{File, FileOps, IoDst, IoSrc};

static CLASS: LockClass = LockClass::new("trace_file");

/// How much text is made ahead of the reader.
const CHUNK: usize = 4096;

struct TraceFile {
    cpu: Option<CpuId>,
    reading: Mutex<Option<Reading>>,
}

/// One pass over the rings, from the header to what was the last record when it began.
struct Reading {
    looker: Looker,
    text: Vec<u8>,
    /// Of `text`: what has been given out.
    given: usize,
    /// The file's position of the next byte to give.
    pos: u64,
    records: u64,
    /// Whether to say where a processor's records begin, and which have begun.
    annotate: bool,
    begun: CpuMask,
}

pub(super) fn open(cpu: Option<CpuId>, truncate: bool) -> Arc<dyn FileOps> {
    if truncate {
        buffer::clear(cpu);
    }
    Arc::new(TraceFile { cpu, reading: Mutex::new(&CLASS, None) })
}

impl Reading {
    fn new(cpu: Option<CpuId>) -> Result<Reading> {
        let mut out = Out::new();
        text::header(&mut out)?;
        let overrun = buffer::cpus().any(|c| buffer::stats(c).overrun != 0);
        Ok(Reading {
            looker: Looker::new(cpu)?,
            text: out.into_vec(),
            given: 0,
            pos: 0,
            records: 0,
            annotate: overrun && options::is_set(options::ANNOTATE),
            begun: CpuMask::NONE,
        })
    }
    /// Makes more text. False at the end.
    fn refill(&mut self) -> Result<bool> {
        let mut out = Out::new();
        while out.len() < CHUNK {
            let Some(e) = self.looker.take() else { break };
            if self.annotate && !self.begun.contains(e.cpu) {
                self.begun = self.begun.or(CpuMask::one(e.cpu));
                if self.records != 0 {
                    text::started(e, &mut out)?;
                }
            }
            self.records += 1;
            text::lost(e, &mut out)?;
            text::entry(e, &mut out)?;
        }
        (self.text, self.given) = (out.into_vec(), 0);
        Ok(!self.text.is_empty())
    }
    fn skip_to(&mut self, off: u64) -> Result<()> {
        while self.pos < off {
            if self.given == self.text.len() && !self.refill()? {
                return Ok(());
            }
            let n = (self.text.len() - self.given).min((off - self.pos) as usize);
            self.given += n;
            self.pos += n as u64;
        }
        Ok(())
    }
}

impl FileOps for TraceFile {
    fn read_at(&self, _file: &File, off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        let mut reading = self.reading.lock();
        if off == 0 || reading.as_ref().is_none_or(|r| off < r.pos) {
            *reading = Some(Reading::new(self.cpu)?);
        }
        let Some(r) = reading.as_mut() else { return Ok(0) };
        r.skip_to(off)?;
        let mut done = 0;
        while !dst.is_empty() && r.pos == off + done as u64 {
            if r.given == r.text.len() && !r.refill()? {
                break;
            }
            let n = dst.put(&r.text[r.given..])?;
            r.given += n;
            r.pos += n as u64;
            done += n;
            if n == 0 {
                break;
            }
        }
        Ok(done)
    }
    /// What is written means nothing: the opening was it.
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        Ok(src.len())
    }
}
