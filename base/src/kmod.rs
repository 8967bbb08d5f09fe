//! Requests for modules: where a room does not know a file system, a format or a device, it asks user space to bring what does.
//!
//! This kernel has no loadable modules. The request is made all the same, since its other half is a program of the user's
//! (`/proc/sys/kernel/modprobe`), which may do whatever makes the name known. The room that runs programs installs the runner.
//!
//! | who asks | name |
//! |---|---|
//! | mount | `fs-ext9` |
//! | exec | `binfmt-464c`: bytes 2 and 3 of the file, as a number |
//! | open of a device | `char-major-10-200`, `block-major-8-0` |
//! | socket | `net-pf-10` |
//!
//! Linux's behaviour: `kernel/module/kmod.c`, `Documentation/admin-guide/sysctl/kernel.rst`, modprobe.

use alloc::string::String;
use core::fmt::{self, Write};

use frame::sync::once::Once;

use crate::errno::{Errno, Result};

/// Longest name, NUL included (`MODULE_NAME_LEN`).
const NAME_LEN: usize = 56;

/// Runs the program for a module's name, waits for it, and gives its wait status.
pub type Runner = fn(&str) -> Result<i32>;

static RUNNER: Once<Runner> = Once::new();

/// Installs the runner; the first call decides.
pub fn install(run: Runner) {
    RUNNER.call_once(|| run);
}

/// Asks for a module and waits for the program that was run for it; its wait status. Worth looking again after 0. `ENOENT`: nobody
/// is to be asked; `ENAMETOOLONG`; `ETIME`: too many requests are under way; `EINTR`: a fatal signal came.
///
/// Only where sleeping is allowed and no lock is held that the program could need.
pub fn request_module(name: fmt::Arguments<'_>) -> Result<i32> {
    let run = RUNNER.get().ok_or(Errno::ENOENT)?;
    run(&name_of(name)?)
}

fn name_of(name: fmt::Arguments<'_>) -> Result<String> {
    let mut text = String::new();
    text.try_reserve(NAME_LEN)?;
    let mut room = Bounded { text, left: NAME_LEN - 1 };
    room.write_fmt(name).map_err(|_| Errno::ENAMETOOLONG)?;
    Ok(room.text)
}

struct Bounded {
    text: String,
    left: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.left = self.left.checked_sub(s.len()).ok_or(fmt::Error)?;
        self.text.push_str(s);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded() {
        assert_eq!(name_of(format_args!("fs-{}", "ext9")).unwrap(), "fs-ext9");
        let long = "x".repeat(NAME_LEN - 1);
        assert!(name_of(format_args!("{long}")).is_ok());
        assert_eq!(name_of(format_args!("{long}y")), Err(Errno::ENAMETOOLONG));
    }
}
