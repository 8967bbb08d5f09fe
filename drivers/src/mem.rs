//! The memory devices: `/dev/null`, `/dev/zero`, `/dev/full` (`null(4)`, `full(4)`).

use alloc::sync::Arc;

use base::{
    Errno, Result,
    device::{self, DevKind, DevNum, Device},
};
use mm::MapObject;
use vfs::{
    File, FileOps, IoDst, IoSrc,
    special::{DeviceNode, SharedDevice},
};

/// Major number of the memory devices.
pub(crate) const MAJOR: u32 = 1;

pub(crate) fn node(name: &str, minor: u32, mode: u32, ops: Arc<DeviceNode>) -> Result<()> {
    let num = DevNum::new(MAJOR, minor);
    device::register(Device { name: name.into(), num, kind: DevKind::Char, mode, class: Some("mem"), ops })?;
    Ok(())
}

/// Registers them.
pub fn init() -> Result<()> {
    node("null", 3, 0o666, SharedDevice::node(Null))?;
    node("zero", 5, 0o666, SharedDevice::node(Zero))?;
    node("full", 7, 0o666, SharedDevice::node(Full))
}

/// Swallows a write whole.
fn swallow(src: &mut IoSrc<'_>) -> usize {
    src.skip(src.len())
}
/// A seek has no effect and gives 0.
fn seek_nowhere() -> Result<u64> {
    Ok(0)
}

struct Null;
impl FileOps for Null {
    fn read_at(&self, _file: &File, _off: u64, _dst: &mut IoDst<'_>) -> Result<usize> {
        Ok(0)
    }
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        Ok(swallow(src))
    }
    fn llseek(&self, _file: &File, _current: u64, _offset: i64, _whence: u32) -> Result<u64> {
        seek_nowhere()
    }
    fn map_object(&self, _file: &File) -> Result<Arc<dyn MapObject>> {
        Err(Errno::ENODEV)
    }
    fn fsync(&self, _file: &File, _data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }
    fn can_poll(&self) -> bool {
        true
    }
}

struct Zero;
impl FileOps for Zero {
    fn read_at(&self, _file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        dst.put_zeros(dst.len())
    }
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        Ok(swallow(src))
    }
    fn llseek(&self, _file: &File, _current: u64, _offset: i64, _whence: u32) -> Result<u64> {
        seek_nowhere()
    }
    fn map_object(&self, _file: &File) -> Result<Arc<dyn MapObject>> {
        // Each mapping has zero pages of its own, promised as they are touched: how many there will be is not known here.
        Ok(mm::SharedAnon::new(isize::MAX as usize & !(mm::PAGE_SIZE - 1), false, false)?)
    }
    fn can_poll(&self) -> bool {
        true
    }
}

struct Full;
impl FileOps for Full {
    fn read_at(&self, _file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        dst.put_zeros(dst.len())
    }
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        if src.is_empty() { Ok(0) } else { Err(Errno::ENOSPC) }
    }
    fn llseek(&self, _file: &File, _current: u64, _offset: i64, _whence: u32) -> Result<u64> {
        seek_nowhere()
    }
    fn can_poll(&self) -> bool {
        true
    }
}
