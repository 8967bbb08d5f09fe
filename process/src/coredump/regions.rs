//! Which memory goes into a core file: `core(5)`, "Controlling which mappings are written".

use alloc::vec::Vec;

use base::Result;
use mm::{Mm, VmFlags};

use super::notes::Mapped;

bitflags::bitflags! {
    /// `/proc/PID/coredump_filter`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Filter: u32 {
        const ANON_PRIVATE = 1 << 0;
        const ANON_SHARED = 1 << 1;
        const FILE_PRIVATE = 1 << 2;
        const FILE_SHARED = 1 << 3;
        /// The first page of a mapped ELF file.
        const ELF_HEADERS = 1 << 4;
        const HUGE_PRIVATE = 1 << 5;
        const HUGE_SHARED = 1 << 6;
        const DAX_PRIVATE = 1 << 7;
        const DAX_SHARED = 1 << 8;
    }
}

impl Filter {
    pub const DEFAULT: Filter = Filter::ANON_PRIVATE
        .union(Filter::ANON_SHARED)
        .union(Filter::ELF_HEADERS)
        .union(Filter::HUGE_PRIVATE);
}

/// What decides about one mapping.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub flags: VmFlags,
    pub len: u64,
    /// It maps a file, or an object such as shared anonymous memory.
    pub has_object: bool,
    /// It has pages of its own that are in no file.
    pub has_private_pages: bool,
    /// The file has no name any more, as that of shared anonymous memory.
    pub nameless: bool,
    /// Its first page is a file's first, and begins like an ELF file.
    pub elf_header: bool,
    /// The vDSO's.
    pub special: bool,
}

/// How many of a mapping's bytes go into the file, from its beginning.
pub fn dump_size(f: &Facts, filter: Filter) -> u64 {
    if f.special {
        return f.len;
    }
    if f.flags.intersects(VmFlags::DONTDUMP | VmFlags::PFNMAP) {
        return 0;
    }
    if f.flags.contains(VmFlags::SHARED) {
        let which = if f.nameless { Filter::ANON_SHARED } else { Filter::FILE_SHARED };
        return if filter.contains(which) { f.len } else { 0 };
    }
    let whole = f.has_private_pages && filter.contains(Filter::ANON_PRIVATE)
        || f.has_object && filter.contains(Filter::FILE_PRIVATE);
    if whole {
        f.len
    } else if f.elf_header && f.flags.contains(VmFlags::READ) && filter.contains(Filter::ELF_HEADERS) {
        f.len.min(mm::PAGE_SIZE as u64)
    } else {
        0
    }
}

/// One mapping as it goes into the file.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    pub start: u64,
    pub end: u64,
    /// Bytes in the file.
    pub size: u64,
    pub flags: VmFlags,
    /// Pages that are not there read as zeroes and are left out.
    pub anonymous: bool,
}

/// All mappings, and those of files with their names. The process's threads stand still.
pub fn all(m: &Mm, filter: Filter) -> Result<(Vec<Region>, Vec<Mapped>)> {
    let (mut regions, mut files) = (Vec::new(), Vec::new());
    let mut candidates = Vec::new();
    m.for_each_usage(|v, u| {
        let path = match v.object {
            Some(o) => {
                let mut s = alloc::string::String::new();
                o.path(&mut s)?;
                s.into_bytes()
            }
            None => Vec::new(),
        };
        let special = path.starts_with(b"[vdso]") || path.starts_with(b"[vvar]");
        let facts = Facts {
            flags: v.flags,
            len: (v.end - v.start) as u64,
            has_object: v.object.is_some(),
            has_private_pages: u.anonymous != 0,
            nameless: path.ends_with(b" (deleted)"),
            elf_header: false,
            special: path.starts_with(b"[vdso]"),
        };
        candidates.try_reserve(1)?;
        candidates.push((v.start, v.end, facts, v.object.is_some() && v.pgoff == 0 && !special));
        if v.object.is_some() && !special {
            files.try_reserve(1)?;
            files.push(Mapped { start: v.start as u64, end: v.end as u64, page_offset: v.pgoff, path });
        }
        Ok(())
    })?;
    regions.try_reserve_exact(candidates.len())?;
    // Reading memory takes the lock that was held above.
    for (start, end, mut f, first) in candidates {
        let mut magic = [0; 4];
        f.elf_header = first && m.read_remote(start, &mut magic) == 4 && magic == *b"\x7fELF";
        let size = dump_size(&f, filter);
        regions.push(Region {
            start: start as u64,
            end: end as u64,
            size,
            flags: f.flags,
            anonymous: !f.has_object,
        });
    }
    Ok((regions, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(flags: VmFlags) -> Facts {
        Facts {
            flags: flags | VmFlags::READ,
            len: 0x5000,
            has_object: false,
            has_private_pages: false,
            nameless: false,
            elf_header: false,
            special: false,
        }
    }

    #[test]
    fn the_default_takes_what_is_the_process_s_own() {
        let d = |f: Facts| dump_size(&f, Filter::DEFAULT);
        assert_eq!(Filter::DEFAULT.bits(), 0x33);
        let private = facts(VmFlags::WRITE);
        assert_eq!(d(private), 0, "never touched");
        assert_eq!(d(Facts { has_private_pages: true, ..private }), 0x5000);
        let text = Facts { has_object: true, ..facts(VmFlags::EXEC) };
        assert_eq!(d(text), 0);
        assert_eq!(d(Facts { elf_header: true, ..text }), 0x1000);
        let shared = Facts { has_object: true, ..facts(VmFlags::SHARED) };
        assert_eq!((d(shared), d(Facts { nameless: true, ..shared })), (0, 0x5000));
        assert_eq!(d(Facts { has_private_pages: true, ..facts(VmFlags::DONTDUMP) }), 0);
        assert_eq!(d(Facts { special: true, ..facts(VmFlags::PFNMAP) }), 0x5000);
    }

    #[test]
    fn bits_choose() {
        let file = Facts { has_object: true, ..facts(VmFlags::empty()) };
        assert_eq!(dump_size(&file, Filter::FILE_PRIVATE), 0x5000);
        let own = Facts { has_private_pages: true, ..file };
        assert_eq!((dump_size(&own, Filter::empty()), dump_size(&own, Filter::ANON_PRIVATE)), (0, 0x5000));
        let shared = Facts { has_object: true, ..facts(VmFlags::SHARED) };
        assert_eq!(dump_size(&shared, Filter::FILE_SHARED), 0x5000);
    }
}
