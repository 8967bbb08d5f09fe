//! Worker pools: a list of work, the workers that execute it, and the lock that everything of them changes under.
//!
//! Every processor has two, for nice 0 and −20, that manage concurrency: one worker executes at a time, and another takes over
//! when it sleeps. Unbound pools are made for a nice value and a set of processors, shared by all queues that want the
//! same, and execute as much at once as the queues' limits allow.
//!
//! # Locks
//! A pool's lock is taken with interrupts off, from any context. Under it, one at a time: that of a place in the pool (`pwq`),
//! of a worker, of an item; then timers, wait queues of this room, and run queues, for waking. Two pools' locks are never held
//! at once. Nothing that sleeps or ends is freed under it.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::fmt::Write;

use base::{Errno, Result};
use frame::{
    atomic::{AtomicU32, Ordering},
    containers::List,
    cpu::{CpuId, CpuMask},
    sync::{LockClass, Mutex, SpinLockIrq, SpinLockIrqGuard, once::Once},
    task::{self, State},
};

use super::{
    attrs::PoolAttrs,
    intensive, manager,
    plan::Snapshot,
    work::Work,
    worker::{InPool, Worker, flags},
};
use crate::time::{Timer, TimerWheel};

/// The nice value of pools for `WQ_HIGHPRI`, and of rescuers.
pub const HIGHPRI_NICE: i8 = -20;

pub(super) struct Pool {
    pub(super) id: u32,
    /// `None`: unbound.
    pub(super) cpu: Option<CpuId>,
    pub(super) attrs: PoolAttrs,
    state: SpinLockIrq<PoolState>,
    /// Numbers of workers in use, one bit each.
    ids: Mutex<Vec<u64>>,
    timers: Once<Timers>,
    /// Places in it; an unbound pool goes with the last.
    pub(super) users: AtomicU32,
}

struct Timers {
    idle: TimerWheel,
    mayday: TimerWheel,
    hog: Timer,
}

pub(super) struct PoolState {
    pub(super) worklist: List<Work>,
    /// All, rescuers that help out included.
    pub(super) workers: List<Worker, InPool>,
    /// The one that went idle last comes first: its cache is warm, and the others grow old.
    pub(super) idle: List<Worker>,
    /// Its own workers.
    pub(super) nr_workers: u32,
    /// Workers that execute and do not sleep.
    pub(super) running: u32,
    pub(super) managing: bool,
    /// Its processor is away (or has never been here): its workers run anywhere.
    pub(super) disassociated: bool,
    /// Nobody queues here any more; its workers go.
    pub(super) retired: bool,
    pub(super) hog_armed: bool,
    /// When an item was last taken up, or came to an empty list.
    pub(super) progress_ns: u64,
    pub(super) idle_armed: bool,
}

pub(super) type Locked<'a> = SpinLockIrqGuard<'a, PoolState>;

static CLASS: LockClass = LockClass::new("worker_pool");
static IDS: LockClass = LockClass::new("worker_ida");

impl PoolState {
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            waiting: !self.worklist.is_empty(),
            running: self.running,
            workers: self.nr_workers,
            idle: self.idle.len() as u32,
            managing: self.managing,
        }
    }
}

impl Pool {
    pub(super) fn new(id: u32, cpu: Option<CpuId>, attrs: PoolAttrs) -> Result<Arc<Pool>> {
        let state = PoolState {
            worklist: List::new(),
            workers: List::new(),
            idle: List::new(),
            nr_workers: 0,
            running: 0,
            managing: false,
            disassociated: cpu.is_some(),
            retired: false,
            hog_armed: false,
            progress_ns: 0,
            idle_armed: false,
        };
        let pool = frame::heap::try_arc(Pool {
            id,
            cpu,
            attrs,
            state: SpinLockIrq::new(&CLASS, state),
            ids: Mutex::new(&IDS, Vec::new()),
            timers: Once::new(),
            users: AtomicU32::new(0),
        })
        .ok_or(Errno::ENOMEM)?;
        let weak = || Arc::downgrade(&pool);
        let (a, b, c) = (weak(), weak(), weak());
        let timers = Timers {
            idle: TimerWheel::new(move |_| a.upgrade().iter().for_each(manager::idle_timeout))?,
            mayday: TimerWheel::new(move |_| b.upgrade().iter().for_each(manager::mayday_timeout))?,
            hog: Timer::new(move |_| c.upgrade().iter().for_each(intensive::look))?,
        };
        pool.timers.call_once(|| timers);
        Ok(pool)
    }
    fn timers(&self) -> &Timers {
        self.timers.get().expect("made with the pool")
    }
    pub(super) fn idle_timer(&self) -> &TimerWheel {
        &self.timers().idle
    }
    pub(super) fn mayday_timer(&self) -> &TimerWheel {
        &self.timers().mayday
    }
    pub(super) fn hog_timer(&self) -> &Timer {
        &self.timers().hog
    }
    #[inline]
    pub(super) fn lock(&self) -> Locked<'_> {
        self.state.lock()
    }

    /// Calls an idle worker if work waits and nobody attends to it. True if one was called.
    pub(super) fn kick(&self, s: &mut PoolState) -> bool {
        if !s.snapshot().need_more_worker() {
            if !s.worklist.is_empty() {
                intensive::watch(self, s);
            }
            return false;
        }
        let Some(w) = s.idle.front() else { return false };
        if let Some(t) = w.task() {
            task::wake(&t, State::NORMAL);
        }
        true
    }

    /// Where its workers may run. They are bound threads: while none of these processors is there they work elsewhere.
    pub(super) fn allowed(&self, s: &PoolState) -> CpuMask {
        match self.cpu {
            Some(_) if s.disassociated => CpuMask::ALL,
            Some(c) => CpuMask::one(c),
            None if self.attrs.strict => self.attrs.pod,
            None => self.attrs.cpumask,
        }
    }
    /// What a worker that comes to the pool must be marked with.
    pub(super) fn unbound_flag(&self, s: &PoolState) -> u32 {
        if self.cpu.is_none() || s.disassociated { flags::UNBOUND } else { 0 }
    }

    /// The least number that no worker of the pool has. ENOMEM.
    pub(super) fn take_id(&self) -> Result<u32> {
        let mut ids = self.ids.lock();
        let word = match ids.iter().position(|&w| w != !0) {
            Some(i) => i,
            None => {
                ids.try_reserve(1)?;
                ids.push(0);
                ids.len() - 1
            }
        };
        let bit = (!ids[word]).trailing_zeros();
        ids[word] |= 1 << bit;
        Ok(word as u32 * 64 + bit)
    }
    pub(super) fn give_id(&self, id: u32) {
        if let Some(w) = self.ids.lock().get_mut(id as usize / 64) {
            *w &= !(1 << (id % 64));
        }
    }

    /// The part of its workers' names before their number: `0`, `u8`.
    pub(super) fn name(&self) -> String {
        let mut s = String::new();
        let _ = match self.cpu {
            Some(c) => write!(s, "{c}"),
            None => write!(s, "u{}", self.id),
        };
        s
    }
    /// `H` for high priority; unbound pools do not show theirs.
    pub(super) fn suffix(&self) -> &'static str {
        if self.cpu.is_some() && self.attrs.nice < 0 { "H" } else { "" }
    }
}

/// Both pools of each possible processor: nice 0, nice −20.
static PER_CPU: Once<Vec<[Arc<Pool>; 2]>> = Once::new();
/// Numbers of unbound pools start here: a processor takes four (Linux's two pools for bottom halves are not there, but their
/// numbers are left out, so that a name means the same).
const IDS_PER_CPU: u32 = 4;
static NEXT_ID: AtomicU32 = AtomicU32::new(0);

/// Makes the processors' pools, without workers yet.
pub(super) fn init() -> Result<()> {
    let n = frame::cpu::possible();
    let mut all = Vec::new();
    all.try_reserve_exact(n)?;
    for i in 0..n as u32 {
        let Some(cpu) = CpuId::new(i) else { break };
        let of = |which: u32, nice| {
            Pool::new(i * IDS_PER_CPU + 2 + which, Some(cpu), PoolAttrs::new(nice, CpuMask::one(cpu)))
        };
        all.push([of(0, 0)?, of(1, HIGHPRI_NICE)?]);
    }
    NEXT_ID.store(n as u32 * IDS_PER_CPU, Ordering::Relaxed);
    PER_CPU.call_once(|| all);
    Ok(())
}

/// A processor's pools.
pub(super) fn of_cpu(cpu: CpuId) -> &'static [Arc<Pool>; 2] {
    &PER_CPU.get().expect("pools are made first")[cpu.index()]
}
pub(super) fn per_cpu() -> &'static [[Arc<Pool>; 2]] {
    PER_CPU.get().map_or(&[], |v| v)
}
/// A number for an unbound pool.
pub(super) fn next_id() -> u32 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}
