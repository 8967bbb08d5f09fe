//! What drivers call: requests of lines and messages, and the handle that they hold.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};

use super::{
    MAX_IRQS, MAX_LINES, Message, affinity,
    desc::{self, Action, Desc, Handled, Source},
    vector,
};
use crate::{
    arch,
    atomic::Ordering,
    cpu::CpuMask,
    sync::{LockClass, SpinLockIrq, once::Once, rcu},
};

/// Why an interrupt cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqError {
    /// No I/O APIC has this line; or the number does not exist.
    NoSuchLine,
    /// Another driver has the line and one of the two does not share.
    Busy,
    /// No vector is free on any processor of the mask, no number, or no memory.
    Exhausted,
    /// The mask has no processor that is online.
    NoCpu,
}

/// Whether a driver bears with others on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    Exclusive,
    Shared,
}

/// The device's side of a message: an MSI-X table entry, or an MSI capability.
pub trait MessageSource: Send + Sync {
    /// From now on the device writes `m`, or nothing. Called with interrupts off and a spin lock held. A device that cannot hold
    /// a message back may go on writing: what arrives is remembered and handled later.
    fn set(&self, m: Option<Message>);
}

static CLASS: LockClass = LockClass::new("irq_numbers");
/// Held while handlers are added or removed and numbers are given out.
static NUMBERS: SpinLockIrq<()> = SpinLockIrq::new(&CLASS, ());

/// A requested interrupt. Dropping it, which must happen where sleeping is allowed, takes the handler away; when that returns,
/// the handler does not run any more.
#[must_use = "dropping it gives the interrupt back"]
pub struct Irq {
    desc: &'static Desc,
    action: Arc<Action>,
}

/// What is told that an interrupt got its first handler, or lost its last one.
pub type Listener = fn(number: u32, has_handlers: bool);
static LISTENER: Once<Listener> = Once::new();

/// Installs what is told, in task context, of interrupts that come and go; the first call decides. Those that are there already it
/// finds in [`super::list`].
pub fn listen(f: Listener) {
    LISTENER.call_once(|| f);
}
fn tell(number: u32, has_handlers: bool) {
    if let Some(f) = LISTENER.get() {
        f(number, has_handlers);
    }
}

/// How many lines the I/O APICs have together.
pub fn line_count() -> u32 {
    arch::line_count()
}

/// The line at which an ISA interrupt (0 to 15) arrives: mostly the one of that number.
pub fn isa_line(irq: u32) -> u32 {
    arch::isa_line(irq)
}

/// Connects `handler` (run in hardware-interrupt context) to a line for good, not shared, and unmasks it.
pub fn request(line: u32, handler: impl Fn() + Send + Sync + 'static) -> Result<(), IrqError> {
    let handler = move || {
        handler();
        Handled::Yes
    };
    request_line(line, "", Share::Exclusive, handler).map(core::mem::forget)
}

/// Connects `handler` (run in hardware-interrupt context) to a line, and unmasks it. How the line signals is the firmware's word.
pub fn request_line(
    line: u32,
    name: &str,
    share: Share,
    handler: impl Fn() -> Handled + Send + Sync + 'static,
) -> Result<Irq, IrqError> {
    if line as usize >= MAX_LINES || line >= arch::line_count() {
        return Err(IrqError::NoSuchLine);
    }
    let desc = desc::make(line).ok_or(IrqError::NoSuchLine)?;
    let action = new_action(name, share, Box::new(handler));
    let held = NUMBERS.lock();
    let others = desc.actions.get();
    if others.iter().flat_map(|v| v.iter()).any(|a| !a.shared || !action.shared) {
        return Err(IrqError::Busy);
    }
    set_actions(desc, others.as_deref().map_or(&[], |v| v), Some(&action));
    if others.is_none() {
        let mut s = desc.state.lock();
        s.source = Source::Line(arch::line_mode(line));
        s.disabled = 0;
        s.affinity = affinity::default_affinity();
        s.cpu = affinity::choose(s.affinity).ok_or(IrqError::NoCpu)?;
        desc.apply(&s);
    }
    drop(held);
    if others.is_none() {
        tell(line, true);
    }
    Ok(Irq { desc, action })
}

/// Gives a message of `device` a number and a vector on a processor of `cpus` (all: the default), and connects `handler`. `chip` and `index` are
/// for show: `PCI-MSIX-0000:00:03.0` and which of the device's messages it is.
pub fn request_message(
    chip: &str,
    index: u32,
    name: &str,
    cpus: CpuMask,
    device: Arc<dyn MessageSource>,
    handler: impl Fn() -> Handled + Send + Sync + 'static,
) -> Result<Irq, IrqError> {
    let chip = String::from(chip);
    let action = new_action(name, Share::Exclusive, Box::new(handler));
    let held = NUMBERS.lock();
    let first = arch::line_count().max(16);
    let number = (first..MAX_IRQS as u32).find(|&n| desc::find(n).is_none_or(Desc::is_free));
    let desc = number.and_then(desc::make).ok_or(IrqError::Exhausted)?;
    let online = crate::cpu::online();
    let cpus = if cpus == CpuMask::ALL { affinity::default_affinity() } else { cpus };
    let wanted = if cpus.and(online).is_empty() { online } else { cpus.and(online) };
    let slot = vector::allocate(desc.number, wanted).ok_or(IrqError::Exhausted)?;
    for (_, c) in desc.counts.iter() {
        c.store(0, Ordering::Relaxed);
    }
    set_actions(desc, &[], Some(&action));
    let mut s = desc.state.lock();
    s.source = Source::Message { device, chip, index, slot, old: None };
    s.affinity = cpus;
    s.cpu = slot.cpu;
    s.disabled = 0;
    desc.missed.store(false, Ordering::Relaxed);
    desc.apply(&s);
    drop(s);
    drop(held);
    tell(desc.number, true);
    Ok(Irq { desc, action })
}

fn new_action(name: &str, share: Share, handler: Box<dyn Fn() -> Handled + Send + Sync>) -> Arc<Action> {
    Arc::new(Action { name: name.into(), shared: share == Share::Shared, handler })
}

/// Publishes the handlers: those of `old`, and `more`.
fn set_actions(desc: &Desc, old: &[Arc<Action>], more: Option<&Arc<Action>>) {
    let all: Vec<_> = old.iter().chain(more).cloned().collect();
    desc.actions.replace((!all.is_empty()).then(|| Arc::new(all)));
}

impl Desc {
    fn is_free(&self) -> bool {
        matches!(self.state.lock().source, Source::None)
    }
}

impl Irq {
    /// The number, as `/proc/interrupts` and sysfs show it.
    pub fn number(&self) -> u32 {
        self.desc.number
    }
    /// Holds the interrupt back on every processor; nests. A handler may still be running.
    pub fn disable(&self) {
        self.desc.disable();
    }
    /// Takes one [`Irq::disable`] back. What came meanwhile is delivered.
    pub fn enable(&self) {
        self.desc.enable();
    }
    /// How often it fired, on all processors.
    pub fn count(&self) -> u64 {
        super::count(self.number())
    }
    /// Chooses the processors that may serve it.
    pub fn set_affinity(&self, cpus: CpuMask) -> Result<(), IrqError> {
        affinity::set(self.desc, cpus)
    }
}

impl Drop for Irq {
    fn drop(&mut self) {
        let last;
        {
            let _g = NUMBERS.lock();
            let left: Vec<_> = self.desc.actions.get().iter().flat_map(|v| v.iter()).cloned().collect();
            let left: Vec<_> = left.into_iter().filter(|a| !Arc::ptr_eq(a, &self.action)).collect();
            if left.is_empty() {
                let mut s = self.desc.state.lock();
                s.disabled = 1;
                self.desc.apply(&s);
            }
            set_actions(self.desc, &left, None);
            last = left.is_empty();
        }
        if last {
            tell(self.number(), false);
        }
        // Handlers run with preemption off: after this none runs that was there before.
        rcu::synchronize();
        // A message's number stays taken until then, and its affinity may have been changed until now: only here is it known which
        // vectors it has. A line stays what it is, and may have been requested again.
        let gone = {
            let mut s = self.desc.state.lock();
            match &s.source {
                Source::Message { .. } => core::mem::replace(&mut s.source, Source::None),
                Source::Line(_) | Source::None => Source::None,
            }
        };
        if let Source::Message { slot, old, .. } = &gone {
            [Some(*slot), *old].into_iter().flatten().for_each(vector::free);
        }
        // The device is let go outside of the lock.
        drop(gone);
    }
}
