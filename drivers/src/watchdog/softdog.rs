//! softdog: a watchdog made of a kernel timer, for machines without a better one. It depends on the timer interrupt still being
//! served, so it notices a dead user space but not every dead kernel.
//!
//! It is part of the kernel, as on a Linux built with `CONFIG_SOFT_WATCHDOG=y`, and comes after the hardware: `/dev/watchdog` is
//! softdog only where there is nothing else. Boot parameters: `softdog.soft_margin` (seconds), `softdog.nowayout`,
//! `softdog.soft_noboot` (only complains), `softdog.soft_panic`, `softdog.soft_active_on_boot`. Missing:
//! `softdog.soft_reboot_cmd`.
//!
//! Documented: Linux `Documentation/watchdog/watchdog-parameters.rst`.

use alloc::boxed::Box;

use base::{Result, params};
use sched::time::{Timer, now_ns};

use super::{Description, Hardware, bool_param, option};

const DEFAULT_MARGIN: u32 = 60;
const MOST: u32 = 65_535;
const SECOND: u64 = 1_000_000_000;

struct Softdog {
    bite: Timer,
}

/// What the bite does.
#[derive(Clone, Copy)]
struct Teeth {
    no_boot: bool,
    panic: bool,
}

impl Teeth {
    fn bite(self) {
        if self.no_boot {
            base::pr_crit!("softdog: Triggered - Reboot ignored");
        } else if self.panic {
            base::pr_crit!("softdog: Initiating panic");
            panic!("Software Watchdog Timer expired");
        } else {
            base::pr_crit!("softdog: Initiating system reboot");
            base::reboot::emergency_restart();
        }
    }
}

impl Hardware for Softdog {
    fn start(&self, timeout_s: u32, _nowayout: bool) -> Result<()> {
        self.ping(timeout_s)
    }
    fn stop(&self) -> Result<()> {
        self.bite.cancel();
        Ok(())
    }
    fn ping(&self, timeout_s: u32) -> Result<()> {
        self.bite.arm(now_ns() + u64::from(timeout_s) * SECOND);
        Ok(())
    }
    fn set_timeout(&self, timeout_s: u32) -> Result<u32> {
        Ok(timeout_s)
    }
}

/// Registers it.
pub fn init() -> Result<()> {
    let margin = params::get("softdog.soft_margin").and_then(|v| v.parse().ok()).unwrap_or(DEFAULT_MARGIN);
    if !(1..=MOST).contains(&margin) {
        base::pr_err!("softdog: soft_margin must be 0 < soft_margin < 65536, using {DEFAULT_MARGIN}");
    }
    let margin = if (1..=MOST).contains(&margin) { margin } else { DEFAULT_MARGIN };
    let no_boot =
        params::get("softdog.soft_noboot").and_then(|v| v.parse::<i32>().ok()).is_some_and(|v| v != 0);
    let panic = params::get("softdog.soft_panic").and_then(|v| v.parse::<i32>().ok()).is_some_and(|v| v != 0);
    let (nowayout, active) =
        (bool_param("softdog.nowayout", false), bool_param("softdog.soft_active_on_boot", false));
    let teeth = Teeth { no_boot, panic };
    let hardware = Softdog { bite: Timer::new(move |_| teeth.bite())? };
    super::register(
        Description {
            identity: "Software Watchdog",
            firmware: 0,
            options: option::SET_TIMEOUT | option::KEEPALIVE_PING | option::MAGIC_CLOSE,
            timeout: margin,
            min_timeout: 1,
            max_timeout: MOST,
            min_heartbeat_ms: 0,
            max_heartbeat_ms: 0,
            nowayout,
            running: active,
            boot_status: 0,
        },
        Box::new(hardware),
        None,
    )?;
    base::pr_info!(
        "softdog: initialized. soft_noboot={} soft_margin={margin} sec soft_panic={} (nowayout={})",
        u32::from(no_boot),
        u32::from(panic),
        u32::from(nowayout)
    );
    base::pr_info!(
        "softdog:              soft_reboot_cmd=<not set> soft_active_on_boot={}",
        u32::from(active)
    );
    Ok(())
}
