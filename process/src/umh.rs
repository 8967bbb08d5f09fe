//! # khelper (user-mode helper)
//! * **What for**: runs a program of user space on the kernel's own account: a core dump's handler, `modprobe` for a file system that
//!   nobody knows, the uevent helper.
//! * **Woken by**: [`call`], from whoever needs a program; the request is an item of the work queue `khelper`, so the threads are
//!   `kworker/uN:M-khelper`, and `kworker/R-khelper` where no thread can be made: a process that dies of want of memory
//!   waits for its dump's handler.
//! * **Never**: runs a program in the caller's context, with its files, limits, signals or credentials; starts one while
//!   processes are being frozen; waits for a program that nobody waits for.
//! * **Knobs**: `/proc/sys/kernel/usermodehelper/{bset,inheritable}`: capabilities that helpers may have; they can only be lowered.
//!   With the boot parameter `nightshift.rescuer_names=bare` the rescuer is called `khelper`, as the thread was before Linux 4.4.
//! * **Counters**: `/sys/kernel/nightshift/daemons/khelper/calls`.
//! * **Documented**: Linux `kernel/umh.c`; before 4.4 a thread `khelper`, since then items of `events_unbound`. It has a queue of its own
//!   here so that it can be seen, and rescued.
//!
//! ```text
//!   call ──▶ item ──▶ worker ──▶ new process: parent is the worker (if it waits for its end) or kthreadd
//!     waits: for nothing │ until exec has succeeded or failed │ until the program has ended
//! ```
//! The process is made from nothing rather than forked: no descriptors but perhaps a standard input, init's root and
//! current directory, user 0 with all capabilities, default signal actions, nice 0. Nobody waits for it with `wait`: it leaves
//! the tree when it ends, and tells the [`Call`].

use alloc::{boxed::Box, string::String, sync::Arc};

use base::{
    Cred, Errno, Result,
    cred::cap,
    daemon::Card,
    tree::{self, Out},
};
use frame::{
    atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
    sync::{LockClass, SpinLock, WaitQueue, once::Once},
    task::State,
    user::Regs,
};
use sched::{
    SpawnArgs,
    workqueue::{Flags, MAX_ACTIVE, Work, Workqueue},
};
use vfs::{FdTable, File, LookupFlags};

use crate::{
    exec, exit,
    process::{Process, ThreadData, current, data},
    rlimit::{self, Limits},
    signal::{action, set::CHLD},
    stack::Strings,
    tree::TREE,
    user_loop, users,
};

pub(crate) static CARD: Card = Card {
    name: "khelper",
    purpose: "runs programs of user space on the kernel's own account, as root, with kernel threads as parents",
    woken_by: "core dumps into a pipe, requests for modules, uevents with a helper: an item of the queue khelper",
    never: "uses its caller's files, limits or credentials; starts a program while processes are frozen",
    documented: "Linux kernel/umh.c, Documentation/admin-guide/sysctl/kernel.rst",
};

/// What the caller waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Nothing: `UMH_NO_WAIT`.
    No,
    /// That the program has been started, or could not be: `UMH_WAIT_EXEC`.
    Exec,
    /// Its end: `UMH_WAIT_PROC`.
    End,
}

/// A program to run.
pub struct Program {
    pub path: String,
    pub argv: Strings,
    pub envp: Strings,
    /// Its descriptor 0; else it has none.
    pub stdin: Option<Arc<File>>,
    /// `RLIMIT_CORE`, soft and hard.
    pub core_limit: Option<u64>,
}

impl Program {
    /// A program with these arguments, the first of them the path, and an environment.
    pub fn new<'a>(
        argv: impl IntoIterator<Item = &'a [u8]>,
        envp: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Program> {
        let (mut a, mut e) = (Strings::new(), Strings::new());
        argv.into_iter().try_for_each(|s| a.push(s))?;
        envp.into_iter().try_for_each(|s| e.push(s))?;
        let path = a.iter().next().unwrap_or(b"");
        let path = String::from_utf8(path.to_vec()).map_err(|_| Errno::ENOENT)?;
        Ok(Program { path, argv: a, envp: e, stdin: None, core_limit: None })
    }
}

/// The environment that most helpers get.
pub const ENVIRONMENT: [&[u8]; 3] = [b"HOME=/", b"TERM=linux", b"PATH=/sbin:/usr/sbin:/bin:/usr/bin"];

static CALL: LockClass = LockClass::new("umh_call");

/// A call under way: what the worker, the new process and the caller share.
pub(crate) struct Call {
    program: SpinLock<Option<Program>>,
    wait: Wait,
    /// 0 or a negative error of the start.
    started: Once<i32>,
    /// The wait status of the program.
    ended: Once<u32>,
    /// The worker is done with it: the result stands.
    done: AtomicBool,
    changed: WaitQueue,
}

impl Call {
    fn tell(&self) {
        self.changed.wake_all();
    }
    /// The program runs, or never will.
    fn note_started(&self, result: i32) {
        self.started.call_once(|| result);
        if self.wait != Wait::End {
            self.done.store(true, SeqCst);
        }
        self.tell();
    }
    /// Its process has ended.
    pub(crate) fn note_ended(&self, status: u32) {
        self.ended.call_once(|| status);
        self.tell();
    }
    /// Waits until its process has ended, or the waiter is being killed.
    pub(crate) fn wait_ended(&self) {
        let _ = self.changed.wait_killable(|| self.ended.get().map(|_| ()));
    }
    /// As Linux: the wait status if it is not 0, else what became of the start.
    pub(crate) fn result(&self) -> Result<i32> {
        match (self.ended.get(), self.started.get()) {
            (Some(&s), _) if s != 0 && self.wait == Wait::End => Ok(s as i32),
            (_, Some(&e)) if e < 0 => Err(Errno::from_code(-e).unwrap_or(Errno::EIO)),
            _ => Ok(0),
        }
    }
}

/// Since when no helper may start: see [`disable`].
static DISABLED: AtomicBool = AtomicBool::new(false);
/// Calls under way.
static RUNNING: AtomicU32 = AtomicU32::new(0);
static IDLE: WaitQueue = WaitQueue::new();
static CALLS: AtomicU64 = AtomicU64::new(0);
static QUEUE: Once<Arc<Workqueue>> = Once::new();
/// How long [`disable`] waits for calls under way: Linux's `RUNNING_HELPERS_TIMEOUT`.
const PATIENCE_NS: u64 = 5_000_000_000;

/// One call more, unless none is allowed.
struct Running;

impl Running {
    fn begin() -> Result<Running> {
        RUNNING.fetch_add(1, SeqCst);
        let r = Running;
        if DISABLED.load(SeqCst) { Err(Errno::EBUSY) } else { Ok(r) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if RUNNING.fetch_sub(1, SeqCst) == 1 {
            IDLE.wake_all();
        }
    }
}

/// No helper starts any more; returns when those that are waited for have been served. `EAGAIN`: they take too long, and calls are
/// allowed again.
pub fn disable() -> Result<()> {
    DISABLED.store(true, SeqCst);
    let deadline = sched::time::now_ns().saturating_add(PATIENCE_NS);
    let idle = || (RUNNING.load(SeqCst) == 0).then_some(());
    match sched::time::wait_timeout(&IDLE, State::UNINTERRUPTIBLE, Some(deadline), idle) {
        Ok(Some(())) => Ok(()),
        _ => {
            enable();
            Err(Errno::EAGAIN)
        }
    }
}

/// Helpers may start again.
pub fn enable() {
    DISABLED.store(false, SeqCst);
}

/// Runs a program: `call_usermodehelper`. With [`Wait::End`] its wait status. Errors: those of exec; `EBUSY` while processes are
/// frozen; `EINTR` where `killable` and a fatal signal came first (the program runs on). An empty path is nothing to do.
pub fn call(program: Program, wait: Wait, killable: bool) -> Result<i32> {
    if program.path.is_empty() {
        return Ok(0);
    }
    let call = begin(program, wait, killable)?;
    if wait == Wait::No { Ok(0) } else { call.result() }
}

/// Runs a program, and gives what can be waited for further.
pub(crate) fn begin(program: Program, wait: Wait, killable: bool) -> Result<Arc<Call>> {
    let _running = Running::begin()?;
    let queue = QUEUE.get().ok_or(Errno::EBUSY)?;
    let call = frame::heap::try_arc(Call {
        program: SpinLock::new(&CALL, Some(program)),
        wait,
        started: Once::new(),
        ended: Once::new(),
        done: AtomicBool::new(false),
        changed: WaitQueue::new(),
    })
    .ok_or(Errno::ENOMEM)?;
    CALLS.fetch_add(1, Relaxed);
    let c = call.clone();
    let work = Work::new("call_usermodehelper_exec_work", move |_| serve(&c))?;
    queue.queue(&work);
    if wait == Wait::No {
        return Ok(call);
    }
    let done = || call.done.load(SeqCst).then_some(());
    // Freezing begins only when nobody is here: see `disable`.
    if killable {
        call.changed.wait_killable(done).map_err(|_| Errno::EINTR)?;
    } else {
        call.changed.wait(done);
    }
    Ok(call)
}

/// The item: in the worker.
fn serve(call: &Arc<Call>) {
    let parent = if call.wait == Wait::End { sched::me().pid() } else { sched::pid::KTHREADD };
    if let Err(e) = spawn(call, parent) {
        drop(call.program.lock().take());
        call.note_started(-e.code());
        call.done.store(true, SeqCst);
        call.tell();
        return;
    }
    if call.wait == Wait::End {
        let ended = || call.ended.get().map(|_| ());
        // No signal concerns a worker.
        while call.changed.wait_as(State::INTERRUPTIBLE, ended).is_err() {
            frame::task::current().clear_work(frame::task::Work::all());
        }
        call.done.store(true, SeqCst);
        call.tell();
    }
}

/// Makes the process and starts it.
fn spawn(call: &Arc<Call>, parent: u32) -> Result<()> {
    let (stdin, core_limit) = {
        let mut p = call.program.lock();
        p.as_mut().map_or((None, None), |p| (p.stdin.take(), p.core_limit))
    };
    let pid = loop {
        let r = sched::pid::reserve()?;
        if !TREE.lock().in_use(r.number()) {
            break r;
        }
    };
    let number = pid.number();
    let mut limits = Limits::initial(users::threads_max());
    if let Some(n) = core_limit {
        limits.set(rlimit::CORE, (n, n), true)?;
    }
    let p = Process::new(number, action::defaults()?, None, limits)?;
    let files = frame::heap::try_arc(FdTable::new()).ok_or(Errno::ENOMEM)?;
    if let Some(f) = stdin {
        files.put_at(0, f, false)?;
    }
    let init = crate::init::process().and_then(|p| p.leader()).ok_or(Errno::ESRCH)?;
    let fs = data(&init).and_then(|d| d.try_fs()).ok_or(Errno::ESRCH)?.fork();
    fs.set_umask(0o022);
    let fs = frame::heap::try_arc(fs).ok_or(Errno::ENOMEM)?;
    let cred = frame::heap::try_arc(capabilities(Cred::root())).ok_or(Errno::ENOMEM)?;
    let d = ThreadData::new(p.clone(), cred, files, fs)?;
    *p.helper.lock() = Some(call.clone());
    users::charge(0, u64::MAX, true)?;
    let args = SpawnArgs {
        comm: String::from_utf8_lossy(sched::me().comm().as_bytes()).into_owned(),
        tgid: None,
        pid,
        payload: Box::new(d),
        entry: Box::new(|| first_steps()),
    };
    let task = sched::spawn_user_thread(args).inspect_err(|_| users::uncharge(0))?;
    {
        let mut s = p.sig.lock();
        s.threads.push(task.clone());
        s.leader = Some(task.clone());
    }
    TREE.lock().insert(number, parent, parent, CHLD, p);
    task.start();
    Ok(())
}

/// Where the new process begins: it becomes the program.
fn first_steps() -> ! {
    let mut regs = Regs::default();
    let failed = {
        let me = current();
        let call = me.process.helper.lock().clone();
        let task = me.task_ref();
        // Its maker may have been a rescuer, or bound to some processors.
        let _ = sched::set_nice(&task, 0);
        drop(task);
        match call {
            Some(call) => {
                let r = become_program(&mut regs, &call);
                call.note_started(r.map_or_else(|e| -e.code(), |()| 0));
                r.is_err()
            }
            None => true,
        }
    };
    if failed {
        exit::exit_group(0)
    }
    user_loop::run(regs)
}

fn become_program(regs: &mut Regs, call: &Call) -> Result<()> {
    let p = call.program.lock().take().ok_or(Errno::EINVAL)?;
    exec::exec(regs, None, p.path.as_bytes(), LookupFlags::FOLLOW, p.argv, p.envp)
}

/// What helpers may have at most.
static BOUNDING: AtomicU64 = AtomicU64::new(cap::FULL);
static INHERITABLE: AtomicU64 = AtomicU64::new(cap::FULL);

fn capabilities(mut c: Cred) -> Cred {
    c.cap_bounding &= BOUNDING.load(Relaxed);
    c.cap_inheritable &= INHERITABLE.load(Relaxed);
    c
}

/// Two numbers of 32 bits, the lower first; what is written is taken from what is allowed.
fn show_caps(set: &AtomicU64, out: &mut Out) -> Result<()> {
    let v = set.load(Relaxed);
    Ok(writeln!(out, "{}\t{}", v as u32, v >> 32)?)
}

fn store_caps(set: &AtomicU64, text: &[u8]) -> Result<()> {
    let c = crate::process::try_current().map(|me| me.cred());
    if c.is_some_and(|c| !c.has_cap(cap::SETPCAP) || !c.has_cap(cap::SYS_MODULE)) {
        return Err(Errno::EPERM);
    }
    set.fetch_and(parse_caps(text, set.load(Relaxed))?, Relaxed);
    Ok(())
}

/// One or two numbers; what is not given stays as it was.
fn parse_caps(text: &[u8], old: u64) -> Result<u64> {
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let mut words = [old as u32, (old >> 32) as u32];
    for (w, t) in words.iter_mut().zip(text.split_ascii_whitespace()) {
        *w = t.parse().map_err(|_| Errno::EINVAL)?;
    }
    Ok(u64::from(words[0]) | u64::from(words[1]) << 32)
}

/// A uevent's helper: the program gets the subsystem as its argument, and the event as its environment.
fn run_uevent_helper(path: &[u8], subsystem: &str, env: &[u8]) {
    const MORE: [&[u8]; 2] = [b"HOME=/", b"PATH=/sbin:/bin:/usr/sbin:/usr/bin"];
    let env = env.split(|&b| b == 0).filter(|v| !v.is_empty()).chain(MORE);
    // Nobody hears of an error: the event has happened.
    let _ = Program::new([path, subsystem.as_bytes()], env).and_then(|p| call(p, Wait::No, false));
}

/// Makes the queue and declares the files.
pub(crate) fn init() -> Result<()> {
    let q = Workqueue::new("khelper", Flags::UNBOUND | Flags::MEM_RECLAIM, MAX_ACTIVE)?;
    QUEUE.call_once(|| q);
    let p = tree::proc();
    p.knob(
        "sys/kernel/usermodehelper/bset",
        0o600,
        |o| show_caps(&BOUNDING, o),
        |b| store_caps(&BOUNDING, b),
    )?;
    p.knob(
        "sys/kernel/usermodehelper/inheritable",
        0o600,
        |o| show_caps(&INHERITABLE, o),
        |b| store_caps(&INHERITABLE, b),
    )?;
    base::uevent::set_helper_runner(run_uevent_helper)?;
    base::daemon::register(&CARD)?;
    base::daemon::count_work(&CARD, "programs", || CALLS.load(Relaxed))?;
    tree::sys().file("kernel/nightshift/daemons/khelper/calls", 0o444, |o| {
        Ok(writeln!(o, "{}", CALLS.load(Relaxed))?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_two_words() {
        assert_eq!(parse_caps(b"1 2\n", cap::FULL), Ok(1 | 2 << 32));
        assert_eq!(parse_caps(b"7", cap::FULL), Ok(cap::FULL & !0xffff_ffff | 7));
        assert_eq!(parse_caps(b"x", 0), Err(Errno::EINVAL));
    }

    #[test]
    fn a_program_is_named_by_its_first_argument() {
        let p = Program::new([&b"/bin/a"[..], b"b"], ENVIRONMENT).unwrap();
        assert_eq!((p.path.as_str(), p.argv.len(), p.envp.len()), ("/bin/a", 2, 3));
        assert!(Program::new([&b"a\0b"[..]], []).is_err());
    }
}
