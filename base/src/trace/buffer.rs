//! The rings of all processors: writing from any context, reading from tasks, waking who waits.
//!
//! # Locks
//! Each ring has a lock that is held with interrupts off while one record is copied in or out. It is a leaf: nothing is
//! taken under it, nobody is woken under it, and no trace point is hit under it. The writer is on the ring's own processor,
//! so only a reader can be in its way, for a copy.
//!
//! # Waking
//! A trace point may be hit with run-queue locks held, so whoever waits for records is woken later: the writer asks for an
//! interrupt on its own processor ([`frame::cpu::IrqWork`]), and that wakes. It asks only when somebody waits, and once for many
//! records.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use frame::{
    atomic::{AtomicBool, Ordering},
    context::IrqGuard,
    cpu::{CpuId, IrqWork, MAX_CPUS},
    sync::{LockClass, Mutex, SpinLockIrq, WaitQueue, once::Once},
};

use super::{
    clock, emit,
    ring::{self, Item, Pos, Ring, Stats},
};
use crate::Result;

#[repr(align(64))]
struct Slot(SpinLockIrq<Ring>);

static CLASS: LockClass = LockClass::new("trace_ring");
static RINGS: [Slot; MAX_CPUS] = [const { Slot(SpinLockIrq::new(&CLASS, Ring::new())) }; MAX_CPUS];
/// `tracing_on`.
static ON: AtomicBool = AtomicBool::new(true);

/// KiB of each ring once something is traced: Linux's default of 1408.
pub const DEFAULT_KB: u64 = 1408;
/// KiB before: enough for the marks of user space.
const SMALL_KB: u64 = 7;

static RESIZE_CLASS: LockClass = LockClass::new("trace_resize");
/// Held while rings are resized. True once somebody has chosen their size, or they have grown to the default one.
static EXPANDED: Mutex<bool> = Mutex::new(&RESIZE_CLASS, false);

fn ring(cpu: CpuId) -> &'static SpinLockIrq<Ring> {
    &RINGS[cpu.index()].0
}

/// The processors that have a ring.
pub fn cpus() -> impl Iterator<Item = CpuId> {
    (0..frame::cpu::possible() as u32).filter_map(CpuId::new)
}

/// Whether records are taken.
#[inline]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}
/// Takes records, or holds still: `tracing_on`.
pub fn switch(on: bool) {
    ON.store(on, Ordering::Relaxed);
    if !on {
        // A reader that has had something learns that no more will come.
        WAITERS.get().wake_all();
    }
}

/// Appends to this processor's ring.
pub(super) fn push(g: &IrqGuard, head: &[u8], body: &[u8]) -> bool {
    let mut r = ring(g.cpu()).lock();
    // Under the lock, so that times in a ring never go back.
    let took = r.push(clock::now(), head, body);
    drop(r);
    if WANTED.load(Ordering::SeqCst)
        && WANTED.swap(false, Ordering::SeqCst)
        && let Some(w) = WAKE.get()
    {
        w.raise(g);
    }
    took
}

/// Those who wait for records.
pub static WAITERS: Waiters = Waiters(Once::new());
/// Somebody looked for records, found none, and wants to be woken by the next.
static WANTED: AtomicBool = AtomicBool::new(false);
static WAKE: Once<IrqWork> = Once::new();

/// A queue that can be polled.
pub struct Waiters(Once<Arc<WaitQueue>>);

impl Waiters {
    pub fn get(&self) -> &Arc<WaitQueue> {
        self.0.call_once(|| Arc::new(WaitQueue::new()))
    }
}

/// The next record wakes [`WAITERS`]. A reader calls it, then looks whether there is something, then sleeps.
pub fn want() {
    WANTED.store(true, Ordering::SeqCst);
}

/// Gives each processor its small ring. When memory and the processors are known.
pub fn init() -> Result<()> {
    WAITERS.get();
    WAKE.call_once(|| {
        IrqWork::new(|| {
            WAITERS.get().wake_all();
        })
    });
    set_sizes(None, SMALL_KB, false)
}

/// Grows the rings to the default size, unless their size was chosen. What switches an event on calls it first.
pub fn expand() -> Result<()> {
    if *EXPANDED.lock() { Ok(()) } else { set_sizes(None, DEFAULT_KB, true) }
}
/// Whether the rings have their size.
pub fn is_expanded() -> bool {
    *EXPANDED.lock()
}

/// Gives one ring, or all, `kb` KiB, rounded up to pages. What fits stays. EINVAL, ENOMEM: then nothing has changed.
pub fn resize(cpu: Option<CpuId>, kb: u64) -> Result<()> {
    set_sizes(cpu, kb, true)
}

fn set_sizes(cpu: Option<CpuId>, kb: u64, chosen: bool) -> Result<()> {
    let n = ring::pages_for(kb)?;
    let mut expanded = EXPANDED.lock();
    let mut fresh = Vec::new();
    for c in cpus().filter(|c| cpu.is_none_or(|one| one == *c)) {
        fresh.try_reserve(1)?;
        fresh.push((c, ring::pages(n)?));
    }
    for (c, pages) in fresh {
        let old = ring(c).lock().resize(pages);
        drop(old);
    }
    *expanded |= chosen;
    Ok(())
}

/// KiB that a ring holds.
pub fn size_kb(cpu: CpuId) -> u64 {
    (ring(cpu).lock().page_count() * ring::PAGE) as u64 / 1024
}

/// Empties one ring, or all.
pub fn clear(cpu: Option<CpuId>) {
    for c in cpus().filter(|c| cpu.is_none_or(|one| one == *c)) {
        ring(c).lock().clear();
        emit::clear_dropped_in_nmi(c);
    }
}
pub fn stats(cpu: CpuId) -> Stats {
    let s = ring(cpu).lock().stats();
    Stats { dropped: s.dropped + emit::dropped_in_nmi(cpu), ..s }
}
/// Sets for all rings whether a full one overwrites.
pub fn set_overwrite(on: bool) {
    for c in cpus() {
        ring(c).lock().set_overwrite(on);
    }
}
/// True if there is nothing to consume.
pub fn is_empty(cpu: Option<CpuId>) -> bool {
    cpus().filter(|c| cpu.is_none_or(|one| one == *c)).all(|c| ring(c).lock().peek().is_none())
}

/// A record that was copied out of a ring.
pub struct Entry {
    pub cpu: CpuId,
    pub ts: u64,
    /// Overwritten between the reader's last record of this ring and this.
    pub lost: u64,
    bytes: Box<[u8]>,
    len: usize,
}

impl Entry {
    fn new(cpu: CpuId) -> Result<Entry> {
        let mut v = Vec::new();
        v.try_reserve_exact(ring::PAGE)?;
        v.resize(ring::PAGE, 0);
        Ok(Entry { cpu, ts: 0, lost: 0, bytes: v.into_boxed_slice(), len: 0 })
    }
    fn take(&mut self, i: Item) {
        (self.ts, self.len) = (i.ts, i.len);
        self.lost += i.lost;
    }
    /// The name of the task that was running.
    pub fn comm(&self) -> &[u8] {
        super::field::until_nul(self.bytes[..self.len].get(..super::COMM_LEN).unwrap_or_default())
    }
    /// The record: common fields, then the event's own.
    pub fn record(&self) -> &[u8] {
        self.bytes[..self.len].get(super::COMM_LEN..).unwrap_or_default()
    }
}

/// Consumes the records of one ring or of all, in the order of their times.
pub struct Consumer {
    only: Option<CpuId>,
    copy: Entry,
}

impl Consumer {
    pub fn new(only: Option<CpuId>) -> Result<Consumer> {
        Ok(Consumer { only, copy: Entry::new(CpuId::BOOT)? })
    }
    /// The next record. (`Iterator` would have to hand out a copy.)
    pub fn take(&mut self) -> Option<&Entry> {
        let first = cpus()
            .filter(|c| self.only.is_none_or(|one| one == *c))
            .filter_map(|c| Some((ring(c).lock().peek()?, c)))
            .min()?;
        self.copy.cpu = first.1;
        self.copy.lost = 0;
        let i = ring(first.1).lock().consume(&mut self.copy.bytes)?;
        self.copy.take(i);
        Some(&self.copy)
    }
}

/// Looks at what was in one ring or in all when it was made, in the order of times, and takes nothing out.
pub struct Looker {
    rings: Vec<Looking>,
    current: Option<usize>,
}

struct Looking {
    pos: Pos,
    until: u64,
    copy: Entry,
    full: bool,
}

impl Looker {
    pub fn new(only: Option<CpuId>) -> Result<Looker> {
        let mut rings = Vec::new();
        for c in cpus().filter(|c| only.is_none_or(|one| one == *c)) {
            let (pos, until) = ring(c).lock().span();
            // An empty ring needs no copy, and no place.
            if pos.is_before(until) {
                rings.try_reserve(1)?;
                rings.push(Looking { pos, until, copy: Entry::new(c)?, full: false });
            }
        }
        Ok(Looker { rings, current: None })
    }
    /// The next record.
    pub fn take(&mut self) -> Option<&Entry> {
        if let Some(i) = self.current.take() {
            self.rings[i].full = false;
        }
        for r in self.rings.iter_mut().filter(|r| !r.full) {
            r.copy.lost = 0;
            if let Some(i) = ring(r.copy.cpu).lock().look(&mut r.pos, r.until, &mut r.copy.bytes) {
                r.copy.take(i);
                r.full = true;
            }
        }
        let (i, r) = self.rings.iter().enumerate().filter(|(_, r)| r.full).min_by_key(|(_, r)| r.copy.ts)?;
        self.current = Some(i);
        Some(&r.copy)
    }
}

/// Records in all rings, and those ever written since they were cleared: the second line of `trace`.
pub fn totals() -> (u64, u64) {
    cpus().map(stats).fold((0, 0), |(e, w), s| (e + s.entries, w + s.entries + s.overrun))
}
