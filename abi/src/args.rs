//! Arguments: from registers to values, from user memory to structures, and back.
//!
//! A program passes six 64-bit words. Linux's handlers are C functions, so a narrower parameter sees the low bits of its
//! register and nothing else: [`Args::int`] and its kin cut in the same way. A pointer is an allegation (see `frame::user`); what it
//! points to is copied once, then judged, and never read again.

use alloc::{boxed::Box, vec::Vec};

use base::{Errno, Result};
use frame::user::{self, Regs};
use vfs::{IoVec, MAX_RW_COUNT, PATH_MAX, Timespec};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What a handler gives: the value for `rax`, or an error.
pub(crate) type Ret = Result<usize>;

/// The most ranges of one vectored transfer (`UIO_MAXIOV`).
pub const IOV_MAX: usize = 1024;
/// Ranges that need no allocation: Linux's `UIO_FASTIOV`.
const IOV_INLINE: usize = 8;
/// Nanoseconds of a second.
pub const NS_PER_SEC: u64 = 1_000_000_000;

/// The argument registers, in their order: `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9`.
pub(crate) trait Args {
    /// Argument `N`, 0 to 5, as it is.
    fn word<const N: usize>(&self) -> u64;
    #[inline]
    fn int<const N: usize>(&self) -> i32 {
        self.word::<N>() as i32
    }
    #[inline]
    fn uint<const N: usize>(&self) -> u32 {
        self.word::<N>() as u32
    }
    #[inline]
    fn long<const N: usize>(&self) -> i64 {
        self.word::<N>() as i64
    }
    #[inline]
    fn size<const N: usize>(&self) -> usize {
        self.word::<N>() as usize
    }
    /// A user address, or `None` for the null pointer.
    #[inline]
    fn ptr<const N: usize>(&self) -> Option<usize> {
        let p = self.word::<N>() as usize;
        (p != 0).then_some(p)
    }
}

impl Args for Regs {
    #[inline]
    fn word<const N: usize>(&self) -> u64 {
        match N {
            0 => self.rdi,
            1 => self.rsi,
            2 => self.rdx,
            3 => self.r10,
            4 => self.r8,
            _ => self.r9,
        }
    }
}

/// Copies a structure in.
pub(crate) fn get<T: FromBytes + IntoBytes>(at: usize) -> Result<T> {
    let mut v = T::new_zeroed();
    user::copy_from_user(v.as_mut_bytes(), at)?;
    Ok(v)
}

/// Copies a structure out.
pub(crate) fn put<T: IntoBytes + Immutable + ?Sized>(at: usize, v: &T) -> Result<()> {
    Ok(user::copy_to_user(at, v.as_bytes())?)
}

/// Copies a structure out, unless the program does not want it.
pub(crate) fn put_opt<T: IntoBytes + Immutable>(at: Option<usize>, v: &T) -> Result<()> {
    at.map_or(Ok(()), |at| put(at, v))
}

/// Copies a structure that may grow (`clone3`, `openat2`, `sched_attr`): `size` is what the program knows. What it has beyond what we
/// know must be zero, `E2BIG` otherwise; what it lacks is zero.
pub(crate) fn get_growing<T: FromBytes + IntoBytes + Immutable>(at: usize, size: usize) -> Result<T> {
    let mut v = T::new_zeroed();
    let known = v.as_bytes().len();
    let n = size.min(known);
    user::copy_from_user(&mut v.as_mut_bytes()[..n], at)?;
    let mut rest = [0u8; 64];
    let mut done = n;
    while done < size {
        let k = rest.len().min(size - done);
        user::copy_from_user(&mut rest[..k], at + done)?;
        if rest[..k].iter().any(|b| *b != 0) {
            return Err(Errno::E2BIG);
        }
        done += k;
    }
    Ok(v)
}

/// Paths up to this length lie on the kernel stack.
const PATH_INLINE: usize = 128;

/// A path copied from user memory, without its NUL. A short one, as most are, costs no allocation.
pub(crate) struct UserPath {
    short: [u8; PATH_INLINE],
    len: usize,
    long: Option<Box<[u8]>>,
}

impl UserPath {
    /// `EFAULT`; `ENAMETOOLONG` where no NUL comes within `PATH_MAX`.
    pub(crate) fn get(at: usize) -> Result<UserPath> {
        let mut p = UserPath { short: [0; PATH_INLINE], len: 0, long: None };
        p.len = user::read_user_str(at, &mut p.short)?;
        if p.len == PATH_INLINE {
            let mut b = buffer(PATH_MAX)?;
            let n = user::read_user_str(at, &mut b)?;
            if n == PATH_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            b.truncate(n);
            p.long = Some(b.into_boxed_slice());
        }
        Ok(p)
    }
}

impl core::ops::Deref for UserPath {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.long.as_deref().unwrap_or(&self.short[..self.len])
    }
}

/// A string of at most `max` bytes without its NUL, else `too_long`.
pub(crate) fn string(at: usize, max: usize, too_long: Errno) -> Result<Vec<u8>> {
    let mut b = buffer(max + 1)?;
    let n = user::read_user_str(at, &mut b)?;
    if n > max {
        return Err(too_long);
    }
    b.truncate(n);
    Ok(b)
}

/// Zeroed kernel memory of a size that the program chose.
pub(crate) fn buffer(len: usize) -> Result<Vec<u8>> {
    let mut b = Vec::new();
    b.try_reserve_exact(len)?;
    b.resize(len, 0);
    Ok(b)
}

/// `len` bytes of user memory.
pub(crate) fn bytes(at: usize, len: usize) -> Result<Vec<u8>> {
    let mut b = buffer(len)?;
    user::copy_from_user(&mut b, at)?;
    Ok(b)
}

/// A `struct iovec` array, checked.
pub(crate) struct IoVecs {
    inline: [IoVec; IOV_INLINE],
    len: usize,
    heap: Vec<IoVec>,
}

impl IoVecs {
    /// `EINVAL`: too many, or a negative length; `EFAULT`: the array, or a range outside of user memory. The total is cut at `MAX_RW_COUNT`.
    pub(crate) fn get(at: usize, count: usize) -> Result<IoVecs> {
        if count > IOV_MAX {
            return Err(Errno::EINVAL);
        }
        let mut v = IoVecs { inline: [IoVec::default(); IOV_INLINE], len: count, heap: Vec::new() };
        if count > IOV_INLINE {
            v.heap.try_reserve_exact(count)?;
            v.heap.resize(count, IoVec::default());
        }
        let list = if count > IOV_INLINE { &mut v.heap[..] } else { &mut v.inline[..count] };
        for (i, slot) in list.iter_mut().enumerate() {
            let [addr, len] = get::<[u64; 2]>(at.wrapping_add(i * 16))?;
            *slot = IoVec { addr: addr as usize, len: len as usize };
        }
        check_iovecs(list)?;
        Ok(v)
    }
}

impl core::ops::Deref for IoVecs {
    type Target = [IoVec];
    fn deref(&self) -> &[IoVec] {
        if self.len > IOV_INLINE { &self.heap } else { &self.inline[..self.len] }
    }
}

fn check_iovecs(list: &mut [IoVec]) -> Result<()> {
    if list.iter().any(|v| (v.len as isize) < 0) {
        return Err(Errno::EINVAL);
    }
    let mut room = MAX_RW_COUNT;
    for v in list {
        if v.len != 0 && !user::range_ok(v.addr, v.len) {
            return Err(Errno::EFAULT);
        }
        v.len = v.len.min(room);
        room -= v.len;
    }
    Ok(())
}

/// `struct timespec`, checked: `EINVAL` for negative seconds or nanoseconds outside of a second.
pub(crate) fn timespec(at: usize) -> Result<Timespec> {
    let [sec, nsec] = get::<[i64; 2]>(at)?;
    if sec < 0 || !(0..NS_PER_SEC as i64).contains(&nsec) {
        return Err(Errno::EINVAL);
    }
    Ok(Timespec { sec, nsec: nsec as u32 })
}

/// Nanoseconds, saturating: the far future is for ever.
pub(crate) fn to_ns(t: Timespec) -> u64 {
    (t.sec.max(0) as u64).saturating_mul(NS_PER_SEC).saturating_add(t.nsec as u64)
}

/// A `struct timespec` as two words.
pub(crate) fn split_ns(ns: u64) -> [u64; 2] {
    [ns / NS_PER_SEC, ns % NS_PER_SEC]
}

/// A `struct timeval` as two words.
pub(crate) fn split_us(ns: u64) -> [u64; 2] {
    [ns / NS_PER_SEC, ns % NS_PER_SEC / 1000]
}

/// `struct timeval` in nanoseconds: `EINVAL` for negative seconds or microseconds outside of a second.
pub(crate) fn timeval_ns(at: usize) -> Result<u64> {
    let [sec, us] = get::<[i64; 2]>(at)?;
    timeval_words(sec, us)
}

pub(crate) fn timeval_words(sec: i64, us: i64) -> Result<u64> {
    if sec < 0 || !(0..1_000_000).contains(&us) {
        return Err(Errno::EINVAL);
    }
    Ok((sec as u64).saturating_mul(NS_PER_SEC).saturating_add(us as u64 * 1000))
}

/// The point in monotonic time that lies `ns` ahead; 0 stays 0, "at once".
pub(crate) fn deadline(ns: u64) -> u64 {
    if ns == 0 { 0 } else { sched::time::now_ns().saturating_add(ns) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_arguments_ignore_high_bits() {
        let r = Regs { rdi: 0xdead_beef_ffff_ffff, r10: 7, ..Regs::default() };
        assert_eq!((r.int::<0>(), r.uint::<0>(), r.size::<3>()), (-1, u32::MAX, 7));
        assert_eq!((r.ptr::<1>(), r.ptr::<3>()), (None, Some(7)));
    }
    #[test]
    fn iovecs_are_checked_and_capped() {
        let v = |len| IoVec { addr: 0x1000, len };
        assert_eq!(check_iovecs(&mut [v(1), v(usize::MAX)]), Err(Errno::EINVAL));
        assert_eq!(check_iovecs(&mut [v(1), IoVec { addr: usize::MAX - 5, len: 2 }]), Err(Errno::EFAULT));
        assert_eq!(check_iovecs(&mut [IoVec { addr: usize::MAX, len: 0 }]), Ok(()));
        let mut two = [v(MAX_RW_COUNT - 1), v(100)];
        assert_eq!(check_iovecs(&mut two), Ok(()));
        assert_eq!(two[1].len, 1);
        assert_eq!(IoVecs::get(0, IOV_MAX + 1).err(), Some(Errno::EINVAL));
    }
    #[test]
    fn times_outside_of_a_second_are_wrong() {
        assert_eq!(timeval_words(1, 1_000_000), Err(Errno::EINVAL));
        assert_eq!(timeval_words(-1, 0), Err(Errno::EINVAL));
        assert_eq!(timeval_words(i64::MAX, 0), Ok(u64::MAX));
        assert_eq!(split_us(1_000_002_999), [1, 2]);
        assert_eq!(to_ns(Timespec { sec: i64::MAX, nsec: 1 }), u64::MAX);
    }
}
