//! `kdevtmpfs`: makes and removes the device nodes in `/dev`.
//!
//! | | |
//! |---|---|
//! | for | a node for every device that the kernel knows, in a devtmpfs, without any helper in user space |
//! | woken by | a device that is registered or unregistered; whoever does so waits until the node is made |
//! | may never | follow a user's mounts or links: it works on a mount of its own; remove a node that a user made |
//! | knobs, counters | `/sys/kernel/nightshift/daemons/kdevtmpfs/requests` |
//! | documented | Linux: `Documentation/admin-guide/devices.rst`, `drivers/base/Kconfig` (DEVTMPFS) |
//!
//! Policy is small and stands in [`perform`]; the loop takes requests from a queue one at a time, so that nodes appear
//! in the order in which devices were registered.

use alloc::{boxed::Box, collections::VecDeque, sync::Arc};

use base::{
    Cred, Errno, Result,
    device::{self, DevKind, Device, Event},
};
use frame::{
    atomic::{AtomicU64, Ordering},
    sync::{Completion, LockClass, SpinLock, WaitQueue},
};
use sched::kthread::{Kthread, Wake};
use vfs::{Ctx, FileType, LookupFlags, types::makedev};

static CARD: base::daemon::Card = base::daemon::Card {
    name: "kdevtmpfs",
    purpose: "makes and removes the device nodes of devtmpfs",
    woken_by: "devices that are registered or unregistered",
    never: "follows a user's mounts or links, or removes a node that a user made",
    documented: "Linux: drivers/base/Kconfig, DEVTMPFS",
};

struct Request {
    event: Event,
    done: Arc<Completion>,
}

static CLASS: LockClass = LockClass::new("kdevtmpfs_requests");
static REQUESTS: SpinLock<VecDeque<Box<Request>>> = SpinLock::new(&CLASS, VecDeque::new());
static ARRIVED: WaitQueue = WaitQueue::new();
static SERVED: AtomicU64 = AtomicU64::new(0);

/// Starts the thread and makes nodes for the devices that are there already.
pub fn init() -> Result<()> {
    sched::kthread::spawn("kdevtmpfs", run)?;
    base::daemon::register(&CARD)?;
    base::daemon::count_work(&CARD, "requests", || SERVED.load(Ordering::Relaxed))?;
    base::tree::sys().file("kernel/nightshift/daemons/kdevtmpfs/requests", 0o444, |o| {
        Ok(writeln!(o, "{}", SERVED.load(Ordering::Relaxed))?)
    })?;
    device::listen(submit).into_iter().for_each(|d| submit(Event::Added(d)));
    Ok(())
}

/// Hands a request over and waits for its end. Task context.
fn submit(event: Event) {
    let done = Arc::new(Completion::new());
    REQUESTS.lock().push_back(Box::new(Request { event, done: done.clone() }));
    ARRIVED.wake_all();
    done.wait();
}

fn run(k: &Kthread) -> i32 {
    loop {
        match k.wait(&ARRIVED, || REQUESTS.lock().pop_front(), None) {
            Wake::Event(r) => {
                sched::kthread::because(match &r.event {
                    Event::Added(_) => "device-added",
                    Event::Removed(_) => "device-removed",
                });
                if let Err(e) = perform(&r.event) {
                    let (what, d) = match &r.event {
                        Event::Added(d) => ("make", d),
                        Event::Removed(d) => ("remove", d),
                    };
                    base::pr_warn!("kdevtmpfs: cannot {what} {}: {e:?}", d.name);
                }
                SERVED.fetch_add(1, Ordering::Relaxed);
                r.done.complete();
            }
            Wake::TimedOut => {}
            Wake::Stop => return 0,
            Wake::Park => k.park(),
            Wake::Freeze => k.freeze(),
        }
    }
}

fn perform(event: &Event) -> Result<()> {
    let root = crate::devtmpfs::root()?;
    let ctx = Ctx { cwd: root.clone(), root, cred: Arc::new(Cred::root()), umask: 0 };
    match event {
        Event::Added(d) => make(&ctx, d),
        Event::Removed(d) => remove(&ctx, d),
    }
}

fn kind_of(d: &Device) -> FileType {
    match d.kind {
        DevKind::Char => FileType::Char,
        DevKind::Block => FileType::Block,
    }
}

/// Makes the node, and the folders on the way to it.
fn make(ctx: &Ctx, d: &Device) -> Result<()> {
    let path = d.name.as_bytes();
    for (i, _) in d.name.match_indices('/') {
        match vfs::mkdir(ctx, None, &path[..i], 0o755) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(e),
        }
    }
    vfs::mknod(ctx, None, path, kind_of(d).bits() | d.mode, makedev(d.num.major, d.num.minor))
}

/// Removes the node if it is still the device's, then folders that became empty.
fn remove(ctx: &Ctx, d: &Device) -> Result<()> {
    let path = d.name.as_bytes();
    let m = vfs::attr::stat(ctx, None, path, LookupFlags::empty())?;
    if m.rdev != makedev(d.num.major, d.num.minor) || m.file_type() != kind_of(d) {
        return Ok(());
    }
    vfs::unlink(ctx, None, path)?;
    for (i, _) in d.name.rmatch_indices('/') {
        if vfs::rmdir(ctx, None, &path[..i]).is_err() {
            break;
        }
    }
    Ok(())
}
