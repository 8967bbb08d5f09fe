//! Writing a core file: headers, notes, memory; into a file with holes, or into a pipe.
//!
//! ```text
//!   ELF header │ program headers: NOTE, one LOAD for each mapping │ notes │ … to a page │ memory, mapping by mapping
//! ```
//! Memory that a process has never touched is a hole in a file and zeroes in a pipe.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};
use frame::{atomic::Ordering::Relaxed, task::Work};
use mm::{Mm, PAGE_SIZE, VmFlags};
use vfs::{File, IoSrc};

use super::regions::Region;
use crate::process::current;

const HEADER: usize = 64;
const PHDR: usize = 56;
const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PAGE: u64 = PAGE_SIZE as u64;
/// The present bit of a page-map word.
const PRESENT: u64 = 1 << 63;

/// Where the bytes go.
pub(super) struct Sink {
    file: Arc<File>,
    /// The place in the file; a pipe has none.
    at: Option<u64>,
    /// Zeroes that are owed.
    owed: u64,
    /// Bytes that may still be written: `RLIMIT_CORE`.
    left: u64,
}

impl Sink {
    pub(super) fn file(file: Arc<File>, limit: u64) -> Sink {
        Sink { file, at: Some(0), owed: 0, left: limit }
    }
    pub(super) fn pipe(file: Arc<File>) -> Sink {
        Sink { file, at: None, owed: 0, left: u64::MAX }
    }
    /// `EFBIG` beyond the limit; `EINTR` where the process is to end at once.
    fn emit(&mut self, mut b: &[u8]) -> Result<()> {
        self.pay()?;
        self.left = self.left.checked_sub(b.len() as u64).ok_or(Errno::EFBIG)?;
        while !b.is_empty() {
            b = &b[self.write(b)?..];
        }
        Ok(())
    }
    fn write(&mut self, b: &[u8]) -> Result<usize> {
        loop {
            if interrupted() {
                return Err(Errno::EINTR);
            }
            let r = match &mut self.at {
                Some(at) => self.file.pwrite(*at, &mut IoSrc::kernel(b)).inspect(|&n| *at += n as u64),
                None => self.file.write(&mut IoSrc::kernel(b)),
            };
            match r {
                Ok(0) => return Err(Errno::EIO),
                // The system was frozen: what it wrote to waits as it did.
                Err(e) if e.is_restart() && sched::freezer::only_frozen() => {}
                r => return r,
            }
        }
    }
    fn skip(&mut self, n: u64) {
        self.owed += n;
    }
    fn skip_to(&mut self, from: u64, to: u64) {
        self.skip(to - from);
    }
    fn pay(&mut self) -> Result<()> {
        if let Some(at) = &mut self.at {
            *at += core::mem::take(&mut self.owed);
            return Ok(());
        }
        static ZEROES: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
        while self.owed > 0 {
            let n = self.owed.min(PAGE) as usize;
            let n = self.write(&ZEROES[..n])?;
            self.owed -= n as u64;
        }
        Ok(())
    }
    /// The file is as long as what was skipped at its end.
    pub(super) fn finish(&mut self) -> Result<()> {
        if self.owed > 0 {
            self.owed -= 1;
            self.emit(&[0])?;
        }
        Ok(())
    }
}

/// A fatal signal came while the dump is being written.
fn interrupted() -> bool {
    let me = current();
    me.task().work().contains(Work::KILL) || me.process.core_killed.load(Relaxed)
}

/// The two kinds of headers, for notes of this length.
pub(super) fn headers(regions: &[Region], notes: usize) -> Result<Vec<u8>> {
    let count = regions.len() + 1;
    // `max_map_count` keeps the number below what the field can say.
    let phnum = u16::try_from(count).map_err(|_| Errno::E2BIG)?;
    let mut v = Vec::new();
    v.try_reserve_exact(HEADER + count * PHDR)?;
    v.extend_from_slice(b"\x7fELF\x02\x01\x01");
    v.resize(HEADER, 0);
    v[16..18].copy_from_slice(&ET_CORE.to_le_bytes());
    v[18..20].copy_from_slice(&EM_X86_64.to_le_bytes());
    v[20..24].copy_from_slice(&1u32.to_le_bytes());
    v[32..40].copy_from_slice(&(HEADER as u64).to_le_bytes());
    v[52..54].copy_from_slice(&(HEADER as u16).to_le_bytes());
    v[54..56].copy_from_slice(&(PHDR as u16).to_le_bytes());
    v[56..58].copy_from_slice(&phnum.to_le_bytes());
    let notes_at = (HEADER + count * PHDR) as u64;
    let mut phdr = |kind: u32, flags: u32, words: [u64; 6]| {
        v.extend_from_slice(&kind.to_le_bytes());
        v.extend_from_slice(&flags.to_le_bytes());
        words.iter().for_each(|w| v.extend_from_slice(&w.to_le_bytes()));
    };
    phdr(PT_NOTE, 0, [notes_at, 0, 0, notes as u64, 0, 4]);
    let mut at = (notes_at + notes as u64).next_multiple_of(PAGE);
    for r in regions {
        phdr(PT_LOAD, permissions(r.flags), [at, r.start, 0, r.size, r.end - r.start, PAGE]);
        at += r.size;
    }
    Ok(v)
}

fn permissions(f: VmFlags) -> u32 {
    let bit = |b, p| if f.contains(b) { p } else { 0 };
    bit(VmFlags::READ, 4) | bit(VmFlags::WRITE, 2) | bit(VmFlags::EXEC, 1)
}

/// Writes it all.
pub(super) fn write(sink: &mut Sink, m: &Mm, regions: &[Region], notes: &[u8]) -> Result<()> {
    let head = headers(regions, notes.len())?;
    sink.emit(&head)?;
    sink.emit(notes)?;
    let at = (head.len() + notes.len()) as u64;
    sink.skip_to(at, at.next_multiple_of(PAGE));
    let mut page = crate::elf::zeroed(PAGE_SIZE)?;
    for r in regions {
        let mut va = r.start;
        while va < r.start + r.size {
            let here = !r.anonymous || m.pagemap(va as usize) & PRESENT != 0;
            if here && m.read_remote(va as usize, &mut page) == PAGE_SIZE {
                sink.emit(&page)?;
            } else {
                sink.skip(PAGE);
            }
            va += PAGE;
        }
    }
    sink.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_point_at_page_aligned_memory() {
        let r = |start, size| Region {
            start,
            end: start + 0x3000,
            size,
            flags: VmFlags::READ | VmFlags::EXEC,
            anonymous: true,
        };
        let h = headers(&[r(0x1000, 0x3000), r(0x8000, 0)], 100).unwrap();
        let u64_at = |at: usize| u64::from_le_bytes(h[at..at + 8].try_into().unwrap());
        assert_eq!(
            (h.len(), h[16], h[56], u64_at(64 + 8), u64_at(64 + 32)),
            (64 + 3 * 56, 4, 3, 64 + 3 * 56, 100)
        );
        let load = |i: usize| 64 + 56 * (1 + i);
        assert_eq!(
            (u64_at(load(0) + 8), u64_at(load(0) + 16), u64_at(load(0) + 32), u64_at(load(0) + 40)),
            (0x1000, 0x1000, 0x3000, 0x3000)
        );
        assert_eq!((u64_at(load(1) + 8), u64_at(load(1) + 32), h[load(1) + 4]), (0x4000, 0, 5));
    }
}
