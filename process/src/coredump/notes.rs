//! The notes of a core file: what is known of the process and its threads beside their memory. Layouts of `linux/elfcore.h`,
//! `asm/elf.h` and `asm/user_64.h` for x86-64.
//!
//! ```text
//!   note:      4 namesz   4 descsz   4 type   name, padded to 4   contents, padded to 4
//!   PRSTATUS   336: 0 signo 4 code 8 errno   12 cursig   16 pending 24 blocked   32 pid ppid pgrp sid
//!                   48 utime stime cutime cstime (seconds, microseconds)   112 registers, 27 words   328 has FPU state
//!   PRPSINFO   136: 0 state 1 letter 2 zombie 3 nice   8 flags   16 uid gid pid ppid pgrp sid   40 name, 16   56 arguments, 80
//!   FILE            count, page size; for each mapping start, end, offset in pages; then the names, each with a NUL
//! ```

use alloc::vec::Vec;

use base::Result;
use frame::user::Regs;

pub const NT_PRSTATUS: u32 = 1;
pub const NT_FPREGSET: u32 = 2;
pub const NT_PRPSINFO: u32 = 3;
pub const NT_AUXV: u32 = 6;
pub const NT_X86_XSTATE: u32 = 0x202;
pub const NT_FILE: u32 = 0x4649_4c45;
pub const NT_SIGINFO: u32 = 0x5349_4749;

pub const PRSTATUS: usize = 336;
pub const PRPSINFO: usize = 136;
/// Bytes of the FXSAVE area: `struct user_i387_struct`.
pub const FPREGSET: usize = 512;
const PR_REG: usize = 112;
const PR_FPVALID: usize = 328;
const USER_CS: u64 = 0x33;
const USER_SS: u64 = 0x2b;
/// Where the mask of components stands in an XSAVE area, for debuggers.
const XFEATURES: usize = 464;
/// Bytes of the FXSAVE area that are software's.
const SOFTWARE: core::ops::Range<usize> = 464..512;

/// Appends one note.
pub fn note(out: &mut Vec<u8>, name: &[u8], kind: u32, contents: &[u8]) -> Result<()> {
    out.try_reserve(12 + name.len() + contents.len() + 8)?;
    for n in [name.len() as u32 + 1, contents.len() as u32, kind] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    out.extend_from_slice(name);
    out.push(0);
    pad(out);
    out.extend_from_slice(contents);
    pad(out);
    Ok(())
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Numbers of a process in its tree.
#[derive(Clone, Copy, Default, Debug)]
pub struct Kin {
    pub ppid: u32,
    pub pgrp: u32,
    pub sid: u32,
}

/// One thread's state.
#[derive(Clone, Copy, Default, Debug)]
pub struct Status {
    pub signal: u32,
    pub pending: u64,
    pub blocked: u64,
    pub tid: u32,
    pub kin: Kin,
    /// User, system, and both of the children that were waited for, in nanoseconds.
    pub times_ns: [u64; 4],
    pub regs: Regs,
    pub has_fpu: bool,
}

/// `NT_PRSTATUS`.
pub fn prstatus(s: &Status) -> [u8; PRSTATUS] {
    let mut b = [0; PRSTATUS];
    let mut put = |at: usize, v: &[u8]| b[at..at + v.len()].copy_from_slice(v);
    put(0, &s.signal.to_le_bytes());
    put(12, &(s.signal as u16).to_le_bytes());
    put(16, &s.pending.to_le_bytes());
    put(24, &s.blocked.to_le_bytes());
    for (i, n) in [s.tid, s.kin.ppid, s.kin.pgrp, s.kin.sid].into_iter().enumerate() {
        put(32 + 4 * i, &n.to_le_bytes());
    }
    for (i, ns) in s.times_ns.into_iter().enumerate() {
        put(48 + 16 * i, &(ns / 1_000_000_000).to_le_bytes());
        put(56 + 16 * i, &(ns % 1_000_000_000 / 1000).to_le_bytes());
    }
    let r = &s.regs;
    // The order of `struct user_regs_struct`.
    let regs = [
        r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx, r.rdx, r.rsi,
        r.rdi, r.orig_rax, r.rip, USER_CS, r.rflags, r.rsp, USER_SS, r.fs_base, r.gs_base, 0, 0, 0, 0,
    ];
    for (i, v) in regs.into_iter().enumerate() {
        put(PR_REG + 8 * i, &v.to_le_bytes());
    }
    put(PR_FPVALID, &u32::from(s.has_fpu).to_le_bytes());
    b
}

/// What `ps` would show.
#[derive(Clone, Copy, Default, Debug)]
pub struct Info<'a> {
    /// The letter of its state.
    pub letter: u8,
    pub nice: i8,
    pub flags: u64,
    pub uid: u32,
    pub gid: u32,
    pub pid: u32,
    pub kin: Kin,
    pub name: &'a [u8],
    /// The arguments, with blanks between them.
    pub args: &'a [u8],
}

/// `NT_PRPSINFO`.
pub fn prpsinfo(i: &Info<'_>) -> [u8; PRPSINFO] {
    let mut b = [0; PRPSINFO];
    b[0] = b"RSDTtZXxKW".iter().position(|&c| c == i.letter).map_or(0, |n| if n == 0 { 0 } else { n as u8 });
    b[1] = i.letter;
    b[2] = u8::from(i.letter == b'Z');
    b[3] = i.nice as u8;
    b[8..16].copy_from_slice(&i.flags.to_le_bytes());
    for (k, n) in [i.uid, i.gid, i.pid, i.kin.ppid, i.kin.pgrp, i.kin.sid].into_iter().enumerate() {
        b[16 + 4 * k..20 + 4 * k].copy_from_slice(&n.to_le_bytes());
    }
    let n = i.name.len().min(15);
    b[40..40 + n].copy_from_slice(&i.name[..n]);
    let n = i.args.len().min(79);
    for (to, &from) in b[56..].iter_mut().zip(&i.args[..n]) {
        *to = if from == 0 { b' ' } else { from };
    }
    b
}

/// One file mapping.
pub struct Mapped {
    pub start: u64,
    pub end: u64,
    pub page_offset: u64,
    pub path: Vec<u8>,
}

/// `NT_FILE`.
pub fn files(list: &[Mapped]) -> Result<Vec<u8>> {
    let mut v = Vec::new();
    v.try_reserve_exact(16 + list.iter().map(|m| 25 + m.path.len()).sum::<usize>())?;
    v.extend_from_slice(&(list.len() as u64).to_le_bytes());
    v.extend_from_slice(&4096u64.to_le_bytes());
    for m in list {
        for n in [m.start, m.end, m.page_offset] {
            v.extend_from_slice(&n.to_le_bytes());
        }
    }
    for m in list {
        v.extend_from_slice(&m.path);
        v.push(0);
    }
    Ok(v)
}

/// A signal frame's FPU image as a debugger wants it: without what is the frame's own, the mask of components in its place.
/// The second part is there only where the processor has XSAVE.
pub fn fpu(mut image: Vec<u8>) -> ([u8; FPREGSET], Option<Vec<u8>>) {
    let word = |at: usize| image.get(at..at + 8).map_or([0; 8], |b| b.try_into().unwrap_or([0; 8]));
    let (mask, size) = (word(472), word(480));
    let size = u32::from_le_bytes([size[0], size[1], size[2], size[3]]) as usize;
    if image.len() >= FPREGSET {
        image[SOFTWARE].fill(0);
    }
    let mut legacy = [0; FPREGSET];
    let n = image.len().min(FPREGSET);
    legacy[..n].copy_from_slice(&image[..n]);
    if image.len() <= FPREGSET || size > image.len() || size < FPREGSET {
        return (legacy, None);
    }
    image[XFEATURES..XFEATURES + 8].copy_from_slice(&mask);
    image.truncate(size);
    (legacy, Some(image))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u32_at(b: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(b[at..at + 4].try_into().unwrap())
    }
    fn u64_at(b: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn notes_are_padded_to_words() {
        let mut v = Vec::new();
        note(&mut v, b"CORE", NT_AUXV, b"12345").unwrap();
        assert_eq!((u32_at(&v, 0), u32_at(&v, 4), u32_at(&v, 8)), (5, 5, 6));
        assert_eq!(&v[12..20], b"CORE\0\0\0\0");
        assert_eq!((&v[20..25], v.len()), (&b"12345"[..], 28));
    }

    #[test]
    fn a_thread_s_registers_are_where_debuggers_look() {
        let regs =
            Regs { rip: 0x401000, rsp: 0x7000, rax: 9, orig_rax: !0, r15: 15, fs_base: 5, ..Regs::default() };
        let kin = Kin { ppid: 2, pgrp: 3, sid: 4 };
        let s = Status {
            signal: 11,
            tid: 7,
            kin,
            times_ns: [1_500_000_000, 0, 0, 0],
            regs,
            has_fpu: true,
            ..Status::default()
        };
        let b = prstatus(&s);
        assert_eq!((u32_at(&b, 0), b[12], u32_at(&b, 32), u32_at(&b, 44)), (11, 11, 7, 4));
        assert_eq!((u64_at(&b, 48), u64_at(&b, 56)), (1, 500_000));
        let reg = |n: usize| u64_at(&b, 112 + 8 * n);
        assert_eq!((reg(0), reg(10), reg(15), reg(16), reg(19), reg(21)), (15, 9, !0, 0x401000, 0x7000, 5));
        assert_eq!((reg(17), reg(20), u32_at(&b, 328)), (0x33, 0x2b, 1));
    }

    #[test]
    fn what_ps_would_show_is_cut_to_fit() {
        let i = Info {
            letter: b'R',
            pid: 9,
            name: b"a-name-that-is-too-long",
            args: b"a\0b\0",
            ..Info::default()
        };
        let b = prpsinfo(&i);
        assert_eq!((b[0], b[1], u32_at(&b, 24)), (0, b'R', 9));
        assert_eq!(&b[40..56], b"a-name-that-is-\0");
        assert_eq!(&b[56..61], b"a b \0");
    }

    #[test]
    fn the_extended_state_names_its_components() {
        let mut image = vec![0xaa; 832 + 4];
        image[472..480].copy_from_slice(&7u64.to_le_bytes());
        image[480..484].copy_from_slice(&832u32.to_le_bytes());
        let (legacy, x) = fpu(image);
        let x = x.unwrap();
        assert_eq!(
            (x.len(), u64_at(&x, 464), u64_at(&x, 472), legacy[463], legacy[464]),
            (832, 7, 0, 0xaa, 0)
        );
        assert!(fpu(vec![1; 512]).1.is_none());
    }

    #[test]
    fn mappings_come_before_names() {
        let m = |start, path: &[u8]| Mapped { start, end: start + 4096, page_offset: 1, path: path.to_vec() };
        let v = files(&[m(0x1000, b"/a"), m(0x9000, b"/bc")]).unwrap();
        assert_eq!((u64_at(&v, 0), u64_at(&v, 8), u64_at(&v, 16), u64_at(&v, 40)), (2, 4096, 0x1000, 0x9000));
        assert_eq!(&v[64..], b"/a\0/bc\0");
    }
}
