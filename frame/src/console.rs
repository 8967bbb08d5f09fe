//! The console of first and last resort: polled, usable from any context, a panic included.

use crate::arch;

/// Writes raw bytes.
pub fn write(bytes: &[u8]) {
    arch::console_write(bytes);
}

/// `core::fmt` adapter over [`write()`].
pub struct Console;
impl core::fmt::Write for Console {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        arch::console_write(s.as_bytes());
        Ok(())
    }
}
