//! One component of a path, kept inline while it is short.
//!
//! Most names are shorter than 31 bytes; those cost no allocation. Names compare by bytes and hash with a multiply per eight
//! bytes, seeded per boot so that nobody can choose colliding names from outside.

use alloc::{boxed::Box, vec::Vec};
use core::cmp::Ordering as Cmp;

use base::{Errno, Result};
use frame::sync::once::Once;

const INLINE: usize = 30;

/// A file name: at most 255 bytes, no `/`, no NUL.
pub struct Name(Repr);

enum Repr {
    Inline(u8, [u8; INLINE]),
    Heap(Box<[u8]>),
}

impl Name {
    /// Copies `bytes`. `ENOMEM` where there is no memory for a long one.
    pub fn new(bytes: &[u8]) -> Result<Name> {
        if bytes.len() <= INLINE {
            let mut b = [0; INLINE];
            b[..bytes.len()].copy_from_slice(bytes);
            return Ok(Name(Repr::Inline(bytes.len() as u8, b)));
        }
        let mut v = Vec::new();
        v.try_reserve_exact(bytes.len()).map_err(|_| Errno::ENOMEM)?;
        v.extend_from_slice(bytes);
        Ok(Name(Repr::Heap(v.into_boxed_slice())))
    }
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline(n, b) => &b[..*n as usize],
            Repr::Heap(b) => b,
        }
    }
    pub fn try_clone(&self) -> Result<Name> {
        Name::new(self.as_bytes())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}
impl Eq for Name {}
impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Cmp> {
        Some(self.cmp(other))
    }
}
impl Ord for Name {
    fn cmp(&self, other: &Name) -> Cmp {
        self.as_bytes().cmp(other.as_bytes())
    }
}
impl core::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}
impl core::fmt::Debug for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", alloc::string::String::from_utf8_lossy(self.as_bytes()))
    }
}

static SEED: Once<u64> = Once::new();

/// Hash of a name.
#[inline]
pub fn hash(name: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let seed = *SEED.call_once(|| {
        let t = frame::time::now_ns() ^ frame::time::wall_clock_at_boot_ns().rotate_left(32);
        (t | 1).wrapping_mul(K)
    });
    let mut h = seed ^ name.len() as u64;
    let mut words = name.chunks_exact(8);
    for w in &mut words {
        let w = u64::from_le_bytes([w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]]);
        h = (h.rotate_left(23) ^ w).wrapping_mul(K);
    }
    let mut last = 0u64;
    for (i, b) in words.remainder().iter().enumerate() {
        last |= (*b as u64) << (8 * i);
    }
    h = (h.rotate_left(23) ^ last).wrapping_mul(K);
    h ^ (h >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_names_keep_their_bytes() {
        for n in [0, 1, 29, 30, 31, 255] {
            let b: Vec<u8> = (0..n).map(|i| b'a' + (i % 26) as u8).collect();
            assert_eq!(Name::new(&b).unwrap().as_bytes(), &b[..]);
            assert_eq!(hash(&b), hash(&b.clone()));
        }
        assert_ne!(hash(b"a"), hash(b"a\0"));
    }
}
