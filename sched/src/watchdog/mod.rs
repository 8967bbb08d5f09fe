//! The lockup detectors: they notice a processor that is stuck in the kernel, and say where.
//!
//! # Theory
//! *Soft lockup*: a processor takes interrupts but does not schedule. Every processor has a timer that fires five times within the time
//! allowed (twice `watchdog_thresh`). Each time it asks the highest class, `migration/N`, to touch a time stamp, and looks how old
//! the stamp is. Nothing that may run keeps that thread from running, not a real-time task either: an old stamp means that the
//! kernel holds the processor.
//!
//! *Hard lockup*: a processor takes no interrupts either, so its timer cannot tell. But the timer counts, and every processor's timer looks
//! at the count of its neighbour, round the ring of watched processors. (Linux can also use a performance counter's NMI, which a
//! virtual machine need not have; this is its `CONFIG_HARDLOCKUP_DETECTOR_BUDDY`. A machine with one processor has no neighbour.)
//! By NMI the neighbour is then asked where it is.
//!
//! An idle processor wakes for its timer and is fine. Suspended, the clock stands still, and with it all ages. What is slow for a reason says
//! so ([`base::lockup`]): then counting begins anew.
//!
//! | knob of `kernel.` | what |
//! |---|---|
//! | `watchdog`, `soft_watchdog`, `nmi_watchdog` | both on or off; each. Reading, they show what is on |
//! | `watchdog_thresh` | seconds, 0 to 60; 0 is off. Soft lockups are told after twice as long |
//! | `watchdog_cpumask` | who is watched |
//! | `softlockup_panic`, `hardlockup_panic` | a report is followed by a panic |
//! | `softlockup_all_cpu_backtrace`, `hardlockup_all_cpu_backtrace` | it shows where all processors are |
//!
//! Samples of each processor: `/sys/kernel/nightshift/watchdog/samples`.
//!
//! Boot parameters: `nowatchdog`, `nosoftlockup`, `nmi_watchdog=`, `watchdog_thresh=`, `softlockup_panic=`,
//! `softlockup_all_cpu_backtrace=`, `hardlockup_all_cpu_backtrace=`.
//!
//! Different from Linux: turning it on does not wait for a processor that is stuck already, which is reported like any other.
//!
//! Documented: Linux `Documentation/admin-guide/lockup-watchdogs.rst`, `Documentation/admin-guide/sysctl/kernel.rst`.

mod hard;
mod knobs;
pub mod policy;
mod soft;

use base::Result;
use frame::{
    atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    context::IrqGuard,
    cpu::{CpuId, CpuMask, IrqWork, MAX_CPUS},
    sync::{LockClass, Mutex, once::Once},
};

use crate::{cpuhp, migration, stat::possible_cpus, time, timer::Timer};

const HARD: u32 = 1;
const SOFT: u32 = 2;
/// What is on now.
static ENABLED: AtomicU32 = AtomicU32::new(0);
/// `kernel.watchdog_thresh`, in seconds.
static THRESH: AtomicI32 = AtomicI32::new(10);
/// Nanoseconds between two samples. Changes only while nobody is watched: a sample that comes while the threshold is being set to 0
/// must not begin to come at once for ever.
static PERIOD_NS: AtomicU64 = AtomicU64::new(0);
/// Whom user space wants watched.
static MASK: AtomicU64 = AtomicU64::new(u64::MAX);

/// What is known of one processor.
#[repr(align(64))]
struct Cpu {
    timer: Once<Timer>,
    /// Its timer is to go on.
    on: AtomicBool,
    /// When its stop class last ran, and since when it is counted: [`policy::seconds`].
    touched: AtomicU64,
    period: AtomicU64,
    /// Samples taken, and how many its neighbour had seen.
    samples: AtomicU32,
    seen: AtomicU32,
    /// A hard lockup has been told.
    warned: AtomicBool,
}

static CPUS: [Cpu; MAX_CPUS] = [const {
    Cpu {
        timer: Once::new(),
        on: AtomicBool::new(false),
        touched: AtomicU64::new(0),
        period: AtomicU64::new(0),
        samples: AtomicU32::new(0),
        seen: AtomicU32::new(0),
        warned: AtomicBool::new(false),
    }
}; MAX_CPUS];

fn cpu(c: CpuId) -> &'static Cpu {
    &CPUS[c.index()]
}
fn enabled(what: u32) -> bool {
    ENABLED.load(Relaxed) & what != 0
}
fn thresh() -> u64 {
    THRESH.load(Relaxed).max(0) as u64
}
fn mask() -> CpuMask {
    CpuMask(MASK.load(Relaxed))
}

/// One sample, in the timer's interrupt.
fn sample(t: &Timer) {
    let me = frame::cpu::raw_id();
    if !cpu(me).on.load(SeqCst) {
        return;
    }
    hard::count(me);
    migration::touch_watchdog(me);
    t.arm(time::now_ns() + PERIOD_NS.load(Relaxed));
    soft::check(me);
}

/// `migration/N` has run.
pub(crate) fn touched(me: CpuId) {
    soft::touch(me);
}

static START: Once<IrqWork> = Once::new();

/// On the processor itself, with interrupts off: its timer begins.
fn start_here() {
    let me = frame::cpu::raw_id();
    if !cpu(me).on.load(SeqCst) {
        return;
    }
    soft::touch(me);
    if let Some(t) = cpu(me).timer.get() {
        t.arm(time::now_ns() + PERIOD_NS.load(Relaxed));
    }
}

/// Marks a processor as watched, if it should be. The caller then has it [`start_here`].
fn watch(c: CpuId) -> bool {
    let on = ENABLED.load(Relaxed) != 0 && PERIOD_NS.load(Relaxed) != 0 && mask().contains(c);
    if on {
        cpu(c).on.store(true, SeqCst);
        if enabled(HARD) {
            hard::watch(c);
        }
    }
    on
}

/// Ends it. In a task.
fn stop(c: CpuId) {
    #[cfg(not(target_os = "none"))]
    let unwatch = !crate::faults::LEAVE_WATCHED.load(Relaxed);
    #[cfg(target_os = "none")]
    let unwatch = true;
    if unwatch {
        hard::unwatch(c);
    }
    cpu(c).on.store(false, SeqCst);
    if let Some(t) = cpu(c).timer.get() {
        // A sample under way may have armed it once more; after that none does.
        t.cancel_wait();
        t.cancel_wait();
    }
}

static CONFIG: LockClass = LockClass::new("watchdog_mutex");
/// One reconfiguration at a time.
static RECONFIGURE: Mutex<()> = Mutex::new(&CONFIG, ());

/// Something has changed: all begin anew. In a task. A processor that is stuck is not waited for.
fn reconfigure() {
    let _one = RECONFIGURE.lock();
    let _stay = cpuhp::read_lock();
    possible_cpus().for_each(stop);
    PERIOD_NS.store(policy::sample_period_ns(thresh()), Relaxed);
    ENABLED.store(knobs::wanted(), Relaxed);
    for c in frame::cpu::online().iter().filter(|&c| watch(c)) {
        if let Some(w) = START.get() {
            w.raise_on(c);
        }
    }
}

/// Processor hotplug, `lockup_detector:online`, on the processor.
pub(crate) fn cpu_online(c: CpuId) -> Result<()> {
    if watch(c) {
        let _irqs = IrqGuard::new();
        start_here();
    }
    Ok(())
}
pub(crate) fn cpu_offline(c: CpuId) -> Result<()> {
    stop(c);
    Ok(())
}

/// Reads the boot parameters, makes the timers, and begins. After [`crate::start_daemons`].
pub fn start() -> Result<()> {
    for c in possible_cpus() {
        let t = Timer::new(sample)?;
        cpu(c).timer.call_once(|| t);
    }
    START.call_once(|| IrqWork::new(start_here));
    base::tree::sys().file("kernel/nightshift/watchdog/samples", 0o444, |out| {
        for c in possible_cpus() {
            writeln!(out, "{c} {}", cpu(c).samples.load(Relaxed))?;
        }
        Ok(())
    })?;
    knobs::init()?;
    reconfigure();
    Ok(())
}
