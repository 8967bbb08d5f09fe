//! Futexes: sleeping on a word of user memory (`futex(2)`).
//!
//! A waiter checks the word *under the lock of its bucket*, the same lock under which a waker looks for waiters; so a change of
//! the word followed by a wake-up cannot fall between the check and the sleep. The word is read in atomic context: a page that is
//! not there fails at once, is brought in with the lock released, and everything starts over.
//!
//! ```text
//!   key of a word:   private memory   (address space, address)
//!                    shared mapping   (object, page index, offset)      the same word in all processes that map it
//! ```
//! Priority inheritance is not here: its operations are `ENOSYS`.

use alloc::{collections::VecDeque, sync::Arc};

use base::{Errno, Result};
use frame::{
    atomic::{
        AtomicBool,
        Ordering::{Acquire, Release},
    },
    sync::{Lazy, LockClass, SpinLock},
    task::State,
    user,
};
use linux_raw_sys::general as uapi;
use mm::VmFlags;
use sched::TaskRef;

use crate::process::{Restart, current};

/// Names a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key {
    /// Address of the `Mm`, or of the mapped object; both live as long as a waiter's mapping does.
    owner: usize,
    index: u64,
    offset: u32,
}

/// What a thread puts into a bucket. Each thread has one and sleeps on one word at a time.
pub(crate) struct Waiter {
    state: SpinLock<Option<Entry>>,
    woken: AtomicBool,
}

#[derive(Clone)]
struct Entry {
    task: TaskRef,
    key: Key,
    bitset: u32,
}

static WAITER: LockClass = LockClass::new("futex_waiter");
static BUCKET: LockClass = LockClass::new("futex_bucket");

impl Waiter {
    pub(crate) fn new() -> Result<Arc<Waiter>> {
        let w = Waiter { state: SpinLock::new(&WAITER, None), woken: AtomicBool::new(false) };
        frame::heap::try_arc(w).ok_or(Errno::ENOMEM)
    }
}

type Queue = VecDeque<Arc<Waiter>>;
/// Linux has 256 buckets per processor.
const BUCKETS: usize = 256;
static TABLE: Lazy<[SpinLock<Queue>; BUCKETS]> =
    Lazy::new(|| [const { SpinLock::new(&BUCKET, VecDeque::new()) }; BUCKETS]);

fn bucket(k: &Key) -> usize {
    let n = (k.owner as u64 ^ k.index.rotate_left(17) ^ (k.offset as u64) << 32)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (n >> 56) as usize
}

fn key(uaddr: usize, shared: bool) -> Result<Key> {
    if !uaddr.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    if !user::range_ok(uaddr, 4) {
        return Err(Errno::EFAULT);
    }
    let me = current();
    // The running thread's own: it stays as long as the thread is in this call.
    let owner = me.process.mm_id().ok_or(Errno::EFAULT)?;
    let private = Key { owner, index: (uaddr / 4096) as u64, offset: (uaddr % 4096) as u32 };
    if !shared {
        return Ok(private);
    }
    let mm = me.process.mm().ok_or(Errno::EFAULT)?;
    let found = mm.find_vma(uaddr, |v| match v.object {
        Some(o) if v.flags.contains(VmFlags::SHARED) => Key {
            owner: Arc::as_ptr(o) as *const u8 as usize,
            index: v.pgoff + ((uaddr - v.start) / 4096) as u64,
            offset: private.offset,
        },
        _ => private,
    });
    found.ok_or(Errno::EFAULT)
}

/// Takes waiters of `key` that `wanted` accepts off the queue, at most `n`. Wake them when the lock is free.
fn take(q: &mut Queue, key: Key, bitset: u32, n: usize, out: &mut WakeList) -> usize {
    let mut done = 0;
    q.retain(|w| {
        if done == n || out.is_full() {
            return true;
        }
        let mut st = w.state.lock();
        let fits = st.as_ref().is_some_and(|e| e.key == key && e.bitset & bitset != 0);
        if !fits {
            return true;
        }
        if let Some(e) = st.take() {
            // After this the waiter may return and use its entry again.
            w.woken.store(true, Release);
            out.push(e.task);
            done += 1;
        }
        false
    });
    done
}

/// Tasks to wake, without allocating for the usual one.
struct WakeList {
    few: [Option<TaskRef>; 16],
    len: usize,
}

impl WakeList {
    fn new() -> Self {
        WakeList { few: [const { None }; 16], len: 0 }
    }
    fn is_full(&self) -> bool {
        self.len == self.few.len()
    }
    fn push(&mut self, t: TaskRef) {
        self.few[self.len] = Some(t);
        self.len += 1;
    }
    fn wake(&mut self) {
        for t in self.few[..self.len].iter_mut().filter_map(Option::take) {
            frame::task::wake(&t, State::NORMAL);
        }
        self.len = 0;
    }
}

fn wake_key(k: Key, n: usize, bitset: u32) -> usize {
    let bucket = &TABLE[bucket(&k)];
    // Most wake-ups find nobody.
    if bucket.lock().is_empty() {
        return 0;
    }
    wake_some(bucket, k, n, bitset)
}

fn wake_some(bucket: &SpinLock<Queue>, k: Key, n: usize, bitset: u32) -> usize {
    let mut total = 0;
    while total < n {
        let mut list = WakeList::new();
        let got = take(&mut bucket.lock(), k, bitset, n - total, &mut list);
        let more = list.is_full();
        list.wake();
        total += got;
        if !more {
            break;
        }
    }
    total
}

/// `FUTEX_WAKE`, `FUTEX_WAKE_BITSET`: how many were woken.
pub fn wake(uaddr: usize, shared: bool, n: usize, bitset: u32) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    Ok(wake_key(key(uaddr, shared)?, n, bitset))
}

/// `FUTEX_WAIT`, `FUTEX_WAIT_BITSET`: `EAGAIN` if the word is not `val`, `ETIMEDOUT`, or a restart after a signal. `relative`:
/// the time-out was given as a duration, so that a restart must go on with the rest of it.
pub fn wait(
    uaddr: usize,
    shared: bool,
    val: u32,
    bitset: u32,
    deadline_ns: Option<u64>,
    relative: bool,
) -> Result<()> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let me = current();
    let k = key(uaddr, shared)?;
    let w = me.futex.clone();
    enqueue(&w, k, uaddr, val, bitset)?;
    let task = me.task();
    let slept = sleep(&w, &task, deadline_ns);
    if !withdraw(&w) {
        return Ok(());
    }
    match slept {
        Ok(()) => Err(Errno::ETIMEDOUT),
        Err(_) if deadline_ns.is_none() => Err(Errno::ERESTARTSYS),
        Err(_) if !relative => Err(Errno::ERESTARTSYS),
        Err(_) => {
            *me.restart.lock() = Restart::Futex {
                uaddr: uaddr as u64,
                val,
                deadline_ns: deadline_ns.unwrap_or(0),
                shared,
                bitset,
            };
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
    }
}

/// Sleeps until woken (`Ok`, also at the deadline) or interrupted.
fn sleep(
    w: &Waiter,
    task: &frame::task::Current,
    deadline_ns: Option<u64>,
) -> Result<(), frame::sync::Interrupted> {
    if deadline_ns.is_some() {
        static NOBODY: frame::sync::WaitQueue = frame::sync::WaitQueue::new();
        let woken = || w.woken.load(Acquire).then_some(());
        return sched::time::wait_timeout(&NOBODY, State::INTERRUPTIBLE, deadline_ns, woken).map(|_| ());
    }
    let r = loop {
        task.set_state(State::INTERRUPTIBLE);
        if w.woken.load(Acquire) {
            break Ok(());
        }
        if !task.work().is_empty() {
            break Err(frame::sync::Interrupted);
        }
        frame::task::schedule();
    };
    task.set_running();
    r
}

fn enqueue(w: &Arc<Waiter>, k: Key, uaddr: usize, val: u32, bitset: u32) -> Result<()> {
    loop {
        w.woken.store(false, Release);
        {
            let mut q = TABLE[bucket(&k)].lock();
            match user::load_u32(uaddr) {
                Ok(v) if v != val => return Err(Errno::EAGAIN),
                Ok(_) => {
                    q.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                    *w.state.lock() = Some(Entry { task: current().task_ref(), key: k, bitset });
                    q.push_back(w.clone());
                    return Ok(());
                }
                Err(_) => {}
            }
        }
        user::load_u32(uaddr)?;
    }
}

/// Takes the waiter off its queue. False if a waker had done so: then it was woken.
fn withdraw(w: &Arc<Waiter>) -> bool {
    loop {
        // The key may change under us by a requeue until its bucket is locked.
        let Some(k) = w.state.lock().as_ref().map(|e| e.key) else { return false };
        let mut q = TABLE[bucket(&k)].lock();
        let mut st = w.state.lock();
        match st.as_ref() {
            None => return false,
            Some(e) if e.key != k => continue,
            Some(_) => {
                let e = st.take();
                drop(st);
                q.retain(|x| !Arc::ptr_eq(x, w));
                drop(q);
                drop(e);
                return true;
            }
        }
    }
}

/// `FUTEX_REQUEUE`, `FUTEX_CMP_REQUEUE`: wakes `n` waiters of `from` and moves up to `move_max` others to `to`. The number of
/// both (woken only, without `cmp`, as Linux counts: both in either case).
pub fn requeue(
    from: usize,
    to: usize,
    shared: bool,
    n: usize,
    move_max: usize,
    cmp: Option<u32>,
) -> Result<usize> {
    let (a, b) = (key(from, shared)?, key(to, shared)?);
    let mut total = 0;
    loop {
        let mut list = WakeList::new();
        let mut retry = false;
        {
            let (ia, ib) = (bucket(&a), bucket(&b));
            let (mut low, mut high) = lock_two(ia, ib);
            if let Some(want) = cmp {
                match user::load_u32(from) {
                    Ok(v) if v != want => return Err(Errno::EAGAIN),
                    Ok(_) => {}
                    Err(_) => retry = true,
                }
            }
            if !retry {
                let (src, dst) = match &mut high {
                    None => (&mut *low, None),
                    Some(h) if ia < ib => (&mut *low, Some(&mut **h)),
                    Some(h) => (&mut **h, Some(&mut *low)),
                };
                total += take(src, a, !0, n, &mut list);
                total += shift(src, dst, a, b, move_max)?;
            }
        }
        list.wake();
        if !retry {
            return Ok(total);
        }
        user::load_u32(from)?;
    }
}

type QueueGuard = frame::sync::SpinLockGuard<'static, Queue>;

/// Locks one or two buckets, the lower index first.
fn lock_two(a: usize, b: usize) -> (QueueGuard, Option<QueueGuard>) {
    let low = TABLE[a.min(b)].lock();
    let high = (a != b).then(|| TABLE[a.max(b)].lock_nested());
    (low, high)
}

fn shift(src: &mut Queue, mut dst: Option<&mut Queue>, a: Key, b: Key, max: usize) -> Result<usize> {
    let (mut moved, mut i) = (0, 0);
    while moved < max && i < src.len() {
        let fits = {
            let mut st = src[i].state.lock();
            match st.as_mut() {
                Some(e) if e.key == a => {
                    if let Some(d) = &mut dst {
                        d.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                    }
                    e.key = b;
                    true
                }
                _ => false,
            }
        };
        if !fits {
            i += 1;
            continue;
        }
        moved += 1;
        match &mut dst {
            Some(d) => d.extend(src.remove(i)),
            None => i += 1,
        }
    }
    Ok(moved)
}

/// `FUTEX_WAKE_OP`: changes the second word, wakes `n1` waiters of the first, and `n2` of the second if its old value compares.
pub fn wake_op(u1: usize, u2: usize, shared: bool, n1: usize, n2: usize, op: u32) -> Result<usize> {
    let (k1, k2) = (key(u1, shared)?, key(u2, shared)?);
    let o = Op::decode(op)?;
    let old = user::fetch_op_u32(u2, |v| o.apply(v))?;
    let mut n = wake_key(k1, n1, !0);
    if o.compare(old) {
        n += wake_key(k2, n2, !0);
    }
    Ok(n)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Op {
    op: u32,
    arg: u32,
    cmp: u32,
    cmp_arg: i32,
}

impl Op {
    /// 4 bits operation (8: the argument is a shift), 4 bits comparison, 12 bits each of signed arguments.
    fn decode(v: u32) -> Result<Op> {
        let signed = |x: u32| ((x << 20) as i32) >> 20;
        let mut arg = signed(v >> 12 & 0xfff) as u32;
        if v >> 28 & 8 != 0 {
            arg = 1 << (arg & 31);
        }
        let o = Op { op: v >> 28 & 7, arg, cmp: v >> 24 & 15, cmp_arg: signed(v & 0xfff) };
        if o.op > 4 || o.cmp > 5 { Err(Errno::ENOSYS) } else { Ok(o) }
    }
    fn apply(self, v: u32) -> u32 {
        match self.op {
            0 => self.arg,
            1 => v.wrapping_add(self.arg),
            2 => v | self.arg,
            3 => v & !self.arg,
            _ => v ^ self.arg,
        }
    }
    fn compare(self, old: u32) -> bool {
        let (old, c) = (old as i32, self.cmp_arg);
        match self.cmp {
            0 => old == c,
            1 => old != c,
            2 => old < c,
            3 => old <= c,
            4 => old > c,
            _ => old >= c,
        }
    }
}

/// Entries of a robust list that are looked at, so that a ring does not hold the kernel: Linux's `ROBUST_LIST_LIMIT`.
const ROBUST_LIMIT: usize = 2048;

/// Marks the robust mutexes that the running thread still holds as ownerless and wakes one waiter of each
/// (`struct robust_list_head`: list, futex offset, pending).
pub(crate) fn exit_robust_list(head: usize) {
    let tid = current().tid();
    let Ok(offset) = user::load_u64(head.wrapping_add(8)) else { return };
    let pending = user::load_u64(head.wrapping_add(16)).unwrap_or(0);
    let word = |entry: u64| ((entry & !1).wrapping_add(offset)) as usize;
    let Ok(mut at) = user::load_u64(head) else { return };
    for _ in 0..ROBUST_LIMIT {
        if (at & !1) as usize == head {
            break;
        }
        let next = user::load_u64((at & !1) as usize);
        if at & !1 != pending & !1 && at & 1 == 0 && owner_died(word(at), tid, false).is_err() {
            return;
        }
        match next {
            Ok(n) => at = n,
            Err(_) => break,
        }
    }
    if pending & !1 != 0 && pending & 1 == 0 {
        let _ = owner_died(word(pending), tid, true);
    }
}

fn owner_died(uaddr: usize, tid: u32, pending: bool) -> Result<()> {
    let mut v = user::load_u32(uaddr)?;
    loop {
        // Unlocked in the middle of an unlock: somebody may sleep and never be woken.
        if pending && v & !uapi::FUTEX_WAITERS == 0 {
            wake(uaddr, true, 1, !0)?;
            return Ok(());
        }
        if v & uapi::FUTEX_TID_MASK != tid {
            return Ok(());
        }
        match user::cmpxchg_u32(uaddr, v, v & uapi::FUTEX_WAITERS | uapi::FUTEX_OWNER_DIED)? {
            Ok(_) => break,
            Err(now) => v = now,
        }
    }
    if v & uapi::FUTEX_WAITERS != 0 {
        wake(uaddr, true, 1, !0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_decode_with_sign() {
        // OP_ADD -1, compare less than 3.
        let o = Op::decode(1 << 28 | 2 << 24 | 0xfff << 12 | 3).unwrap();
        assert_eq!(o.apply(5), 4);
        assert!(o.compare(2) && !o.compare(3) && o.compare(-1i32 as u32));
        // OP_OR with a shift.
        assert_eq!(Op::decode(10 << 28 | 4 << 12).unwrap().apply(1), 17);
        assert_eq!(Op::decode(5 << 28), Err(Errno::ENOSYS));
    }
}
