//! syslog(2) and `/proc/kmsg`: the log as `klogd` and `dmesg` read it.
//!
//! There is one reading position for the whole machine, shared by the call and the file: each record is read once, whoever
//! reads it. Reading everything (`SYSLOG_ACTION_READ_ALL`) has nothing to do with that; it begins where the log was last cleared.

use alloc::{string::String, sync::Arc, vec::Vec};

use base::{
    Errno, Result,
    cred::{Cred, cap},
    log::{self, control},
};
use frame::sync::{LockClass, Mutex};
use vfs::{File, FileKind, FileOps, IoDst, PollFlags, PollTable};

use crate::knobs;

/// The actions, with the numbers of syslog(2).
pub mod action {
    pub const CLOSE: u32 = 0;
    pub const OPEN: u32 = 1;
    pub const READ: u32 = 2;
    pub const READ_ALL: u32 = 3;
    pub const READ_CLEAR: u32 = 4;
    pub const CLEAR: u32 = 5;
    pub const CONSOLE_OFF: u32 = 6;
    pub const CONSOLE_ON: u32 = 7;
    pub const CONSOLE_LEVEL: u32 = 8;
    pub const SIZE_UNREAD: u32 = 9;
    pub const SIZE_BUFFER: u32 = 10;
}

/// Where reading goes on: the record, and how much of its text was read.
#[derive(Clone, Copy)]
struct Cursor {
    seq: u64,
    part: usize,
}
static CLASS: LockClass = LockClass::new("syslog_cursor");
static CURSOR: Mutex<Cursor> = Mutex::new(&CLASS, Cursor { seq: 0, part: 0 });

/// May a task with these credentials do this? EPERM. `kernel.dmesg_restrict` decides about what only looks.
pub fn permission(what: u32, cred: &Cred) -> Result<()> {
    let is_look = matches!(what, action::READ_ALL | action::SIZE_BUFFER);
    if is_look && !control::is_restricted() || cred.has_cap(cap::SYSLOG) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Is there anything unread?
fn has_unread(c: &Cursor) -> bool {
    log::next_seq() > c.seq
}

/// Reads on into `dst`, at least one byte; waits for it unless `nonblocking`. EAGAIN, ERESTARTSYS.
pub fn read(dst: &mut IoDst<'_>, nonblocking: bool) -> Result<usize> {
    let mut done = 0;
    let mut cursor = CURSOR.lock_interruptible()?;
    while !dst.is_empty() {
        let rec = match log::read_from(cursor.seq) {
            Some(rec) => rec,
            None if done > 0 => break,
            None if nonblocking => return Err(Errno::EAGAIN),
            None => {
                // Others may ask about the position meanwhile.
                let seen = *cursor;
                drop(cursor);
                log::WAITERS.wait_interruptible(|| has_unread(&seen).then_some(()))?;
                cursor = CURSOR.lock_interruptible()?;
                continue;
            }
        };
        if rec.seq != cursor.seq {
            // Records in between were overwritten.
            *cursor = Cursor { seq: rec.seq, part: 0 };
        }
        let text = rec.syslog_text();
        let rest = &text.as_bytes()[cursor.part.min(text.len())..];
        let n = match dst.put(&rest[..rest.len().min(dst.len())]) {
            Ok(n) => n,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        };
        done += n;
        if n == rest.len() {
            *cursor = Cursor { seq: rec.seq + 1, part: 0 };
        } else {
            cursor.part += n;
        }
    }
    Ok(done)
}

/// The last whole records since the log was cleared that fit into `dst`; with `clear`, later calls begin after them.
pub fn read_all(dst: &mut IoDst<'_>, clear: bool) -> Result<usize> {
    let len = dst.len();
    let mut lines: Vec<String> = Vec::new();
    let (mut total, mut first) = (0, 0);
    let mut seq = log::cleared_seq().max(log::first_seq());
    let end = log::next_seq();
    while seq < end {
        let Some(rec) = log::read_from(seq) else { break };
        let l = rec.syslog_text();
        total += l.len();
        lines.try_reserve(1)?;
        lines.push(l);
        while total > len && first < lines.len() {
            total -= lines[first].len();
            lines[first] = String::new();
            first += 1;
        }
        seq = rec.seq + 1;
    }
    let mut done = 0;
    for l in &lines[first..] {
        done += dst.put(l.as_bytes())?;
    }
    if clear {
        log::clear();
    }
    Ok(done)
}

/// Bytes that [`read`] would give now.
pub fn unread() -> usize {
    let cursor = *CURSOR.lock();
    let (mut seq, mut n) = (cursor.seq, 0);
    while let Some(rec) = log::read_from(seq) {
        n += rec.syslog_text().len();
        if rec.seq == cursor.seq {
            n = n.saturating_sub(cursor.part);
        }
        seq = rec.seq + 1;
    }
    n
}

struct ProcKmsg;
impl FileOps for ProcKmsg {
    fn kind(&self) -> FileKind {
        FileKind::Seekable
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        read(dst, file.is_nonblocking())
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register_static(&log::WAITERS);
        }
        let cursor = *CURSOR.lock();
        if has_unread(&cursor) { PollFlags::READABLE } else { PollFlags::empty() }
    }
}

/// Declares `/proc/kmsg`.
pub(super) fn declare() -> Result<()> {
    knobs::own_file(base::tree::proc(), "kmsg", 0o400, |cred| {
        permission(action::OPEN, cred)?;
        Ok(Arc::new(ProcKmsg))
    })
}
