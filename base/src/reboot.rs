//! The end of the machine, in order: whoever must do something before it (a watchdog is stopped, say) is told first.
//!
//! Linux's reboot notifier chain and `kernel_restart`, `kernel_power_off`, `kernel_halt`, `emergency_restart`.

use alloc::vec::Vec;

use frame::{
    atomic::AtomicI32,
    sync::{LockClass, Mutex},
};

/// How it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Restart,
    PowerOff,
    Halt,
}

/// Whether Ctrl-Alt-Del restarts the machine at once (1), or asks init to (0): `kernel.ctrl-alt-del`, `LINUX_REBOOT_CMD_CAD_ON`.
/// It is for the driver of a keyboard to look at.
pub static CTRL_ALT_DEL: AtomicI32 = AtomicI32::new(1);

type Notifier = fn(End);
static CLASS: LockClass = LockClass::new("reboot_notifiers");
static NOTIFIERS: Mutex<Vec<Notifier>> = Mutex::new(&CLASS, Vec::new());

/// `f` is called, in a task, before the machine ends in order.
pub fn register_notifier(f: Notifier) {
    NOTIFIERS.lock().push(f);
}

fn prepare(end: End) {
    // A copy: a notifier may take long, or register something.
    let all: Vec<Notifier> = NOTIFIERS.lock().clone();
    all.iter().for_each(|f| f(end));
}

/// Restarts. `command`: what reboot(2) was given for the firmware.
pub fn restart(command: Option<&str>) -> ! {
    prepare(End::Restart);
    match command {
        Some(c) => crate::pr_emerg!("reboot: Restarting system with command '{c}'"),
        None => crate::pr_emerg!("reboot: Restarting system"),
    }
    frame::boot::reset()
}
/// Cuts the power.
pub fn power_off() -> ! {
    prepare(End::PowerOff);
    crate::pr_emerg!("reboot: Power down");
    frame::boot::power_off()
}
/// Stops for good.
pub fn halt() -> ! {
    prepare(End::Halt);
    crate::pr_emerg!("reboot: System halted");
    frame::boot::halt()
}
/// Restarts at once, from any context, telling nobody.
pub fn emergency_restart() -> ! {
    frame::boot::reset()
}
