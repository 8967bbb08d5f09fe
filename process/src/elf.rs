//! Reads ELF headers: what a program file asks the kernel to map.
//!
//! Everything in the file is an allegation. [`parse`] checks every number before it is used and gives an [`Image`] whose
//! segments lie in the user half, do not overflow and fit their file offsets; what does not is `ENOEXEC`. (Linux finds some of
//! these faults only after the old program is gone, and kills; to refuse while the caller can still be told is kinder.)
//! Sources: System V ABI chapters 4 and 5, and its x86-64 supplement.
//!
//! ```text
//!   file header, 64 bytes: 16 type  18 machine  24 entry  32 phoff  54 phentsize  56 phnum
//!   program header, 56:     0 type   4 flags     8 offset 16 vaddr  32 filesz  40 memsz  48 align
//! ```

use alloc::vec::Vec;

use base::{Errno, Result};
use frame::user;

/// A file's bytes at any offset; fewer than asked only at its end.
pub trait ReadAt {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize>;
}

impl ReadAt for &[u8] {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let n = out.len().min(self.len() - from);
        out[..n].copy_from_slice(&self[from..from + n]);
        Ok(n)
    }
}

pub const PAGE: u64 = 4096;
const HEADER: usize = 64;
const PHDR: usize = 56;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;
/// Linux takes no more program headers than fit this many bytes.
const MAX_PHDR_BYTES: usize = 65536;
/// `PATH_MAX`: the longest interpreter name, with its NUL.
const MAX_INTERP: u64 = 4096;

/// Whether addresses in the file are final.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Fixed,
    /// Position independent: they count from wherever the image is put.
    Relocatable,
}

/// One part of the file that is to appear in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    pub vaddr: u64,
    pub memsz: u64,
    pub offset: u64,
    pub filesz: u64,
    pub read: bool,
    pub write: bool,
    pub exec: bool,
}

/// A program as its headers describe it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    pub kind: Kind,
    pub entry: u64,
    /// `PT_LOAD`s, in file order. Never empty.
    pub segments: Vec<Segment>,
    /// Path of the program that loads this one, without NUL.
    pub interp: Option<Vec<u8>>,
    pub phnum: u16,
    /// Where the program headers lie once loaded, if a segment holds them.
    pub phdr: Option<u64>,
    /// Whether the stack is to be executable: `PT_GNU_STACK` says so. Absent, Linux's x86-64 leaves it not executable.
    pub exec_stack: bool,
    /// The largest alignment that a segment asks for; at least a page, a power of two.
    pub align: u64,
}

/// `pub const` for the auxiliary vector: size of a program header.
pub const PHENT: u64 = PHDR as u64;

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}
fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}
fn u64_at(b: &[u8], at: usize) -> u64 {
    u32_at(b, at) as u64 | (u32_at(b, at + 4) as u64) << 32
}

fn read_exact(f: &dyn ReadAt, offset: u64, out: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < out.len() {
        let at = offset.checked_add(done as u64).ok_or(Errno::ENOEXEC)?;
        match f.read_at(at, &mut out[done..])? {
            0 => return Err(Errno::ENOEXEC),
            n => done += n.min(out.len() - done),
        }
    }
    Ok(())
}

/// Memory for bytes from outside: `ENOMEM` where there is none.
pub(crate) fn zeroed(len: usize) -> Result<Vec<u8>> {
    let mut v = Vec::new();
    v.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    v.resize(len, 0);
    Ok(v)
}

/// Reads a program's headers.
pub fn parse(f: &dyn ReadAt) -> Result<Image> {
    let mut h = [0; HEADER];
    read_exact(f, 0, &mut h)?;
    // Magic, 64 bits, little endian, version 1.
    if h[..4] != *b"\x7fELF" || h[4] != 2 || h[5] != 1 || h[6] != 1 || u16_at(&h, 18) != EM_X86_64 {
        return Err(Errno::ENOEXEC);
    }
    let kind = match u16_at(&h, 16) {
        ET_EXEC => Kind::Fixed,
        ET_DYN => Kind::Relocatable,
        _ => return Err(Errno::ENOEXEC),
    };
    let (entry, phoff, phnum) = (u64_at(&h, 24), u64_at(&h, 32), u16_at(&h, 56));
    let bytes = phnum as usize * PHDR;
    if u16_at(&h, 54) as usize != PHDR || phnum == 0 || bytes > MAX_PHDR_BYTES {
        return Err(Errno::ENOEXEC);
    }
    let mut table = zeroed(bytes)?;
    read_exact(f, phoff, &mut table)?;

    let mut image = Image {
        kind,
        entry,
        segments: Vec::new(),
        interp: None,
        phnum,
        phdr: None,
        exec_stack: false,
        align: PAGE,
    };
    let mut phdr_says = None;
    for p in table.chunks_exact(PHDR) {
        let (offset, vaddr, filesz, memsz) = (u64_at(p, 8), u64_at(p, 16), u64_at(p, 32), u64_at(p, 40));
        match u32_at(p, 0) {
            PT_LOAD => {
                image.segments.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                image.segments.push(segment(p, offset, vaddr, filesz, memsz)?);
                let align = u64_at(p, 48);
                if align.is_power_of_two() && align > image.align {
                    image.align = align;
                }
            }
            PT_INTERP if image.interp.is_none() => image.interp = Some(interp(f, offset, filesz)?),
            PT_PHDR => phdr_says = Some(vaddr),
            PT_GNU_STACK => image.exec_stack = u32_at(p, 4) & PF_X != 0,
            _ => {}
        }
    }
    if image.segments.is_empty() || image.align > user::END as u64 / 4 {
        return Err(Errno::ENOEXEC);
    }
    let table_end = phoff.checked_add(bytes as u64).ok_or(Errno::ENOEXEC)?;
    let holds = |s: &Segment| phoff >= s.offset && table_end <= s.offset + s.filesz;
    image.phdr =
        phdr_says.or_else(|| image.segments.iter().find(|s| holds(s)).map(|s| s.vaddr + (phoff - s.offset)));
    Ok(image)
}

fn segment(p: &[u8], offset: u64, vaddr: u64, filesz: u64, memsz: u64) -> Result<Segment> {
    let flags = u32_at(p, 4);
    let end = vaddr.checked_add(memsz).ok_or(Errno::ENOEXEC)?;
    let file_end = offset.checked_add(filesz).ok_or(Errno::ENOEXEC)?;
    // One page of slack lets callers round up without overflow.
    let fits = filesz <= memsz && end <= user::END as u64 - PAGE && file_end <= i64::MAX as u64 - PAGE;
    if !fits || offset % PAGE != vaddr % PAGE {
        return Err(Errno::ENOEXEC);
    }
    let (read, write, exec) = (flags & PF_R != 0, flags & PF_W != 0, flags & PF_X != 0);
    Ok(Segment { vaddr, memsz, offset, filesz, read, write, exec })
}

fn interp(f: &dyn ReadAt, offset: u64, filesz: u64) -> Result<Vec<u8>> {
    if !(2..=MAX_INTERP).contains(&filesz) {
        return Err(Errno::ENOEXEC);
    }
    let mut name = zeroed(filesz as usize)?;
    read_exact(f, offset, &mut name)?;
    if name.last() != Some(&0) {
        return Err(Errno::ENOEXEC);
    }
    let len = name.iter().position(|&b| b == 0).unwrap_or(0);
    name.truncate(len);
    Ok(name)
}

impl Image {
    /// Page-aligned addresses from the lowest segment to the end of the highest.
    pub fn span(&self) -> core::ops::Range<u64> {
        let start = self.segments.iter().map(|s| s.vaddr / PAGE * PAGE).min().unwrap_or(0);
        let end = self.segments.iter().map(|s| (s.vaddr + s.memsz).next_multiple_of(PAGE)).max().unwrap_or(0);
        start..end
    }
    /// The end of the highest segment: where the program break begins.
    pub fn brk(&self) -> u64 {
        self.segments.iter().map(|s| s.vaddr + s.memsz).max().unwrap_or(0)
    }
}

/// How one segment comes into memory, bias not yet added.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// Pages from the file: address, length, file offset. All page aligned. Length 0: none.
    pub addr: u64,
    pub file_len: u64,
    pub offset: u64,
    /// Bytes after the file's, in its last page, that must read as zero.
    pub zero: core::ops::Range<u64>,
    /// Anonymous pages after it.
    pub anon: core::ops::Range<u64>,
}

impl Segment {
    /// Splits the segment into pages from the file, a tail to clear, and pages of zeroes.
    pub fn mapping(&self) -> Mapping {
        let addr = self.vaddr / PAGE * PAGE;
        let file_end = self.vaddr + self.filesz;
        let mem_end = (self.vaddr + self.memsz).next_multiple_of(PAGE);
        let file_pages_end = if self.filesz == 0 { addr } else { file_end.next_multiple_of(PAGE) };
        let zero = if self.memsz > self.filesz && self.filesz != 0 {
            file_end..file_pages_end
        } else {
            file_end..file_end
        };
        Mapping {
            addr,
            file_len: file_pages_end - addr,
            offset: self.offset / PAGE * PAGE,
            zero,
            anon: file_pages_end..mem_end.max(file_pages_end),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A small program: one segment for the headers and text, one with data and bss, perhaps an interpreter.
    pub(crate) fn sample(kind: u16, interp: Option<&[u8]>) -> Vec<u8> {
        let mut f = vec![0u8; 0x1100];
        f[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let mut put = |at: usize, b: &[u8]| f[at..at + b.len()].copy_from_slice(b);
        let n: u16 = if interp.is_some() { 3 } else { 2 };
        put(16, &kind.to_le_bytes());
        put(18, &62u16.to_le_bytes());
        put(24, &0x40_0100u64.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &n.to_le_bytes());
        let mut ph = |i: usize, t: u32, flags: u32, off: u64, va: u64, fs: u64, ms: u64| {
            let at = 64 + i * 56;
            put(at, &t.to_le_bytes());
            put(at + 4, &flags.to_le_bytes());
            for (k, v) in [(8, off), (16, va), (32, fs), (40, ms), (48, 4096)] {
                put(at + k, &v.to_le_bytes());
            }
        };
        ph(0, PT_LOAD, PF_R | PF_X, 0, 0x40_0000, 0x200, 0x200);
        ph(1, PT_LOAD, PF_R | PF_W, 0x1000, 0x40_2000, 0x100, 0x3000);
        if let Some(name) = interp {
            ph(2, PT_INTERP, PF_R, 0x300, 0, name.len() as u64, 0);
            put(0x300, name);
        }
        f
    }

    #[test]
    fn a_plain_program_is_understood() {
        let i = parse(&&sample(ET_EXEC, None)[..]).unwrap();
        assert_eq!((i.kind, i.entry, i.phnum, i.phdr), (Kind::Fixed, 0x40_0100, 2, Some(0x40_0040)));
        assert_eq!((i.span(), i.brk()), (0x40_0000..0x40_5000, 0x40_5000));
        let m = i.segments[1].mapping();
        assert_eq!((m.addr, m.file_len, m.offset), (0x40_2000, 0x1000, 0x1000));
        assert_eq!((m.zero, m.anon), (0x40_2100..0x40_3000, 0x40_3000..0x40_5000));
    }

    #[test]
    fn the_interpreter_must_end_in_nul() {
        assert_eq!(
            parse(&&sample(ET_DYN, Some(b"/lib/ld.so\0"))[..]).unwrap().interp.unwrap(),
            b"/lib/ld.so"
        );
        assert_eq!(parse(&&sample(ET_DYN, Some(b"/lib/ld.so"))[..]), Err(Errno::ENOEXEC));
    }

    #[test]
    fn a_cut_file_is_refused() {
        let f = sample(ET_EXEC, None);
        for n in 0..64 + 2 * 56 {
            assert_eq!(parse(&&f[..n]), Err(Errno::ENOEXEC), "cut at {n}");
        }
    }

    #[test]
    fn segments_outside_the_user_half_are_refused() {
        for va in
            [0xffff_8000_0000_0000u64, u64::MAX - 0xfff, user::END as u64 - 0x1000, i64::MAX as u64 - 0xfff]
        {
            let mut f = sample(ET_EXEC, None);
            f[64 + 56 + 16..64 + 56 + 24].copy_from_slice(&va.to_le_bytes());
            assert_eq!(parse(&&f[..]), Err(Errno::ENOEXEC));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(damage in prop::collection::vec((0usize..232, any::<u8>()), 0..12), interp: bool) {
            let mut f = sample(ET_DYN, interp.then_some(&b"/lib/ld.so\0"[..]));
            for (at, b) in damage {
                f[at] = b;
            }
            if let Ok(i) = parse(&&f[..]) {
                prop_assert!(i.span().end <= user::END as u64);
                for s in &i.segments {
                    let m = s.mapping();
                    prop_assert!(m.addr % PAGE == 0 && m.file_len % PAGE == 0 && m.anon.start % PAGE == 0 && m.anon.end % PAGE == 0);
                    prop_assert!(m.addr + m.file_len == m.anon.start && m.anon.end >= s.vaddr + s.memsz);
                }
            }
        }

        #[test]
        fn noise_is_answered(f in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&&f[..]);
        }
    }
}
