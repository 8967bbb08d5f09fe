//! A line in the log when a program ends by its own fault: `crash[71]: segfault at 8 ip …`, in Linux's words, so that tools that
//! read logs find it. Only where no handler takes the signal; `/proc/sys/debug/exception-trace` switches it off.
//!
//! Linux's behaviour: `arch/x86/mm/fault.c`, `arch/x86/kernel/traps.c`. Not here: the bytes around the instruction (`Code:`).

use alloc::string::String;

use base::{
    Errno, Result, pr_emerg, pr_info,
    tree::{self, parse_int},
};
use frame::{
    atomic::{AtomicI32, AtomicU64, Ordering::Relaxed},
    paging::Access,
    user::Regs,
};

use crate::{
    process::current,
    signal::{
        action::{SIG_DFL, SIG_IGN},
        set::Signo,
    },
    tree::INIT,
};

/// `debug.exception-trace`.
static SHOW: AtomicI32 = AtomicI32::new(1);
/// At most this many lines in each span: Linux's `printk_ratelimit`.
const BURST: u64 = 10;
const SPAN_NS: u64 = 5_000_000_000;
static SPAN: AtomicU64 = AtomicU64::new(0);
static LINES: AtomicU64 = AtomicU64::new(0);

/// One line more may be written.
fn has_room() -> bool {
    let span = frame::time::now_ns() / SPAN_NS;
    if SPAN.swap(span, Relaxed) != span {
        LINES.store(0, Relaxed);
    }
    LINES.fetch_add(1, Relaxed) < BURST
}

/// Is nobody there to take it?
fn is_unhandled(sig: Signo) -> bool {
    let me = current();
    let handler = me.process.sig.lock().action(sig).handler;
    me.process.pid() == INIT || handler == SIG_DFL || handler == SIG_IGN
}

/// Bits of a page fault's error code: see Intel SDM volume 3, 4.7.
fn error_code(access: Access, present: bool) -> u64 {
    const USER: u64 = 4;
    let kind = match access {
        Access::Read => 0,
        Access::Write => 2,
        Access::Exec => 16,
    };
    USER | kind | u64::from(present)
}

/// ` in NAME[OFFSET,START+LENGTH]`: where the instruction is; empty where nothing is mapped from a file.
fn place(ip: u64) -> String {
    let Some(m) = current().process.mm() else { return String::new() };
    let ip = ip as usize;
    let text = m.find_vma(ip, |v| {
        let object = v.object.filter(|_| v.start <= ip)?;
        let mut path = String::new();
        object.path(&mut path).ok()?;
        let name = path.rsplit('/').next().unwrap_or("");
        let offset = (ip - v.start) as u64 + v.pgoff * mm::PAGE_SIZE as u64;
        Some(alloc::format!(" in {name}[{offset:x},{:x}+{:x}]", v.start, v.end - v.start))
    });
    text.flatten().unwrap_or_default()
}

/// A page fault that is `SIGSEGV`. `present`: something is mapped there.
pub(crate) fn segfault(regs: &Regs, va: usize, access: Access, present: bool) {
    if SHOW.load(Relaxed) == 0 || !is_unhandled(crate::signal::set::SEGV) || !has_room() {
        return;
    }
    let t = sched::me();
    let (comm, tid, ip, sp) = (t.comm(), t.pid(), regs.rip, regs.rsp);
    let (error, at) = (error_code(access, present), place(ip));
    let cpu = frame::cpu::raw_id();
    let line = format_args!(
        "{comm}[{tid}]: segfault at {va:x} ip {ip:016x} sp {sp:016x} error {error:x}{at} likely on CPU {cpu} (core {cpu}, socket 0)"
    );
    if current().process.pid() == INIT { pr_emerg!("{line}") } else { pr_info!("{line}") }
}

/// What Linux calls an exception that becomes a signal; `None` for those of which it says nothing.
fn name(vector: u8) -> Option<(&'static str, &'static str)> {
    Some(match vector {
        0 => ("trap ", "divide error"),
        4 => ("trap ", "overflow"),
        5 => ("trap ", "bounds"),
        6 => ("trap ", "invalid opcode"),
        11 => ("trap ", "segment not present"),
        12 => ("trap ", "stack segment"),
        13 => ("", "general protection fault"),
        17 => ("trap ", "alignment check"),
        _ => return None,
    })
}

/// Any other exception.
pub(crate) fn exception(regs: &Regs, vector: u8, error: u64, sig: Signo) {
    let Some((trap, what)) = name(vector) else { return };
    if SHOW.load(Relaxed) == 0 || !is_unhandled(sig) || !has_room() {
        return;
    }
    let t = sched::me();
    pr_info!(
        "traps: {}[{}] {trap}{what} ip:{:x} sp:{:x} error:{error:x}{}",
        t.comm(),
        t.pid(),
        regs.rip,
        regs.rsp,
        place(regs.rip)
    );
}

/// Declares the knob.
pub(crate) fn init() -> Result<()> {
    tree::proc().knob(
        "sys/debug/exception-trace",
        0o644,
        |o| Ok(writeln!(o, "{}", SHOW.load(Relaxed))?),
        |b| {
            SHOW.store(i32::try_from(parse_int(b)?).map_err(|_| Errno::EINVAL)?, Relaxed);
            Ok(())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_are_the_processor_s() {
        assert_eq!(error_code(Access::Read, false), 4);
        assert_eq!(error_code(Access::Write, true), 7);
        assert_eq!(error_code(Access::Exec, true), 0x15);
    }
}
