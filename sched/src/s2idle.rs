//! Suspend-to-idle: the machine does nothing, and its time stands still, until something wakes it.
//!
//! # Theory
//! There is no firmware to hand the machine to: suspended, it is in the idle loop, on all processors, and stays there because
//! nothing becomes due. The clock is stopped ([`frame::time::stop`]) and each processor's timer is put off, so no timer, tick
//! or time-out ends an idle period; device interrupts still come, and the one that matters reports a wake-up event.
//! Then the clock goes on from where it stood, the time slept is added to what the real-time clock and `CLOCK_BOOTTIME` are ahead, and
//! each processor sets its timer again.
//!
//! The caller has frozen all user tasks and the freezable kernel threads: what else runs is served, and sees no time pass.
//!
//! Linux's behaviour: `kernel/power/suspend.c` (`s2idle_loop`), `kernel/time/timekeeping.c`.

use frame::cpu;

use crate::{time, timer, wakeup};

/// Sleeps until a wake-up event comes. How long that was, in nanoseconds of the time that went on. [`wakeup::arm`] came before.
pub fn enter() -> u64 {
    frame::time::stop();
    on_each(timer::put_off);
    wakeup::wait();
    let slept = frame::time::go_on();
    on_each(timer::set_again);
    time::slept(slept);
    slept
}

fn on_each(f: fn(cpu::CpuId)) {
    cpu::call_each(cpu::online(), move || f(cpu::raw_id()));
}
