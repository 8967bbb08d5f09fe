//! epoll(7).
//!
//! ```text
//!   Epoll ── items: (fd, file) → Item ── table: registrations on the file's queues
//!     │                           └──── Node: events, data, "queued"  ◀── callbacks own it
//!     └── Ready: list of Nodes, queue of waiters                      ◀── Node
//! ```
//! A wake-up on a watched file runs a callback that puts the node on the ready list, once, and wakes a waiter. `epoll_wait` takes
//! nodes off, asks each file again, reports what holds, and puts level-triggered ones back.
//!
//! Callbacks run under the lock of the queue that wakes, so they must never be the last owner of a registration: that is why they own
//! the node and not the item. The list has room for all items beforehand; a callback allocates nothing.
//!
//! A file does not know its watchers strongly: when it goes, [`forget`] ends the registrations and marks the item dead; dead items
//! are swept at the next call.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    string::String,
    sync::{Arc, Weak},
};

use base::{Errno, Result, cred::Cred};
use frame::{
    atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    sync::{LockClass, Mutex, SpinLock, SpinLockIrq, WaitEntry, WaitQueue},
    task::State,
};
use linux_raw_sys::general as raw;

use crate::{
    anon,
    fdtable::Fd,
    file::{File, FileKind, FileOps},
    poll::{PollFlags, PollQueue, PollTable},
    types::OpenFlags,
};

static ITEMS_CLASS: LockClass = LockClass::new("epoll_items");
static READY_CLASS: LockClass = LockClass::new("epoll_ready");
static TABLE_CLASS: LockClass = LockClass::new("epoll_table");

const ONESHOT: u32 = 1 << 30;
const EDGE: u32 = 1 << 31;
const EXCLUSIVE: u32 = 1 << 28;
const WAKEUP: u32 = 1 << 29;
/// Bits that are not events; a fired one-shot keeps only these.
const PRIVATE: u32 = ONESHOT | EDGE | EXCLUSIVE | WAKEUP;
/// What may stand beside `EPOLLEXCLUSIVE`.
const EXCLUSIVE_OK: u32 =
    raw::POLLIN | raw::POLLOUT | raw::POLLERR | raw::POLLHUP | WAKEUP | EDGE | EXCLUSIVE;
/// As deep as epoll instances may watch one another.
const MAX_NESTS: u32 = 5;

/// One event: what is ready, and the data given with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Event {
    pub events: u32,
    pub data: u64,
}

/// The operations of epoll_ctl(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ctl {
    Add(Event),
    Modify(Event),
    Delete,
}

struct Ready {
    list: SpinLockIrq<VecDeque<Arc<Node>>>,
    waiters: PollQueue,
}

struct Node {
    ready: Arc<Ready>,
    file: Weak<File>,
    events: AtomicU32,
    data: AtomicU64,
    queued: AtomicBool,
    dead: AtomicBool,
}

impl Node {
    fn enqueue(self: &Arc<Node>) {
        if !self.queued.swap(true, AcqRel) {
            self.ready.list.lock().push_back(self.clone());
        }
    }
    /// What a wake-up with `key` does; 0 is "anything may have happened".
    fn notify(self: &Arc<Node>, key: u32) {
        let e = self.events.load(Acquire);
        if e & !PRIVATE == 0 || key != 0 && key & (e | raw::POLLERR | raw::POLLHUP) == 0 {
            return;
        }
        self.enqueue();
        self.ready.waiters.wake_all_key(PollFlags::READABLE.bits());
    }
}

/// A watched file.
pub struct Item {
    node: Arc<Node>,
    table: SpinLock<Option<PollTable>>,
    dead_count: Arc<AtomicU32>,
}

/// An epoll instance.
pub struct Epoll {
    /// Also serialises the scans of the ready list.
    items: Mutex<BTreeMap<(Fd, usize), Arc<Item>>>,
    ready: Arc<Ready>,
    dead: Arc<AtomicU32>,
}

/// A watched file goes: ends its registrations.
pub(crate) fn forget(item: &Arc<Item>) {
    item.node.dead.store(true, Relaxed);
    item.dead_count.fetch_add(1, Relaxed);
    let table = item.table.lock().take();
    drop(table);
}

/// epoll_create1(2).
pub fn create(cred: &Arc<Cred>) -> Result<Arc<File>> {
    let ops = Arc::new(Epoll {
        items: Mutex::new(&ITEMS_CLASS, BTreeMap::new()),
        ready: Arc::new(Ready {
            list: SpinLockIrq::new(&READY_CLASS, VecDeque::new()),
            waiters: Arc::new(WaitQueue::new()),
        }),
        dead: Arc::new(AtomicU32::new(0)),
    });
    anon::new_file("[eventpoll]", ops, OpenFlags::RDWR, cred)
}

fn of(file: &File) -> Result<&Epoll> {
    file.ops_as::<Epoll>().ok_or(Errno::EINVAL)
}

/// epoll_ctl(2): `fd` and `target` are the watched descriptor and its file.
pub fn ctl(epfile: &Arc<File>, fd: Fd, target: &Arc<File>, op: Ctl) -> Result<()> {
    if !target.ops().can_poll() {
        return Err(Errno::EPERM);
    }
    if Arc::ptr_eq(epfile, target) {
        return Err(Errno::EINVAL);
    }
    let ep = of(epfile)?;
    let inner = target.ops_as::<Epoll>();
    if let Ctl::Add(e) | Ctl::Modify(e) = op
        && e.events & EXCLUSIVE != 0
        && (matches!(op, Ctl::Modify(_)) || inner.is_some() || e.events & !EXCLUSIVE_OK != 0)
    {
        return Err(Errno::EINVAL);
    }
    if matches!(op, Ctl::Add(_))
        && let Some(i) = inner
        && depth(i, ep, 1)? + 1 > MAX_NESTS
    {
        return Err(Errno::ELOOP);
    }
    let key = (fd, Arc::as_ptr(target) as usize);
    let mut items = ep.items.lock();
    ep.sweep(&mut items);
    match op {
        Ctl::Add(e) => {
            if items.contains_key(&key) {
                return Err(Errno::EEXIST);
            }
            let item = ep.make(target, e, items.len() + 1)?;
            items.insert(key, item.clone());
            target.add_watcher(&item)?;
            item.start(target);
            Ok(())
        }
        Ctl::Modify(e) => {
            let item = items.get(&key).ok_or(Errno::ENOENT)?;
            if item.node.events.load(Relaxed) & EXCLUSIVE != 0 {
                return Err(Errno::EINVAL);
            }
            item.node.data.store(e.data, Relaxed);
            item.node.events.store(e.events | raw::POLLERR | raw::POLLHUP, Relaxed);
            item.check_now(target);
            Ok(())
        }
        Ctl::Delete => {
            let item = items.remove(&key).ok_or(Errno::ENOENT)?;
            ep.retire(&item);
            Ok(())
        }
    }
}

/// How deep the instances below `ep` nest; `ELOOP` if `top` is among them.
fn depth(ep: &Epoll, top: &Epoll, level: u32) -> Result<u32> {
    if core::ptr::eq(ep, top) || level > MAX_NESTS {
        return Err(Errno::ELOOP);
    }
    let inner: alloc::vec::Vec<Arc<File>> = ep
        .items
        .lock()
        .values()
        .filter_map(|i| i.node.file.upgrade())
        .filter(|f| f.ops_as::<Epoll>().is_some())
        .collect();
    let mut deepest = level;
    for f in &inner {
        deepest = deepest.max(depth(of(f)?, top, level + 1)?);
    }
    Ok(deepest)
}

impl Item {
    /// Registers on the file's queues and reports what is ready already.
    fn start(self: &Arc<Item>, file: &Arc<File>) {
        let node = self.node.clone();
        let mut table = PollTable::with_callbacks(Arc::new(move || {
            let node = node.clone();
            WaitEntry::new_callback(Box::new(move |key| node.notify(key)))
        }));
        let now = file.poll(Some(&mut table));
        *self.table.lock() = Some(table);
        self.report(now);
    }
    fn check_now(&self, file: &Arc<File>) {
        self.report(file.poll(None));
    }
    fn report(&self, now: PollFlags) {
        if now.bits() & self.node.events.load(Relaxed) != 0 {
            self.node.enqueue();
            self.node.ready.waiters.wake_all_key(PollFlags::READABLE.bits());
        }
    }
}

impl Epoll {
    fn make(&self, file: &Arc<File>, e: Event, count: usize) -> Result<Arc<Item>> {
        {
            let mut l = self.ready.list.lock();
            let len = l.len();
            l.try_reserve(count.saturating_sub(len)).map_err(|_| Errno::ENOMEM)?;
        }
        let node = frame::heap::try_arc(Node {
            ready: self.ready.clone(),
            file: Arc::downgrade(file),
            events: AtomicU32::new(e.events | raw::POLLERR | raw::POLLHUP),
            data: AtomicU64::new(e.data),
            queued: AtomicBool::new(false),
            dead: AtomicBool::new(false),
        })
        .ok_or(Errno::ENOMEM)?;
        frame::heap::try_arc(Item {
            node,
            table: SpinLock::new(&TABLE_CLASS, None),
            dead_count: self.dead.clone(),
        })
        .ok_or(Errno::ENOMEM)
    }
    /// Ends an item for good.
    fn retire(&self, item: &Arc<Item>) {
        item.node.dead.store(true, Relaxed);
        let table = item.table.lock().take();
        drop(table);
        self.ready.list.lock().retain(|n| !Arc::ptr_eq(n, &item.node));
    }
    fn sweep(&self, items: &mut BTreeMap<(Fd, usize), Arc<Item>>) {
        if self.dead.load(Relaxed) == 0 {
            return;
        }
        self.dead.store(0, Relaxed);
        items.retain(|_, i| !i.node.dead.load(Relaxed));
        self.ready.list.lock().retain(|n| !n.dead.load(Relaxed));
    }

    /// Reports up to `max` events; returns how many.
    fn scan(&self, max: usize, emit: &mut dyn FnMut(Event) -> Result<()>) -> Result<usize> {
        let mut items = self.items.lock();
        self.sweep(&mut items);
        let mut todo = self.ready.list.lock().len();
        let mut done = 0;
        let mut result = Ok(());
        while done < max && todo > 0 && result.is_ok() {
            todo -= 1;
            let Some(node) = self.ready.list.lock().pop_front() else { break };
            // From here on a wake-up queues it again.
            node.queued.store(false, Relaxed);
            frame::atomic::fence(frame::atomic::Ordering::SeqCst);
            if node.dead.load(Relaxed) {
                continue;
            }
            let Some(file) = node.file.upgrade() else { continue };
            let events = node.events.load(Relaxed);
            if events & !PRIVATE == 0 {
                continue;
            }
            let now = file.poll(None).bits() & events & !PRIVATE;
            if now == 0 {
                continue;
            }
            result = emit(Event { events: now, data: node.data.load(Relaxed) });
            if result.is_err() {
                node.enqueue();
                break;
            }
            done += 1;
            if events & ONESHOT != 0 {
                node.events.store(events & PRIVATE, Relaxed);
            } else if events & EDGE == 0 {
                node.enqueue();
            }
        }
        match result {
            Err(e) if done == 0 => Err(e),
            _ => Ok(done),
        }
    }
}

/// epoll_wait(2): waits until `deadline_ns` (monotonic; `None`: for ever; 0: not at all) and hands at most `max` events to `emit`.
pub fn wait(
    epfile: &Arc<File>,
    max: usize,
    deadline_ns: Option<u64>,
    emit: &mut dyn FnMut(Event) -> Result<()>,
) -> Result<usize> {
    let ep = of(epfile)?;
    loop {
        let n = ep.scan(max, emit)?;
        if n > 0 || deadline_ns == Some(0) {
            return Ok(n);
        }
        let woken = sched::time::wait_timeout(&ep.ready.waiters, State::INTERRUPTIBLE, deadline_ns, || {
            (!ep.ready.list.lock().is_empty()).then_some(())
        });
        match woken {
            Ok(Some(())) => {}
            Ok(None) => return Ok(0),
            Err(_) if sched::freezer::only_frozen() => {}
            // Linux ends it with EINTR whatever SA_RESTART says.
            Err(_) => return Err(Errno::EINTR),
        }
    }
}

impl FileOps for Epoll {
    fn kind(&self) -> FileKind {
        FileKind::Stream
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register(&self.ready.waiters);
        }
        let list: alloc::vec::Vec<Arc<Node>> = self.ready.list.lock().iter().cloned().collect();
        let ready = list.iter().any(|n| {
            let e = n.events.load(Relaxed) & !PRIVATE;
            n.file.upgrade().is_some_and(|f| f.poll(None).bits() & e != 0)
        });
        if ready { PollFlags::READABLE } else { PollFlags::empty() }
    }
    fn fdinfo(&self, _file: &File, out: &mut String) {
        use core::fmt::Write;
        for ((fd, _), i) in self.items.lock().iter() {
            let (e, d) = (i.node.events.load(Relaxed), i.node.data.load(Relaxed));
            // Only fails without memory; then the line is missing.
            let _ = writeln!(out, "tfd: {fd:8} events: {e:8x} data: {d:16x}");
        }
    }
    fn release(&self, _file: &File) {
        let items = core::mem::take(&mut *self.items.lock());
        for i in items.values() {
            self.retire(i);
        }
    }
}
