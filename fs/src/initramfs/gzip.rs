//! One gzip member (RFC 1952), decompressed as it is read.

use alloc::{boxed::Box, vec::Vec};

use miniz_oxide::{
    DataFormat, MZError, MZFlush, MZStatus,
    inflate::stream::{InflateState, inflate},
};

use super::{
    Error,
    input::{Input, Pull},
};

const OUT: usize = 32 * 1024;

const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;

pub(super) struct Gzip<'a, 'b> {
    input: &'a mut Input<'b>,
    state: Box<InflateState>,
    out: Vec<u8>,
    pos: usize,
    ended: bool,
    crc: u32,
    total: u32,
}

impl<'a, 'b> Gzip<'a, 'b> {
    /// Reads the header.
    pub(super) fn new(input: &'a mut Input<'b>) -> Result<Self, Error> {
        let mut h = [0; 10];
        input.exact(&mut h)?;
        if h[2] != 8 {
            return Err("uncompression error");
        }
        let flags = h[3];
        if flags & FEXTRA != 0 {
            let mut n = [0; 2];
            input.exact(&mut n)?;
            for _ in 0..u16::from_le_bytes(n) {
                input.exact(&mut [0])?;
            }
        }
        for f in [FNAME, FCOMMENT] {
            let mut b = [1];
            while flags & f != 0 && b[0] != 0 {
                input.exact(&mut b)?;
            }
        }
        if flags & FHCRC != 0 {
            input.exact(&mut [0; 2])?;
        }
        let mut out = Vec::new();
        out.try_reserve_exact(OUT).map_err(|_| "can't allocate buffers")?;
        let state = InflateState::new_boxed(DataFormat::Raw);
        Ok(Gzip { input, state, out, pos: 0, ended: false, crc: 0, total: 0 })
    }
    /// Reads what is left and checks the trailer.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        loop {
            let n = self.available()?.len();
            if n == 0 {
                break;
            }
            self.consume(n);
        }
        let mut t = [0; 8];
        self.input.exact(&mut t)?;
        if t[..4] != self.crc.to_le_bytes() {
            return Err("crc error");
        }
        if t[4..] != self.total.to_le_bytes() {
            return Err("length error");
        }
        Ok(())
    }
}

impl Pull for Gzip<'_, '_> {
    fn available(&mut self) -> Result<&[u8], Error> {
        while self.pos == self.out.len() && !self.ended {
            self.pos = 0;
            // Within the capacity: no allocation.
            self.out.resize(OUT, 0);
            let from = self.input.available()?;
            let at_end = from.is_empty();
            let r = inflate(&mut self.state, from, &mut self.out, MZFlush::None);
            self.input.consume(r.bytes_consumed);
            self.out.truncate(r.bytes_written);
            self.crc = crc32(self.crc, &self.out);
            self.total = self.total.wrapping_add(r.bytes_written as u32);
            match r.status {
                Ok(MZStatus::StreamEnd) => self.ended = true,
                Ok(_) | Err(MZError::Buf) if at_end && r.bytes_written == 0 => {
                    return Err("unexpected end of archive");
                }
                Ok(_) | Err(MZError::Buf) => {}
                // What came before the fault is passed on, however the input was cut; the next call meets the fault again.
                Err(_) if r.bytes_written > 0 => {}
                Err(_) => return Err("uncompression error"),
            }
        }
        Ok(&self.out[self.pos..])
    }
    fn consume(&mut self, n: usize) {
        self.pos = (self.pos + n).min(self.out.len());
    }
}

/// CRC-32 as in gzip (reflected 0x04c11db7), continued from `crc`.
pub(super) fn crc32(crc: u32, data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut t = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut c = i as u32;
            let mut k = 0;
            while k < 8 {
                c = if c & 1 != 0 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
                k += 1;
            }
            t[i] = c;
            i += 1;
        }
        t
    };
    !data.iter().fold(!crc, |c, b| TABLE[((c ^ *b as u32) & 0xff) as usize] ^ (c >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands before the fault is given first, however much of it the decompressor met in one go.
    #[test]
    fn a_fault_does_not_take_away_what_came_before() {
        let good = b"070701 and so on";
        let n = good.len() as u16;
        let mut z = b"\x1f\x8b\x08\0\0\0\0\0\0\0\0".to_vec();
        z.extend(n.to_le_bytes());
        z.extend((!n).to_le_bytes());
        z.extend(good);
        // A block of the type that does not exist.
        z.push(7);
        let mut source = &z[..];
        let mut input = Input::new(&mut source).unwrap();
        let mut g = Gzip::new(&mut input).unwrap();
        let mut out = [0; 16];
        assert_eq!(g.exact(&mut out), Ok(()));
        assert_eq!(out, *good);
        assert_eq!(g.available(), Err("uncompression error"));
        assert_eq!(g.available(), Err("uncompression error"));
    }
}
