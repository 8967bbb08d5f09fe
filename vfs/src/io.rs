//! Where the bytes of a read go and where those of a write come from: kernel slices, user ranges, vectors of user ranges.
//!
//! File systems move data with [`IoDst::put_page`] and [`IoSrc::take_page`] straight between page frames and user memory, without
//! a bounce buffer. A fault part of the way gives a short count; a fault before the first byte is `EFAULT`. That is what
//! read(2) and write(2) show, so callers stop at the first short count and pass it on.

use base::{Errno, Result};
use frame::{page::PageRef, user};

/// One range of user memory, as in `struct iovec`. The kernel's lengths are already capped at `MAX_RW_COUNT` in total.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IoVec {
    pub addr: usize,
    pub len: usize,
}

/// User ranges, taken from the front.
struct UserRanges<'a> {
    addr: usize,
    len: usize,
    rest: &'a [IoVec],
}

impl<'a> UserRanges<'a> {
    fn new(v: &'a [IoVec]) -> Self {
        let mut r = UserRanges { addr: 0, len: 0, rest: v };
        r.settle();
        r
    }
    fn settle(&mut self) {
        while self.len == 0 {
            let Some((first, rest)) = self.rest.split_first() else { return };
            (self.addr, self.len, self.rest) = (first.addr, first.len, rest);
        }
    }
    /// Runs `f(user address, offset, length)`, which says how much it copied, over the next `want` bytes.
    fn each(&mut self, want: usize, mut f: impl FnMut(usize, usize, usize) -> usize) -> Result<usize> {
        let mut done = 0;
        while done < want && self.len > 0 {
            let n = self.len.min(want - done);
            let got = f(self.addr, done, n);
            done += got;
            self.advance(got);
            if got < n {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
        }
        Ok(done)
    }
    #[inline]
    fn advance(&mut self, n: usize) {
        self.addr = self.addr.wrapping_add(n);
        self.len -= n;
        if self.len == 0 {
            self.settle();
        }
    }
}

enum Dst<'a> {
    Kernel(&'a mut [u8]),
    User(UserRanges<'a>),
}

/// The destination of a read.
pub struct IoDst<'a> {
    to: Dst<'a>,
    left: usize,
}

impl<'a> IoDst<'a> {
    /// A slice of kernel memory.
    pub fn kernel(buf: &'a mut [u8]) -> Self {
        Self { left: buf.len(), to: Dst::Kernel(buf) }
    }
    /// One range of user memory.
    pub fn user(addr: usize, len: usize) -> Self {
        let len = len.min(crate::types::MAX_RW_COUNT);
        Self { to: Dst::User(UserRanges { addr, len, rest: &[] }), left: len }
    }
    /// Several ranges of user memory.
    pub fn user_vec(v: &'a [IoVec]) -> Self {
        Self {
            left: v.iter().fold(0usize, |n, x| n.saturating_add(x.len)),
            to: Dst::User(UserRanges::new(v)),
        }
    }
    /// Bytes still wanted.
    #[inline]
    pub fn len(&self) -> usize {
        self.left
    }
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
    /// Copies as much of `data` as fits. Short where user memory faults.
    pub fn put(&mut self, data: &[u8]) -> Result<usize> {
        let want = data.len().min(self.left);
        let n = match &mut self.to {
            Dst::Kernel(b) => {
                let (now, rest) = core::mem::take(b).split_at_mut(want);
                now.copy_from_slice(&data[..want]);
                *b = rest;
                want
            }
            Dst::User(r) => r.each(want, |uva, at, n| user::copy_to_user_partial(uva, &data[at..at + n]))?,
        };
        self.left -= n;
        Ok(n)
    }
    /// Copies `len` bytes from `off` of a page, or as many as fit.
    pub fn put_page(&mut self, page: &PageRef, off: usize, len: usize) -> Result<usize> {
        let want = len.min(self.left);
        let n = match &mut self.to {
            Dst::Kernel(b) => {
                let (now, rest) = core::mem::take(b).split_at_mut(want);
                page.read(off, now);
                *b = rest;
                want
            }
            Dst::User(r) => r.each(want, |uva, at, n| page.copy_to_user(off + at, uva, n))?,
        };
        self.left -= n;
        Ok(n)
    }
    /// Writes `len` zero bytes, or as many as fit.
    pub fn put_zeros(&mut self, len: usize) -> Result<usize> {
        let want = len.min(self.left);
        let n = match &mut self.to {
            Dst::Kernel(b) => {
                let (now, rest) = core::mem::take(b).split_at_mut(want);
                now.fill(0);
                *b = rest;
                want
            }
            Dst::User(r) => r.each(want, |uva, _, n| user::clear_user_partial(uva, n))?,
        };
        self.left -= n;
        Ok(n)
    }
}

enum Src<'a> {
    Kernel(&'a [u8]),
    User(UserRanges<'a>),
}

/// The source of a write.
pub struct IoSrc<'a> {
    from: Src<'a>,
    left: usize,
}

impl<'a> IoSrc<'a> {
    pub fn kernel(buf: &'a [u8]) -> Self {
        Self { left: buf.len(), from: Src::Kernel(buf) }
    }
    pub fn user(addr: usize, len: usize) -> Self {
        let len = len.min(crate::types::MAX_RW_COUNT);
        Self { from: Src::User(UserRanges { addr, len, rest: &[] }), left: len }
    }
    pub fn user_vec(v: &'a [IoVec]) -> Self {
        Self {
            left: v.iter().fold(0usize, |n, x| n.saturating_add(x.len)),
            from: Src::User(UserRanges::new(v)),
        }
    }
    /// Bytes still to come.
    #[inline]
    pub fn len(&self) -> usize {
        self.left
    }
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
    /// Fills `buf` as far as there are bytes. Short where user memory faults.
    pub fn take(&mut self, buf: &mut [u8]) -> Result<usize> {
        let want = buf.len().min(self.left);
        let n = match &mut self.from {
            Src::Kernel(b) => {
                let (now, rest) = b.split_at(want);
                buf[..want].copy_from_slice(now);
                *b = rest;
                want
            }
            Src::User(r) => {
                r.each(want, |uva, at, n| user::copy_from_user_partial(&mut buf[at..at + n], uva))?
            }
        };
        self.left -= n;
        Ok(n)
    }
    /// Fills `len` bytes from `off` of a page, as far as there are bytes.
    pub fn take_page(&mut self, page: &PageRef, off: usize, len: usize) -> Result<usize> {
        let want = len.min(self.left);
        let n = match &mut self.from {
            Src::Kernel(b) => {
                let (now, rest) = b.split_at(want);
                page.write(off, now);
                *b = rest;
                want
            }
            Src::User(r) => r.each(want, |uva, at, n| page.copy_from_user(off + at, uva, n))?,
        };
        self.left -= n;
        Ok(n)
    }
    /// Passes over `n` bytes without reading them (a device that swallows everything).
    pub fn skip(&mut self, n: usize) -> usize {
        let n = n.min(self.left);
        match &mut self.from {
            Src::Kernel(b) => *b = &b[n..],
            Src::User(r) => {
                let mut left = n;
                while left > 0 && r.len > 0 {
                    let k = left.min(r.len);
                    r.advance(k);
                    left -= k;
                }
            }
        }
        self.left -= n;
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_buffers_fill_and_drain() {
        let mut b = [9u8; 6];
        let mut d = IoDst::kernel(&mut b);
        assert_eq!(d.put(b"abc").unwrap(), 3);
        assert_eq!(d.put_zeros(1).unwrap(), 1);
        assert_eq!(d.put(b"defgh").unwrap(), 2);
        assert!(d.is_empty());
        assert_eq!(&b, b"abc\0de");
        let mut s = IoSrc::kernel(b"hello");
        let mut o = [0; 3];
        assert_eq!(s.skip(1), 1);
        assert_eq!(s.take(&mut o).unwrap(), 3);
        assert_eq!(&o, b"ell");
        assert_eq!(s.take(&mut o).unwrap(), 1);
        assert!(s.is_empty());
    }
}
