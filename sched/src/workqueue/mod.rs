//! Work queues: functions that are called once, later, by threads that all share (concurrency-managed, as Linux's).
//!
//! ```text
//!   queue(work) ─▶ Workqueue ─▶ its place in a pool ─▶ the pool's list ─▶ a worker (kworker/…) ─▶ the function
//!                  flags, limit   over the limit: waits   another worker is called when this one sleeps
//! ```
//! # What is guaranteed
//! * An item is never executed by two workers at once, on whatever processors it is queued (as long as it is queued on one
//!   queue). Queued while it is executed, it is executed once more.
//! * [`Work::flush`] and [`Workqueue::flush`] return when everything queued before has been executed; after
//!   [`Work::cancel_sync`] it is neither pending nor executed.
//! * Of a queue no more than `max_active` items are executed at once (per processor; of an unbound queue in all). An `ORDERED` queue executes one at a time, in order.
//! * Items of a `MEM_RECLAIM` queue are executed even if no thread can be made.
//!
//! | to read about | see |
//! |---|---|
//! | items, delays | [`Work`], [`DelayedWork`] |
//! | queues, flushing, draining | [`Workqueue`] |
//! | what a pool decides | [`plan`] |
//! | workers, and the scheduler's part | `worker` |
//! | making and dismissing them | `manager` |
//! | shortage of memory | `rescuer` |
//! | items that take long | `intensive` |
//! | pools that are stuck | `watchdog` |
//! | unbound pools, and their pods | `attrs`, `scope` |
//! | the limit that the pods of a queue share | `slots` |
//! | processors that come and go, suspend | `hotplug`, `freezer` |

mod attrs;
mod delayed;
#[doc(hidden)]
pub mod fault;
mod freezer;
mod hotplug;
mod intensive;
mod manager;
pub mod plan;
mod pool;
mod pwq;
mod queue;
mod rescuer;
mod scope;
mod slots;
mod sysfs;
mod trace;
mod watchdog;
mod work;
pub(crate) mod worker;

use alloc::sync::Arc;

use base::Result;
use frame::{atomic::Ordering, sync::once::Once};

pub use self::{
    attrs::Attrs,
    delayed::DelayedWork,
    freezer::{freeze_workqueues_begin, freeze_workqueues_busy, thaw_workqueues},
    hotplug::{cpu_offline, cpu_online},
    pool::HIGHPRI_NICE,
    queue::{DFL_ACTIVE, Flags, MAX_ACTIVE, Workqueue},
    scope::Scope,
    watchdog::show_all_workqueues,
    work::{Work, WorkFn},
};

/// The queues that everybody may use.
struct System {
    events: Arc<Workqueue>,
    highpri: Arc<Workqueue>,
    long: Arc<Workqueue>,
    unbound: Arc<Workqueue>,
    freezable: Arc<Workqueue>,
    power_efficient: Arc<Workqueue>,
    freezable_power_efficient: Arc<Workqueue>,
    mm_percpu: Arc<Workqueue>,
}

static SYSTEM: Once<System> = Once::new();

fn system() -> &'static System {
    SYSTEM.get().expect("work queues are started early")
}

/// For short items, on the processor that queues them.
pub fn events() -> &'static Arc<Workqueue> {
    &system().events
}
/// The same, with nice −20.
pub fn events_highpri() -> &'static Arc<Workqueue> {
    &system().highpri
}
/// For items that may take a while.
pub fn events_long() -> &'static Arc<Workqueue> {
    &system().long
}
/// For items that need no particular processor.
pub fn events_unbound() -> &'static Arc<Workqueue> {
    &system().unbound
}
/// For items that must not be executed during a suspend.
pub fn events_freezable() -> &'static Arc<Workqueue> {
    &system().freezable
}
/// Unbound if `workqueue.power_efficient` is set, so that a processor need not wake for them.
pub fn events_power_efficient() -> &'static Arc<Workqueue> {
    &system().power_efficient
}
/// Both.
pub fn events_freezable_power_efficient() -> &'static Arc<Workqueue> {
    &system().freezable_power_efficient
}
/// For what the memory manager keeps per processor. It has a rescuer.
pub fn mm_percpu_wq() -> &'static Arc<Workqueue> {
    &system().mm_percpu
}
/// Queues an item on [`events`].
pub fn schedule_work(w: &Arc<Work>) -> bool {
    events().queue(w)
}
/// Queues an item on [`events`] after a delay.
pub fn schedule_delayed_work(d: &Arc<DelayedWork>, ns: u64) -> bool {
    events().queue_delayed(d, ns)
}
/// True once the queues that everybody may use are there.
pub fn is_ready() -> bool {
    SYSTEM.get().is_some()
}

/// What the items of the queue of that name did, for its card.
pub(crate) fn figures(name: &str) -> Option<base::daemon::Row> {
    let mut found = None;
    queue::for_each(|q| {
        if q.name() == name {
            found = Some(q.core.items.row());
        }
    });
    found
}

/// The boot parameter `workqueue.power_efficient`.
fn power_efficient() -> bool {
    let p = base::params::params();
    p.flag("workqueue.power_efficient")
        && !matches!(p.get("workqueue.power_efficient"), Some("0" | "n" | "N" | "off"))
}

fn read_parameters() {
    let p = base::params::params();
    if let Some(n) = p.get("workqueue.cpu_intensive_thresh_us").and_then(|v| v.parse().ok()) {
        intensive::THRESH_US.store(n, Ordering::Relaxed);
    }
    if let Some(n) = p.get("workqueue.cpu_intensive_warning_thresh").and_then(|v| v.parse().ok()) {
        intensive::WARNING_THRESH.store(n, Ordering::Relaxed);
    }
    if let Some(s) = p.get("workqueue.default_affinity_scope")
        && Scope::parse(s.as_bytes()).and_then(Scope::set_default).is_err()
    {
        base::pr_warn!("workqueue: default_affinity_scope={s} is no scope");
    }
    if let Some(n) = p.get("workqueue.watchdog_thresh").and_then(|v| v.parse().ok()) {
        watchdog::set_thresh(n);
    }
}

/// Makes the pools, a worker for each, and the queues that everybody may use. Needs kernel threads, and all processors that
/// are there at boot.
pub(crate) fn start() -> Result<()> {
    read_parameters();
    trace::init();
    pool::init()?;
    attrs::init()?;
    for c in frame::cpu::online().iter() {
        cpu_online(c)?;
    }
    let pe = Flags::POWER_EFFICIENT;
    let s = System {
        events: Workqueue::new("events", Flags::empty(), 0)?,
        highpri: Workqueue::new("events_highpri", Flags::HIGHPRI, 0)?,
        long: Workqueue::new("events_long", Flags::empty(), 0)?,
        unbound: Workqueue::new("events_unbound", Flags::UNBOUND, MAX_ACTIVE)?,
        freezable: Workqueue::new("events_freezable", Flags::FREEZABLE, 0)?,
        power_efficient: Workqueue::new("events_power_efficient", pe, 0)?,
        freezable_power_efficient: Workqueue::new(
            "events_freezable_pwr_efficient",
            pe | Flags::FREEZABLE,
            0,
        )?,
        mm_percpu: Workqueue::new("mm_percpu_wq", Flags::MEM_RECLAIM, 0)?,
    };
    SYSTEM.call_once(|| s);
    sysfs::init()?;
    watchdog::init()?;
    base::daemon::register(&worker::CARD)?;
    base::daemon::register(&rescuer::CARD)?;
    base::daemon::count_work(&worker::CARD, "items executed", || worker::ITEMS.get())?;
    base::daemon::count_work(&rescuer::CARD, "items rescued", || rescuer::RESCUED.load(Ordering::Relaxed))
}
