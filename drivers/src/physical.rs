//! `/dev/mem` and `/dev/port`: physical memory and I/O ports as files (`mem(4)`).
//!
//! As on a Linux with `CONFIG_STRICT_DEVMEM` and `CONFIG_IO_STRICT_DEVMEM`, memory is what devices and firmware have: RAM is
//! refused with EPERM, except for the first MiB, where programs look for the firmware's tables and RAM reads as zeros; what a
//! driver has claimed is refused too. Where neither RAM nor anything below the end of it is, it is EFAULT.
//!
//! Differs from Linux: above the first MiB nothing can be written, because what an interrupt controller is told there could
//! break the kernel; ports of the interrupt controllers and the timer are refused with EPERM; mmap is not there (ENODEV).

use base::{Errno, Result, cred::cap, resource};
use frame::{
    boot::{self, RegionKind},
    io::{Mmio, Ports},
};
use vfs::{File, FileKind, FileOps, IoDst, IoSrc, special::SharedDevice};

const PAGE: u64 = 4096;
const FIRST_MIB: u64 = 1 << 20;
const PORT_COUNT: u64 = 1 << 16;

/// Registers both.
pub(crate) fn init() -> Result<()> {
    crate::mem::node("mem", 1, 0o600, SharedDevice::node(Mem))?;
    crate::mem::node("port", 4, 0o600, SharedDevice::node(Port))?;
    // A map that contradicts itself is shown as far as it goes.
    for r in system_ram(&boot::info().memory) {
        let _ = resource::MEMORY.insert(r.start, r.end - 1, "System RAM");
    }
    for r in boot::info().memory.iter().filter(|r| r.start < r.end) {
        let name = match r.kind {
            RegionKind::Reserved => "Reserved",
            RegionKind::Acpi => "ACPI Tables",
            _ => continue,
        };
        let _ = resource::MEMORY.insert(r.start, r.end - 1, name);
    }
    // What frame itself has, of the ports.
    for (start, end, name) in [(0x20, 0x21, "pic1"), (0x40, 0x43, "timer0"), (0xa0, 0xa1, "pic2")] {
        resource::PORTS.insert(start, end, name)?;
    }
    let t = base::tree::proc();
    t.file("iomem", 0o444, |o| resource::MEMORY.show(o, crate::caller_has_cap(cap::SYS_ADMIN)))?;
    t.file("ioports", 0o444, |o| resource::PORTS.show(o, crate::caller_has_cap(cap::SYS_ADMIN)))
}

fn is_ram(kind: RegionKind) -> bool {
    matches!(kind, RegionKind::Usable | RegionKind::Kernel | RegionKind::Initrd)
}

/// Ranges of RAM, neighbours joined.
fn system_ram(regions: &[boot::Region]) -> alloc::vec::Vec<core::ops::Range<u64>> {
    let mut out: alloc::vec::Vec<core::ops::Range<u64>> = alloc::vec::Vec::new();
    for r in regions.iter().filter(|r| is_ram(r.kind) && r.start < r.end) {
        match out.last_mut() {
            Some(last) if last.end == r.start => last.end = r.end,
            _ => out.push(r.start..r.end),
        }
    }
    out
}

/// What may be done with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// Reads as zeros, and swallows writes.
    Zeros,
    /// A device's, or the firmware's.
    Device,
    Refused,
    /// Above all memory.
    Nothing,
}

fn rule(regions: &[boot::Region], page: u64) -> Rule {
    let (start, end) = (page, page + PAGE);
    let memory_end = regions.iter().filter(|r| is_ram(r.kind)).map(|r| r.end).max().unwrap_or(0);
    let ram = regions.iter().any(|r| is_ram(r.kind) && r.start < end && start < r.end);
    match (ram, start < FIRST_MIB) {
        (true, true) => Rule::Zeros,
        (true, false) => Rule::Refused,
        (false, _) if end > memory_end.max(FIRST_MIB) => Rule::Nothing,
        (false, _) => Rule::Device,
    }
}

struct Mem;

/// The next piece: at most to the end of the page.
fn piece(off: u64, left: usize) -> (u64, usize, usize) {
    let page = off & !(PAGE - 1);
    let within = (off - page) as usize;
    (page, within, left.min(PAGE as usize - within))
}

/// After a part was done, an error is for the next call.
fn partly(done: usize, e: Errno) -> Result<usize> {
    if done > 0 { Ok(done) } else { Err(e) }
}

impl Mem {
    fn read_piece(page: u64, within: usize, out: &mut [u8]) -> Result<()> {
        match rule(&boot::info().memory, page) {
            Rule::Zeros => out.fill(0),
            Rule::Refused => return Err(Errno::EPERM),
            Rule::Nothing => return Err(Errno::EFAULT),
            Rule::Device => {
                let m = Mmio::claim(page, PAGE as usize).ok_or(Errno::EPERM)?;
                out.iter_mut().enumerate().for_each(|(i, b)| *b = m.read8(within + i));
            }
        }
        Ok(())
    }
    fn write_piece(page: u64, within: usize, bytes: &[u8]) -> Result<()> {
        match rule(&boot::info().memory, page) {
            Rule::Zeros => {}
            Rule::Device if page < FIRST_MIB => {
                let m = Mmio::claim(page, PAGE as usize).ok_or(Errno::EPERM)?;
                bytes.iter().enumerate().for_each(|(i, &b)| m.write8(within + i, b));
            }
            Rule::Device | Rule::Refused => return Err(Errno::EPERM),
            Rule::Nothing => return Err(Errno::EFAULT),
        }
        Ok(())
    }
}

/// Seeks from the start or the position, not from an end that is nowhere.
fn seek(current: u64, offset: i64, whence: u32) -> Result<u64> {
    match whence {
        0 => u64::try_from(offset).map_err(|_| Errno::EOVERFLOW),
        1 => current.checked_add_signed(offset).ok_or(Errno::EOVERFLOW),
        _ => Err(Errno::EINVAL),
    }
}

impl FileOps for Mem {
    fn kind(&self) -> FileKind {
        FileKind::Seekable
    }
    fn read_at(&self, _file: &File, off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        let mut b = [0; 512];
        let mut done = 0;
        while !dst.is_empty() {
            let at = off.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            let (page, within, n) = piece(at, dst.len().min(b.len()));
            if let Err(e) = Self::read_piece(page, within, &mut b[..n]).and_then(|()| dst.put(&b[..n])) {
                return partly(done, e);
            }
            done += n;
        }
        Ok(done)
    }
    fn write_at(&self, _file: &File, off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        let mut b = [0; 512];
        let mut done = 0;
        while !src.is_empty() {
            let at = off.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            let (page, within, n) = piece(at, src.len().min(b.len()));
            let taken = src.take(&mut b[..n]);
            if let Err(e) = taken.and_then(|n| Self::write_piece(page, within, &b[..n])) {
                return partly(done, e);
            }
            done += n;
        }
        Ok(done)
    }
    fn llseek(&self, _file: &File, current: u64, offset: i64, whence: u32) -> Result<u64> {
        seek(current, offset, whence)
    }
    fn map_object(&self, _file: &File) -> Result<alloc::sync::Arc<dyn mm::MapObject>> {
        Err(Errno::ENODEV)
    }
}

struct Port;

impl FileOps for Port {
    fn kind(&self) -> FileKind {
        FileKind::Seekable
    }
    fn read_at(&self, _file: &File, off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        let mut done = 0;
        while !dst.is_empty() && off + (done as u64) < PORT_COUNT {
            let Some(p) = Ports::claim((off + done as u64) as u16, 1) else {
                return partly(done, Errno::EPERM);
            };
            match dst.put(&[p.read8(0)]) {
                Ok(_) => done += 1,
                Err(e) => return partly(done, e),
            }
        }
        Ok(done)
    }
    fn write_at(&self, _file: &File, off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        let mut done = 0;
        while !src.is_empty() && off + (done as u64) < PORT_COUNT {
            let Some(p) = Ports::claim((off + done as u64) as u16, 1) else {
                return partly(done, Errno::EPERM);
            };
            let mut b = [0];
            if let Err(e) = src.take(&mut b) {
                return partly(done, e);
            }
            p.write8(0, b[0]);
            done += 1;
        }
        Ok(done)
    }
    fn llseek(&self, _file: &File, current: u64, offset: i64, whence: u32) -> Result<u64> {
        seek(current, offset, whence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use boot::Region;

    #[test]
    fn ram_is_refused_and_the_first_mib_is_special() {
        let map = [
            Region { start: 0, end: 0x9f000, kind: RegionKind::Usable },
            Region { start: 0xf0000, end: 0x100000, kind: RegionKind::Reserved },
            Region { start: 0x100000, end: 0x200000, kind: RegionKind::Kernel },
            Region { start: 0x200000, end: 0x7fe0000, kind: RegionKind::Usable },
            Region { start: 0x7fe0000, end: 0x8000000, kind: RegionKind::Acpi },
            Region { start: 0x1_0000_0000, end: 0x1_1000_0000, kind: RegionKind::Usable },
        ];
        assert_eq!(rule(&map, 0), Rule::Zeros);
        assert_eq!(rule(&map, 0xa0000), Rule::Device);
        assert_eq!(rule(&map, 0xf0000), Rule::Device);
        assert_eq!(rule(&map, 0x100000), Rule::Refused);
        assert_eq!(rule(&map, 0x7fe0000), Rule::Device);
        assert_eq!(rule(&map, 0x1_1000_0000), Rule::Nothing);
        let ram = system_ram(&map);
        assert_eq!(ram, [0..0x9f000, 0x100000..0x7fe0000, 0x1_0000_0000..0x1_1000_0000]);
    }

    #[test]
    fn pieces_end_at_pages() {
        assert_eq!(piece(0x1ffe, 100), (0x1000, 0xffe, 2));
        assert_eq!(piece(0x1000, 100), (0x1000, 0, 100));
    }
}
