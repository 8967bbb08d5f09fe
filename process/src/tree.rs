//! The process tree: who is whose child, which process groups and sessions there are.
//!
//! A plain structure without locks, so that its rules can be tested by themselves; [`TREE`] is the one that is used, under one
//! spin lock (Linux's `tasklist_lock`). It is the outermost lock of this crate: a process's signal lock is taken inside it.
//!
//! ```text
//!   session 1 ─┬─ group 1:   1 init ── 40 sh
//!              └─ group 41:  41 cat ── …           a group lives as long as it has members, zombies included;
//!   session 50 ── group 50: 50 getty                its number is not given to a new process before
//! ```
//!
//! Processes are known by number (the thread group's). A child also remembers which *thread* made it: `__WNOTHREAD` asks.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

use base::{Errno, Result};
use frame::sync::{LockClass, SpinLock};

use crate::{process::Process, signal::set::CHLD, usage::Usage};

/// Init's number; orphans go to it.
pub const INIT: u32 = 1;

/// One process in the tree.
#[derive(Debug)]
pub struct Node<P> {
    pub what: P,
    /// 0: none.
    pub parent: u32,
    /// The thread of the parent that made it.
    pub parent_tid: u32,
    pub children: BTreeSet<u32>,
    pub pgid: u32,
    pub sid: u32,
    /// What the parent gets when it ends; 0: nothing.
    pub exit_signal: u32,
    /// Its wait status, once it has ended and waits to be collected.
    pub zombie: Option<u32>,
    /// It adopts orphans among its descendants (`PR_SET_CHILD_SUBREAPER`).
    pub subreaper: bool,
    /// It has called `execve` since its birth: its parent can no longer move it to another group.
    pub did_exec: bool,
    /// What the children used that were waited for.
    pub waited: Usage,
}

/// The tree.
#[derive(Debug)]
pub struct Tree<P> {
    nodes: BTreeMap<u32, Node<P>>,
    groups: BTreeMap<u32, BTreeSet<u32>>,
    sessions: BTreeMap<u32, usize>,
}

static CLASS: LockClass = LockClass::new("process_tree");
/// The tree of all processes.
pub static TREE: SpinLock<Tree<Arc<Process>>> = SpinLock::new(&CLASS, Tree::new());

impl<P> Default for Tree<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> Tree<P> {
    pub const fn new() -> Self {
        Tree { nodes: BTreeMap::new(), groups: BTreeMap::new(), sessions: BTreeMap::new() }
    }
    #[inline]
    pub fn get(&self, pid: u32) -> Option<&Node<P>> {
        self.nodes.get(&pid)
    }
    #[inline]
    pub fn get_mut(&mut self, pid: u32) -> Option<&mut Node<P>> {
        self.nodes.get_mut(&pid)
    }
    /// All processes, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Node<P>)> {
        self.nodes.iter().map(|(&n, p)| (n, p))
    }
    /// The process with the least number that is at least `from`.
    pub fn next(&self, from: u32) -> Option<(u32, &Node<P>)> {
        self.nodes.range(from..).next().map(|(&n, p)| (n, p))
    }
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a process as a child of `parent`, in its group and session. Without a parent (init) it starts its own.
    pub fn insert(&mut self, pid: u32, parent: u32, parent_tid: u32, exit_signal: u32, what: P) {
        let (mut pgid, mut sid) = (0, 0);
        if let Some(p) = self.nodes.get_mut(&parent) {
            p.children.insert(pid);
            (pgid, sid) = (p.pgid, p.sid);
        }
        self.nodes.insert(
            pid,
            Node {
                what,
                parent,
                parent_tid,
                children: BTreeSet::new(),
                pgid,
                sid,
                exit_signal,
                zombie: None,
                subreaper: false,
                did_exec: false,
                waited: Usage::default(),
            },
        );
        self.enter(pid, pgid, sid);
    }

    /// Takes a process out. Its children must have been given away.
    pub fn remove(&mut self, pid: u32) -> Option<Node<P>> {
        let n = self.nodes.remove(&pid)?;
        debug_assert!(n.children.is_empty());
        if let Some(p) = self.nodes.get_mut(&n.parent) {
            p.children.remove(&pid);
        }
        self.leave(pid, n.pgid, n.sid);
        Some(n)
    }

    fn enter(&mut self, pid: u32, pgid: u32, sid: u32) {
        self.groups.entry(pgid).or_default().insert(pid);
        *self.sessions.entry(sid).or_default() += 1;
    }
    fn leave(&mut self, pid: u32, pgid: u32, sid: u32) {
        if let Some(g) = self.groups.get_mut(&pgid) {
            g.remove(&pid);
            if g.is_empty() {
                self.groups.remove(&pgid);
            }
        }
        if let Some(n) = self.sessions.get_mut(&sid) {
            *n -= 1;
            if *n == 0 {
                self.sessions.remove(&sid);
            }
        }
    }

    /// True while a process, group or session has this number, so that no other may get it.
    pub fn in_use(&self, n: u32) -> bool {
        self.nodes.contains_key(&n) || self.groups.contains_key(&n) || self.sessions.contains_key(&n)
    }
    /// Members of a process group.
    pub fn group(&self, pgid: u32) -> impl Iterator<Item = (u32, &Node<P>)> {
        self.groups.get(&pgid).into_iter().flatten().filter_map(|n| self.nodes.get(n).map(|p| (*n, p)))
    }
    /// True if the group has members.
    pub fn group_exists(&self, pgid: u32) -> bool {
        self.groups.contains_key(&pgid)
    }

    /// Who adopts the children of `pid`: its nearest ancestor that asked to, else init.
    pub fn reaper_for(&self, pid: u32) -> u32 {
        let mut at = self.get(pid).map_or(0, |n| n.parent);
        while let Some(n) = self.get(at) {
            if n.subreaper && n.zombie.is_none() {
                return at;
            }
            at = n.parent;
        }
        INIT
    }

    /// Gives the children of `pid` to `reaper`; which ones they were. They will tell it of their end with `SIGCHLD`.
    pub fn reparent(&mut self, pid: u32, reaper: u32) -> Vec<u32> {
        let Some(n) = self.nodes.get_mut(&pid) else { return Vec::new() };
        let children = core::mem::take(&mut n.children);
        for c in &children {
            if let Some(c) = self.nodes.get_mut(c) {
                c.parent = reaper;
                c.parent_tid = reaper;
                c.exit_signal = CHLD;
            }
        }
        let list = children.iter().copied().collect();
        if let Some(r) = self.nodes.get_mut(&reaper) {
            r.children.extend(children);
        }
        list
    }

    /// A thread of `pid` ends while others go on: its children are now `heir`'s.
    pub fn thread_gone(&mut self, pid: u32, tid: u32, heir: u32) {
        let Some(n) = self.nodes.get(&pid) else { return };
        for c in n.children.clone() {
            if let Some(c) = self.nodes.get_mut(&c)
                && c.parent_tid == tid
            {
                c.parent_tid = heir;
            }
        }
    }

    /// True if nobody is there who could continue the group's stopped jobs: no member (but `ignored`, and zombies) has a parent
    /// in another group of the same session (POSIX, "orphaned process group").
    pub fn is_orphaned(&self, pgid: u32, ignored: Option<u32>) -> bool {
        !self.group(pgid).any(|(pid, n)| {
            Some(pid) != ignored
                && n.zombie.is_none()
                && n.parent != INIT
                && self.get(n.parent).is_some_and(|p| p.pgid != pgid && p.sid == n.sid)
        })
    }

    /// `setpgid(2)`: moves `pid` (0: the caller) into group `pgid` (0: its own).
    pub fn set_group(&mut self, caller: u32, pid: u32, pgid: u32) -> Result<()> {
        let pid = if pid == 0 { caller } else { pid };
        let pgid = if pgid == 0 { pid } else { pgid };
        if pgid > i32::MAX as u32 {
            return Err(Errno::EINVAL);
        }
        let n = self.get(pid).ok_or(Errno::ESRCH)?;
        let sid = self.get(caller).ok_or(Errno::ESRCH)?.sid;
        if n.parent == caller {
            if n.sid != sid {
                return Err(Errno::EPERM);
            }
            if n.did_exec {
                return Err(Errno::EACCES);
            }
        } else if pid != caller {
            return Err(Errno::ESRCH);
        }
        if n.sid == pid {
            return Err(Errno::EPERM);
        }
        if pgid != pid && !self.group(pgid).any(|(_, m)| m.sid == sid) {
            return Err(Errno::EPERM);
        }
        let old = n.pgid;
        if old != pgid {
            let s = n.sid;
            self.leave(pid, old, s);
            self.enter(pid, pgid, s);
            if let Some(n) = self.get_mut(pid) {
                n.pgid = pgid;
            }
        }
        Ok(())
    }

    /// `setsid(2)`: `pid` starts a session and a group of its own.
    pub fn set_session(&mut self, pid: u32) -> Result<u32> {
        let n = self.get(pid).ok_or(Errno::ESRCH)?;
        if n.sid == pid || self.group_exists(pid) {
            return Err(Errno::EPERM);
        }
        let (g, s) = (n.pgid, n.sid);
        self.leave(pid, g, s);
        self.enter(pid, pid, pid);
        if let Some(n) = self.get_mut(pid) {
            (n.pgid, n.sid) = (pid, pid);
        }
        Ok(pid)
    }

    /// Moves a new process into the group and session of another (`CLONE_PARENT`: those of its maker, not of its parent).
    pub fn join(&mut self, pid: u32, of: u32) {
        let (Some(n), Some(o)) = (self.get(pid), self.get(of)) else { return };
        let (old, new) = ((n.pgid, n.sid), (o.pgid, o.sid));
        self.leave(pid, old.0, old.1);
        self.enter(pid, new.0, new.1);
        if let Some(n) = self.get_mut(pid) {
            (n.pgid, n.sid) = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn family(pairs: &[(u32, u32)]) -> Tree<()> {
        let mut t = Tree::new();
        t.insert(1, 0, 0, 0, ());
        for &(pid, parent) in pairs {
            t.insert(pid, parent, parent, CHLD, ());
        }
        t
    }

    #[test]
    fn orphans_go_to_the_nearest_subreaper_or_init() {
        let mut t = family(&[(2, 1), (3, 2), (4, 3), (5, 4)]);
        assert_eq!(t.reaper_for(4), 1);
        t.get_mut(2).unwrap().subreaper = true;
        assert_eq!(t.reaper_for(4), 2);
        assert_eq!(t.reparent(4, 2), [5]);
        assert_eq!((t.get(5).unwrap().parent, t.get(5).unwrap().exit_signal), (2, CHLD));
        assert!(t.get(2).unwrap().children.contains(&5));
    }

    #[test]
    fn group_rules_are_those_of_posix() {
        let mut t = family(&[(10, 1), (11, 10), (12, 11)]);
        t.set_session(10).unwrap();
        assert_eq!(t.set_session(10), Err(Errno::EPERM));
        assert_eq!(t.set_group(10, 11, 0), Err(Errno::EPERM), "a child of another session");
        let mut t = family(&[]);
        t.insert(10, 1, 1, CHLD, ());
        t.set_session(10).unwrap();
        t.insert(11, 10, 10, CHLD, ());
        t.insert(12, 11, 11, CHLD, ());
        assert_eq!(t.set_group(10, 12, 0), Err(Errno::ESRCH), "a grandchild");
        assert_eq!(t.set_group(10, 10, 0), Err(Errno::EPERM), "a session leader");
        assert_eq!(t.set_group(10, 11, 77), Err(Errno::EPERM), "no such group");
        t.set_group(10, 11, 11).unwrap();
        assert!(!t.is_orphaned(11, None));
        assert!(t.is_orphaned(11, Some(11)));
        assert!(!t.is_orphaned(10, None), "12 has a parent in group 11");
        assert!(t.is_orphaned(10, Some(12)), "the parent of its leader is in another session");
        t.get_mut(11).unwrap().did_exec = true;
        assert_eq!(t.set_group(10, 11, 10), Err(Errno::EACCES));
        assert_eq!(t.set_group(11, 0, 10), Ok(()));
        assert!(!t.group_exists(11));
    }

    proptest! {
        /// Whatever is born, dies or moves: links agree both ways, and numbers in use are exactly those that occur.
        #[test]
        fn links_and_groups_stay_consistent(ops in prop::collection::vec((0u8..4, 0usize..64, 0usize..64), 0..200)) {
            let mut t = family(&[]);
            let mut next = 2;
            for (op, a, b) in ops {
                let pids: Vec<u32> = t.iter().map(|(n, _)| n).collect();
                let (a, b) = (pids[a % pids.len()], pids[b % pids.len()]);
                match op {
                    0 => { t.insert(next, a, a, CHLD, ()); next += 1; }
                    1 if a != 1 => { let r = t.reaper_for(a); t.reparent(a, r); t.remove(a); }
                    2 => { let _ = t.set_group(a, 0, b); }
                    _ => { let _ = t.set_session(a); }
                }
                for (pid, n) in t.iter() {
                    prop_assert!(pid == 1 || t.get(n.parent).unwrap().children.contains(&pid));
                    prop_assert!(n.children.iter().all(|c| t.get(*c).unwrap().parent == pid));
                    prop_assert!(t.group(n.pgid).any(|(m, _)| m == pid));
                    prop_assert!(t.in_use(n.pgid) && t.in_use(n.sid));
                }
                for n in 2..next {
                    let used = t.iter().any(|(p, x)| p == n || x.pgid == n || x.sid == n);
                    prop_assert_eq!(t.in_use(n), used);
                }
            }
        }
    }
}
