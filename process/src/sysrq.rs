//! What the SysRq commands do to processes, and what reports of the kernel tell of them.

use drivers::sysrq::Actions;
use sched::{TaskRef, Thread, report::Relations};

use crate::{
    process::ThreadData,
    signal::{
        SigInfo,
        send::{self, Force},
    },
    tree::TREE,
};

struct Here;

/// Init is spared: without it the machine could only panic.
const INIT: u32 = 1;

impl Actions for Here {
    fn signal_all(&self, signal: u32) {
        let all: alloc::vec::Vec<_> =
            TREE.lock().iter().filter(|(pid, _)| *pid != INIT).map(|(_, n)| n.what.clone()).collect();
        for p in all {
            // A process without memory for the signal's details gets it without them.
            let _ = send::send_process(&p, SigInfo::kernel(signal), Force::Kernel);
        }
    }
    fn kill_for_memory(&self) {
        mm::oom::kill_one();
    }
}

impl Relations for Here {
    fn parent_of(&self, t: &TaskRef) -> u32 {
        let tree = TREE.lock();
        tree.get(sched::thread(t).tgid()).map_or_else(|| kernel_parent(t), |n| n.parent)
    }
    fn uid_of(&self, t: &Thread) -> Option<u32> {
        t.payload::<ThreadData>()?.try_euid()
    }
}

/// Kernel threads are children of `kthreadd`, which has no parent.
fn kernel_parent(t: &TaskRef) -> u32 {
    const KTHREADD: u32 = 2;
    let th = sched::thread(t);
    if th.is_kthread() && th.pid() != KTHREADD { KTHREADD } else { 0 }
}

pub(crate) fn init() {
    drivers::sysrq::install(&Here);
    sched::report::install(&Here);
}
