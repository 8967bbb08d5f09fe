//! # swapper/N (PID 0)
//! * **What for**: what a processor runs when there is nothing else: it halts until an interrupt. The boot path
//!   becomes swapper/0, each other processor's start becomes swapper/N.
//! * **Woken by**: interrupts; it is always runnable and on no run queue.
//! * **Never**: sleeps, holds a lock across a halt, leaves its processor, appears in a process list.
//! * **Shows as**: PPID 0 of init and kthreadd, `swapper/N:0` in traces, the idle columns of `/proc/stat`. The name
//!   is historical: it once swapped processes out; here as on Linux it swaps nothing.
//! * **Documented**: Linux `kernel/sched/idle.c`.
//!
//! With nothing to time there is no tick: the hardware timer stands at the next timer's expiry, or off.

use base::{Result, daemon::Card};
use frame::{
    cpu::{self, CpuId, CpuMask},
    task::Task,
};

use crate::{
    account, core, latency,
    policy::Policy,
    softirq,
    thread::{Kind, Make},
    time, timer,
};

pub(crate) static CARD: Card = Card {
    name: "swapper",
    purpose: "halts a processor that has nothing to run",
    woken_by: "interrupts; it is always runnable",
    never: "sleeps, leaves its processor, or appears in a process list",
    documented: "Linux kernel/sched/idle.c",
};

/// Turns what runs on this processor into its idle task.
fn adopt(id: CpuId) -> Result<()> {
    let ext = Make {
        pid: 0,
        tgid: 0,
        comm: alloc::format!("swapper/{id}").as_bytes(),
        kind: Kind::Idle,
        policy: Policy::Other,
        nice: 0,
        affinity: CpuMask::one(id),
        control: None,
    }
    .ext()?;
    ext.thread.mark_ns.store(frame::time::now_ns(), frame::atomic::Ordering::Relaxed);
    ext.thread.runs_on.store(id.get() + 1, frame::atomic::Ordering::Relaxed);
    let t = Task::adopt_boot_context(ext);
    core::cpu(id).idle.call_once(|| t);
    Ok(())
}

/// The boot path becomes swapper/0, and the scheduler, softirqs and timers work. Called once, with interrupts off.
///
/// # Panics
/// Without the little memory that it needs: nothing could run.
pub fn init_boot_cpu() {
    adopt(CpuId::BOOT).expect("memory for the first task");
    crate::trace::init();
    time::init();
    softirq::init();
    frame::time::install_timer_handler(on_timer);
    frame::task::install_scheduler(&core::SCHED);
    cpu::set_online(CpuId::BOOT, true);
}

/// Starts the other processors; each becomes its swapper and idles. Returns how many run, this one not counted. In
/// a task.
pub fn start_other_cpus() -> usize {
    let answered = cpu::start_others(secondary);
    // They answer first and are ready a moment later.
    while cpu::online().count() as usize <= answered {
        crate::yield_now();
        frame::cpu::relax();
    }
    answered
}

fn secondary(id: CpuId) -> ! {
    adopt(id).expect("memory for an idle task");
    cpu::set_online(id, true);
    cpu_idle()
}

/// The idle loop: halts until an interrupt; whatever an interrupt made runnable runs from there.
pub fn cpu_idle() -> ! {
    // To the scheduler this task was "running" so far: from now on it says that the processor is idle.
    frame::task::schedule();
    loop {
        base::log::klog_tick();
        if latency::must_poll() {
            cpu::idle_poll(latency::must_poll);
        } else {
            cpu::idle();
        }
    }
}

fn on_timer() {
    let id = cpu::raw_id();
    let begun = frame::time::now_ns();
    timer::interrupt(id, |now| core::tick(id, now));
    base::log::klog_tick();
    account::irq_took(id, frame::time::now_ns().saturating_sub(begun));
}
