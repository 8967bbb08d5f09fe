//! Program headers: whatever the file says, the image that comes out can be mapped without a surprise.
//!
//! The loader trusts what `parse` accepted, so the checks here are the loader's assumptions: page-aligned pieces that join up, lie
//! in the user half, can be rounded up, and clear nothing but the tail of a page that came from the file.
#![no_main]

use std::cell::Cell;

use base::{Errno, Result};
use libfuzzer_sys::fuzz_target;
use process::elf::{self, Image, Kind, PAGE, ReadAt, Segment};

/// Gives a few bytes at a time, as a file may, and counts what was asked for.
struct Slow<'a> {
    bytes: &'a [u8],
    asked: Cell<usize>,
}

impl ReadAt for Slow<'_> {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize> {
        self.asked.set(self.asked.get().max(out.len()));
        let n = out.len().min(1 + (offset % 61) as usize);
        self.bytes.read_at(offset, &mut out[..n])
    }
}

fuzz_target!(|data: &[u8]| {
    let slow = Slow { bytes: data, asked: Cell::new(0) };
    let parsed = elf::parse(&data);
    assert_eq!(parsed, elf::parse(&slow), "the answer depends on how the bytes arrive");
    assert!(slow.asked.get() <= 65536, "the file made us ask for {} bytes at once", slow.asked.get());
    match parsed {
        Ok(image) => check(&image, data),
        Err(e) => assert_eq!(e, Errno::ENOEXEC),
    }
});

fn check(i: &Image, data: &[u8]) {
    assert!(!i.segments.is_empty() && i.segments.len() <= i.phnum as usize);
    let end = frame::user::END as u64;
    assert!(i.align.is_power_of_two() && i.align >= PAGE && i.align < end);
    if let Some(name) = &i.interp {
        assert!(name.len() < 4096 && !name.contains(&0));
        assert!(name.is_empty() || data.windows(name.len()).any(|w| w == name));
    }

    let span = i.span();
    assert!(span.start % PAGE == 0 && span.end % PAGE == 0 && span.start <= span.end && span.end <= end);
    assert!((span.start..=span.end).contains(&i.brk()));
    for s in &i.segments {
        assert!(s.filesz <= s.memsz && s.vaddr >= span.start && s.vaddr + s.memsz <= span.end);
        plan(s, &span);
    }
    // A relocatable image is tried at the lowest and the highest place that the loader could choose.
    if i.kind == Kind::Relocatable {
        for base in [0, (end - (span.end - span.start)) & !(i.align - 1)] {
            let bias = base.wrapping_sub(span.start);
            for s in &i.segments {
                let m = s.mapping();
                let at = m.addr.wrapping_add(bias);
                assert!(at >= base && at.checked_add(m.file_len).is_some_and(|e| e <= end));
                assert!(m.anon.end.wrapping_add(bias) <= end);
            }
        }
    }
}

fn plan(s: &Segment, span: &std::ops::Range<u64>) {
    let m = s.mapping();
    for n in [m.addr, m.file_len, m.offset, m.anon.start, m.anon.end] {
        assert_eq!(n % PAGE, 0, "{m:x?}");
    }
    // The pieces join: file pages, then zero pages, and together they hold the segment.
    assert_eq!(m.addr + m.file_len, m.anon.start);
    assert!(m.anon.start <= m.anon.end && m.addr >= span.start && m.anon.end <= span.end);
    assert!(m.addr <= s.vaddr && s.vaddr - m.addr < PAGE && m.anon.end >= s.vaddr + s.memsz);
    // Each byte of memory shows the byte of the file that the header promises, and the file offset can be rounded up.
    assert_eq!(s.vaddr - m.addr, s.offset - m.offset);
    assert!((m.offset + m.file_len) <= i64::MAX as u64);
    assert!(s.filesz == 0 || m.file_len >= s.vaddr - m.addr + s.filesz);
    // Only the part of the last file page that is not the file's is cleared.
    if !m.zero.is_empty() {
        assert_eq!((m.zero.start, m.zero.end), (s.vaddr + s.filesz, m.anon.start));
        assert!(m.zero.end - m.zero.start < PAGE && m.zero.start > m.addr);
    }
}
