//! Files of `/proc/PID` about memory. A kernel thread, or a process that has ended, has none: empty.

use alloc::sync::Arc;

use base::{Result, tree::Out};
use mm::{Mm, VmFlags, VmaInfo, VmaName};
use sched::TaskRef;

use super::{check, user};
use crate::elf::zeroed;

pub(super) fn mm_of(t: &TaskRef) -> Option<Arc<Mm>> {
    user(t)?.process.mm()
}

/// Pages: size, resident, shared, text, 0, data and stack, 0.
pub(super) fn statm(t: &TaskRef, out: &mut Out) -> Result<()> {
    let Some(m) = mm_of(t) else { return out.push(b"0 0 0 0 0 0 0\n") };
    let (c, e) = (m.counters(), m.exec_info());
    let text = (mm::page_align(e.end_code) - mm::page_floor(e.start_code)) / mm::PAGE_SIZE;
    Ok(writeln!(
        out,
        "{} {} {} {} 0 {} 0",
        c.total_vm,
        c.resident(),
        c.file + c.shmem,
        text,
        c.data_vm + c.stack_vm
    )?)
}

/// More than this of another's memory is not printed at once.
const MAX_TEXT: usize = 4 << 20;

fn range(m: &Mm, from: usize, to: usize, out: &mut Out) -> Result<()> {
    let mut buf = zeroed(to.saturating_sub(from).min(MAX_TEXT))?;
    let n = m.read_remote(from, &mut buf);
    out.push(&buf[..n])
}

/// The arguments, each with its NUL. A program may have written over them (`setproctitle`): if the last NUL is gone, the text goes
/// on into the environment up to the first NUL.
pub(super) fn cmdline(t: &TaskRef, out: &mut Out) -> Result<()> {
    let Some(m) = mm_of(t) else { return Ok(()) };
    let e = m.exec_info();
    let mut last = [0];
    let ends = e.arg_end > e.arg_start && m.read_remote(e.arg_end - 1, &mut last) == 1;
    if !ends {
        return Ok(());
    }
    if last[0] == 0 {
        return range(&m, e.arg_start, e.arg_end, out);
    }
    let end = if e.env_start == e.arg_end { e.env_end } else { e.arg_end };
    let mut buf = zeroed((end - e.arg_start).min(MAX_TEXT))?;
    let n = m.read_remote(e.arg_start, &mut buf);
    let stop = buf[..n].iter().position(|&b| b == 0).unwrap_or(n);
    out.push(&buf[..stop])
}

pub(super) fn environ(t: &TaskRef, out: &mut Out) -> Result<()> {
    check(t)?;
    let Some(m) = mm_of(t) else { return Ok(()) };
    let e = m.exec_info();
    range(&m, e.env_start, e.env_end, out)
}

pub(super) fn auxv(t: &TaskRef, out: &mut Out) -> Result<()> {
    check(t)?;
    match user(t) {
        Some(d) if d.process.mm().is_some() => out.push(&d.process.auxv.lock()),
        _ => Ok(()),
    }
}

/// Column at which names begin, as on Linux (`25 + sizeof(void *) * 6 - 1`).
const NAME_COLUMN: usize = 73;

fn line(v: &VmaInfo<'_>, out: &mut Out) -> Result<()> {
    let start = out.len();
    let f = |b: VmFlags, c: char| if v.flags.contains(b) { c } else { '-' };
    let share =
        if v.flags.contains(VmFlags::MAYSHARE) || v.flags.contains(VmFlags::SHARED) { 's' } else { 'p' };
    let (dev, ino, off) = match v.object {
        Some(o) => {
            let i = o.ident();
            (i.dev, i.ino, v.pgoff * mm::PAGE_SIZE as u64)
        }
        None => ((0, 0), 0, 0),
    };
    let (r, w, x) = (f(VmFlags::READ, 'r'), f(VmFlags::WRITE, 'w'), f(VmFlags::EXEC, 'x'));
    write!(
        out,
        "{:08x}-{:08x} {r}{w}{x}{share} {off:08x} {:02x}:{:02x} {ino} ",
        v.start, v.end, dev.0, dev.1
    )?;
    if v.name != VmaName::None {
        while out.len() - start < NAME_COLUMN {
            out.push(b" ")?;
        }
        match v.name {
            VmaName::Heap => out.push(b"[heap]")?,
            VmaName::Stack => out.push(b"[stack]")?,
            VmaName::Object => {
                if let Some(o) = v.object {
                    o.path(out)?;
                }
            }
            VmaName::None => {}
        }
    }
    out.push(b"\n")
}

pub(super) fn maps(t: &TaskRef, out: &mut Out) -> Result<()> {
    check(t)?;
    match mm_of(t) {
        Some(m) => m.for_each_vma(|v| line(v, out)),
        None => Ok(()),
    }
}

pub(super) fn smaps_rollup(t: &TaskRef, out: &mut Out) -> Result<()> {
    check(t)?;
    let Some(m) = mm_of(t) else { return Err(base::Errno::ESRCH) };
    let (mut first, mut last) = (None, 0);
    let mut sum = [0u64; 8];
    m.for_each_usage(|v, u| {
        first.get_or_insert(v.start);
        last = v.end;
        let parts = [
            u.rss,
            u.pss,
            u.shared_clean,
            u.shared_dirty,
            u.private_clean,
            u.private_dirty,
            u.referenced,
            u.anonymous,
        ];
        for (s, p) in sum.iter_mut().zip(parts) {
            *s += p;
        }
        Ok(())
    })?;
    writeln!(out, "{:08x}-{last:08x} ---p 00000000 00:00 0 {:>30}[rollup]", first.unwrap_or(0), "")?;
    let kb = |pages: u64| pages * 4;
    let pss_kb = (sum[1] >> 12) / 1024;
    let rows = [
        ("Rss", kb(sum[0])),
        ("Pss", pss_kb),
        ("Shared_Clean", kb(sum[2])),
        ("Shared_Dirty", kb(sum[3])),
        ("Private_Clean", kb(sum[4])),
        ("Private_Dirty", kb(sum[5])),
        ("Referenced", kb(sum[6])),
        ("Anonymous", kb(sum[7])),
    ];
    for (name, v) in rows {
        writeln!(out, "{:<15} {v:>8} kB", alloc::format!("{name}:"))?;
    }
    Ok(())
}
