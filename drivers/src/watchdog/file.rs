//! An open watchdog: what `watchdog-api.rst` says of writes and ioctls.

use alloc::sync::Arc;

use base::{Errno, Result};
use frame::user;
use linux_raw_sys::ioctl as op;
use vfs::{
    File, FileKind, FileOps, Inode, IoSrc, OpenFlags,
    special::{DeviceNode, DeviceOps},
};

use super::Watchdog;

/// `/dev/watchdog` is 10:130.
pub(super) const LEGACY_MINOR: u32 = 130;

/// `WDIOS_DISABLECARD` and `WDIOS_ENABLECARD`.
const DISABLE_CARD: i32 = 1;
const ENABLE_CARD: i32 = 2;

/// Bytes of `struct watchdog_info`: options, firmware version, identity.
const INFO: usize = 40;

struct Node(Arc<Watchdog>);

pub(super) fn node(w: &Arc<Watchdog>) -> Arc<DeviceNode> {
    DeviceNode::new(Node(w.clone()))
}

impl DeviceOps for Node {
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        // The file first: without memory for it nothing may have started.
        let f = frame::heap::try_arc(WatchdogFile(self.0.clone())).ok_or(Errno::ENOMEM)?;
        self.0.open()?;
        Ok(f)
    }
}

struct WatchdogFile(Arc<Watchdog>);

fn put(arg: usize, v: u32) -> Result<usize> {
    user::copy_to_user(arg, &v.to_le_bytes())?;
    Ok(0)
}
fn get(arg: usize) -> Result<i32> {
    let mut b = [0; 4];
    user::copy_from_user(&mut b, arg)?;
    Ok(i32::from_le_bytes(b))
}

fn info(w: &Watchdog) -> [u8; INFO] {
    let d = &w.description;
    let mut b = [0; INFO];
    b[..4].copy_from_slice(&d.options.to_le_bytes());
    b[4..8].copy_from_slice(&d.firmware.to_le_bytes());
    let name = d.identity.as_bytes();
    let n = name.len().min(INFO - 8 - 1);
    b[8..8 + n].copy_from_slice(&name[..n]);
    b
}

impl FileOps for WatchdogFile {
    fn kind(&self) -> FileKind {
        FileKind::Stream
    }
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        let (mut done, mut magic, mut b) = (0, false, [0; 64]);
        if src.is_empty() {
            return Ok(0);
        }
        while !src.is_empty() {
            let n = src.take(&mut b)?;
            magic |= b[..n].contains(&b'V');
            done += n;
        }
        self.0.written(magic)?;
        Ok(done)
    }
    fn ioctl(&self, _file: &File, cmd: u32, arg: usize) -> Result<usize> {
        let w = &self.0;
        match cmd {
            op::WDIOC_GETSUPPORT => {
                user::copy_to_user(arg, &info(w))?;
                Ok(0)
            }
            op::WDIOC_GETSTATUS => put(arg, w.status()),
            op::WDIOC_GETBOOTSTATUS => put(arg, w.description.boot_status),
            op::WDIOC_SETOPTIONS => {
                let what = get(arg)?;
                if what & (DISABLE_CARD | ENABLE_CARD) == 0 {
                    return Err(Errno::ENOTTY);
                }
                if what & DISABLE_CARD != 0 {
                    w.stop()?;
                }
                if what & ENABLE_CARD != 0 {
                    w.start()?;
                }
                Ok(0)
            }
            op::WDIOC_KEEPALIVE if w.description.options & super::option::KEEPALIVE_PING == 0 => {
                Err(Errno::EOPNOTSUPP)
            }
            op::WDIOC_KEEPALIVE => w.ping().map(|()| 0),
            op::WDIOC_SETTIMEOUT => {
                w.set_timeout(u32::try_from(get(arg)?).map_err(|_| Errno::EINVAL)?)?;
                // The new time counts from now on.
                w.ping()?;
                put(arg, w.snapshot().timeout)
            }
            op::WDIOC_GETTIMEOUT => match w.snapshot().timeout {
                0 => Err(Errno::EOPNOTSUPP),
                t => put(arg, t),
            },
            op::WDIOC_GETTIMELEFT => put(arg, w.time_left()?),
            op::WDIOC_SETPRETIMEOUT => {
                w.set_pretimeout(u32::try_from(get(arg)?).map_err(|_| Errno::EINVAL)?)?;
                Ok(0)
            }
            op::WDIOC_GETPRETIMEOUT => put(arg, w.snapshot().pretimeout),
            _ => Err(Errno::ENOTTY),
        }
    }
    fn release(&self, _file: &File) {
        self.0.close();
    }
}
