//! What this room and frame have to do when a processor comes and goes.

use base::{Errno, Result};
use frame::{
    cpu::{CpuId, CpuMask, hotplug},
    irq,
};

use super::{THREADS, state};
use crate::{core, migration, place, smpboot, softirq, swapper, time, timer, watchdog, workqueue};

/// Fills the table with the states that are always there.
pub(super) fn fill() {
    use state::{
        AP_ACTIVE, AP_ACTIVE_WAIT, AP_HRTIMERS_DYING, AP_OFFLINE, AP_ONLINE, AP_SCHED_STARTING,
        AP_SMPBOOT_THREADS, AP_WATCHDOG_ONLINE, AP_WORKQUEUE_ONLINE, BRINGUP_CPU, OFFLINE, ONLINE, SLUB_DEAD,
        SOFTIRQ_DEAD, TEARDOWN_CPU, THREADS_PREPARE, TIMERS_PREPARE, set,
    };
    let none = None;
    set(OFFLINE, "offline", none, none);
    set(THREADS_PREPARE, "threads:prepare", Some(make_threads), none);
    set(TIMERS_PREPARE, "timers:prepare", none, Some(timers_dead));
    set(SOFTIRQ_DEAD, "softirq:dead", none, Some(softirqs_dead));
    set(SLUB_DEAD, "slub:dead", none, Some(slabs_dead));
    set(BRINGUP_CPU, "cpu:bringup", Some(bring_up), none);
    set(AP_OFFLINE, "ap:offline", none, none);
    set(AP_SCHED_STARTING, "sched:starting", none, Some(sched_dying));
    set(AP_HRTIMERS_DYING, "hrtimers:dying", none, Some(timers_dying));
    set(AP_ONLINE, "ap:online", none, none);
    set(TEARDOWN_CPU, "cpu:teardown", none, Some(take_down));
    set(AP_ACTIVE_WAIT, "sched:waitempty", none, Some(wait_empty));
    set(AP_SMPBOOT_THREADS, "smpboot/threads:online", Some(smpboot::unpark_all), Some(smpboot::park_all));
    set(
        AP_WATCHDOG_ONLINE,
        "lockup_detector:online",
        Some(watchdog::cpu_online),
        Some(watchdog::cpu_offline),
    );
    let no_workers = |c| {
        workqueue::cpu_offline(c);
        Ok(())
    };
    set(AP_WORKQUEUE_ONLINE, "workqueue:online", Some(workqueue::cpu_online), Some(no_workers));
    set(AP_ACTIVE, "sched:active", Some(activate), Some(deactivate));
    set(ONLINE, "online", none, none);
}

/// A processor that inherits from `dying`: the first that stays.
fn heir(dying: CpuId) -> CpuId {
    place::active().without(dying).first().unwrap_or(CpuId::BOOT)
}

// ---- PREPARE: the task that asks ----

fn make_threads(c: CpuId) -> Result<()> {
    migration::prepare(c)?;
    if let Some(t) = THREADS.get() {
        t.make(c)?;
    }
    smpboot::make_all(c)
}

/// The heir's hardware timer must know what it has inherited. Also what was armed on the dead processor after its STARTING steps has
/// gone there.
fn timers_dead(c: CpuId) -> Result<()> {
    frame::cpu::call_on(heir(c), timer::catch_up);
    Ok(())
}

fn proof(c: CpuId) -> Result<hotplug::DeadCpu> {
    hotplug::DeadCpu::get(c).ok_or(Errno::EBUSY)
}

fn softirqs_dead(c: CpuId) -> Result<()> {
    let bits = irq::take_softirqs(&proof(c)?);
    for v in (0..softirq::VECTORS as u32).filter(|v| bits & 1 << v != 0) {
        irq::raise_softirq(v);
    }
    Ok(())
}

fn slabs_dead(c: CpuId) -> Result<()> {
    frame::heap::drain_dead(&proof(c)?);
    Ok(())
}

/// Starts the processor and waits until it counts.
fn bring_up(c: CpuId) -> Result<()> {
    base::pr_info!("smpboot: Booting Node 0 Processor {c} APIC {:#x}", frame::cpu::hardware_id(c));
    proof(c)?.start(swapper::secondary).map_err(|_| Errno::EIO)?;
    while !frame::cpu::online().contains(c) {
        crate::yield_now();
        frame::cpu::relax();
    }
    Ok(())
}

// ---- STARTING: the processor itself, interrupts off ----

/// Nothing but the thread that runs may stay: what is bound here and still queued works elsewhere until it comes to its end.
fn sched_dying(c: CpuId) -> Result<()> {
    core::push_all(c, |_| true);
    core::stop_ticking(c);
    Ok(())
}

fn timers_dying(c: CpuId) -> Result<()> {
    #[cfg(not(target_os = "none"))]
    if crate::faults::LEAVE_TIMERS.load(frame::atomic::Ordering::Relaxed) {
        return Ok(());
    }
    timer::hand_over(c, heir(c));
    Ok(())
}

/// How often the death of a processor is looked for, in nanoseconds.
const LOOK_NS: u64 = 50_000;

/// The end of the way down: parks the processor's own thread, stops the machine, and waits until the processor has halted.
fn take_down(c: CpuId) -> Result<()> {
    let Some(t) = THREADS.get().and_then(|t| t.of(c)) else { return Err(Errno::EBUSY) };
    t.park()?;
    let stopped = migration::stop_cpus(frame::cpu::online(), CpuMask::one(c), |me| {
        frame::cpu::set_online(me, false);
        // Nobody is in the middle of a shoot-down now, and from here on none concerns this processor.
        frame::paging::leave_user_table();
        irq::evacuate(me);
        for n in (state::AP_OFFLINE..=state::AP_ONLINE).rev() {
            let _ = super::invoke(me, n, false);
            super::cpu(me).state.store(n - 1, frame::atomic::Ordering::Relaxed);
        }
        migration::disable(me);
    });
    if let Err(e) = stopped {
        t.unpark();
        return Err(e);
    }
    while !hotplug::is_dead(c) {
        time::sleep_ns(LOOK_NS);
    }
    Ok(())
}

// ---- ONLINE: cpuhp/N ----

/// From here on no task comes here by itself, and those that wait go. What sleeps goes when it wakes.
fn deactivate(c: CpuId) -> Result<()> {
    place::set_active(c, false);
    // Whoever chose this processor before has queued the task now.
    frame::sync::rcu::synchronize();
    leave(c);
    Ok(())
}

fn activate(c: CpuId) -> Result<()> {
    place::set_active(c, true);
    Ok(())
}

/// What came while the steps before were taken.
fn wait_empty(c: CpuId) -> Result<()> {
    leave(c);
    Ok(())
}

fn leave(c: CpuId) {
    core::push_all(c, |t| !t.is_bound() || !t.affinity().and(place::active()).is_empty());
}
