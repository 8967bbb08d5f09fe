//! # cpuhp/N
//! * **What for**: takes its processor down and brings it up, step by step: it is the half of processor hotplug that must run on the
//!   processor while that still (or already) runs tasks.
//! * **Woken by**: a write to `/sys/devices/system/cpu/cpuN/online` or `…/hotplug/target`, through the task that writes.
//! * **Never**: leaves its processor, runs a step out of order, leaves a failed step's predecessors undone.
//! * **Knobs**: `cpuN/online`, `cpuN/hotplug/{target,fail}`; **shows**: `cpuN/hotplug/state`, `hotplug/states`, the trace events
//!   `cpuhp:cpuhp_enter` and `cpuhp:cpuhp_exit`, and its voluntary switches.
//! * **Documented**: Linux `Documentation/core-api/cpu_hotplug.rst`.
//!
//! # Going down
//! ```text
//!   the task that asks            cpuhp/N                        migration/N, all others standing still
//!   takes the lock, asks     ───► ONLINE steps, last first:
//!                                  inactive: no task comes; all go
//!                                  its threads park
//!   parks cpuhp/N, stops the machine ──────────────────────────► off line; STARTING steps: what is left moves,
//!   waits until it is dead   ◄─── swapper/N: nothing to run,     timers move; parks
//!   PREPARE steps: takes over     halts for good
//!   what lies there
//! ```
//! Coming up is the same backwards. A step that fails on the way has the steps before it undone, and the request ends with its
//! error, the processor where it was.

pub mod state;
mod steps;
mod sysfs;
pub(crate) mod trace;

use base::{Errno, Result, daemon::Card};
use frame::{
    atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering},
    cpu::{CpuId, MAX_CPUS},
    sync::{LockClass, Mutex, RwSemReadGuard, RwSemaphore, WaitQueue, once::Once},
};

use self::state::{BRINGUP_CPU, OFFLINE, ONLINE, TEARDOWN_CPU};
pub use self::state::{Section, register};
use crate::{
    kthread::{PerCpuThread, PerCpuThreads, because},
    migration,
};

pub(crate) static CARD: Card = Card {
    name: "cpuhp",
    purpose: "takes its processor down and brings it up, step by step",
    woken_by: "a write to /sys/devices/system/cpu/cpuN/online or hotplug/target",
    never: "leaves its processor, or leaves the steps before a failed one undone",
    documented: "Linux Documentation/core-api/cpu_hotplug.rst",
};

/// Where one processor stands.
struct Cpu {
    state: AtomicU32,
    target: AtomicU32,
    /// The state whose next call shall fail; −1: none.
    fail: AtomicI32,
    /// The state to which its thread shall go, plus one; 0 when there is nothing to do.
    request: AtomicU32,
    /// What came of it: 0 or an error number.
    result: AtomicI32,
}

static CPUS: [Cpu; MAX_CPUS] = [const {
    Cpu {
        state: AtomicU32::new(OFFLINE),
        target: AtomicU32::new(OFFLINE),
        fail: AtomicI32::new(-1),
        request: AtomicU32::new(0),
        result: AtomicI32::new(0),
    }
}; MAX_CPUS];
/// Those who wait for a request to be done.
static DONE: WaitQueue = WaitQueue::new();
static THREADS: Once<PerCpuThreads> = Once::new();
/// Processors come and go by this file's rules, and no longer as they do at boot.
static READY: AtomicBool = AtomicBool::new(false);

static LOCK_CLASS: LockClass = LockClass::new("cpu_hotplug_lock");
static LOCK: RwSemaphore<()> = RwSemaphore::new(&LOCK_CLASS, ());

/// While this is held no processor comes or goes: `cpus_read_lock`.
pub fn read_lock() -> RwSemReadGuard<'static, ()> {
    LOCK.read()
}

fn cpu(c: CpuId) -> &'static Cpu {
    &CPUS[c.index()]
}

/// The state in which a processor stands.
pub fn state_of(c: CpuId) -> u32 {
    cpu(c).state.load(Ordering::Relaxed)
}

/// Calls one function of one state. Does nothing if it has none.
fn invoke(c: CpuId, n: u32, up: bool) -> Result<()> {
    let s = cpu(c);
    let Some(st) = state::step(n) else { return Ok(()) };
    let Some(f) = (if up { st.up } else { st.down }) else { return Ok(()) };
    // A failure that was asked for comes instead of the call, which is then not traced.
    if s.fail.compare_exchange(n as i32, -1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        return Err(Errno::EAGAIN);
    }
    base::trace!(trace::cpuhp_enter {
        cpu: c.get(),
        target: s.target.load(Ordering::Relaxed) as i32,
        idx: n as i32,
        fun: f as usize as u64,
    });
    let r = f(c);
    base::trace!(trace::cpuhp_exit {
        cpu: c.get(),
        state: s.state.load(Ordering::Relaxed) as i32,
        idx: n as i32,
        ret: r.err().map_or(0, |e| -e.code()),
    });
    r
}

/// Goes from where the processor stands to `to`, both in one section. A step that fails is not taken, and those before it are undone.
fn walk(c: CpuId, to: u32) -> Result<()> {
    let s = cpu(c);
    let from = s.state.load(Ordering::Relaxed);
    let r = if to >= from { up(c, from, to) } else { down(c, from, to) };
    if let Err((e, at)) = r {
        // Undoing is not asked whether it likes it.
        if to >= from {
            for n in (from + 1..at).rev() {
                let _ = invoke(c, n, false);
            }
        } else {
            for n in at + 1..=from {
                let _ = invoke(c, n, true);
            }
        }
        s.state.store(from, Ordering::Relaxed);
        return Err(e);
    }
    Ok(())
}

fn up(c: CpuId, from: u32, to: u32) -> Result<(), (Errno, u32)> {
    for n in from + 1..=to {
        invoke(c, n, true).map_err(|e| (e, n))?;
        cpu(c).state.store(n, Ordering::Relaxed);
    }
    Ok(())
}

fn down(c: CpuId, from: u32, to: u32) -> Result<(), (Errno, u32)> {
    for n in (to + 1..=from).rev() {
        invoke(c, n, false).map_err(|e| (e, n))?;
        cpu(c).state.store(n - 1, Ordering::Relaxed);
    }
    Ok(())
}

/// Has the processor's thread go to a state of its section, and waits.
fn kick(c: CpuId, to: u32) -> Result<()> {
    let s = cpu(c);
    s.request.store(to + 1, Ordering::Release);
    if let Some(t) = THREADS.get() {
        t.wake(c);
    }
    DONE.wait(|| (s.request.load(Ordering::Acquire) == 0).then_some(()));
    match s.result.load(Ordering::Relaxed) {
        0 => Ok(()),
        e => Err(Errno::from_code(e).unwrap_or(Errno::EIO)),
    }
}

/// Requests that the threads have answered.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn requests() -> u64 {
    REQUESTS.load(Ordering::Relaxed)
}

/// The thread's work.
fn work(me: CpuId) {
    let s = cpu(me);
    let Some(to) = s.request.load(Ordering::Acquire).checked_sub(1) else { return };
    because(if to < s.state.load(Ordering::Relaxed) { "take-down" } else { "bring-up" });
    let r = walk(me, to);
    s.result.store(r.err().map_or(0, |e| e.code()), Ordering::Relaxed);
    REQUESTS.fetch_add(1, Ordering::Relaxed);
    s.request.store(0, Ordering::Release);
    DONE.wake_all();
}

static ROW: PerCpuThread = PerCpuThread {
    name: "cpuhp",
    setup: |_| (),
    should_run: |me| cpu(me).request.load(Ordering::Acquire) != 0,
    work,
    park: |_| (),
    unpark: |_| (),
};

/// Has the processor's thread take the ONLINE steps of the way down: for the trace one step, of the state that it begins in.
fn cpuhp_kick_ap_work(c: CpuId) -> Result<()> {
    let s = cpu(c);
    let idx = s.state.load(Ordering::Relaxed) as i32;
    let fun: fn(CpuId) -> Result<()> = cpuhp_kick_ap_work;
    base::trace!(trace::cpuhp_enter {
        cpu: c.get(),
        target: s.target.load(Ordering::Relaxed) as i32,
        idx,
        fun: fun as usize as u64,
    });
    let r = kick(c, TEARDOWN_CPU);
    base::trace!(trace::cpuhp_exit {
        cpu: c.get(),
        state: s.state.load(Ordering::Relaxed) as i32,
        idx,
        ret: r.err().map_or(0, |e| -e.code()),
    });
    r
}

/// From the first state of the processor's own section to being dead, and the steps after that. The thread stands at
/// `TEARDOWN_CPU`.
fn tear_down(c: CpuId) -> Result<()> {
    invoke(c, TEARDOWN_CPU, false)?;
    cpu(c).state.store(BRINGUP_CPU, Ordering::Relaxed);
    // Nothing can stop it now: steps that say otherwise are not heard.
    for n in (OFFLINE + 1..=BRINGUP_CPU).rev() {
        let _ = invoke(c, n, false);
        cpu(c).state.store(n - 1, Ordering::Relaxed);
    }
    Ok(())
}

/// Takes a processor down. In a task. Does nothing if it is down. EBUSY for the boot processor; the error of the step that failed.
pub fn cpu_down(c: CpuId) -> Result<()> {
    let _alone = LOCK.write();
    take_down(c)
}

/// With the lock held.
fn take_down(c: CpuId) -> Result<()> {
    let s = cpu(c);
    if c == CpuId::BOOT {
        return Err(Errno::EBUSY);
    }
    if s.state.load(Ordering::Relaxed) == OFFLINE {
        return Ok(());
    }
    s.target.store(OFFLINE, Ordering::Relaxed);
    let r = cpuhp_kick_ap_work(c).and_then(|()| {
        tear_down(c).inspect_err(|_| {
            // It was never off line: its thread takes it back up.
            let _ = kick(c, ONLINE);
        })
    });
    match r {
        Ok(()) => base::pr_info!("smpboot: CPU {c} is now offline"),
        Err(_) => s.target.store(s.state.load(Ordering::Relaxed), Ordering::Relaxed),
    }
    r
}

/// Brings a processor up. In a task. Does nothing if it is up. EINVAL for one that there is not, EIO if it does not answer, the error of
/// the step that failed.
pub fn cpu_up(c: CpuId) -> Result<()> {
    let _alone = LOCK.write();
    if !frame::cpu::present().contains(c) {
        return Err(Errno::EINVAL);
    }
    let s = cpu(c);
    if s.state.load(Ordering::Relaxed) == ONLINE {
        return Ok(());
    }
    s.target.store(ONLINE, Ordering::Relaxed);
    let r = walk(c, BRINGUP_CPU).and_then(|()| {
        s.state.store(TEARDOWN_CPU, Ordering::Relaxed);
        go_on(c).and_then(|()| kick(c, ONLINE)).inspect_err(|_| {
            let _ = tear_down(c);
        })
    });
    if r.is_err() {
        s.target.store(s.state.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    r
}

static PLUG_CLASS: LockClass = LockClass::new("cpu_add_remove_lock");
/// Processors are plugged in and pulled out one after the other.
static PLUG: Mutex<()> = Mutex::new(&PLUG_CLASS, ());

/// A processor has been plugged in: it is present, has a folder, and stays down until somebody writes to `online`. In a task.
/// EEXIST if it is there already, EINVAL for one that there cannot be.
pub fn plug(c: CpuId) -> Result<()> {
    let _one = PLUG.lock();
    if frame::cpu::present().contains(c) {
        return Err(Errno::EEXIST);
    }
    if !frame::cpu::set_present(c, true) {
        return Err(Errno::EINVAL);
    }
    sysfs::add(c).inspect_err(|_| {
        let _ = frame::cpu::set_present(c, false);
    })
}

/// A processor is about to be pulled out: takes it down, and away. In a task. ENODEV if it is not there; as [`cpu_down`] where it
/// cannot be spared.
pub fn unplug(c: CpuId) -> Result<()> {
    let _one = PLUG.lock();
    {
        let _alone = LOCK.write();
        if !frame::cpu::present().contains(c) {
            return Err(Errno::ENODEV);
        }
        take_down(c)?;
        // Before the lock is given up: nobody brings it up again.
        if !frame::cpu::set_present(c, false) {
            return Err(Errno::EBUSY);
        }
    }
    sysfs::remove(c);
    Ok(())
}

/// The two threads that the table does not drive.
fn go_on(c: CpuId) -> Result<()> {
    migration::enable(c)?;
    THREADS.get().map_or(Ok(()), |t| t.go_on(c))
}

/// On a processor that starts, interrupts off, in its idle task: the STARTING steps. At boot there is no table yet, and the
/// processor is simply active.
pub(crate) fn starting(c: CpuId) {
    if !READY.load(Ordering::Acquire) {
        crate::place::set_active(c, true);
        return;
    }
    for n in state::AP_OFFLINE..=state::AP_ONLINE {
        let _ = invoke(c, n, true);
        cpu(c).state.store(n, Ordering::Relaxed);
    }
}

/// Makes the table, the threads and the files. From here on processors come and go by it.
pub(crate) fn start() -> Result<()> {
    steps::fill();
    for c in frame::cpu::online().iter() {
        cpu(c).state.store(ONLINE, Ordering::Relaxed);
        cpu(c).target.store(ONLINE, Ordering::Relaxed);
    }
    let t = PerCpuThreads::start_self_parking(&ROW)?;
    THREADS.call_once(|| t);
    READY.store(true, Ordering::Release);
    trace::register();
    sysfs::init()
}
