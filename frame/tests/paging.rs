//! Real page tables under simulated programs: pages are unmapped and freed under their users' hands, on all processors.

mod common;

use std::sync::Arc;

use common::{boot, spawn};
use frame::{
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    boot::power_off,
    page::{AllocFlags, alloc_page},
    paging::{
        Access, Fault, FaultHandler, Flags, MapError, Origin, PageTable, TlbBatch, install_fault_handler,
    },
    sim::{self, Config, RunResult, UserCtx},
    sync::once::Once,
    task,
    user::{self, Regs, Trap},
};

const VA: usize = 0x40_0000;
const PAGES: usize = 4;
const PAGE: usize = 4096;

/// Gives a zero page for any address of the test's range.
struct Zero;
static FAULTS: AtomicU64 = AtomicU64::new(0);

impl FaultHandler for Zero {
    fn handle(&self, va: usize, _access: Access, _from: Origin) -> Result<(), Fault> {
        FAULTS.fetch_add(1, Ordering::Relaxed);
        if !(VA..VA + PAGES * PAGE).contains(&va) {
            return Err(Fault::SegvMaperr);
        }
        let pt = task::current().page_table().ok_or(Fault::SegvMaperr)?;
        let page = alloc_page(AllocFlags::ZERO).ok_or(Fault::OutOfMemory)?;
        let reserve = PageTable::reserve().ok_or(Fault::OutOfMemory)?;
        let mut c = pt.lock();
        c.give(reserve);
        match c.map(va & !(PAGE - 1), page, Flags::READ | Flags::WRITE | Flags::USER) {
            // The other thread was faster.
            Ok(()) | Err(MapError::Busy) => Ok(()),
            Err(_) => Err(Fault::OutOfMemory),
        }
    }
}

/// A task with its address space and program; at its exit call `done` runs.
fn process(name: &str, pt: &Arc<PageTable>, rip: u64, rdi: u64, done: fn()) {
    let pt = pt.clone();
    spawn(name, move || {
        task::current().set_page_table(Some(pt));
        let mut r = Regs { rip, rdi, ..Regs::default() };
        loop {
            match user::run(&mut r) {
                Trap::Syscall if r.rax == 60 => break,
                Trap::Syscall => r.rax = 0,
                Trap::Interrupt => {}
                t => panic!("the program ended by {t:?}"),
            }
        }
        done();
    });
}

static LEFT: AtomicU32 = AtomicU32::new(2);
static STOP: AtomicBool = AtomicBool::new(false);

fn one_less() {
    if LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
        STOP.store(true, Ordering::SeqCst);
    }
}

/// Each thread owns one word of each page; what it reads is what it wrote last, or 0 of a fresh page.
fn writer(u: &UserCtx) {
    let word = u.regs().rdi * 8;
    for round in 1..6u64 {
        for p in 0..PAGES {
            let at = (VA + p * PAGE) as u64 + word;
            u.store_u64(at, round);
            let got = u.load_u64(at);
            assert!(got == round || got == 0, "{at:#x}: {got} in round {round}");
        }
        u.syscall(39, [0; 6]);
    }
    u.syscall(60, [0; 6]);
}

fn unmap_under_programs() -> ! {
    boot(|| {
        install_fault_handler(&Zero);
        let pt = PageTable::new().expect("memory");
        let rip = sim::user_program("writer", writer);
        process("thread0", &pt, rip, 0, one_less);
        process("thread1", &pt, rip, 1, one_less);
        while !STOP.load(Ordering::SeqCst) {
            let mut batch = TlbBatch::new(&pt);
            pt.lock().unmap_range(VA..VA + PAGES * PAGE, &mut batch);
            batch.flush();
            task::schedule();
        }
        power_off();
    })
}

#[test]
fn pages_go_away_under_running_programs() {
    sim::campaign("unmap", 1000, |_| unmap_under_programs());
}

/// Copies between kernel and user memory meet the same unmapping.
#[test]
fn user_copies_fault_their_memory_in() {
    sim::campaign("copies", 300, |_| {
        boot(|| {
            install_fault_handler(&Zero);
            let pt = PageTable::new().expect("memory");
            task::current().set_page_table(Some(pt.clone()));
            static PT: Once<Arc<PageTable>> = Once::new();
            PT.call_once(|| pt.clone());
            spawn("unmapper", || {
                while !STOP.load(Ordering::SeqCst) {
                    let pt = PT.get().expect("set before");
                    let mut batch = TlbBatch::new(pt);
                    pt.lock().unmap_range(VA..VA + PAGES * PAGE, &mut batch);
                    batch.flush();
                    task::schedule();
                }
                power_off();
            });
            for round in 0..20u8 {
                let data = [round + 1; 100];
                let at = VA + PAGE * (round as usize % (PAGES - 1)) + PAGE - 50;
                assert_eq!(user::copy_to_user(at, &data), Ok(()));
                let mut back = [0xff; 100];
                assert_eq!(user::copy_from_user(&mut back, at), Ok(()));
                assert!(back.iter().all(|&b| b == round + 1 || b == 0), "{back:?}");
            }
            assert_eq!(user::copy_to_user(VA - 8, &[0; 16]), Err(user::Fault));
            STOP.store(true, Ordering::SeqCst);
        })
    });
}

/// The same with a processor that ignores its flushes.
#[test]
fn a_missing_shoot_down_is_found() {
    let config = |seed| Config { cpus: 2, ..Config::from_seed(seed) };
    let (_, out) = sim::expect_failure_with("missing_shoot_down", 500, config, |_| {
        sim::break_tlb_flushes(1);
        unmap_under_programs()
    });
    assert!(matches!(&out.result, RunResult::Panic(m) if m.contains("missing shoot-down")), "{out:?}");
}
