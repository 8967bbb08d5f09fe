//! Copying from file to file without user space: sendfile(2), copy_file_range(2).
//!
//! A page that the source lends is handed to a sink that takes pages (tmpfs into a pipe); everything else goes through a buffer.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result};

use crate::{
    file::{File, FileKind},
    io::{IoDst, IoSrc},
    types::{FileType, MAX_RW_COUNT, OpenFlags, PAGE_SIZE},
};

/// The buffer of a copy: four pages.
const CHUNK: usize = 4 * PAGE_SIZE;

/// sendfile(2). `offset` `None` uses and moves the position of `input`; otherwise the new offset is returned beside the count.
pub fn sendfile(
    out: &Arc<File>,
    input: &Arc<File>,
    offset: Option<u64>,
    count: usize,
) -> Result<(usize, u64)> {
    if !input.flags().readable() || !out.flags().writable() {
        return Err(Errno::EBADF);
    }
    if input.kind() == FileKind::Stream {
        return Err(if offset.is_some() { Errno::ESPIPE } else { Errno::EINVAL });
    }
    if out.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EINVAL);
    }
    let start = offset.unwrap_or_else(|| input.position());
    let (n, r) = copy(
        input,
        start,
        count.min(MAX_RW_COUNT),
        |page| match page {
            Piece::Bytes(b) => out.write(&mut IoSrc::kernel(b)),
            Piece::Page(p, off, len) => match out.ops().take_page(out, p, off, len) {
                Some(r) => r,
                None => Err(Errno::EOPNOTSUPP),
            },
        },
        out.kind() == FileKind::Stream,
    );
    let end = start + n as u64;
    if offset.is_none() {
        input.set_position(end);
    }
    match r {
        Err(e) if n == 0 => Err(e),
        _ => Ok((n, end)),
    }
}

/// copy_file_range(2): both are regular files, with explicit offsets; the caller moves positions.
pub fn copy_file_range(
    input: &Arc<File>,
    in_off: u64,
    out: &Arc<File>,
    out_off: u64,
    count: usize,
) -> Result<usize> {
    for f in [input, out] {
        match f.inode().kind() {
            FileType::Regular => {}
            FileType::Dir => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    if !input.flags().readable() || !out.flags().writable() || out.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF);
    }
    let count = count.min(MAX_RW_COUNT);
    in_off.checked_add(count as u64).ok_or(Errno::EOVERFLOW)?;
    out_off.checked_add(count as u64).ok_or(Errno::EOVERFLOW)?;
    let count = count.min(input.metadata_size().saturating_sub(in_off).min(usize::MAX as u64) as usize);
    let overlap = in_off < out_off + count as u64 && out_off < in_off + count as u64;
    if Arc::ptr_eq(input.inode(), out.inode()) && overlap {
        return Err(Errno::EINVAL);
    }
    let mut at = out_off;
    let (n, r) = copy(
        input,
        in_off,
        count,
        |p| match p {
            Piece::Bytes(b) => {
                let n = out.pwrite(at, &mut IoSrc::kernel(b))?;
                at += n as u64;
                Ok(n)
            }
            Piece::Page(..) => Err(Errno::EOPNOTSUPP),
        },
        false,
    );
    match r {
        Err(e) if n == 0 => Err(e),
        _ => Ok(n),
    }
}

enum Piece<'a> {
    Bytes(&'a [u8]),
    Page(&'a frame::page::PageRef, usize, usize),
}

/// Feeds `count` bytes from `start` of `input` to `put` until it takes less. Returns how many went and why it ended.
fn copy(
    input: &Arc<File>,
    start: u64,
    count: usize,
    mut put: impl FnMut(Piece<'_>) -> Result<usize>,
    mut by_page: bool,
) -> (usize, Result<()>) {
    let mut buf = Vec::new();
    let mut done = 0;
    while done < count {
        let at = start + done as u64;
        if by_page {
            let off = (at % PAGE_SIZE as u64) as usize;
            let left = input.metadata_size().saturating_sub(at).min((count - done) as u64) as usize;
            let len = left.min(PAGE_SIZE - off);
            // A file of procfs has size 0 and contents all the same: only a read tells where it ends.
            let lent = if len > 0 { input.ops().lend_page(input, at) } else { None };
            match lent.map(|p| put(Piece::Page(&p, off, len))) {
                Some(Ok(n)) => {
                    done += n;
                    if n < len {
                        return (done, Ok(()));
                    }
                    continue;
                }
                Some(Err(Errno::EOPNOTSUPP)) => by_page = false,
                Some(Err(e)) => return (done, Err(e)),
                None => {}
            }
        }
        if buf.is_empty() {
            if buf.try_reserve_exact(CHUNK).is_err() {
                return (done, Err(Errno::ENOMEM));
            }
            buf.resize(CHUNK, 0);
        }
        // One page at a time while the source may lend the next one.
        let most = if by_page { PAGE_SIZE - (at % PAGE_SIZE as u64) as usize } else { CHUNK };
        let want = most.min(count - done);
        let got = match input.pread(at, &mut IoDst::kernel(&mut buf[..want])) {
            Ok(0) => return (done, Ok(())),
            Ok(n) => n,
            Err(e) => return (done, Err(e)),
        };
        match put(Piece::Bytes(&buf[..got])) {
            Ok(n) => {
                done += n;
                if n < got {
                    return (done, Ok(()));
                }
            }
            Err(e) => return (done, Err(e)),
        }
        sched::cond_resched();
    }
    (done, Ok(()))
}
