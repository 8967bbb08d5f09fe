//! The code that user programs call instead of asking the kernel for the time: the vDSO's functions and their data.
//!
//! Two pages of a program belong together. The upper one is an ELF image which is built around [`Code::text`], at offset
//! [`TEXT`]; the lower one holds the figures that the functions read. Both are the same for all programs.
//!
//! ```text
//!   data page   0x00  BASE     time-stamp counter at boot
//!               0x08  RATE     nanoseconds per tick, 32.32 fixed-point
//!               0x10  OFFSETS  for each clock id up to LAST_CLOCK: nanoseconds to add to the time since boot (wrapping)
//!   image page  TEXT           the functions
//! ```
//! Base and rate are constant when the first program starts. Only the offsets change, each a single
//! aligned word that is read and written untorn, and a reader needs one of them: so there is no sequence counter.

use core::ops::Range;

/// Where the functions are in the image's page.
pub const TEXT: usize = 0x400;
pub const BASE: usize = 0;
pub const RATE: usize = 8;
pub const OFFSETS: usize = 16;
/// The largest clock id that the code knows (`CLOCK_TAI`).
pub const LAST_CLOCK: u32 = 11;
/// Ids of clocks that have an offset to the time since boot of their own: `CLOCK_REALTIME`, `_REALTIME_COARSE`, `TAI`.
pub const REALTIME_CLOCKS: [u32; 3] = [0, 5, 11];
/// Ids of clocks that stand still while the machine is suspended: `CLOCK_MONOTONIC`, `_MONOTONIC_RAW`, `_MONOTONIC_COARSE`.
pub const MONOTONIC_CLOCKS: [u32; 3] = [1, 4, 6];
/// A bit for each clock that the code reads: those, and `CLOCK_MONOTONIC`, `_MONOTONIC_RAW`, `_MONOTONIC_COARSE`, `BOOTTIME`. For
/// any other it makes the system call.
pub const CLOCKS: u32 = 1 << 0 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 11;

/// The functions' names, in the order of [`Code::functions`].
pub const NAMES: [&str; 4] = ["__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_getcpu"];

/// What a vDSO is made of.
#[derive(Clone, Debug)]
pub struct Code {
    pub text: &'static [u8],
    /// Where each function is in `text`.
    pub functions: [Range<u32>; NAMES.len()],
    /// The words at [`BASE`] and [`RATE`].
    pub tsc_base: u64,
    pub tsc_to_ns: u64,
}

/// The code; `None` if programs cannot read this machine's clock themselves (the hosted back end).
pub fn code() -> Option<Code> {
    crate::arch::vdso_code()
}
