//! The files that tell about memory: `/proc/meminfo`, `vmstat`, `zoneinfo`, `buddyinfo`, `slabinfo`, and the knobs of `/proc/sys/vm`.
//!
//! Only lines whose figures come from counters that code moves: there is no `Active`, `Dirty` or `Swap…` line here before there are LRU lists,
//! write-back and swap.

use base::{
    Errno, Result,
    stat::list_in_vmstat,
    tree::{self, Out, parse_int},
};
use frame::{
    atomic::{AtomicU64, Ordering},
    paging,
};

use crate::{PAGE_SHIFT, buddy, layout, overcommit, slab, stat};

const fn kb(pages: u64) -> u64 {
    pages << (PAGE_SHIFT - 10)
}

fn meminfo(out: &mut Out) -> Result<()> {
    let get = |i| stat::get(i);
    let cached = get(stat::Item::FilePages);
    let shmem = get(stat::Item::Shmem);
    let slab = slab::pages();
    let lines = [
        ("MemTotal", buddy::managed_pages()),
        ("MemFree", buddy::free_pages()),
        ("MemAvailable", buddy::available_pages(cached.saturating_sub(shmem), 0)),
        ("Cached", cached),
        ("AnonPages", get(stat::Item::AnonMapped)),
        ("Mapped", get(stat::Item::FileMapped)),
        ("Shmem", shmem),
        ("Slab", slab),
        ("SUnreclaim", slab),
        ("PageTables", paging::table_pages()),
        ("CommitLimit", overcommit::limit()),
        ("Committed_AS", overcommit::committed()),
    ];
    for (name, pages) in lines {
        // The colon belongs to the name, the figure ends in column 24.
        let pad = 23usize.saturating_sub(name.len());
        writeln!(out, "{name}:{:>pad$} kB", kb(pages))?;
    }
    Ok(())
}

fn buddyinfo(out: &mut Out) -> Result<()> {
    for z in buddy::zone_stats() {
        write!(out, "Node 0, zone {:>8} ", z.name)?;
        for n in z.blocks {
            write!(out, "{n:6} ")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn zoneinfo(out: &mut Out) -> Result<()> {
    for z in buddy::zone_stats() {
        writeln!(out, "Node 0, zone {:>8}", z.name)?;
        writeln!(out, "  pages free     {}", z.free)?;
        writeln!(out, "        min      {}\n        low      {}\n        high     {}", z.min, z.low, z.high)?;
        writeln!(
            out,
            "        spanned  {}\n        present  {}\n        managed  {}",
            z.spanned, z.present, z.managed
        )?;
        writeln!(out, "        protection: ({}, {}, {})", z.protection[0], z.protection[1], z.protection[2])?;
        writeln!(out, "      nr_free_pages {}", z.free)?;
        writeln!(out, "  start_pfn:           {}", z.start_pfn)?;
    }
    Ok(())
}

fn number(bytes: &[u8], most: u64) -> Result<u64> {
    let n = u64::try_from(parse_int(bytes)?).map_err(|_| Errno::EINVAL)?;
    if n > most { Err(Errno::EINVAL) } else { Ok(n) }
}

fn knob(path: &str, cell: &'static AtomicU64, most: u64, changed: fn(u64)) -> Result<()> {
    tree::proc().knob(
        path,
        0o644,
        move |out| Ok(writeln!(out, "{}", cell.load(Ordering::Relaxed))?),
        move |b| {
            let n = number(b, most)?;
            cell.store(n, Ordering::Relaxed);
            changed(n);
            Ok(())
        },
    )
}

/// Declares everything. Names that exist already are a mistake at build time, found by the first boot.
pub(crate) fn register() {
    let r = (|| -> Result<()> {
        let p = tree::proc();
        p.file("meminfo", 0o444, meminfo)?;
        p.file("buddyinfo", 0o444, buddyinfo)?;
        p.file("zoneinfo", 0o444, zoneinfo)?;
        p.file("slabinfo", 0o400, slab::show)?;
        p.file("vmstat", 0o444, |out| Ok(base::stat::vmstat(out)?))?;
        for (name, cell, most) in &overcommit::KNOBS {
            let path = alloc::format!("sys/vm/{name}");
            knob(&path, cell, *most, |_| {})?;
        }
        knob("sys/vm/max_map_count", &crate::mm::MAX_MAP_COUNT, i32::MAX as u64, |_| {})?;
        knob("sys/vm/mmap_min_addr", &layout::MMAP_MIN_ADDR, 1 << 30, |_| {})?;
        knob("sys/vm/min_free_kbytes", &buddy::MIN_FREE_KBYTES, 1 << 40, |n| buddy::set_watermarks(Some(n)))?;
        knob("sys/vm/watermark_scale_factor", &buddy::SCALE_FACTOR, 3000, |_| {
            buddy::set_watermarks(Some(buddy::MIN_FREE_KBYTES.load(Ordering::Relaxed)));
        })?;
        knob("sys/kernel/randomize_va_space", &layout::RANDOMIZE, 2, |_| {})
    })();
    if let Err(e) = r {
        base::pr_err!("mm: cannot declare a file of /proc: {}", e.name());
    }
    list_in_vmstat("nr_free_pages", buddy::free_pages);
    for &(item, name) in stat::ALL {
        list_in_vmstat(name, move || stat::get(item));
    }
    list_in_vmstat("nr_page_table_pages", paging::table_pages);
    list_in_vmstat("nr_tlb_remote_flush", || paging::tlb_stats().remote);
}
