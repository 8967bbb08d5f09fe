//! `/proc/sys/net` and `/proc/net`.
//!
//! | knob | means |
//! |---|---|
//! | `core/{r,w}mem_default` | `SO_RCVBUF`, `SO_SNDBUF` of a new socket, bytes (doubled already) |
//! | `core/{r,w}mem_max` | what the two options are limited to, before doubling |
//! | `core/somaxconn` | limit of listen(2)'s backlog |
//! | `core/optmem_max` | longest control part of a message, bytes |
//! | `unix/max_dgram_qlen` | messages that wait at a new datagram socket, less one |

use base::{Errno, Result, tree};
use frame::atomic::{AtomicU32, Ordering::Relaxed};

use crate::{netlink, unix};

/// Smallest buffers (`SOCK_MIN_SNDBUF`, `SOCK_MIN_RCVBUF`): what one message of 2 KiB is charged, twice and once.
pub(crate) const MIN_SNDBUF: u32 = 2 * MIN_RCVBUF;
pub(crate) const MIN_RCVBUF: u32 = 2048 + 256;
/// Linux's default buffer.
const BUFFER: u32 = 212_992;

pub static RMEM_DEFAULT: AtomicU32 = AtomicU32::new(BUFFER);
pub static RMEM_MAX: AtomicU32 = AtomicU32::new(BUFFER);
pub static WMEM_DEFAULT: AtomicU32 = AtomicU32::new(BUFFER);
pub static WMEM_MAX: AtomicU32 = AtomicU32::new(BUFFER);
pub static SOMAXCONN: AtomicU32 = AtomicU32::new(4096);
pub static OPTMEM_MAX: AtomicU32 = AtomicU32::new(128 << 10);
pub static MAX_DGRAM_QLEN: AtomicU32 = AtomicU32::new(10);

/// A sysctl: an integer between two bounds, `EINVAL` outside.
fn sysctl(path: &str, v: &'static AtomicU32, min: u32) -> Result<()> {
    tree::proc().knob(
        path,
        0o644,
        |o| Ok(writeln!(o, "{}", v.load(Relaxed))?),
        move |b| {
            let n = tree::parse_int(b)?;
            let n =
                u32::try_from(n).ok().filter(|n| *n >= min && *n <= i32::MAX as u32).ok_or(Errno::EINVAL)?;
            v.store(n, Relaxed);
            Ok(())
        },
    )
}

pub(crate) fn init() -> Result<()> {
    sysctl("sys/net/core/rmem_default", &RMEM_DEFAULT, MIN_RCVBUF)?;
    sysctl("sys/net/core/rmem_max", &RMEM_MAX, MIN_RCVBUF)?;
    sysctl("sys/net/core/wmem_default", &WMEM_DEFAULT, MIN_SNDBUF)?;
    sysctl("sys/net/core/wmem_max", &WMEM_MAX, MIN_SNDBUF)?;
    sysctl("sys/net/core/somaxconn", &SOMAXCONN, 0)?;
    sysctl("sys/net/core/optmem_max", &OPTMEM_MAX, 0)?;
    sysctl("sys/net/unix/max_dgram_qlen", &MAX_DGRAM_QLEN, 0)?;
    // What a process sees of its network; all see the same until there are name spaces.
    tree::proc().link("net", "self/net")?;
    tree::net().file("unix", 0o444, unix::show)?;
    tree::net().file("netlink", 0o444, netlink::show)
}
