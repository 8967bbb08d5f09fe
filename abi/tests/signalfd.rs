//! signalfd under simulation: every signal that was sent is read once, by read, poll and epoll alike; and Linux's errors.

mod common;

use base::Errno;
use common::{Asker, boot};
use frame::sim;
use linux_raw_sys::general as raw;

const SEEDS: u64 = 100;
const SET: u64 = 0;
const INFO: u64 = 256;
const POLL: u64 = 2048;
const NONBLOCK: u64 = raw::O_NONBLOCK as u64;
const FIRST: u64 = 40;

fn mask(a: &Asker<'_>, signals: &[u64]) -> u64 {
    let bits = signals.iter().fold(0, |m, s| m | 1 << (s - 1));
    a.u.store_u64(a.data() + SET, bits);
    a.data() + SET
}
fn block(a: &Asker<'_>, signals: &[u64]) {
    a.call(raw::__NR_rt_sigprocmask, [0, mask(a, signals), 0, 8]).unwrap();
}
fn make(a: &Asker<'_>, signals: &[u64], flags: u64) -> Result<u64, Errno> {
    a.call(raw::__NR_signalfd4, [!0, mask(a, signals), 8, flags])
}
fn pid(a: &Asker<'_>) -> u64 {
    a.call::<0>(raw::__NR_getpid, []).unwrap()
}

fn errors(a: &Asker<'_>) {
    let at = mask(a, &[10]);
    let fd4 = |fd: u64, at: u64, size: u64, flags: u64| a.call(raw::__NR_signalfd4, [fd, at, size, flags]);
    assert_eq!(fd4(!0, at, 4, 0), Err(Errno::EINVAL));
    assert_eq!(fd4(!0, 8, 8, 0), Err(Errno::EFAULT));
    assert_eq!(fd4(!0, at, 8, 1), Err(Errno::EINVAL));
    assert_eq!(fd4(77, at, 8, 0), Err(Errno::EBADF));
    let other = a.call(raw::__NR_eventfd2, [0, 0]).unwrap();
    assert_eq!(fd4(other, at, 8, 0), Err(Errno::EINVAL));
    let f = make(a, &[10, 9, 19], NONBLOCK).unwrap();
    assert_eq!(a.call(raw::__NR_read, [f, a.data() + INFO, 127]), Err(Errno::EINVAL));
    assert_eq!(a.call(raw::__NR_read, [f, a.data() + INFO, 128]), Err(Errno::EAGAIN));
    assert_eq!(a.call(raw::__NR_write, [f, a.data() + INFO, 128]), Err(Errno::EINVAL));
    block(a, &[10, 12]);
    for s in [12, 10] {
        a.call(raw::__NR_kill, [pid(a), s]).unwrap();
    }
    // 12 is not in the set until it gets another one.
    assert_eq!(a.call(raw::__NR_read, [f, a.data() + INFO, 1024]), Ok(128));
    assert_eq!(a.u.load_u32(a.data() + INFO), 10);
    assert_eq!(u64::from(a.u.load_u32(a.data() + INFO + 12)), pid(a));
    assert_eq!(fd4(f, mask(a, &[12]), 8, 0), Ok(f));
    assert_eq!(a.call(raw::__NR_read, [f, a.data() + INFO, 1024]), Ok(128));
    assert_eq!(a.u.load_u32(a.data() + INFO), 12);
    assert_eq!(a.call(raw::__NR_read, [f, a.data() + INFO, 1024]), Err(Errno::EAGAIN));
    let old = a.call(raw::__NR_signalfd, [!0, mask(a, &[12]), 8]).unwrap();
    assert!(old > f);
}

#[test]
fn errors_and_sets() {
    sim::campaign("signalfd_errors", 5, |_| boot(|| {}, errors));
}

/// How the reader waits.
#[derive(Clone, Copy)]
enum How {
    Read,
    Poll,
    Epoll,
}

fn wait(a: &Asker<'_>, how: How, f: u64, epoll: u64) {
    let at = a.data() + POLL;
    match how {
        How::Read => {}
        How::Poll => {
            a.u.store_u32(at, f as u32);
            a.u.store_u32(at + 4, raw::POLLIN);
            assert_eq!(a.call(raw::__NR_poll, [at, 1, !0]), Ok(1));
        }
        How::Epoll => assert_eq!(a.call(raw::__NR_epoll_wait, [epoll, at, 1, !0]), Ok(1)),
    }
}

/// Children send real-time signals, which queue, with numbers; the parent reads them all.
fn none_is_lost(a: &Asker<'_>, how: How) {
    const SENDERS: u64 = 3;
    const EACH: u64 = 8;
    block(a, &[FIRST, FIRST + 1, FIRST + 2]);
    let f = make(a, &[FIRST, FIRST + 1, FIRST + 2], 0).unwrap();
    let epoll = a.call(raw::__NR_epoll_create1, [0]).unwrap();
    a.u.store_u32(a.data() + POLL, raw::EPOLLIN);
    a.call(raw::__NR_epoll_ctl, [epoll, u64::from(raw::EPOLL_CTL_ADD), f, a.data() + POLL]).unwrap();
    let to = pid(a);
    for k in 0..SENDERS {
        a.fork(move |a| {
            let at = a.data() + INFO;
            for n in 0..EACH {
                a.u.store_u32(at, (FIRST + k) as u32);
                a.u.store_u32(at + 8, (-1i32) as u32);
                a.u.store_u64(at + 24, n);
                a.call(raw::__NR_rt_sigqueueinfo, [to, FIRST + k, at]).unwrap();
                a.u.store_u64(at + 512, 0);
                a.u.store_u64(at + 520, sim::random(20_000));
                let _ = a.call(raw::__NR_nanosleep, [at + 512, 0]);
            }
        });
    }
    let mut next = [0; SENDERS as usize];
    while next.iter().sum::<u64>() < SENDERS * EACH {
        wait(a, how, f, epoll);
        let room = 1 + sim::random(4);
        let n = a.call(raw::__NR_read, [f, a.data() + INFO, room * 128]).unwrap() / 128;
        assert!(n >= 1 && n <= room);
        for i in 0..n {
            let at = a.data() + INFO + i * 128;
            let k = (u64::from(a.u.load_u32(at)) - FIRST) as usize;
            assert_eq!(a.u.load_u64(at + 48), next[k], "signals of one number come in order");
            next[k] += 1;
        }
    }
    a.wait_all();
    assert_eq!(
        make(a, &[FIRST], NONBLOCK).and_then(|f| a.call(raw::__NR_read, [f, a.data() + INFO, 128])),
        Err(Errno::EAGAIN)
    );
}

#[test]
fn every_signal_is_read_once() {
    sim::campaign("signalfd_read", SEEDS, |_| boot(|| {}, |a| none_is_lost(a, How::Read)));
    sim::campaign("signalfd_poll", SEEDS, |_| boot(|| {}, |a| none_is_lost(a, How::Poll)));
    sim::campaign("signalfd_epoll", SEEDS, |_| boot(|| {}, |a| none_is_lost(a, How::Epoll)));
}
