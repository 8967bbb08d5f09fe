//! What a transport does for the core. All of it is safe to call in any order; the order of the specification is `device`'s.

use alloc::{boxed::Box, string::String, vec::Vec};

use base::Result;

use super::queue::Layout;

/// Runs in hardware-interrupt context.
pub type Callback = Box<dyn Fn() + Send + Sync>;

/// The way to a device.
pub trait Transport: Send + Sync {
    /// What the device offers.
    fn device_features(&self) -> u64;
    /// What the driver takes.
    fn accept_features(&self, features: u64);
    fn status(&self) -> u8;
    fn set_status(&self, status: u8);
    /// Resets the device and waits until it says so. EIO if it does not within a second.
    fn reset(&self) -> Result<()>;
    /// Reads the device's configuration, by bytes. EINVAL beyond its end. Read it again if [`Transport::generation`] has changed.
    fn read_config(&self, off: usize, out: &mut [u8]) -> Result<()>;
    fn write_config(&self, off: usize, bytes: &[u8]) -> Result<()>;
    fn generation(&self) -> u32;
    /// The longest queue that the device can have there; 0: no such queue.
    fn queue_limit(&self, queue: u16) -> u16;
    /// Starts a queue.
    fn start_queue(&self, q: Layout) -> Result<()>;
    /// Rings a queue's bell. Any context.
    fn notify(&self, queue: u16);
    /// Connects interrupts: `configuration` for a changed configuration, and one for each queue with its name, before queues are
    /// started. Interrupts may be shared: a callback looks whether there is something for it.
    fn connect(&self, name: &str, configuration: Callback, queues: Vec<(String, Callback)>) -> Result<()>;
    /// Takes them away. Task context; afterwards no callback runs.
    fn disconnect(&self);
}
