//! Base address registers: what they ask for, and where they are put if the firmware did not.

use alloc::vec::Vec;

use super::config::Space;

/// Offset of the first BAR.
pub(super) const FIRST: usize = 0x10;
pub(super) const COMMAND: usize = 4;
pub(super) const COMMAND_IO: u16 = 1;
pub(super) const COMMAND_MEMORY: u16 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BarKind {
    Io,
    Memory { wide: bool, prefetchable: bool },
}

/// A range of registers that a device has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bar {
    pub kind: BarKind,
    /// 0: nowhere.
    pub address: u64,
    /// A power of two.
    pub size: u64,
}

impl Bar {
    /// Linux's resource flags, as the file `resource` shows them: the type, that it is aligned to its size, and the low bits of the
    /// register.
    pub fn flags(&self) -> u64 {
        const SIZE_ALIGN: u64 = 0x4_0000;
        SIZE_ALIGN
            | match self.kind {
                BarKind::Io => 0x101,
                BarKind::Memory { wide, prefetchable } => {
                    0x200 | if wide { 0x10_0004 } else { 0 } | if prefetchable { 0x2008 } else { 0 }
                }
            }
    }
}

/// Reads the BARs of a function, `n` of them (6; a bridge has 2). While sizes are asked for it does not answer to its addresses.
pub(super) fn probe(space: &dyn Space, n: usize) -> [Option<Bar>; 6] {
    let mut bars = [None; 6];
    let command = space.read16(COMMAND);
    space.write16(COMMAND, command & !(COMMAND_IO | COMMAND_MEMORY));
    let mut i = 0;
    while i < n {
        let wide_allowed = i + 1 < n;
        let (bar, used) = probe_one(space, FIRST + 4 * i, wide_allowed);
        bars[i] = bar;
        i += used;
    }
    space.write16(COMMAND, command);
    bars
}

/// Writes ones and looks which stay.
fn mask(space: &dyn Space, off: usize) -> (u32, u32) {
    let was = space.read32(off);
    space.write32(off, u32::MAX);
    let mask = space.read32(off);
    space.write32(off, was);
    (was, mask)
}

fn probe_one(space: &dyn Space, off: usize, wide_allowed: bool) -> (Option<Bar>, usize) {
    let (low, low_mask) = mask(space, off);
    if low_mask == 0 || low_mask == u32::MAX && low == u32::MAX {
        return (None, 1);
    }
    if low & 1 != 0 {
        // The upper half may be fixed to zero: ports have 16 bits.
        let m = low_mask & 0xfffc;
        let size = if m == 0 { 0 } else { u64::from(m & m.wrapping_neg()) };
        let bar = Bar { kind: BarKind::Io, address: (low & 0xfffc).into(), size };
        return ((size != 0).then_some(bar), 1);
    }
    let wide = low & 6 == 4 && wide_allowed;
    let kind = BarKind::Memory { wide, prefetchable: low & 8 != 0 };
    let (mut address, mut m) = (u64::from(low & !15), u64::from(low_mask & !15));
    if wide {
        let (high, high_mask) = mask(space, off + 4);
        address |= u64::from(high) << 32;
        m |= u64::from(high_mask) << 32;
    }
    let size = m & m.wrapping_neg();
    let used = if wide { 2 } else { 1 };
    ((size != 0).then_some(Bar { kind, address, size }), used)
}

/// Puts a BAR somewhere.
pub(super) fn place(space: &dyn Space, index: usize, bar: &mut Bar, address: u64) {
    let off = FIRST + 4 * index;
    bar.address = address;
    space.write32(off, address as u32);
    if let BarKind::Memory { wide: true, .. } = bar.kind {
        space.write32(off + 4, (address >> 32) as u32);
    }
}

/// A range of addresses, from which what is taken has been cut: where BARs can be put.
pub(super) struct Window {
    start: u64,
    end: u64,
    /// Sorted by start.
    taken: Vec<(u64, u64)>,
}

impl Window {
    pub(super) fn new(start: u64, end: u64) -> Window {
        Window { start, end, taken: Vec::new() }
    }
    /// Nothing is put there.
    pub(super) fn take(&mut self, start: u64, end: u64) {
        let at = self.taken.partition_point(|t| t.0 < start);
        self.taken.insert(at, (start, end));
    }
    /// The first place of `size` (a power of two) bytes, aligned to its size; taken.
    pub(super) fn find(&mut self, size: u64) -> Option<u64> {
        // No smaller than a page, so that a driver's mapping never shows another device's registers.
        let size = size.max(0x1000);
        let mut at = self.start.checked_next_multiple_of(size)?;
        for &(start, end) in &self.taken {
            if start >= at.checked_add(size)? {
                break;
            }
            at = at.max(end.checked_next_multiple_of(size)?);
        }
        let end = at.checked_add(size)?;
        if end > self.end {
            return None;
        }
        self.take(at, end);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    /// Registers of which some bits stay as they are.
    struct Fake {
        words: [Cell<u32>; 16],
        writable: [u32; 16],
    }
    impl Space for Fake {
        fn read32(&self, off: usize) -> u32 {
            self.words[off / 4].get()
        }
        fn write32(&self, off: usize, v: u32) {
            let (w, m) = (&self.words[off / 4], self.writable[off / 4]);
            w.set(w.get() & !m | v & m);
        }
        fn write16(&self, off: usize, v: u16) {
            let shift = 8 * (off & 2);
            let old = self.read32(off & !3);
            self.write32(off & !3, old & !(0xffff << shift) | u32::from(v) << shift);
        }
        fn write8(&self, _off: usize, _v: u8) {}
    }

    fn fake(bars: &[(u32, u32)]) -> Fake {
        let f = Fake { words: [const { Cell::new(0) }; 16], writable: [0; 16] };
        let mut f = f;
        f.writable[1] = 0xffff;
        f.words[1].set(7);
        for (i, &(value, writable)) in bars.iter().enumerate() {
            f.words[4 + i].set(value);
            f.writable[4 + i] = writable;
        }
        f
    }

    #[test]
    fn kinds_and_sizes() {
        let f = fake(&[
            (0xc001, 0xffe0),
            (0xfebd_1000, 0xffff_f000),
            (0, 0),
            (0, 0),
            (0xfe00_000c, 0xffff_c000),
            (0, u32::MAX),
        ]);
        let b = probe(&f, 6);
        assert_eq!(b[0], Some(Bar { kind: BarKind::Io, address: 0xc000, size: 32 }));
        assert_eq!(b[0].unwrap().flags(), 0x40101);
        let m = BarKind::Memory { wide: false, prefetchable: false };
        assert_eq!(b[1], Some(Bar { kind: m, address: 0xfebd_1000, size: 4096 }));
        assert_eq!(b[1].unwrap().flags(), 0x40200);
        assert_eq!((b[2], b[3], b[5]), (None, None, None));
        let m = BarKind::Memory { wide: true, prefetchable: true };
        assert_eq!(b[4], Some(Bar { kind: m, address: 0xfe00_0000, size: 0x4000 }));
        assert_eq!(b[4].unwrap().flags(), 0x14220c);
        assert_eq!(f.read32(4), 7, "the command is as before");
        assert_eq!(f.read32(0x14), 0xfebd_1000, "and so are the addresses");
    }

    #[test]
    fn nonsense_is_harmless() {
        // Wide in the last register, an absent function, a BAR that claims everything.
        assert_eq!(probe(&fake(&[(0, 0), (4, !15)]), 2)[1].unwrap().size, 16);
        let gone = Fake { words: [const { Cell::new(u32::MAX) }; 16], writable: [0; 16] };
        assert_eq!(probe(&gone, 6), [None; 6]);
        let all = fake(&[(4, !15), (0, u32::MAX)]);
        assert_eq!(probe(&all, 6)[0].unwrap().size, 16);
    }

    proptest! {
        #[test]
        fn places_do_not_overlap(sizes in proptest::collection::vec(0u32..24, 1..40), firm in proptest::collection::vec((0u64..0x400, 1u64..64), 0..8)) {
            let mut w = Window::new(0xc000_0000, 0xfec0_0000);
            let mut all: Vec<(u64, u64)> = Vec::new();
            for (at, pages) in firm {
                let (s, e) = (0xc000_0000 + at * 0x10000, 0xc000_0000 + at * 0x10000 + pages * 4096);
                w.take(s, e);
                all.push((s, e));
            }
            let fixed = all.len();
            for s in sizes {
                if let Some(at) = w.find(1 << s) {
                    prop_assert!(at.is_multiple_of(1 << s) && at >= 0xc000_0000 && at + (1 << s) <= 0xfec0_0000);
                    all.push((at, at + (1 << s).max(4096)));
                }
            }
            for (i, a) in all.iter().enumerate().skip(fixed) {
                for b in &all[..i] {
                    prop_assert!(a.1 <= b.0 || b.1 <= a.0, "{a:x?} {b:x?}");
                }
            }
        }
    }
}
