//! `trace_options`: how the text looks, and what a full ring does.

use frame::atomic::{AtomicU32, Ordering};

use crate::{Errno, Result};

/// The options, with Linux's names.
pub const NAMES: [&str; 5] = ["annotate", "context-info", "overwrite", "irq-info", "markers"];
pub const ANNOTATE: usize = 0;
pub const CONTEXT_INFO: usize = 1;
pub const OVERWRITE: usize = 2;
pub const IRQ_INFO: usize = 3;
pub const MARKERS: usize = 4;

/// All are on at first, as on Linux.
static SET: AtomicU32 = AtomicU32::new((1 << NAMES.len()) - 1);

pub fn is_set(option: usize) -> bool {
    SET.load(Ordering::Relaxed) >> option & 1 != 0
}
pub fn set(option: usize, on: bool) {
    if on {
        SET.fetch_or(1 << option, Ordering::Relaxed)
    } else {
        SET.fetch_and(!(1 << option), Ordering::Relaxed)
    };
    if option == OVERWRITE {
        super::buffer::set_overwrite(on);
    }
}
/// Sets one by its name, or takes it back by its name with `no` in front. EINVAL.
pub fn set_by_name(text: &str) -> Result<()> {
    let find = |s: &str| NAMES.iter().position(|&n| n == s);
    match find(text) {
        Some(o) => set(o, true),
        None => set(text.strip_prefix("no").and_then(find).ok_or(Errno::EINVAL)?, false),
    }
    Ok(())
}
