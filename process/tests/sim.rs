//! Processes under simulation: several processors, seeded preemption at every atomic access.
//!
//! `NIGHTSHIFT_SEEDS=10000 cargo test -p process --test sim --release` for a long campaign; `NIGHTSHIFT_SEED=n` replays one.

use base::{Errno, Result};
use frame::{
    sim::{self, UserCtx},
    user::Regs,
};
use mm::{MapFlags, MapRequest, Prot};
use process::{
    clone::{self, CloneArgs},
    current, exec, exit, futex, pgrp,
    signal::send,
    tree::TREE,
    user_loop, wait,
};

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
        _ => Err(Errno::ENOSYS),
    }
}

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
        process::init().unwrap();
        sched::start_other_cpus();
        sched::start_daemons().unwrap();
        fs::init().unwrap();
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
                loop {
                    u.compute(3);
                    u.syscall(GETPPID, [0; 6]);
                }
            });
            u.compute(sim::random(50) as u32);
            assert_eq!(u.syscall(KILL, [child, 9, 0, 0, 0, 0]), 0);
            assert_eq!(u.syscall(WAIT4, [child, 0, 0, 0, 0, 0]), child | 9 << 32);
            assert!(is_err(u.syscall(KILL, [child, 0, 0, 0, 0, 0])));
            // Init itself is deaf to what it has no handler for.
            assert_eq!(u.syscall(KILL, [1, 9, 0, 0, 0, 0]), 0);
            assert_eq!(u.syscall(GETPID, [0; 6]), 1);
            frame::boot::power_off()
        })
    });
}
