//! Signal numbers, sets of them, and what each does by default (`signal(7)`).

use linux_raw_sys::general as uapi;

/// A signal number, 1 to 64.
pub type Signo = u32;

macro_rules! signals {
    ($($short:ident = $name:ident,)*) => { $(pub const $short: Signo = uapi::$name;)* };
}
signals! {
    HUP = SIGHUP, INT = SIGINT, QUIT = SIGQUIT, ILL = SIGILL, TRAP = SIGTRAP, ABRT = SIGABRT, BUS = SIGBUS, FPE = SIGFPE,
    KILL = SIGKILL, USR1 = SIGUSR1, SEGV = SIGSEGV, USR2 = SIGUSR2, PIPE = SIGPIPE, ALRM = SIGALRM, TERM = SIGTERM,
    STKFLT = SIGSTKFLT, CHLD = SIGCHLD, CONT = SIGCONT, STOP = SIGSTOP, TSTP = SIGTSTP, TTIN = SIGTTIN, TTOU = SIGTTOU,
    URG = SIGURG, XCPU = SIGXCPU, XFSZ = SIGXFSZ, VTALRM = SIGVTALRM, PROF = SIGPROF, WINCH = SIGWINCH, IO = SIGIO,
    PWR = SIGPWR, SYS = SIGSYS, RTMIN = SIGRTMIN,
}
/// The highest signal number.
pub const NSIG: Signo = 64;

/// True for a number that a signal can have.
#[inline]
pub const fn valid(sig: Signo) -> bool {
    sig >= 1 && sig <= NSIG
}

/// A set of signals; bit `n - 1` stands for signal `n`, as in the kernel's `sigset_t`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SigSet(pub u64);

impl SigSet {
    pub const EMPTY: SigSet = SigSet(0);
    pub const ALL: SigSet = SigSet(!0);

    /// The set of these signals.
    pub const fn of(sigs: &[Signo]) -> SigSet {
        let (mut bits, mut i) = (0, 0);
        while i < sigs.len() {
            bits |= 1 << (sigs[i] - 1);
            i += 1;
        }
        SigSet(bits)
    }
    #[inline]
    pub const fn contains(self, sig: Signo) -> bool {
        self.0 >> (sig - 1) & 1 != 0
    }
    #[inline]
    pub fn add(&mut self, sig: Signo) {
        self.0 |= 1 << (sig - 1);
    }
    #[inline]
    pub fn remove(&mut self, sig: Signo) {
        self.0 &= !(1 << (sig - 1));
    }
    #[must_use]
    pub const fn and(self, o: SigSet) -> SigSet {
        SigSet(self.0 & o.0)
    }
    #[must_use]
    pub const fn or(self, o: SigSet) -> SigSet {
        SigSet(self.0 | o.0)
    }
    #[must_use]
    pub const fn without(self, o: SigSet) -> SigSet {
        SigSet(self.0 & !o.0)
    }
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The signal to take first: one that the program caused itself, before its state changes further, else the lowest.
    pub const fn first(self) -> Option<Signo> {
        let sync = self.0 & SYNCHRONOUS.0;
        let from = if sync != 0 { sync } else { self.0 };
        if from == 0 { None } else { Some(from.trailing_zeros() + 1) }
    }
}

/// Signals that an instruction of the program raises.
pub const SYNCHRONOUS: SigSet = SigSet::of(&[SEGV, BUS, ILL, TRAP, FPE, SYS]);
/// Cannot be caught, blocked or ignored.
pub const UNBLOCKABLE: SigSet = SigSet::of(&[KILL, STOP]);
/// Stop the process by default.
pub const STOPS: SigSet = SigSet::of(&[STOP, TSTP, TTIN, TTOU]);
/// Ignored by default.
pub const IGNORED: SigSet = SigSet::of(&[CONT, CHLD, WINCH, URG]);

/// End the process by default, and dump it.
pub const DUMPS_CORE: SigSet = SigSet::of(&[QUIT, ILL, TRAP, ABRT, FPE, SEGV, BUS, SYS, XCPU, XFSZ]);

/// What a signal does where the program has not said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Default {
    /// The process ends.
    Terminate,
    /// It ends and leaves a core dump.
    Core,
    Ignore,
    Stop,
}

/// The default action.
pub const fn default_action(sig: Signo) -> Default {
    if STOPS.contains(sig) {
        Default::Stop
    } else if IGNORED.contains(sig) {
        Default::Ignore
    } else if DUMPS_CORE.contains(sig) {
        Default::Core
    } else {
        Default::Terminate
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_linux_s() {
        assert_eq!((HUP, KILL, SEGV, CHLD, CONT, STOP, SYS, RTMIN), (1, 9, 11, 17, 18, 19, 31, 32));
        assert!(!valid(0) && valid(1) && valid(64) && !valid(65));
    }

    #[test]
    fn synchronous_signals_come_first() {
        let mut s = SigSet::of(&[HUP, SEGV, USR1]);
        assert_eq!(s.first(), Some(SEGV));
        s.remove(SEGV);
        assert_eq!(s.first(), Some(HUP));
        assert_eq!(SigSet::EMPTY.first(), None);
        assert_eq!(SigSet::of(&[64]).first(), Some(64));
    }

    proptest! {
        #[test]
        fn draining_a_set_gives_each_member_once(bits: u64) {
            let (mut s, mut n) = (SigSet(bits), 0);
            while let Some(sig) = s.first() {
                prop_assert!(SigSet(bits).contains(sig));
                s.remove(sig);
                n += 1;
            }
            prop_assert_eq!(n, bits.count_ones());
        }
    }
}
