//! Core dumps: the memory and registers of a process that a signal ended, for a debugger. `core(5)`.
//!
//! ```text
//!   a thread takes a signal that dumps core     claims the end of the process; the others get SIGKILL
//!   each other thread, before it ends           keeps its registers and waits              (park)
//!   when all wait or are gone                    pattern ──▶ a new file, or a program that reads a pipe
//!                                                headers, notes, memory; the wait status says that it was written
//!   then all end
//! ```
//! | module | |
//! |---|---|
//! | [`pattern`] | `core_pattern` |
//! | [`notes`] | registers and such, byte for byte Linux's |
//! | [`regions`] | which memory: `coredump_filter` |
//! | `file` | the writing |
//! | `knobs` | the files in `/proc/sys` |
//!
//! # Whose dump, and who reads it
//! A dump can hold secrets. A process that changed its user, or runs a program that it may not read, is dumped as
//! `fs.suid_dumpable` says: not at all (0), as any other (1), or as root and only to a pipe or an absolute path (2). A file must be
//! new, is made with mode 0600, and symbolic links are not followed. The limit `RLIMIT_CORE` counts for files; a handler at
//! the other end of a pipe runs as root whoever crashed, with a limit of its own of 1, which says that it is not to be dumped in turn.
//!
//! `SIGKILL` ends the writing. Not here: `coredump_filter` bits for huge pages and DAX have nothing to act on.

mod file;
mod knobs;
pub mod notes;
pub mod pattern;
pub mod regions;

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};

use base::{Cred, Errno, Result, pr_warn};
use frame::{
    atomic::{
        AtomicU32,
        Ordering::{Relaxed, SeqCst},
    },
    task::{Current, Work},
    user::Regs,
};
use vfs::{Ctx, File, FileType, OpenFlags};

use self::{
    file::Sink,
    notes::{Info, Kin, Status},
    pattern::{Facts, Target},
    regions::Filter,
};
use crate::{
    process::{Me, Process, Signals, ThreadData, data},
    rlimit,
    signal::{SigInfo, Signo, send},
    tree::TREE,
    umh::{self, Program, Wait},
    usage::Usage,
};

pub(crate) use knobs::{init, suid_dumpable};

/// Added to a wait status: there is a core dump.
pub const DUMPED: u32 = 0x80;
/// `Process::dumpable`: no dump; an ordinary one; one as root.
pub const DISABLE: u32 = 0;
pub const USER: u32 = 1;
pub const ROOT: u32 = 2;
/// The least limit with which a file is begun: a page.
const LEAST: u64 = 4096;
/// The limit of a dump's handler: it is not to be dumped into a pipe.
const HANDLER_LIMIT: u64 = 1;

/// Dumps into pipes under way.
static PIPES: AtomicU32 = AtomicU32::new(0);

/// What a thread leaves for the dump when it stands still.
pub(crate) struct Parked {
    regs: Regs,
    fpu: Option<Vec<u8>>,
}

impl Parked {
    fn of(task: &Current, regs: &Regs) -> Parked {
        Parked { regs: *regs, fpu: task.snapshot_fpu().and_then(|f| f.image()) }
    }
}

/// The running thread will dump its process, which ends with this signal. With `sig` held; nobody has ended it before.
pub(crate) fn claim(s: &mut Signals, me: &Me, signal: Signo) {
    s.exiting = Some(signal);
    s.core_by = Some(me.tid());
    s.stop.cancel();
    send::kill_threads(s, Some(&me.task()));
}

/// A thread that is to end lets itself be dumped first, if that is going on.
pub(crate) fn park(me: &Me, task: &Current, regs: &Regs) {
    let p = &me.process;
    let dumper = p.sig.lock().core_by;
    if dumper.is_none_or(|t| t == me.tid()) {
        return;
    }
    *me.parked.lock() = frame::heap::try_box(Parked::of(task, regs));
    me.parked_done.store(true, SeqCst);
    p.thread_gone.wake_all();
    sched::freezer::while_frozen_is_fine(|| {
        p.thread_gone.wait_idle(|| p.sig.lock().core_by.is_none().then_some(()));
    });
    let old: Option<Box<Parked>> = me.parked.lock().take();
    drop(old);
}

/// Dumps the running thread's process, which [`claim`] marked.
pub(crate) fn dump(me: &Me, task: &Current, regs: &Regs, info: &SigInfo) {
    let p = &me.process;
    // What was pending has no effect any more; only SIGKILL still comes.
    task.clear_work(Work::SIGNAL | Work::KILL);
    let dumpable = p.dumpable.load(Relaxed);
    let done = dumpable != DISABLE && {
        let others_stand = || {
            let s = p.sig.lock();
            let stands = |t: &sched::TaskRef| {
                core::ptr::eq(&**t, &**task) || data(t).is_none_or(|d| d.parked_done.load(SeqCst))
            };
            s.threads.iter().all(stands).then_some(())
        };
        sched::freezer::while_frozen_is_fine(|| p.thread_gone.wait(others_stand));
        *me.parked.lock() = frame::heap::try_box(Parked::of(task, regs));
        write(me, dumpable, info).unwrap_or_default()
    };
    {
        let mut s = p.sig.lock();
        if done {
            s.exiting = Some(info.signo | DUMPED);
        }
        s.core_by = None;
    }
    p.thread_gone.wake_all();
}

fn complain(me: &Me, why: core::fmt::Arguments<'_>) {
    pr_warn!("coredump: {}({}): {why}", me.process.pid(), sched::me().comm());
}

/// Finds where it goes and writes it. True if there is a dump, though perhaps a short one.
fn write(me: &Me, dumpable: u32, info: &SigInfo) -> Result<bool> {
    let limit = me.process.limit(rlimit::CORE);
    let cred = me.cred();
    let as_root = dumpable == ROOT;
    let cred = if as_root {
        frame::heap::try_arc(Cred { fsuid: 0, ..(*cred).clone() }).ok_or(Errno::ENOMEM)?
    } else {
        cred
    };
    match target(me, dumpable, info, limit)? {
        Target::File(path) => {
            if limit < LEAST {
                return Ok(false);
            }
            if as_root && path.first() != Some(&b'/') {
                complain(
                    me,
                    format_args!(
                        "this process can only dump core to a fully qualified path, skipping core dump"
                    ),
                );
                return Ok(false);
            }
            let file = create(me, &path, cred, as_root)?;
            contents(me, info, &mut Sink::file(file, limit))
        }
        Target::Pipe(words) => {
            // What runs as a dump's handler is not dumped into a handler again, for ever.
            if limit == HANDLER_LIMIT {
                complain(me, format_args!("RLIMIT_CORE is set to 1, aborting core"));
                return Ok(false);
            }
            let n = PIPES.fetch_add(1, SeqCst) + 1;
            let most = knobs::pipe_limit();
            let r = if most != 0 && n > most {
                complain(me, format_args!("over core_pipe_limit, skipping core dump"));
                Ok(false)
            } else {
                into_pipe(me, info, words, most != 0)
            };
            PIPES.fetch_sub(1, SeqCst);
            r
        }
    }
}

fn target(me: &Me, dumpable: u32, info: &SigInfo, limit: u64) -> Result<Target> {
    let cred = me.cred();
    let mut host = [0; fs::procfs::NAME_LEN];
    let n = fs::procfs::uts_name(fs::procfs::UtsName::Host, &mut host);
    let comm = sched::me().comm();
    let exe = exe_path(me).unwrap_or_default();
    let facts = Facts {
        pid: me.process.pid(),
        tid: me.tid(),
        uid: cred.uid,
        gid: cred.gid,
        dumpable,
        signal: info.signo,
        time: sched::time::realtime_ns() / 1_000_000_000,
        hostname: &host[..n],
        comm: comm.as_bytes(),
        exe: &exe,
        limit,
        cpu: frame::cpu::raw_id().get(),
    };
    knobs::with_pattern(|pattern, add_pid| pattern::expand(pattern, add_pid, &facts))
}

fn exe_path(me: &Me) -> Result<Vec<u8>> {
    let m = me.process.mm().ok_or(Errno::ENOENT)?;
    let f = m.exe().ok_or(Errno::ENOENT)?.downcast::<File>().map_err(|_| Errno::ENOENT)?;
    Ok(vfs::path::d_path(f.path(), &me.fs().root())?.into_display())
}

/// A new file, made so that nobody can have prepared it.
fn create(me: &Me, path: &[u8], cred: Arc<Cred>, as_root: bool) -> Result<Arc<File>> {
    let fsuid = cred.fsuid;
    let mut ctx: Ctx = Ctx { cred, ..me.ctx() };
    if as_root {
        let init = crate::init::process().and_then(|p| p.leader()).ok_or(Errno::ESRCH)?;
        let fs = data(&init).and_then(|d| d.try_fs()).ok_or(Errno::ESRCH)?;
        (ctx.root, ctx.cwd) = (fs.root(), fs.root());
    } else {
        // The dump of an earlier crash. Not with borrowed rights.
        let _ = vfs::unlink(&ctx, None, path);
    }
    let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::NOFOLLOW | OpenFlags::EXCL;
    let file = vfs::open(&ctx, None, path, flags, 0o600)?;
    let i = file.inode();
    let sound = i.nlink() <= 1
        && !file.path().dentry.is_deleted()
        && i.kind() == FileType::Regular
        && i.uid() == fsuid
        && i.mode() & 0o677 == 0o600;
    if sound { Ok(file) } else { Err(Errno::EPERM) }
}

fn into_pipe(me: &Me, info: &SigInfo, words: Vec<Vec<u8>>, wait: bool) -> Result<bool> {
    let cred = frame::heap::try_arc(Cred::root()).ok_or(Errno::ENOMEM)?;
    let (read, end) = fs::pipe::create(OpenFlags::empty(), &cred)?;
    let mut program = Program::new(words.iter().map(|w| &w[..]), [])?;
    program.stdin = Some(read);
    program.core_limit = Some(HANDLER_LIMIT);
    let started = umh::begin(program, Wait::Exec, false).and_then(|c| c.result().map(|_| c));
    let call = match started {
        Ok(c) => c,
        Err(e) => {
            let name = words.first().map_or(String::new(), |w| String::from_utf8_lossy(w).into_owned());
            complain(me, format_args!("|{name} pipe failed"));
            return Err(e);
        }
    };
    let done = contents(me, info, &mut Sink::pipe(end));
    if wait {
        // The handler may look into /proc/PID until it ends.
        call.wait_ended();
    }
    done
}

/// Headers, notes, memory. True once there is anything; what the limit or a signal cuts off is missing.
fn contents(me: &Me, info: &SigInfo, sink: &mut Sink) -> Result<bool> {
    let p = &me.process;
    let m = p.mm().ok_or(Errno::ESRCH)?;
    let filter = Filter::from_bits_truncate(p.core_filter.load(Relaxed));
    let (regions, files) = regions::all(&m, filter)?;
    let notes = all_notes(me, info, &files)?;
    let _ = file::write(sink, &m, &regions, &notes);
    Ok(true)
}

fn all_notes(me: &Me, info: &SigInfo, files: &[notes::Mapped]) -> Result<Vec<u8>> {
    let p = &me.process;
    let mine = me.task_ref();
    let mut out = Vec::new();
    thread_notes(&mut out, p, &mine, info, |out| {
        notes::note(out, b"CORE", notes::NT_PRPSINFO, &process_info(me))?;
        notes::note(out, b"CORE", notes::NT_SIGINFO, &info.to_bytes())?;
        let auxv = p.auxv.lock().clone();
        notes::note(out, b"CORE", notes::NT_AUXV, &auxv)?;
        notes::note(out, b"CORE", notes::NT_FILE, &notes::files(files)?)
    })?;
    for t in p.threads() {
        if !Arc::ptr_eq(&t, &mine) {
            thread_notes(&mut out, p, &t, info, |_| Ok(()))?;
        }
    }
    Ok(out)
}

/// One thread's notes, with others between its status and its FPU state. Nothing for one that left nothing.
fn thread_notes(
    out: &mut Vec<u8>,
    p: &Process,
    t: &sched::TaskRef,
    info: &SigInfo,
    between: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let Some(d) = data(t) else { return Ok(()) };
    let Some(parked) = d.parked.lock().take() else { return between(out) };
    let Parked { regs, fpu } = *parked;
    let status = status(p, t, d, info.signo, regs, fpu.is_some());
    notes::note(out, b"CORE", notes::NT_PRSTATUS, &notes::prstatus(&status))?;
    between(out)?;
    if let Some(image) = fpu {
        let (legacy, extended) = notes::fpu(image);
        notes::note(out, b"CORE", notes::NT_FPREGSET, &legacy)?;
        if let Some(x) = extended {
            notes::note(out, b"LINUX", notes::NT_X86_XSTATE, &x)?;
        }
    }
    Ok(())
}

fn status(p: &Process, t: &sched::TaskRef, d: &ThreadData, signal: u32, regs: Regs, has_fpu: bool) -> Status {
    let tid = sched::thread(t).pid();
    let (kin, waited) = kin(p);
    let own = if tid == p.pid() { Usage::of_threads(p) } else { Usage::of_thread(t, d) };
    Status {
        signal,
        pending: d.pending.lock().set().0,
        blocked: d.blocked().0,
        tid,
        kin,
        times_ns: [own.user_ns, own.system_ns, waited.user_ns, waited.system_ns],
        regs,
        has_fpu,
    }
}

fn kin(p: &Process) -> (Kin, Usage) {
    let tree = TREE.lock();
    tree.get(p.pid()).map_or((Kin::default(), Usage::default()), |n| {
        (Kin { ppid: n.parent, pgrp: n.pgid, sid: n.sid }, n.waited)
    })
}

fn process_info(me: &Me) -> [u8; notes::PRPSINFO] {
    let p = &me.process;
    let mut args = [0; 79];
    let n = p.mm().map_or(0, |m| {
        let e = m.exec_info();
        let n = e.arg_end.saturating_sub(e.arg_start).min(args.len());
        m.read_remote(e.arg_start, &mut args[..n])
    });
    let args = args[..n].strip_suffix(&[0]).unwrap_or(&args[..n]);
    let (c, t) = (me.cred(), sched::me());
    notes::prpsinfo(&Info {
        letter: b'R',
        nice: t.nice(),
        flags: 0,
        uid: c.uid,
        gid: c.gid,
        pid: p.pid(),
        kin: kin(p).0,
        name: t.comm().as_bytes(),
        args,
    })
}
