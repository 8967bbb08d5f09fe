//! The alternate signal stack (`sigaltstack(2)`).

use base::{Errno, Result};

const SS_ONSTACK: u32 = 1;
const SS_DISABLE: u32 = 2;
const SS_AUTODISARM: u32 = 1 << 31;
/// Bytes that a stack must have: Linux's `MINSIGSTKSZ`.
const MINSIGSTKSZ: u64 = 2048;

/// A thread's alternate stack. Size 0: none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AltStack {
    pub sp: u64,
    pub size: u64,
    pub flags: u32,
}

impl AltStack {
    /// True if `sp` lies on it. The stack grows down: its lowest address is not on it, its end is.
    fn holds(&self, sp: u64) -> bool {
        sp > self.sp && sp - self.sp <= self.size
    }
    /// True if the program runs on it now.
    pub fn in_use(&self, sp: u64) -> bool {
        self.flags & SS_AUTODISARM == 0 && self.holds(sp)
    }
    fn status(&self, sp: u64) -> u32 {
        if self.size == 0 {
            SS_DISABLE
        } else if self.in_use(sp) {
            SS_ONSTACK
        } else {
            0
        }
    }
    /// Where a handler with `SA_ONSTACK` starts when the program's stack pointer is `sp`.
    pub fn entry(&self, sp: u64) -> u64 {
        if self.status(sp) == 0 { self.sp.wrapping_add(self.size) } else { sp }
    }
    /// True if a frame at `sp` has left the alternate stack through its bottom.
    pub fn overflowed(&self, before: u64, sp: u64) -> bool {
        self.size != 0 && (self.holds(before) || before == self.sp.wrapping_add(self.size)) && !self.holds(sp)
    }
    pub fn auto_disarm(&mut self) {
        if self.flags & SS_AUTODISARM != 0 {
            *self = AltStack::default();
        }
    }
    /// `stack_t`: pointer, flags, size.
    pub fn to_bytes(&self, sp: u64) -> [u8; 24] {
        let mut b = [0; 24];
        b[0..8].copy_from_slice(&self.sp.to_le_bytes());
        b[8..12].copy_from_slice(&(self.status(sp) | self.flags & SS_AUTODISARM).to_le_bytes());
        b[16..24].copy_from_slice(&self.size.to_le_bytes());
        b
    }
    /// A new stack from a `stack_t`; `EPERM` while the old one is in use.
    pub fn replace(&self, b: &[u8; 24], sp: u64) -> Result<AltStack> {
        let long = |at: usize| u64::from_le_bytes(core::array::from_fn(|k| b[at + k]));
        let flags = u32::from_le_bytes([b[8], b[9], b[10], b[11]]);
        if self.in_use(sp) {
            return Err(Errno::EPERM);
        }
        let mode = flags & !SS_AUTODISARM;
        match mode {
            SS_DISABLE => Ok(AltStack { sp: 0, size: 0, flags: flags & SS_AUTODISARM }),
            0 | SS_ONSTACK if long(16) < MINSIGSTKSZ => Err(Errno::ENOMEM),
            0 | SS_ONSTACK => Ok(AltStack { sp: long(0), size: long(16), flags }),
            _ => Err(Errno::EINVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_is_entered_once() {
        let a = AltStack { sp: 0x1000, size: 0x2000, flags: 0 };
        assert_eq!(a.entry(0x9000), 0x3000);
        assert_eq!(a.entry(0x2000), 0x2000);
        assert!(a.in_use(0x3000) && !a.in_use(0x1000) && !a.in_use(0x3001));
        assert!(a.overflowed(0x1100, 0xf00) && !a.overflowed(0x9000, 0x8000));
        assert_eq!(a.replace(&AltStack::default().to_bytes(0), 0x2000), Err(Errno::EPERM));
        let small = AltStack { sp: 1, size: 100, flags: 0 };
        assert_eq!(a.replace(&small.to_bytes(0x9000), 0x9000), Err(Errno::ENOMEM));
    }
}
