//! The device nodes of terminals: `/dev/ttyS0`, `/dev/console`, `/dev/tty`.

use alloc::sync::Arc;

use base::{
    Errno, Result,
    device::{self, DevKind, DevNum, Device},
};
use frame::{atomic::Ordering::Relaxed, sync::once::Once};
use vfs::{
    FileOps, Inode, OpenFlags,
    special::{DeviceNode, DeviceOps},
};

use super::{
    Tty,
    file::{self, TtyFile},
    ioctl::LEGACY_TIOCSTI,
    job,
};

static CONSOLE: Once<Arc<Tty>> = Once::new();

/// Registers a terminal under its own name.
pub fn register(tty: &Arc<Tty>, mode: u32) -> Result<()> {
    let ops = DeviceNode::new(Line { tty: tty.clone(), may_control: true });
    device::register(Device {
        name: tty.name.clone(),
        num: tty.num,
        kind: DevKind::Char,
        mode,
        class: Some("tty"),
        ops,
    })?;
    Ok(())
}

/// Makes a terminal the console: `/dev/console`.
pub fn register_console(tty: &Arc<Tty>) -> Result<()> {
    CONSOLE.call_once(|| tty.clone());
    let ops = DeviceNode::new(Line { tty: tty.clone(), may_control: false });
    let num = DevNum::new(5, 1);
    device::register(Device {
        name: "console".into(),
        num,
        kind: DevKind::Char,
        mode: 0o600,
        class: Some("tty"),
        ops,
    })?;
    let name = tty.name.clone();
    base::tree::sys()
        .file("devices/virtual/tty/console/active", 0o444, move |o| Ok(writeln!(o, "{name}")?))?;
    let (name, num) = (tty.name.clone(), tty.num);
    base::tree::proc().file("consoles", 0o444, move |o| {
        // Writes; enabled, preferred, prints the log so far, at any time; a blank for each flag that is not set. Then the numbers.
        Ok(writeln!(o, "{name:<21}-W- (EC  p a)  {:3}:{}", num.major, num.minor)?)
    })
}

/// Registers `/dev/tty`.
pub fn register_current() -> Result<()> {
    let ops = DeviceNode::new(CurrentTty);
    let num = DevNum::new(5, 0);
    device::register(Device {
        name: "tty".into(),
        num,
        kind: DevKind::Char,
        mode: 0o666,
        class: Some("tty"),
        ops,
    })?;
    base::tree::proc().knob(
        "sys/dev/tty/legacy_tiocsti",
        0o644,
        |o| Ok(writeln!(o, "{}", u8::from(LEGACY_TIOCSTI.load(Relaxed)))?),
        |b| match base::tree::parse_int(b)? {
            n @ 0..=1 => {
                LEGACY_TIOCSTI.store(n == 1, Relaxed);
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        },
    )
}

/// The console's terminal.
pub fn console() -> Option<Arc<Tty>> {
    CONSOLE.get().cloned()
}

struct Line {
    tty: Arc<Tty>,
    /// A session leader that opens it gets it as its controlling terminal; not so for `/dev/console`.
    may_control: bool,
}

impl DeviceOps for Line {
    fn open(&self, _inode: &Arc<Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        if self.may_control { file::open(&self.tty, flags) } else { Ok(TtyFile::console(self.tty.clone())?) }
    }
}

struct CurrentTty;
impl DeviceOps for CurrentTty {
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(TtyFile::new(job::jobs().and_then(|j| j.session_tty()).ok_or(Errno::ENXIO)?)?)
    }
}
