//! Locks, waiting, and RCU.
//!
//! | want | take |
//! |---|---|
//! | a few loads and stores together | [`SpinLock`], [`SpinLockBh`], [`SpinLockIrq`]: the type says who else may come |
//! | many readers of something short | [`RwSpinLock`]; of a small `Copy` value [`SeqLock`]; of a pointer [`rcu`] |
//! | to sleep while holding it | [`Mutex`], [`RwSemaphore`], [`Semaphore`] |
//! | to wait until something is so | [`WaitQueue`]; until it has happened [`Completion`] |
//! | readers that sleep | [`Srcu`] |
//! | a value made once | [`once::Once`], [`Lazy`] |
//!
//! Each lock is made with a [`LockClass`]; checked builds learn from it the order in which classes are taken and panic at
//! the first acquisition that could ever deadlock with another one seen before ([`lockdep`]).
//!
//! Before there is a scheduler everything here works as long as nothing has to be waited for; an operation that would
//! really have to sleep then panics and says so.

pub mod lockdep;
mod mutex;
pub mod once;
mod queue;
pub mod rcu;
mod rwsem;
mod rwspin;
mod semaphore;
mod seqlock;
pub mod spin;
mod srcu;
mod wait;

pub use lockdep::LockClass;
pub use mutex::{Mutex, MutexGuard};
pub use once::{Lazy, Once};
pub use rwsem::{RwSemReadGuard, RwSemWriteGuard, RwSemaphore};
pub use rwspin::{RwSpinLock, RwSpinLockIrq, RwSpinReadGuard, RwSpinWriteGuard};
pub use semaphore::{Completion, Semaphore};
pub use seqlock::{SeqLock, SeqWriteGuard};
pub use spin::{SpinLock, SpinLockBh, SpinLockBhGuard, SpinLockGuard, SpinLockIrq, SpinLockIrqGuard};
pub use srcu::{Srcu, SrcuGuard};
pub use wait::{Interrupted, WaitEntry, WaitQueue, sleep_until};
