//! Deterministic simulation: a kernel, its processors, devices and programs in one process, replayed from a seed.
//!
//! # Use
//! ```no_run
//! frame::sim::campaign("queue", 1000, |_seed| {
//!     // Processor 0, interrupts off, as a kernel's entry: boot, make tasks, run them, then
//!     frame::boot::power_off()
//! });
//! ```
//! A *run* is a `fork` of the calling process, so globals are fresh, and a crash loses one seed. In it `main` is the entry of the
//! kernel on processor 0. The run ends well when `main` returns or the kernel powers off; it fails by panic, crash, deadlock
//! (every processor halted and no timer set), livelock (only spinning), or a limit. Everything that happens is a function of
//! the seed: the same seed gives the same [`Outcome::hash`].
//!
//! | environment | |
//! |---|---|
//! | `NIGHTSHIFT_SEEDS=n` | how many seeds a campaign tries, instead of its own number |
//! | `NIGHTSHIFT_SEED=n` | only this seed, with the console shown as it is written |
//!
//! # Power cuts
//! A test of crash safety needs several runs per seed over the same disk. [`supervise`] forks a plain process per seed; it makes
//! [`Persistent`] storage and calls [`run`] as often as it wants: to write until [`power_cut`], then to boot again and check.
//!
//! # Limits of the method
//! One host thread runs everything, so memory is sequentially consistent here: a missing acquire or release is not found. Code
//! between two preemption points is atomic.
//!
//! What runs before the fork is inherited: a test binary that also uses frame's globals on lone threads (its page allocator,
//! say) should keep simulations in an integration test of their own.

mod campaign;
mod child;
mod persistent;
mod report;
pub mod rng;

use std::rc::Rc;

pub use campaign::{campaign, campaign_with, expect_failure, expect_failure_with};
pub(crate) use child::{End, finish};
pub use child::{run, supervise};
pub use persistent::Persistent;
pub(crate) use report::{Event, backtrace, console, note, places, state};
pub use report::{on_report, watch_task};

pub use crate::arch::usermode::UserCtx;
use crate::arch::{cpu, device, memory, mmu, point, usermode};

/// How to run.
#[derive(Clone, Debug)]
pub struct Config {
    pub seed: u64,
    /// Simulated processors, 1 to 64.
    pub cpus: u32,
    /// Simulated memory; untouched pages cost nothing.
    pub memory_mib: u32,
    /// Decisions per thousand preemption points.
    pub preempt_permille: u32,
    /// Of a thousand decisions so many stall a processor for a while (up to some thousand points), as a host does that takes
    /// a virtual processor away.
    pub stall_permille: u32,
    pub command_line: String,
    /// Preemption points before the run counts as hung.
    pub max_steps: u64,
    /// Simulated time before the run counts as hung.
    pub max_time_ns: u64,
    /// Host seconds before the run counts as hung.
    pub wall_seconds: u32,
    /// Symbolise a backtrace in the report of a panic: some 100 ms of host time.
    pub backtrace: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            seed: 0,
            cpus: 2,
            memory_mib: 64,
            preempt_permille: 50,
            stall_permille: 0,
            command_line: String::new(),
            max_steps: 100_000_000,
            max_time_ns: 10_000_000_000_000,
            wall_seconds: 20,
            backtrace: true,
        }
    }
}

impl Config {
    /// What a campaign uses: the number of processors (1 to 4, mostly more than one), the density of decisions (from a
    /// point in a thousand, for long undisturbed stretches, to every second) and stalls vary with the seed.
    pub fn from_seed(seed: u64) -> Config {
        let r = rng::Rng::new(seed ^ 0xc0f1);
        let cpus = [2, 2, 3, 4, 2, 3, 4, 1][r.below(8) as usize];
        let preempt_permille = [1, 5, 20, 50, 100, 200, 300, 500][r.below(8) as usize];
        let stall_permille = [0, 0, 10, 50][r.below(4) as usize];
        Config { seed, cpus, preempt_permille, stall_permille, ..Config::default() }
    }
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RunResult {
    Ok,
    /// The message and place of the panic.
    Panic(String),
    /// Every processor halted with nothing to wake it, or all of them spin. What the processors and watched tasks do.
    Deadlock(String),
    /// The run ended itself by [`power_cut`].
    PowerCut,
    /// Over the limit of steps, of simulated or of host time.
    Timeout(String),
    /// A signal killed the process: a stack overflow, for instance.
    Crash(String),
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Over all decisions, switches, interrupts and [`trace`] values.
    pub hash: u64,
    /// Preemption points passed.
    pub steps: u64,
    /// Simulated time.
    pub time_ns: u64,
    pub result: RunResult,
    /// For people: console, processors, tasks, the last events.
    pub report: String,
}

impl Outcome {
    pub fn is_ok(&self) -> bool {
        self.result == RunResult::Ok
    }
}

/// True inside a run.
pub fn running() -> bool {
    cpu::active()
}

/// Makes a value part of the run's hash.
pub fn trace(value: u64) {
    note(Event::Custom, value);
}

/// A seeded draw below `n`, for workloads and simulated devices.
///
/// # Panics
/// Outside of a run.
pub fn random(n: u64) -> u64 {
    assert!(cpu::active(), "no simulation runs");
    point::draw(n)
}

/// Raises an interrupt line, as a simulated device does.
pub fn raise_line(line: u32) {
    assert!(cpu::active(), "no simulation runs");
    device::raise_line(line);
}

/// Writes a message, as a simulated device does. What it was not given does nothing.
pub fn send_message(m: crate::irq::Message) {
    assert!(cpu::active(), "no simulation runs");
    device::deliver(m);
}

/// A simulated device, as the processor sees it. Its functions run between two instructions: they must not wait, nor take a lock
/// of the kernel. It may raise lines, send messages, reach memory by [`dma_read`] and [`dma_write`], and do things later by [`at`].
pub trait SimDevice {
    /// The value of the register of `size` bytes at `off`.
    fn read(&self, off: u64, size: usize) -> u64;
    fn write(&self, off: u64, size: usize, value: u64);
}

/// Puts a device's registers at a physical address outside of memory.
pub fn attach_memory(pa: u64, len: u64, device: Rc<dyn SimDevice>) {
    assert!(cpu::active() && pa >= memory_bytes(), "no place for a simulated device");
    device::attach_memory(pa, len, device);
}

/// Puts a device at I/O ports.
pub fn attach_ports(base: u16, len: u16, device: Rc<dyn SimDevice>) {
    assert!(cpu::active(), "no simulation runs");
    device::attach_ports(base, len, device);
}

/// Adds a firmware table, header included.
pub fn attach_acpi_table(table: Vec<u8>) {
    assert!(cpu::active(), "no simulation runs");
    device::attach_table(table);
}

/// A device reads memory. False, and nothing is read, outside of it.
pub fn dma_read(pa: u64, out: &mut [u8]) -> bool {
    let Some(p) = device::dma(pa, out.len()) else { return false };
    // SAFETY: the range lies in the simulated memory, `out` is ours; one host thread, and no preemption point in between.
    unsafe { core::ptr::copy_nonoverlapping(p, out.as_mut_ptr(), out.len()) };
    true
}

/// A device writes memory. False, and nothing is written, outside of it.
pub fn dma_write(pa: u64, bytes: &[u8]) -> bool {
    let Some(p) = device::dma(pa, bytes.len()) else { return false };
    // SAFETY: as in `dma_read`; page contents are never seen through references.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), p, bytes.len()) };
    true
}

/// Runs `f` at the simulated time `ns` (soon, if that has passed), between two instructions of whatever processor, as a device
/// would. `f` must not wait, nor take a lock of the kernel.
pub fn at(ns: u64, f: impl FnOnce() + 'static) {
    assert!(cpu::active(), "no simulation runs");
    point::at(ns, Box::new(f));
}

/// Simulated time, without being a preemption point.
pub fn now_ns() -> u64 {
    point::now()
}

/// Breaks a processor: it ignores TLB flushes from now on. For tests that must show that a missing shoot-down is caught.
pub fn break_tlb_flushes(cpu: u32) {
    assert!(cpu::active() && cpu < 64, "no such simulated processor");
    mmu::break_flushes(cpu);
}

/// Ends the run here and now, as a failing power supply does. What is in [`Persistent`] storage stays. For device events and
/// for devices that count their writes.
pub fn power_cut() -> ! {
    assert!(cpu::active(), "no simulation runs");
    finish(End::PowerCut)
}

/// Bytes of simulated memory, for devices that check addresses.
pub fn memory_bytes() -> u64 {
    memory::len()
}

/// Registers a user program. The result goes into `Regs::rip` of a task that shall run it.
pub fn user_program(name: &str, f: impl Fn(&UserCtx) + 'static) -> u64 {
    usermode::register(name, Rc::new(f))
}

/// The entry of a registered program, for `exec` by name.
pub fn find_user_program(name: &str) -> Option<u64> {
    usermode::lookup(name)
}
