//! Containers that kernels need and `alloc` lacks. None of them locks: `&mut self` changes, `&self` reads, and the lock
//! around is the caller's.
//!
//! | type | for |
//! |---|---|
//! | [`XArray`] | sparse indices up to `u64::MAX`, with marks to search by: page cache, PIDs, descriptors |
//! | [`List`] | objects that are on lists they can be taken off in constant time: run queues, LRU |
//! | [`Typed`] | a value of a type that the owner does not know, asked for cheaply |
//! | [`HandleTable`] | small numbers for objects, never mistaken for an earlier owner of the same number |

mod handle;
mod list;
mod node;
mod typed;
mod xarray;

pub use handle::{Handle, HandleTable};
pub use list::{Link, List, ListNode};
pub use typed::Typed;
pub use xarray::{Mark, NoMemory, XArray};
