//! The registry of character and block devices: numbers, names, and what opens them.
//!
//! A driver registers; the registry makes the sysfs entries and tells its one listener (`devtmpfs`, whose thread
//! `kdevtmpfs` makes the node). An open of a device node looks the number up here. The operations are an opaque `Any`,
//! because their type belongs to a room above.

use alloc::{boxed::Box, collections::BTreeMap, format, string::String, sync::Arc, vec::Vec};
use core::any::Any;

use frame::sync::{LockClass, Mutex, once::Once};

use crate::{
    errno::{Errno, Result},
    model, tree,
};

/// A device number, as `stat(2)` gives it after `makedev`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct DevNum {
    pub major: u32,
    pub minor: u32,
}

impl DevNum {
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
    /// The 64-bit form of the system-call interface (glibc's `makedev`).
    pub const fn encode(self) -> u64 {
        let (ma, mi) = (self.major as u64, self.minor as u64);
        (mi & 0xff) | (ma & 0xfff) << 8 | (mi & !0xff) << 12 | (ma & !0xfff) << 32
    }
    /// The opposite of [`DevNum::encode`].
    pub const fn decode(v: u64) -> Self {
        Self {
            major: ((v >> 8 & 0xfff) | (v >> 32 & !0xfff)) as u32,
            minor: ((v & 0xff) | (v >> 12 & 0xffff_ff00)) as u32,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DevKind {
    Char,
    Block,
}

/// A registered device.
pub struct Device {
    /// The node's path under `/dev`.
    pub name: String,
    pub num: DevNum,
    pub kind: DevKind,
    /// Permission bits of the node.
    pub mode: u32,
    /// The folder under `/sys/class`.
    pub class: Option<&'static str>,
    /// What opens it; the type is agreed between `vfs` and the driver.
    pub ops: Arc<dyn Any + Send + Sync>,
}

/// What the listener hears.
#[derive(Clone)]
pub enum Event {
    Added(Arc<Device>),
    Removed(Arc<Device>),
}

/// A registered device and its folder in sysfs.
struct Entry {
    dev: Arc<Device>,
    object: Arc<model::Device>,
}

/// Where a device stands in sysfs, if not in `/sys/devices/virtual` under the name of its node.
#[derive(Default)]
pub struct Place {
    /// What it hangs from.
    pub parent: Option<Arc<model::Device>>,
    /// Its name in sysfs: `hw_random`, whose node is `/dev/hwrng`.
    pub name: Option<String>,
}

static CLASS: LockClass = LockClass::new("device_registry");
static DEVICES: Mutex<BTreeMap<(DevKind, DevNum), Entry>> = Mutex::new(&CLASS, BTreeMap::new());
static LISTENER: Once<fn(Event)> = Once::new();

static MAJORS: Mutex<Vec<(DevKind, u32, &'static str)>> = Mutex::new(&CLASS, Vec::new());

/// Says that all of a major number is a driver's, whose devices are opened by other means than this registry.
pub fn register_major(kind: DevKind, major: u32, name: &'static str) {
    MAJORS.lock().push((kind, major, name));
}
/// Those majors, for `/proc/devices`.
pub fn majors() -> Vec<(DevKind, u32, &'static str)> {
    MAJORS.lock().clone()
}

/// Registers a device. EBUSY if the number is taken.
pub fn register(dev: Device) -> Result<Arc<Device>> {
    register_at(dev, Place::default(), |_| Ok(()))
}

/// Registers a device at a place of its own. `attributes` adds files to its folder before user space hears of it.
pub fn register_at(
    dev: Device,
    place: Place,
    attributes: impl FnOnce(&Arc<model::Device>) -> Result<()>,
) -> Result<Arc<Device>> {
    let dev = Arc::new(dev);
    let key = (dev.kind, dev.num);
    if DEVICES.lock().contains_key(&key) {
        return Err(Errno::EBUSY);
    }
    let object = model::Device::new(spec(&dev, place))?;
    let ready = sysfs_entries(&dev, &object).and_then(|()| attributes(&object));
    let entered = ready.and_then(|()| {
        let mut all = DEVICES.lock();
        if all.contains_key(&key) {
            return Err(Errno::EBUSY);
        }
        all.insert(key, Entry { dev: dev.clone(), object: object.clone() });
        Ok(())
    });
    if let Err(e) = entered {
        object.discard();
        return Err(e);
    }
    if let Some(f) = LISTENER.get() {
        f(Event::Added(dev.clone()));
    }
    // The node is there when user space hears of it.
    object.announce();
    Ok(dev)
}

/// Takes a device away; open files of it stay.
pub fn unregister(kind: DevKind, num: DevNum) -> Result<()> {
    let Entry { dev, object } = DEVICES.lock().remove(&(kind, num)).ok_or(Errno::ENODEV)?;
    tree::sys().remove(&dev_link(&dev));
    if let Some(f) = LISTENER.get() {
        f(Event::Removed(dev));
    }
    object.remove();
    Ok(())
}

/// Major numbers for those that ask for any, as Linux gives them out: from 254 down to 234.
const DYNAMIC_MAJORS: core::ops::RangeInclusive<u32> = 234..=254;
static NEXT_MAJOR: Mutex<u32> = Mutex::new(&CLASS, *DYNAMIC_MAJORS.end());

/// A major number that nobody else has. EBUSY when all are taken.
pub fn allocate_major() -> Result<u32> {
    let mut next = NEXT_MAJOR.lock();
    if !DYNAMIC_MAJORS.contains(&*next) {
        return Err(Errno::EBUSY);
    }
    *next -= 1;
    Ok(*next + 1)
}

/// What opens this number.
pub fn lookup(kind: DevKind, num: DevNum) -> Option<Arc<Device>> {
    DEVICES.lock().get(&(kind, num)).map(|e| e.dev.clone())
}

/// The device's folder in sysfs, to add attributes or children to.
pub fn object(kind: DevKind, num: DevNum) -> Option<Arc<model::Device>> {
    DEVICES.lock().get(&(kind, num)).map(|e| e.object.clone())
}

/// All, by kind and number.
pub fn all() -> Vec<Arc<Device>> {
    DEVICES.lock().values().map(|e| e.dev.clone()).collect()
}

/// Installs the listener and returns what was registered before it.
pub fn listen(f: fn(Event)) -> Vec<Arc<Device>> {
    let all = DEVICES.lock();
    LISTENER.call_once(|| f);
    all.values().map(|e| e.dev.clone()).collect()
}

fn dev_link(dev: &Device) -> String {
    let t = if dev.kind == DevKind::Char { "char" } else { "block" };
    format!("dev/{t}/{}:{}", dev.num.major, dev.num.minor)
}

fn spec(dev: &Arc<Device>, place: Place) -> model::Spec {
    let class = dev.class.unwrap_or(if dev.kind == DevKind::Char { "char" } else { "block" });
    let d = Arc::downgrade(dev);
    model::Spec {
        name: place.name.unwrap_or_else(|| dev.name.clone()),
        parent: place.parent,
        subsystem: model::Subsystem::Class(class),
        variables: Some(Box::new(move |env| {
            let Some(d) = d.upgrade() else { return };
            env.add("MAJOR", format!("{}", d.num.major));
            env.add("MINOR", format!("{}", d.num.minor));
            env.add("DEVNAME", d.name.clone());
            // Linux says the mode only where it is not the default of 0600.
            if d.mode != 0o600 {
                env.add("DEVMODE", format!("0{:o}", d.mode));
            }
        })),
        data: None,
    }
}

fn sysfs_entries(dev: &Arc<Device>, object: &model::Device) -> Result<()> {
    let (ma, mi) = (dev.num.major, dev.num.minor);
    object.attribute("dev", 0o444, move |o| Ok(writeln!(o, "{ma}:{mi}")?))?;
    let at = dev_link(dev);
    tree::sys().link(&at, &model::relative(&at, object.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_encode_like_makedev() {
        assert_eq!(DevNum::new(1, 3).encode(), 0x103);
        for (ma, mi) in [(0, 0), (4, 64), (259, 0x12345), (0xfffff, 0xffffffff)] {
            let d = DevNum::new(ma, mi);
            assert_eq!(DevNum::decode(d.encode()), d);
        }
    }
}
