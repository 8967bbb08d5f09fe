//! Random numbers from the processor, where it has them.

use crate::arch;

/// A word from RDRAND. `None` where the processor has no such instruction, or it failed ten times (Intel's advice).
pub fn hardware_u64() -> Option<u64> {
    (0..10).find_map(|_| arch::hardware_random())
}
