//! `kapmd`: power-management events, from the hardware to programs.
//!
//! | | |
//! |---|---|
//! | for | turning an event of the power hardware, noted in an interrupt, into what programs see |
//! | woken by | the ACPI interrupt (SCI); and once a second, to look at the machine's power as the APM daemon did |
//! | may never | lose a press: they are counted in the interrupt, and reported one by one |
//! | knobs, counters | `/sys/kernel/nightshift/daemons/kapmd/{interrupts,presses,polls}` |
//! | documented | Linux 2.x: apm(4) and the APM BIOS driver; ACPI Specification 6.5, 4.8.2.2 |
//!
//! On 32-bit Linux a thread of this name served the APM BIOS. There is no APM here: the same work is done over ACPI. Policy is one
//! subtraction ([`unreported`]); the loop reports.

use alloc::sync::Arc;

use base::{Result, tree};
use frame::{
    atomic::{AtomicU64, Ordering},
    sync::WaitQueue,
};
use sched::kthread::{self, Kthread, Wake};

use super::{PRESSES, SCI_COUNT, button::Button};

static CARD: base::daemon::Card = base::daemon::Card {
    name: "kapmd",
    purpose: "reports events of the power hardware, such as the power button, to programs",
    woken_by: "the ACPI interrupt, and once a second",
    never: "loses a press of the button",
    documented: "Linux 2.x: the APM BIOS driver; ACPI Specification 6.5, chapter 4.8",
};

/// `APM_CHECK_TIMEOUT`: one second.
const CHECK_NS: u64 = 1_000_000_000;

static EVENTS: WaitQueue = WaitQueue::new();
static REPORTED: AtomicU64 = AtomicU64::new(0);
static POLLS: AtomicU64 = AtomicU64::new(0);

/// There may be something to report. Any context.
pub(super) fn wake() {
    EVENTS.wake_all();
}

/// Starts the thread.
pub(super) fn start(button: Option<Arc<Button>>) -> Result<()> {
    kthread::spawn("kapmd", move |k| run(k, button.as_deref()))?;
    base::daemon::register(&CARD)?;
    base::daemon::count_work(&CARD, "presses reported", || REPORTED.load(Ordering::Relaxed))?;
    for (name, c) in [("interrupts", &SCI_COUNT), ("presses", &PRESSES), ("polls", &POLLS)] {
        tree::sys().file(&alloc::format!("kernel/nightshift/daemons/kapmd/{name}"), 0o444, |o| {
            Ok(writeln!(o, "{}", c.load(Ordering::Relaxed))?)
        })?;
    }
    Ok(())
}

/// Presses that were counted and not reported yet.
fn unreported(counted: u64, reported: u64) -> Option<u64> {
    counted.checked_sub(reported).filter(|&n| n != 0)
}

fn run(k: &Kthread, button: Option<&Button>) -> i32 {
    let mut reported = 0;
    loop {
        match k.wait(&EVENTS, || unreported(PRESSES.load(Ordering::Acquire), reported), Some(CHECK_NS)) {
            Wake::Event(n) => {
                kthread::because("button");
                for _ in 0..n {
                    if let Some(b) = button {
                        b.press();
                    }
                }
                reported += n;
                REPORTED.store(reported, Ordering::Relaxed);
            }
            Wake::TimedOut => {
                POLLS.fetch_add(1, Ordering::Relaxed);
            }
            Wake::Stop => return 0,
            Wake::Park => k.park(),
            Wake::Freeze => k.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::unreported;

    #[test]
    fn each_press_is_reported_once() {
        assert_eq!((unreported(0, 0), unreported(3, 1), unreported(3, 3)), (None, Some(2), None));
    }
}
