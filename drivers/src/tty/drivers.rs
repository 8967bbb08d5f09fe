//! `/proc/tty/drivers`: which terminals have which numbers (`proc_tty(5)`).

use base::{
    Result,
    device::{self, DevKind, DevNum},
    tree::{self, Out},
};

/// Name, path, major number, minor numbers, kind; and the device that is there if the driver is.
static DRIVERS: [(&str, &str, u32, &str, &str, DevNum); 4] = [
    ("/dev/tty", "/dev/tty", 5, "0", "system:/dev/tty", DevNum::new(5, 0)),
    ("/dev/console", "/dev/console", 5, "1", "system:console", DevNum::new(5, 1)),
    ("/dev/ptmx", "/dev/ptmx", 5, "2", "system", DevNum::new(5, 2)),
    ("serial", "/dev/ttyS", 4, "64-67", "serial", DevNum::new(4, 64)),
];
/// These come with `/dev/ptmx`.
static PTYS: [(&str, &str, u32, &str, &str); 2] = [
    ("pty_slave", "/dev/pts", 136, "0-1048575", "pty:slave"),
    ("pty_master", "/dev/ptm", 128, "0-1048575", "pty:master"),
];

fn line(o: &mut Out, d: (&str, &str, u32, &str, &str)) -> Result<()> {
    Ok(writeln!(o, "{:<20} {:<12} {:3} {:>7} {}", d.0, d.1, d.2, d.3, d.4)?)
}

/// Declares it.
pub(crate) fn declare() -> Result<()> {
    tree::proc().file("tty/drivers", 0o444, |o| {
        let there = |n: DevNum| device::lookup(DevKind::Char, n).is_some();
        for &(name, path, major, minors, kind, _) in DRIVERS.iter().filter(|d| there(d.5)) {
            line(o, (name, path, major, minors, kind))?;
        }
        if there(DevNum::new(5, 2)) {
            PTYS.iter().try_for_each(|&d| line(o, d))?;
        }
        Ok(())
    })
}
