//! Sending signals and handling them, where the arguments make no sense.

mod common;

use base::Errno;
use common::{Asker, boot};
use frame::sim;
use linux_raw_sys::general as raw;

const SIGUSR1: u64 = 10;
const SIGSEGV: u32 = 11;
/// No program can be there.
const NOWHERE: u64 = 1 << 62;

fn pid(a: &Asker<'_>) -> u64 {
    a.call::<0>(raw::__NR_getpid, []).unwrap()
}

/// A handler on a stack of its own, so that only its address is wrong.
fn set_handler(a: &Asker<'_>, sig: u64, handler: u64) {
    let at = a.data();
    a.u.store_u64(at, a.page);
    a.u.store_u32(at + 8, 0);
    a.u.store_u64(at + 16, 1 << 14);
    a.call(raw::__NR_sigaltstack, [at, 0]).unwrap();
    let flags = u64::from(raw::SA_ONSTACK | raw::SA_RESTORER);
    for (i, v) in [handler, flags, handler, 0].into_iter().enumerate() {
        a.u.store_u64(at + 64 + 8 * i as u64, v);
    }
    a.call(raw::__NR_rt_sigaction, [sig, at + 64, 0, 8]).unwrap();
}

#[test]
fn a_handler_that_is_nowhere_ends_the_process() {
    let program = |a: &Asker<'_>| {
        for also in [None, Some(u64::from(SIGSEGV))] {
            let child = a.fork(move |a| {
                set_handler(a, SIGUSR1, NOWHERE);
                // The fault's own handler is no better.
                if let Some(s) = also {
                    set_handler(a, s, NOWHERE);
                }
                let _ = a.call(raw::__NR_kill, [pid(a), SIGUSR1]);
                panic!("the handler did not run");
            });
            assert_eq!(a.call(raw::__NR_wait4, [child, a.data(), 0, 0]), Ok(child));
            assert_eq!(a.u.load_u32(a.data()) & 0x7f, SIGSEGV);
        }
    };
    sim::campaign("handler_nowhere", 20, move |_| boot(|| {}, program));
}

#[test]
fn signal_zero_only_asks() {
    let program = |a: &Asker<'_>| {
        let (me, info) = (pid(a), a.data());
        a.u.store_u32(info + 8, (-1i32) as u32);
        let queue = |to: u64, sig: u64| a.call(raw::__NR_rt_sigqueueinfo, [to, sig, info]);
        let queue_thread = |to: u64, sig: u64| a.call(raw::__NR_rt_tgsigqueueinfo, [me, to, sig, info]);
        assert_eq!((queue(me, 0), queue_thread(me, 0)), (Ok(0), Ok(0)));
        assert_eq!((queue(12_345, 0), queue_thread(12_345, 0)), (Err(Errno::ESRCH), Err(Errno::ESRCH)));
        assert_eq!((queue(me, 65), queue_thread(me, 65)), (Err(Errno::EINVAL), Err(Errno::EINVAL)));
        let kill = |to: u64, sig: u64| a.call(raw::__NR_kill, [to, sig]);
        assert_eq!(
            (kill(me, 0), kill(me, 65), kill(12_345, 65)),
            (Ok(0), Err(Errno::EINVAL), Err(Errno::ESRCH))
        );
        assert_eq!((queue(12_345, 65), queue_thread(12_345, 65)), (Err(Errno::ESRCH), Err(Errno::ESRCH)));
    };
    sim::campaign("signal_zero", 5, move |_| boot(|| {}, program));
}
