//! The newc format.
//!
//! ```text
//!   "070701" ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check   (8 hex digits each)
//!   name, NUL, zeros up to a multiple of 4
//!   data, zeros up to a multiple of 4
//! ```
//! The last entry is named `TRAILER!!!`.

use alloc::vec::Vec;

use super::{Error, input::Pull};

const FIXED: usize = 110;
const PATH_MAX: u32 = 4096;
const S_IFMT: u32 = 0o170000;
const S_IFREG: u32 = 0o100000;
const S_IFLNK: u32 = 0o120000;

/// An entry's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    pub ino: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub mtime: u32,
    pub size: u32,
    pub major: u32,
    pub minor: u32,
    pub rdev_major: u32,
    pub rdev_minor: u32,
    name_size: u32,
    /// Sum of the data bytes, if the magic says so.
    check: Option<u32>,
}

/// Is told what the archive contains. An error ends the unpacking.
pub trait Sink {
    /// A regular file begins; its data follows in pieces, then `end_file`. False: leave its data out.
    fn file(&mut self, h: &Header, name: &[u8]) -> Result<bool, Error>;
    fn data(&mut self, bytes: &[u8]) -> Result<(), Error>;
    fn end_file(&mut self) -> Result<(), Error>;
    fn symlink(&mut self, h: &Header, name: &[u8], target: &[u8]) -> Result<(), Error>;
    /// A directory, device, FIFO or socket.
    fn node(&mut self, h: &Header, name: &[u8]) -> Result<(), Error>;
    /// An archive ended: hard links do not reach over this.
    fn trailer(&mut self) -> Result<(), Error>;
}

/// Archives one after the other, with zeros between, up to the end.
pub(super) fn archives(p: &mut dyn Pull, sink: &mut dyn Sink) -> Result<(), Error> {
    loop {
        let a = p.available()?;
        match a.first() {
            None => return Ok(()),
            Some(0) => {
                let n = a.iter().take_while(|b| **b == 0).count();
                p.consume(n);
            }
            Some(b'0') => archive(p, sink)?,
            Some(_) => return Err("junk within compressed archive"),
        }
    }
}

/// One archive, up to its trailer.
pub(super) fn archive(p: &mut dyn Pull, sink: &mut dyn Sink) -> Result<(), Error> {
    loop {
        let mut fixed = [0; FIXED];
        p.exact(&mut fixed)?;
        let h = parse(&fixed)?;
        if h.name_size == 0 || h.name_size > PATH_MAX {
            // As Linux: an entry without a usable name is passed over.
            skip(p, padded(FIXED as u64 + h.name_size as u64) - FIXED as u64 + padded(h.size as u64))?;
            continue;
        }
        let mut name = Vec::new();
        name.try_reserve_exact(h.name_size as usize).map_err(|_| "can't allocate buffers")?;
        name.resize(h.name_size as usize, 0);
        p.exact(&mut name)?;
        skip(p, padded(FIXED as u64 + h.name_size as u64) - FIXED as u64 - h.name_size as u64)?;
        if name.pop() != Some(0) {
            return Err("malformed archive");
        }
        // What follows an inner NUL is not part of the name.
        let name = name.split(|b| *b == 0).next().unwrap_or(&[]);
        if name == b"TRAILER!!!" {
            skip(p, padded(h.size as u64))?;
            return sink.trailer();
        }
        entry(p, sink, &h, name)?;
        skip(p, padded(h.size as u64) - h.size as u64)?;
    }
}

fn entry(p: &mut dyn Pull, sink: &mut dyn Sink, h: &Header, name: &[u8]) -> Result<(), Error> {
    match h.mode & S_IFMT {
        S_IFREG => {
            let wanted = sink.file(h, name)?;
            let mut left = h.size as u64;
            let mut sum = 0u32;
            while left > 0 {
                let a = p.available()?;
                if a.is_empty() {
                    return Err("unexpected end of archive");
                }
                let a = &a[..(a.len() as u64).min(left) as usize];
                if wanted {
                    sink.data(a)?;
                }
                sum = a.iter().fold(sum, |s, b| s.wrapping_add(*b as u32));
                let n = a.len();
                p.consume(n);
                left -= n as u64;
            }
            if wanted {
                sink.end_file()?;
            }
            // A file whose data is left out (an empty later link) has nothing to sum.
            if h.check.is_some_and(|c| c != sum) && h.size > 0 {
                return Err("bad data checksum");
            }
            Ok(())
        }
        S_IFLNK if h.size > 0 && h.size <= PATH_MAX => {
            let mut target = Vec::new();
            target.try_reserve_exact(h.size as usize).map_err(|_| "can't allocate buffers")?;
            target.resize(h.size as usize, 0);
            p.exact(&mut target)?;
            let end = target.iter().position(|b| *b == 0).unwrap_or(target.len());
            sink.symlink(h, name, &target[..end])
        }
        S_IFLNK => skip(p, h.size as u64),
        _ => {
            sink.node(h, name)?;
            skip(p, h.size as u64)
        }
    }
}

fn parse(b: &[u8; FIXED]) -> Result<Header, Error> {
    let check = match &b[..6] {
        b"070701" => false,
        b"070702" => true,
        b"070707" => return Err("incorrect cpio method used: use -H newc option"),
        _ => return Err("no cpio magic"),
    };
    let mut f = [0u32; 13];
    for (v, digits) in f.iter_mut().zip(b[6..].chunks_exact(8)) {
        for d in digits {
            let d = (*d as char).to_digit(16).ok_or("malformed archive")?;
            *v = *v << 4 | d;
        }
    }
    let [ino, mode, uid, gid, nlink, mtime, size, major, minor, rdev_major, rdev_minor, name_size, sum] = f;
    Ok(Header {
        ino,
        mode,
        uid,
        gid,
        nlink,
        mtime,
        size,
        major,
        minor,
        rdev_major,
        rdev_minor,
        name_size,
        check: check.then_some(sum),
    })
}

/// Rounds up to a multiple of 4.
fn padded(n: u64) -> u64 {
    n.next_multiple_of(4)
}

fn skip(p: &mut dyn Pull, mut n: u64) -> Result<(), Error> {
    while n > 0 {
        let have = p.available()?.len() as u64;
        if have == 0 {
            return Err("unexpected end of archive");
        }
        let k = have.min(n);
        p.consume(k as usize);
        n -= k;
    }
    Ok(())
}
