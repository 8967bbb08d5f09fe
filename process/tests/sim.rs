//! Processes under simulation: several processors, seeded preemption at every atomic access.
//!
//! `NIGHTSHIFT_SEEDS=10000 cargo test -p process --test sim --release` for a long campaign; `NIGHTSHIFT_SEED=n` replays one.

use base::{Errno, Result};
use frame::{
    atomic::{AtomicU64, Ordering::SeqCst},
    sim::{self, UserCtx},
    user::Regs,
};
use mm::{MapFlags, MapRequest, Prot};
use process::{
    clone::{self, CloneArgs},
    current, exec, exit, futex, pgrp,
    signal::send,
    tree::TREE,
    umh::{self, Program, Wait},
    user_loop, wait,
};
use sched::freezer;

const SEEDS: u64 = 100;

const MMAP: u64 = 9;
const GETPID: u64 = 39;
const CLONE: u64 = 56;
const EXIT: u64 = 60;
const WAIT4: u64 = 61;
const KILL: u64 = 62;
const GETPPID: u64 = 110;
const FUTEX: u64 = 202;
const EXIT_GROUP: u64 = 231;
/// Not calls of Linux: a helper (`rdi`: what to wait for), and a suspend that turns back after freezing.
const HELPER: u64 = 500;
const FREEZE: u64 = 501;

/// The few calls that the programs here make; results as on Linux.
fn dispatch(r: &mut Regs) {
    let v = match call(r) {
        Ok(v) => v,
        Err(e) => -(e.code() as i64) as u64,
    };
    r.rax = v;
}

fn call(r: &mut Regs) -> Result<u64> {
    match r.rax {
        GETPID => Ok(current().process.pid() as u64),
        GETPPID => Ok(pgrp::getppid() as u64),
        CLONE => {
            let a =
                CloneArgs { flags: r.rdi & !0xff, exit_signal: r.rdi as u32 & 0xff, ..CloneArgs::default() };
            clone::clone(r, &a).map(u64::from)
        }
        EXIT => exit::exit_thread((r.rdi as u32 & 0xff) << 8),
        EXIT_GROUP => exit::exit_group((r.rdi as u32 & 0xff) << 8),
        WAIT4 => {
            Ok(wait::wait4(r.rdi as i32, r.rdx as u32)?.map_or(0, |n| n.pid as u64 | (n.status as u64) << 32))
        }
        KILL => send::kill(r.rdi as i32, r.rsi as u32).map(|()| 0),
        MMAP => {
            let me = current();
            let req = MapRequest {
                addr: 0,
                len: r.rsi as usize,
                prot: Prot::READ | Prot::WRITE,
                flags: MapFlags::ANON | if r.rdi == 1 { MapFlags::SHARED } else { MapFlags::PRIVATE },
                file: None,
                limits: exec::mm_limits(&me),
            };
            me.process.mm().ok_or(Errno::ENOMEM)?.mmap(&req).map(|a| a as u64)
        }
        FUTEX => match r.rsi {
            0 => futex::wait(r.rdi as usize, true, r.rdx as u32, !0, None, false).map(|()| 0),
            1 => futex::wake(r.rdi as usize, true, r.rdx as usize, !0).map(|n| n as u64),
            _ => futex::requeue(
                r.rdi as usize,
                r.r8 as usize,
                true,
                r.rdx as usize,
                r.r10 as usize,
                Some(r.r9 as u32),
            )
            .map(|n| n as u64),
        },
        HELPER => {
            let wait = [Wait::No, Wait::Exec, Wait::End][r.rdi as usize % 3];
            let program = Program::new([&b"/no/such/program"[..]], umh::ENVIRONMENT)?;
            umh::call(program, wait, r.rsi != 0).map(|n| n as u64)
        }
        FREEZE => {
            umh::disable()?;
            let r = freezer::freeze_processes();
            if r.is_ok() {
                let before = WORK.load(SeqCst);
                sched::time::sleep_ns(sim::random(1000) * 1000);
                assert_eq!(WORK.load(SeqCst), before, "a program ran while all were frozen");
                freezer::thaw_processes();
            }
            umh::enable();
            r.map(|()| 0)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// What the programs have done.
static WORK: AtomicU64 = AtomicU64::new(0);

fn boot(program: impl Fn(&UserCtx) + Send + 'static) {
    mm::init();
    sched::init_boot_cpu();
    static CALLS: [user_loop::Handler; 512] = [|r| {
        dispatch(r);
        r.rax
    }; 512];
    user_loop::install_calls(&CALLS);
    // What declares knobs may sleep: it belongs into the first task, as in the kernel.
    let before = || {
        sched::start_other_cpus();
        sched::start_daemons().unwrap();
        fs::init().unwrap();
        process::init().unwrap();
    };
    let regs = move || Regs { rip: sim::user_program("init", program), ..Regs::default() };
    let init = process::init::start_simulated(Box::new(before), regs).unwrap();
    sim::watch_task(&init, "init");
    sched::start_kthreadd().unwrap();
    init.start();
    sched::cpu_idle()
}

const SIGCHLD: u64 = 17;
/// What pthreads are made with.
const THREAD: u64 = clone::VM | clone::FS | clone::FILES | clone::SIGHAND | clone::THREAD;

fn is_err(v: u64) -> bool {
    v > -4096i64 as u64
}

/// Some generations of processes, of which only some wait for their children.
fn family(u: &UserCtx, depth: u64) {
    for _ in 0..sim::random(3) {
        if depth > 0 {
            let n = u.fork(CLONE, [SIGCHLD, 0, 0, 0, 0, 0], move |u| {
                family(u, depth - 1);
                u.syscall(EXIT_GROUP, [depth, 0, 0, 0, 0, 0]);
            });
            assert!(!is_err(n), "fork: {}", n as i64);
        }
    }
    if sim::random(2) == 0 {
        while !is_err(u.syscall(WAIT4, [-1i64 as u64, 0, 0, 0, 0, 0])) {}
    }
}

#[test]
fn every_orphan_is_adopted_and_collected() {
    sim::campaign("orphans", SEEDS, |_| {
        boot(|u| {
            family(u, 3);
            // Whoever was left behind is ours: wait until there is nobody.
            while !is_err(u.syscall(WAIT4, [-1i64 as u64, 0, 0, 0, 0, 0])) {}
            assert_eq!(TREE.lock().len(), 1);
            frame::boot::power_off()
        })
    });
}

#[test]
fn futex_wake_ups_are_not_lost() {
    sim::campaign("futex", SEEDS, |_| {
        boot(|u| {
            let page = u.syscall(MMAP, [0, 4096, 0, 0, 0, 0]);
            assert!(!is_err(page), "mmap: {}", page as i64);
            let (tokens, done) = (page, page + 64);
            let workers = 1 + sim::random(3);
            let rounds = 1 + sim::random(4);
            for _ in 0..workers {
                let n = u.fork(CLONE, [THREAD, 0, 0, 0, 0, 0], move |u| {
                    for _ in 0..rounds {
                        take(u, tokens);
                    }
                    u.fetch_add_u32(done, 1);
                    u.syscall(FUTEX, [done, 1, 1, 0, 0, 0]);
                    u.syscall(EXIT, [0; 6]);
                });
                assert!(!is_err(n), "clone: {}", n as i64);
            }
            for _ in 0..workers * rounds {
                u.fetch_add_u32(tokens, 1);
                u.syscall(FUTEX, [tokens, 1, 1, 0, 0, 0]);
            }
            loop {
                let n = u.load_u32(done);
                if n as u64 == workers {
                    break;
                }
                u.syscall(FUTEX, [done, 0, n as u64, 0, 0, 0]);
            }
            frame::boot::power_off()
        })
    });
}

/// Takes one token, sleeping while there is none.
fn take(u: &UserCtx, tokens: u64) {
    loop {
        let n = u.load_u32(tokens);
        if n == 0 {
            u.syscall(FUTEX, [tokens, 0, 0, 0, 0, 0]);
        } else if u.cmpxchg_u32(tokens, n, n - 1) == n {
            return;
        }
    }
}

#[test]
fn a_killed_process_takes_all_its_threads_along() {
    sim::campaign("kill", SEEDS, |_| {
        boot(|u| {
            let child = u.fork(CLONE, [SIGCHLD, 0, 0, 0, 0, 0], |u| {
                let page = u.syscall(MMAP, [0, 4096, 0, 0, 0, 0]);
                for _ in 0..sim::random(3) {
                    u.fork(CLONE, [THREAD, 0, 0, 0, 0, 0], move |u| {
                        loop {
                            u.syscall(FUTEX, [page, 0, 0, 0, 0, 0]);
                        }
                    });
                }
                // Or it ends itself, before or after its threads.
                if sim::random(2) == 0 {
                    u.compute(sim::random(50) as u32);
                    u.syscall(EXIT_GROUP, [9, 0, 0, 0, 0, 0]);
                }
                loop {
                    u.compute(3);
                    u.syscall(GETPPID, [0; 6]);
                }
            });
            u.compute(sim::random(50) as u32);
            assert_eq!(u.syscall(KILL, [child, 9, 0, 0, 0, 0]), 0);
            let status = u.syscall(WAIT4, [child, 0, 0, 0, 0, 0]);
            assert!([child | 9 << 32, child | 9 << 40].contains(&status), "{status:#x}");
            assert!(is_err(u.syscall(KILL, [child, 0, 0, 0, 0, 0])));
            let mut programs = Vec::new();
            sched::pid::for_each(|t| {
                programs.extend(process::process::data(t).map(|_| sched::thread(t).pid()))
            });
            assert_eq!(programs, [1], "threads are left");
            // Init itself is deaf to what it has no handler for.
            assert_eq!(u.syscall(KILL, [1, 9, 0, 0, 0, 0]), 0);
            assert_eq!(u.syscall(GETPID, [0; 6]), 1);
            frame::boot::power_off()
        })
    });
}

/// Helpers that cannot start are told of, whoever calls at the same time, and leave nothing behind.
#[test]
fn helpers_end_without_a_trace() {
    sim::campaign("umh", SEEDS, |_| {
        boot(|u| {
            for _ in 0..1 + sim::random(3) {
                u.fork(CLONE, [SIGCHLD, 0, 0, 0, 0, 0], |u| {
                    for _ in 0..1 + sim::random(3) {
                        let wait = sim::random(3);
                        let r = u.syscall(HELPER, [wait, sim::random(2), 0, 0, 0, 0]) as i64;
                        assert!(r == -2 || wait == 0 && r == 0, "{wait}: {r}");
                    }
                    u.syscall(EXIT_GROUP, [0; 6]);
                });
            }
            while !is_err(u.syscall(WAIT4, [-1i64 as u64, 0, 0, 0, 0, 0])) {}
            // The last of those that nobody waited for.
            let mut tries = 0;
            while TREE.lock().len() > 1 {
                u.compute(1000);
                tries += 1;
                assert!(tries < 10_000, "a helper stayed behind");
            }
            frame::boot::power_off()
        })
    });
}

/// Programs that compute, sleep on futexes, fork and wait stand still while frozen, and go on as if nothing had been.
#[test]
fn programs_do_not_notice_a_freeze() {
    sim::campaign("freeze", SEEDS, |_| {
        boot(|u| {
            let page = u.syscall(MMAP, [1, 4096, 0, 0, 0, 0]);
            let n = 1 + sim::random(3);
            for _ in 0..n {
                u.fork(CLONE, [SIGCHLD, 0, 0, 0, 0, 0], move |u| {
                    for _ in 0..1 + sim::random(5) {
                        WORK.fetch_add(1, SeqCst);
                        take(u, page);
                        let child = u.fork(CLONE, [SIGCHLD, 0, 0, 0, 0, 0], |u| {
                            WORK.fetch_add(1, SeqCst);
                            u.syscall(EXIT_GROUP, [7, 0, 0, 0, 0, 0]);
                        });
                        assert_eq!(u.syscall(WAIT4, [child, 0, 0, 0, 0, 0]), child | 7 << 40);
                    }
                    u.syscall(EXIT_GROUP, [0; 6]);
                });
            }
            for _ in 0..1 + sim::random(3) {
                for _ in 0..sim::random(4) {
                    u.fetch_add_u32(page, 1);
                    u.syscall(FUTEX, [page, 1, 1, 0, 0, 0]);
                }
                assert_eq!(u.syscall(FREEZE, [0; 6]), 0);
                u.compute(sim::random(200) as u32);
            }
            for _ in 0..n * 5 {
                u.fetch_add_u32(page, 1);
                u.syscall(FUTEX, [page, 1, 1, 0, 0, 0]);
            }
            for _ in 0..n {
                assert!(!is_err(u.syscall(WAIT4, [-1i64 as u64, 0, 0, 0, 0, 0])));
            }
            frame::boot::power_off()
        })
    });
}
