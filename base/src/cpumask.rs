//! Sets of processors as Linux writes them in hexadecimal (`%*pb`): groups of 32 bits, as wide as there are possible processors.

use alloc::{format, string::String};

use frame::cpu::{CpuMask, possible};

use crate::{Errno, Result};

/// The processors that there can be.
pub fn all() -> CpuMask {
    first(possible())
}
fn first(n: usize) -> CpuMask {
    CpuMask(u64::MAX >> (64 - n.clamp(1, 64)))
}

/// As text: `3`, `ff`, `1,00000000`.
pub fn text(m: CpuMask) -> String {
    text_of(m, possible())
}
fn text_of(m: CpuMask, n: usize) -> String {
    if n > 32 {
        format!("{:0w$x},{:08x}", m.0 >> 32, m.0 & 0xffff_ffff, w = (n - 32).div_ceil(4))
    } else {
        format!("{:0w$x}", m.0, w = n.div_ceil(4))
    }
}

/// From text, as `cpumask_parse` takes it. EINVAL, and EOVERFLOW for processors that there cannot be.
pub fn parse(b: &[u8]) -> Result<CpuMask> {
    parse_of(b, possible())
}
fn parse_of(b: &[u8], n: usize) -> Result<CpuMask> {
    let s = core::str::from_utf8(b).map_err(|_| Errno::EINVAL)?.trim();
    let mut v = 0u64;
    for part in s.split(',') {
        if part.is_empty() || part.len() > 8 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(Errno::EINVAL);
        }
        if v >> 32 != 0 {
            return Err(Errno::EOVERFLOW);
        }
        v = v << 32 | u64::from_str_radix(part, 16).map_err(|_| Errno::EINVAL)?;
    }
    if v & !first(n).0 != 0 { Err(Errno::EOVERFLOW) } else { Ok(CpuMask(v)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_as_wide_as_there_are_processors() {
        for (m, n, s) in [
            (0, 1, "0"),
            (0b10, 2, "2"),
            (0b10, 5, "02"),
            (u64::MAX >> 32, 32, "ffffffff"),
            (1 << 32, 33, "1,00000000"),
            (5, 64, "00000000,00000005"),
        ] {
            assert_eq!(text_of(CpuMask(m), n), s);
            assert_eq!(parse_of(s.as_bytes(), n), Ok(CpuMask(m)));
        }
        assert_eq!(first(64), CpuMask::ALL);
    }

    #[test]
    fn what_is_no_mask_is_refused() {
        for bad in ["all", "", "\n", "0x1", "1,", ",1", "-1", "123456789", "1 2"] {
            assert_eq!(parse_of(bad.as_bytes(), 64), Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(parse_of(b"4", 2), Err(Errno::EOVERFLOW));
        assert_eq!(parse_of(b"1,00000000,00000000", 64), Err(Errno::EOVERFLOW));
        assert_eq!(parse_of(b"0\n", 2), Ok(CpuMask::NONE));
    }
}
