//! What every room needs: error numbers, the kernel log, boot parameters, the tree of knobs that procfs and sysfs
//! present, the registry of devices and their uevents, credentials, counters and the identity cards of the daemons.
//!
//! Nothing here knows what a process or a file system is; those rooms put their facts into these tables.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod cpulist;
pub mod cpumask;
pub mod cred;
pub mod daemon;
pub mod device;
pub mod errno;
pub mod kmod;
pub mod lockup;
pub mod log;
pub mod model;
pub mod number;
pub mod params;
pub mod reboot;
pub mod resource;
pub mod stat;
pub mod taint;
pub mod trace;
pub mod tree;
pub mod uevent;
pub mod version;

pub use cred::Cred;
pub use errno::{Errno, Result};
