//! Numbers that stand for addresses in traces, so that a trace tells nobody where the kernel keeps things.
//!
//! SipHash-2-4 of the address under a key that is drawn once, cut to 32 bits: what Linux prints for `%p`.

use frame::sync::once::Once;

static KEY: Once<[u64; 2]> = Once::new();

fn key() -> [u64; 2] {
    *KEY.call_once(|| {
        // Without a source of random numbers the clock has to do; what it guards is of little worth then.
        let word = |salt: u64| {
            frame::entropy::hardware_u64()
                .unwrap_or_else(|| frame::time::now_ns().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt)
        };
        [word(0x6a09_e667_f3bc_c908), word(0xbb67_ae85_84ca_a73b)]
    })
}

/// What stands for the address `p`.
pub(super) fn pointer(p: u64) -> u32 {
    siphash(key(), p) as u32
}

fn siphash(k: [u64; 2], word: u64) -> u64 {
    let mut v = [
        k[0] ^ 0x736f_6d65_7073_6575,
        k[1] ^ 0x646f_7261_6e64_6f6d,
        k[0] ^ 0x6c79_6765_6e65_7261,
        k[1] ^ 0x7465_6462_7974_6573,
    ];
    for m in [word, 8 << 56] {
        v[3] ^= m;
        rounds(&mut v, 2);
        v[0] ^= m;
    }
    v[2] ^= 0xff;
    rounds(&mut v, 4);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn rounds(v: &mut [u64; 4], n: u32) {
    for _ in 0..n {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_test_vector() {
        // Key 00..0f, message 00..07: from the reference implementation's table.
        let k = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(siphash(k, 0x0706_0504_0302_0100), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn one_address_one_number() {
        assert_eq!(pointer(0xffff_8000_1234_5678), pointer(0xffff_8000_1234_5678));
    }
}
