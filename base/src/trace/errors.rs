//! `error_log`: the last commands to the tracing files that were wrong, and where.
//!
//! ```text
//!   [    5.348887] event filter parse error: error: Field not found
//!     Command: nuber == 1
//!                    ^
//! ```
//! Documented: Linux `Documentation/trace/ftrace.rst`, error_log.

use alloc::{collections::VecDeque, vec::Vec};

use frame::sync::{LockClass, Mutex};

use crate::{Result, tree::Out};

/// How many are kept, as on Linux (`TRACING_LOG_ERRS_MAX`).
const KEPT: usize = 8;

#[derive(Clone)]
struct Entry {
    ns: u64,
    place: &'static str,
    what: &'static str,
    command: Vec<u8>,
    at: usize,
}

static CLASS: LockClass = LockClass::new("tracing_err_log");
static LOG: Mutex<VecDeque<Entry>> = Mutex::new(&CLASS, VecDeque::new());

/// Keeps an error: where such commands are read, what is wrong with this one, and at which byte. ENOMEM.
pub(super) fn log(place: &'static str, what: &'static str, command: &[u8], at: usize) -> Result<()> {
    let mut own = Vec::new();
    own.try_reserve_exact(command.len())?;
    own.extend_from_slice(command);
    let mut l = LOG.lock();
    if l.len() == KEPT {
        l.pop_front();
    }
    l.try_reserve(1)?;
    l.push_back(Entry { ns: frame::time::now_ns(), place, what, command: own, at });
    Ok(())
}

/// Forgets all.
pub fn clear() {
    LOG.lock().clear();
}

/// The text of the file.
pub fn show(out: &mut Out) -> Result<()> {
    LOG.lock().iter().try_for_each(|e| {
        let (s, us) = (e.ns / 1_000_000_000, e.ns / 1000 % 1_000_000);
        writeln!(out, "[{s:5}.{us:06}] {}: error: {}", e.place, e.what)?;
        out.push(b"  Command: ")?;
        out.push(&e.command)?;
        Ok(writeln!(out, "\n           {:1$}^", "", e.at)?)
    })
}
