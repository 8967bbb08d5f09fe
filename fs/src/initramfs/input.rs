//! Bytes in: a source with a buffer, and what can be read like one.

use alloc::vec::Vec;

use super::Error;

/// Where the image comes from.
pub trait ByteSource {
    /// Fills `out` from the front; 0 is the end.
    fn read(&mut self, out: &mut [u8]) -> usize;
}

impl ByteSource for &[u8] {
    fn read(&mut self, out: &mut [u8]) -> usize {
        let n = out.len().min(self.len());
        out[..n].copy_from_slice(&self[..n]);
        *self = &self[n..];
        n
    }
}

/// Bytes that are taken in order: the image itself, or what a compressed part of it contains.
pub(super) trait Pull {
    /// The bytes that are at hand; empty only at the end.
    fn available(&mut self) -> Result<&[u8], Error>;
    /// Passes over `n` of them.
    fn consume(&mut self, n: usize);

    /// Fills `out`; an error where the bytes end before.
    fn exact(&mut self, out: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < out.len() {
            let a = self.available()?;
            if a.is_empty() {
                return Err("unexpected end of archive");
            }
            let n = a.len().min(out.len() - done);
            out[done..done + n].copy_from_slice(&a[..n]);
            self.consume(n);
            done += n;
        }
        Ok(())
    }
}

const BUFFER: usize = 16 * 1024;

/// A buffered source.
pub(super) struct Input<'a> {
    source: &'a mut dyn ByteSource,
    buf: Vec<u8>,
    pos: usize,
    offset: u64,
}

impl<'a> Input<'a> {
    pub(super) fn new(source: &'a mut dyn ByteSource) -> Result<Input<'a>, Error> {
        let mut buf = Vec::new();
        buf.try_reserve_exact(BUFFER).map_err(|_| "can't allocate buffers")?;
        Ok(Input { source, buf, pos: 0, offset: 0 })
    }
    /// Bytes taken so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }
    /// Sees to it that at least `n` bytes are at hand, if there are so many. `n` is small.
    fn want(&mut self, n: usize) {
        while self.buf.len() - self.pos < n {
            self.buf.drain(..self.pos);
            self.pos = 0;
            let have = self.buf.len();
            // Within the capacity: no allocation.
            self.buf.resize(BUFFER, 0);
            let got = self.source.read(&mut self.buf[have..]);
            self.buf.truncate(have + got.min(BUFFER - have));
            if got == 0 {
                return;
            }
        }
    }
    pub(super) fn peek2(&mut self) -> [Option<u8>; 2] {
        self.want(2);
        [self.buf.get(self.pos).copied(), self.buf.get(self.pos + 1).copied()]
    }
    pub(super) fn skip_zeros(&mut self) {
        loop {
            self.want(1);
            let rest = &self.buf[self.pos..];
            let n = rest.iter().take_while(|b| **b == 0).count();
            let all = n == rest.len();
            self.consume(n);
            if !all || n == 0 {
                return;
            }
        }
    }
}

impl Pull for Input<'_> {
    fn available(&mut self) -> Result<&[u8], Error> {
        self.want(1);
        Ok(&self.buf[self.pos..])
    }
    fn consume(&mut self, n: usize) {
        let n = n.min(self.buf.len() - self.pos);
        self.pos += n;
        self.offset += n as u64;
    }
}
