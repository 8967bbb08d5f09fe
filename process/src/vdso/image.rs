//! The ELF image of the vDSO: what a dynamic linker needs to find the functions, and section headers for debuggers.
//!
//! ```text
//!   ELF header, 2 program headers (all of it, PT_DYNAMIC)
//!   .hash .dynsym .dynstr .gnu.version .gnu.version_d .dynamic
//!   .text        at frame::vdso::TEXT
//!   .shstrtab, section headers
//! ```
//! All addresses are offsets in the file. Both C libraries ask for `LINUX_2.6` of each function: glibc through
//! the ordinary symbol look-up, musl by walking hash table, symbols and versions itself. Formats: System V ABI, chapters 4 and 5;
//! "Symbol Versioning" of the LSB.

use alloc::vec::Vec;

use base::{Errno, Result};
use frame::{
    page::PAGE_SIZE,
    vdso::{Code, NAMES, TEXT},
};

const SONAME: &str = "linux-vdso.so.1";
const VERSION: &str = "LINUX_2.6";
/// Version numbers: of the library itself, and of its symbols.
const BASE_VERSION: u16 = 1;
const SYMBOL_VERSION: u16 = 2;

const EHDR: usize = 64;
const PHDR: usize = 56;
const SHDR: usize = 64;
const SYM: usize = 24;

const DYNSYM: u32 = 2;
const DYNSTR: u32 = 3;
const TEXT_SECTION: u16 = 7;
const SHSTRTAB: u16 = 8;
const SECTIONS: u16 = 9;

/// The hash of the System V ABI.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0u32, |h, b| {
        let h = (h << 4).wrapping_add(u32::from(b));
        let top = h & 0xf000_0000;
        (h ^ top >> 24) & !top
    })
}

/// Bytes that grow; the room was reserved.
struct Bytes(Vec<u8>);

impl Bytes {
    fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    fn u16(&mut self, v: u16) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    fn words(&mut self, v: &[u64]) {
        v.iter().for_each(|&w| self.u64(w));
    }
    fn str(&mut self, s: &str) {
        self.0.extend_from_slice(s.as_bytes());
        self.0.push(0);
    }
    fn pad_to(&mut self, at: usize) {
        self.0.resize(at, 0);
    }
    fn align(&mut self) {
        self.pad_to(self.0.len().next_multiple_of(8));
    }
    fn at(&self) -> u64 {
        self.0.len() as u64
    }
}

/// A section as the headers at the end describe it.
#[derive(Clone, Copy)]
struct Section {
    name: &'static str,
    kind: u32,
    flags: u64,
    link: u32,
    info: u32,
    align: u64,
    entry: u64,
    at: u64,
    len: u64,
}

/// The strings of `.dynstr` in order; where each begins.
fn strings() -> impl Iterator<Item = (&'static str, u32)> {
    NAMES.into_iter().chain([SONAME, VERSION]).scan(1u32, |at, s| {
        let here = *at;
        *at += s.len() as u32 + 1;
        Some((s, here))
    })
}
fn string(name: &str) -> u32 {
    strings().find(|s| s.0 == name).map_or(0, |s| s.1)
}

/// Builds the image; at most a page.
pub(super) fn build(code: &Code) -> Result<Vec<u8>> {
    const ALLOC: u64 = 2;
    const EXEC: u64 = 4;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(PAGE_SIZE).map_err(|_| Errno::ENOMEM)?;
    let mut b = Bytes(bytes);
    let none = Section { name: "", kind: 0, flags: 0, link: 0, info: 0, align: 0, entry: 0, at: 0, len: 0 };
    let mut sections = [none; SECTIONS as usize];
    let mut n = 1;
    let mut section = |s: Section, b: &mut Bytes, fill: &mut dyn FnMut(&mut Bytes)| {
        b.align();
        let at = b.at();
        fill(b);
        sections[n] = Section { at, len: b.at() - at, ..s };
        n += 1;
        at
    };
    let of = |name, kind, link, info, align, entry| Section {
        name,
        kind,
        flags: ALLOC,
        link,
        info,
        align,
        entry,
        ..none
    };
    b.pad_to(EHDR + 2 * PHDR);

    // One bucket: a chain through all symbols (number 0 ends it).
    let symbols = NAMES.len() as u32 + 2;
    let hash_at = section(of(".hash", 5, DYNSYM, 0, 8, 4), &mut b, &mut |b| {
        [1, symbols, 1, 0].into_iter().for_each(|v| b.u32(v));
        (1..symbols).for_each(|i| b.u32((i + 1) % symbols));
    });
    // Symbol 1 .. are the functions; the last one stands for the version, as linkers make it.
    let dynsym_at = section(of(".dynsym", 11, DYNSTR, 1, 8, SYM as u64), &mut b, &mut |b| {
        const GLOBAL_FUNC: u8 = 1 << 4 | 2;
        const GLOBAL_OBJECT: u8 = 1 << 4 | 1;
        const ABSOLUTE: u16 = 0xfff1;
        b.words(&[0; 3]);
        for (name, f) in NAMES.into_iter().zip(&code.functions) {
            b.u32(string(name));
            b.u8(GLOBAL_FUNC);
            b.u8(0);
            b.u16(TEXT_SECTION);
            b.words(&[(TEXT as u64) + u64::from(f.start), u64::from(f.end - f.start)]);
        }
        b.u32(string(VERSION));
        b.u8(GLOBAL_OBJECT);
        b.u8(0);
        b.u16(ABSOLUTE);
        b.words(&[0, 0]);
    });
    let dynstr_at = section(of(".dynstr", 3, 0, 0, 1, 0), &mut b, &mut |b| {
        b.u8(0);
        strings().for_each(|(s, _)| b.str(s));
    });
    let dynstr_len = b.at() - dynstr_at;
    let versym_at = section(of(".gnu.version", 0x6fff_ffff, DYNSYM, 0, 2, 2), &mut b, &mut |b| {
        b.u16(0);
        (1..symbols).for_each(|_| b.u16(SYMBOL_VERSION));
    });
    let verdef_at = section(of(".gnu.version_d", 0x6fff_fffd, DYNSTR, 2, 8, 0), &mut b, &mut |b| {
        const IS_LIBRARY: u16 = 1;
        const LEN: u32 = 20;
        const AUX: u32 = 8;
        let both = [(IS_LIBRARY, BASE_VERSION, SONAME, LEN + AUX), (0, SYMBOL_VERSION, VERSION, 0)];
        for (flags, index, name, next) in both {
            [1, flags, index, 1].into_iter().for_each(|v| b.u16(v));
            [hash(name), LEN, next, string(name), 0].into_iter().for_each(|v| b.u32(v));
        }
    });
    let dynamic_at = section(of(".dynamic", 6, DYNSTR, 0, 8, 16), &mut b, &mut |b| {
        let entries = [
            (14, u64::from(string(SONAME))),
            (4, hash_at),
            (5, dynstr_at),
            (6, dynsym_at),
            (10, dynstr_len),
            (11, SYM as u64),
            (0x6fff_fff0, versym_at),
            (0x6fff_fffc, verdef_at),
            (0x6fff_fffd, 2),
            (0, 0),
        ];
        entries.into_iter().for_each(|(k, v)| b.words(&[k, v]));
    });
    let dynamic_len = b.at() - dynamic_at;
    if b.0.len() > TEXT || TEXT + code.text.len() > PAGE_SIZE {
        return Err(Errno::ENOSPC);
    }
    b.pad_to(TEXT);
    let text = Section { flags: ALLOC | EXEC, ..of(".text", 1, 0, 0, 64, 0) };
    section(text, &mut b, &mut |b| b.0.extend_from_slice(code.text));
    let names =
        [".hash", ".dynsym", ".dynstr", ".gnu.version", ".gnu.version_d", ".dynamic", ".text", ".shstrtab"];
    section(Section { flags: 0, ..of(".shstrtab", 3, 0, 0, 1, 0) }, &mut b, &mut |b| {
        b.u8(0);
        names.iter().for_each(|s| b.str(s));
    });
    b.align();
    let sections_at = b.at();
    let mut name_at = 0;
    for (i, s) in sections.iter().enumerate() {
        b.u32(name_at);
        name_at += if i == 0 { 1 } else { s.name.len() as u32 + 1 };
        b.u32(s.kind);
        b.words(&[s.flags, if s.flags == 0 { 0 } else { s.at }, s.at, s.len]);
        b.u32(s.link);
        b.u32(s.info);
        b.words(&[s.align, s.entry]);
    }
    let len = b.at();
    if len > PAGE_SIZE as u64 {
        return Err(Errno::ENOSPC);
    }

    // The head, now that all is known.
    let mut h = Bytes(Vec::new());
    h.0.try_reserve_exact(EHDR + 2 * PHDR).map_err(|_| Errno::ENOMEM)?;
    h.0.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // A shared object for x86-64.
    h.u16(3);
    h.u16(62);
    h.u32(1);
    h.words(&[0, EHDR as u64, sections_at]);
    h.u32(0);
    [EHDR as u16, PHDR as u16, 2, SHDR as u16, SECTIONS, SHSTRTAB].into_iter().for_each(|v| h.u16(v));
    for (kind, flags, at, len, align) in
        [(1, 5, 0, len, PAGE_SIZE as u64), (2, 4, dynamic_at, dynamic_len, 8)]
    {
        h.u32(kind);
        h.u32(flags);
        h.words(&[at, at, at, len, len, align]);
    }
    b.0[..h.0.len()].copy_from_slice(&h.0);
    Ok(b.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> Code {
        Code {
            text: &[0xc3; 0x200],
            functions: [0..16, 16..40, 64..65, 0x1f0..0x200],
            tsc_base: 0,
            tsc_to_ns: 0,
        }
    }
    fn u(b: &[u8], at: u64, n: usize) -> u64 {
        b[at as usize..][..n].iter().rev().fold(0, |v, &x| v << 8 | u64::from(x))
    }
    fn name(b: &[u8], at: u64) -> &str {
        core::ffi::CStr::from_bytes_until_nul(&b[at as usize..]).unwrap().to_str().unwrap()
    }

    #[test]
    fn a_linker_finds_every_function() {
        let b = build(&code()).unwrap();
        assert!(b.len() <= PAGE_SIZE);
        // The second program header is the dynamic section.
        assert_eq!(u(&b, 64 + 56, 4), 2);
        let dynamic = u(&b, 64 + 56 + 8, 8);
        let tag = |t| {
            (0..16)
                .map(|i| dynamic + i * 16)
                .find(|&at| u(&b, at, 8) == t)
                .map(|at| u(&b, at + 8, 8))
                .unwrap()
        };
        let (hash_at, strs, syms) = (tag(4), tag(5), tag(6));
        let (versym, verdef) = (tag(0x6fff_fff0), tag(0x6fff_fffc));
        assert_eq!(name(&b, strs + tag(14)), "linux-vdso.so.1");
        let second = verdef + u(&b, verdef + 16, 4);
        assert_eq!(u(&b, second + 8, 4), 0x3ae_75f6);
        assert_eq!(name(&b, strs + u(&b, second + u(&b, second + 12, 4), 4)), "LINUX_2.6");
        assert_eq!(u(&b, hash_at, 4), 1);
        let chain = |i: u64| u(&b, hash_at + 12 + i * 4, 4);
        for (want, f) in NAMES.iter().zip(code().functions) {
            let mut i = u(&b, hash_at + 8, 4);
            while i != 0 && name(&b, strs + u(&b, syms + i * 24, 4)) != *want {
                i = chain(i);
            }
            assert_ne!(i, 0, "{want}");
            assert_eq!(u(&b, versym + i * 2, 2), u64::from(SYMBOL_VERSION));
            assert_eq!(u(&b, syms + i * 24 + 8, 8), 0x400 + u64::from(f.start));
        }
    }

    #[test]
    fn code_that_does_not_fit_is_refused() {
        let c = Code { text: &[0; PAGE_SIZE], ..code() };
        assert!(build(&c).is_err());
    }
}
