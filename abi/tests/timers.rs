//! POSIX timers and timerfd under simulation: no expiry is lost, and overruns add up to the periods that passed.
//!
//! `NIGHTSHIFT_SEEDS=10000 cargo test -p abi --test timers --release`

mod common;

use base::Errno;
use common::{Asker, boot};
use frame::sim;
use linux_raw_sys::general as raw;

const SEEDS: u64 = 50;
/// Places in the program's data page.
const SET: u64 = 0;
const INFO: u64 = 256;
const SPEC: u64 = 512;
const EVENT: u64 = 640;
const ID: u64 = 768;
const SIGNAL: u32 = 40;

fn now(a: &Asker<'_>) -> u64 {
    a.call(raw::__NR_clock_gettime, [raw::CLOCK_MONOTONIC as u64, a.data() + SPEC]).unwrap();
    a.u.load_u64(a.data() + SPEC) * 1_000_000_000 + a.u.load_u64(a.data() + SPEC + 8)
}
fn put_spec(a: &Asker<'_>, value_ns: u64, interval_ns: u64) -> u64 {
    let at = a.data() + SPEC;
    for (i, ns) in [interval_ns, value_ns].into_iter().enumerate() {
        a.u.store_u64(at + 16 * i as u64, ns / 1_000_000_000);
        a.u.store_u64(at + 16 * i as u64 + 8, ns % 1_000_000_000);
    }
    at
}
fn block(a: &Asker<'_>) {
    a.u.store_u64(a.data() + SET, 1 << (SIGNAL - 1));
    a.call(raw::__NR_rt_sigprocmask, [0, a.data() + SET, 0, 8]).unwrap();
}
/// Waits for the signal. Its overrun.
fn take_signal(a: &Asker<'_>) -> Result<u64, Errno> {
    a.u.store_u64(a.data() + SET, 1 << (SIGNAL - 1));
    a.call(raw::__NR_rt_sigtimedwait, [a.data() + SET, a.data() + INFO, 0, 8])?;
    Ok(a.u.load_u32(a.data() + INFO + 20).into())
}
fn create(a: &Asker<'_>, clock: u32) -> Result<u64, Errno> {
    let at = a.data() + EVENT;
    a.u.store_u64(at, 0x1234);
    a.u.store_u32(at + 8, SIGNAL);
    a.u.store_u32(at + 12, raw::SIGEV_SIGNAL);
    a.call(raw::__NR_timer_create, [clock as u64, at, a.data() + ID])?;
    Ok(a.u.load_u32(a.data() + ID).into())
}
fn pause(a: &Asker<'_>, most_ns: u64) {
    let at = a.data() + INFO;
    a.u.store_u64(at, 0);
    a.u.store_u64(at + 8, sim::random(most_ns));
    let _ = a.call(raw::__NR_nanosleep, [at, 0]);
}

#[test]
fn signals_and_overruns_add_up() {
    sim::campaign("posix_timers", SEEDS, |_| {
        boot(
            || {},
            |a| {
                block(a);
                let id = create(a, raw::CLOCK_MONOTONIC).unwrap();
                let interval = 20_000 + sim::random(500_000);
                let begin = now(a);
                let at = put_spec(a, interval, interval);
                a.call(raw::__NR_timer_settime, [id, 0, at, 0]).unwrap();
                let begun = now(a);
                let mut total = 0;
                for _ in 0..6 {
                    pause(a, 3_000_000);
                    let before = now(a);
                    let overrun = take_signal(a).unwrap();
                    let after = now(a);
                    total += 1 + overrun;
                    assert!(total <= (after - begin) / interval, "an expiry too many");
                    assert!(total >= (before - begun) / interval, "an expiry lost");
                    assert_eq!(a.call(raw::__NR_timer_getoverrun, [id]), Ok(overrun));
                    assert_eq!(a.u.load_u64(a.data() + INFO + 24), 0x1234);
                }
                a.call(raw::__NR_timer_delete, [id]).unwrap();
                assert_eq!(a.call(raw::__NR_timer_delete, [id]), Err(Errno::EINVAL));
            },
        )
    });
}

#[test]
fn settings_and_deletions_race_with_expiries() {
    sim::campaign("posix_timer_races", SEEDS, |_| {
        boot(
            || {},
            |a| {
                block(a);
                let id = create(a, raw::CLOCK_REALTIME).unwrap();
                a.thread(move |a| {
                    for _ in 0..10 {
                        let at = put_spec(a, 1 + sim::random(50_000), sim::random(2) * 30_000);
                        if a.call(raw::__NR_timer_settime, [id, 0, at, 0]).is_err() {
                            return;
                        }
                        pause(a, 60_000);
                    }
                });
                pause(a, 500_000);
                a.call(raw::__NR_timer_delete, [id]).unwrap();
                // At most one signal is left, and nothing comes any more.
                a.u.store_u64(a.data() + SET, 1 << (SIGNAL - 1));
                let zero = put_spec(a, 0, 0);
                let mut left = 0;
                while a.call(raw::__NR_rt_sigtimedwait, [a.data() + SET, 0, zero, 8]).is_ok() {
                    left += 1;
                }
                assert!(left <= 1 + 10, "{left} signals were waiting");
                pause(a, 300_000);
                assert_eq!(
                    a.call(raw::__NR_rt_sigtimedwait, [a.data() + SET, 0, put_spec(a, 0, 0), 8]),
                    Err(Errno::EAGAIN)
                );
            },
        )
    });
}

#[test]
fn a_timerfd_counts_every_period() {
    sim::campaign("timerfd", SEEDS, |_| {
        boot(
            || {},
            |a| {
                let f = a.call(raw::__NR_timerfd_create, [raw::CLOCK_MONOTONIC as u64, 0]).unwrap();
                let interval = 20_000 + sim::random(300_000);
                let begin = now(a);
                let at = put_spec(a, interval, interval);
                a.call(raw::__NR_timerfd_settime, [f, 0, at, 0]).unwrap();
                let begun = now(a);
                let mut total = 0;
                for _ in 0..6 {
                    pause(a, 2_000_000);
                    let before = now(a);
                    assert_eq!(a.call(raw::__NR_read, [f, a.data() + INFO, 8]), Ok(8));
                    let after = now(a);
                    total += a.u.load_u64(a.data() + INFO);
                    assert!(total <= (after - begin) / interval);
                    assert!(total >= (before - begun) / interval);
                }
            },
        )
    });
}

#[test]
fn who_waits_for_a_point_of_the_real_time_clock_follows_it() {
    sim::campaign("clock_was_set", 10, |_| {
        boot(
            || {},
            |a| {
                let f = a.call(raw::__NR_timerfd_create, [raw::CLOCK_REALTIME as u64, 0]).unwrap();
                let set = |a: &Asker<'_>, seconds: u64| {
                    a.u.store_u64(a.data() + SPEC, seconds);
                    a.u.store_u64(a.data() + SPEC + 8, 0);
                    a.call(raw::__NR_clock_settime, [0, a.data() + SPEC]).unwrap();
                };
                set(a, 1_000_000);
                // ABSTIME | CANCEL_ON_SET, then ABSTIME alone.
                for (flags, want) in [(3, Err(Errno::ECANCELED)), (1, Ok(8))] {
                    let at = put_spec(a, 1_005_000 * 1_000_000_000, 0);
                    a.call(raw::__NR_timerfd_settime, [f, flags, at, 0]).unwrap();
                    a.thread(move |a| {
                        pause(a, 100_000);
                        set(a, 1_005_001);
                    });
                    assert_eq!(a.call(raw::__NR_read, [f, a.data() + INFO, 8]), want);
                    set(a, 1_000_000);
                }
            },
        )
    });
}
