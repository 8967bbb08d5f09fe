//! Processes: how programs start, multiply, talk by signals, wait and end.
//!
//! # Theory
//! A user task is a [`sched`] thread with a [`ThreadData`](process::ThreadData) as its payload; the threads of one program share a
//! [`Process`](process::Process). All processes hang in one [`tree`]. A user thread spends its life in [`user_loop`]: out to user
//! mode, back with a system call, a fault or an interrupt, and before it goes out again it looks at its signals.
//!
//! ```text
//!   clone ──▶ a task that starts in user_loop with its maker's registers
//!   exec  ──▶ elf / script ──▶ load (a fresh address space) ──▶ stack ──▶ registers of the new program
//!   exit  ──▶ zombie ──▶ wait: the parent collects
//! ```
//!
//! | module | |
//! |---|---|
//! | [`process`] | the structures, their locks and who the running thread is |
//! | [`tree`] | parents, children, groups, sessions |
//! | [`clone`], [`exec`], [`exit`], [`wait`] | birth, change, end |
//! | [`elf`], [`script`], [`stack`] | what a program file says; the first stack. Plain parsers and builders |
//! | [`signal`] | signals |
//! | [`vdso`] | the clock without a system call |
//! | [`futex`] | sleeping on a word of user memory |
//! | [`itimer`], [`posix_timer`] | timers that send signals |
//! | [`rlimit`], [`usage`], [`ids`], [`pgrp`], [`prctl`] | the smaller calls |
//! | [`procfs`] | the content of `/proc/PID` |
//! | [`init`] | PID 1 |
//!
//! Not here: core dumps (no wait status claims one), `ptrace`, name spaces, PID descriptors, futexes with priority
//! inheritance.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod clone;
pub mod elf;
pub mod exec;
pub mod exit;
mod fault;
pub mod futex;
pub mod ids;
pub mod init;
pub mod itimer;
mod load;
mod oom;
pub mod pgrp;
pub mod posix_timer;
pub mod prctl;
pub mod process;
pub mod procfs;
pub mod random;
pub mod rlimit;
pub mod script;
pub mod signal;
pub mod stack;
mod sysrq;
pub mod terminal;
mod trace;
pub mod tree;
pub mod usage;
pub mod user_loop;
mod users;
mod vdso;
pub mod wait;

pub use init::start_init;
pub use process::{Process, ThreadData, current, data, process, try_current};

/// Connects page faults with the running process, the OOM killer with the list of processes, terminals with sessions, and
/// declares the content of `/proc/PID`. Called once, before the first user program.
pub fn init() -> base::Result<()> {
    trace::init();
    fault::install();
    oom::install();
    random::install(drivers::random::fill);
    sysrq::init();
    terminal::init();
    vdso::init()?;
    users::declare()?;
    procfs::register()
}
