//! The slab caches as user space sees them: `/proc/slabinfo` and the `Slab` lines of `/proc/meminfo`. The caches themselves are `frame::heap`'s.

use base::{Result, tree::Out};
use frame::heap::{self, CacheStats};

/// Pages in slabs: `SUnreclaim`. No cache is registered as reclaimable.
pub fn pages() -> u64 {
    heap::stats().iter().map(|c| (c.slabs * c.pages_per_slab) as u64).sum()
}

/// Prints `/proc/slabinfo`, version 2.1.
pub(crate) fn show(out: &mut Out) -> Result<()> {
    out.push(b"slabinfo - version: 2.1\n")?;
    out.push(b"# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n")?;
    for c in heap::stats() {
        line(out, &c)?;
    }
    Ok(())
}

fn line(out: &mut Out, c: &CacheStats) -> Result<()> {
    let per_slab = c
        .total
        .checked_div(c.slabs)
        .unwrap_or((c.pages_per_slab * crate::PAGE_SIZE).checked_div(c.size).unwrap_or(0));
    Ok(writeln!(
        out,
        "{:<17} {:6} {:6} {:6} {:4} {:4} : tunables {:4} {:4} {:4} : slabdata {:6} {:6} {:6}",
        c.name, c.active, c.total, c.size, per_slab, c.pages_per_slab, 0, 0, 0, c.slabs, c.slabs, 0
    )?)
}
