//! Reading and writing another program's memory: `/proc/PID/mem`, `cmdline`, `ptrace`, `process_vm_readv`; and looking at what its pages are.

use frame::{page::PageRef, paging::Entry};

use crate::{
    Access, Fault, Mm, PAGE_SHIFT, PAGE_SIZE, VmaInfo,
    mm::RssKind,
    page_floor,
    teardown::{counted, kind_of},
};

/// What one region has in memory, in pages: for `smaps`.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Usage {
    pub rss: u64,
    /// In 1/4096 of a byte-page: each page divided by the number of its mappings. Shift right by 12 for bytes.
    pub pss: u64,
    pub shared_clean: u64,
    pub shared_dirty: u64,
    pub private_clean: u64,
    pub private_dirty: u64,
    pub referenced: u64,
    pub anonymous: u64,
}

impl Mm {
    /// Hands the page at `va` to `f`, brought in as a fault would. The region lock is held for reading while `f` runs: a fork
    /// between the look and a write would leave the write in the child's page only.
    fn with_page(&self, va: usize, access: Access, f: impl FnOnce(&PageRef)) -> Result<(), Fault> {
        let at = page_floor(va);
        // Between the fault and the look another thread may take the page away; a program that does so for ever gets an error.
        for _ in 0..16 {
            {
                let _regions = self.space.read();
                let mut c = self.pt.lock();
                if let Entry::Page(m) = c.query(at)
                    && (access != Access::Write || m.writable())
                    && let Some(p) = c.page(at)
                {
                    drop(c);
                    f(&p);
                    return Ok(());
                }
            }
            self.fault_in(va, access)?;
        }
        Err(Fault::SegvMaperr)
    }

    /// Reads memory; how many bytes could be read.
    pub fn read_remote(&self, va: usize, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = va.checked_add(done) else { break };
            let off = at % PAGE_SIZE;
            let n = (PAGE_SIZE - off).min(buf.len() - done);
            let piece = &mut buf[done..done + n];
            if self.with_page(at, Access::Read, |p| p.read(off, piece)).is_err() {
                break;
            }
            done += n;
        }
        done
    }

    /// Writes memory, breaking sharing as the program's own write would; how many bytes could be written.
    pub fn write_remote(&self, va: usize, buf: &[u8]) -> usize {
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = va.checked_add(done) else { break };
            let off = at % PAGE_SIZE;
            let n = (PAGE_SIZE - off).min(buf.len() - done);
            if self.with_page(at, Access::Write, |p| p.write(off, &buf[done..done + n])).is_err() {
                break;
            }
            done += n;
        }
        done
    }

    /// Visits every region with what it has in memory, until `f` fails.
    pub fn for_each_usage(
        &self,
        mut f: impl FnMut(&VmaInfo<'_>, &Usage) -> base::Result<()>,
    ) -> base::Result<()> {
        let space = self.space.read();
        for v in space.vmas.iter() {
            let mut u = Usage::default();
            self.pt.lock().for_each_mapped(v.start..v.end, |_, m| {
                let Some(p) = counted(m) else { return };
                let maps = p.mapcount.load(frame::atomic::Ordering::Relaxed).max(1) as u64;
                u.rss += 1;
                u.pss += ((PAGE_SIZE as u64) << PAGE_SHIFT) / maps;
                u.referenced += u64::from(m.accessed());
                let anon = kind_of(p) == RssKind::Anon;
                u.anonymous += u64::from(anon);
                // An anonymous page is in no file: it is as dirty as it will ever be.
                match (maps > 1, m.dirty() || anon) {
                    (true, true) => u.shared_dirty += 1,
                    (true, false) => u.shared_clean += 1,
                    (false, true) => u.private_dirty += 1,
                    (false, false) => u.private_clean += 1,
                }
            });
            f(&space.info(v), &u)?;
        }
        Ok(())
    }

    /// The `/proc/PID/pagemap` word of a page: bit 63 present, 61 file or shared memory, 56 mapped once, 0..54 the frame.
    pub fn pagemap(&self, va: usize) -> u64 {
        match self.pt.lock().query(page_floor(va)) {
            Entry::Page(m) => {
                let mut w = 1 << 63 | m.pfn;
                if let Some(p) = counted(&m) {
                    w |= u64::from(kind_of(p) != RssKind::Anon) << 61;
                    w |= u64::from(p.mapcount.load(frame::atomic::Ordering::Relaxed) == 1) << 56;
                }
                w
            }
            _ => 0,
        }
    }
}
