//! Sets of processors as Linux writes them in lists: `0-2,5`.

use alloc::string::String;

use frame::cpu::{CpuMask, MAX_CPUS};

use crate::{Errno, Result};

/// As text.
pub fn text(m: CpuMask) -> String {
    let m = m.0;
    let mut out = String::new();
    let mut at = 0;
    while at < MAX_CPUS as u32 && m >> at != 0 {
        let start = at + (m >> at).trailing_zeros();
        let end = start + (m >> start).trailing_ones() - 1;
        if !out.is_empty() {
            out.push(',');
        }
        out += &if start == end { alloc::format!("{start}") } else { alloc::format!("{start}-{end}") };
        at = end + 1;
    }
    out
}

/// From text. EINVAL, and ERANGE for a number that no processor can have.
pub fn parse(b: &[u8]) -> Result<CpuMask> {
    let t = core::str::from_utf8(b).map_err(|_| Errno::EINVAL)?.trim();
    let mut m = 0u64;
    for part in t.split(',').filter(|p| !p.is_empty()) {
        let (a, z) = part.split_once('-').unwrap_or((part, part));
        let number = |s: &str| s.parse::<u32>().map_err(|_| Errno::EINVAL);
        let (a, z) = (number(a)?, number(z)?);
        if a > z {
            return Err(Errno::EINVAL);
        }
        if z >= MAX_CPUS as u32 {
            return Err(Errno::ERANGE);
        }
        m |= (u64::MAX >> (63 - (z - a))) << a;
    }
    Ok(CpuMask(m))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(parse(b"0-2,5\n"), Ok(CpuMask(0b100111)));
        assert_eq!(parse(b"63"), Ok(CpuMask(1 << 63)));
        assert_eq!((parse(b"2-1"), parse(b"64")), (Err(Errno::EINVAL), Err(Errno::ERANGE)));
        assert_eq!(parse(b"x"), Err(Errno::EINVAL));
        for m in [0, 1, 0b100111, u64::MAX, 1 << 63] {
            assert_eq!(parse(text(CpuMask(m)).as_bytes()), Ok(CpuMask(m)));
        }
        assert_eq!(text(CpuMask(0b100111)), "0-2,5");
    }
}
