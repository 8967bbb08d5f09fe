//! The generator: ChaCha20 with fast key erasure. Policy only.
//!
//! Every request begins a new key stream, whose first 32 bytes replace the key before anything is given out. Whoever
//! reads the kernel's memory later cannot compute what was given out earlier. Entropy is mixed into the key by hashing
//! both together. (D. J. Bernstein, "Fast-key-erasure random-number generators", 2017.)

use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit, StreamCipher},
};
use sha2::{Digest, Sha256};

/// The generator's state.
pub(super) struct Generator {
    key: [u8; 32],
    /// Bits of entropy credited so far, up to [`READY_BITS`].
    credited: u32,
}

/// The generator counts as seeded from here on: the strength of its key.
pub(super) const READY_BITS: u32 = 256;

impl Generator {
    pub(super) const fn new() -> Self {
        Self { key: [0; 32], credited: 0 }
    }
    /// True once enough entropy was credited.
    pub(super) fn is_ready(&self) -> bool {
        self.credited >= READY_BITS
    }
    /// Bits credited, at most [`READY_BITS`].
    pub(super) fn credited(&self) -> u32 {
        self.credited
    }
    /// Mixes `input` in and credits `bits` of entropy for it. Mixing never makes the state more predictable.
    pub(super) fn mix(&mut self, input: &[u8], bits: u32) {
        let mut h = Sha256::new();
        h.update(self.key);
        h.update(input);
        self.key = h.finalize().into();
        self.credited = (self.credited + bits).min(READY_BITS);
    }
    /// A key for one request: 32 bytes of stream, of which the generator keeps nothing.
    pub(super) fn request_key(&mut self) -> [u8; 32] {
        let mut block = [0; 64];
        ChaCha20::new(&self.key.into(), &[0; 12].into()).apply_keystream(&mut block);
        let (next, out) = block.split_at(32);
        self.key.copy_from_slice(next);
        let mut k = [0; 32];
        k.copy_from_slice(out);
        k
    }
}

impl Default for Generator {
    fn default() -> Self {
        Self::new()
    }
}

/// The stream of one request, made outside of any lock.
pub(super) struct Stream(ChaCha20);

impl Stream {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self(ChaCha20::new(&key.into(), &[0; 12].into()))
    }
    /// Overwrites `out` with random bytes.
    pub(super) fn fill(&mut self, out: &mut [u8]) {
        out.fill(0);
        self.0.apply_keystream(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_differ_and_the_key_is_erased() {
        let mut g = Generator::new();
        g.mix(b"seed", 10);
        let before = g.key;
        let (a, b) = (g.request_key(), g.request_key());
        assert_ne!(a, b);
        assert_ne!(g.key, before);
        assert_ne!(a, g.key);
    }

    #[test]
    fn it_is_ready_when_enough_was_credited() {
        let mut g = Generator::new();
        assert!(!g.is_ready());
        g.mix(b"a", 200);
        g.mix(b"b", 0);
        assert!(!g.is_ready());
        g.mix(b"c", 100);
        assert!(g.is_ready());
        assert_eq!(g.credited(), READY_BITS);
    }

    #[test]
    fn the_same_seed_gives_the_same_stream_and_it_looks_random() {
        let mut s = Stream::new([7; 32]);
        let mut a = [0xffu8; 4096];
        s.fill(&mut a);
        let mut b = [0u8; 4096];
        Stream::new([7; 32]).fill(&mut b);
        assert_eq!(a, b);
        let ones: u32 = a.iter().map(|x| x.count_ones()).sum();
        assert!((15_000..17_800).contains(&ones), "{ones} of 32768 bits are set");
    }
}
