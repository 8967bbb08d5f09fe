//! Unpacking the initramfs: what the boot loader left in memory becomes the root file system.
//!
//! The image is a sequence of archives in cpio's "newc" format (magic 070701, or 070702 with checksums), each plain or compressed with
//! gzip, with zeros in between ("initramfs buffer format" in the kernel's documentation). [`unpack`] reads them from any
//! [`ByteSource`] and tells a [`Sink`] what it finds; it does nothing else, so hostile images can be tried on it directly. [`root`] is
//! the sink that makes files.
//!
//! An error ends the unpacking with a message; what came before it stays.

mod cpio;
mod gzip;
mod input;
mod root;

use alloc::sync::Arc;

use base::{cred::Cred, pr_emerg, pr_info};
use vfs::{Ctx, Path};

pub use cpio::{Header, Sink};
pub use input::ByteSource;

/// Why unpacking ended early: the text for the log.
pub type Error = &'static str;

/// Reads all archives of `source`. Pure: touches nothing but the two.
pub fn unpack(source: &mut dyn ByteSource, sink: &mut dyn Sink) -> Result<(), Error> {
    let mut input = input::Input::new(source)?;
    let start = input.offset();
    loop {
        input.skip_zeros();
        match input.peek2() {
            [None, _] => return Ok(()),
            [Some(b'0'), _] if (input.offset() - start) % 4 == 0 => cpio::archive(&mut input, sink)?,
            [Some(0x1f), Some(0x8b)] => {
                let mut z = gzip::Gzip::new(&mut input)?;
                // Several archives may stand in one compressed stream.
                cpio::archives(&mut z, sink)?;
                z.finish()?;
            }
            _ => return Err("invalid magic at start of compressed archive"),
        }
    }
}

/// The image in boot memory.
struct BootImage {
    at: usize,
}

impl ByteSource for BootImage {
    fn read(&mut self, out: &mut [u8]) -> usize {
        let n = frame::boot::read_initrd(self.at, out);
        self.at += n;
        n
    }
}

/// Unpacks the image that the boot loader brought, if there is one, into `at` (the empty root).
pub fn populate_rootfs(at: &Path) {
    if frame::boot::info().initrd.is_none() {
        return;
    }
    pr_info!("Unpacking initramfs...");
    unpack_into(&mut BootImage { at: 0 }, at);
}

/// Unpacks any source into a directory, as root, and reports an error to the log.
pub fn unpack_into(source: &mut dyn ByteSource, at: &Path) {
    let ctx = Ctx { root: at.clone(), cwd: at.clone(), cred: Arc::new(Cred::root()), umask: 0 };
    let mut sink = root::RootSink::new(ctx);
    let r = unpack(source, &mut sink);
    // Times of directories come last, also after an error: making files in them changed them.
    sink.finish();
    if let Err(e) = r {
        pr_emerg!("Initramfs unpacking failed: {e}");
    }
}
