//! Puts the symbol table into the kernel's image, so that its backtraces have names.
//!
//! The linker script keeps a last loadable segment, `.ksyms`, for it. Its contents go to the end of the file and the
//! program header is made to point there; nothing follows the segment in memory. The debug sections are left out of
//! the result. Format (see `frame/src/arch/x86_64/symbols.rs`), little endian:
//!
//! ```text
//!   0  "NSKSYMS1"
//!   8  u32 number of symbols, u32 bytes of names
//!  16  per symbol, by address: u32 offset from 0xffff_ffff_8000_0000, u32 offset of its name
//!      names, each ended by a zero byte
//! ```

use anyhow::{Result, bail, ensure};
use object::{
    Endianness, Object, ObjectSymbol, SymbolKind,
    elf::{FileHeader64, PT_LOAD},
    read::elf::{ElfFile64, FileHeader, ProgramHeader},
};

const BASE: u64 = 0xffff_ffff_8000_0000;
const MAGIC: &[u8; 8] = b"NSKSYMS1";

/// The table for an ELF file.
pub fn table(elf: &[u8]) -> Result<Vec<u8>> {
    let file = ElfFile64::<Endianness>::parse(elf)?;
    let mut syms: Vec<(u32, String)> = file
        .symbols()
        .filter(|s| s.kind() == SymbolKind::Text && s.address() >= BASE)
        .filter_map(|s| {
            Some(((s.address() - BASE) as u32, format!("{:#}", rustc_demangle::demangle(s.name().ok()?))))
        })
        .collect();
    syms.sort();
    syms.dedup_by_key(|s| s.0);
    let (mut index, mut names) = (Vec::new(), Vec::new());
    for (at, name) in &syms {
        index.extend(at.to_le_bytes());
        index.extend((names.len() as u32).to_le_bytes());
        names.extend(name.bytes().filter(|&b| b != 0));
        names.push(0);
    }
    let mut out = MAGIC.to_vec();
    out.extend((syms.len() as u32).to_le_bytes());
    out.extend((names.len() as u32).to_le_bytes());
    out.extend(index);
    out.extend(names);
    Ok(out)
}

/// The image with its table.
pub fn embed(elf: &[u8]) -> Result<Vec<u8>> {
    let table = table(elf)?;
    let header = FileHeader64::<Endianness>::parse(elf)?;
    let e = header.endian()?;
    let phdrs = header.program_headers(e, elf)?;
    // The loadable segment with the highest physical address.
    let Some((n, last)) =
        phdrs.iter().enumerate().filter(|(_, p)| p.p_type(e) == PT_LOAD).max_by_key(|(_, p)| p.p_paddr(e))
    else {
        bail!("the image has no loadable segment");
    };
    let has_section = ElfFile64::<Endianness>::parse(elf)?.section_by_name(".ksyms").is_some();
    if !has_section {
        return Ok(elf.to_vec());
    }
    ensure!(last.p_filesz(e) <= 4096, "the last segment is not the one kept for symbols");
    // Keep what the segments need and drop the rest of the file.
    let end = phdrs
        .iter()
        .enumerate()
        .filter(|&(i, _)| i != n)
        .map(|(_, p)| p.p_offset(e) + p.p_filesz(e))
        .max()
        .unwrap_or(0)
        .max(header.e_phoff.get(e) + 56 * phdrs.len() as u64);
    let mut out = elf[..usize::try_from(end)?].to_vec();
    out.resize(out.len().next_multiple_of(4096), 0);
    let at = out.len() as u64;
    let ph = usize::try_from(header.e_phoff.get(e))? + 56 * n;
    out[ph + 8..ph + 16].copy_from_slice(&at.to_le_bytes()); // p_offset
    out[ph + 32..ph + 40].copy_from_slice(&(table.len() as u64).to_le_bytes()); // p_filesz
    out[ph + 40..ph + 48].copy_from_slice(&(table.len() as u64).to_le_bytes()); // p_memsz
    out[40..48].fill(0); // e_shoff: the sections are gone
    out[58..64].fill(0); // e_shentsize, e_shnum, e_shstrndx
    out.extend(table);
    Ok(out)
}
