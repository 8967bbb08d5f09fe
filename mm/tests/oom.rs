//! Memory runs out under simulation: one program is killed, the others go on, and nobody waits for ever.

mod common;

use std::sync::Arc;

use common::{PAGE, RW, announce, boot, exit, map_fixed, retire, run};
use frame::{
    atomic::{AtomicU64, Ordering},
    sim::{self, Config, RunResult, UserCtx},
    sync::{LockClass, SpinLock},
};
use mm::{
    Mm,
    oom::{Candidate, OomVictims, install_victims},
};

const VA: usize = 0x40_0000;
/// Two of these do not fit into memory, one does.
const MEMORY_MIB: u32 = 16;
const BIG: usize = 9 << 8;

static CLASS: LockClass = LockClass::new("test_victims");
static PROGRAMS: SpinLock<Vec<(u32, Arc<Mm>, i16)>> = SpinLock::new(&CLASS, Vec::new());
static KILLED: AtomicU64 = AtomicU64::new(0);

struct Victims;
impl OomVictims for Victims {
    fn for_each(&self, f: &mut dyn FnMut(Candidate)) {
        let all: Vec<_> = PROGRAMS.lock().iter().cloned().collect();
        for (pid, mm, oom_score_adj) in all {
            f(Candidate { pid, uid: 0, comm: format!("program{pid}"), mm, oom_score_adj, unkillable: false });
        }
    }
    fn kill(&self, pid: u32) {
        assert_eq!(KILLED.fetch_or(1 << pid, Ordering::SeqCst) & 1 << pid, 0, "killed twice");
    }
}

/// Fills its region, and finds everything there in the end.
fn eater(u: &UserCtx) {
    let pages = u.regs().rdi;
    let at = |p: u64| VA as u64 + p * PAGE as u64;
    for p in 0..pages {
        u.store_u64(at(p), p + 1);
        if p % 64 == 0 {
            u.syscall(39, [0; 6]);
        }
    }
    for p in 0..pages {
        assert_eq!(u.load_u64(at(p)), p + 1, "memory of a living program was taken");
    }
    exit(u);
}

fn memory_runs_out(expected: bool) {
    boot(move || {
        install_victims(&Victims);
        let mut threads = Vec::new();
        for (pid, pages, adj) in [(1, BIG, 0), (2, BIG, 0), (3, 100, -1000)] {
            let mm = Mm::new().unwrap();
            map_fixed(&mm, VA, pages, RW);
            announce(&mm);
            PROGRAMS.lock().push((pid, mm.clone(), adj));
            threads.push((run(&mm, "eater", pages as u64, eater), mm));
        }
        for (t, mm) in &threads {
            t.wait();
            PROGRAMS.lock().retain(|(_, m, _)| !Arc::ptr_eq(m, mm));
        }
        let killed = KILLED.load(Ordering::SeqCst);
        assert!(expected || killed == 0, "somebody was killed");
        assert!(killed == 1 << 1 || killed == 1 << 2 || killed == 0, "killed: {killed:#x}");
        assert_eq!(common::NO_MEMORY.load(Ordering::SeqCst), u64::from(killed.count_ones()));
        for (_, mm) in threads {
            retire(&mm);
        }
    });
}

#[test]
fn one_program_is_killed_and_the_others_go_on() {
    let config = |seed| Config { memory_mib: MEMORY_MIB, ..Config::from_seed(seed) };
    sim::campaign_with("oom", 40, config, |_| memory_runs_out(true));
    // And it does come to that.
    let (_, out) = sim::expect_failure_with("oom_happens", 40, config, |_| memory_runs_out(false));
    assert!(matches!(&out.result, RunResult::Panic(m) if m.contains("somebody was killed")), "{out:?}");
}
