//! Pseudo-terminals under simulation: writers, readers and hang-ups at once. Nothing is lost, nothing changes places, and
//! whoever sleeps is woken: a run in which somebody sleeps for ever fails.
//!
//! `NIGHTSHIFT_SEEDS=10000 cargo test -p abi --test terminals --release`

mod common;

use base::Errno;
use common::{Asker, boot};
use frame::sim;
use linux_raw_sys::{general as raw, ioctl as op};

const SEEDS: u64 = 30;

fn with_devpts(program: impl Fn(&Asker<'_>) + Send + 'static) {
    boot(
        || drivers::tty::pty::init().unwrap(),
        move |a| {
            a.call(raw::__NR_mkdir, [a.text(0, "/pts"), 0o755]).unwrap();
            let (what, at, kind) = (a.text(0, "devpts"), a.text(1, "/pts"), a.text(2, "devpts"));
            a.call(raw::__NR_mount, [what, at, kind, 0, 0]).unwrap();
            program(a);
        },
    );
}

/// A new pair: the master, and the number of the slave, unlocked.
fn open_master(a: &Asker<'_>) -> (u64, u32) {
    let m = a.open("/pts/ptmx", raw::O_RDWR | raw::O_NOCTTY).unwrap();
    a.u.store_u32(a.data(), 0);
    a.call(raw::__NR_ioctl, [m, op::TIOCSPTLCK as u64, a.data()]).unwrap();
    a.call(raw::__NR_ioctl, [m, op::TIOCGPTN as u64, a.data()]).unwrap();
    (m, a.u.load_u32(a.data()))
}
fn open_slave(a: &Asker<'_>, n: u32) -> Result<u64, Errno> {
    a.open(&format!("/pts/{n}"), raw::O_RDWR | raw::O_NOCTTY)
}
/// No processing in either direction; a read ends with the first byte.
fn make_raw(a: &Asker<'_>, fd: u64) {
    a.call(raw::__NR_ioctl, [fd, op::TCGETS as u64, a.data()]).unwrap();
    for flags in [0, 4, 12] {
        a.u.store_u32(a.data() + flags, 0);
    }
    a.call(raw::__NR_ioctl, [fd, op::TCSETS as u64, a.data()]).unwrap();
}

fn byte(i: u64) -> u8 {
    (i * 7 + (i >> 8)) as u8
}

/// Writes bytes `from..to` of the stream in pieces. How far it came.
fn write(a: &Asker<'_>, fd: u64, from: u64, to: u64) -> u64 {
    let mut at = from;
    while at < to {
        let n = (1 + sim::random(700)).min(to - at);
        let piece: Vec<u8> = (at..at + n).map(byte).collect();
        a.u.store(a.data(), &piece);
        match a.call(raw::__NR_write, [fd, a.data(), n]) {
            Ok(k) => at += k,
            Err(_) => break,
        }
    }
    at
}
/// Reads until `to`, or an end or error, checking every byte. How far it came, and why it ended.
fn read(a: &Asker<'_>, fd: u64, to: u64) -> (u64, Result<(), Errno>) {
    let mut at = 0;
    while at < to {
        let n = 1 + sim::random(900);
        match a.call(raw::__NR_read, [fd, a.data(), n]) {
            Ok(0) => return (at, Ok(())),
            Ok(k) => {
                for b in a.bytes(a.data(), k as usize) {
                    assert_eq!(b, byte(at), "byte {at}");
                    at += 1;
                }
            }
            Err(e) => return (at, Err(e)),
        }
    }
    (at, Ok(()))
}

#[test]
fn streams_in_both_directions_are_whole() {
    sim::campaign("pty_streams", SEEDS, |_| {
        with_devpts(|a| {
            let (m, n) = open_master(a);
            let s = open_slave(a, n).unwrap();
            make_raw(a, s);
            let (down, up) = (sim::random(15_000), sim::random(15_000));
            a.fork(move |a| assert_eq!(write(a, m, 0, down), down));
            a.fork(move |a| assert_eq!(write(a, s, 0, up), up));
            a.fork(move |a| assert_eq!(read(a, m, up), (up, Ok(()))));
            assert_eq!(read(a, s, down), (down, Ok(())));
            a.wait_all();
        })
    });
}

#[test]
fn what_was_written_before_the_slave_closed_is_read_before_the_end() {
    sim::campaign("pty_slave_closes", SEEDS, |_| {
        with_devpts(|a| {
            let (m, n) = open_master(a);
            let total = sim::random(9000);
            let s = open_slave(a, n).unwrap();
            make_raw(a, s);
            a.fork(move |a| {
                a.call(raw::__NR_close, [m]).unwrap();
                assert_eq!(write(a, s, 0, total), total);
            });
            a.call(raw::__NR_close, [s]).unwrap();
            assert_eq!(read(a, m, u64::MAX), (total, Err(Errno::EIO)));
            a.wait_all();
            // Somebody opens it again: the end is over.
            let s = open_slave(a, n).unwrap();
            assert_eq!(write(a, s, 0, 5), 5);
            assert_eq!(read(a, m, 5), (5, Ok(())));
        })
    });
}

#[test]
fn a_hang_up_ends_every_sleep() {
    sim::campaign("pty_hang_up", SEEDS, |_| {
        with_devpts(|a| {
            let (m, n) = open_master(a);
            let s = open_slave(a, n).unwrap();
            make_raw(a, s);
            // One fills the line, one waits for input that does not come.
            a.fork(move |a| {
                a.call(raw::__NR_close, [m]).unwrap();
                write(a, s, 0, u64::MAX);
                assert_eq!(a.call(raw::__NR_write, [s, a.data(), 1]), Err(Errno::EIO));
            });
            a.fork(move |a| {
                a.call(raw::__NR_close, [m]).unwrap();
                assert_eq!(read(a, s, u64::MAX).1, Ok(()));
                assert_eq!(a.call(raw::__NR_ioctl, [s, op::TCGETS as u64, a.data()]), Err(Errno::EIO));
            });
            let some = sim::random(2000);
            let _ = read(a, m, some);
            a.call(raw::__NR_close, [m]).unwrap();
            a.wait_all();
            assert_eq!(open_slave(a, n), Err(Errno::ENOENT));
        })
    });
}

/// The discipline works for a slave that nobody has open: it echoes, and keeps what was written for whoever opens it.
#[test]
fn a_slave_need_not_be_open_to_be_written_to() {
    sim::campaign("pty_not_open", SEEDS, |_| {
        with_devpts(|a| {
            let (m, n) = open_master(a);
            for line in ["before\n", "between\n"] {
                let text = a.text(0, line);
                let len = line.len() as u64;
                assert_eq!(a.call(raw::__NR_write, [m, text, len]), Ok(len));
                let s = open_slave(a, n).unwrap();
                assert_eq!(a.call(raw::__NR_read, [s, a.data(), 100]), Ok(len));
                assert_eq!(a.bytes(a.data(), line.len()), line.as_bytes());
                assert_eq!(a.call(raw::__NR_read, [m, a.data(), 100]), Ok(len + 1), "the echo");
                a.call(raw::__NR_close, [s]).unwrap();
            }
            let s = open_slave(a, n).unwrap();
            make_raw(a, s);
            a.call(raw::__NR_close, [s]).unwrap();
            // More than both ends hold: the writer waits until somebody opens the slave and reads.
            let total = 20_000;
            a.fork(move |a| assert_eq!(write(a, m, 0, total), total));
            let s = open_slave(a, n).unwrap();
            assert_eq!(read(a, s, total), (total, Ok(())));
            a.wait_all();
        })
    });
}

#[test]
fn packet_mode_and_locks() {
    sim::campaign("pty_packet", 5, |_| {
        with_devpts(|a| {
            let m = a.open("/pts/ptmx", raw::O_RDWR | raw::O_NOCTTY).unwrap();
            assert_eq!(open_slave(a, 0), Err(Errno::EIO), "locked");
            a.u.store_u32(a.data(), 0);
            a.call(raw::__NR_ioctl, [m, op::TIOCSPTLCK as u64, a.data()]).unwrap();
            let s =
                a.call(raw::__NR_ioctl, [m, op::TIOCGPTPEER as u64, (raw::O_RDWR | raw::O_NOCTTY) as u64]);
            let s = s.unwrap();
            a.u.store_u32(a.data(), 1);
            a.call(raw::__NR_ioctl, [m, op::TIOCPKT as u64, a.data()]).unwrap();
            assert_eq!(write(a, s, 0, 3), 3);
            assert_eq!(a.call(raw::__NR_read, [m, a.data(), 100]), Ok(4));
            assert_eq!(a.bytes(a.data(), 4), [0, byte(0), byte(1), byte(2)]);
            // Throwing away the slave's input and output is told.
            a.call(raw::__NR_ioctl, [s, op::TCFLSH as u64, 2]).unwrap();
            assert_eq!(a.call(raw::__NR_read, [m, a.data(), 100]), Ok(1));
            assert_eq!(a.bytes(a.data(), 1), [(raw::TIOCPKT_FLUSHREAD | raw::TIOCPKT_FLUSHWRITE) as u8]);
            // The number is free only when the slave is closed too.
            a.call(raw::__NR_close, [m]).unwrap();
            let (m2, n2) = open_master(a);
            assert_eq!(n2, 1);
            a.call(raw::__NR_close, [s]).unwrap();
            a.call(raw::__NR_close, [m2]).unwrap();
            let (_, n3) = open_master(a);
            assert!(n3 <= 1);
        })
    });
}
