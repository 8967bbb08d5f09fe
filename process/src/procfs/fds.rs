//! `/proc/PID/fd` and `fdinfo`: a name for each open descriptor. None in a kernel thread, and in one that is ending.

use alloc::{format, string::String, sync::Arc, vec::Vec};

use base::{Errno, Result, tree::Out};
use fs::procfs::{DirBody, DirEntry, TaskDir};
use sched::TaskRef;
use vfs::{Fd, File, Link};

use super::{check, user};

pub(super) struct Fds;
pub(super) struct FdInfos;

fn names(t: &TaskRef) -> Result<Vec<Vec<u8>>> {
    check(t)?;
    let Some(files) = user(t).and_then(|d| d.try_files()) else { return Ok(Vec::new()) };
    Ok(files.snapshot().into_iter().map(|(fd, _)| format!("{fd}").into_bytes()).collect())
}

/// A descriptor by its name: digits without leading zeroes.
fn number(name: &[u8]) -> Option<Fd> {
    let s = core::str::from_utf8(name).ok()?;
    if s.len() > 1 && s.starts_with('0') || !s.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    s.parse().ok()
}

fn open(t: &TaskRef, name: &[u8]) -> Result<Arc<File>> {
    check(t)?;
    let fd = number(name).ok_or(Errno::ENOENT)?;
    let files = user(t).and_then(|d| d.try_files()).ok_or(Errno::ENOENT)?;
    files.get_any(fd).map_err(|_| Errno::ENOENT)
}

impl TaskDir for Fds {
    fn list(&self, t: &TaskRef) -> Result<Vec<Vec<u8>>> {
        names(t)
    }
    /// The link's permission bits say which ways the file is open.
    fn lookup(&self, t: &TaskRef, name: &[u8]) -> Result<DirEntry> {
        let flags = open(t, name)?.flags();
        let mode =
            0o100 | if flags.readable() { 0o400 } else { 0 } | if flags.writable() { 0o200 } else { 0 };
        Ok(DirEntry { mode, body: DirBody::Link(target) })
    }
}

fn target(t: &TaskRef, name: &[u8]) -> Result<Link> {
    Ok(Link::Magic(open(t, name)?.path().clone()))
}

impl TaskDir for FdInfos {
    fn list(&self, t: &TaskRef) -> Result<Vec<Vec<u8>>> {
        names(t)
    }
    fn lookup(&self, t: &TaskRef, name: &[u8]) -> Result<DirEntry> {
        open(t, name)?;
        Ok(DirEntry { mode: 0o400, body: DirBody::File(fdinfo) })
    }
}

/// Position, flags, mount and inode, and what the file's kind adds.
fn fdinfo(t: &TaskRef, name: &[u8], out: &mut Out) -> Result<()> {
    let f = open(t, name)?;
    let cloexec = number(name).and_then(|fd| user(t)?.try_files()?.cloexec(fd).ok()).unwrap_or(false);
    let extra = if cloexec { vfs::OpenFlags::CLOEXEC.bits() } else { 0 };
    writeln!(out, "pos:\t{}\nflags:\t0{:o}", f.position(), f.flags().bits() | extra)?;
    writeln!(out, "mnt_id:\t{}\nino:\t{}", f.path().mount.id(), f.inode().ino)?;
    let mut more = String::new();
    f.ops().fdinfo(&f, &mut more);
    out.push(more.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_name_descriptors() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"12"), Some(12));
        for bad in [&b""[..], b"01", b"+1", b"-1", b"x", b"99999999999"] {
            assert_eq!(number(bad), None);
        }
    }
}
