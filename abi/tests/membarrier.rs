//! membarrier(2): its errors, registrations, and that a barrier ends while others run.

mod common;

use base::Errno;
use common::{Asker, boot};
use frame::sim;
use linux_raw_sys::general as raw;

fn program(a: &Asker<'_>) {
    let ask = |command: u64, flags: u64| a.call(raw::__NR_membarrier, [command, flags, 0]);
    let all = ask(0, 0).unwrap();
    assert_eq!((all & 1, all & (128 | 256)), (1, 0), "a global barrier, and no restartable sequences");
    for (command, flags, want) in [
        (0, 1, Errno::EINVAL),
        (3, 0, Errno::EINVAL),
        (128, 0, Errno::EINVAL),
        (1 << 10, 0, Errno::EINVAL),
        (8, 0, Errno::EPERM),
        (32, 0, Errno::EPERM),
    ] {
        assert_eq!(ask(command, flags), Err(want), "{command} {flags}");
    }
    // Others run, sleep, come and go meanwhile.
    for _ in 0..3 {
        a.fork(move |a| {
            for _ in 0..sim::random(6) {
                a.u.compute(sim::random(200) as u32);
                let _ = a.call::<0>(raw::__NR_sched_yield, []);
                let _ = a.call(raw::__NR_membarrier, [[1u64, 2, 4, 2][sim::random(4) as usize], 0, 0]);
            }
        });
    }
    assert_eq!((ask(1, 0), ask(2, 0), ask(512, 0)), (Ok(0), Ok(0), Ok(0)));
    assert_eq!((ask(16, 0), ask(16, 0), ask(8, 0), ask(512, 0)), (Ok(0), Ok(0), Ok(0), Ok(16)));
    assert_eq!((ask(64, 0), ask(32, 0), ask(4, 0), ask(2, 0)), (Ok(0), Ok(0), Ok(0), Ok(0)));
    assert_eq!(ask(512, 0), Ok(16 | 64 | 4));
    // A child has what its parent registered.
    a.fork(|a| assert_eq!(a.call(raw::__NR_membarrier, [8, 0, 0]), Ok(0)));
    a.wait_all();
}

#[test]
fn barriers_end_and_know_who_registered() {
    sim::campaign("membarrier", 100, |_| boot(|| {}, program));
}
