//! What has happened to this kernel that whoever reads its reports should know: `/proc/sys/kernel/tainted`.
//!
//! Bits are only ever set. User space may set some too. Documented: Linux `Documentation/admin-guide/tainted-kernels.rst`.

use core::fmt;

use frame::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{Errno, Result, tree};

/// What the kernel itself reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Taint {
    /// It warned of something that cannot be.
    Warn = 9,
    /// A processor was stuck in the kernel.
    SoftLockup = 14,
}

/// The letters of all bits, in their order.
const LETTERS: &[u8] = b"PFSRMBUDAWCIOELKXTN";
static BITS: AtomicU64 = AtomicU64::new(0);

/// Sets a bit.
pub fn add(t: Taint) {
    BITS.fetch_or(1 << t as u32, Relaxed);
}
/// All bits.
pub fn bits() -> u64 {
    BITS.load(Relaxed)
}

/// As reports show it: `Not tainted`, or `Tainted: G        W` and so on.
pub fn print_tainted() -> impl fmt::Display {
    Shown(bits())
}

struct Shown(u64);
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("Not tainted");
        }
        f.write_str("Tainted: ")?;
        for (i, &c) in LETTERS.iter().enumerate() {
            let letter = match (self.0 >> i & 1 != 0, i) {
                (true, _) => c,
                // The first place tells "proprietary" from its opposite.
                (false, 0) => b'G',
                (false, _) => b' ',
            };
            write!(f, "{}", char::from(letter))?;
        }
        Ok(())
    }
}

fn store(b: &[u8]) -> Result<()> {
    let n = u64::try_from(tree::parse_int(b)?).map_err(|_| Errno::EINVAL)?;
    if n >> LETTERS.len() != 0 {
        return Err(Errno::EINVAL);
    }
    BITS.fetch_or(n, Relaxed);
    Ok(())
}

/// Declares the file.
pub fn declare() -> Result<()> {
    tree::proc().knob("sys/kernel/tainted", 0o644, |o| Ok(writeln!(o, "{}", bits())?), store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_on_linux() {
        assert_eq!(Shown(0).to_string(), "Not tainted");
        let warned = Shown(1 << Taint::Warn as u32 | 1 << Taint::SoftLockup as u32).to_string();
        assert_eq!(warned, "Tainted: G        W    L    ");
        assert_eq!(Shown(1).to_string().trim_end(), "Tainted: P");
    }
    #[test]
    fn only_known_bits() {
        assert_eq!(store(b"x"), Err(Errno::EINVAL));
        assert_eq!(store(b"524288"), Err(Errno::EINVAL));
        assert_eq!(store(b"-1"), Err(Errno::EINVAL));
    }
}
