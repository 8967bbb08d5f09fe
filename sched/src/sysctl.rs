//! Numbers under `/proc/sys/kernel`: read as they are, taken within a range.

use core::ops::RangeInclusive;

use base::{Errno, Result, tree};
use frame::atomic::{AtomicI32, Ordering::Relaxed};

/// The number that is written, if it lies in the range. EINVAL.
pub(crate) fn parse(b: &[u8], range: &RangeInclusive<i64>) -> Result<i64> {
    tree::parse_int(b).and_then(|n| if range.contains(&n) { Ok(n) } else { Err(Errno::EINVAL) })
}

/// Declares `kernel.NAME`. `changed` is called after it has got another value.
pub(crate) fn int(
    name: &str,
    cell: &'static AtomicI32,
    range: RangeInclusive<i64>,
    changed: fn(),
) -> Result<()> {
    tree::proc().knob(
        &alloc::format!("sys/kernel/{name}"),
        0o644,
        move |o| Ok(writeln!(o, "{}", cell.load(Relaxed))?),
        move |b| {
            let n = parse(b, &range)? as i32;
            if cell.swap(n, Relaxed) != n {
                changed();
            }
            Ok(())
        },
    )
}

/// The number that the boot command line gives a name, if it lies in the range.
pub(crate) fn boot(name: &str, range: &RangeInclusive<i64>) -> Option<i32> {
    parse(base::params::get(name)?.as_bytes(), range).ok().map(|n| n as i32)
}
