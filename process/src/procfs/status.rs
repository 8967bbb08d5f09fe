//! `/proc/PID/status` (`proc_pid_status(5)`): the lines that something is behind.

use alloc::vec::Vec;

use base::{Result, cpulist, cpumask, cred::cap, tree::Out};
use sched::TaskRef;

use super::{memory::mm_of, stat::ignored_and_caught, state, user};
use crate::{rlimit, signal::set::SigSet, tree::TREE};

fn state_name(c: char) -> &'static str {
    match c {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk sleep",
        'T' => "stopped",
        't' => "tracing stop",
        'Z' => "zombie",
        'P' => "parked",
        'I' => "idle",
        _ => "dead",
    }
}

/// kthreadd is nobody's child; it is the parent of every other kernel thread.
pub(super) fn kthread_parent(pid: u32) -> u32 {
    if pid == 2 { 0 } else { 2 }
}

pub(super) fn show(t: &TaskRef, out: &mut Out) -> Result<()> {
    let th = sched::thread(t);
    let d = user(t);
    write!(out, "Name:\t")?;
    for &b in th.proc_name().full() {
        match b {
            b'\n' => out.push(b"\\n")?,
            b'\\' => out.push(b"\\\\")?,
            b => out.push(&[b])?,
        }
    }
    writeln!(out)?;
    if let Some(fs) = d.and_then(|d| d.try_fs()) {
        writeln!(out, "Umask:\t{:04o}", fs.umask())?;
    }
    let c = state(t);
    let (mut ppid, mut pgid, mut sid) = (kthread_parent(th.pid()), 0, 0);
    if d.is_some() {
        let tree = TREE.lock();
        (ppid, pgid, sid) = tree.get(th.tgid()).map_or((0, 0, 0), |n| (n.parent, n.pgid, n.sid));
    }
    writeln!(
        out,
        "State:\t{c} ({})\nTgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{ppid}\nTracerPid:\t0",
        state_name(c),
        th.tgid(),
        th.pid()
    )?;
    let cred = d.map(|d| d.cred());
    let (u, g) = cred
        .as_ref()
        .map_or(([0; 4], [0; 4]), |c| ([c.uid, c.euid, c.suid, c.fsuid], [c.gid, c.egid, c.sgid, c.fsgid]));
    writeln!(
        out,
        "Uid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}",
        u[0], u[1], u[2], u[3], g[0], g[1], g[2], g[3]
    )?;
    writeln!(out, "FDSize:\t{}", d.and_then(|d| d.try_files()).map_or(0, |f| f.capacity()))?;
    write!(out, "Groups:\t")?;
    for g in cred.iter().flat_map(|c| c.groups.iter()) {
        write!(out, "{g} ")?;
    }
    writeln!(
        out,
        "\nNStgid:\t{}\nNSpid:\t{}\nNSpgid:\t{pgid}\nNSsid:\t{sid}\nKthread:\t{}",
        th.tgid(),
        th.pid(),
        th.is_kthread() as u32
    )?;
    if mm_of(t).is_some() {
        memory(t, out)?;
    }
    signals(t, out)?;
    let caps = cred.as_ref().map_or((0, cap::FULL, cap::FULL, cap::FULL, 0), |c| {
        (c.cap_inheritable, c.cap_permitted, c.cap_effective, c.cap_bounding, c.cap_ambient)
    });
    writeln!(
        out,
        "CapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}",
        caps.0, caps.1, caps.2, caps.3, caps.4
    )?;
    writeln!(out, "NoNewPrivs:\t{}", cred.as_ref().is_some_and(|c| c.no_new_privs) as u32)?;
    let mask = th.affinity().and(cpumask::all());
    writeln!(out, "Cpus_allowed:\t{}\nCpus_allowed_list:\t{}", cpumask::text(mask), cpulist::text(mask))?;
    writeln!(out, "Mems_allowed:\t1\nMems_allowed_list:\t0")?;
    let (v, i) = t.switches();
    Ok(writeln!(out, "voluntary_ctxt_switches:\t{v}\nnonvoluntary_ctxt_switches:\t{i}")?)
}

fn memory(t: &TaskRef, out: &mut Out) -> Result<()> {
    let Some(m) = mm_of(t) else { return Ok(()) };
    let (c, e) = (m.counters(), m.exec_info());
    let text = (mm::page_align(e.end_code) - mm::page_floor(e.start_code)) as u64 / 1024;
    let exe = (c.exec_vm * 4).max(text);
    let rows: [(&str, u64); 14] = [
        ("VmPeak", c.peak_vm.max(c.total_vm) * 4),
        ("VmSize", c.total_vm * 4),
        ("VmLck", c.locked_vm * 4),
        ("VmPin", 0),
        ("VmHWM", c.peak.max(c.resident()) * 4),
        ("VmRSS", c.resident() * 4),
        ("RssAnon", c.anon * 4),
        ("RssFile", c.file * 4),
        ("RssShmem", c.shmem * 4),
        ("VmData", c.data_vm * 4),
        ("VmStk", c.stack_vm * 4),
        ("VmExe", text),
        ("VmLib", exe - text),
        ("VmPTE", m.page_table_bytes() / 1024),
    ];
    for (name, kb) in rows {
        writeln!(out, "{name}:\t{kb:>8} kB")?;
    }
    // There is no swap yet: what is swapped out is 0 indeed.
    Ok(writeln!(out, "VmSwap:\t{:>8} kB\nCoreDumping:\t0", 0)?)
}

fn signals(t: &TaskRef, out: &mut Out) -> Result<()> {
    let (mut threads, mut queued, mut limit) = (1, 0, 0);
    let mut sets = Vec::from([SigSet::EMPTY; 5]);
    if let Some(d) = user(t) {
        limit = d.process.limit(rlimit::SIGPENDING);
        let s = d.process.sig.lock();
        threads = s.threads.len().max(1);
        let own = d.pending.lock();
        queued = s.shared.queued() + own.queued();
        let (ign, cgt) = ignored_and_caught(&s);
        sets = Vec::from([own.set(), s.shared.set(), d.blocked(), ign, cgt]);
    } else {
        // Kernel threads ignore every signal.
        sets[3] = SigSet::ALL;
    }
    writeln!(out, "Threads:\t{threads}\nSigQ:\t{queued}/{limit}")?;
    for (name, s) in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"].iter().zip(&sets) {
        writeln!(out, "{name}:\t{:016x}", s.0)?;
    }
    Ok(())
}
