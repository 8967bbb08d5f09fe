//! User programs in the simulator: traps, system calls, forks, and the simulated TLB, under a page table made by hand.

mod common;

use std::{cell::Cell, rc::Rc};

use common::{boot, spawn};
use frame::{
    arch,
    atomic::{AtomicU32, Ordering},
    boot::power_off,
    page::{AllocFlags, PageRef, alloc_page},
    sim::{self, Config, RunResult, UserCtx},
    user::{RawTrap, Regs},
};

const WRITE: u64 = 2;
const USER: u64 = 4;
const ACCESSED: u64 = 0x20;
const DIRTY: u64 = 0x40;
const VA: u64 = 0x40_0000;

/// A four-level table that maps pages from `VA` on.
struct Space {
    tables: Vec<PageRef>,
}

impl Space {
    fn new() -> Self {
        let tables: Vec<_> = (0..4).map(|_| alloc_page(AllocFlags::ZERO).expect("memory")).collect();
        for level in (1..4).rev() {
            let (t, next) = (&tables[3 - level], &tables[4 - level]);
            let at = (VA >> (12 + 9 * level)) as usize & 511;
            t.write_u64(at * 8, next.pfn() << 12 | 1 | WRITE | USER);
        }
        Space { tables }
    }
    fn slot(&self, n: usize) -> usize {
        ((VA >> 12) as usize & 511) * 8 + n * 8
    }
    fn set(&self, n: usize, entry: u64) {
        self.tables[3].write_u64(self.slot(n), entry);
    }
    fn map(&self, n: usize, p: &PageRef, bits: u64) {
        self.set(n, p.pfn() << 12 | 1 | USER | bits);
    }
    fn entry(&self, n: usize) -> u64 {
        self.tables[3].read_u64(self.slot(n))
    }
    fn load(&self) {
        arch::load_page_table(self.tables[0].pfn());
    }
}

/// Runs until a trap that is not an interrupt.
fn go(r: &mut Regs) -> RawTrap {
    loop {
        arch::irq_disable();
        let t = arch::run_user(r, || ());
        if t != RawTrap::Interrupt {
            return t;
        }
    }
}

fn one_cpu(seed: u64) -> Config {
    Config { seed, cpus: 1, ..Config::default() }
}

fn page() -> PageRef {
    alloc_page(AllocFlags::ZERO).expect("memory")
}

fn start(f: impl Fn(&UserCtx) + 'static) -> Regs {
    Regs { rip: sim::user_program("test", f), ..Regs::default() }
}

fn run_ok(f: impl Fn()) {
    let out = sim::run(one_cpu(0), f);
    assert!(out.is_ok(), "{:?}\n{}", out.result, out.report);
}

#[test]
fn a_program_faults_its_memory_in_and_calls() {
    sim::campaign("user", 200, |_| {
        boot(|| {
            let s = Space::new();
            s.load();
            let mut r = start(|u| {
                u.store_u64(VA + 8, 77);
                let got = u.syscall(39, [1, 2, 3, 4, 5, u.load_u64(VA + 8)]);
                u.store_u64(VA + 16, got);
                u.syscall(60, [0; 6]);
            });
            // On one processor only: this test's page table is not part of its task.
            let _g = frame::context::PreemptGuard::new();
            assert_eq!(go(&mut r), RawTrap::PageFault { va: VA as usize + 8, error: 6 });
            let p = page();
            s.map(0, &p, WRITE);
            assert_eq!(go(&mut r), RawTrap::Syscall);
            assert_eq!((r.rax, r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9), (39, 1, 2, 3, 4, 5, 77));
            assert_eq!(s.entry(0) & (ACCESSED | DIRTY), ACCESSED | DIRTY);
            r.rax = 1000;
            assert_eq!(go(&mut r), RawTrap::Syscall);
            assert_eq!((r.rax, p.read_u64(16)), (60, 1000));
            power_off();
        })
    });
}

#[test]
fn a_call_can_be_restarted_and_a_handler_can_come_between() {
    run_ok(|| {
        boot(|| {
            let n = Rc::new(Cell::new(0));
            let m = n.clone();
            let mut r = start(move |u| {
                m.set(u.syscall(1, [9, 0, 0, 0, 0, 0]));
                u.syscall(60, [0; 6]);
            });
            assert_eq!(go(&mut r), RawTrap::Syscall);
            // As Linux restarts: back over the two bytes of `syscall`, with the number in rax. A handler runs first.
            let kept = Regs { rip: r.rip - 2, rax: 1, ..r };
            r.rip = sim::user_program("handler", |u| {
                assert_eq!(u.regs().rdi, 10);
                u.syscall(15, [0; 6]);
            });
            r.rdi = 10;
            assert_eq!(go(&mut r), RawTrap::Syscall);
            assert_eq!(r.rax, 15);
            r = kept;
            assert_eq!(go(&mut r), RawTrap::Syscall);
            assert_eq!((r.rax, r.rdi), (1, 9));
            r.rax = 5;
            assert_eq!(go(&mut r), RawTrap::Syscall);
            assert_eq!((r.rax, n.get()), (60, 5));
            r.rip = 0x1234_5000;
            assert_eq!(go(&mut r), RawTrap::PageFault { va: 0x1234_5000, error: 0x14 });
            power_off();
        })
    });
}

#[test]
fn forked_tasks_run_the_closures_of_their_calls() {
    static SUM: AtomicU32 = AtomicU32::new(0);
    static LEFT: AtomicU32 = AtomicU32::new(3);
    fn end() {
        if LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
            assert_eq!(SUM.load(Ordering::SeqCst), 111);
            power_off();
        }
    }
    sim::campaign("fork", 200, |_| {
        boot(|| {
            let mut r = start(|u| {
                for n in [1, 10] {
                    assert_eq!(u.fork(57, [0; 6], move |u| _ = u.syscall(100, [n, 0, 0, 0, 0, 0])), 42);
                }
                u.syscall(100, [100, 0, 0, 0, 0, 0]);
            });
            loop {
                assert_eq!(go(&mut r), RawTrap::Syscall);
                match r.rax {
                    57 => {
                        let mut child = Regs { rax: 0, ..r };
                        spawn("child", move || {
                            assert_eq!(go(&mut child), RawTrap::Syscall);
                            SUM.fetch_add(child.rdi as u32, Ordering::SeqCst);
                            end();
                        });
                        r.rax = 42;
                    }
                    _ => break,
                }
            }
            SUM.fetch_add(r.rdi as u32, Ordering::SeqCst);
            end();
        })
    });
}

#[test]
fn the_tlb_keeps_what_is_not_flushed() {
    run_ok(|| {
        boot(|| {
            let s = Space::new();
            s.load();
            let (a, b) = (page(), page());
            a.write_u64(0, 1);
            b.write_u64(0, 2);
            s.map(0, &a, WRITE);
            assert_eq!(frame::user::load_u64(VA as usize), Ok(1));
            s.map(0, &b, WRITE);
            assert_eq!(frame::user::load_u64(VA as usize), Ok(1), "stale, as on the machine");
            arch::flush_page(VA as usize);
            assert_eq!(frame::user::load_u64(VA as usize), Ok(2));
            // Read-only from now on: a write through the clean entry walks again and sees it.
            s.map(0, &b, 0);
            assert!(frame::user::store_u64(VA as usize, 3).is_err());
            s.set(0, 0);
            arch::flush_all();
            assert!(frame::user::load_u64(VA as usize).is_err());
            power_off();
        })
    });
}

#[test]
fn a_copy_ends_where_memory_does() {
    run_ok(|| {
        boot(|| {
            let s = Space::new();
            s.load();
            let p = page();
            s.map(0, &p, WRITE);
            let at = VA as usize + 4090;
            assert_eq!(frame::user::copy_to_user_partial(at, b"0123456789"), 6);
            let mut b = [0; 10];
            assert_eq!(frame::user::copy_from_user_partial(&mut b, at), 6);
            assert_eq!(&b[..7], b"012345\0");
            assert_eq!(frame::user::cmpxchg_u32(VA as usize, 0, 5), Ok(Ok(0)));
            assert_eq!(frame::user::cmpxchg_u32(VA as usize, 0, 6), Ok(Err(5)));
            power_off();
        })
    });
}

#[test]
fn a_freed_frame_behind_a_stale_entry_is_caught() {
    let out = sim::run(one_cpu(0), || {
        boot(|| {
            let s = Space::new();
            s.load();
            let p = page();
            s.map(0, &p, WRITE);
            assert!(frame::user::load_u64(VA as usize).is_ok());
            s.set(0, 0);
            // The flush is missing here.
            drop(p);
            let _ = frame::user::load_u64(VA as usize);
        })
    });
    assert!(matches!(&out.result, RunResult::Panic(m) if m.contains("missing shoot-down")), "{out:?}");
}
