//! What programs see, asked through the table itself: whole kernels under simulation, with init as the asking program.
//!
//! Expected results are Linux's. Each question stands alone: it makes what it needs.

mod common;

use base::Errno;
use common::Asker;
use frame::sim;
use linux_raw_sys::general as raw;

const SEEDS: u64 = 20;
const CWD: u64 = raw::AT_FDCWD as i64 as u64;

fn boot(program: impl Fn(&Asker<'_>) + Send + 'static) {
    common::boot(|| {}, program);
}

#[test]
fn what_is_written_is_read_and_stat_knows_its_size() {
    sim::campaign("files", SEEDS, |_| {
        boot(|a| {
            let fd = a.open("/f", raw::O_CREAT | raw::O_RDWR | raw::O_EXCL).unwrap();
            assert_eq!(fd, 0);
            assert_eq!(a.open("/f", raw::O_CREAT | raw::O_EXCL), Err(Errno::EEXIST));
            let text = a.text(1, "hello, world");
            assert_eq!(a.call(raw::__NR_write, [fd, text, 12]), Ok(12));
            assert_eq!(a.call(raw::__NR_lseek, [fd, 7, 0]), Ok(7));
            assert_eq!(a.call(raw::__NR_read, [fd, a.data(), 100]), Ok(5));
            assert_eq!(a.bytes(a.data(), 5), b"world");
            assert_eq!(a.call(raw::__NR_pread64, [fd, a.data(), 5, 0]), Ok(5));
            assert_eq!(a.bytes(a.data(), 5), b"hello");
            assert_eq!(a.call(raw::__NR_fstat, [fd, a.data()]), Ok(0));
            assert_eq!((a.u.load_u64(a.data() + 48), a.u.load_u32(a.data() + 24)), (12, 0o100644));
            assert_eq!(a.call(raw::__NR_statx, [CWD, a.text(2, "/f"), 0, 0xfff, a.data()]), Ok(0));
            assert_eq!(a.u.load_u64(a.data() + 40), 12);
            // Two ranges in one call.
            let v = a.data() + 1024;
            for (i, (at, n)) in [(text, 5u64), (text + 5, 7)].into_iter().enumerate() {
                a.u.store_u64(v + i as u64 * 16, at);
                a.u.store_u64(v + i as u64 * 16 + 8, n);
            }
            assert_eq!(a.call(raw::__NR_writev, [fd, v, 2]), Ok(12));
            assert_eq!(a.call(raw::__NR_ftruncate, [fd, 3]), Ok(0));
            assert_eq!(a.call(raw::__NR_lseek, [fd, 0, 2]), Ok(3));
            assert_eq!(a.call(raw::__NR_close, [fd]), Ok(0));
            assert_eq!(a.call(raw::__NR_close, [fd]), Err(Errno::EBADF));
        })
    });
}

#[test]
fn wrong_arguments_give_linux_s_errors() {
    sim::campaign("errors", SEEDS, |_| {
        boot(|a| {
            assert_eq!(a.open("/none", 0), Err(Errno::ENOENT));
            assert_eq!(a.call(raw::__NR_openat, [CWD, 8, 0, 0]), Err(Errno::EFAULT));
            assert_eq!(a.call(raw::__NR_openat, [99, a.text(0, "x"), 0, 0]), Err(Errno::EBADF));
            assert_eq!(a.call(raw::__NR_read, [99, a.data(), 1]), Err(Errno::EBADF));
            let fd = a.open("/", raw::O_DIRECTORY).unwrap();
            assert_eq!(a.call(raw::__NR_read, [fd, a.data(), 1]), Err(Errno::EISDIR));
            assert_eq!(a.call(raw::__NR_write, [fd, a.data(), 1]), Err(Errno::EBADF));
            let f = a.open("/g", raw::O_CREAT | raw::O_RDWR).unwrap();
            assert_eq!(a.call(raw::__NR_write, [f, 1 << 47, 1]), Err(Errno::EFAULT));
            assert_eq!(a.call(raw::__NR_write, [f, 4096, 1]), Err(Errno::EFAULT));
            assert_eq!(a.call(raw::__NR_lseek, [f, 0, 9]), Err(Errno::EINVAL));
            assert_eq!(a.call(raw::__NR_pread64, [f, a.data(), 1, !0]), Err(Errno::EINVAL));
            assert_eq!(a.call(raw::__NR_dup3, [f, f, 0]), Err(Errno::EINVAL));
            assert_eq!(a.call(raw::__NR_dup2, [f, f]), Ok(f));
            assert_eq!(a.call(raw::__NR_getcwd, [a.data(), 1]), Err(Errno::ERANGE));
            assert_eq!(a.call(raw::__NR_getcwd, [a.data(), 100]), Ok(2));
            assert_eq!(a.call(raw::__NR_unlinkat, [CWD, a.text(0, "/g"), 1]), Err(Errno::EINVAL));
            assert_eq!(a.call(raw::__NR_mkdir, [a.text(0, "/g"), 0o755]), Err(Errno::EEXIST));
            assert_eq!(a.call(raw::__NR_chdir, [a.text(0, "/g")]), Err(Errno::ENOTDIR));
            assert_eq!(a.call(raw::__NR_ioctl, [f, 0x5401, a.data()]), Err(Errno::ENOTTY));
            assert_eq!(a.call(raw::__NR_fcntl, [f, 999, 0]), Err(Errno::EINVAL));
            assert_eq!(a.call(raw::__NR_mmap, [0, 0, 3, 0x22, !0, 0]), Err(Errno::EINVAL));
            assert_eq!(a.call(raw::__NR_kill, [1, 65]), Err(Errno::EINVAL));
            assert_eq!(a.call(raw::__NR_socket, [99, 1, 0]), Err(Errno::EAFNOSUPPORT));
            assert_eq!(a.call(raw::__NR_reboot, [1, 2, 3, 0]), Err(Errno::EINVAL));
            assert_eq!(a.call(raw::__NR_clock_gettime, [99, a.data()]), Err(Errno::EINVAL));
            let long = "n".repeat(300);
            assert_eq!(a.open(&format!("/{long}"), 0), Err(Errno::ENAMETOOLONG));
        })
    });
}

#[test]
fn directories_list_what_is_in_them() {
    sim::campaign("names", SEEDS, |_| {
        boot(|a| {
            assert_eq!(a.call(raw::__NR_mkdir, [a.text(0, "/d"), 0o755]), Ok(0));
            assert_eq!(a.call(raw::__NR_symlink, [a.text(0, "target"), a.text(1, "/d/link")]), Ok(0));
            assert_eq!(a.call(raw::__NR_readlink, [a.text(0, "/d/link"), a.data(), 4]), Ok(4));
            assert_eq!(a.bytes(a.data(), 4), b"targ");
            assert_eq!(a.call(raw::__NR_rename, [a.text(0, "/d/link"), a.text(1, "/d/other")]), Ok(0));
            let fd = a.open("/d", raw::O_DIRECTORY).unwrap();
            // Three records of 24, 24 and 32 bytes.
            assert_eq!(a.call(raw::__NR_getdents64, [fd, a.data(), 1000]), Ok(24 + 24 + 32));
            assert_eq!(a.bytes(a.data() + 48 + 18, 7), b"\x0aother\0");
            assert_eq!(a.call(raw::__NR_getdents64, [fd, a.data(), 1000]), Ok(0));
            assert_eq!(a.call(raw::__NR_fchdir, [fd]), Ok(0));
            assert_eq!(a.call(raw::__NR_getcwd, [a.data(), 100]), Ok(3));
            assert_eq!(a.call(raw::__NR_unlink, [a.text(0, "other")]), Ok(0));
            assert_eq!(a.call(raw::__NR_rmdir, [a.text(0, "/d")]), Ok(0));
            assert_eq!(a.call(raw::__NR_getcwd, [a.data(), 100]), Err(Errno::ENOENT));
        })
    });
}

#[test]
fn a_pipe_wakes_who_polls_it() {
    sim::campaign("poll", SEEDS, |_| {
        boot(|a| {
            assert_eq!(a.call(raw::__NR_pipe2, [a.data(), 0]), Ok(0));
            let (rd, wr) = (a.u.load_u32(a.data()) as u64, a.u.load_u32(a.data() + 4) as u64);
            let fds = a.data() + 64;
            a.u.store_u64(fds, rd | 1 << 32);
            assert_eq!(a.call(raw::__NR_poll, [fds, 1, 0]), Ok(0));
            assert_eq!(a.call(raw::__NR_poll, [fds, 1, 10]), Ok(0));
            let text = a.text(0, "x");
            let child = a.u.fork(raw::__NR_clone as u64, [17, 0, 0, 0, 0, 0], move |u| {
                u.compute(20);
                u.syscall(raw::__NR_write as u64, [wr, text, 1, 0, 0, 0]);
                u.syscall(raw::__NR_exit_group as u64, [3, 0, 0, 0, 0, 0]);
            });
            assert_eq!(a.call(raw::__NR_poll, [fds, 1, !0]), Ok(1));
            assert_eq!(a.u.load_u64(fds) >> 48, 1);
            // The same through a set and through epoll.
            let set = a.data() + 128;
            a.u.store_u64(set, 1 << rd);
            assert_eq!(a.call(raw::__NR_select, [rd + 1, set, 0, 0, 0]), Ok(1));
            let ep = a.call(raw::__NR_epoll_create1, [0]).unwrap();
            let ev = a.data() + 256;
            a.u.store_u32(ev, 1);
            a.u.store_u32(ev + 4, 77);
            a.u.store_u32(ev + 8, 0);
            assert_eq!(a.call(raw::__NR_epoll_ctl, [ep, 1, rd, ev]), Ok(0));
            assert_eq!(a.call(raw::__NR_epoll_wait, [ep, ev + 64, 4, !0]), Ok(1));
            assert_eq!((a.u.load_u32(ev + 64), a.u.load_u32(ev + 68)), (1, 77));
            assert_eq!(a.call(raw::__NR_wait4, [child, a.data(), 0, 0]), Ok(child));
            assert_eq!(a.u.load_u32(a.data()), 3 << 8);
            assert_eq!(a.call(raw::__NR_wait4, [child, 0, 0, 0]), Err(Errno::ECHILD));
        })
    });
}

#[test]
fn who_am_i_and_what_time_is_it() {
    sim::campaign("self", SEEDS, |_| {
        boot(|a| {
            for (nr, v) in [
                (raw::__NR_getpid, 1),
                (raw::__NR_gettid, 1),
                (raw::__NR_getppid, 0),
                (raw::__NR_getuid, 0),
                (raw::__NR_umask, 0o022),
                (raw::__NR_sched_yield, 0),
            ] {
                assert_eq!(a.call(nr, []), Ok(v), "call {nr}");
            }
            assert_eq!(a.call(raw::__NR_uname, [a.data()]), Ok(0));
            assert_eq!(a.bytes(a.data(), 6), b"Linux\0");
            assert_eq!(a.call(raw::__NR_prlimit64, [0, raw::RLIMIT_NOFILE as u64, 0, a.data()]), Ok(0));
            assert_eq!(a.u.load_u64(a.data()), 1024);
            assert_eq!(a.call(raw::__NR_sched_getaffinity, [0, 8, a.data()]), Ok(8));
            assert_eq!(a.call(raw::__NR_getpriority, [0, 0]), Ok(20));
            let t = a.data();
            assert_eq!(a.call(raw::__NR_clock_gettime, [1, t]), Ok(0));
            let before = a.u.load_u64(t) * 1_000_000_000 + a.u.load_u64(t + 8);
            a.u.store_u64(t, 0);
            a.u.store_u64(t + 8, 2_000_000);
            assert_eq!(a.call(raw::__NR_nanosleep, [t, 0]), Ok(0));
            assert_eq!(a.call(raw::__NR_clock_gettime, [1, t]), Ok(0));
            assert!(a.u.load_u64(t) * 1_000_000_000 + a.u.load_u64(t + 8) >= before + 2_000_000);
            a.u.store_u64(t + 8, 1_000_000_000);
            assert_eq!(a.call(raw::__NR_nanosleep, [t, 0]), Err(Errno::EINVAL));
            assert_eq!(a.call(raw::__NR_sysinfo, [t]), Ok(0));
            assert!(a.u.load_u64(t + 32) > 0 && a.u.load_u64(t + 40) <= a.u.load_u64(t + 32));
            assert_eq!(a.call(raw::__NR_times, [0]).map(|_| ()), Ok(()));
            let m = a.call(raw::__NR_memfd_create, [a.text(0, "m"), 0]).unwrap();
            assert_eq!(a.call(raw::__NR_write, [m, t, 8]), Ok(8));
            let p = a.call(raw::__NR_mmap, [0, 4096, 3, 1, m, 0]).unwrap();
            assert_eq!(a.u.load_u64(p), a.u.load_u64(t));
        })
    });
}

#[test]
fn interrupted_calls_end_or_go_on_as_linux_says() {
    sim::campaign("restart", SEEDS, |_| {
        boot(|a| {
            // A pipe without readers.
            assert_eq!(a.call(raw::__NR_pipe, [a.data()]), Ok(0));
            let (rd, wr) = (a.u.load_u32(a.data()) as u64, a.u.load_u32(a.data() + 4) as u64);
            assert_eq!(a.call(raw::__NR_close, [rd]), Ok(0));
            // Init has no handler for SIGPIPE: only the error is left.
            assert_eq!(a.call(raw::__NR_write, [wr, a.data(), 1]), Err(Errno::EPIPE));
            let child = a.u.fork(raw::__NR_clone as u64, [17, 0, 0, 0, 0, 0], move |u| {
                u.syscall(raw::__NR_write as u64, [wr, 0x1000, 0, 0, 0, 0]);
                u.syscall(raw::__NR_exit_group as u64, [0; 6]);
            });
            // The child's end is a signal that init ignores: the sleep takes its whole time all the same.
            let t = a.data();
            a.u.store_u64(t, 0);
            a.u.store_u64(t + 8, 5_000_000);
            assert_eq!(a.call(raw::__NR_clock_gettime, [1, t + 16]), Ok(0));
            assert_eq!(a.call(raw::__NR_nanosleep, [t, 0]), Ok(0));
            assert_eq!(a.call(raw::__NR_clock_gettime, [1, t + 32]), Ok(0));
            let ns = |at| a.u.load_u64(at) * 1_000_000_000 + a.u.load_u64(at + 8);
            assert!(ns(t + 32) - ns(t + 16) >= 5_000_000);
            assert_eq!(a.call(raw::__NR_wait4, [child, 0, 0, 0]), Ok(child));
            // A stopped and continued child of ours: waitid tells both, with the number in the right place.
            let child = a.u.fork(raw::__NR_clone as u64, [17, 0, 0, 0, 0, 0], |u| {
                loop {
                    u.syscall(raw::__NR_pause as u64, [0; 6]);
                }
            });
            assert_eq!(a.call(raw::__NR_kill, [child, 19]), Ok(0));
            assert_eq!(a.call(raw::__NR_waitid, [1, child, t, 2, 0]), Ok(0));
            assert_eq!((a.u.load_u32(t), a.u.load_u32(t + 8), a.u.load_u32(t + 16)), (17, 5, child as u32));
            assert_eq!(a.call(raw::__NR_kill, [child, 18]), Ok(0));
            assert_eq!(a.call(raw::__NR_kill, [child, 15]), Ok(0));
            assert_eq!(a.call(raw::__NR_wait4, [!0, t, 0, 0]), Ok(child));
            assert_eq!(a.u.load_u32(t), 15);
            // Blocked and pending, a signal is taken by sigtimedwait.
            a.u.store_u64(t, 1 << 9);
            assert_eq!(a.call(raw::__NR_rt_sigprocmask, [0, t, 0, 8]), Ok(0));
            assert_eq!(a.call(raw::__NR_kill, [1, 10]), Ok(0));
            assert_eq!(a.call(raw::__NR_rt_sigpending, [t + 8, 8]), Ok(0));
            assert_eq!(a.u.load_u64(t + 8), 1 << 9);
            assert_eq!(a.call(raw::__NR_rt_sigtimedwait, [t, 0, 0, 8]), Ok(10));
            assert_eq!(a.call(raw::__NR_rt_sigprocmask, [0, t, 0, 4]), Err(Errno::EINVAL));
        })
    });
}

#[test]
fn attributes_locks_mounts_and_copies() {
    sim::campaign("attrs", SEEDS, |_| {
        boot(|a| {
            let f = a.open("/f", raw::O_CREAT | raw::O_RDWR).unwrap();
            assert_eq!(a.call(raw::__NR_write, [f, a.text(1, "0123456789"), 10]), Ok(10));
            assert_eq!(a.call(raw::__NR_chmod, [a.text(0, "/f"), 0o4755]), Ok(0));
            assert_eq!(a.call(raw::__NR_chown, [a.text(0, "/f"), 5, !0]), Ok(0));
            let t = a.data();
            for (i, v) in [7u64, 8, 9, raw::UTIME_OMIT as u64].into_iter().enumerate() {
                a.u.store_u64(t + i as u64 * 8, v);
            }
            assert_eq!(a.call(raw::__NR_utimensat, [CWD, a.text(0, "/f"), t, 0]), Ok(0));
            assert_eq!(a.call(raw::__NR_stat, [a.text(0, "/f"), t]), Ok(0));
            assert_eq!((a.u.load_u32(t + 28), a.u.load_u64(t + 72), a.u.load_u64(t + 80)), (5, 7, 8));
            assert_eq!(
                a.call(raw::__NR_setxattr, [a.text(0, "/f"), a.text(2, "user.k"), a.text(3, "v"), 1, 0]),
                Ok(0)
            );
            assert_eq!(a.call(raw::__NR_getxattr, [a.text(0, "/f"), a.text(2, "user.k"), t, 0]), Ok(1));
            assert_eq!(
                a.call(raw::__NR_getxattr, [a.text(0, "/f"), a.text(2, "user.x"), t, 9]),
                Err(Errno::ENODATA)
            );
            // Record locks: our own never stand in the way.
            a.u.store(t, &[0; 32]);
            a.u.store_u8(t, 1);
            assert_eq!(a.call(raw::__NR_fcntl, [f, raw::F_SETLK as u64, t]), Ok(0));
            assert_eq!(a.call(raw::__NR_fcntl, [f, raw::F_GETLK as u64, t]), Ok(0));
            assert_eq!(a.u.load_u8(t), 2);
            assert_eq!(a.call(raw::__NR_fcntl, [f, raw::F_DUPFD_CLOEXEC as u64, 40]), Ok(40));
            assert_eq!(a.call(raw::__NR_fcntl, [40, raw::F_GETFD as u64, 0]), Ok(1));
            // Copies.
            let g = a.open("/g", raw::O_CREAT | raw::O_RDWR).unwrap();
            a.u.store_u64(t, 2);
            assert_eq!(a.call(raw::__NR_sendfile, [g, f, t, 3]), Ok(3));
            assert_eq!(a.u.load_u64(t), 5);
            a.u.store_u64(t, 0);
            assert_eq!(a.call(raw::__NR_copy_file_range, [f, t, g, 0, 100, 0]), Ok(10));
            assert_eq!(a.call(raw::__NR_pread64, [g, t + 64, 100, 0]), Ok(13));
            assert_eq!(a.bytes(t + 64, 13), b"2340123456789");
            // A file system of one's own.
            assert_eq!(a.call(raw::__NR_mkdir, [a.text(0, "/m"), 0o755]), Ok(0));
            let tmpfs = a.text(2, "tmpfs");
            assert_eq!(a.call(raw::__NR_mount, [tmpfs, a.text(0, "/m"), tmpfs, 0, 0]), Ok(0));
            assert_eq!(a.call(raw::__NR_statfs, [a.text(0, "/m"), t]), Ok(0));
            assert_eq!(a.u.load_u64(t), raw::TMPFS_MAGIC as u64);
            assert_eq!(a.call(raw::__NR_rename, [a.text(0, "/f"), a.text(1, "/m/f")]), Err(Errno::EXDEV));
            assert_eq!(a.call(raw::__NR_umount2, [a.text(0, "/m"), 0]), Ok(0));
            assert_eq!(a.call(raw::__NR_umount2, [a.text(0, "/m"), 0]), Err(Errno::EINVAL));
            // File pages in memory, shared with the file.
            let p = a.call(raw::__NR_mmap, [0, 4096, 3, 1, f, 0]).unwrap();
            a.u.store_u8(p, b'X');
            assert_eq!(a.call(raw::__NR_pread64, [f, t, 1, 0]), Ok(1));
            assert_eq!(a.u.load_u8(t), b'X');
            assert_eq!(a.call(raw::__NR_mincore, [p, 4096, t]), Ok(0));
            assert_eq!(a.u.load_u8(t), 1);
            assert_eq!(a.call(raw::__NR_munmap, [p, 4096]), Ok(0));
            assert_eq!(a.call(raw::__NR_msync, [p, 4096, 4]), Err(Errno::ENOMEM));
            assert_eq!(a.call(raw::__NR_access, [a.text(0, "/f"), 8]), Err(Errno::EINVAL));
            assert_eq!(a.call(raw::__NR_access, [a.text(0, "/f"), 7]), Ok(0));
        })
    });
}

/// Files of `/proc` tell of open files, among them themselves.
#[test]
fn a_file_that_tells_of_itself_can_be_read() {
    sim::campaign("fdinfo", SEEDS, |_| {
        boot(|a| {
            a.call(raw::__NR_mkdir, [a.text(0, "/proc"), 0o755]).unwrap();
            a.call(raw::__NR_mount, [a.text(0, "proc"), a.text(1, "/proc"), a.text(0, "proc"), 0, 0])
                .unwrap();
            let f = a.open("/some", raw::O_CREAT | raw::O_RDWR).unwrap();
            let info = a.open(&format!("/proc/self/fdinfo/{f}"), raw::O_RDONLY).unwrap();
            a.call(raw::__NR_dup2, [info, f]).unwrap();
            let n = a.call(raw::__NR_read, [info, a.data(), 100]).unwrap();
            assert!(n > 5);
        })
    });
}
