//! The system's names, its log, random numbers, anonymous memory files, and its end.

use alloc::{string::String, sync::Arc};

use base::{
    Cred, Errno, Result,
    cred::cap,
    log::{self, control},
};
use frame::{
    sync::once::Once,
    user::{self, Regs},
};
use fs::procfs::{
    kmsg::{self, action},
    system::{NAME_LEN, RELEASE, UtsName, VERSION, set_uts_name, uts_name},
};
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

/// `SYSLOG_ACTION_*`, by number: see syslog(2).
pub(crate) fn syslog(r: &mut Regs) -> Ret {
    let (what, at, len) = (r.uint::<0>(), r.size::<1>(), r.int::<2>());
    kmsg::permission(what, &current().cred())?;
    match what {
        action::CLOSE | action::OPEN => {}
        action::READ | action::READ_ALL | action::READ_CLEAR => {
            let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
            if at == 0 {
                return Err(Errno::EINVAL);
            }
            if len == 0 {
                return Ok(0);
            }
            if !user::range_ok(at, len) {
                return Err(Errno::EFAULT);
            }
            let dst = &mut IoDst::user(at, len);
            return if what == action::READ {
                kmsg::read(dst, false)
            } else {
                kmsg::read_all(dst, what == action::READ_CLEAR)
            };
        }
        action::CLEAR => log::clear(),
        action::CONSOLE_OFF => control::console_off(),
        action::CONSOLE_ON => control::console_on(),
        action::CONSOLE_LEVEL => control::set_console_level(len)?,
        action::SIZE_UNREAD => return Ok(kmsg::unread()),
        action::SIZE_BUFFER => return Ok(log::buffer_size()),
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
}
