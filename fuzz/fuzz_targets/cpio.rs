//! The initramfs: arbitrary bytes in, calls to a sink out. The sink checks that the calls keep the protocol.
//!
//! - names are whole path names: no NUL, shorter than `PATH_MAX`, and never the trailer's;
//! - a file's data is exactly as long as its header says, comes between `file` and `end_file`, and not at all if the sink declined;
//! - an image gives the same calls however its bytes arrive.
#![no_main]

use std::hash::{DefaultHasher, Hash, Hasher};

use fs::initramfs::{ByteSource, Error, Header, Sink, unpack};
use libfuzzer_sys::fuzz_target;

const S_IFMT: u32 = 0o170000;
const S_IFREG: u32 = 0o100000;
const S_IFLNK: u32 = 0o120000;
const PATH_MAX: usize = 4096;
/// A small image can say "64 MiB of zeroes" with gzip, but each run should be short.
const MAX_BYTES: u64 = 4 << 20;
const ENOUGH: Error = "enough";

#[derive(Default)]
struct Check {
    /// Bytes that are still due of the file that is open.
    open: Option<u64>,
    seen: u64,
    calls: DefaultHasher,
}

impl Check {
    fn note(&mut self, call: u8, h: Option<&Header>, name: &[u8]) -> Result<(), Error> {
        assert!(self.open.is_none(), "the file before was not ended");
        if let Some(h) = h {
            assert!(name.len() < PATH_MAX && !name.contains(&0) && name != b"TRAILER!!!");
            (h.ino, h.mode, h.uid, h.gid, h.nlink, h.mtime, h.size).hash(&mut self.calls);
            (h.major, h.minor, h.rdev_major, h.rdev_minor).hash(&mut self.calls);
        }
        (call, name).hash(&mut self.calls);
        self.count(1 + name.len())
    }
    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.seen += bytes as u64;
        if self.seen > MAX_BYTES { Err(ENOUGH) } else { Ok(()) }
    }
}

impl Sink for Check {
    fn file(&mut self, h: &Header, name: &[u8]) -> Result<bool, Error> {
        self.note(1, Some(h), name)?;
        assert_eq!(h.mode & S_IFMT, S_IFREG);
        // Every other inode is declined.
        let wanted = h.ino % 2 == 0;
        self.open = wanted.then_some(h.size as u64);
        Ok(wanted)
    }
    fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let due = self.open.as_mut().expect("data without a file");
        assert!(!bytes.is_empty());
        *due = due.checked_sub(bytes.len() as u64).expect("more data than the header says");
        // Byte by byte: pieces may be cut differently.
        bytes.iter().for_each(|b| self.calls.write_u8(*b));
        self.count(bytes.len())
    }
    fn end_file(&mut self) -> Result<(), Error> {
        assert_eq!(self.open.take(), Some(0), "a file ended early");
        Ok(())
    }
    fn symlink(&mut self, h: &Header, name: &[u8], target: &[u8]) -> Result<(), Error> {
        self.note(2, Some(h), name)?;
        assert_eq!(h.mode & S_IFMT, S_IFLNK);
        assert!(target.len() <= PATH_MAX && target.len() <= h.size as usize && !target.contains(&0));
        target.hash(&mut self.calls);
        Ok(())
    }
    fn node(&mut self, h: &Header, name: &[u8]) -> Result<(), Error> {
        self.note(3, Some(h), name)?;
        assert!(!matches!(h.mode & S_IFMT, S_IFREG | S_IFLNK));
        Ok(())
    }
    fn trailer(&mut self) -> Result<(), Error> {
        self.note(4, None, &[])
    }
}

/// Gives a few bytes at a time.
struct Drip<'a>(&'a [u8], usize);

impl ByteSource for Drip<'_> {
    fn read(&mut self, out: &mut [u8]) -> usize {
        self.1 = self.1 % 17 + 1;
        let n = out.len().min(self.1);
        self.0.read(&mut out[..n])
    }
}

fuzz_target!(|data: &[u8]| {
    let (mut whole, mut drip) = (Check::default(), Check::default());
    let a = unpack(&mut &*data, &mut whole);
    let b = unpack(&mut Drip(data, 0), &mut drip);
    // Where the sink gives up depends on the pieces.
    if a != Err(ENOUGH) && b != Err(ENOUGH) {
        assert_eq!(a, b, "the answer depends on how the bytes arrive");
        assert_eq!(whole.calls.finish(), drip.calls.finish());
    }
    if a.is_ok() {
        assert!(whole.open.is_none());
    }
});
