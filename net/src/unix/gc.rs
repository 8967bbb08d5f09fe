//! Collecting sockets that only messages hold.
//!
//! A socket sent to itself, or two sent through each other, and then closed: no program can receive them any more, and yet each is
//! held by a message in a queue that one of them keeps. Reference counts never end such a circle.
//!
//! # The algorithm
//! The collector keeps a *record* for each message with sockets in it: whose queue it is in, and which sockets it holds. A socket *in
//! flight* is *live* if somebody beside messages holds its file, that is, if the file has more references than records name; or if
//! a live socket's queue, or the queue of one that is not in flight at all, holds it. An embryo's queue counts as its listener's. The rest is
//! garbage: its queues are emptied, and the counts do what is left.
//!
//! # Why that is right
//! A record begins before its message is queued and ends when its files are taken out; peeks and takes hold the lock that the
//! collector holds. So while it looks, no file leaves a queue; a file that it sees held by nobody but messages can be reached only by
//! receiving, and who receives holds the receiving socket, which the collector therefore sees live.
//!
//! # Who runs it
//! The close of a socket queues a work item on `events_unbound`, and so does a message when very many sockets are in flight. Who sends
//! while many files of his are on their way waits for it, so that nobody makes circles faster than they are collected.

use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};

use base::{Errno, Result};
use frame::sync::{LockClass, Mutex, once::Once};
use hashbrown::HashMap;
use sched::workqueue::{self, Work};
use vfs::File;

use super::{Fault, Handle, UnixSock, has_fault};
use crate::socket::SocketFile;

static CLASS: LockClass = LockClass::new("unix_gc");

/// So many sockets in flight are looked at before they become more (`UNIX_INFLIGHT_TRIGGER_GC`).
const TRIGGER: usize = 16_000;
/// A user with fewer files in flight than this, eight full messages, never waits for the collector (`UNIX_INFLIGHT_SANE_USER`).
const SANE_USER: u64 = 253 * 8;

/// A message with sockets in it.
struct Record {
    /// Whose queue.
    holder: Weak<UnixSock>,
    /// Which sockets, as often as they are there.
    holds: Vec<u64>,
}

/// A socket in flight.
struct Target {
    file: Weak<File>,
    sock: Weak<UnixSock>,
    /// How many references of the file are in messages.
    count: usize,
    live: bool,
}

#[derive(Default)]
struct Gc {
    records: HashMap<u64, Record>,
    targets: HashMap<u64, Target>,
    /// Files in flight of each user, of any kind.
    users: HashMap<u32, u64>,
    /// Sockets in flight, as often as messages hold them.
    sockets: usize,
    next: u64,
}

fn gc() -> &'static Mutex<Gc> {
    static GC: Once<Mutex<Gc>> = Once::new();
    GC.call_once(|| Mutex::new(&CLASS, Gc::default()))
}

/// The socket of this family behind a file.
fn unix_of(f: &File) -> Option<&Arc<UnixSock>> {
    let s: &dyn core::any::Any = f.ops_as::<SocketFile>()?.socket();
    s.downcast_ref::<Handle>().map(|h| &h.0)
}

/// Files begin their way into the queue of `to`. `ETOOMANYREFS` if their user has more than `limit` on the way already.
pub(super) fn begin(files: &[Arc<File>], uid: u32, limit: u64, to: &Arc<UnixSock>) -> Result<Option<u64>> {
    let mut holds = Vec::new();
    holds.try_reserve_exact(files.iter().filter(|f| unix_of(f).is_some()).count())?;
    let mut g = gc().lock();
    if g.users.get(&uid).is_some_and(|n| *n > limit) {
        return Err(Errno::ETOOMANYREFS);
    }
    g.users.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    g.targets.try_reserve(holds.capacity()).map_err(|_| Errno::ENOMEM)?;
    g.records.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    *g.users.entry(uid).or_insert(0) += files.len() as u64;
    for f in files {
        let Some(s) = unix_of(f) else { continue };
        let fresh = || Target { file: Arc::downgrade(f), sock: Arc::downgrade(s), count: 0, live: false };
        g.targets.entry(s.id).or_insert_with(fresh).count += 1;
        g.sockets += 1;
        holds.push(s.id);
    }
    if holds.is_empty() {
        return Ok(None);
    }
    g.next += 1;
    let id = g.next;
    g.records.insert(id, Record { holder: Arc::downgrade(to), holds });
    Ok(Some(id))
}

/// They have left the queue.
pub(super) fn end(files: &[Arc<File>], uid: u32, record: Option<u64>) {
    let mut g = gc().lock();
    if let Some(n) = g.users.get_mut(&uid) {
        *n = n.saturating_sub(files.len() as u64);
        if *n == 0 {
            g.users.remove(&uid);
        }
    }
    let Some(r) = record.and_then(|id| g.records.remove(&id)) else { return };
    g.sockets = g.sockets.saturating_sub(r.holds.len());
    for id in &r.holds {
        if let Some(t) = g.targets.get_mut(id) {
            t.count -= 1;
            if t.count == 0 {
                g.targets.remove(id);
            }
        }
    }
}

/// Takes references to files that stay in their message.
pub(super) fn peek(take: impl FnOnce()) {
    let _g = gc().lock();
    take();
}

impl Gc {
    /// Who owns the queue of `s` as far as programs can reach it.
    fn owner(s: &Arc<UnixSock>) -> Arc<UnixSock> {
        let listener = s.state.lock().listener.upgrade();
        listener.unwrap_or_else(|| s.clone())
    }
    /// The sockets in flight that nobody can reach, with a reference to each.
    fn garbage(&mut self) -> Result<Vec<Arc<UnixSock>>> {
        let mut edges: Vec<(u64, u64)> = Vec::new();
        let mut work: Vec<u64> = Vec::new();
        edges.try_reserve(self.records.values().map(|r| r.holds.len()).sum())?;
        work.try_reserve(self.targets.len())?;
        for (id, t) in &mut self.targets {
            t.live = t.file.strong_count() > t.count && !has_fault(Fault::GreedyCollector);
            if t.live {
                work.push(*id);
            }
        }
        for r in self.records.values() {
            // A holder that is gone drops its messages at this moment.
            let Some(h) = r.holder.upgrade() else { continue };
            let from = Self::owner(&h).id;
            for to in &r.holds {
                if self.targets.contains_key(&from) {
                    edges.push((from, *to));
                } else if let Some(t) = self.targets.get_mut(to)
                    && !core::mem::replace(&mut t.live, true)
                {
                    work.push(*to);
                }
            }
        }
        edges.sort_unstable();
        while let Some(from) = work.pop() {
            let first = edges.partition_point(|e| e.0 < from);
            for (_, to) in edges[first..].iter().take_while(|e| e.0 == from) {
                if let Some(t) = self.targets.get_mut(to)
                    && !core::mem::replace(&mut t.live, true)
                {
                    work.push(*to);
                }
            }
        }
        let mut dead = Vec::new();
        dead.try_reserve(self.targets.len())?;
        dead.extend(self.targets.values().filter(|t| !t.live).filter_map(|t| t.sock.upgrade()));
        Ok(dead)
    }
}

/// The collector's work item.
static WORK: Once<Arc<Work>> = Once::new();

/// Makes it. ENOMEM.
pub(super) fn init() -> Result<()> {
    let w = Work::new("__unix_gc", |_| collect())?;
    WORK.call_once(|| w);
    Ok(())
}

/// Has the collector look, if there is anything to be looked at.
pub(super) fn schedule() {
    if gc().lock().targets.is_empty() {
        return;
    }
    if let Some(w) = WORK.get().filter(|_| workqueue::is_ready()) {
        workqueue::events_unbound().queue(w);
    }
}

/// Before somebody sends files. In a task, without locks.
pub(super) fn throttle(uid: u32) {
    let (many, may_wait) = {
        let g = gc().lock();
        (g.sockets > TRIGGER, g.users.get(&uid).is_some_and(|n| *n >= SANE_USER))
    };
    if many {
        schedule();
    }
    if may_wait && let Some(w) = WORK.get() {
        w.flush();
    }
}

/// Looks for garbage and throws it away.
fn collect() {
    let found = gc().lock().garbage();
    // Without memory the garbage stays until the next close.
    for s in found.iter().flatten() {
        s.purge(s.peer().as_ref());
        // Nobody can connect to it any more, nor accept.
        for i in 0.. {
            let Some(e) = s.state.lock().accept.get(i).cloned() else { break };
            e.purge(e.peer().as_ref());
        }
    }
}
