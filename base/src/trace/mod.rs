//! Static trace points and the rings that they record into; tracefs (`fs`) shows them.
//!
//! Documented: Linux `Documentation/trace/{events,ftrace,ring-buffer-design}.rst`.

mod emit;
mod event;
mod field;
mod filter;
mod hash;
mod record;

pub use event::{Event, FIRST_ID, Print, by_id, events, register};
pub use field::{COMM_LEN, Comm, Field, FieldDef, Hashed, Kind, Ptr, Str, Text, offset as field_offset};
pub use filter::Filter;
pub use record::{COMMON, Record};
