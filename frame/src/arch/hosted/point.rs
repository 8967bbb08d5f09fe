//! Preemption points: where other simulated processors run, interrupts arrive and simulated time passes.
//!
//! A draw on every point would cost more than the code between them. So a draw says after how many points the next
//! decision falls (geometric in spirit, uniform for cheapness, mean 1000 / `preempt_permille`), and a point in between
//! only counts. At a decision
//!
//! 1. due timers become pending interrupts, due device events run;
//! 2. one of the processors that can run is drawn and goes on;
//! 3. it takes a pending interrupt if its flag is on.
//!
//! A new interrupt brings the next decision close, so that its latency is short but varies.
//!
//! A processor that pauses in a spin loop always hands over. If all halt, time jumps to the next timer or device event;
//! if there is none the run is a deadlock and ends with a report.

use core::{
    cell::{Cell, RefCell},
    time::Duration,
};
use std::{collections::BTreeMap, time::Instant};

use super::{
    cpu::{self, Cpu, Power, pending},
    device,
    fiber::{Context, Stack},
};
use crate::{
    context,
    cpu::CpuId,
    irq::{self, Internal, note_internal},
    sim::{self, End, Event, rng::Rng},
    task, time,
};

/// Simulated cost of a point, ns: about what an uncontended atomic costs.
const POINT_NS: u64 = 10;
/// Simulated cost of a pause in a spin loop, ns.
const PAUSE_NS: u64 = 40;
/// A decision falls at least this often, whatever the density: limits are checked there.
const LONGEST_GAP: u64 = 4096;
/// Pauses in a row without any switch of tasks, interrupt or halt: nobody can make progress.
const PAUSE_LIMIT: u64 = 3_000_000;

/// A processor stalls for at most `2^12` points, a few ten times what a short run's whole work is between two waits.
const LONGEST_STALL_LOG2: u64 = 12;

type DeviceEvent = Box<dyn FnOnce()>;

struct Scheduling {
    rng: Rng,
    permille: Cell<u64>,
    stall_permille: Cell<u64>,
    /// Processors that stall, until how many steps.
    stalled: Cell<u64>,
    stalled_until: Cell<u64>,
    countdown: Cell<u64>,
    steps: Cell<u64>,
    max_steps: Cell<u64>,
    max_time: Cell<u64>,
    now: Cell<u64>,
    /// The earliest timer or device event.
    next_event: Cell<u64>,
    /// Above 0 nothing is preempted: a device event runs.
    held: Cell<u32>,
    pauses: Cell<u64>,
    /// Device events by time and order of registration.
    events: RefCell<BTreeMap<(u64, u64), DeviceEvent>>,
    event_number: Cell<u64>,
    start: Cell<Option<fn(CpuId) -> !>>,
}

// SAFETY: used only where this process is a simulation (`cpu::active`), which has one host thread.
unsafe impl Sync for Scheduling {}

static S: Scheduling = Scheduling {
    rng: Rng::new(0),
    permille: Cell::new(0),
    stall_permille: Cell::new(0),
    stalled: Cell::new(0),
    stalled_until: Cell::new(0),
    countdown: Cell::new(1),
    steps: Cell::new(0),
    max_steps: Cell::new(u64::MAX),
    max_time: Cell::new(u64::MAX),
    now: Cell::new(0),
    next_event: Cell::new(u64::MAX),
    held: Cell::new(0),
    pauses: Cell::new(0),
    events: RefCell::new(BTreeMap::new()),
    event_number: Cell::new(0),
    start: Cell::new(None),
};

/// For `sim`, at the start of a run.
pub(crate) fn set_up(c: &sim::Config) {
    S.rng.seed(c.seed);
    S.permille.set(u64::from(c.preempt_permille.min(1000)));
    S.stall_permille.set(u64::from(c.stall_permille));
    S.max_steps.set(c.max_steps);
    S.max_time.set(c.max_time_ns);
    S.countdown.set(gap());
}

/// From here on nothing is preempted: the run is over and reports.
pub(crate) fn freeze() {
    S.held.set(S.held.get() + 1);
}

/// Runs `f` without preemption points.
pub(crate) fn undisturbed<R>(f: impl FnOnce() -> R) -> R {
    S.held.set(S.held.get() + 1);
    let r = f();
    S.held.set(S.held.get() - 1);
    r
}

pub(crate) fn now() -> u64 {
    S.now.get()
}

pub(crate) fn steps() -> u64 {
    S.steps.get()
}

/// A seeded draw below `n`, from the stream that also decides preemption.
pub(crate) fn draw(n: u64) -> u64 {
    S.rng.below(n)
}

fn gap() -> u64 {
    match S.permille.get() {
        0 => LONGEST_GAP,
        p => (1 + S.rng.below(2000 / p)).min(LONGEST_GAP),
    }
}

/// A seeded chance to run another processor or take an interrupt. Nothing on a lone thread.
#[inline]
pub fn preempt_point() {
    if cpu::active() {
        point();
    }
}

#[inline]
fn point() {
    if S.held.get() != 0 {
        return;
    }
    S.steps.set(S.steps.get() + 1);
    let now = S.now.get() + POINT_NS;
    S.now.set(now);
    let left = S.countdown.get() - 1;
    S.countdown.set(left);
    if left == 0 || now >= S.next_event.get() {
        decide();
    }
}

#[cold]
#[inline(never)]
fn decide() {
    S.now.set(S.now.get() + S.rng.below(64));
    S.countdown.set(gap());
    check_limits();
    run_due();
    let me = cpu::cpu_id();
    if S.stall_permille.get() != 0 && S.rng.below(1000) < S.stall_permille.get() {
        S.stalled.set(1 << me);
        S.stalled_until.set(S.steps.get() + (1 << S.rng.below(LONGEST_STALL_LOG2 + 1)));
    }
    let ready = ready();
    let to = if ready == 1 << me { me } else { choose(ready) };
    sim::note(Event::Decide, u64::from(to));
    if to != me {
        switch_cpu(to);
    }
    serve_pending();
}

fn check_limits() {
    if S.steps.get() > S.max_steps.get() {
        sim::finish(End::StepLimit);
    }
    if S.now.get() > S.max_time.get() {
        sim::finish(End::TimeLimit);
    }
}

/// Which processors could execute something; not those that stall, unless only they could.
fn ready() -> u64 {
    let all = cpu::all();
    let mut m = 0;
    for i in 0..all.count.get() {
        let c = &all.cpu[i as usize];
        let can = match c.power.get() {
            Power::Running => true,
            Power::Halted => c.pending.get() != 0,
            Power::Off | Power::Stopped => false,
        };
        m |= u64::from(can) << i;
    }
    if S.stalled.get() != 0 {
        if S.steps.get() >= S.stalled_until.get() {
            S.stalled.set(0);
        } else if m & !S.stalled.get() != 0 {
            m &= !S.stalled.get();
        }
    }
    m
}

/// Draws one of a non-empty set.
fn choose(set: u64) -> u32 {
    let mut left = S.rng.below(u64::from(set.count_ones()));
    let mut m = set;
    while left > 0 {
        m &= m - 1;
        left -= 1;
    }
    m.trailing_zeros()
}

fn me() -> &'static Cpu {
    let all = cpu::all();
    &all.cpu[all.now.get() as usize]
}

/// Leaves this processor where it is and goes on with another one. Returns when it is chosen again.
fn switch_cpu(to: u32) {
    let all = cpu::all();
    let from = me();
    all.now.set(to);
    let next = &all.cpu[to as usize];
    // SAFETY: one host thread; every processor but the running one has its context saved here, or was prepared by
    // `start_others`, and each is resumed only while it does not run.
    unsafe { super::fiber::raw_switch(from.context.pointer(), next.context.pointer()) };
}

/// Something other than spinning happened.
pub(crate) fn note_progress() {
    S.pauses.set(0);
}

fn update_next_event() {
    let all = cpu::all();
    let mut next = S.events.borrow().keys().next().map_or(u64::MAX, |k| k.0);
    for c in &all.cpu[..all.count.get() as usize] {
        next = next.min(c.timer.get());
    }
    S.next_event.set(next);
}

/// Turns due timers into pending interrupts and runs due device events.
fn run_due() {
    let now = S.now.get();
    if now < S.next_event.get() {
        return;
    }
    let all = cpu::all();
    for (i, c) in all.cpu[..all.count.get() as usize].iter().enumerate() {
        if c.timer.get() <= now {
            c.timer.set(u64::MAX);
            interrupt(i as u32, pending::TIMER);
        }
    }
    loop {
        let mut events = S.events.borrow_mut();
        let Some(first) = events.first_entry().filter(|e| e.key().0 <= now) else { break };
        let f = first.remove();
        drop(events);
        sim::note(Event::Device, 0);
        undisturbed(f);
    }
    update_next_event();
}

/// Makes an interrupt pending, and the next decision come soon.
pub(super) fn interrupt(cpu: u32, what: u32) {
    let c = &cpu::all().cpu[cpu as usize];
    c.pending.set(c.pending.get() | what);
    S.countdown.set(S.countdown.get().min(1 + S.rng.below(16)));
}

/// Takes one pending interrupt if this processor's flag is on.
fn serve_pending() {
    let c = me();
    if c.pending.get() == 0 || !c.irqs.get() {
        return;
    }
    if super::usermode::interrupted() {
        return;
    }
    serve_one();
}

/// Serves one pending interrupt on the current stack. Interrupts are on before and after.
pub(crate) fn serve_one() {
    let c = me();
    let bits = c.pending.get();
    if bits == 0 {
        return;
    }
    c.irqs.set(false);
    let bit = if bits.is_power_of_two() { bits } else { 1 << choose(u64::from(bits)) };
    c.pending.set(bits & !bit);
    sim::note(Event::Interrupt, u64::from(bit));
    note_progress();
    context::irq_enter();
    match bit {
        pending::TIMER => {
            note_internal(Internal::Timer);
            time::on_timer();
        }
        pending::RESCHEDULE => {
            note_internal(Internal::Reschedule);
            irq::on_reschedule();
        }
        pending::CALL => {
            note_internal(Internal::Call);
            crate::cpu::on_call();
        }
        pending::SHOOTDOWN => {
            note_internal(Internal::Shootdown);
            crate::paging::on_shootdown();
        }
        _ => {
            if let Some(vector) = device::take_vector() {
                irq::on_vector(vector);
            }
            if device::has_vector() {
                c.pending.set(c.pending.get() | pending::VECTOR);
            }
        }
    }
    context::irq_exit();
    task::preempt_from_irq();
    // The task may be on another processor by now.
    let c = me();
    c.irqs.set(true);
    if c.pending.get() != 0 {
        S.countdown.set(S.countdown.get().min(1 + S.rng.below(16)));
    }
}

/// Sets the interrupt flag. What waits for that may come at once.
#[inline]
pub fn irq_enable() {
    cpu::with(|c| c.irqs.set(true));
    if cpu::active() && S.held.get() == 0 {
        if me().pending.get() != 0 { decide() } else { point() }
    }
}

/// Halts until an interrupt has been served. Interrupts are off before, on after.
pub fn wait_for_interrupt() {
    if cpu::lone() {
        cpu::with(|c| c.irqs.set(true));
        std::thread::sleep(Duration::from_micros(100));
        return;
    }
    let c = me();
    note_progress();
    S.steps.set(S.steps.get() + 1);
    c.irqs.set(true);
    if c.pending.get() == 0 {
        c.power.set(Power::Halted);
        leave_until(|| c.pending.get() != 0);
        c.power.set(Power::Running);
    }
    serve_pending();
}

/// Lets the others run until this processor is chosen and `ready_again`.
fn leave_until(ready_again: impl Fn() -> bool) {
    let me = cpu::cpu_id();
    loop {
        run_due();
        let set = ready();
        if set == 0 {
            if S.next_event.get() == u64::MAX {
                sim::finish(End::Deadlock);
            }
            S.now.set(S.now.get().max(S.next_event.get()));
            sim::note(Event::Jump, S.now.get());
            S.steps.set(S.steps.get() + 1);
            check_limits();
            continue;
        }
        let to = choose(set);
        sim::note(Event::Idle, u64::from(to));
        if to != me {
            switch_cpu(to);
        }
        if ready_again() {
            return;
        }
    }
}

/// Stops this processor for good.
pub(crate) fn stop() -> ! {
    me().power.set(Power::Stopped);
    loop {
        leave_until(|| false);
    }
}

/// A pause in a spin loop: another processor runs if one can.
pub fn relax() {
    if cpu::lone() {
        std::thread::yield_now();
        return;
    }
    assert!(S.held.get() == 0, "a simulated device waits for something that a processor holds");
    S.steps.set(S.steps.get() + 1);
    S.now.set(S.now.get() + PAUSE_NS);
    let pauses = S.pauses.get() + 1;
    S.pauses.set(pauses);
    if pauses > PAUSE_LIMIT {
        sim::finish(End::Livelock);
    }
    check_limits();
    run_due();
    let others = ready() & !(1 << cpu::cpu_id());
    if others != 0 {
        let to = choose(others);
        sim::note(Event::Relax, u64::from(to));
        switch_cpu(to);
    } else if pauses > 256 {
        // Alone with the clock: it may be waiting for a time, or for a device.
        S.now.set((S.now.get() + 10_000).min(S.next_event.get().max(S.now.get())));
    }
    serve_pending();
}

/// Nanoseconds since boot. On a lone thread, since the first call.
pub fn now_ns() -> u64 {
    if cpu::lone() {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        return START.get_or_init(Instant::now).elapsed().as_nanos() as u64;
    }
    point();
    S.now.get()
}

/// The cheapest clock; here nanoseconds.
pub fn ticks() -> u64 {
    now_ns()
}
/// The length of a span of [`ticks`].
pub fn ticks_to_ns(t: u64) -> u64 {
    t
}

/// This processor's one-shot timer. A lone thread has none.
pub fn set_timer(at: Option<u64>) {
    if cpu::lone() {
        return;
    }
    me().timer.set(at.unwrap_or(u64::MAX));
    update_next_event();
}

pub fn send_reschedule(cpu: u32) {
    if cpu::active() {
        interrupt(cpu, pending::RESCHEDULE);
        point();
    }
}

pub fn send_call(cpu: u32) {
    if cpu::active() {
        interrupt(cpu, pending::CALL);
        point();
    }
}

pub fn send_shootdown(cpu: u32) {
    if cpu::active() {
        interrupt(cpu, pending::SHOOTDOWN);
        point();
    }
}

/// Runs `f` as a device would, at a simulated time.
pub(crate) fn at(ns: u64, f: DeviceEvent) {
    let n = S.event_number.get();
    S.event_number.set(n + 1);
    S.events.borrow_mut().insert((ns, n), f);
    S.next_event.set(S.next_event.get().min(ns));
}

extern "C" fn cpu_entry() -> ! {
    let start = S.start.get().expect("a processor starts without an entry");
    start(CpuId::new_unchecked(cpu::cpu_id()))
}

/// Starts a processor that is off, on the boot stack that it had before if it had one. False if it is on, or without a stack.
pub fn start_cpu(cpu: u32, entry: fn(CpuId) -> !) -> bool {
    if cpu::lone() {
        return false;
    }
    S.start.set(Some(entry));
    let on = power_on(&cpu::all().cpu[cpu as usize]);
    point();
    on
}

fn power_on(c: &Cpu) -> bool {
    if c.power.get() != Power::Off {
        return false;
    }
    if c.boot_stack.get() == 0 {
        let Some(stack) = Stack::new(task::STACK_PAGES) else { return false };
        c.boot_stack.set(stack.top());
        // A boot stack is never given back.
        core::mem::forget(stack);
    }
    c.reset();
    c.context.set(Context::new(c.boot_stack.get(), cpu_entry));
    c.power.set(Power::Running);
    true
}

/// Ends this processor until [`start_cpu`]. `dead` is called when nothing else will be.
pub fn die(dead: impl FnOnce()) -> ! {
    // Whoever sees it dead may start it.
    undisturbed(dead);
    let c = me();
    c.power.set(Power::Off);
    note_progress();
    loop {
        leave_until(|| false);
    }
}

/// Starts the other processors, each on a stack of its own. They run from the next preemption point on.
pub fn start_others(entry: fn(CpuId) -> !) -> usize {
    if cpu::lone() {
        return 0;
    }
    S.start.set(Some(entry));
    let all = cpu::all();
    let mut n = 0;
    for c in &all.cpu[1..all.count.get() as usize] {
        n += usize::from(power_on(c));
    }
    point();
    n
}
