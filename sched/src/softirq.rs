//! Softirqs: what an interrupt leaves for when interrupts are on again.
//!
//! Frame keeps the pending bits and runs them at the end of an interrupt and where softirqs are let go again; what
//! each vector does is registered here. Work that does not end, or that is raised from plain task context, goes to
//! [`crate::ksoftirqd`].

use frame::{
    atomic::{AtomicU64, Ordering},
    cpu::{CpuId, MAX_CPUS},
    irq::SoftirqRunner,
    sync::once::Once,
};

/// The vectors in the order in which they run, with Linux's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Vector {
    Hi,
    Timer,
    NetTx,
    NetRx,
    Block,
    IrqPoll,
    Tasklet,
    Sched,
    Hrtimer,
    Rcu,
}

pub const VECTORS: usize = 10;
/// As `/proc/softirqs` names them.
pub const NAMES: [&str; VECTORS] =
    ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"];

#[repr(align(64))]
struct Counts([AtomicU64; VECTORS]);

static COUNTS: [Counts; MAX_CPUS] = [const { Counts([const { AtomicU64::new(0) }; VECTORS]) }; MAX_CPUS];
static ACTIONS: [Once<fn(CpuId)>; VECTORS] = [const { Once::new() }; VECTORS];

/// Says what a vector does; the first call decides. It runs with interrupts on and softirqs held off, and must not
/// sleep.
pub fn set_action(v: Vector, f: fn(CpuId)) {
    ACTIONS[v as usize].call_once(|| f);
}

/// Marks a vector pending on this processor.
pub fn raise(v: Vector) {
    base::trace!(crate::trace::softirq_raise { vec: v as u32 });
    frame::irq::raise_softirq(v as u32);
}

/// How often a vector has run on a processor.
pub fn count(cpu: CpuId, vector: usize) -> u64 {
    COUNTS[cpu.index()].0[vector].load(Ordering::Relaxed)
}

struct Runner;

impl SoftirqRunner for Runner {
    fn run(&self, cpu: CpuId, bits: u32) {
        let timing = crate::account::softirq_enter(cpu);
        for (v, action) in ACTIONS.iter().enumerate() {
            if bits & 1 << v != 0
                && let Some(f) = action.get()
            {
                COUNTS[cpu.index()].0[v].fetch_add(1, Ordering::Relaxed);
                base::trace!(crate::trace::softirq_entry { vec: v as u32 });
                f(cpu);
                base::trace!(crate::trace::softirq_exit { vec: v as u32 });
            }
        }
        crate::account::softirq_exit(cpu, timing);
    }
    fn defer(&self, cpu: CpuId) {
        crate::ksoftirqd::wake(cpu);
    }
}

static RUNNER: Runner = Runner;

/// Installs the runner and this room's own vectors.
pub(crate) fn init() {
    set_action(Vector::Timer, crate::timer::run_coarse);
    set_action(Vector::Sched, crate::balance::softirq);
    frame::irq::install_softirqs(&RUNNER);
}
