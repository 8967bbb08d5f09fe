//! Which locks are held: sleeping locks by a task, spin locks by a processor.

use core::{
    panic::Location,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering},
};

use super::{How, Kind, LockClass, graph};
use crate::{
    arch,
    context::{self, HARDIRQ_MASK, NMI_MASK, SOFTIRQ_MASK, SOFTIRQ_OFFSET},
    cpu::MAX_CPUS,
    task,
};

/// Locks that one task, or one processor, may hold at once; more are not checked. Linux allows 48.
const DEPTH: usize = if cfg!(debug_assertions) { 32 } else { 0 };

// Where a class was taken: in that context, or with it let in.
const IN_HARDIRQ: u32 = 1;
const IN_SOFTIRQ: u32 = 2;
const HARDIRQS_ON: u32 = 4;
const SOFTIRQS_ON: u32 = 8;

pub(super) struct Entry {
    pub(super) class: &'static LockClass,
    pub(super) at: &'static Location<'static>,
    addr: usize,
    /// The interrupt part of the context word.
    level: u32,
}

struct Slot {
    class: AtomicPtr<LockClass>,
    at: AtomicPtr<Location<'static>>,
    addr: AtomicUsize,
    level: AtomicU32,
}

impl Slot {
    #[expect(clippy::declare_interior_mutable_const, reason = "the initial value of array elements")]
    const EMPTY: Slot = Slot {
        class: AtomicPtr::new(ptr::null_mut()),
        at: AtomicPtr::new(ptr::null_mut()),
        addr: AtomicUsize::new(0),
        level: AtomicU32::new(0),
    };
    fn set(&self, e: &Entry) {
        self.at.store(ptr::from_ref(e.at).cast_mut(), Ordering::Relaxed);
        self.addr.store(e.addr, Ordering::Relaxed);
        self.level.store(e.level, Ordering::Relaxed);
        self.class.store(ptr::from_ref(e.class).cast_mut(), Ordering::Release);
    }
    fn get(&self) -> Option<Entry> {
        // SAFETY: only `'static` references are ever stored. A reader on another processor may combine two entries, which
        // is no more than a wrong line in a report.
        unsafe {
            Some(Entry {
                class: self.class.load(Ordering::Acquire).as_ref()?,
                at: self.at.load(Ordering::Relaxed).as_ref()?,
                addr: self.addr.load(Ordering::Relaxed),
                level: self.level.load(Ordering::Relaxed),
            })
        }
    }
}

/// Held locks, in the order taken. Changed by its owner only; others may look, for reports.
pub(crate) struct Held {
    len: AtomicU32,
    slots: [Slot; DEPTH],
}

impl Held {
    pub(crate) const fn new() -> Self {
        Self { len: AtomicU32::new(0), slots: [const { Slot::EMPTY }; DEPTH] }
    }
    fn push(&self, e: &Entry) {
        let n = self.len.load(Ordering::Relaxed);
        // Behind an interrupt that comes here, its own entries have gone again.
        match self.slots.get(n as usize) {
            Some(s) => {
                s.set(e);
                self.len.store(n + 1, Ordering::Release);
            }
            None => graph::count_lost(),
        }
    }
    /// Removes the last entry of that lock.
    fn remove(&self, addr: usize) -> bool {
        let n = self.len.load(Ordering::Relaxed) as usize;
        for i in (0..n).rev() {
            if self.slots[i].addr.load(Ordering::Relaxed) == addr {
                for j in i + 1..n {
                    if let Some(e) = self.slots[j].get() {
                        self.slots[j - 1].set(&e);
                    }
                }
                self.len.store(n as u32 - 1, Ordering::Release);
                return true;
            }
        }
        false
    }
    pub(super) fn each(&self, mut f: impl FnMut(&Entry)) {
        let n = (self.len.load(Ordering::Acquire) as usize).min(DEPTH);
        for s in &self.slots[..n] {
            if let Some(e) = s.get() {
                f(&e);
            }
        }
    }
}

static BY_CPU: [Held; MAX_CPUS] = [const { Held::new() }; MAX_CPUS];

pub(super) fn of_cpu(cpu: u32) -> &'static Held {
    &BY_CPU[cpu as usize]
}

pub(super) fn acquire(
    class: &'static LockClass,
    addr: usize,
    kind: Kind,
    how: How,
    at: &'static Location<'static>,
) {
    if !class.state.checked || graph::is_off() || !task::has_current() {
        return;
    }
    let word = context::word();
    if word & NMI_MASK != 0 {
        return;
    }
    let level = word & (HARDIRQ_MASK | SOFTIRQ_OFFSET);
    if kind == Kind::Spin {
        note_context(class, word, how, at);
    }
    let me = task::current();
    let check = |e: &Entry| {
        if how == How::Try {
            return;
        }
        if e.addr == addr {
            graph::turn_off();
            panic!("BUG: recursive locking: {} at {at}, held since {}", class.name(), e.at);
        }
        if e.level != level {
            return;
        }
        if !ptr::eq(e.class, class) {
            graph::edge(e.class, e.at, class, at);
        } else if how == How::Block && addr < e.addr {
            graph::turn_off();
            panic!(
                "BUG: two locks of class {}: the one at {at} lies below the one held since {}",
                class.name(),
                e.at
            );
        }
    };
    if level == 0 {
        me.held.each(check);
    }
    let entry = Entry { class, at, addr, level };
    match kind {
        Kind::Sleep => {
            // Spin locks held here are reported by `might_sleep`.
            me.held.push(&entry);
        }
        Kind::Spin => {
            let here = of_cpu(arch::cpu_id());
            here.each(check);
            here.push(&entry);
        }
    }
}

/// Checks interrupt safety.
fn note_context(class: &'static LockClass, word: u32, how: How, at: &Location<'_>) {
    let mut now = 0;
    if how != How::Try {
        if word & HARDIRQ_MASK != 0 {
            now |= IN_HARDIRQ;
        } else if word & SOFTIRQ_OFFSET != 0 {
            now |= IN_SOFTIRQ;
        }
    }
    if word & HARDIRQ_MASK == 0 && arch::irqs_enabled() {
        now |= HARDIRQS_ON;
        if word & SOFTIRQ_MASK == 0 {
            now |= SOFTIRQS_ON;
        }
    }
    let usage = &class.state.usage;
    let mut all = usage.load(Ordering::Relaxed);
    if all & now != now {
        all = usage.fetch_or(now, Ordering::Relaxed) | now;
    }
    for (inside, open, what) in
        [(IN_HARDIRQ, HARDIRQS_ON, "hardware interrupts"), (IN_SOFTIRQ, SOFTIRQS_ON, "softirqs")]
    {
        if all & (inside | open) == inside | open {
            graph::turn_off();
            panic!(
                "BUG: lock class {} is taken in {what} and, elsewhere, with {what} enabled; seen at {at}",
                class.name()
            );
        }
    }
}

pub(super) fn release(class: &'static LockClass, addr: usize) {
    if !class.state.checked || !task::has_current() {
        return;
    }
    // A lock taken before this processor had a task is on neither list.
    let _ = of_cpu(arch::cpu_id()).remove(addr) || task::current().held.remove(addr);
}

#[track_caller]
pub(super) fn assert_none(what: &str) {
    if graph::is_off() || !task::has_current() {
        return;
    }
    let fail = |e: &Entry| {
        graph::turn_off();
        panic!("BUG: {what} with lock {} held since {}", e.class.name(), e.at);
    };
    task::current().held.each(fail);
    let g = context::PreemptGuard::new();
    of_cpu(g.cpu().get()).each(fail);
}
