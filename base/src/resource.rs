//! Who has which part of the I/O and memory address spaces: `/proc/ioports`, `/proc/iomem`.
//!
//! For show, and for drivers to see a conflict early; that two drivers never get the same registers is `frame`'s doing.

use alloc::{string::String, vec::Vec};

use frame::sync::{LockClass, SpinLock};

use crate::{
    errno::{Errno, Result},
    tree::Out,
};

/// A range, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    pub end: u64,
    pub name: String,
}

/// One address space.
pub struct Space {
    /// Sorted by start, larger ranges first: a range stands before what lies in it.
    ranges: SpinLock<Vec<Range>>,
    /// Digits that an address is printed with.
    width: usize,
}

static CLASS: LockClass = LockClass::new("resources");

/// I/O ports.
pub static PORTS: Space = Space::new(4);
/// Physical memory.
pub static MEMORY: Space = Space::new(8);

impl Space {
    const fn new(width: usize) -> Space {
        Space { ranges: SpinLock::new(&CLASS, Vec::new()), width }
    }
    /// Enters a range. EBUSY if it overlaps another without lying in it or holding it.
    pub fn insert(&self, start: u64, end: u64, name: &str) -> Result<()> {
        if end < start {
            return Err(Errno::EINVAL);
        }
        let new = Range { start, end, name: name.into() };
        // Room is made outside of the lock's critical part as far as that is possible: entries are few.
        let mut all = self.ranges.lock();
        let crosses = |r: &Range| {
            let apart = r.end < start || end < r.start;
            let nested = r.start <= start && end <= r.end || start <= r.start && r.end <= end;
            !apart && !nested
        };
        if all.iter().any(crosses) {
            return Err(Errno::EBUSY);
        }
        let at = all.partition_point(|r| (r.start, u64::MAX - r.end) <= (start, u64::MAX - end));
        all.insert(at, new);
        Ok(())
    }
    /// Takes a range out.
    pub fn remove(&self, start: u64, end: u64) {
        self.ranges.lock().retain(|r| (r.start, r.end) != (start, end));
    }
    /// Prints them, nested. Without `addresses`, for those who may not know them, all are zero.
    pub fn show(&self, o: &mut Out, addresses: bool) -> Result<()> {
        let all: Vec<Range> = self.ranges.lock().clone();
        let mut ends: Vec<u64> = Vec::new();
        for r in &all {
            while ends.last().is_some_and(|&e| e < r.start) {
                ends.pop();
            }
            let (a, b) = if addresses { (r.start, r.end) } else { (0, 0) };
            let (depth, w) = (ends.len() * 2, self.width);
            writeln!(o, "{:depth$}{a:0w$x}-{b:0w$x} : {}", "", r.name)?;
            ends.push(r.end);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_nest() {
        let s = Space::new(4);
        s.insert(0x3f8, 0x3ff, "serial").unwrap();
        s.insert(0, 0xcf7, "PCI Bus 0000:00").unwrap();
        s.insert(0x70, 0x71, "rtc0").unwrap();
        s.insert(0xd00, 0xffff, "PCI Bus 0000:00").unwrap();
        assert_eq!(s.insert(0x3fc, 0x403, "x"), Err(Errno::EBUSY));
        assert_eq!(s.insert(5, 4, "x"), Err(Errno::EINVAL));
        let mut o = Out::new();
        s.show(&mut o, true).unwrap();
        let want = "0000-0cf7 : PCI Bus 0000:00\n  0070-0071 : rtc0\n  03f8-03ff : serial\n0d00-ffff : PCI Bus 0000:00\n";
        assert_eq!(String::from_utf8(o.into_vec()).unwrap(), want);
        s.remove(0x3f8, 0x3ff);
        s.insert(0x3f8, 0x3ff, "serial").unwrap();
        let mut o = Out::new();
        s.show(&mut o, false).unwrap();
        assert!(String::from_utf8(o.into_vec()).unwrap().contains("  0000-0000 : serial\n"));
    }
}
