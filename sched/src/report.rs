//! Reports for the log: what a task is and where it sleeps, where a processor is, what locks are held.
//!
//! The forms are Linux's, of `show_regs()`, `dump_stack()`, `sched_show_task()`, `WARN()`, the backtraces by NMI and
//! `debug_show_all_locks()`. Addresses have names where the image carries its table of symbols. What the rooms above know of a
//! task is asked of whatever they install ([`Relations`]).
//!
//! Usable in interrupts, where [`show_task`] and [`show_all_locks`] are not.

use base::{
    lockup,
    log::{self, Level},
    pr_info, pr_warn,
    taint::{self, Taint},
    version,
};
use frame::{
    context::IrqGuard,
    cpu::{self, CpuId, CpuMask},
    report::{Registers, Snapshot, symbol},
    sync::{lockdep, once::Once},
    task::State,
};

use crate::{
    core, pid,
    thread::{Comm, TaskRef, Thread, state_char, thread},
};

/// What those know who know processes.
pub trait Relations: Sync {
    /// PID of a task's parent. In a task.
    fn parent_of(&self, t: &TaskRef) -> u32;
    /// Its user; `None` if that cannot be told now. From any context.
    fn uid_of(&self, t: &Thread) -> Option<u32>;
}

static RELATIONS: Once<&'static dyn Relations> = Once::new();

/// Installs them.
pub fn install(r: &'static dyn Relations) {
    RELATIONS.call_once(|| r);
}

macro_rules! line {
    ($level:expr, $($t:tt)*) => { log::print($level, format_args!($($t)*)) };
}

/// A code address with its function's name.
struct Place(u64);
impl ::core::fmt::Display for Place {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        match symbol(self.0) {
            Some((name, off)) => write!(f, "{name}+{off:#x}"),
            None => write!(f, "{:#018x}", self.0),
        }
    }
}
/// An address to which a function returns: the call may be the last instruction of its function.
struct ReturnTo(u64);
impl ::core::fmt::Display for ReturnTo {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        match symbol(self.0.wrapping_sub(1)) {
            Some((name, off)) => write!(f, "{name}+{:#x}", off + 1),
            None => Place(self.0).fmt(f),
        }
    }
}

/// What a report says of a task.
#[derive(Clone, Copy)]
struct Who {
    comm: Comm,
    pid: u32,
    uid: u32,
}

fn who(t: &Thread) -> Who {
    let uid = RELATIONS.get().and_then(|r| r.uid_of(t)).unwrap_or(0);
    Who { comm: t.comm(), pid: t.pid(), uid }
}
/// What runs on a processor: the task, or that it idles. `None` if its queue is in use just now.
fn running_on(c: CpuId) -> Option<Option<Who>> {
    let _irqs = IrqGuard::new();
    let q = core::cpu(c).rq.try_lock()?;
    let t = q.rq.current().map(|e| &e.payload.thread);
    Some(t.map(|t| who(t)))
}

fn print_info(level: Level, c: CpuId, w: Option<Who>) {
    let (taint, release, build) = (taint::print_tainted(), version::RELEASE, version::build());
    match w {
        Some(Who { comm, pid, uid }) => {
            line!(level, "CPU: {c} UID: {uid} PID: {pid} Comm: {comm} {taint} {release} {build}");
        }
        None => line!(level, "CPU: {c} {taint} {release} {build}"),
    }
}

fn show_registers(level: Level, r: &Registers) {
    if r.is_user() {
        line!(level, "RIP: {:04x}:{:#x}", r.cs, r.rip);
    } else {
        line!(level, "RIP: {:04x}:{}", r.cs, Place(r.rip));
    }
    line!(level, "RSP: {:04x}:{:016x} EFLAGS: {:08x}", r.ss, r.rsp, r.rflags);
    let [ax, bx, cx, dx, si, di, bp, high @ ..] = r.general;
    line!(level, "RAX: {ax:016x} RBX: {bx:016x} RCX: {cx:016x}");
    line!(level, "RDX: {dx:016x} RSI: {si:016x} RDI: {di:016x}");
    line!(level, "RBP: {bp:016x} R08: {:016x} R09: {:016x}", high[0], high[1]);
    line!(level, "R10: {:016x} R11: {:016x} R12: {:016x}", high[2], high[3], high[4]);
    line!(level, "R13: {:016x} R14: {:016x} R15: {:016x}", high[5], high[6], high[7]);
}

fn show_calls(level: Level, calls: &[u64]) {
    line!(level, "Call Trace:");
    line!(level, " <TASK>");
    calls.iter().for_each(|&a| line!(level, " {}", ReturnTo(a)));
    line!(level, " </TASK>");
}

/// Where the interrupted code is, in an interrupt; else the caller: `show_regs` or `dump_stack`.
pub fn show_here(level: Level) {
    let me = cpu::raw_id();
    print_info(level, me, Some(who(&crate::me())));
    let s = Snapshot::interrupted().unwrap_or_else(Snapshot::here);
    if let Some(r) = &s.registers {
        show_registers(level, r);
    }
    show_calls(level, s.calls());
}

/// Where another processor is, even one with interrupts off.
fn nmi_backtrace(c: CpuId) {
    let before = running_on(c);
    let Some(s) = Snapshot::of_cpu(c) else {
        pr_warn!("CPU {c} does not answer");
        return;
    };
    let running = running_on(c);
    let Some(r) = s.registers else { return };
    if matches!((before, running), (Some(None), Some(None))) {
        pr_warn!("NMI backtrace for cpu {c} skipped: idling at {}", Place(r.rip));
        return;
    }
    pr_warn!("NMI backtrace for cpu {c}");
    print_info(Level::Warn, c, running.flatten());
    show_registers(Level::Warn, &r);
    if !r.is_user() {
        show_calls(Level::Warn, s.calls());
    }
}

fn trigger(mask: CpuMask) {
    let me = cpu::raw_id();
    if mask.contains(me) {
        pr_warn!("NMI backtrace for cpu {me}");
        show_here(Level::Warn);
    }
    let others = mask.without(me);
    if !others.is_empty() {
        pr_info!("Sending NMI from CPU {me} to CPUs {}:", base::cpulist::text(others));
    }
    for c in others.iter() {
        nmi_backtrace(c);
        lockup::touch_nmi_watchdog();
    }
    lockup::touch_all_softlockup_watchdogs();
}

/// Shows where one other processor is.
pub fn trigger_single_cpu_backtrace(c: CpuId) {
    trigger(CpuMask::one(c));
}
/// Shows where all are but one.
pub fn trigger_allbutcpu_cpu_backtrace(c: CpuId) {
    trigger(cpu::online().without(c));
}
/// Shows where all are.
pub fn trigger_all_cpu_backtrace() {
    trigger(cpu::online());
}

/// Something is not as it can only be, and the kernel goes on: `WARN()`.
#[track_caller]
pub fn warn(message: Option<::core::fmt::Arguments<'_>>) {
    let at = ::core::panic::Location::caller();
    let s = Snapshot::here();
    let me = cpu::raw_id();
    let w = who(&crate::me());
    pr_warn!("------------[ cut here ]------------");
    if let Some(m) = message {
        line!(Level::Warn, "{m}");
    }
    let function = s.calls().first().map_or(0, |&a| a);
    pr_warn!("WARNING: CPU: {me} PID: {} at {}:{} {}", w.pid, at.file(), at.line(), ReturnTo(function));
    print_modules(Level::Warn);
    print_info(Level::Warn, me, Some(w));
    show_calls(Level::Warn, s.calls());
    taint::add(Taint::Warn);
    pr_warn!("---[ end trace 0000000000000000 ]---");
}

/// This kernel has no modules.
pub(crate) fn print_modules(level: Level) {
    line!(level, "Modules linked in:");
}

/// What a task is, and where it sleeps. The free bytes of its stack are not counted; Linux prints 0 too. In a task.
pub fn show_task(t: &TaskRef) {
    let th = thread(t);
    let parent = RELATIONS.get().map_or(0, |r| r.parent_of(t));
    let flags = if th.is_kthread() { 0x0020_8040u64 } else { 0x0040_0100 };
    let comm = alloc::format!("{}", th.comm());
    let running = if t.state().is_empty() { "  running task    " } else { "" };
    pr_info!(
        "task:{comm:<15} state:{}{running} stack:0     pid:{:<5} tgid:{:<5} ppid:{parent:<6} flags:{flags:#010x}",
        state_char(t),
        th.pid(),
        th.tgid()
    );
    let calls = frame::report::stack_of(t);
    if !calls.is_empty() {
        show_calls(Level::Info, &calls);
    }
}

/// Shows all tasks, or those that sleep uninterruptibly: SysRq-t and -w. In a task.
pub fn show_state(blocked_only: bool) {
    pid::for_each(|t| {
        let s = t.state();
        if !blocked_only || s.contains(State::UNINTERRUPTIBLE) && !s.intersects(State::NOLOAD) {
            show_task(t);
            lockup::touch_all_softlockup_watchdogs();
        }
        crate::cond_resched();
    });
}

/// The sleeping locks that tasks hold; only the checked image knows. In a task.
pub fn show_all_locks() {
    if !cfg!(debug_assertions) {
        return;
    }
    pr_warn!("Showing all locks held in the system:");
    pid::for_each(|t| {
        let mut n = 0;
        lockdep::held_by(t, |_, _| n += 1);
        if n == 0 {
            return;
        }
        let th = thread(t);
        pr_warn!("{n} lock{} held by {}/{}:", if n == 1 { "" } else { "s" }, th.comm(), th.pid());
        let mut i = 0;
        lockdep::held_by(t, |name, at| {
            pr_warn!(" #{i}:  ({name}), at: {}:{}", at.file(), at.line());
            i += 1;
        });
        lockup::touch_nmi_watchdog();
    });
    pr_warn!("=============================================");
}
