//! Classes and the order between them. Plain `core` atomics: the checker must not disturb what it watches.

use core::{
    fmt::Write,
    panic::Location,
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering},
};

use super::{LockClass, Stats};
use crate::{arch, console::Console};

const MAX_CLASSES: usize = 1024;
const MAX_EDGES: usize = 8192;
const WORDS: usize = MAX_CLASSES / 64;
/// The id of a class that came too late.
const NO_ROOM: u32 = u32::MAX;

/// The part of a [`LockClass`] that changes.
pub(super) struct ClassState {
    pub(super) checked: bool,
    /// Index into [`CLASSES`] plus one.
    id: AtomicU32,
    /// Bits of [`super::held`]: where it was taken.
    pub(super) usage: AtomicU32,
}

impl ClassState {
    pub(super) const fn new(checked: bool) -> Self {
        Self { checked, id: AtomicU32::new(0), usage: AtomicU32::new(0) }
    }
}

/// Where an edge was seen first.
struct Edge {
    from: AtomicU16,
    to: AtomicU16,
    from_at: AtomicPtr<Location<'static>>,
    to_at: AtomicPtr<Location<'static>>,
}

static CLASSES: [AtomicPtr<LockClass>; MAX_CLASSES] =
    [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CLASSES];
static MATRIX: [AtomicU64; MAX_CLASSES * WORDS] = [const { AtomicU64::new(0) }; MAX_CLASSES * WORDS];
static EDGES: [Edge; MAX_EDGES] = [const {
    Edge {
        from: AtomicU16::new(0),
        to: AtomicU16::new(0),
        from_at: AtomicPtr::new(ptr::null_mut()),
        to_at: AtomicPtr::new(ptr::null_mut()),
    }
}; MAX_EDGES];
static CLASS_COUNT: AtomicU32 = AtomicU32::new(0);
static EDGE_COUNT: AtomicU32 = AtomicU32::new(0);
static LOST: AtomicU32 = AtomicU32::new(0);
/// Set by the first report: what follows a broken order says nothing.
static OFF: AtomicBool = AtomicBool::new(false);

pub(super) fn is_off() -> bool {
    OFF.load(Ordering::Relaxed)
}
pub(super) fn turn_off() {
    OFF.store(true, Ordering::Relaxed);
}
pub(super) fn count_lost() {
    LOST.fetch_add(1, Ordering::Relaxed);
}
pub(super) fn stats() -> Stats {
    Stats {
        classes: CLASS_COUNT.load(Ordering::Relaxed) as usize,
        edges: EDGE_COUNT.load(Ordering::Relaxed) as usize,
        lost: LOST.load(Ordering::Relaxed) as usize,
    }
}

static LOCK: AtomicBool = AtomicBool::new(false);

/// Runs `f` alone, with interrupts off: an interrupt's locks are checked too.
fn exclusive<R>(f: impl FnOnce() -> R) -> R {
    let on = arch::irqs_enabled();
    arch::irq_disable();
    while LOCK.swap(true, Ordering::Acquire) {
        arch::relax();
    }
    let r = f();
    LOCK.store(false, Ordering::Release);
    if on {
        arch::irq_enable();
    }
    r
}

fn id(c: &'static LockClass) -> Option<usize> {
    let mut n = c.state.id.load(Ordering::Acquire);
    if n == 0 {
        n = exclusive(|| {
            let n = c.state.id.load(Ordering::Acquire);
            if n != 0 {
                return n;
            }
            let i = CLASS_COUNT.load(Ordering::Relaxed);
            let n = if (i as usize) < MAX_CLASSES {
                CLASSES[i as usize].store(ptr::from_ref(c).cast_mut(), Ordering::Release);
                CLASS_COUNT.store(i + 1, Ordering::Relaxed);
                i + 1
            } else {
                count_lost();
                NO_ROOM
            };
            c.state.id.store(n, Ordering::Release);
            n
        });
    }
    (n != NO_ROOM).then(|| n as usize - 1)
}

fn name(i: usize) -> &'static str {
    // SAFETY: only `&'static LockClass` is ever stored.
    unsafe { CLASSES[i].load(Ordering::Acquire).as_ref() }.map_or("?", |c| c.name)
}

fn has_edge(a: usize, b: usize) -> bool {
    MATRIX[a * WORDS + b / 64].load(Ordering::Relaxed) >> (b % 64) & 1 != 0
}

/// Learns that `to` is waited for while `from` is held.
///
/// # Panics
/// If it was the other way round before, directly or through others.
pub(super) fn edge(
    from: &'static LockClass,
    from_at: &'static Location<'static>,
    to: &'static LockClass,
    to_at: &'static Location<'static>,
) {
    let (Some(a), Some(b)) = (id(from), id(to)) else { return };
    if has_edge(a, b) {
        return;
    }
    let circle = exclusive(|| {
        if has_edge(a, b) {
            return false;
        }
        if find_path(b, a) {
            return true;
        }
        let n = EDGE_COUNT.load(Ordering::Relaxed) as usize;
        if let Some(e) = EDGES.get(n) {
            e.from.store(a as u16, Ordering::Relaxed);
            e.to.store(b as u16, Ordering::Relaxed);
            e.from_at.store(ptr::from_ref(from_at).cast_mut(), Ordering::Relaxed);
            e.to_at.store(ptr::from_ref(to_at).cast_mut(), Ordering::Relaxed);
            EDGE_COUNT.store(n as u32 + 1, Ordering::Relaxed);
        } else {
            count_lost();
        }
        MATRIX[a * WORDS + b / 64].fetch_or(1 << (b % 64), Ordering::Relaxed);
        false
    });
    if circle {
        turn_off();
        let _ = writeln!(Console, "lockdep: possible circular locking dependency");
        let _ = writeln!(Console, "lockdep: now     {} ({from_at}) -> {} ({to_at})", from.name, to.name);
        // The search left for each class the one it was reached from, starting at `b`.
        let mut at = a;
        while at != b {
            let before = usize::from(PARENT[at].load(Ordering::Relaxed));
            let (x, y) = places(before, at);
            let _ = writeln!(Console, "lockdep: earlier {} ({x}) -> {} ({y})", name(before), name(at));
            at = before;
        }
        panic!(
            "BUG: lock order: {} (taken at {from_at}) is held while {} is taken at {to_at}; the other way round was seen before",
            from.name, to.name
        );
    }
}

/// Where an edge was seen first, or anywhere if it found no room.
fn places(a: usize, b: usize) -> (&'static Location<'static>, &'static Location<'static>) {
    let n = (EDGE_COUNT.load(Ordering::Relaxed) as usize).min(MAX_EDGES);
    for e in &EDGES[..n] {
        if usize::from(e.from.load(Ordering::Relaxed)) == a && usize::from(e.to.load(Ordering::Relaxed)) == b
        {
            // SAFETY: only `&'static Location` is ever stored, before the count includes the edge.
            let (x, y) = unsafe {
                (e.from_at.load(Ordering::Relaxed).as_ref(), e.to_at.load(Ordering::Relaxed).as_ref())
            };
            if let (Some(x), Some(y)) = (x, y) {
                return (x, y);
            }
        }
    }
    (Location::caller(), Location::caller())
}

// Scratch of the search, under `LOCK`: kernel stacks are small.
static PARENT: [AtomicU16; MAX_CLASSES] = [const { AtomicU16::new(0) }; MAX_CLASSES];
static FRONTIER: [AtomicU16; MAX_CLASSES] = [const { AtomicU16::new(0) }; MAX_CLASSES];

/// Breadth first from `from` to `to`; leaves the way in [`PARENT`].
fn find_path(from: usize, to: usize) -> bool {
    let mut seen = [0u64; WORDS];
    seen[from / 64] |= 1 << (from % 64);
    FRONTIER[0].store(from as u16, Ordering::Relaxed);
    let (mut head, mut tail) = (0, 1);
    while head < tail {
        let at = usize::from(FRONTIER[head].load(Ordering::Relaxed));
        head += 1;
        if at == to {
            return true;
        }
        for (w, seen) in seen.iter_mut().enumerate() {
            let mut new = MATRIX[at * WORDS + w].load(Ordering::Relaxed) & !*seen;
            *seen |= new;
            while new != 0 {
                let n = w * 64 + new.trailing_zeros() as usize;
                new &= new - 1;
                PARENT[n].store(at as u16, Ordering::Relaxed);
                FRONTIER[tail].store(n as u16, Ordering::Relaxed);
                tail += 1;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_found_through_others() {
        static A: LockClass = LockClass::new("a");
        static B: LockClass = LockClass::new("b");
        static C: LockClass = LockClass::new("c");
        let at = Location::caller();
        edge(&A, at, &B, at);
        edge(&B, at, &C, at);
        edge(&A, at, &C, at);
        edge(&A, at, &B, at);
        let (a, c) = (id(&A).unwrap(), id(&C).unwrap());
        assert!(has_edge(a, c) && exclusive(|| find_path(a, c)) && !exclusive(|| find_path(c, a)));
        let e = std::panic::catch_unwind(|| edge(&C, at, &A, at)).unwrap_err();
        OFF.store(false, Ordering::Relaxed);
        assert!(e.downcast_ref::<alloc::string::String>().unwrap().contains("c (taken at"));
    }
}
