//! The system's names, its log, random numbers, anonymous memory files, and its end.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::fmt::Write;

use base::{Cred, Errno, Result, cred::cap, log};
use frame::{
    sync::{LockClass, Mutex, once::Once},
    user::{self, Regs},
};
use fs::procfs::system::{NAME_LEN, RELEASE, UtsName, VERSION, set_uts_name, uts_name};
use linux_raw_sys::general as raw;
use process::current;
use vfs::{Ctx, IoDst, LookupFlags, Mount, OpenFlags, Path};

use crate::{
    args::{Args, Ret, bytes, string},
    files::install,
    names::sync_all,
};

/// Bytes of one member of `struct new_utsname`.
const UTS_FIELD: usize = NAME_LEN + 1;

pub(crate) fn uname(r: &mut Regs) -> Ret {
    let mut b = [0u8; 6 * UTS_FIELD];
    let (mut host, mut domain) = ([0; NAME_LEN], [0; NAME_LEN]);
    let (h, d) = (uts_name(UtsName::Host, &mut host), uts_name(UtsName::Domain, &mut domain));
    let fields: [&[u8]; 6] =
        [b"Linux", &host[..h], RELEASE.as_bytes(), VERSION.as_bytes(), b"x86_64", &domain[..d]];
    for (out, f) in b.chunks_exact_mut(UTS_FIELD).zip(fields) {
        let n = f.len().min(NAME_LEN);
        out[..n].copy_from_slice(&f[..n]);
    }
    user::copy_to_user(r.size::<0>(), &b)?;
    Ok(0)
}
fn set_name(r: &Regs, which: UtsName) -> Ret {
    if !current().cred().has_cap(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let n = usize::try_from(r.int::<1>()).ok().filter(|n| *n <= NAME_LEN).ok_or(Errno::EINVAL)?;
    set_uts_name(which, &bytes(r.size::<0>(), n)?)?;
    Ok(0)
}
pub(crate) fn sethostname(r: &mut Regs) -> Ret {
    set_name(r, UtsName::Host)
}
pub(crate) fn setdomainname(r: &mut Regs) -> Ret {
    set_name(r, UtsName::Domain)
}

/// Linux's execution domain 0 is the only one, and none of its variations is kept.
pub(crate) fn personality(r: &mut Regs) -> Ret {
    match r.uint::<0>() {
        0 | u32::MAX => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

pub(crate) fn getrandom(r: &mut Regs) -> Ret {
    let flags = r.uint::<2>();
    let known = raw::GRND_NONBLOCK | raw::GRND_RANDOM | raw::GRND_INSECURE;
    let both = raw::GRND_RANDOM | raw::GRND_INSECURE;
    if flags & !known != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    if flags & raw::GRND_INSECURE == 0 && !drivers::random::is_ready() {
        if flags & raw::GRND_NONBLOCK != 0 {
            return Err(Errno::EAGAIN);
        }
        drivers::random::wait_ready()?;
    }
    drivers::random::read(&mut IoDst::user(r.size::<0>(), r.size::<1>()))
}

static CURSOR_CLASS: LockClass = LockClass::new("syslog_cursor");
/// Where `SYSLOG_ACTION_READ` goes on: the record, and how much of its text was read.
static CURSOR: Mutex<(u64, usize)> = Mutex::new(&CURSOR_CLASS, (0, 0));

/// A record as `syslog(2)` shows it.
fn line(rec: &log::Record) -> String {
    let mut s = String::new();
    let us = rec.ts_ns / 1000;
    let head = (rec.priority, us / 1_000_000, us % 1_000_000);
    // Fails only without memory, and then the line is short.
    let _ = rec.text.lines().try_for_each(|l| writeln!(s, "<{}>[{:5}.{:06}] {l}", head.0, head.1, head.2));
    if s.is_empty() {
        let _ = writeln!(s, "<{}>[{:5}.{:06}] ", head.0, head.1, head.2);
    }
    s
}

/// Reads on, waiting for at least one byte.
fn syslog_read(at: usize, len: usize) -> Ret {
    let mut cursor = CURSOR.lock_interruptible()?;
    let mut done = 0;
    while done < len {
        let rec = match log::read_from(cursor.0) {
            Some(rec) => rec,
            None if done > 0 => break,
            None => log::WAITERS.wait_interruptible(|| log::read_from(cursor.0))?,
        };
        if rec.seq != cursor.0 {
            // Records in between were overwritten.
            *cursor = (rec.seq, 0);
        }
        let text = line(&rec);
        let rest = &text.as_bytes()[cursor.1.min(text.len())..];
        let n = rest.len().min(len - done);
        user::copy_to_user(at + done, &rest[..n])?;
        done += n;
        if n == rest.len() {
            *cursor = (rec.seq + 1, 0);
        } else {
            cursor.1 += n;
        }
    }
    Ok(done)
}

/// The last whole records that fit into `len` bytes.
fn syslog_all(at: usize, len: usize, clear: bool) -> Ret {
    let len = len.min(log::buffer_size() * 2);
    let mut lines: Vec<String> = Vec::new();
    let (mut total, mut first) = (0, 0);
    let mut seq = log::cleared_seq().max(log::first_seq());
    let end = log::next_seq();
    while seq < end {
        let Some(rec) = log::read_from(seq) else { break };
        let l = line(&rec);
        total += l.len();
        lines.try_reserve(1)?;
        lines.push(l);
        while total > len && first < lines.len() {
            total -= lines[first].len();
            first += 1;
        }
        seq = rec.seq + 1;
    }
    let mut done = 0;
    for l in &lines[first..] {
        user::copy_to_user(at + done, l.as_bytes())?;
        done += l.len();
    }
    if clear {
        log::clear();
    }
    Ok(done)
}

/// The console level that `SYSLOG_ACTION_CONSOLE_OFF` put aside.
static SAVED_LEVEL: Mutex<Option<u32>> = Mutex::new(&CURSOR_CLASS, None);

/// `SYSLOG_ACTION_*`, by number: see syslog(2).
pub(crate) fn syslog(r: &mut Regs) -> Ret {
    use frame::atomic::Ordering::Relaxed;
    let (action, at, len) = (r.uint::<0>(), r.size::<1>(), r.int::<2>());
    // Reading everything and asking for the size are free to all (`kernel.dmesg_restrict` 0).
    let cred = current().cred();
    if !matches!(action, 3 | 10) && !cred.has_cap(cap::SYSLOG) && !cred.has_cap(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    if matches!(action, 2..=4) {
        let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
        if at == 0 {
            return Err(Errno::EINVAL);
        }
        if !user::range_ok(at, len) {
            return Err(Errno::EFAULT);
        }
        return match action {
            _ if len == 0 => Ok(0),
            2 => syslog_read(at, len),
            _ => syslog_all(at, len, action == 4),
        };
    }
    match action {
        0 | 1 => {}
        5 => log::clear(),
        6 => {
            let mut saved = SAVED_LEVEL.lock();
            if saved.is_none() {
                // Only emergencies reach the console.
                *saved = Some(log::CONSOLE_LEVEL.swap(1, Relaxed));
            }
        }
        7 => {
            if let Some(l) = SAVED_LEVEL.lock().take() {
                log::CONSOLE_LEVEL.store(l, Relaxed);
            }
        }
        8 => {
            if !(1..=8).contains(&len) {
                return Err(Errno::EINVAL);
            }
            log::CONSOLE_LEVEL.store(len as u32, Relaxed);
            *SAVED_LEVEL.lock() = None;
        }
        9 => {
            let cursor = *CURSOR.lock();
            let (mut seq, mut n) = (cursor.0, 0);
            while let Some(rec) = log::read_from(seq) {
                n += line(&rec).len();
                seq = rec.seq + 1;
            }
            return Ok(n.saturating_sub(cursor.1));
        }
        10 => return Ok(log::buffer_size()),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// The magic numbers of reboot(2) (linux/reboot.h).
const MAGIC1: u32 = 0xfee1_dead;
const MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
const RESTART: u32 = 0x0123_4567;
const HALT: u32 = 0xcdef_0123;
const CAD_ON: u32 = 0x89ab_cdef;
const CAD_OFF: u32 = 0;
const POWER_OFF: u32 = 0x4321_fedc;
const RESTART2: u32 = 0xa1b2_c3d4;

pub(crate) fn reboot(r: &mut Regs) -> Ret {
    if !current().cred().has_cap(cap::SYS_BOOT) {
        return Err(Errno::EPERM);
    }
    if r.uint::<0>() != MAGIC1 || !MAGIC2.contains(&r.uint::<1>()) {
        return Err(Errno::EINVAL);
    }
    match r.uint::<2>() {
        RESTART => {
            sync_all();
            base::reboot::restart(None)
        }
        RESTART2 => {
            // Linux hands the words to the firmware; there is nobody to read them here.
            let words = string(r.size::<3>(), 255, Errno::EINVAL)?;
            sync_all();
            base::reboot::restart(Some(&String::from_utf8_lossy(&words)))
        }
        POWER_OFF => {
            sync_all();
            base::reboot::power_off()
        }
        HALT => {
            sync_all();
            base::reboot::halt()
        }
        CAD_ON | CAD_OFF => {
            let on = i32::from(r.uint::<2>() == CAD_ON);
            base::reboot::CTRL_ALT_DEL.store(on, frame::atomic::Ordering::Relaxed);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

static MEMFD_ROOT: Once<Option<Path>> = Once::new();

/// The root of a tmpfs that is mounted nowhere.
fn memfd_root() -> Result<&'static Path> {
    MEMFD_ROOT
        .call_once(|| {
            let sb = fs::tmpfs::new_super("tmpfs", b"").ok()?;
            let mount = Mount::internal(&sb).ok()?;
            Some(Path { dentry: mount.root().clone(), mount })
        })
        .as_ref()
        .ok_or(Errno::ENOMEM)
}

/// The longest name that `memfd:` leaves room for.
const MEMFD_NAME_MAX: usize = vfs::NAME_MAX - 6;

pub(crate) fn memfd_create(r: &mut Regs) -> Ret {
    let flags = r.uint::<1>();
    // Without seals there is nothing to allow; huge pages do not exist.
    let known = raw::MFD_CLOEXEC | raw::MFD_ALLOW_SEALING | raw::MFD_NOEXEC_SEAL | raw::MFD_EXEC;
    if flags & !known != 0 || flags & raw::MFD_EXEC != 0 && flags & raw::MFD_NOEXEC_SEAL != 0 {
        return Err(Errno::EINVAL);
    }
    string(r.size::<0>(), MEMFD_NAME_MAX, Errno::EINVAL)?;
    let mode = if flags & raw::MFD_NOEXEC_SEAL != 0 { 0o666 } else { 0o777 };
    let root = memfd_root()?.clone();
    let mine = current().cred();
    // The directory is the kernel's: the file is made with its rights, and belongs to the caller.
    let cred = frame::heap::try_arc(Cred { fsuid: mine.fsuid, fsgid: mine.fsgid, ..Cred::root() })
        .ok_or(Errno::ENOMEM)?;
    let ctx = Ctx { root: root.clone(), cwd: root, cred: Arc::clone(&cred), umask: 0 };
    let how = OpenFlags::RDWR | OpenFlags::DIRECTORY | OpenFlags::TMPFILE_BIT | OpenFlags::LARGEFILE;
    let f = vfs::open::open_how(&ctx, None, b"/", how, mode, LookupFlags::empty())?;
    install(f, flags & raw::MFD_CLOEXEC != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uname_has_linux_s_size() {
        assert_eq!(size_of::<linux_raw_sys::system::new_utsname>(), 6 * UTS_FIELD);
    }
    #[test]
    fn records_look_like_dmesg() {
        let rec =
            log::Record { seq: 1, ts_ns: 1_234_567_890, priority: 6, text: String::from("vfs: up\nand on") };
        assert_eq!(line(&rec), "<6>[    1.234567] vfs: up\n<6>[    1.234567] and on\n");
    }
}
