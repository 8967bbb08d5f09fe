//! Kernel threads, as their users see them: create, run, stop, park, bind.
//!
//! ```text
//!   creator                     kthreadd (PID 2)               the thread
//!   request onto the list ────► takes it off, makes the task
//!   waits (killable)      ◄──── reports                         not yet started, shown as D
//!   run() ────────────────────────────────────────────────────► f(&Kthread)
//!   stop(): STOP, wake ───────────────────────────────────────► its wait returns Stop; f returns a number
//!   waits, gets the number ◄─────────────────────────────────── exits
//! ```
//! A thread has one way to wait, [`Kthread::wait`], which says *why* it returned; the caller must match all the
//! reasons, so no thread can forget that it may be asked to stop or park.
//!
//! No request is lost: the flag is set, then the thread is woken; the thread announces its sleep, then looks at the
//! flags. That holds in whatever state it sleeps.
//!
//! | | runs | waits | parked | not started | ended |
//! |---|---|---|---|---|---|
//! | stop | seen at its next wait | woken | woken, sees stop | started, ends with −EINTR without running | gives the number |
//! | park | at its next wait | woken, parks | at once | parks before its function runs, once started | ESRCH |
//! | unpark | clears the request | clears | woken | clears | nothing |

use alloc::{boxed::Box, string::String, sync::Arc};

use base::{Errno, Result};
use frame::{
    atomic::{AtomicU32, Ordering},
    cpu::{CpuId, CpuMask},
    sync::{LockClass, SpinLock, WaitQueue, once::Once},
    task::{self, State},
};

pub use crate::smpboot::{PerCpuThread, PerCpuThreads};
use crate::{
    figures::{self, Reason},
    kthreadd,
    thread::{TaskRef, thread},
    time, trace,
};

pub(crate) const STOP: u32 = 1;
const PARK: u32 = 2;
const PARKED: u32 = 4;
const FREEZE: u32 = 8;
const FROZEN: u32 = 16;
const EXITED: u32 = 32;
/// It takes part in a freeze of the whole system.
const FREEZABLE: u32 = 64;

/// What creator and thread share.
pub(crate) struct Control {
    flags: AtomicU32,
    result: Once<i32>,
    /// Those who wait for `PARKED`, `FROZEN` or `EXITED`.
    changed: WaitQueue,
    /// A bound thread stays where it is: user space may not change its affinity.
    pub(crate) bound: AtomicU32,
}

impl Control {
    pub(crate) fn new() -> Control {
        Control {
            flags: AtomicU32::new(0),
            result: Once::new(),
            changed: WaitQueue::new(),
            bound: AtomicU32::new(0),
        }
    }
    fn flags(&self) -> u32 {
        self.flags.load(Ordering::SeqCst)
    }
}

/// Why a wait ended.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the thread may have been asked to stop or park"]
pub enum Wake<T> {
    /// The condition gave this.
    Event(T),
    TimedOut,
    /// Clean up and return.
    Stop,
    /// Leave per-processor state alone and call [`Kthread::park`].
    Park,
    /// Call [`Kthread::freeze`].
    Freeze,
}

impl<T> Wake<T> {
    fn reason(&self) -> Reason {
        match self {
            Wake::Event(_) => Reason::Event,
            Wake::TimedOut => Reason::TimedOut,
            Wake::Stop => Reason::Stop,
            Wake::Park => Reason::Park,
            Wake::Freeze => Reason::Freeze,
        }
    }
}

/// The thread's own view of itself: what its function is given.
pub struct Kthread {
    control: Arc<Control>,
}

impl Kthread {
    pub fn should_stop(&self) -> bool {
        self.control.flags() & STOP != 0
    }
    pub fn should_park(&self) -> bool {
        self.control.flags() & PARK != 0
    }
    /// The thread stands still, from now on, when the system is frozen for a suspend: its waits end with [`Wake::Freeze`].
    pub fn set_freezable(&self) {
        self.control.flags.fetch_or(FREEZABLE, Ordering::SeqCst);
        if crate::freezer::freezing_kernel() {
            self.control.flags.fetch_or(FREEZE, Ordering::SeqCst);
        }
    }
    /// A request other than an event, if there is one.
    fn request<T>(&self) -> Option<Wake<T>> {
        let f = self.control.flags();
        if f & STOP != 0 {
            Some(Wake::Stop)
        } else if f & PARK != 0 {
            Some(Wake::Park)
        } else if f & FREEZE != 0 {
            Some(Wake::Freeze)
        } else {
            None
        }
    }
    /// Waits until `cond` gives something, the time-out (nanoseconds from now) passes, or the thread is asked for
    /// something else, which comes first. Shown as `S`.
    pub fn wait<T>(
        &self,
        q: &WaitQueue,
        cond: impl FnMut() -> Option<T>,
        timeout_ns: Option<u64>,
    ) -> Wake<T> {
        self.wait_as(State::INTERRUPTIBLE, q, cond, timeout_ns)
    }
    /// The same, shown as `I`: for threads that mostly wait for work.
    pub fn wait_idle<T>(
        &self,
        q: &WaitQueue,
        cond: impl FnMut() -> Option<T>,
        timeout_ns: Option<u64>,
    ) -> Wake<T> {
        self.wait_as(State::IDLE, q, cond, timeout_ns)
    }
    fn wait_as<T>(
        &self,
        state: State,
        q: &WaitQueue,
        mut cond: impl FnMut() -> Option<T>,
        timeout_ns: Option<u64>,
    ) -> Wake<T> {
        let deadline = timeout_ns.map(|ns| time::now_ns().saturating_add(ns));
        let r = time::wait_timeout(q, state, deadline, || self.request().or_else(|| cond().map(Wake::Event)));
        let wake = match r {
            Ok(Some(w)) => w,
            Ok(None) => Wake::TimedOut,
            // Kernel threads take no signals; one sent by mistake must neither look like an event nor keep the
            // thread from sleeping.
            Err(_) => {
                task::current().clear_work(task::Work::all());
                self.request().unwrap_or(Wake::TimedOut)
            }
        };
        figures::note(wake.reason());
        wake
    }
    /// Stays parked until it is told to go on, or to stop.
    pub fn park(&self) {
        self.hold(PARK, PARKED, State::PARKED);
    }
    /// Stays frozen until it is thawed, or told to stop.
    pub fn freeze(&self) {
        self.hold(FREEZE, FROZEN, State::FROZEN);
    }
    fn hold(&self, asked: u32, held: u32, state: State) {
        let c = &self.control;
        let me = task::current();
        loop {
            me.set_state(state);
            let f = c.flags();
            if f & asked == 0 || f & STOP != 0 {
                break;
            }
            if f & held == 0 {
                // Telling the asker may itself need the processor: take the announcement back around it.
                me.set_running();
                c.flags.fetch_or(held, Ordering::SeqCst);
                c.changed.wake_all();
                continue;
            }
            task::schedule();
        }
        me.set_running();
        c.flags.fetch_and(!held, Ordering::SeqCst);
        c.changed.wake_all();
    }
}

/// Says what the running thread found when it last woke, in one word without blanks: its card shows it in place of `event`.
pub fn because(why: &'static str) {
    crate::me().activity.because(why);
}

/// A kernel thread, as its creator holds it.
#[derive(Clone)]
pub struct KthreadHandle {
    task: TaskRef,
    control: Arc<Control>,
}

impl KthreadHandle {
    pub(crate) fn new(task: TaskRef, control: Arc<Control>) -> Self {
        KthreadHandle { task, control }
    }
    pub fn task(&self) -> &TaskRef {
        &self.task
    }
    pub fn pid(&self) -> u32 {
        thread(&self.task).pid()
    }
    /// Starts it. False if it was started before.
    pub fn run(&self) -> bool {
        self.task.start()
    }
    /// Wakes it from its wait, to look at its condition again. From any context.
    pub fn wake(&self) -> bool {
        task::wake(&self.task, State::NORMAL)
    }
    /// Keeps it on one processor for good. Before it is started; the processor need not be on line before that.
    pub fn bind(&self, cpu: CpuId) -> Result<()> {
        self.bind_mask(CpuMask::one(cpu))
    }
    /// Keeps it on some processors; user space cannot change it. Before it is started.
    pub fn bind_mask(&self, mask: CpuMask) -> Result<()> {
        self.control.bound.store(1, Ordering::Relaxed);
        crate::attr::set_affinity_unchecked(&self.task, mask)
    }
    pub fn has_exited(&self) -> bool {
        self.control.flags() & EXITED != 0
    }
    fn ask(&self, what: u32) {
        self.control.flags.fetch_or(what, Ordering::SeqCst);
        task::wake(&self.task, State::NORMAL | State::PARKED | State::FROZEN);
    }
    /// Asks it to end, and waits for what its function returns: −EINTR if it never ran.
    pub fn stop(&self) -> i32 {
        base::trace!(trace::sched_kthread_stop {
            comm: trace::comm(thread(&self.task)),
            pid: self.pid() as i32
        });
        self.ask(STOP);
        self.task.start();
        self.control.changed.wait(|| self.has_exited().then_some(()));
        let ret = self.control.result.get().copied().unwrap_or(-Errno::EINTR.code());
        base::trace!(trace::sched_kthread_stop_ret { ret });
        ret
    }
    /// Asks it to park, and waits until it has. ESRCH if it ends instead. A thread cannot wait for itself: it is
    /// only asked.
    pub fn park(&self) -> Result<()> {
        self.ask_and_wait(PARK, PARKED)
    }
    /// Asks it to park, and does not wait.
    pub(crate) fn ask_to_park(&self) {
        self.ask(PARK);
    }
    /// Lets it go on.
    pub fn unpark(&self) {
        self.control.flags.fetch_and(!PARK, Ordering::SeqCst);
        task::wake(&self.task, State::PARKED);
    }
    pub fn is_parked(&self) -> bool {
        self.control.flags() & PARKED != 0
    }
    /// Asks it to freeze, and waits until it has.
    pub fn freeze(&self) -> Result<()> {
        self.ask_and_wait(FREEZE, FROZEN)
    }
    pub fn thaw(&self) {
        self.control.flags.fetch_and(!FREEZE, Ordering::SeqCst);
        task::wake(&self.task, State::FROZEN);
    }
    fn ask_and_wait(&self, what: u32, held: u32) -> Result<()> {
        self.ask(what);
        if core::ptr::eq(&*task::current(), &*self.task) {
            return Ok(());
        }
        let seen = self.control.changed.wait(|| {
            let f = self.control.flags();
            (f & (held | EXITED) != 0 || f & what == 0).then_some(f)
        });
        if seen & EXITED != 0 { Err(Errno::ESRCH) } else { Ok(()) }
    }
}

/// Of a thread that takes part in freezing, what it is asked; `None` of all others.
fn freezable(t: &task::Task) -> Option<&Control> {
    thread(t).control.as_deref().filter(|c| c.flags() & FREEZABLE != 0)
}
/// True if the task, which was asked to freeze, has not yet.
pub(crate) fn refuses(t: &task::Task) -> bool {
    freezable(t).is_some_and(|c| c.flags() & (FROZEN | EXITED) == 0)
}
/// Asks a task to freeze, if it takes part. True if there is nothing to wait for.
pub(crate) fn ask_to_freeze(t: &TaskRef) -> bool {
    if let Some(c) = freezable(t)
        && c.flags.fetch_or(FREEZE, Ordering::SeqCst) & (FROZEN | EXITED) == 0
    {
        task::wake(t, State::NORMAL);
    }
    !refuses(t)
}
/// Takes that back.
pub(crate) fn thaw_task(t: &TaskRef) {
    if let Some(c) = freezable(t) {
        c.flags.fetch_and(!FREEZE, Ordering::SeqCst);
        task::wake(t, State::FROZEN);
    }
}

/// Makes a thread that is not yet started: `kthread_create`. EINTR if a fatal signal came while kthreadd was waited
/// for; then there is no thread. ENOMEM, EAGAIN. Linux's names: `kswapd0`, `jbd2/vda-8`.
pub fn create(name: &str, f: impl FnOnce(&Kthread) -> i32 + Send + 'static) -> Result<KthreadHandle> {
    kthreadd::request(name, Box::new(f))
}

/// Makes and starts a thread: `kthread_run`.
pub fn spawn(name: &str, f: impl FnOnce(&Kthread) -> i32 + Send + 'static) -> Result<KthreadHandle> {
    let h = create(name, f)?;
    h.run();
    Ok(h)
}

pub(crate) type Body = Box<dyn FnOnce(&Kthread) -> i32 + Send>;

/// What every kernel thread runs: its function, between the requests that came before and the report after.
pub(crate) fn main(control: Arc<Control>, body: Body) {
    let k = Kthread { control };
    if k.should_park() {
        k.park();
    }
    let code = if k.should_stop() { -Errno::EINTR.code() } else { body(&k) };
    exit(&k.control, code);
}

fn exit(c: &Control, code: i32) {
    let me = crate::me();
    base::trace!(trace::sched_process_exit { comm: trace::comm(&me), pid: me.pid() as i32, prio: me.prio() });
    base::trace!(trace::sched_process_free { comm: trace::comm(&me), pid: me.pid() as i32, prio: me.prio() });
    figures::ended(&me);
    c.result.call_once(|| code);
    c.flags.fetch_or(EXITED, Ordering::SeqCst);
    c.changed.wake_all();
}

pub(crate) static REQUESTS_CLASS: LockClass = LockClass::new("kthread_create_list");

/// A request on kthreadd's list.
pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) state: SpinLock<RequestState>,
    pub(crate) answered: WaitQueue,
}

pub(crate) enum RequestState {
    Waiting(Body),
    /// kthreadd makes the thread now.
    Taken,
    Done(Result<KthreadHandle>),
    /// The creator has gone.
    Abandoned,
}
