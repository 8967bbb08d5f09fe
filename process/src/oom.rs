//! Who the OOM killer may choose, and how they are killed.

use alloc::{string::String, vec::Vec};

use frame::atomic::Ordering::Relaxed;
use mm::oom::{Candidate, OomVictims};

use crate::{
    process::{Process, data, find, try_current},
    signal::{
        SigInfo,
        send::{self, Force},
        set::KILL,
    },
    tree::{INIT, TREE},
};

struct Victims;
static VICTIMS: Victims = Victims;

fn candidate(p: &Process) -> Option<Candidate> {
    let mm = p.mm()?;
    let leader = p.leader()?;
    Some(Candidate {
        pid: p.pid(),
        uid: data(&leader).map_or(0, |d| d.cred().uid),
        comm: comm(&leader),
        mm,
        oom_score_adj: p.oom_score_adj.load(Relaxed) as i16,
        unkillable: p.pid() == INIT,
    })
}

fn comm(t: &frame::task::Task) -> String {
    alloc::format!("{}", sched::thread(t).comm())
}

impl OomVictims for Victims {
    fn for_each(&self, f: &mut dyn FnMut(Candidate)) {
        // One at a time by number, so that `f` runs without the tree's lock and nothing grows with the number of processes.
        let mut from = 0;
        loop {
            let next = TREE.lock().next(from).map(|(n, p)| (n, p.what.clone()));
            let Some((n, p)) = next else { break };
            from = n + 1;
            if let Some(c) = candidate(&p) {
                f(c);
            }
        }
    }

    fn kill(&self, pid: u32) {
        let Some(p) = find(pid) else { return };
        let Some(mm) = p.mm() else { return };
        let sharers: Vec<_> = {
            let t = TREE.lock();
            let same = |q: &Process| q.mm().is_some_and(|m| alloc::sync::Arc::ptr_eq(&m, &mm));
            t.iter().filter(|(n, x)| *n != INIT && same(&x.what)).map(|(_, x)| x.what.clone()).collect()
        };
        for q in sharers {
            let _ = send::send_process(&q, SigInfo::kernel(KILL), Force::Kernel);
        }
    }

    fn current(&self) -> Option<(u32, String, i16)> {
        let me = try_current()?;
        Some((me.process.pid(), comm(&me.task()), me.process.oom_score_adj.load(Relaxed) as i16))
    }
}

/// Offers the processes to the OOM killer.
pub(crate) fn install() {
    mm::oom::install_victims(&VICTIMS);
}
