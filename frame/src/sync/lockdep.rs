//! The lock checker of checked builds. In plain builds all of it is nothing.
//!
//! # What it learns
//! Locks are told apart by class, not by instance: what one inode's lock does, any inode's lock may do. Whenever a lock
//! of class B is waited for while one of class A is held, the edge A → B is recorded. An edge that closes a circle is
//! a deadlock that needs only the right timing; the acquisition that would add it panics, and shows where each edge of the
//! circle was seen first. So an order that was broken *once*, in any run, is found without the deadlock having to occur.
//!
//! # What else it reports
//! - taking a lock that this task or processor holds already;
//! - two locks of one class at once, unless the second lies at the higher address or is taken by a `…_nested` function,
//!   whose caller has an order of its own;
//! - a spin lock class that is waited for in hardware interrupts, and elsewhere taken with interrupts on: the interrupt
//!   could come in between and spin for ever. The same for softirqs;
//! - a lock still held where none may be, as on return to user mode ([`assert_none_held`]).
//!
//! # Limits
//! At most 1024 classes and 8192 edges; what is beyond is not checked, and counted ([`stats`]). A `try_lock` adds no edge, as it does not
//! wait. Edges are made only between locks taken in the same context (task, softirq, interrupt). It watches from the moment a
//! processor has a current task. Reading is treated like writing. RCU and SRCU read sections are not locks here.

use core::panic::Location;

use crate::{arch, task::Task};

mod graph;
mod held;
pub(crate) use held::Held;

/// How a lock was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    Block,
    /// It was free.
    Try,
    /// Waits, and the caller orders the locks of this class itself.
    Nested,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Spin,
    Sleep,
}

/// What locks of the same role share: their name and, in checked builds, what has been learned about their use.
/// `static C: LockClass = LockClass::new("inode");` The address is the identity.
pub struct LockClass {
    name: &'static str,
    state: graph::ClassState,
}

impl LockClass {
    pub const fn new(name: &'static str) -> Self {
        Self { name, state: graph::ClassState::new(true) }
    }
    /// For the innards of the primitives themselves.
    pub(crate) const fn unchecked(name: &'static str) -> Self {
        Self { name, state: graph::ClassState::new(false) }
    }
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// A lock is about to be waited for, or has been taken ([`How::Try`]).
#[inline(always)]
#[track_caller]
pub(crate) fn acquire(class: &'static LockClass, addr: usize, kind: Kind, how: How) {
    if cfg!(debug_assertions) {
        held::acquire(class, addr, kind, how, Location::caller());
    }
}

/// A lock is about to be released.
#[inline(always)]
pub(crate) fn release(class: &'static LockClass, addr: usize) {
    if cfg!(debug_assertions) {
        held::release(class, addr);
    }
}

/// Panics if the running task, or this processor, holds any lock. `what` says where this is.
#[track_caller]
pub fn assert_none_held(what: &str) {
    if cfg!(debug_assertions) {
        held::assert_none(what);
    }
}

/// The sleeping locks that a task holds, or waits for (the last one then), for reports: name, and where it was asked for.
/// Empty in plain builds.
pub fn held_by(task: &Task, mut f: impl FnMut(&'static str, &'static Location<'static>)) {
    task.held.each(|e| f(e.class.name, e.at));
}

/// The same for the spin locks of this processor.
pub fn held_here(mut f: impl FnMut(&'static str, &'static Location<'static>)) {
    held::of_cpu(arch::cpu_id()).each(|e| f(e.class.name, e.at));
}

/// How much it has learned, as in `/proc/lockdep_stats`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    pub classes: usize,
    pub edges: usize,
    /// Classes, edges or held locks that found no room.
    pub lost: usize,
}

pub fn stats() -> Stats {
    graph::stats()
}
