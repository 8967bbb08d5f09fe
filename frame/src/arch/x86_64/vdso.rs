//! The vDSO's code: `vdso.s`, and what its clock needs to know.

use core::arch::global_asm;

use super::{clock, desc};
use crate::vdso::{BASE, CLOCKS, Code, LAST_CLOCK, NAMES, OFFSETS, RATE, TEXT};

global_asm!(
    include_str!("vdso.s"),
    TEXT = const TEXT,
    BASE = const BASE,
    RATE = const RATE,
    OFFSETS = const OFFSETS,
    CLOCKS = const CLOCKS,
    LAST = const LAST_CLOCK,
    CPU_SEL = const desc::CPU_SEL,
    options(att_syntax)
);

// SAFETY: the declarations match the labels of the assembly above.
unsafe extern "C" {
    static vdso_text_start: u8;
    static vdso_text_end: u8;
    static vdso_functions: [[u32; 2]; NAMES.len()];
}

/// The code and the clock's figures, which no longer change once `calibrate` has run.
pub fn vdso_code() -> Option<Code> {
    // SAFETY: the symbols enclose bytes of the image's read-only part, and the table behind them, aligned, has this type.
    let (text, functions) = unsafe {
        let start = &raw const vdso_text_start;
        let len = (&raw const vdso_text_end).addr() - start.addr();
        (core::slice::from_raw_parts(start, len), vdso_functions)
    };
    let (tsc_base, tsc_to_ns) = clock::tsc_factors();
    Some(Code { text, functions: functions.map(|[a, b]| a..b), tsc_base, tsc_to_ns })
}
