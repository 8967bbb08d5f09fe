//! What a program wants done with a signal (`sigaction(2)`).

use alloc::boxed::Box;

use base::{Errno, Result};
use linux_raw_sys::general as uapi;

use super::set::{self, SigSet, Signo};

pub const SIG_DFL: u64 = 0;
pub const SIG_IGN: u64 = 1;

pub const SA_NOCLDSTOP: u64 = uapi::SA_NOCLDSTOP as u64;
pub const SA_NOCLDWAIT: u64 = uapi::SA_NOCLDWAIT as u64;
pub const SA_SIGINFO: u64 = uapi::SA_SIGINFO as u64;
pub const SA_RESTORER: u64 = uapi::SA_RESTORER as u64;
pub const SA_ONSTACK: u64 = uapi::SA_ONSTACK as u64;
pub const SA_RESTART: u64 = uapi::SA_RESTART as u64;
pub const SA_NODEFER: u64 = uapi::SA_NODEFER as u64;
pub const SA_RESETHAND: u64 = uapi::SA_RESETHAND as u64;

/// Flags that Linux knows; `sigaction` drops the others, so that programs can find out.
const KNOWN: u64 = SA_NOCLDSTOP
    | SA_NOCLDWAIT
    | SA_SIGINFO
    | SA_RESTORER
    | SA_ONSTACK
    | SA_RESTART
    | SA_NODEFER
    | SA_RESETHAND
    | 0x800;

/// One signal's entry.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SigAction {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: SigSet,
}

impl SigAction {
    /// The kernel's `struct sigaction`: handler, flags, restorer, mask.
    pub fn from_bytes(b: &[u8; 32]) -> SigAction {
        let w = |i: usize| u64::from_le_bytes(core::array::from_fn(|k| b[i * 8 + k]));
        SigAction {
            handler: w(0),
            flags: w(1) & KNOWN,
            restorer: w(2),
            mask: SigSet(w(3)).without(set::UNBLOCKABLE),
        }
    }
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut b = [0; 32];
        for (c, v) in b.chunks_exact_mut(8).zip([self.handler, self.flags, self.restorer, self.mask.0]) {
            c.copy_from_slice(&v.to_le_bytes());
        }
        b
    }
    #[inline]
    pub fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }
    /// True if the signal has no effect under this action.
    pub fn ignores(&self, sig: Signo) -> bool {
        self.handler == SIG_IGN || self.handler == SIG_DFL && set::IGNORED.contains(sig)
    }
    /// True if the signal ends the process under this action, and nothing is to be done before.
    pub fn is_fatal(&self, sig: Signo) -> bool {
        self.handler == SIG_DFL && set::default_action(sig) == set::Default::Terminate
    }
}

/// All 64, in their initial state.
pub fn defaults() -> Result<Box<[SigAction; 64]>> {
    frame::heap::try_box([SigAction::default(); 64]).ok_or(Errno::ENOMEM)
}

/// What `exec` leaves: ignored stays ignored, handlers are gone.
pub fn reset_for_exec(all: &mut [SigAction; 64]) {
    for a in all {
        let handler = if a.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
        *a = SigAction { handler, ..SigAction::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kill_cannot_be_masked_and_unknown_flags_vanish() {
        let a = SigAction { handler: 5, flags: !0, restorer: 7, mask: SigSet::ALL };
        let b = SigAction::from_bytes(&a.to_bytes());
        assert!(!b.mask.contains(set::KILL) && !b.mask.contains(set::STOP) && b.mask.contains(set::INT));
        assert_eq!(b.flags, KNOWN);
    }
    #[test]
    fn exec_keeps_only_what_is_ignored() {
        let mut all = [SigAction { handler: 99, flags: SA_RESTART, restorer: 1, mask: SigSet::ALL }; 64];
        all[2].handler = SIG_IGN;
        reset_for_exec(&mut all);
        assert_eq!(all[0], SigAction::default());
        assert_eq!(all[2], SigAction { handler: SIG_IGN, ..SigAction::default() });
    }
}
