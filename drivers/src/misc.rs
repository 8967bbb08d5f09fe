//! Miscellaneous devices: those that need one minor number share major 10 (`Documentation/admin-guide/devices.txt`).

use alloc::sync::Arc;

use base::{
    Errno, Result,
    device::{self, DevKind, DevNum, Device},
    tree,
};
use frame::sync::{LockClass, Mutex};
use vfs::special::DeviceNode;

/// Their major number.
pub const MAJOR: u32 = 10;
/// The highest of the minors that are given out; they go down from there.
const DYNAMIC: u32 = 127;

static CLASS: LockClass = LockClass::new("misc_minors");
static NEXT: Mutex<u32> = Mutex::new(&CLASS, DYNAMIC);

/// Registers one. `minor`: `None` for any. EBUSY if it is taken.
pub fn register(name: &str, minor: Option<u32>, mode: u32, ops: Arc<DeviceNode>) -> Result<Arc<Device>> {
    let minor = match minor {
        Some(m) => m,
        None => {
            let mut next = NEXT.lock();
            let m = *next;
            *next = m.checked_sub(1).ok_or(Errno::EBUSY)?;
            m
        }
    };
    let num = DevNum::new(MAJOR, minor);
    device::register(Device { name: name.into(), num, kind: DevKind::Char, mode, class: Some("misc"), ops })
}

/// Declares `/proc/misc`.
pub(crate) fn init() -> Result<()> {
    tree::proc().file("misc", 0o444, |o| {
        for d in device::all().iter().filter(|d| d.kind == DevKind::Char && d.num.major == MAJOR) {
            writeln!(o, "{:3} {}", d.num.minor, d.name)?;
        }
        Ok(())
    })
}
