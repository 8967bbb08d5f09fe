//! `execve(2)`: another program in the same process.
//!
//! Order: find and check the file (scripts lead to others), map it into a fresh address space, and only then, when hardly
//! anything can be refused any more, end the other threads and step over. Programs are mapped through the page cache.
//! There is no `binfmt_misc`, and file capabilities are not read.

use alloc::{sync::Arc, vec::Vec};

use base::{Cred, Errno, Result, cred::cap};
use frame::{atomic::Ordering::Relaxed, user::Regs};
use vfs::{File, LookupFlags, Path};

use crate::{
    coredump, elf, exit,
    load::{self, Loaded, Program},
    process::{Me, MmUser, current},
    random, rlimit, script,
    signal::{self, action, altstack::AltStack, context, send, set},
    stack::{self, Built, Strings},
    tree::TREE,
};

/// How many scripts may lead to one another.
const MAX_SCRIPTS: usize = 5;
/// Arguments and environment may always have this much: Linux's `ARG_MAX`.
const ARG_MIN: u64 = 128 << 10;
/// And never more than three quarters of the default stack.
const ARG_MAX: u64 = 6 << 20;

/// Bytes that arguments and environment may take: a quarter of the stack limit.
pub fn arg_limit() -> usize {
    (current().process.limit(rlimit::STACK) / 4).clamp(ARG_MIN, ARG_MAX) as usize
}

/// `execve`/`execveat` with the arguments still in user memory.
pub fn exec_user(
    regs: &mut Regs,
    at: Option<&Path>,
    path: &[u8],
    how: LookupFlags,
    argv: usize,
    envp: usize,
) -> Result<()> {
    let mut room = arg_limit();
    let argv = Strings::from_user(argv, &mut room)?;
    let envp = Strings::from_user(envp, &mut room)?;
    exec(regs, at, path, how, argv, envp)
}

/// Replaces the running program. On success `regs` start the new one.
pub fn exec(
    regs: &mut Regs,
    at: Option<&Path>,
    path: &[u8],
    how: LookupFlags,
    mut argv: Strings,
    envp: Strings,
) -> Result<()> {
    let me = current();
    let p = me.process.clone();
    let _one = p.exec_lock.lock_interruptible().map_err(|_| Errno::ERESTARTNOINTR)?;
    let ctx = me.ctx();
    if argv.is_empty() {
        // Linux gives such a program an empty name, so that its arguments cannot be mistaken for its environment.
        argv.push(b"")?;
    }
    let mut file = vfs::open::open_exec(&ctx, at, path, how)?;
    sched::migration::exec();
    let mut name = copy(path)?;
    let outer = name.clone();
    let (mut scripts, mut asked) = (0, false);
    let image = loop {
        let mut head = [0; script::HEAD];
        let n = elf::ReadAt::read_at(&*file, 0, &mut head)?;
        if !head[..n].starts_with(b"#!") {
            match elf::parse(&*file) {
                Err(Errno::ENOEXEC) if !asked && ask_for_format(&head) => {
                    asked = true;
                    continue;
                }
                r => break r?,
            }
        }
        if scripts == MAX_SCRIPTS {
            return Err(Errno::ELOOP);
        }
        scripts += 1;
        let line = script::parse(&head[..n]).ok_or(Errno::ENOEXEC)?;
        let words: [&[u8]; 3] = [line.interp, line.arg.unwrap_or(b""), &name];
        if line.arg.is_some() {
            argv.replace_first(&words)?;
        } else {
            argv.replace_first(&[words[0], words[2]])?;
        }
        name = copy(line.interp)?;
        file = vfs::open::open_exec(&ctx, None, &name, LookupFlags::FOLLOW)?;
    };
    let main = Program { file, image };
    let interp = match &main.image.interp {
        Some(path) => {
            let file = vfs::open::open_exec(&ctx, None, path, LookupFlags::FOLLOW)?;
            // A damaged interpreter is not a damaged program: Linux says ELIBBAD.
            let image =
                elf::parse(&*file).map_err(|e| if e == Errno::ENOEXEC { Errno::ELIBBAD } else { e })?;
            Some(Program { file, image })
        }
        None => None,
    };
    let (cred, secure) = new_cred(&me.cred(), &main.file);
    let arg_bytes = argv.bytes().len() + envp.bytes().len() + (argv.len() + envp.len()) * 8 + name.len();
    if arg_bytes > arg_limit() + name.len() + stack::MAX_STRING {
        return Err(Errno::E2BIG);
    }
    let loaded = load::load(&main, interp.as_ref(), arg_bytes, &mm_limits(&me))?;
    loaded.mm.set_exe(Some(main.file.clone()));
    let user = MmUser::new(loaded.mm.clone())?;
    let built = build_stack(&loaded, &main, &argv, &envp, &outer, &cred, secure)?;
    let handlers = action::defaults()?;
    if !alone(&me)? {
        // Killed, or another thread was first.
        return Err(Errno::EAGAIN);
    }
    step_over(&me, regs, loaded, user, built, handlers, cred, secure, &outer);
    Ok(())
}

/// Asks for what can run a file of a format that nobody knows, unless it begins like a text. True: look again.
fn ask_for_format(head: &[u8; script::HEAD]) -> bool {
    let printable = |b: &u8| matches!(b, b'\t' | b'\n' | b' '..=b'~');
    !head[..4].iter().all(printable)
        && base::kmod::request_module(format_args!("binfmt-{:04x}", u16::from_le_bytes([head[2], head[3]])))
            .is_ok()
}

fn copy(b: &[u8]) -> Result<Vec<u8>> {
    let mut v = Vec::new();
    v.try_reserve_exact(b.len()).map_err(|_| Errno::ENOMEM)?;
    v.extend_from_slice(b);
    Ok(v)
}

/// The limits under which the running thread maps memory.
pub fn mm_limits(me: &Me) -> mm::Limits {
    let l = me.process.limits.lock();
    let c = me.cred();
    mm::Limits {
        address_space: l.soft(rlimit::AS),
        data: l.soft(rlimit::DATA),
        stack: l.soft(rlimit::STACK),
        memlock: l.soft(rlimit::MEMLOCK),
        may_lock_all: c.has_cap(cap::IPC_LOCK),
        is_admin: c.has_cap(cap::SYS_ADMIN),
        may_map_low: c.has_cap(cap::SYS_RAWIO),
    }
}

/// Credentials after exec, and whether the program must not trust its environment (`AT_SECURE`).
fn new_cred(old: &Arc<Cred>, file: &File) -> (Arc<Cred>, bool) {
    let inode = file.inode();
    let mode = inode.mode();
    let mut c = (**old).clone();
    let may = !c.no_new_privs && !file.path().mount.flags().contains(vfs::mount::MountFlags::NOSUID);
    if may && mode & 0o4000 != 0 {
        c.euid = inode.uid();
    }
    if may && mode & 0o2010 == 0o2010 {
        c.egid = inode.gid();
    }
    let changed = c.euid != old.uid || c.egid != old.gid;
    (c.suid, c.fsuid, c.sgid, c.fsgid) = (c.euid, c.euid, c.egid, c.egid);
    crate::ids::caps_for_exec(&mut c);
    let same = c == **old;
    (if same { old.clone() } else { Arc::new(c) }, changed)
}

fn build_stack(
    l: &Loaded,
    main: &Program,
    argv: &Strings,
    envp: &Strings,
    name: &[u8],
    c: &Cred,
    secure: bool,
) -> Result<Built> {
    let fpu = frame::task::fpu_frame_len();
    let aux = [
        (33, l.vdso),
        (51, context::min_stack(fpu)),
        (6, elf::PAGE),
        (17, 100),
        (3, l.phdr),
        (4, elf::PHENT),
        (5, main.image.phnum as u64),
        (7, l.interp_base),
        (8, 0),
        (9, l.entry),
        (11, c.uid as u64),
        (12, c.euid as u64),
        (13, c.gid as u64),
        (14, c.egid as u64),
        (23, secure as u64),
    ];
    let aux = if l.vdso == 0 { &aux[1..] } else { &aux[..] };
    let mut random = [0; 16];
    random::fill(&mut random);
    let gap = (mm::layout::randomness(1, random::word()) % 8192) & !15;
    stack::build(argv, envp, name, aux, random, gap, l.stack_top)
}

/// Makes the running thread the only one of its process, and its leader. False if that is not to be.
fn alone(me: &Me) -> Result<bool> {
    let p = &me.process;
    let task = me.task();
    let mine = me.task_ref();
    {
        let mut s = p.sig.lock();
        if s.exiting.is_some() || s.exec_by.is_some() {
            return Ok(false);
        }
        if s.threads.len() == 1 && s.leader.as_ref().is_some_and(|l| Arc::ptr_eq(l, &mine)) {
            return Ok(true);
        }
        s.exec_by = Some(me.tid());
        send::kill_threads(&mut s, Some(&task));
    }
    let gone = p.thread_gone.wait_killable(|| (p.sig.lock().threads.len() == 1).then_some(()));
    let mut s = p.sig.lock();
    s.exec_by = None;
    if gone.is_err() {
        return Ok(false);
    }
    let leader = s.leader.replace(mine.clone());
    drop(s);
    if let Some(old) = leader
        && !Arc::ptr_eq(&old, &mine)
    {
        let tid = me.tid();
        sched::pid::exchange(&mine, &old);
        sched::pid::release(sched::thread(&old).pid());
        TREE.lock().thread_gone(p.pid(), tid, p.pid());
    }
    Ok(true)
}

#[expect(clippy::too_many_arguments, reason = "everything that was prepared, consumed at once")]
fn step_over(
    me: &Me,
    regs: &mut Regs,
    loaded: Loaded,
    user: Arc<MmUser>,
    built: Built,
    mut handlers: alloc::boxed::Box<[action::SigAction; 64]>,
    cred: Arc<Cred>,
    secure: bool,
    name: &[u8],
) {
    let p = &me.process;
    let task = me.task();
    exit::release_mm_ties();
    p.posix_timers.delete_all();
    let peak = p.maxrss_kib();
    p.old_maxrss_kib.store(peak, Relaxed);
    let pt = loaded.mm.page_table().clone();
    let old = p.mm.lock().replace(user);
    task.set_page_table(Some(pt));
    drop(old);

    // Descriptors shared with another process stay its own.
    let files = me.files();
    if Arc::strong_count(&files) > 2
        && let Ok(f) = files.fork()
        && let Some(f) = frame::heap::try_arc(f)
    {
        me.set_files(Some(f));
    }
    drop(files);
    me.files().close_on_exec();
    {
        let mut s = p.sig.lock();
        for (new, old) in handlers.iter_mut().zip(s.handlers.iter()) {
            *new = *old;
        }
        action::reset_for_exec(&mut handlers);
        core::mem::swap(&mut s.handlers, &mut handlers);
    }
    *me.altstack.lock() = AltStack::default();
    me.fork_no_exec.store(false, Relaxed);
    if secure {
        me.pdeath_signal.store(0, Relaxed);
    }
    let dumpable = if secure { coredump::suid_dumpable() } else { coredump::USER };
    p.dumpable.store(dumpable, Relaxed);
    p.membarrier.store(0, Relaxed);
    me.set_cred(cred);
    if let Some(n) = TREE.lock().get_mut(p.pid()) {
        n.did_exec = true;
        n.exit_signal = set::CHLD;
    }
    let base = name.rsplit(|&b| b == b'/').next().unwrap_or(name);
    crate::trace::renamed(&me.task_ref(), base);
    sched::thread(&task).set_comm_bytes(base);

    let fresh_fpu = task.reset_fpu();
    if !fresh_fpu || loaded.finish(&built).is_err() {
        // No way back: Linux ends such a process with SIGSEGV.
        signal::send::force_fatal(set::SEGV);
    }
    let old = core::mem::replace(&mut *p.auxv.lock(), built.auxv);
    drop(old);
    crate::trace::executed(name, me.tid(), me.tid());
    *regs = Regs { rip: loaded.start, rsp: built.sp, rflags: 0x202, orig_rax: !0, ..Regs::default() };
}
