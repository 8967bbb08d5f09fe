//! Kernel threads of which every processor has one: a table of rows that the hotplug states drive.
//!
//! ```text
//!   processor comes:  threads:prepare         makes what is missing, bound, not started
//!                     smpboot/threads:online  starts them, or lets the parked ones go on
//!   processor goes:   smpboot/threads:online  parks them, the last row first, and waits
//! ```
//! The threads stay, parked, while their processor is away: they keep their number and their counters. Two rows are not in the
//! table, since they work while it is gone through: `migration` and `cpuhp`; [`crate::cpuhp`] parks these by name.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use base::Result;
use frame::{
    cpu::CpuId,
    sync::{LockClass, Mutex, WaitQueue, once::Once},
};

use crate::{
    cpuhp,
    kthread::{Kthread, KthreadHandle, Wake, create},
    stat::possible_cpus,
};

/// Threads of which every processor has one: `ksoftirqd/N` and the like. A table row; one registration makes them
/// all.
pub struct PerCpuThread {
    /// Without the processor's number: `ksoftirqd` becomes `ksoftirqd/0` …
    pub name: &'static str,
    /// In the thread, once, before anything else.
    pub setup: fn(CpuId),
    /// Whether there is work. Asked before each sleep.
    pub should_run: fn(CpuId) -> bool,
    /// Does some of it; called while `should_run`, with preemption on.
    pub work: fn(CpuId),
    /// Before it parks and after it has gone on.
    pub park: fn(CpuId),
    pub unpark: fn(CpuId),
}

struct Row {
    row: &'static PerCpuThread,
    /// By processor number.
    threads: Box<[Once<KthreadHandle>]>,
}

/// The threads of one row.
pub struct PerCpuThreads(Arc<Row>);

static ROWS_CLASS: LockClass = LockClass::new("smpboot_threads");
/// The rows that the states drive, in the order of their registration.
static ROWS: Mutex<Vec<Arc<Row>>> = Mutex::new(&ROWS_CLASS, Vec::new());
/// Nothing is put on this queue: per-processor threads are woken directly.
static DIRECT: WaitQueue = WaitQueue::new();

impl Row {
    fn make(&self, cpu: CpuId) -> Result<()> {
        let slot = &self.threads[cpu.index()];
        if slot.get().is_none() {
            let row = self.row;
            let h = create(&alloc::format!("{}/{cpu}", row.name), move |k| per_cpu_main(row, cpu, k))?;
            h.bind(cpu)?;
            slot.call_once(|| h);
        }
        Ok(())
    }
    fn go_on(&self, cpu: CpuId) -> Result<()> {
        self.make(cpu)?;
        if let Some(h) = self.threads[cpu.index()].get()
            && !h.run()
        {
            h.unpark();
        }
        Ok(())
    }
}

impl PerCpuThreads {
    /// Makes and starts the row's thread on each processor, now on those that are on line, on the others when they come.
    pub fn start(row: &'static PerCpuThread) -> Result<PerCpuThreads> {
        let _stay = cpuhp::read_lock();
        let t = Self::start_self_parking(row)?;
        let mut rows = ROWS.lock();
        rows.try_reserve(1)?;
        rows.push(t.0.clone());
        Ok(t)
    }
    /// The same, not in the table: the caller sees to processors that come and go.
    pub(crate) fn start_self_parking(row: &'static PerCpuThread) -> Result<PerCpuThreads> {
        let threads: Vec<_> = possible_cpus().map(|_| Once::new()).collect();
        let t = PerCpuThreads(Arc::new(Row { row, threads: threads.into_boxed_slice() }));
        for cpu in frame::cpu::online().iter() {
            t.0.go_on(cpu)?;
        }
        Ok(t)
    }
    pub fn of(&self, cpu: CpuId) -> Option<&KthreadHandle> {
        self.0.threads.get(cpu.index())?.get()
    }
    /// Makes a processor's thread look at its `should_run`. From any context.
    pub fn wake(&self, cpu: CpuId) {
        if let Some(h) = self.of(cpu) {
            h.wake();
        }
    }
    pub(crate) fn make(&self, cpu: CpuId) -> Result<()> {
        self.0.make(cpu)
    }
    pub(crate) fn go_on(&self, cpu: CpuId) -> Result<()> {
        self.0.go_on(cpu)
    }
}

/// `threads:prepare`.
pub(crate) fn make_all(cpu: CpuId) -> Result<()> {
    ROWS.lock().iter().try_for_each(|r| r.make(cpu))
}

/// `smpboot/threads:online`, up.
pub(crate) fn unpark_all(cpu: CpuId) -> Result<()> {
    ROWS.lock().iter().try_for_each(|r| r.go_on(cpu))
}

/// `smpboot/threads:online`, down. ESRCH if one has ended; those that were parked go on then.
pub(crate) fn park_all(cpu: CpuId) -> Result<()> {
    let rows = ROWS.lock();
    for (i, r) in rows.iter().enumerate().rev() {
        if let Some(h) = r.threads[cpu.index()].get()
            && let Err(e) = h.park()
        {
            rows[i + 1..].iter().for_each(|r| {
                let _ = r.go_on(cpu);
            });
            return Err(e);
        }
    }
    Ok(())
}

fn per_cpu_main(row: &'static PerCpuThread, cpu: CpuId, k: &Kthread) -> i32 {
    (row.setup)(cpu);
    loop {
        match k.wait(&DIRECT, || (row.should_run)(cpu).then_some(()), None) {
            Wake::Event(()) => {
                (row.work)(cpu);
                crate::cond_resched();
            }
            Wake::Park => {
                (row.park)(cpu);
                k.park();
                (row.unpark)(cpu);
            }
            Wake::Freeze => k.freeze(),
            Wake::Stop => return 0,
            Wake::TimedOut => {}
        }
    }
}
