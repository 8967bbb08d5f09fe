//! Affinity scopes: how far from where it is queued an unbound item may be executed.
//!
//! A scope divides the processors into *pods*. Each pod that a queue may use has a pool, whose workers are woken in the pod (and, where
//! the queue's attribute `affinity_strict` is set, stay there); so what an item touches is found in a cache nearby, and still any number
//! of workers can be busy. The default is the pod of processors behind one cache. A pod with no processor online that the queue may use
//! has no pool: what is queued there goes to one for all of the queue's processors.
//!
//! Linux: `Documentation/core-api/workqueue.rst`, "Affinity Scopes".

use base::{Errno, Result, cpumask};
use frame::{
    atomic::{AtomicU8, AtomicU64, Ordering},
    cpu::{CpuId, CpuMask},
};

use super::{attrs::Attrs, fault};
use crate::topology;

/// What makes up a pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// What the parameter `default_affinity_scope` says.
    Default,
    Cpu,
    /// The threads of a core.
    Smt,
    /// The processors behind the last cache.
    Cache,
    /// A node of memory, of which there is one.
    Numa,
    System,
}

const SCOPES: [(Scope, &str); 6] = [
    (Scope::Default, "default"),
    (Scope::Cpu, "cpu"),
    (Scope::Smt, "smt"),
    (Scope::Cache, "cache"),
    (Scope::Numa, "numa"),
    (Scope::System, "system"),
];

/// As a number of [`SCOPES`].
static DEFAULT: AtomicU8 = AtomicU8::new(Scope::Cache as u8);
/// Processors of which the work queues know that they are online.
static ONLINE: AtomicU64 = AtomicU64::new(0);

impl Scope {
    pub(super) fn name(self) -> &'static str {
        SCOPES[self as usize].1
    }
    /// As Linux takes it: in any case, whatever comes behind it. EINVAL.
    pub(super) fn parse(b: &[u8]) -> Result<Scope> {
        let is = |name: &str| b.get(..name.len()).is_some_and(|s| s.eq_ignore_ascii_case(name.as_bytes()));
        SCOPES.iter().find(|(_, name)| is(name)).map(|(s, _)| *s).ok_or(Errno::EINVAL)
    }
    pub(super) fn by_default() -> Scope {
        SCOPES[usize::from(DEFAULT.load(Ordering::Relaxed))].0
    }
    /// EINVAL for `Default`. The caller moves the queues.
    pub(super) fn set_default(self) -> Result<()> {
        if self == Scope::Default {
            return Err(Errno::EINVAL);
        }
        DEFAULT.store(self as u8, Ordering::Relaxed);
        Ok(())
    }
    /// The pod of a processor.
    fn pod(self, c: CpuId) -> CpuMask {
        match self {
            Scope::Default => Scope::by_default().pod(c),
            Scope::Cpu => CpuMask::one(c),
            Scope::Smt => topology::core_of(c),
            Scope::Cache => topology::cache_of(c),
            Scope::Numa | Scope::System => cpumask::all(),
        }
    }
}

pub(super) fn set_online(c: CpuId, on: bool) {
    let bit = CpuMask::one(c).0;
    if on {
        ONLINE.fetch_or(bit, Ordering::SeqCst);
    } else {
        ONLINE.fetch_and(!bit, Ordering::SeqCst);
    }
}

/// Whose items the pool executes that is for those queued on `c`, for effective attributes.
pub(super) fn pod(a: &Attrs, c: CpuId) -> CpuMask {
    let pod = a.scope.pod(c).and(a.cpumask);
    let some = !pod.and(CpuMask(ONLINE.load(Ordering::SeqCst))).is_empty();
    if some && !fault::is(fault::bits::WRONG_POD) { pod } else { a.cpumask }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_linux_takes_them() {
        for (s, want) in [
            ("cpu\n", Scope::Cpu),
            ("SMT", Scope::Smt),
            ("Default", Scope::Default),
            ("systemic", Scope::System),
        ] {
            assert_eq!(Scope::parse(s.as_bytes()), Ok(want));
        }
        for s in ["", "cp", " cpu", "node"] {
            assert_eq!(Scope::parse(s.as_bytes()), Err(Errno::EINVAL));
        }
        assert!(SCOPES.iter().enumerate().all(|(i, (s, _))| *s as usize == i));
        assert_eq!(Scope::Default.set_default(), Err(Errno::EINVAL));
    }
}
