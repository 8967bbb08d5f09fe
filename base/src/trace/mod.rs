//! Static trace points, and the rings that they record into; tracefs (`fs`) shows them.
//!
//! # Theory
//! ```text
//!   trace!(sched_wakeup { … })          the event is off: one load, one branch not taken
//!        │ on
//!        ▼
//!   Record (on the stack)               fields laid out as in C; the values are computed here
//!        │ commit: interrupts off       common fields, PID set, filter
//!        ▼
//!   this processor's Ring               pages of records, the newest kept, losses counted
//!        │                    │
//!        ▼ Looker             ▼ Consumer
//!   `trace`                `trace_pipe`          merged by time, printed by the event's own function
//! ```
//! A trace point may be hit in any context: in an interrupt, inside the scheduler with run queues locked. So the way from it
//! into the ring allocates nothing, wakes nobody, takes one leaf lock for the copy, and hits no other trace point. (In an NMI
//! even that is too much: the record is counted as lost.)
//!
//! Each record carries the name of the task that was running, so it is right however long ago that was; Linux remembers the
//! last names of recent tasks instead.
//!
//! | to read about | see |
//! |---|---|
//! | declaring, hitting, registering an event | [`trace_event!`](crate::trace_event), [`trace!`](crate::trace!), [`register`] |
//! | the types of fields, and how they lie | [`Field`] |
//! | pages, losses, readers | [`ring`] |
//! | locks, waking, merging | [`buffer`] |
//! | filters | [`filter`] |
//! | the text | [`text`] |
//! | what was wrong | [`errors`] |
//!
//! Documented: Linux `Documentation/trace/{events,ftrace,ring-buffer-design}.rst`.

pub mod buffer;
pub mod clock;
mod emit;
pub mod errors;
mod event;
mod field;
pub mod filter;
mod hash;
pub mod options;
pub mod page;
pub mod pids;
mod record;
pub mod ring;
pub mod text;

pub use emit::{MARK_ID, MAX_MARK, Who, flag, install_who, mark};
pub use event::{Event, FIRST_ID, Print, by_id, events, register};
pub use field::{COMM_LEN, Comm, Field, FieldDef, Hashed, Kind, Ptr, Str, Text, offset as field_offset};
pub use record::{COMMON, Record};
