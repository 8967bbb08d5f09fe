//! Opening what is not a file of its file system: devices and FIFOs.
//!
//! A device driver registers with `base::device` and gives a [`DeviceNode`] as its operations. The pipes behind FIFOs live in
//! the room above; it installs a [`FifoOps`].

use alloc::sync::Arc;

use base::{
    Errno, Result,
    device::{self, DevKind, DevNum},
};
use frame::sync::once::Once;

use crate::{
    file::FileOps,
    inode::Inode,
    path::Path,
    types::{FileType, OpenFlags, major, minor},
};

/// What a driver opens.
pub trait DeviceOps: Send + Sync {
    /// Opens the device that `inode` (by its `rdev`) stands for.
    fn open(&self, inode: &Arc<Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>>;
    /// As [`DeviceOps::open`], for devices to which it matters where their node is.
    fn open_at(&self, path: &Path, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        self.open(path.inode(), flags)
    }
}

/// What to put into [`device::Device::ops`].
pub struct DeviceNode(pub Arc<dyn DeviceOps>);

impl DeviceNode {
    /// Ready for the registry.
    pub fn new(ops: impl DeviceOps + 'static) -> Arc<DeviceNode> {
        Arc::new(DeviceNode(Arc::new(ops)))
    }
}

/// A device all of whose files share one object.
pub struct SharedDevice<T>(Arc<T>);

impl<T: FileOps> SharedDevice<T> {
    /// A [`DeviceNode`] that gives `ops` at every open.
    pub fn node(ops: T) -> Arc<DeviceNode> {
        DeviceNode::new(SharedDevice(Arc::new(ops)))
    }
}
impl<T: FileOps> DeviceOps for SharedDevice<T> {
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(self.0.clone())
    }
}

/// Opens FIFOs.
pub trait FifoOps: Send + Sync {
    /// As fifo(7) says: waits for the other side unless `NONBLOCK` or `RDWR`.
    fn open(&self, inode: &Arc<Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>>;
}

static FIFO: Once<&'static dyn FifoOps> = Once::new();

/// Installs what opens FIFOs; the first call decides.
pub fn install_fifo(ops: &'static dyn FifoOps) {
    FIFO.call_once(|| ops);
}

/// Opens a device, FIFO or socket node.
pub(crate) fn open(path: &Path, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let inode = path.inode();
    if let Some(own) = inode.ops().open_device(inode, flags) {
        return own;
    }
    let kind = match inode.kind() {
        FileType::Char => DevKind::Char,
        FileType::Block => DevKind::Block,
        FileType::Fifo => return FIFO.get().ok_or(Errno::ENXIO)?.open(inode, flags),
        _ => return Err(Errno::ENXIO),
    };
    let num = DevNum::new(major(inode.rdev()), minor(inode.rdev()));
    let dev = lookup(kind, num).ok_or(Errno::ENXIO)?;
    let node = dev.ops.downcast_ref::<DeviceNode>().ok_or(Errno::ENXIO)?;
    node.0.open_at(path, flags)
}

/// The device with this number; one that is not there is asked for once.
fn lookup(kind: DevKind, num: DevNum) -> Option<Arc<device::Device>> {
    device::lookup(kind, num).or_else(|| {
        let DevNum { major, minor } = num;
        let what = if kind == DevKind::Char { "char" } else { "block" };
        let status = base::kmod::request_module(format_args!("{what}-major-{major}-{minor}"));
        if status.is_ok_and(|s| s > 0) {
            // The names of old configurations.
            let _ = base::kmod::request_module(format_args!("{what}-major-{major}"));
        }
        device::lookup(kind, num)
    })
}
