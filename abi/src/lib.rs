//! The system-call table of Linux 6.12 on x86-64: numbers and structures in, calls into the rooms below out.
//!
//! # Theory
//! A user thread's loop finds the handler of the number in `rax` in the table and hands it the registers, the arguments in `rdi`, `rsi`, `rdx`, `r10`, `r8`,
//! `r9`, the result goes back into `rax`; negative values from -4095 on are errors. Each handler decodes ([`args`]), checks what Linux
//! checks in Linux's order, since programs see which error wins, calls one room, and packs the answer. No handler keeps state of its own;
//! what a structure looks like in user memory is known here and nowhere below.
//!
//! | file | calls |
//! |---|---|
//! | [`table`] | all numbers, names and states |
//! | `files` | on descriptors |
//! | `names`, `attrs` | on paths; `stat`, modes, owners, times |
//! | `poll` | `poll`, `select`, epoll, `eventfd`, pipes |
//! | `memory` | on the address space |
//! | `time`, `sched` | clocks and timers; policies and affinity |
//! | `ids` | users, groups, process numbers, limits, usage |
//! | `signals`, `tasks` | signals; `clone`, `exec`, `wait`, futexes |
//! | `sockets` | sockets and their messages |
//! | `misc` | names of the system, log, random numbers, reboot |
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

mod adjtimex;
pub mod args;
mod attrs;
mod files;
mod ids;
mod membarrier;
mod memory;
mod misc;
mod names;
mod poll;
mod sched;
mod signals;
mod sockets;
pub mod table;
mod tasks;
mod time;

/// Gives the user loop its table. Called once, before the first user program.
pub fn init() {
    net::caller::install(&sockets::Running);
    process::user_loop::install_calls(&table::HANDLERS);
}
