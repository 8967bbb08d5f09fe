//! The table of states: what has to be done, in which order, for a processor to come and to go.
//!
//! A processor stands at a number. Coming, it passes from 0 (`offline`) to the last (`online`), and the *up* function of each state on
//! the way is called; going, it comes back, and the *down* functions are called in the opposite order. Names are Linux's, as
//! `/sys/devices/system/cpu/hotplug/states` shows them; numbers are this table's own, as they are each Linux build's.
//!
//! | section | who calls, up and down | may fail |
//! |---|---|---|
//! | PREPARE | the task that asks, on another processor | up only |
//! | STARTING | the processor itself, interrupts off: coming in its idle task, going in `migration/N` while all others stand still | no |
//! | ONLINE | `cpuhp/N`, on the processor | yes |

use base::{Errno, Result};
use frame::{cpu::CpuId, sync::once::Once};

/// What a state does in one direction.
pub type Callback = fn(CpuId) -> Result<()>;

/// A state.
#[derive(Debug)]
pub struct Step {
    pub name: &'static str,
    pub up: Option<Callback>,
    pub down: Option<Callback>,
}

pub const OFFLINE: u32 = 0;
pub(super) const THREADS_PREPARE: u32 = 1;
pub(super) const TIMERS_PREPARE: u32 = 2;
pub(super) const SOFTIRQ_DEAD: u32 = 3;
pub(super) const SLUB_DEAD: u32 = 4;
const PREPARE_DYN: u32 = 5;
const PREPARE_DYN_END: u32 = 20;
pub(super) const BRINGUP_CPU: u32 = 20;
pub(super) const AP_OFFLINE: u32 = 22;
pub(super) const AP_SCHED_STARTING: u32 = 23;
pub(super) const AP_HRTIMERS_DYING: u32 = 24;
pub(super) const AP_ONLINE: u32 = 25;
pub(super) const TEARDOWN_CPU: u32 = 26;
pub(super) const AP_ACTIVE_WAIT: u32 = 27;
pub(super) const AP_SMPBOOT_THREADS: u32 = 28;
pub(super) const AP_WATCHDOG_ONLINE: u32 = 29;
pub(super) const AP_WORKQUEUE_ONLINE: u32 = 30;
const ONLINE_DYN: u32 = 31;
const ONLINE_DYN_END: u32 = 50;
pub(super) const AP_ACTIVE: u32 = 50;
pub const ONLINE: u32 = 51;
const COUNT: usize = ONLINE as usize + 1;

static STEPS: [Once<Step>; COUNT] = [const { Once::new() }; COUNT];

/// Which part of the table a state belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    Prepare,
    Starting,
    Online,
}

pub(super) fn section(n: u32) -> Section {
    match n {
        0..=BRINGUP_CPU => Section::Prepare,
        21..=AP_ONLINE => Section::Starting,
        _ => Section::Online,
    }
}

/// The state of a number, if there is one.
pub fn step(n: u32) -> Option<&'static Step> {
    STEPS.get(n as usize)?.get()
}

pub(super) fn set(n: u32, name: &'static str, up: Option<Callback>, down: Option<Callback>) {
    STEPS[n as usize].call_once(|| Step { name, up, down });
}

/// Adds a state to a section, after those that it has: `cpuhp_setup_state_nocalls`. The functions are called for processors that
/// come and go from now on. Its number; ENOSPC if the section is full, EINVAL for [`Section::Starting`], which is closed.
pub fn register(s: Section, name: &'static str, up: Option<Callback>, down: Option<Callback>) -> Result<u32> {
    let range = match s {
        Section::Prepare => PREPARE_DYN..PREPARE_DYN_END,
        Section::Online => ONLINE_DYN..ONLINE_DYN_END,
        Section::Starting => return Err(Errno::EINVAL),
    };
    for n in range {
        let mut mine = false;
        STEPS[n as usize].call_once(|| {
            mine = true;
            Step { name, up, down }
        });
        if mine {
            return Ok(n);
        }
    }
    Err(Errno::ENOSPC)
}
