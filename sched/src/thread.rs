//! The scheduler's part of a task: identity, policy, times, and the place where rooms above keep theirs.
//!
//! A [`TaskRef`] is frame's task; [`thread`] gives what this room knows of it. What changes with the run queue
//! (virtual time, policy, affinity) is in the task's [`Entity`](crate::runqueue::Entity), a box that is owned by
//! exactly one of: the task's `home` slot (asleep), a run queue (running or waiting). The atomics here are copies,
//! for readers.

use alloc::{boxed::Box, string::String, sync::Arc};
use core::{any::Any, fmt};

use base::{Errno, Result};
use frame::{
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    containers::Typed,
    cpu::CpuMask,
    sync::{LockClass, SpinLock, SpinLockIrq, once::Once},
    task::{Current, State, Task},
};

use crate::{
    fair,
    figures::Activity,
    khungtaskd,
    kthread::Control,
    pid,
    pid::PidReservation,
    policy::Policy,
    runqueue::{Ent, Entity},
    timer::SleepTimer,
    tree::Node,
    workqueue::worker::Worker,
};

/// A counted reference to a task: what everything that keeps one holds.
pub type TaskRef = Arc<Task>;

/// The payload of a run-queue entity.
pub(crate) struct Payload {
    /// Set while the task waits on a queue; the running task is kept alive by its processor.
    pub(crate) task: Option<TaskRef>,
    pub(crate) thread: Arc<Thread>,
    /// The state it slept in counts as load.
    pub(crate) counted_load: bool,
    /// It sleeps for I/O.
    pub(crate) counted_iowait: bool,
}

/// What frame keeps with the task for us.
pub(crate) struct Ext {
    pub(crate) thread: Arc<Thread>,
    /// Home of the entity while the task is on no run queue. A leaf lock: nothing is taken under it.
    pub(crate) home: SpinLock<Option<Ent<Payload>>>,
    pub(crate) sleep: SleepTimer,
}

static HOME: LockClass = LockClass::new("task_entity_home");
static COMM: LockClass = LockClass::new("task_comm");

/// A task's name: up to 15 bytes as `comm`, up to 63 for kernel threads where Linux shows more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Comm {
    len: u8,
    bytes: [u8; 63],
}

impl Comm {
    const COMM_MAX: usize = 15;
    fn new(b: &[u8], max: usize) -> Comm {
        let end = b.iter().position(|&c| c == 0).unwrap_or(b.len()).min(max).min(63);
        let mut bytes = [0; 63];
        bytes[..end].copy_from_slice(&b[..end]);
        Comm { len: end as u8, bytes }
    }
    /// The whole name.
    pub fn full(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
    /// At most 15 bytes: `comm` of Linux.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..(self.len as usize).min(Self::COMM_MAX)]
    }
}

impl fmt::Write for Comm {
    /// Appends; what does not fit is cut.
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let at = self.len as usize;
        let n = s.len().min(self.bytes.len() - at);
        self.bytes[at..at + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len = (at + n) as u8;
        Ok(())
    }
}

impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.as_bytes().utf8_chunks() {
            f.write_str(c.valid())?;
            if !c.invalid().is_empty() {
                f.write_str("?")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Times of a task, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Times {
    pub user_ns: u64,
    pub system_ns: u64,
    /// When it was made, since boot.
    pub start_ns: u64,
}

/// Identity and accounting of a task.
pub struct Thread {
    pid: AtomicU32,
    tgid: AtomicU32,
    comm: SpinLockIrq<Comm>,
    kind: Kind,
    /// [`Policy::pack`]ed copy.
    policy: AtomicU32,
    affinity: AtomicU64,
    /// Where it is put when it wakes, if it may and can be there.
    preferred: AtomicU64,
    pub(crate) start_ns: u64,
    pub(crate) user_ns: AtomicU64,
    pub(crate) system_ns: AtomicU64,
    /// Since when the running time is not yet in `user_ns` or `system_ns`. Only the processor that runs the task
    /// writes it.
    pub(crate) mark_ns: AtomicU64,
    /// The processor that runs it, plus one; 0 while none does. Changed under that processor's queue lock.
    pub(crate) runs_on: AtomicU32,
    /// It sleeps for I/O, when it sleeps.
    pub(crate) iowait: AtomicBool,
    /// [`crate::yield_now`] was called.
    pub(crate) yielding: AtomicBool,
    /// What its processor does while it runs counts as idle: always for swapper, for `idle_inject` while it injects.
    /// Changed by the task itself, under its processor's queue lock.
    pub(crate) resting: AtomicBool,
    /// Counts as frozen: see [`crate::freezer::while_frozen_is_fine`].
    pub(crate) freezer_skip: AtomicBool,
    /// It is the one that freezes the others.
    pub(crate) freezer_exempt: AtomicBool,
    /// What `khungtaskd` saw last.
    pub(crate) hung: khungtaskd::Mark,
    payload: Once<Typed>,
    pub(crate) activity: Activity,
    /// What it is to the work queues, if it executes their items.
    worker: crate::workqueue::worker::Slot,
    pub(crate) control: Option<Arc<Control>>,
}

/// What a task is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Idle,
    Kernel,
    User,
}

/// What this room knows of a task.
#[inline]
pub fn thread(t: &Task) -> &Thread {
    &t.ext::<Ext>().thread
}

/// The running task.
#[inline]
pub fn current() -> Current {
    frame::task::current()
}

/// What the scheduler keeps with the running task; see [`Me`].
pub struct Me(Current);

impl core::ops::Deref for Me {
    type Target = Thread;
    #[inline]
    fn deref(&self) -> &Thread {
        thread(&self.0)
    }
}

/// The running task's [`Thread`].
#[inline]
pub fn me() -> Me {
    Me(current())
}

impl Thread {
    /// Its own number: `gettid`. 0 for idle tasks.
    #[inline]
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }
    pub(crate) fn set_pid(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }
    /// Its thread group's number: `getpid`.
    #[inline]
    pub fn tgid(&self) -> u32 {
        self.tgid.load(Ordering::Relaxed)
    }
    pub fn comm(&self) -> Comm {
        *self.comm.lock()
    }
    /// Sets the name, cut to 15 bytes (63 for kernel threads).
    pub fn set_comm(&self, name: &str) {
        self.set_comm_bytes(name.as_bytes());
    }
    /// As [`Self::set_comm`], for names that user space chose; ends at the first NUL.
    pub fn set_comm_bytes(&self, name: &[u8]) {
        let max = if self.is_kthread() { 63 } else { Comm::COMM_MAX };
        *self.comm.lock() = Comm::new(name, max);
    }
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }
    /// The name as `/proc` shows it: a worker's says which queue it works for.
    pub fn proc_name(&self) -> Comm {
        let Some(w) = self.worker() else { return self.comm() };
        let mut c = Comm { len: 0, bytes: [0; 63] };
        let _ = crate::workqueue::worker::write_name(w, &mut c);
        c
    }
    #[inline]
    pub(crate) fn worker(&self) -> Option<&Arc<Worker>> {
        self.worker.get()
    }
    pub(crate) fn set_worker(&self, w: Arc<Worker>) {
        self.worker.call_once(|| w);
    }
    /// It executes items of work queues: `PF_WQ_WORKER`.
    pub fn is_wq_worker(&self) -> bool {
        self.worker().is_some()
    }
    /// User space may not change where it runs: `PF_NO_SETAFFINITY`.
    pub fn has_fixed_affinity(&self) -> bool {
        self.is_bound()
    }
    pub fn is_kthread(&self) -> bool {
        self.kind == Kind::Kernel
    }
    pub fn is_user(&self) -> bool {
        self.kind == Kind::User
    }
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.kind == Kind::Idle
    }
    /// True if its time counts as the processor's idle time.
    #[inline]
    pub(crate) fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }
    /// True for a kernel thread that is bound to its processors: nobody else may change them, and it may run there
    /// while its processor starts or ends.
    pub fn is_bound(&self) -> bool {
        self.control.as_ref().is_some_and(|c| c.bound.load(Ordering::Relaxed) != 0)
    }
    pub fn policy(&self) -> Policy {
        Policy::unpack(self.policy.load(Ordering::Relaxed)).0
    }
    pub fn nice(&self) -> i8 {
        Policy::unpack(self.policy.load(Ordering::Relaxed)).1
    }
    pub(crate) fn note_policy(&self, p: Policy, nice: i8) {
        self.policy.store(p.pack(nice), Ordering::Relaxed);
    }
    /// `prio` of trace events and, less 100, of `/proc/PID/stat`: 0 to 98 real-time, 100 to 139 fair.
    pub fn prio(&self) -> i32 {
        let (p, nice) = Policy::unpack(self.policy.load(Ordering::Relaxed));
        p.prio(nice)
    }
    /// Where it may run.
    pub fn affinity(&self) -> CpuMask {
        CpuMask(self.affinity.load(Ordering::Relaxed))
    }
    /// Where it should wake: a hint.
    pub(crate) fn preferred(&self) -> CpuMask {
        CpuMask(self.preferred.load(Ordering::Relaxed))
    }
    /// Has it put on these processors when it wakes. It may leave them.
    pub(crate) fn prefer(&self, m: CpuMask) {
        self.preferred.store(m.0, Ordering::Relaxed);
    }
    pub(crate) fn note_affinity(&self, m: CpuMask) {
        self.affinity.store(m.0, Ordering::Relaxed);
    }
    /// User and system time as of now.
    pub fn times(&self) -> Times {
        let (user_ns, system_ns) = crate::account::thread_times(self);
        Times { user_ns, system_ns, start_ns: self.start_ns }
    }
    /// When it was made, in nanoseconds since boot.
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }
    /// Gives the room above its place. The first call decides; later ones give the box back.
    pub fn set_payload(&self, p: Box<dyn Any + Send + Sync>) -> Result<(), Box<dyn Any + Send + Sync>> {
        let mut p = Some(p);
        self.payload.call_once(|| Typed::new(p.take().expect("called once")));
        p.map_or(Ok(()), Err)
    }
    /// What the room above keeps here, if it is a `T`.
    #[inline]
    pub fn payload<T: Any>(&self) -> Option<&T> {
        self.payload.get()?.get()
    }
}

/// The letter of `/proc/PID/stat`. A task that has ended shows `Z` until it is reaped, then `X`.
pub fn state_char(t: &Task) -> char {
    let s = t.state();
    let any = |w: State| s.intersects(w);
    if s.is_empty() {
        'R'
    } else if any(State::DEAD) {
        if pid::is_attached(t) { 'Z' } else { 'X' }
    } else if any(State::NEW) {
        'D'
    } else if any(State::TRACED) {
        't'
    } else if any(State::STOPPED) {
        'T'
    } else if any(State::PARKED) {
        'P'
    } else if any(State::NOLOAD) {
        'I'
    } else if any(State::UNINTERRUPTIBLE | State::FROZEN) {
        'D'
    } else {
        'S'
    }
}

/// What a new task is made of.
pub(crate) struct Make<'a> {
    pub(crate) pid: u32,
    pub(crate) tgid: u32,
    pub(crate) comm: &'a [u8],
    pub(crate) kind: Kind,
    pub(crate) policy: Policy,
    pub(crate) nice: i8,
    pub(crate) affinity: CpuMask,
    pub(crate) control: Option<Arc<Control>>,
}

impl Make<'_> {
    pub(crate) fn ext(self) -> Result<Ext> {
        let max = if self.kind == Kind::User { Comm::COMM_MAX } else { 63 };
        let thread = frame::heap::try_arc(Thread {
            pid: AtomicU32::new(self.pid),
            tgid: AtomicU32::new(self.tgid),
            comm: SpinLockIrq::new(&COMM, Comm::new(self.comm, max)),
            kind: self.kind,
            policy: AtomicU32::new(self.policy.pack(self.nice)),
            affinity: AtomicU64::new(self.affinity.0),
            preferred: AtomicU64::new(CpuMask::ALL.0),
            start_ns: frame::time::now_ns(),
            user_ns: AtomicU64::new(0),
            system_ns: AtomicU64::new(0),
            mark_ns: AtomicU64::new(0),
            runs_on: AtomicU32::new(0),
            iowait: AtomicBool::new(false),
            yielding: AtomicBool::new(false),
            resting: AtomicBool::new(self.kind == Kind::Idle),
            freezer_skip: AtomicBool::new(false),
            freezer_exempt: AtomicBool::new(false),
            hung: khungtaskd::Mark::new(),
            payload: Once::new(),
            activity: Activity::new(),
            worker: Once::new(),
            control: self.control,
        })
        .ok_or(Errno::ENOMEM)?;
        let payload =
            Payload { task: None, thread: thread.clone(), counted_load: false, counted_iowait: false };
        let slice = fair::slice_ns(frame::cpu::possible() as u32);
        crate::stat::count_fork();
        let entity = Entity::new(self.policy, self.nice, self.affinity, slice, payload);
        let ent = frame::heap::try_box(Node::new(entity)).ok_or(Errno::ENOMEM)?;
        let home = if thread.is_idle() { None } else { Some(ent) };
        Ok(Ext { thread, home: SpinLock::new(&HOME, home), sleep: SleepTimer::new()? })
    }
}

/// How to make a thread that will run user code.
pub struct SpawnArgs {
    pub comm: String,
    /// The thread group; `None`: its own number.
    pub tgid: Option<u32>,
    /// Its number. It stays taken until [`pid::release`].
    pub pid: PidReservation,
    /// What [`Thread::payload`] gives.
    pub payload: Box<dyn Any + Send + Sync>,
    /// What it runs. When this returns, the task ends.
    pub entry: Box<dyn FnOnce() + Send>,
}

/// Makes a thread that inherits policy, nice and affinity of the running task (real-time and negative nice
/// included: resetting on fork is the caller's business). It is registered and not yet started: [`Task::start`].
/// ENOMEM.
pub fn spawn_user_thread(a: SpawnArgs) -> Result<TaskRef> {
    let m = me();
    let pid = a.pid.number();
    let (policy, nice, affinity) =
        if m.is_idle() { (Policy::Other, 0, CpuMask::ALL) } else { (m.policy(), m.nice(), m.affinity()) };
    let ext = Make {
        pid,
        tgid: a.tgid.unwrap_or(pid),
        comm: a.comm.as_bytes(),
        kind: Kind::User,
        policy,
        nice,
        affinity,
        control: None,
    }
    .ext()?;
    ext.thread.set_payload(a.payload).ok();
    let t = Task::new(a.entry, ext).ok_or(Errno::ENOMEM)?;
    a.pid.attach(&t);
    Ok(t)
}
