//! Pseudo-terminals: a terminal whose line ends in another file, the *master*, instead of a wire (`pty(7)`).
//!
//! ```text
//!   master write ──▶ to_slave ──▶ flush_to_ldisc ──▶ slave read
//!   master read  ◀── to_master ◀── output, echo  ◀── slave write
//! ```
//! The slave is a [`Tty`] like any other; its driver is the pair of wires. Opening `/dev/ptmx` makes a pair and a node for the
//! slave in the devpts that is mounted beside (`../pts` as seen from the node that was opened, or the devpts that the node is in).
//!
//! # Nothing is lost
//! Each wire holds a bounded number of bytes; a writer waits for room. `to_slave` is emptied only as far as the line discipline
//! has room, so a slave that nobody reads stops the master's writer, and the other way round.
//!
//! # Ends
//! * The last file of the slave is closed: the master reads what was written, then EIO, and polls as hung up, until somebody opens
//!   the slave again.
//! * The master is closed: the slave is hung up ([`Tty::hang_up`]) and its node is gone. Its number is free when the last file of
//!   the slave is closed too.
//!
//! Missing: TIOCCONS, and the old names `/dev/ptyXY`.

use alloc::{format, sync::Arc};

use base::{
    Errno, Result,
    device::{self, DevKind, DevNum, Device},
};
use frame::sync::once::Once;
use vfs::{
    FileOps, Inode, LookupFlags, OpenFlags, Path,
    special::{DeviceNode, DeviceOps},
};

use super::{Tty, file, job, termios::Termios};

mod master;
mod slave;
mod wire;

#[cfg(test)]
mod tests;

use master::Master;
use slave::{Pair, SlaveDriver};

/// Major numbers of the masters, which nothing opens by number, and of the slaves.
const MASTER_MAJOR: u32 = 128;
pub const SLAVE_MAJOR: u32 = 136;
/// More pseudo-terminals than this cannot be numbered.
pub const MAX_NUMBERS: u32 = 1 << 20;

/// A devpts: where the slaves have their names. The room above installs how one is found.
pub trait Devpts: Send + Sync {
    /// A free number. ENOSPC.
    fn take_number(&self) -> Result<u32>;
    fn give_number(&self, number: u32);
    /// Makes the slave's node. `owner`: user and group, unless the mount says otherwise.
    fn add(&self, number: u32, slave: &Arc<Tty>, owner: (u32, u32)) -> Result<()>;
    /// Takes it away.
    fn remove(&self, number: u32);
}

/// Tells which devpts a place is in, if any.
pub type FindFn = fn(&Path) -> Option<Arc<dyn Devpts>>;
static FIND: Once<FindFn> = Once::new();

/// Installs what tells which devpts a place is in, if any.
pub fn install_devpts(f: FindFn) {
    FIND.call_once(|| f);
}

/// The devpts that belongs to the node `ptmx`, and its root. ENOENT, ENODEV.
fn find_devpts(ptmx: &Path) -> Result<(Arc<dyn Devpts>, Path)> {
    let find = FIND.get().ok_or(Errno::ENODEV)?;
    if let Some(d) = find(ptmx) {
        let root = Path { mount: ptmx.mount.clone(), dentry: ptmx.mount.root().clone() };
        return Ok((d, root));
    }
    let dir = ptmx.dentry.parent().ok_or(Errno::ENODEV)?;
    let ctx = job::jobs().and_then(|j| j.ctx()).ok_or(Errno::ENODEV)?;
    let beside = Path { mount: ptmx.mount.clone(), dentry: dir };
    let root = vfs::lookup(&ctx, Some(&beside), b"pts", LookupFlags::FOLLOW | LookupFlags::DIRECTORY)?;
    let d = find(&root).filter(|_| root.is_mount_root()).ok_or(Errno::ENODEV)?;
    Ok((d, root))
}

/// A number of a devpts, given back at the end.
struct Number {
    devpts: Arc<dyn Devpts>,
    number: u32,
}
impl Number {
    fn take(devpts: Arc<dyn Devpts>) -> Result<Number> {
        let number = devpts.take_number()?;
        Ok(Number { devpts, number })
    }
}
impl Drop for Number {
    fn drop(&mut self) {
        self.devpts.give_number(self.number);
    }
}

/// A new pair: its master, not in any file yet. The slave is locked until TIOCSPTLCK.
fn new_pair(devpts: Arc<dyn Devpts>) -> Result<Arc<Master>> {
    let number = Number::take(devpts.clone())?;
    let n = number.number;
    let pair = Pair::new()?;
    let driver = SlaveDriver::new(pair.clone(), number)?;
    let slave = Tty::build(format!("pts/{n}"), DevNum::new(SLAVE_MAJOR, n), driver, Termios::of_pty())?;
    let cred = job::jobs().and_then(|j| j.ctx()).map(|c| c.cred);
    devpts.add(n, &slave, cred.map_or((0, 0), |c| (c.fsuid, c.fsgid)))?;
    // Its drop removes the node again.
    let master = frame::heap::try_arc(Master { pair, slave, devpts: devpts.clone(), number: n });
    master.ok_or_else(|| {
        devpts.remove(n);
        Errno::ENOMEM
    })
}

/// Opens a slave by its node.
pub fn open_slave(slave: &Arc<Tty>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    file::open(slave, flags)
}

struct Ptmx;
impl DeviceOps for Ptmx {
    /// Without a place there is no devpts.
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENODEV)
    }
    fn open_at(&self, path: &Path, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(new_pair(find_devpts(path)?.0)?)
    }
}

/// Registers `/dev/ptmx`.
pub fn init() -> Result<()> {
    device::register(Device {
        name: "ptmx".into(),
        num: DevNum::new(5, 2),
        kind: DevKind::Char,
        mode: 0o666,
        class: Some("tty"),
        ops: DeviceNode::new(Ptmx),
    })?;
    device::register_major(DevKind::Char, MASTER_MAJOR, "ptm");
    device::register_major(DevKind::Char, SLAVE_MAJOR, "pts");
    Ok(())
}
