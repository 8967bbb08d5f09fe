//! The first stack of a program: arguments, environment and auxiliary vector (x86-64 System V ABI, 3.4.1).
//!
//! ```text
//!   top     8 zero bytes
//!           path of the program (AT_EXECFN)
//!           environment strings
//!           argument strings
//!           "x86_64" (AT_PLATFORM)
//!           16 random bytes (AT_RANDOM)
//!           …alignment
//!           auxiliary vector: pairs, ended by AT_NULL
//!           environment pointers, 0
//!           argument pointers, 0
//!   sp →    number of arguments                       16-byte aligned
//! ```

use alloc::vec::Vec;

use base::{Errno, Result};
use frame::user;

use crate::elf::zeroed;

/// The longest single string, NUL included: Linux's `MAX_ARG_STRLEN`.
pub const MAX_STRING: usize = 32 * 4096;

/// Strings one behind the other, each with its NUL.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Strings {
    bytes: Vec<u8>,
    count: usize,
}

impl Strings {
    pub fn new() -> Strings {
        Strings::default()
    }
    pub fn len(&self) -> usize {
        self.count
    }
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// All bytes, NULs included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split_inclusive(|&b| b == 0).map(|s| &s[..s.len() - 1])
    }
    /// Appends a string that contains no NUL.
    pub fn push(&mut self, s: &[u8]) -> Result<()> {
        if s.contains(&0) {
            return Err(Errno::EINVAL);
        }
        self.bytes.try_reserve(s.len() + 1).map_err(|_| Errno::ENOMEM)?;
        self.bytes.extend_from_slice(s);
        self.bytes.push(0);
        self.count += 1;
        Ok(())
    }
    /// Replaces the first string by `with`, as a script's interpreter line does.
    pub fn replace_first(&mut self, with: &[&[u8]]) -> Result<()> {
        let mut new = Strings::new();
        for s in with {
            new.push(s)?;
        }
        let first = self.iter().next().map_or(0, |s| s.len() + 1);
        new.bytes.try_reserve(self.bytes.len() - first).map_err(|_| Errno::ENOMEM)?;
        new.bytes.extend_from_slice(&self.bytes[first..]);
        new.count += self.count.saturating_sub(1);
        *self = new;
        Ok(())
    }

    /// Reads a NULL-terminated array of string pointers from user memory; a null array is an empty one.
    /// `room` is what may still be used, pointers included; beyond it `E2BIG`.
    pub fn from_user(array: usize, room: &mut usize) -> Result<Strings> {
        let mut out = Strings::new();
        if array == 0 {
            return Ok(out);
        }
        for i in 0.. {
            let at = array.checked_add(i * 8).ok_or(Errno::EFAULT)?;
            let mut p = [0; 8];
            user::copy_from_user(&mut p, at)?;
            let p = usize::from_le_bytes(p);
            if p == 0 {
                break;
            }
            out.push_user(p, room)?;
        }
        Ok(out)
    }

    fn push_user(&mut self, uva: usize, room: &mut usize) -> Result<()> {
        let mut chunk = [0; 256];
        let start = self.bytes.len();
        loop {
            let at = uva.checked_add(self.bytes.len() - start).ok_or(Errno::EFAULT)?;
            let n = user::read_user_str(at, &mut chunk)?;
            let ended = n < chunk.len();
            if self.bytes.len() - start + n >= MAX_STRING {
                return Err(Errno::E2BIG);
            }
            self.bytes.try_reserve(n + 1).map_err(|_| Errno::ENOMEM)?;
            self.bytes.extend_from_slice(&chunk[..n]);
            if self.bytes.len() - start > *room {
                return Err(Errno::E2BIG);
            }
            if ended {
                break;
            }
        }
        self.bytes.push(0);
        self.count += 1;
        *room = room.checked_sub(self.bytes.len() - start + 8).ok_or(Errno::E2BIG)?;
        Ok(())
    }
}

/// A stack ready to be written.
#[derive(Debug)]
pub struct Built {
    /// What goes to `sp` and above.
    pub bytes: Vec<u8>,
    pub sp: u64,
    pub args: core::ops::Range<u64>,
    pub env: core::ops::Range<u64>,
    /// The auxiliary vector, as `/proc/PID/auxv` gives it.
    pub auxv: Vec<u8>,
}

const AT_NULL: u64 = 0;
const AT_PLATFORM: u64 = 15;
const AT_RANDOM: u64 = 25;
const AT_EXECFN: u64 = 31;
const PLATFORM: &[u8] = b"x86_64\0";

/// Lays the stack out below `top`. `aux` are the pairs that do not point into it; `gap` (below 8192, a multiple of 16) is
/// left between strings and pointers, so that programs do not share cache lines.
pub fn build(
    argv: &Strings,
    envp: &Strings,
    execfn: &[u8],
    aux: &[(u64, u64)],
    random: [u8; 16],
    gap: u64,
    top: u64,
) -> Result<Built> {
    let name_at = top.checked_sub(8 + execfn.len() as u64 + 1).ok_or(Errno::E2BIG)?;
    let env_at = name_at.checked_sub(envp.bytes.len() as u64).ok_or(Errno::E2BIG)?;
    let args_at = env_at.checked_sub(argv.bytes.len() as u64).ok_or(Errno::E2BIG)?;
    let platform_at = ((args_at & !15).checked_sub(gap).ok_or(Errno::E2BIG)?)
        .checked_sub(PLATFORM.len() as u64)
        .ok_or(Errno::E2BIG)?;
    let random_at = platform_at.checked_sub(16).ok_or(Errno::E2BIG)?;
    let words = 1 + argv.count + 1 + envp.count + 1 + 2 * (aux.len() + 4);
    let sp = random_at.checked_sub(words as u64 * 8).ok_or(Errno::E2BIG)? & !15;

    let mut bytes = zeroed((top - sp) as usize)?;
    let mut put = |at: u64, b: &[u8]| bytes[(at - sp) as usize..][..b.len()].copy_from_slice(b);
    put(name_at, execfn);
    put(env_at, &envp.bytes);
    put(args_at, &argv.bytes);
    put(platform_at, PLATFORM);
    put(random_at, &random);
    let mut at = sp;
    let mut word = |v: u64| {
        put(at, &v.to_le_bytes());
        at += 8;
    };
    word(argv.count as u64);
    for (list, mut from) in [(argv, args_at), (envp, env_at)] {
        for s in list.iter() {
            word(from);
            from += s.len() as u64 + 1;
        }
        word(0);
    }
    let own = [(AT_RANDOM, random_at), (AT_EXECFN, name_at), (AT_PLATFORM, platform_at), (AT_NULL, 0)];
    let mut auxv = Vec::new();
    auxv.try_reserve((aux.len() + 4) * 16).map_err(|_| Errno::ENOMEM)?;
    for &(k, v) in aux.iter().chain(&own) {
        word(k);
        word(v);
        auxv.extend_from_slice(&k.to_le_bytes());
        auxv.extend_from_slice(&v.to_le_bytes());
    }
    Ok(Built { bytes, sp, args: args_at..env_at, env: env_at..name_at, auxv })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(v: &[&[u8]]) -> Strings {
        let mut s = Strings::new();
        for x in v {
            s.push(x).unwrap();
        }
        s
    }

    const TOP: u64 = 0x7fff_ffff_e000;

    struct View<'a>(&'a Built);
    impl View<'_> {
        fn word(&self, at: u64) -> u64 {
            let o = (at - self.0.sp) as usize;
            u64::from_le_bytes(self.0.bytes[o..o + 8].try_into().unwrap())
        }
        fn str(&self, at: u64) -> &[u8] {
            self.0.bytes[(at - self.0.sp) as usize..].split(|&b| b == 0).next().unwrap()
        }
    }

    proptest! {
        #[test]
        fn a_program_finds_its_arguments(
            argv in prop::collection::vec(prop::collection::vec(1u8.., 0..40), 0..9),
            envp in prop::collection::vec(prop::collection::vec(1u8.., 0..40), 0..9), gap in 0u64..512,
        ) {
            let refs = |v: &Vec<Vec<u8>>| strings(&v.iter().map(|s| &s[..]).collect::<Vec<_>>());
            let b = build(&refs(&argv), &refs(&envp), b"/bin/x", &[(6, 4096)], [7; 16], gap * 16, TOP).unwrap();
            let v = View(&b);
            prop_assert_eq!(b.sp % 16, 0);
            prop_assert_eq!(b.sp + b.bytes.len() as u64, TOP);
            let mut at = b.sp;
            let mut next = || { at += 8; v.word(at - 8) };
            prop_assert_eq!(next(), argv.len() as u64);
            for list in [&argv, &envp] {
                for s in list { let p = next(); prop_assert_eq!(v.str(p), &s[..]); }
                prop_assert_eq!(next(), 0);
            }
            let mut seen = 0;
            loop {
                let (k, val) = (next(), next());
                match k {
                    6 => prop_assert_eq!(val, 4096),
                    AT_RANDOM => prop_assert_eq!(&b.bytes[(val - b.sp) as usize..][..16], &[7; 16]),
                    AT_EXECFN => prop_assert_eq!(v.str(val), b"/bin/x"),
                    AT_PLATFORM => prop_assert_eq!(v.str(val), b"x86_64"),
                    AT_NULL => break,
                    _ => prop_assert!(false),
                }
                seen += 1;
            }
            prop_assert_eq!(seen, 4);
            prop_assert_eq!(b.auxv.len(), 5 * 16);
        }
    }

    #[test]
    fn a_script_replaces_its_first_argument() {
        let mut s = strings(&[b"name", b"a", b"b"]);
        s.replace_first(&[b"/bin/sh", b"-e", b"/path"]).unwrap();
        assert_eq!(s.iter().collect::<Vec<_>>(), [&b"/bin/sh"[..], b"-e", b"/path", b"a", b"b"]);
        let mut none = Strings::new();
        none.replace_first(&[b"/bin/sh", b"/path"]).unwrap();
        assert_eq!(none.len(), 2);
    }

    #[test]
    fn strings_with_nul_are_refused() {
        assert_eq!(Strings::new().push(b"a\0b"), Err(Errno::EINVAL));
    }
}
