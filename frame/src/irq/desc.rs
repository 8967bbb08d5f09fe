//! Descriptors: one per interrupt number, made when first needed and kept. The way from a vector to the handlers.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};

use super::{LineMode, MAX_IRQS, Message, request::MessageSource, vector, vector::Slot};
use crate::{
    arch,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    cpu::{CpuId, CpuMask, PerCpu},
    sync::{
        LockClass, SpinLockIrq,
        once::Once,
        rcu::{self, Rcu},
    },
};

/// What a handler says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Handled {
    /// The device had not asked: on a shared line, another one did.
    No,
    Yes,
}

/// One driver's part in an interrupt.
pub(super) struct Action {
    pub(super) name: String,
    pub(super) shared: bool,
    pub(super) handler: Box<dyn Fn() -> Handled + Send + Sync>,
}

impl Action {
    fn run(&self, number: u32) -> Handled {
        let watcher = WATCHER.get();
        if let Some(w) = watcher {
            (w.entry)(number, &self.name);
        }
        let answer = (self.handler)();
        if let Some(w) = watcher {
            (w.exit)(number, answer);
        }
        answer
    }
}

/// Where an interrupt comes from.
pub(super) enum Source {
    /// Nobody has it.
    None,
    Line(LineMode),
    Message {
        device: Arc<dyn MessageSource>,
        chip: String,
        index: u32,
        slot: Slot,
        old: Option<Slot>,
    },
}

pub(super) struct State {
    pub(super) source: Source,
    /// Where it may go, and where it goes.
    pub(super) affinity: CpuMask,
    pub(super) cpu: CpuId,
    /// How often it was disabled without being enabled again.
    pub(super) disabled: u32,
}

pub(super) struct Desc {
    pub(super) number: u32,
    pub(super) actions: Rcu<Option<Arc<Vec<Arc<Action>>>>>,
    pub(super) counts: PerCpu<AtomicU64>,
    pub(super) state: SpinLockIrq<State>,
    /// The state says disabled, but the device may not know how to hold a message back.
    pub(super) held: AtomicBool,
    /// A message came while held.
    pub(super) missed: AtomicBool,
    /// Of this many interrupts in the current window, so many were nobody's.
    window: AtomicU32,
    unhandled: AtomicU32,
}

static CLASS: LockClass = LockClass::new("irq_desc");
static DESCS: [Once<Box<Desc>>; MAX_IRQS] = [const { Once::new() }; MAX_IRQS];

/// The descriptor of a number, if it was ever used.
#[inline]
pub(super) fn find(number: u32) -> Option<&'static Desc> {
    DESCS.get(number as usize)?.get().map(|b| &**b)
}

/// The descriptor of a number, made if need be.
pub(super) fn make(number: u32) -> Option<&'static Desc> {
    let slot = DESCS.get(number as usize)?;
    Some(&**slot.call_once(|| {
        Box::new(Desc {
            number,
            actions: Rcu::none(),
            counts: PerCpu::new(|_| AtomicU64::new(0)),
            state: SpinLockIrq::new(
                &CLASS,
                State { source: Source::None, affinity: CpuMask::ALL, cpu: CpuId::BOOT, disabled: 0 },
            ),
            held: AtomicBool::new(false),
            missed: AtomicBool::new(false),
            window: AtomicU32::new(0),
            unhandled: AtomicU32::new(0),
        })
    }))
}

/// All descriptors.
pub(super) fn all() -> impl Iterator<Item = &'static Desc> {
    DESCS.iter().filter_map(|d| d.get().map(|b| &**b))
}

static SPURIOUS: AtomicU64 = AtomicU64::new(0);
static COMPLAINT: Once<fn(u32)> = Once::new();

/// Vectors that led nowhere, on all processors.
pub(super) fn spurious() -> u64 {
    SPURIOUS.load(Ordering::Relaxed)
}

/// Installs what is told, in interrupt context, the number of an interrupt that was masked because nobody cared for it.
pub fn install_complaint(f: fn(u32)) {
    COMPLAINT.call_once(|| f);
}

/// What is told of each handler's run, in interrupt context: for traces. It must be quick.
pub struct Watcher {
    /// A handler begins: the interrupt's number, the name under which the handler was requested.
    pub entry: fn(u32, &str),
    /// It has answered.
    pub exit: fn(u32, Handled),
}

static WATCHER: Once<&'static Watcher> = Once::new();

/// Installs what is told of handlers; the first call decides.
pub fn watch_handlers(w: &'static Watcher) {
    WATCHER.call_once(|| w);
}

/// What a back end calls when a device's vector arrives, between `irq_enter` and `irq_exit`. The back end signals the end of
/// the interrupt afterwards: the handlers have quieted a level-triggered line by then.
pub(crate) fn on_vector(vector: u8) {
    let cpu = arch::cpu_id();
    match vector::number(cpu, vector).and_then(find) {
        Some(d) => d.fire(CpuId::new_unchecked(cpu)),
        None => {
            SPURIOUS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Interrupts of one window, and how many of them may be nobody's: Linux's numbers in `note_interrupt`.
const WINDOW: u32 = 100_000;
const TOLERATED: u32 = 99_900;

impl Desc {
    fn fire(&self, cpu: CpuId) {
        self.counts.of(cpu).fetch_add(1, Ordering::Relaxed);
        if self.held.load(Ordering::SeqCst) {
            self.missed.store(true, Ordering::SeqCst);
            return;
        }
        let section = rcu::read();
        let mut handled = false;
        for a in self.actions.load(&section).into_iter().flatten() {
            handled |= a.run(self.number) == Handled::Yes;
        }
        drop(section);
        self.note(handled);
    }

    /// Finds storms. The counts are those of one line, which interrupts one processor at a time.
    fn note(&self, handled: bool) {
        if !handled {
            self.unhandled.fetch_add(1, Ordering::Relaxed);
        }
        if self.window.fetch_add(1, Ordering::Relaxed) + 1 < WINDOW {
            return;
        }
        self.window.store(0, Ordering::Relaxed);
        if self.unhandled.swap(0, Ordering::Relaxed) > TOLERATED {
            self.disable();
            if let Some(f) = COMPLAINT.get() {
                f(self.number);
            }
        }
    }

    /// Holds it back; nests. Any context.
    pub(super) fn disable(&self) {
        let mut s = self.state.lock();
        s.disabled += 1;
        if s.disabled == 1 {
            self.apply(&s);
        }
    }

    /// Lets it go again.
    pub(super) fn enable(&self) {
        let mut s = self.state.lock();
        s.disabled = s.disabled.checked_sub(1).expect("an interrupt is enabled more often than disabled");
        if s.disabled == 0 {
            self.apply(&s);
            if self.missed.swap(false, Ordering::SeqCst)
                && let Source::Message { slot, .. } = &s.source
            {
                arch::send_vector(slot.cpu.get(), slot.vector);
            }
        }
    }

    /// Makes the hardware do what the state says.
    pub(super) fn apply(&self, s: &State) {
        match &s.source {
            Source::None => {}
            Source::Line(mode) => {
                // A number below the count of lines, as `request_line` checked.
                let _ = arch::route_line(self.number, s.cpu.get(), *mode, s.disabled != 0);
            }
            Source::Message { device, slot, .. } => {
                let on = s.disabled == 0;
                self.held.store(!on, Ordering::SeqCst);
                let m: Message = arch::message(slot.cpu.get(), slot.vector);
                device.set(on.then_some(m));
            }
        }
    }
}
