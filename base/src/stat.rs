//! Counters that many processors bump and few read: one cell per processor, summed when asked.

use alloc::{boxed::Box, vec::Vec};

use frame::{
    atomic::{AtomicU64, Ordering},
    cpu::PerCpu,
    sync::{LockClass, SpinLock, once::Once},
};

/// A named event counter. `const`-made; its cells appear at the first use after the processors are known.
pub struct Counter {
    name: &'static str,
    cells: Once<PerCpu<AtomicU64>>,
}

impl Counter {
    /// `name` is the line in `/proc/vmstat`, if it is listed there (see [`list_in_vmstat`]).
    pub const fn new(name: &'static str) -> Self {
        Self { name, cells: Once::new() }
    }
    #[inline]
    pub fn add(&self, n: u64) {
        self.cells.call_once(|| PerCpu::new(|_| AtomicU64::new(0))).any().fetch_add(n, Ordering::Relaxed);
    }
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }
    /// The sum over all processors.
    pub fn get(&self) -> u64 {
        self.cells
            .get()
            .map_or(0, |c| c.iter().fold(0, |s, (_, v)| s.wrapping_add(v.load(Ordering::Relaxed))))
    }
    pub fn name(&self) -> &'static str {
        self.name
    }
}

type Line = (&'static str, Box<dyn Fn() -> u64 + Send + Sync>);
static CLASS: LockClass = LockClass::new("vmstat_list");
static VMSTAT: SpinLock<Vec<Line>> = SpinLock::new(&CLASS, Vec::new());

/// Adds a line to `/proc/vmstat`: an event counter, or any figure read when asked. Call it during start-up.
pub fn list_in_vmstat(name: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static) {
    let line: Line = (name, Box::new(read));
    VMSTAT.lock().push(line);
}

/// The text of `/proc/vmstat`, lines in the order in which they were listed.
pub fn vmstat(out: &mut dyn core::fmt::Write) -> core::fmt::Result {
    // Copied out one by one: reading may take other locks.
    let list = VMSTAT.lock();
    list.iter().try_for_each(|(n, f)| writeln!(out, "{n} {}", f()))
}
