//! The hardware, and all of the kernel's `unsafe`.
//!
//! Everything above this crate is safe Rust and compiles for two back ends, chosen by the target:
//! *x86_64* (`target_os = "none"`, the machine) and *hosted* (an ordinary process in which tasks are
//! fibers, processors are simulated, and every primitive here is a seeded preemption point).
//!
//! # Rules of the interface
//! - Safe and hard to misuse: no function here may cause undefined behaviour whatever the caller does.
//!   What would be dangerous is checked, and a broken rule panics with both sides named.
//! - The two back ends export the same functions, listed in `arch`; everything else is portable.
//! - Upper crates use [`atomic`], never `core::sync::atomic`: hosted, each access is a preemption point.
//!
//! | module | gives |
//! |---|---|
//! | [`context`] | the word that says what may happen now; guards against preemption, softirqs, interrupts |
//! | [`task`] | execution contexts, sleeping and waking, the [`task::Scheduler`] trait |
//! | [`cpu`] | processors, masks, per-processor cells, inter-processor calls |
//! | [`sync`] | locks with classes, wait queues, completions, RCU, SRCU, sequence locks |
//! | [`containers`] | `XArray` with marks, intrusive lists, type-stable tables |
//! | [`page`] | page frames, their metadata and contents |
//! | [`paging`] | page tables, cursors, batched shoot-down |
//! | [`user`] | user-memory access that fails cleanly, entering user mode |
//! | [`heap`] | the global allocator, raw slabs, fallible `try_box`, `try_arc` |
//! | [`time`] | clock and one-shot timer |
//! | [`vdso`] | the clock's code for user mode |
//! | [`irq`] | interrupt lines and messages, softirq pending bits |
//! | [`dma`] | memory that devices read and write |
//! | [`entropy`] | random words from the processor |
//! | [`io`] | port and memory-mapped I/O |
//! | [`boot`] | what the firmware handed over |
//! | [`report`] | backtraces, names of code addresses, what runs after a panic's report |
//! | [`console`] | the first and last resort for output |
#![cfg_attr(target_os = "none", no_std)]
extern crate alloc;

// Upper crates must not reach past the safe interface; the hosted back end's own tests may.
#[cfg(target_os = "none")]
#[expect(
    unreachable_pub,
    reason = "the two back ends declare the same items, and the other is public to tests"
)]
pub(crate) mod arch;
#[cfg(not(target_os = "none"))]
#[doc(hidden)]
pub mod arch;
pub mod atomic;
pub mod boot;
pub mod console;
pub mod containers;
pub mod context;
pub mod cpu;
pub mod dma;
pub mod entropy;
pub mod heap;
pub mod io;
pub mod irq;
pub mod macros;
pub mod page;
pub mod paging;
pub mod report;
#[cfg(not(target_os = "none"))]
pub mod sim;
pub mod sync;
pub mod task;
pub mod time;
pub mod user;
pub mod vdso;
