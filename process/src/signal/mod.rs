//! Signals: who may send them, where they wait, what they do.
//!
//! ```text
//!   send ──▶ prepare: stop and continue cancel each other; ignored ones vanish here
//!        ──▶ queue: the thread's, or the process's shared one
//!        ──▶ choose a thread that has it unblocked; a fatal one begins the end of the whole process at once
//!        ──▶ Work::SIGNAL (and KILL) set, the thread woken
//!   deliver, on the way back to user mode: take, then ignore / stop / end / build a frame for the handler
//! ```
//! | module | |
//! |---|---|
//! | [`set`] | numbers, sets, default actions |
//! | [`info`] | `siginfo_t` |
//! | [`pending`] | what waits |
//! | [`action`] | `sigaction`, and what `exec` leaves of it |
//! | [`altstack`] | `sigaltstack` |
//! | [`send`] | sending, permission |
//! | [`stop`] | group stops and continues, and telling the parent |
//! | [`deliver`] | what happens before return to user mode |
//! | [`context`] | the frame a handler runs on, byte for byte Linux's |
//! | [`calls`] | the system calls |
//! | [`signalfd`] | a file from which blocked signals are read |

pub mod action;
pub mod altstack;
pub mod calls;
pub mod context;
pub mod deliver;
pub mod info;
pub mod pending;
pub mod send;
pub mod set;
pub mod signalfd;
pub mod stop;

pub use info::SigInfo;
pub use send::{force, send_group, send_process, send_thread};
pub use set::{SigSet, Signo};
