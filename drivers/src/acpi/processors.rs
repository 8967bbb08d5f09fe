//! Processors that come and go while the machine runs.
//!
//! A general-purpose event says that something happened to a slot; a work item on the queue `kacpi_hotplug` looks at the slots and
//! tells `sched`. One that came is down until somebody writes to its `online`; one that shall go is taken down first, and pulled out
//! when it executes nothing any more. The processors that can come are those that the firmware's MADT lists and that are not there
//! at boot.

use alloc::sync::Arc;

use base::{Errno, Result, pr_info, pr_warn};
use frame::{
    cpu::{self, CpuId, MAX_CPUS},
    io::Ports,
    sync::once::Once,
};
use sched::{
    cpuhp,
    workqueue::{Flags, Work, Workqueue},
};

use super::slots::{self, Answer, Event, News, Slots};

/// The event of the processor slots: the firmware's method for it is `\_GPE._E02`.
pub(super) const EVENT: u16 = 2;

struct Hotplug {
    queue: Arc<Workqueue>,
    scan: Arc<Work>,
}

static HOTPLUG: Once<Hotplug> = Once::new();

/// The event has come. Any context.
pub(super) fn notice() {
    if let Some(h) = HOTPLUG.get() {
        h.queue.queue(&h.scan);
    }
}

/// Finds the slots. True if there are some: then their event is to be let through. Needs processors that can come.
pub(super) fn start(dsdt: &[u8]) -> Result<bool> {
    if cpu::present().count() as usize == cpu::possible() {
        return Ok(false);
    }
    let Some(regs) = slots::find(dsdt).and_then(|at| Ports::claim(at, slots::LEN)) else { return Ok(false) };
    let Some(slots) = Slots::open(regs, cpu::hardware_id(CpuId::BOOT)) else { return Ok(false) };
    let queue = Workqueue::new("kacpi_hotplug", Flags::ORDERED, 0)?;
    let scan = Work::new("acpi_hotplug_work_fn", move |_| look(&slots))?;
    HOTPLUG.call_once(|| Hotplug { queue, scan });
    Ok(true)
}

/// Serves all slots with news.
fn look(slots: &Slots<Ports>) {
    // A device that has news for ever is broken.
    for _ in 0..2 * MAX_CPUS {
        let Some(news) = slots.next() else { return };
        serve(slots, news);
    }
    pr_warn!("ACPI: processor slots with news without end");
}

fn serve(slots: &Slots<Ports>, news: News) {
    let known =
        (0..cpu::possible() as u32).filter_map(CpuId::new).find(|c| cpu::hardware_id(*c) == news.apic_id);
    let Some(c) = known else {
        pr_warn!("ACPI: the processor with APIC id {:#x} is not known", news.apic_id);
        return slots.answer(news, Answer::Failed);
    };
    let answer = match news.event {
        Event::Inserted => {
            answer_to(cpuhp::plug(c).inspect(|()| pr_info!("ACPI: CPU{c} has been hot-added")))
        }
        Event::Removal => answer_to(cpuhp::unplug(c)),
    };
    if answer != Answer::Done {
        pr_warn!("ACPI: CPU{c}: {:?} failed", news.event);
    }
    slots.answer(news, answer);
    if answer == Answer::Done && news.event == Event::Removal {
        slots.eject(news.slot);
    }
}

fn answer_to(r: Result<()>) -> Answer {
    match r {
        // Those that were there at boot have their news still.
        Ok(()) | Err(Errno::EEXIST) => Answer::Done,
        Err(Errno::EBUSY) => Answer::Busy,
        Err(_) => Answer::Failed,
    }
}
