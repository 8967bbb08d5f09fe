//! One run: fork, simulate, tell the parent through a pipe.
//!
//! The child of a many-threaded test process has one thread only, and locks that other threads held at the fork stay locked in it.
//! So it writes with `write(2)` alone, ends with `_exit`, and everything it needs from the standard library that locks (the panic
//! hook) was set up before. glibc makes `malloc` usable after a fork.

use std::{
    cell::Cell,
    io,
    panic::PanicHookInfo,
    sync::{
        Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{Config, Outcome, RunResult, report};
use crate::arch::{cpu, memory, point};

/// Why a run ends, as the child says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Ok,
    Panic(String),
    PowerCut,
    Deadlock,
    Livelock,
    StepLimit,
    TimeLimit,
    WallClock,
    Fault(usize),
}

/// Reports fit a pipe's buffer (64 KiB on Linux), so that a child never waits for its parent.
const MESSAGE_MAX: usize = 8 << 10;
const PART_MAX: usize = 9 << 10;

/// The pipe's write end, whether a report is being written, whether backtraces are wanted.
struct Out(Cell<i32>, Cell<bool>, Cell<bool>);
// SAFETY: used only where this process is a simulation, which has one host thread.
unsafe impl Sync for Out {}
static OUT: Out = Out(Cell::new(-1), Cell::new(false), Cell::new(false));

fn write_all(mut b: &[u8]) {
    while !b.is_empty() {
        // SAFETY: a plain write of a readable buffer.
        let n = unsafe { libc::write(OUT.0.get(), b.as_ptr().cast(), b.len()) };
        if n < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            continue;
        }
        if n <= 0 {
            return;
        }
        b = &b[n as usize..];
    }
}

fn cut(s: &str, max: usize) -> &str {
    let mut n = s.len().min(max);
    while !s.is_char_boundary(n) {
        n -= 1;
    }
    &s[..n]
}

/// Ends the run: tells the parent and leaves.
pub(crate) fn finish(end: End) -> ! {
    if OUT.1.replace(true) {
        // A report hook failed; what is written so far must do.
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) }
    }
    point::freeze();
    let steps = point::steps();
    let (kind, message) = match &end {
        End::Ok => (0u8, String::new()),
        End::PowerCut => (5, String::new()),
        End::Panic(m) => (1, m.clone()),
        End::Deadlock => (
            2,
            format!("all processors are halted, and no timer or device will wake one\n{}", report::state()),
        ),
        End::Livelock => (2, format!("processors only spin\n{}", report::state())),
        End::StepLimit => (3, format!("over the limit of steps ({steps})\n{}", report::state())),
        End::TimeLimit => (3, format!("over the limit of simulated time\n{}", report::state())),
        End::WallClock => {
            (3, format!("over the limit of host time after {steps} steps\n{}", report::state()))
        }
        End::Fault(at) => {
            (4, format!("memory fault at {at:#x} (a guard page: a stack is full)\n{}", report::state()))
        }
    };
    let mut b = vec![kind];
    for v in [report::hash(), steps, point::now()] {
        b.extend(v.to_le_bytes());
    }
    let m = cut(&message, MESSAGE_MAX);
    b.extend((m.len() as u32).to_le_bytes());
    b.extend(m.as_bytes());
    write_all(&b);
    if !matches!(end, End::Ok | End::PowerCut) {
        if OUT.2.get() && !matches!(end, End::Fault(_)) {
            write_all(cut(&format!("this is at\n{}", report::backtrace()), PART_MAX).as_bytes());
        }
        if matches!(end, End::Panic(_)) {
            write_all(cut(&report::state(), PART_MAX).as_bytes());
        }
        write_all(cut(&report::rest(), PART_MAX + report::CONSOLE).as_bytes());
        if OUT.2.get() && !matches!(end, End::Panic(_) | End::Fault(_)) {
            write_all(cut(&report::places(), PART_MAX).as_bytes());
        }
    }
    // SAFETY: ends the process without running what other threads of the parent registered.
    unsafe { libc::_exit(0) }
}

fn panic_hook(info: &PanicHookInfo<'_>) {
    let text = info.payload_as_str().unwrap_or("(a panic without text)");
    let at = info.location().map_or_else(String::new, |l| format!(" at {}:{}", l.file(), l.line()));
    let message = format!("{text}{at}");
    if cpu::active() {
        finish(End::Panic(message));
    }
    report_plain(1, &message)
}

fn install_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if cpu::active() || SUPERVISOR.load(Ordering::Relaxed) { panic_hook(info) } else { before(info) }
        }));
    });
}

extern "C" fn on_alarm(_: libc::c_int) {
    // A second alarm, if the report hangs on a lock that the interrupted code holds, kills.
    // SAFETY: async-signal-safe calls.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        let mut set: libc::sigset_t = core::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGALRM);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, core::ptr::null_mut());
        libc::alarm(2);
    }
    finish(End::WallClock);
}

extern "C" fn on_fault(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the host passes valid information to a handler with SA_SIGINFO.
    let at = unsafe { (*info).si_addr() } as usize;
    // SAFETY: as above; the report may fault again, and then the default ends it.
    unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
    finish(End::Fault(at));
}

fn install_signals(wall_seconds: u32) {
    const ALT: usize = 256 << 10;
    let alt = Box::leak(vec![0u8; ALT].into_boxed_slice());
    // SAFETY: the structures are filled as the host wants them; the stack lives for ever.
    unsafe {
        let st = libc::stack_t { ss_sp: alt.as_mut_ptr().cast(), ss_flags: 0, ss_size: ALT };
        libc::sigaltstack(&raw const st, core::ptr::null_mut());
        let mut sa: libc::sigaction = core::mem::zeroed();
        sa.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        sa.sa_sigaction = on_fault as *const () as usize;
        libc::sigaction(libc::SIGSEGV, &raw const sa, core::ptr::null_mut());
        libc::sigaction(libc::SIGBUS, &raw const sa, core::ptr::null_mut());
        let mut sa: libc::sigaction = core::mem::zeroed();
        sa.sa_sigaction = on_alarm as *const () as usize;
        libc::sigaction(libc::SIGALRM, &raw const sa, core::ptr::null_mut());
        libc::alarm(wall_seconds);
    }
}

/// A run in progress.
pub(super) struct Child {
    pub(super) pid: libc::pid_t,
    pub(super) fd: i32,
    pub(super) seed: u64,
    pub(super) got: Vec<u8>,
}

/// Held over pipe, fork and close, so that no other child keeps a write end open.
fn fork_lock() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forks a run of `main`.
pub(super) fn spawn(config: &Config, role: Role, main: impl FnOnce()) -> Child {
    assert!(!cpu::active(), "a simulation inside of a simulation");
    install_hook();
    let lock = fork_lock();
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    let r = unsafe { libc::pipe(fds.as_mut_ptr()) };
    assert!(r == 0, "no pipe: {}", io::Error::last_os_error());
    // SAFETY: the child goes on in `simulate`, which keeps to what is allowed (see the module's head).
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "no process: {}", io::Error::last_os_error());
    if pid == 0 {
        OUT.0.set(fds[1]);
        OUT.2.set(config.backtrace);
        match role {
            Role::Simulation => simulate(config, main),
            Role::Supervisor => {
                // This process' own copy of the lock, held by its only thread.
                drop(lock);
                be_supervisor(config, main)
            }
        }
    }
    // SAFETY: the parent's copy of the write end.
    unsafe { libc::close(fds[1]) };
    drop(lock);
    Child { pid, fd: fds[0], seed: config.seed, got: Vec::new() }
}

/// What a forked process becomes.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Simulation,
    /// A plain process that starts runs one after the other.
    Supervisor,
}

static SUPERVISOR: AtomicBool = AtomicBool::new(false);

fn be_supervisor(config: &Config, main: impl FnOnce()) -> ! {
    SUPERVISOR.store(true, Ordering::Relaxed);
    // SAFETY: the default action ends this process.
    unsafe { libc::alarm(config.wall_seconds) };
    main();
    report_plain(0, "")
}

/// A supervisor's result, in the form of a run's.
fn report_plain(kind: u8, message: &str) -> ! {
    let m = cut(message, MESSAGE_MAX + PART_MAX);
    let mut b = vec![kind];
    b.extend([0; 24]);
    b.extend((m.len() as u32).to_le_bytes());
    b.extend(m.as_bytes());
    write_all(&b);
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

fn simulate(config: &Config, main: impl FnOnce()) -> ! {
    install_signals(config.wall_seconds);
    cpu::activate(config.cpus.clamp(1, crate::cpu::MAX_CPUS as u32));
    report::set_up(config.seed, super::campaign::only_seed().is_some());
    memory::set_up(config.memory_mib, &config.command_line);
    point::set_up(config);
    main();
    finish(End::Ok)
}

impl Child {
    /// Reads what is there; false at the end.
    pub(super) fn read(&mut self) -> bool {
        let mut b = [0u8; 16 << 10];
        // SAFETY: a writable buffer of that length.
        let n = unsafe { libc::read(self.fd, b.as_mut_ptr().cast(), b.len()) };
        if n < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            return true;
        }
        if n > 0 {
            self.got.extend(&b[..n as usize]);
        }
        n > 0
    }

    /// Collects the process and decodes what it said.
    pub(super) fn reap(self) -> Outcome {
        let mut status = 0;
        // SAFETY: our own child and descriptor.
        unsafe {
            libc::close(self.fd);
            while libc::waitpid(self.pid, &raw mut status, 0) < 0
                && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
            {}
        }
        decode(&self.got).unwrap_or_else(|| {
            let why = if libc::WIFSIGNALED(status) {
                format!("killed by signal {}", libc::WTERMSIG(status))
            } else {
                format!("ended with status {status:#x} and no result")
            };
            let result = if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGALRM {
                RunResult::Timeout(why)
            } else {
                RunResult::Crash(why)
            };
            Outcome { hash: 0, steps: 0, time_ns: 0, result, report: String::new() }
        })
    }
}

fn decode(b: &[u8]) -> Option<Outcome> {
    let kind = *b.first()?;
    let word = |at: usize| Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?));
    let (hash, steps, time_ns) = (word(1)?, word(9)?, word(17)?);
    let n = u32::from_le_bytes(b.get(25..29)?.try_into().ok()?) as usize;
    let m = String::from_utf8_lossy(b.get(29..29 + n)?).into_owned();
    let report = String::from_utf8_lossy(&b[29 + n..]).into_owned();
    let result = match kind {
        0 => RunResult::Ok,
        1 => RunResult::Panic(m),
        2 => RunResult::Deadlock(m),
        3 => RunResult::Timeout(m),
        5 => RunResult::PowerCut,
        _ => RunResult::Crash(m),
    };
    Some(Outcome { hash, steps, time_ns, result, report })
}

/// Runs `main` as a simulated kernel in a process of its own.
pub fn run(config: Config, main: impl FnOnce()) -> Outcome {
    let mut c = spawn(&config, Role::Simulation, main);
    while c.read() {}
    c.reap()
}

/// Forks a plain process per seed, in which `main` may start runs one after the other ([`run`]) over `Persistent` storage, and
/// must panic if what they did is wrong.
///
/// # Panics
/// With a report, at the first seed that fails.
pub fn supervise(name: &str, default_seeds: u64, main: impl Fn(u64)) {
    super::campaign::drive(name, default_seeds, Role::Supervisor, Config::from_seed, main);
}
