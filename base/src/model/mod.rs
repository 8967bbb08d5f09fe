//! The device model: which devices there are, what they hang from, who drives them; `/sys/devices`, `/sys/bus`, `/sys/class`.
//!
//! # Theory
//! A [`Device`] has a parent and belongs to one subsystem: a [`Bus`] (where drivers find it) or a class (what it is good for). Its
//! place in the tree of parents is its folder in `/sys/devices`; everything else in sysfs links there.
//!
//! ```text
//!   /sys/devices/pci0000:00/0000:00:03.0/virtio0          the folder: attributes, uevent, links subsystem and driver
//!   /sys/bus/virtio/devices/virtio0                    →  it
//!   /sys/bus/virtio/drivers/virtio_rng/virtio0         →  it, while bound
//!   /sys/class/misc/hw_random                          →  /sys/devices/virtual/misc/hw_random
//! ```
//! A class device whose parent is not of a class stands in a folder with the class's name (`…/input/input0`), as on Linux.
//!
//! A [`Driver`] says which devices of its bus it can drive; whoever comes second, device or driver, brings them together. Probing
//! one device excludes nothing but probing the same device, so drivers may add further devices from their probe functions.
//!
//! Coming, going, binding and unbinding are told to user space by [`crate::uevent`]; writing an action to the file `uevent` tells
//! it again (`Documentation/ABI/testing/sysfs-uevent`).
//!
//! Locking: `device.bind` of one bus → those of buses below it (a device's driver adds children) → lists, tree, uevents.

mod bus;
mod device;
mod path;

pub use bus::{Bus, Driver};
pub use device::{Device, Env, Spec, Subsystem};
pub use path::relative;
