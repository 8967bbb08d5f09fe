//! What a process has used (`getrusage(2)`, `times(2)`).

use crate::process::{Process, ThreadData, data};
use sched::TaskRef;

/// Resources used. Times in nanoseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Usage {
    pub user_ns: u64,
    pub system_ns: u64,
    pub minflt: u64,
    pub majflt: u64,
    /// Voluntary and involuntary switches.
    pub nvcsw: u64,
    pub nivcsw: u64,
    /// The largest resident set, in KiB. Adding takes the larger.
    pub maxrss_kib: u64,
}

impl Usage {
    pub fn add(&mut self, o: &Usage) {
        self.user_ns += o.user_ns;
        self.system_ns += o.system_ns;
        self.minflt += o.minflt;
        self.majflt += o.majflt;
        self.nvcsw += o.nvcsw;
        self.nivcsw += o.nivcsw;
        self.maxrss_kib = self.maxrss_kib.max(o.maxrss_kib);
    }

    /// One thread's.
    pub fn of_thread(task: &frame::task::Task, d: &ThreadData) -> Usage {
        let t = sched::thread(task).times();
        let (nvcsw, nivcsw) = task.switches();
        let (minflt, majflt) = d.faults();
        Usage { user_ns: t.user_ns, system_ns: t.system_ns, minflt, majflt, nvcsw, nivcsw, maxrss_kib: 0 }
    }

    /// A whole process's, without the size of its memory: threads that run and threads that have ended. Safe in interrupts.
    pub fn of_threads(p: &Process) -> Usage {
        let s = p.sig.lock();
        let mut u = s.gone;
        for t in &s.threads {
            if let Some(d) = data(t) {
                u.add(&Usage::of_thread(t, d));
            }
        }
        u
    }

    /// A whole process's.
    pub fn of_process(p: &Process) -> Usage {
        let mut u = Usage::of_threads(p);
        u.maxrss_kib = u.maxrss_kib.max(p.maxrss_kib());
        u
    }

    /// `struct rusage`: 144 bytes. What is not counted is 0, as on Linux.
    pub fn to_bytes(&self) -> [u8; 144] {
        let mut b = [0; 144];
        let us = |ns: u64| (ns / 1_000_000_000, ns % 1_000_000_000 / 1000);
        let ((us_, uu), (ss, su)) = (us(self.user_ns), us(self.system_ns));
        let words = [
            us_,
            uu,
            ss,
            su,
            self.maxrss_kib,
            0,
            0,
            0,
            self.minflt,
            self.majflt,
            0,
            0,
            0,
            0,
            0,
            0,
            self.nvcsw,
            self.nivcsw,
        ];
        for (c, w) in b.chunks_exact_mut(8).zip(words) {
            c.copy_from_slice(&w.to_le_bytes());
        }
        b
    }
}

/// The whole process's figures, given one of its threads.
pub fn of_task(t: &TaskRef) -> Option<Usage> {
    data(t).map(|d| Usage::of_process(&d.process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_split_into_seconds_and_microseconds() {
        let u = Usage { user_ns: 3_000_002_999, nivcsw: 9, ..Usage::default() };
        let b = u.to_bytes();
        let w = |i: usize| u64::from_le_bytes(b[i * 8..i * 8 + 8].try_into().unwrap());
        assert_eq!((w(0), w(1), w(2), w(17)), (3, 2, 0, 9));
    }
}
