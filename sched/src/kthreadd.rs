//! # kthreadd (PID 2)
//! * **What for**: makes every other kernel thread, so that each starts from the same clean state (no address
//!   space, nice 0, all processors, no signals, parent 2) whoever asked for it, and asking is possible where making
//!   is not.
//! * **Woken by**: [`crate::kthread::create`], through the request list.
//! * **Never**: ends, waits for a thread that it made, or runs anything but the making.
//! * **Shows as**: `[kthreadd]`, PPID 0; its voluntary switches count the requests that found it asleep.
//! * **Documented**: Linux `kernel/kthread.c`.
//!
//! The list is first in, first out. A creator that a fatal signal hits while its request waits takes the request's
//! body back, and kthreadd passes over it; if kthreadd has begun, the creator waits for the answer and stops the
//! thread. So no thread is left without an owner.

use alloc::{boxed::Box, collections::VecDeque, string::String, sync::Arc};

use base::{Errno, Result, daemon::Card};
use frame::{
    atomic::{AtomicU64, Ordering},
    cpu::CpuMask,
    sync::{SpinLock, WaitQueue, once::Once},
    task::Task,
};

use crate::{
    figures::{self, Reason},
    kthread::{self, Body, Control, KthreadHandle, REQUESTS_CLASS, Request, RequestState},
    pid::{self, PidReservation},
    policy::Policy,
    thread::{Kind, Make, TaskRef},
    trace,
};

pub(crate) static CARD: Card = Card {
    name: "kthreadd",
    purpose: "makes every other kernel thread from a list of requests",
    woken_by: "whoever creates a kernel thread",
    never: "ends, waits for a thread that it made, or does other work",
    documented: "Linux kernel/kthread.c",
};

static LIST: SpinLock<VecDeque<Arc<Request>>> = SpinLock::new(&REQUESTS_CLASS, VecDeque::new());
static WAITING: WaitQueue = WaitQueue::new();
static TASK: Once<TaskRef> = Once::new();

/// Requests that wait now.
pub fn pending() -> usize {
    LIST.lock().len()
}

static MADE: AtomicU64 = AtomicU64::new(0);

/// Threads made so far.
pub fn made() -> u64 {
    MADE.load(Ordering::Relaxed)
}

/// kthreadd's task.
pub fn task() -> Option<&'static TaskRef> {
    TASK.get()
}

/// Puts a request on the list and waits for the thread.
pub(crate) fn request(name: &str, body: Body) -> Result<KthreadHandle> {
    frame::context::might_sleep();
    let mut owned = String::new();
    owned.try_reserve_exact(name.len())?;
    owned.push_str(name);
    let r = frame::heap::try_arc(Request {
        name: owned,
        state: SpinLock::new(&REQUEST_CLASS, RequestState::Waiting(body)),
        answered: WaitQueue::new(),
    })
    .ok_or(Errno::ENOMEM)?;
    {
        let mut l = LIST.lock();
        l.try_reserve(1)?;
        l.push_back(r.clone());
    }
    WAITING.wake_one();
    let take = || {
        let mut s = r.state.lock();
        match &*s {
            RequestState::Done(_) => match core::mem::replace(&mut *s, RequestState::Taken) {
                RequestState::Done(x) => Some(x),
                _ => None,
            },
            _ => None,
        }
    };
    if let Ok(x) = r.answered.wait_killable(take) {
        return x;
    }
    let taken_back = {
        let mut s = r.state.lock();
        match *s {
            RequestState::Waiting(_) => Some(core::mem::replace(&mut *s, RequestState::Abandoned)),
            _ => None,
        }
    };
    if taken_back.is_none() {
        // It is being made, or was made this moment: it must not stay behind.
        if let Ok(h) = r.answered.wait(take) {
            h.stop();
        }
    }
    Err(Errno::EINTR)
}

static REQUEST_CLASS: frame::sync::LockClass = frame::sync::LockClass::new("kthread_request");

/// The loop.
fn run() {
    loop {
        let r = WAITING.wait_as(frame::task::State::INTERRUPTIBLE, || LIST.lock().pop_front());
        figures::note(Reason::Event);
        kthread::because("request");
        match r {
            Ok(r) => serve(&r),
            // A signal does not concern it, and must not keep it from sleeping.
            Err(_) => frame::task::current().clear_work(frame::task::Work::all()),
        }
    }
}

fn serve(r: &Request) {
    let body = {
        let mut s = r.state.lock();
        match core::mem::replace(&mut *s, RequestState::Taken) {
            RequestState::Waiting(b) => b,
            other => {
                *s = other;
                return;
            }
        }
    };
    let made = pid::reserve().and_then(|p| make(&r.name, p, body));
    MADE.fetch_add(u64::from(made.is_ok()), Ordering::Relaxed);
    *r.state.lock() = RequestState::Done(made);
    r.answered.wake_all();
}

/// Makes a kernel thread's task, registered and not yet started.
fn make(name: &str, p: PidReservation, body: Body) -> Result<KthreadHandle> {
    let control = frame::heap::try_arc(Control::new()).ok_or(Errno::ENOMEM)?;
    let c = control.clone();
    let t = make_task(name, p, Some(control.clone()), Box::new(move || kthread::main(c, body)))?;
    note_fork(&t);
    Ok(KthreadHandle::new(t, control))
}

/// A thread was made: for the trace. On Linux it has its maker's name until it first runs.
fn note_fork(t: &TaskRef) {
    /// `CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_UNTRACED`: what a kernel thread shares with its maker.
    const FLAGS: u64 = 0x80_0700;
    let (me, child) = (crate::me(), crate::thread(t).pid() as i32);
    base::trace!(trace::task_newtask {
        pid: child,
        comm: trace::comm(&me),
        clone_flags: FLAGS,
        oom_score_adj: 0
    });
    base::trace!(trace::sched_process_fork {
        parent_comm: trace::comm(&me),
        parent_pid: me.pid() as i32,
        child_comm: trace::comm(&me),
        child_pid: child,
    });
}

pub(crate) fn make_task(
    name: &str,
    p: PidReservation,
    control: Option<Arc<Control>>,
    entry: Box<dyn FnOnce() + Send>,
) -> Result<TaskRef> {
    let ext = Make {
        pid: p.number(),
        tgid: p.number(),
        comm: name.as_bytes(),
        kind: Kind::Kernel,
        policy: Policy::Other,
        nice: 0,
        affinity: CpuMask::ALL,
        control,
    }
    .ext()?;
    let t = Task::new(entry, ext).ok_or(Errno::ENOMEM)?;
    p.attach(&t);
    Ok(t)
}

/// Makes and starts kthreadd itself, the one kernel thread that nobody asked it for.
pub(crate) fn start() -> Result<()> {
    let t = make_task("kthreadd", pid::reserve_exactly(pid::KTHREADD)?, None, Box::new(run))?;
    TASK.call_once(|| t.clone());
    t.start();
    Ok(())
}
