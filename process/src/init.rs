//! The first process.
//!
//! PID 1 begins as a thread in the kernel and becomes init by running a program: the initramfs' `/init` (or `rdinit=`), else
//! `init=`, else one of the places where a system keeps it. Without any the machine is of no use: panic, in Linux's words.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};

use base::{Cred, Errno, Result, params};
use frame::{sync::once::Once, user::Regs};
use sched::TaskRef;
use vfs::{FdTable, FsContext, LookupFlags, OpenFlags};

use crate::{
    exec,
    process::{Process, ThreadData, current},
    rlimit::Limits,
    signal::action,
    stack::Strings,
    tree::{INIT, TREE},
    user_loop, users,
};

/// What the wiring wants done by PID 1 before it looks for a program: drivers that need a thread, the initramfs.
type Before = Box<dyn FnOnce() + Send>;

/// Makes PID 1 and starts it. `before` runs in it first.
pub fn start_init(before: Before) -> Result<TaskRef> {
    let task = sched::spawn_init(None, Box::new(move || first(before)))?;
    task.start();
    Ok(task)
}

fn first(before: Before) {
    before();
    adopt().expect("no memory for init");
    let mut regs = Regs::default();
    run_program(&mut regs);
    user_loop::run(regs)
}

/// Starts PID 1 with registers that a simulation made, in an empty address space, instead of a program from a file.
#[cfg(not(target_os = "none"))]
pub fn start_simulated(before: Before, regs: impl FnOnce() -> Regs + Send + 'static) -> Result<TaskRef> {
    let run = move || {
        before();
        adopt().expect("no memory for init");
        let me = current();
        let mm = mm::Mm::new().expect("no memory for init");
        let pt = mm.page_table().clone();
        *me.process.mm.lock() = Some(crate::process::MmUser::new(mm).expect("no memory for init"));
        me.task().set_page_table(Some(pt));
        assert!(me.task().reset_fpu());
        user_loop::run(regs())
    };
    sched::spawn_init(None, Box::new(run))
}

/// Gives the running thread, PID 1, what a user thread has.
fn adopt() -> Result<()> {
    let limits = Limits::initial(users::threads_max());
    let p = Process::new(INIT, action::defaults()?, None, limits)?;
    let files = frame::heap::try_arc(FdTable::new()).ok_or(Errno::ENOMEM)?;
    let fs = frame::heap::try_arc(FsContext::new(vfs::mount::root())).ok_or(Errno::ENOMEM)?;
    let cred = frame::heap::try_arc(Cred::root()).ok_or(Errno::ENOMEM)?;
    let d = ThreadData::new(p.clone(), cred, files, fs)?;
    users::charge(0, u64::MAX, true)?;
    let task = frame::task::current();
    sched::thread(&task)
        .set_payload(frame::heap::try_box(d).ok_or(Errno::ENOMEM)?)
        .map_err(|_| Errno::EBUSY)?;
    {
        let mut s = p.sig.lock();
        s.threads.push(task.arc());
        s.leader = Some(task.arc());
        s.unkillable = true;
    }
    let mut tree = TREE.lock();
    tree.insert(INIT, 0, 0, 0, p);
    drop(tree);
    open_console();
    Ok(())
}

/// Descriptors 0, 1 and 2.
fn open_console() {
    let me = current();
    match vfs::open(&me.ctx(), None, b"/dev/console", OpenFlags::RDWR, 0) {
        Ok(f) => {
            for fd in 0..3 {
                let _ = me.files().put_at(fd, f.clone(), false);
            }
        }
        Err(_) => base::pr_err!("Warning: unable to open an initial console."),
    }
}

static ARGS: Once<(Vec<String>, Vec<String>)> = Once::new();

/// Arguments and environment for init: the parameters that the kernel did not know, as Linux hands them on. The wiring says which
/// ones are the kernel's own.
pub fn set_arguments(args: Vec<String>, env: Vec<String>) {
    ARGS.call_once(|| (args, env));
}

fn run_program(regs: &mut Regs) {
    let rd = params::get("rdinit").unwrap_or("/init");
    let me = current();
    if vfs::lookup(&me.ctx(), None, rd.as_bytes(), LookupFlags::FOLLOW).is_ok() {
        match run(regs, rd) {
            Ok(()) => return,
            Err(e) => base::pr_err!("Failed to execute {rd} (error -{})", e.code()),
        }
    }
    if let Some(init) = params::get("init") {
        match run(regs, init) {
            Ok(()) => return,
            Err(e) => panic!("Requested init {init} failed (error -{}).", e.code()),
        }
    }
    for path in ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"] {
        match run(regs, path) {
            Ok(()) => return,
            Err(Errno::ENOENT) => {}
            Err(e) => {
                base::pr_err!("Starting init: {path} exists but couldn't execute it (error -{})", e.code())
            }
        }
    }
    panic!(
        "No working init found.  Try passing init= option to kernel. See Linux Documentation/admin-guide/init.rst for guidance."
    );
}

fn run(regs: &mut Regs, path: &str) -> Result<()> {
    let (args, env) = ARGS.get().map_or((&[][..], &[][..]), |(a, e)| (&a[..], &e[..]));
    let mut argv = Strings::new();
    let mut envp = Strings::new();
    argv.push(path.as_bytes())?;
    for a in args {
        argv.push(a.as_bytes())?;
    }
    envp.push(b"HOME=/")?;
    envp.push(b"TERM=linux")?;
    for e in env {
        envp.push(e.as_bytes())?;
    }
    base::pr_info!("Run {path} as init process");
    base::pr_debug!("  with arguments:");
    for a in argv.iter() {
        base::pr_debug!("    {}", String::from_utf8_lossy(a));
    }
    base::pr_debug!("  with environment:");
    for e in envp.iter() {
        base::pr_debug!("    {}", String::from_utf8_lossy(e));
    }
    exec::exec(regs, None, path.as_bytes(), LookupFlags::FOLLOW, argv, envp)
}

/// The process of init, once there is one.
pub fn process() -> Option<Arc<Process>> {
    crate::process::find(INIT)
}
