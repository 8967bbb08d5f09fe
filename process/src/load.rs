//! Puts a program into a fresh address space: its segments, its interpreter's, its stack's region and its heap's start.
//!
//! All that can be refused is refused here, before the old program is gone. What remains ([`Loaded::finish`]) writes into the
//! new memory and so runs in it.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};
use frame::user;
use mm::{ExecInfo, FileMapping, Limits, MapFlags, MapObject, MapRequest, Mm, Prot, layout};
use vfs::{File, IoDst};

use crate::{
    elf::{self, Image, Kind, PAGE, ReadAt},
    random,
    stack::Built,
    vdso,
};

impl ReadAt for File {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize> {
        self.pread(offset, &mut IoDst::kernel(out))
    }
}

/// A program and the file that it is in.
pub(crate) struct Program {
    pub file: Arc<File>,
    pub image: Image,
}

/// What the registers and the auxiliary vector need.
pub(crate) struct Loaded {
    pub mm: Arc<Mm>,
    /// Where the first instruction is: the interpreter's, if there is one.
    pub start: u64,
    /// The program's own entry.
    pub entry: u64,
    /// Load address of the interpreter; 0 without.
    pub interp_base: u64,
    pub phdr: u64,
    /// The vDSO's ELF header; 0 without.
    pub vdso: u64,
    pub stack_top: u64,
    /// Bytes to clear: the part of a segment's last file page that is not the file's.
    clear: Vec<core::ops::Range<u64>>,
    info: ExecInfo,
}

/// Bytes of stack that are mapped at once: Linux's 128 KiB and what the arguments need.
const STACK_BYTES: u64 = 128 << 10;

pub(crate) fn load(
    main: &Program,
    interp: Option<&Program>,
    arg_bytes: usize,
    limits: &Limits,
) -> Result<Loaded> {
    let mm = Mm::new()?;
    match fill(&mm, main, interp, arg_bytes, limits) {
        Ok(l) => Ok(l),
        Err(e) => {
            mm.release();
            Err(e)
        }
    }
}

fn fill(
    mm: &Arc<Mm>,
    main: &Program,
    interp: Option<&Program>,
    arg_bytes: usize,
    limits: &Limits,
) -> Result<Loaded> {
    let rnd = |level| layout::randomness(level, random::word());
    mm.set_stack_limit(limits.stack);
    mm.set_mmap_base(layout::mmap_base(limits.stack, rnd(1)));
    let stack_top = layout::stack_top(rnd(1)) as u64;
    let stack_len = (STACK_BYTES + arg_bytes as u64).next_multiple_of(PAGE);
    mm.set_stack((stack_top - stack_len) as usize, stack_top as usize, limits)?;

    let mut clear = Vec::new();
    let want = match (main.image.kind, interp) {
        (Kind::Fixed, _) => Some(0),
        (Kind::Relocatable, Some(_)) => Some(layout::pie_base(rnd(1)) as u64 & !(main.image.align - 1)),
        // A program that relocates itself, such as an interpreter run by name, goes where mappings go.
        (Kind::Relocatable, None) => None,
    };
    let bias = place(mm, main, want, limits, &mut clear)?;
    let entry = main.image.entry.wrapping_add(bias);
    let (mut start, mut interp_base) = (entry, 0);
    if let Some(i) = interp {
        let fixed = (i.image.kind == Kind::Fixed).then_some(0);
        let b = place(mm, i, fixed, limits, &mut clear)?;
        interp_base = i.image.span().start.wrapping_add(b);
        start = i.image.entry.wrapping_add(b);
    }
    let vdso = vdso::map(mm, limits)? as u64;
    let brk_end = if main.image.kind == Kind::Relocatable && interp.is_none() {
        layout::pie_base(0) as u64
    } else {
        main.image.brk().wrapping_add(bias)
    };
    mm.set_brk_base(layout::brk_start(brk_end as usize, rnd(2)));
    let code = |f: &dyn Fn(&elf::Segment) -> bool| {
        let it = main.image.segments.iter().filter(|s| f(s));
        let lo = it.clone().map(|s| s.vaddr).min().unwrap_or(0).wrapping_add(bias);
        let hi = it.map(|s| s.vaddr + s.filesz).max().unwrap_or(0).wrapping_add(bias);
        (lo as usize, hi as usize)
    };
    let ((start_code, end_code), (start_data, end_data)) = (code(&|s| s.exec), code(&|s| s.write));
    let info = ExecInfo { start_code, end_code, start_data, end_data, ..ExecInfo::default() };
    let phdr = main.image.phdr.map_or(0, |p| p.wrapping_add(bias));
    Ok(Loaded { mm: mm.clone(), start, entry, interp_base, phdr, vdso, stack_top, clear, info })
}

/// Maps one program; the bias that its addresses got. `want`: the bias to use, or anywhere.
fn place(
    mm: &Arc<Mm>,
    p: &Program,
    want: Option<u64>,
    limits: &Limits,
    clear: &mut Vec<core::ops::Range<u64>>,
) -> Result<u64> {
    let object = p.file.ops().map_object(&p.file)?;
    let span = p.image.span();
    let bias = match want {
        Some(b) => b,
        None => {
            // Claim room for the whole, aligned, and give it back: nobody else maps into a space that has not started.
            let align = p.image.align;
            let len = (span.end - span.start).checked_add(align).ok_or(Errno::ENOMEM)?;
            let r =
                anon(len, Prot::empty(), MapFlags::PRIVATE | MapFlags::ANON | MapFlags::NORESERVE, 0, limits);
            let at = mm.mmap(&r)?;
            mm.munmap(at, len as usize)?;
            // As high as the alignment lets it be.
            let top = (at as u64 + len - (span.end - span.start)) & !(align - 1);
            top.wrapping_sub(span.start)
        }
    };
    let end = span.end.checked_add(bias).ok_or(Errno::ENOMEM)?;
    if end > mm::TASK_SIZE as u64 || span.start.wrapping_add(bias) >= end {
        return Err(Errno::ENOMEM);
    }
    for s in &p.image.segments {
        segment(mm, s, bias, &object, limits, clear)?;
    }
    Ok(bias)
}

fn anon(len: u64, prot: Prot, flags: MapFlags, addr: u64, limits: &Limits) -> MapRequest {
    MapRequest { addr: addr as usize, len: len as usize, prot, flags, file: None, limits: *limits }
}

fn segment(
    mm: &Arc<Mm>,
    s: &elf::Segment,
    bias: u64,
    object: &Arc<dyn MapObject>,
    limits: &Limits,
    clear: &mut Vec<core::ops::Range<u64>>,
) -> Result<()> {
    let m = s.mapping();
    let mut prot = Prot::empty();
    prot.set(Prot::READ, s.read);
    prot.set(Prot::WRITE, s.write);
    prot.set(Prot::EXEC, s.exec);
    let fixed = MapFlags::PRIVATE | MapFlags::FIXED;
    if m.file_len != 0 {
        let file = FileMapping {
            object: object.clone(),
            offset: m.offset,
            readable: true,
            writable: false,
            executable: true,
        };
        let r = MapRequest {
            addr: m.addr.wrapping_add(bias) as usize,
            len: m.file_len as usize,
            prot,
            flags: fixed,
            file: Some(file),
            limits: *limits,
        };
        mm.mmap(&r)?;
    }
    if !m.anon.is_empty() {
        mm.mmap(&anon(
            m.anon.end - m.anon.start,
            prot,
            fixed | MapFlags::ANON,
            m.anon.start.wrapping_add(bias),
            limits,
        ))?;
    }
    // What cannot be written shows the rest of the file's page, as on Linux.
    if !m.zero.is_empty() && s.write {
        clear.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        clear.push(m.zero.start.wrapping_add(bias)..m.zero.end.wrapping_add(bias));
    }
    Ok(())
}

impl Loaded {
    /// Clears and writes what must be there at the start. Runs in the new address space.
    pub(crate) fn finish(&self, stack: &Built) -> Result<()> {
        for r in &self.clear {
            user::clear_user(r.start as usize, (r.end - r.start) as usize)?;
        }
        user::copy_to_user(stack.sp as usize, &stack.bytes)?;
        self.mm.set_exec_info(ExecInfo {
            start_stack: stack.sp as usize,
            arg_start: stack.args.start as usize,
            arg_end: stack.args.end as usize,
            env_start: stack.env.start as usize,
            env_end: stack.env.end as usize,
            ..self.info
        });
        Ok(())
    }
}
