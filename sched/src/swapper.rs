//! # swapper/N (PID 0)
//! * **What for**: what a processor runs when there is nothing else: it halts until an interrupt. The boot path
//!   becomes swapper/0, each other processor's start becomes swapper/N.
//! * **Woken by**: interrupts; it is always runnable and on no run queue.
//! * **Never**: sleeps, holds a lock across a halt, leaves its processor, appears in a process list.
//! * **Shows as**: PPID 0 of init and kthreadd, `swapper/N:0` in traces, the idle columns of `/proc/stat`. The name
//!   is historical: it once swapped processes out; here as on Linux it swaps nothing.
//! * **Documented**: Linux `kernel/sched/idle.c`.
//!
//! A processor that goes down ends here: when it is off line and nothing is left to run, its idle task halts it for good, and when it
//! comes back it begins anew in the same idle task.
//!
//! With nothing to time there is no tick: the hardware timer stands at the next timer's expiry, or off.

use alloc::sync::Arc;

use base::{Result, daemon::Card};
use frame::{
    atomic::{AtomicBool, Ordering},
    cpu::{self, CpuId, CpuMask},
    task::Task,
};

use crate::{
    account, core, cpuhp, latency,
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

/// Where a processor other than the first begins, for the first time or again. Interrupts are off.
pub(crate) fn secondary(id: CpuId) -> ! {
    match core::cpu(id).idle.get() {
        None => adopt(id).expect("memory for an idle task"),
        Some(idle) => {
            account::resume_idle(id, crate::thread(idle));
            timer::reopen(id);
        }
    }
    cpuhp::starting(id);
    cpu::set_online(id, true);
    cpu_idle()
}

/// The idle loop: halts until an interrupt; whatever an interrupt made runnable runs from there.
pub fn cpu_idle() -> ! {
    // To the scheduler this task was "running" so far: from now on it says that the processor is idle.
    frame::task::schedule();
    let me = cpu::raw_id();
    loop {
        base::log::klog_tick();
        let gone = || !cpu::online().contains(me);
        if gone() {
            end(me);
        }
        if latency::must_poll() {
            cpu::idle_poll(|| latency::must_poll() && !gone());
        } else {
            // Asked once more with interrupts off: the machine may have been stopped since.
            cpu::halt_unless(gone);
            crate::figures::note(crate::figures::Reason::Interrupt);
            frame::task::preempt_check();
        }
    }
}

/// How long all processors have idled, in milliseconds.
pub(crate) fn idle_ms() -> u64 {
    let idle = |c| {
        let t = account::cpu_times(c);
        t.idle_ns + t.iowait_ns
    };
    crate::stat::possible_cpus().map(idle).sum::<u64>() / 1_000_000
}

/// Off line, and nothing to run: nothing can come here any more.
fn end(me: CpuId) -> ! {
    if let Some(idle) = core::cpu(me).idle.get() {
        account::pause_idle(me, crate::thread(idle));
    }
    cpu::hotplug::die()
}

/// Lets this processor rest for `ns` in the running task, as if it were its idle task: the time counts as idle, the tick stops if nothing
/// needs it, and what is more urgent than the task runs in between. For `idle_inject`.
pub(crate) fn play_idle(ns: u64) -> Result<()> {
    let over = Arc::new(AtomicBool::new(false));
    let o = over.clone();
    let timer = time::Timer::new(move |_| o.store(true, Ordering::Release))?;
    let me = frame::task::current();
    let t = crate::thread(&me);
    account::set_resting(t, true);
    timer.arm(frame::time::now_ns() + ns);
    while !over.load(Ordering::Acquire) {
        cpu::halt_unless(|| over.load(Ordering::Acquire));
        crate::cond_resched();
    }
    account::set_resting(t, false);
    Ok(())
}

fn on_timer() {
    let id = cpu::raw_id();
    let begun = frame::time::now_ns();
    timer::interrupt(id, |now| core::tick(id, now));
    base::log::klog_tick();
    account::irq_took(id, frame::time::now_ns().saturating_sub(begun));
}
