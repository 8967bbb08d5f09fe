//! What a run tells about itself: the hash, the last events, the console, the state of processors and tasks.

use core::{
    cell::{Cell, RefCell},
    fmt::Write as _,
};
use std::{
    backtrace::Backtrace,
    collections::VecDeque,
    rc::Rc,
    sync::{Arc, Weak},
};

use crate::{
    arch::{cpu, fiber, point},
    task::{State, Task},
};

/// What is part of the trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Event {
    /// The processor that goes on after a decision.
    Decide,
    /// The processor that a halted one lets run.
    Idle,
    /// The processor that a spinning one lets run.
    Relax,
    /// An interrupt's bit.
    Interrupt,
    /// Everything halted; time jumped to this.
    Jump,
    /// A device event.
    Device,
    /// A user program came into the kernel.
    Trap,
    /// The kernel's own.
    Custom,
}

/// Events in a report.
const KEPT: usize = 48;
/// Bytes of console output in a report.
pub(super) const CONSOLE: usize = 16 << 10;

type Hook = Rc<dyn Fn(&mut String)>;

struct Book {
    hash: Cell<u64>,
    number: Cell<u64>,
    ring: [Cell<(u64, u8, Event, u64)>; KEPT],
    console: RefCell<VecDeque<u8>>,
    live: Cell<bool>,
    hooks: RefCell<Vec<Hook>>,
    tasks: RefCell<Vec<(String, Weak<Task>)>>,
}
// SAFETY: used only where this process is a simulation (`cpu::active`), which has one host thread.
unsafe impl Sync for Book {}
static BOOK: Book = Book {
    hash: Cell::new(0xcbf2_9ce4_8422_2325),
    number: Cell::new(0),
    ring: [const { Cell::new((0, 0, Event::Custom, 0)) }; KEPT],
    console: RefCell::new(VecDeque::new()),
    live: Cell::new(false),
    hooks: RefCell::new(Vec::new()),
    tasks: RefCell::new(Vec::new()),
};

/// For the start of a run.
pub(super) fn set_up(seed: u64, live: bool) {
    BOOK.hash.set(BOOK.hash.get() ^ seed);
    BOOK.live.set(live);
}

/// Adds to the trace.
pub(crate) fn note(e: Event, value: u64) {
    if !cpu::active() {
        return;
    }
    let cpu = cpu::cpu_id() as u8;
    let x = BOOK.hash.get() ^ (u64::from(cpu) << 8 | e as u64) ^ value.rotate_left(16);
    let x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    BOOK.hash.set(x ^ x >> 29);
    let n = BOOK.number.get();
    BOOK.number.set(n + 1);
    BOOK.ring[n as usize % KEPT].set((point::steps(), cpu, e, value));
}

pub(super) fn hash() -> u64 {
    // The number of steps tells runs apart whose decisions were the same.
    (BOOK.hash.get() ^ point::steps()).wrapping_mul(0xff51_afd7_ed55_8ccd)
}

/// Console output of the simulated kernel.
pub(crate) fn console(bytes: &[u8]) {
    if BOOK.live.get() {
        // SAFETY: a plain write of a readable buffer; a failure to show it changes nothing.
        let _ = unsafe { libc::write(2, bytes.as_ptr().cast(), bytes.len()) };
        return;
    }
    let mut c = BOOK.console.borrow_mut();
    c.extend(bytes);
    let over = c.len().saturating_sub(CONSOLE);
    c.drain(..over);
}

/// Adds to the report of a run that fails: a room's own state. Nothing is preempted while `f` runs, and it must not wait for a lock.
pub fn on_report(f: impl Fn(&mut String) + 'static) {
    if cpu::active() {
        BOOK.hooks.borrow_mut().push(Rc::new(f));
    }
}

/// Names a task in the report of a run that fails.
pub fn watch_task(t: &Arc<Task>, name: &str) {
    if cpu::active() {
        BOOK.tasks.borrow_mut().push((name.into(), Arc::downgrade(t)));
    }
}

/// Processors and watched tasks.
pub(crate) fn state() -> String {
    let mut s = String::new();
    let all = cpu::all();
    for (i, c) in all.cpu[..all.count.get() as usize].iter().enumerate() {
        let here = if i as u32 == all.now.get() { '*' } else { ' ' };
        let timer = c.timer.get();
        let _ = writeln!(
            s,
            "{here}cpu{i}: {:?}, context {:#x}, interrupts {}, guards {}, resched {}, pending {:#x}, timer {}, task {}",
            c.power.get(),
            c.word.get(),
            if c.irqs.get() { "on" } else { "off" },
            c.irq_depth.get(),
            c.need_resched.get(),
            c.pending.get(),
            if timer == u64::MAX { "off".into() } else { format!("{timer} ns") },
            name_of(c.current.get()),
        );
    }
    for (name, t) in BOOK.tasks.borrow().iter() {
        match t.upgrade() {
            Some(t) => {
                let _ = writeln!(
                    s,
                    " task {name}: {:?}{}{}, cpu{}, switches {:?}, work {:?}",
                    t.state(),
                    if t.is_queued() { ", queued" } else { "" },
                    if t.is_on_cpu() { ", running" } else { "" },
                    t.cpu(),
                    t.switches(),
                    t.work()
                );
            }
            None => {
                let _ = writeln!(s, " task {name}: gone");
            }
        }
    }
    s
}

fn name_of(p: *const Task) -> String {
    if p.is_null() {
        return "none".into();
    }
    let tasks = BOOK.tasks.borrow();
    tasks.iter().find(|(_, t)| t.as_ptr() == p).map_or_else(|| "(not watched)".into(), |(n, _)| n.clone())
}

/// A short backtrace of this fiber: the kernel's own functions, without those of the standard library and the simulator.
pub(crate) fn backtrace() -> String {
    let full = Backtrace::force_capture().to_string();
    let mut s = String::new();
    let mut lines = full.lines().peekable();
    let mut kept = 0;
    while let Some(line) = lines.next() {
        let Some((_, name)) = line.trim_start().split_once(": ") else { continue };
        let at = lines.next_if(|l| l.trim_start().starts_with("at ")).map_or("", |l| l.trim_start());
        if BORING.iter().any(|b| name.starts_with(b)) {
            continue;
        }
        let _ = writeln!(s, "    {name} {at}");
        kept += 1;
        if kept == FRAMES {
            break;
        }
    }
    s
}

/// Frames of a backtrace.
const FRAMES: usize = 24;
/// How names of uninteresting functions begin.
const BORING: [&str; 12] = [
    "std::",
    "core::",
    "alloc::",
    "<std::",
    "<core::",
    "<alloc::",
    "__rust",
    "frame::sim::",
    "frame::arch::hosted::",
    "<frame::arch::hosted::",
    "rust_",
    "test::",
];

/// Where the other processors and the watched tasks are.
pub(crate) fn places() -> String {
    let mut s = String::new();
    let all = cpu::all();
    let me = cpu::cpu_id();
    for (i, c) in all.cpu[..all.count.get() as usize].iter().enumerate() {
        if i as u32 != me
            && c.power.get() != cpu::Power::Off
            && let Some(b) = fiber::visit(&c.context)
        {
            let _ = write!(s, " cpu{i} is at\n{b}");
        }
    }
    for (name, t) in BOOK.tasks.borrow().iter() {
        let Some(t) = t.upgrade() else { continue };
        if t.is_on_cpu() || t.state().intersects(State::DEAD | State::NEW) {
            continue;
        }
        // SAFETY: the task is off every processor, and nothing runs any more, so its saved context does not change.
        if let Some(b) = fiber::visit(unsafe { &*t.context() }) {
            let _ = write!(s, " task {name} waits at\n{b}");
        }
    }
    s
}

/// Console, hooks, last events.
pub(super) fn rest() -> String {
    let mut s = String::new();
    let hooks: Vec<Hook> = BOOK.hooks.borrow().clone();
    for h in hooks {
        h(&mut s);
    }
    let (a, b) = (BOOK.number.get().saturating_sub(KEPT as u64), BOOK.number.get());
    let _ = writeln!(s, "last events (step, processor, what):");
    for n in a..b {
        let (step, cpu, e, v) = BOOK.ring[n as usize % KEPT].get();
        let _ = writeln!(s, "  {step:>8} cpu{cpu} {e:?} {v}");
    }
    let c: Vec<u8> = BOOK.console.borrow().iter().copied().collect();
    if !c.is_empty() {
        let _ = writeln!(s, "console:\n{}", String::from_utf8_lossy(&c));
    }
    s
}
