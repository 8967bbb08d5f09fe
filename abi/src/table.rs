//! Every system call of Linux 6.12 on x86-64: number, name, state, handler.
//!
//! The rows are the one list. From them come, at compile time, the array of handlers, which the user loop indexes, and the array of
//! descriptions, which [`rows`] shows and the host program prints. Numbers from 336 to 423 do not exist on this architecture.

use base::Errno;
use frame::user::Regs;
use linux_raw_sys::general as uapi;
use process::user_loop::Handler;

use crate::{
    adjtimex, args::Ret, attrs, files, ids, membarrier, memory, misc, names, poll, sched, signals, sockets,
    tasks, time,
};

/// How much of a call there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Done,
    /// What is missing.
    Partial(&'static str),
    /// `ENOSYS`.
    Absent,
}

/// One system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    pub number: u32,
    pub name: &'static str,
    pub state: State,
}

/// One more than the highest number (`mseal`).
pub const COUNT: usize = 463;

fn absent(_: &mut Regs) -> u64 {
    Errno::ENOSYS.to_ret()
}

/// A result as programs see it. Part of each handler, so that it travels in a register.
#[inline(always)]
fn pack(r: Ret) -> u64 {
    match r {
        Ok(v) => v as u64,
        Err(e) => e.to_ret(),
    }
}

macro_rules! state {
    (absent) => {
        State::Absent
    };
    (done) => {
        State::Done
    };
    ($what:literal) => {
        State::Partial($what)
    };
}
macro_rules! table {
    (@handler absent) => {
        absent as Handler
    };
    (@handler $m:ident :: $f:ident $state:tt) => {
        (|r: &mut Regs| pack($m::$f(r))) as Handler
    };
    (@state absent) => {
        state!(absent)
    };
    (@state $m:ident :: $f:ident $state:tt) => {
        state!($state)
    };
}

/// Makes the two arrays. A row whose number is not what the header says does not compile.
macro_rules! rows {
    ($($number:literal $name:ident ($($what:tt)*);)*) => {
        /// What serves each call.
        pub(crate) static HANDLERS: [Handler; COUNT] = {
            let mut t = [absent as Handler; COUNT];
            $(
                assert!(uapi::$name == $number);
                t[$number] = table!(@handler $($what)*);
            )*
            t
        };
        static ROWS: &[Row] = &[$(Row { number: $number, name: stringify!($name), state: table!(@state $($what)*) },)*];
    };
}

rows! {
    0 __NR_read (files::read done);
    1 __NR_write (files::write done);
    2 __NR_open (files::open done);
    3 __NR_close (files::close done);
    4 __NR_stat (attrs::stat done);
    5 __NR_fstat (attrs::fstat done);
    6 __NR_lstat (attrs::lstat done);
    7 __NR_poll (poll::poll done);
    8 __NR_lseek (files::lseek done);
    9 __NR_mmap (memory::mmap done);
    10 __NR_mprotect (memory::mprotect done);
    11 __NR_munmap (memory::munmap done);
    12 __NR_brk (memory::brk done);
    13 __NR_rt_sigaction (signals::rt_sigaction done);
    14 __NR_rt_sigprocmask (signals::rt_sigprocmask done);
    15 __NR_rt_sigreturn (signals::rt_sigreturn done);
    16 __NR_ioctl (files::ioctl "what drivers and file systems offer, and the generic ones of descriptors");
    17 __NR_pread64 (files::pread64 done);
    18 __NR_pwrite64 (files::pwrite64 done);
    19 __NR_readv (files::readv done);
    20 __NR_writev (files::writev done);
    21 __NR_access (names::access done);
    22 __NR_pipe (poll::pipe done);
    23 __NR_select (poll::select done);
    24 __NR_sched_yield (sched::sched_yield done);
    25 __NR_mremap (memory::mremap done);
    26 __NR_msync (memory::msync done);
    27 __NR_mincore (memory::mincore done);
    28 __NR_madvise (memory::madvise done);
    29 __NR_shmget (absent);
    30 __NR_shmat (absent);
    31 __NR_shmctl (absent);
    32 __NR_dup (files::dup done);
    33 __NR_dup2 (files::dup2 done);
    34 __NR_pause (signals::pause done);
    35 __NR_nanosleep (time::nanosleep done);
    36 __NR_getitimer (time::getitimer done);
    37 __NR_alarm (time::alarm done);
    38 __NR_setitimer (time::setitimer done);
    39 __NR_getpid (ids::getpid done);
    40 __NR_sendfile (files::sendfile done);
    41 __NR_socket (sockets::socket "AF_UNIX, AF_NETLINK (uevents)");
    42 __NR_connect (sockets::connect done);
    43 __NR_accept (sockets::accept done);
    44 __NR_sendto (sockets::sendto "no MSG_OOB");
    45 __NR_recvfrom (sockets::recvfrom "no MSG_OOB");
    46 __NR_sendmsg (sockets::sendmsg "no MSG_OOB");
    47 __NR_recvmsg (sockets::recvmsg "no MSG_OOB");
    48 __NR_shutdown (sockets::shutdown done);
    49 __NR_bind (sockets::bind done);
    50 __NR_listen (sockets::listen done);
    51 __NR_getsockname (sockets::getsockname done);
    52 __NR_getpeername (sockets::getpeername done);
    53 __NR_socketpair (sockets::socketpair done);
    54 __NR_setsockopt (sockets::setsockopt "no time stamps, filters, SO_PASSPIDFD");
    55 __NR_getsockopt (sockets::getsockopt "no SO_PEERGROUPS, SO_PEERPIDFD, SO_MEMINFO");
    56 __NR_clone (tasks::clone "no name spaces, PID descriptors or ptrace");
    57 __NR_fork (tasks::fork done);
    58 __NR_vfork (tasks::vfork done);
    59 __NR_execve (tasks::execve done);
    60 __NR_exit (tasks::exit done);
    61 __NR_wait4 (tasks::wait4 done);
    62 __NR_kill (signals::kill done);
    63 __NR_uname (misc::uname done);
    64 __NR_semget (absent);
    65 __NR_semop (absent);
    66 __NR_semctl (absent);
    67 __NR_shmdt (absent);
    68 __NR_msgget (absent);
    69 __NR_msgsnd (absent);
    70 __NR_msgrcv (absent);
    71 __NR_msgctl (absent);
    72 __NR_fcntl (files::fcntl "no seals, leases, directory notification or signals on readiness (F_SETOWN, F_SETSIG)");
    73 __NR_flock (files::flock done);
    74 __NR_fsync (files::fsync done);
    75 __NR_fdatasync (files::fdatasync done);
    76 __NR_truncate (attrs::truncate done);
    77 __NR_ftruncate (files::ftruncate done);
    78 __NR_getdents (names::getdents done);
    79 __NR_getcwd (names::getcwd done);
    80 __NR_chdir (names::chdir done);
    81 __NR_fchdir (names::fchdir done);
    82 __NR_rename (names::rename done);
    83 __NR_mkdir (names::mkdir done);
    84 __NR_rmdir (names::rmdir done);
    85 __NR_creat (files::creat done);
    86 __NR_link (names::link done);
    87 __NR_unlink (names::unlink done);
    88 __NR_symlink (names::symlink done);
    89 __NR_readlink (names::readlink done);
    90 __NR_chmod (attrs::chmod done);
    91 __NR_fchmod (attrs::fchmod done);
    92 __NR_chown (attrs::chown done);
    93 __NR_fchown (attrs::fchown done);
    94 __NR_lchown (attrs::lchown done);
    95 __NR_umask (names::umask done);
    96 __NR_gettimeofday (time::gettimeofday done);
    97 __NR_getrlimit (ids::getrlimit done);
    98 __NR_getrusage (ids::getrusage done);
    99 __NR_sysinfo (ids::sysinfo done);
    100 __NR_times (time::times done);
    101 __NR_ptrace (absent);
    102 __NR_getuid (ids::getuid done);
    103 __NR_syslog (misc::syslog done);
    104 __NR_getgid (ids::getgid done);
    105 __NR_setuid (ids::setuid done);
    106 __NR_setgid (ids::setgid done);
    107 __NR_geteuid (ids::geteuid done);
    108 __NR_getegid (ids::getegid done);
    109 __NR_setpgid (ids::setpgid done);
    110 __NR_getppid (ids::getppid done);
    111 __NR_getpgrp (ids::getpgrp done);
    112 __NR_setsid (ids::setsid done);
    113 __NR_setreuid (ids::setreuid done);
    114 __NR_setregid (ids::setregid done);
    115 __NR_getgroups (ids::getgroups done);
    116 __NR_setgroups (ids::setgroups done);
    117 __NR_setresuid (ids::setresuid done);
    118 __NR_getresuid (ids::getresuid done);
    119 __NR_setresgid (ids::setresgid done);
    120 __NR_getresgid (ids::getresgid done);
    121 __NR_getpgid (ids::getpgid done);
    122 __NR_setfsuid (ids::setfsuid done);
    123 __NR_setfsgid (ids::setfsgid done);
    124 __NR_getsid (ids::getsid done);
    125 __NR_capget (ids::capget done);
    126 __NR_capset (ids::capset done);
    127 __NR_rt_sigpending (signals::rt_sigpending done);
    128 __NR_rt_sigtimedwait (signals::rt_sigtimedwait done);
    129 __NR_rt_sigqueueinfo (signals::rt_sigqueueinfo done);
    130 __NR_rt_sigsuspend (signals::rt_sigsuspend done);
    131 __NR_sigaltstack (signals::sigaltstack done);
    132 __NR_utime (attrs::utime done);
    133 __NR_mknod (names::mknod done);
    134 __NR_uselib (absent);
    135 __NR_personality (misc::personality "PER_LINUX without flags only");
    136 __NR_ustat (absent);
    137 __NR_statfs (attrs::statfs done);
    138 __NR_fstatfs (attrs::fstatfs done);
    139 __NR_sysfs (absent);
    140 __NR_getpriority (sched::getpriority done);
    141 __NR_setpriority (sched::setpriority done);
    142 __NR_sched_setparam (sched::sched_setparam done);
    143 __NR_sched_getparam (sched::sched_getparam done);
    144 __NR_sched_setscheduler (sched::sched_setscheduler "no deadline class, no reset on fork");
    145 __NR_sched_getscheduler (sched::sched_getscheduler done);
    146 __NR_sched_get_priority_max (sched::sched_get_priority_max done);
    147 __NR_sched_get_priority_min (sched::sched_get_priority_min done);
    148 __NR_sched_rr_get_interval (sched::sched_rr_get_interval done);
    149 __NR_mlock (memory::mlock done);
    150 __NR_munlock (memory::munlock done);
    151 __NR_mlockall (memory::mlockall done);
    152 __NR_munlockall (memory::munlockall done);
    153 __NR_vhangup (files::vhangup done);
    154 __NR_modify_ldt (absent);
    155 __NR_pivot_root (names::pivot_root done);
    156 __NR__sysctl (absent);
    157 __NR_prctl (ids::prctl "the options on names, capabilities, death signals, dumpability, subreapers and timer slack");
    158 __NR_arch_prctl (tasks::arch_prctl "the FS and GS bases only");
    159 __NR_adjtimex (adjtimex::adjtimex "no change of the clock's rate");
    160 __NR_setrlimit (ids::setrlimit done);
    161 __NR_chroot (names::chroot done);
    162 __NR_sync (names::sync done);
    163 __NR_acct (absent);
    164 __NR_settimeofday (time::settimeofday "the time zone is not kept");
    165 __NR_mount (names::mount done);
    166 __NR_umount2 (names::umount2 "no MNT_EXPIRE");
    167 __NR_swapon (absent);
    168 __NR_swapoff (absent);
    169 __NR_reboot (misc::reboot done);
    170 __NR_sethostname (misc::sethostname done);
    171 __NR_setdomainname (misc::setdomainname done);
    172 __NR_iopl (absent);
    173 __NR_ioperm (absent);
    174 __NR_create_module (absent);
    175 __NR_init_module (absent);
    176 __NR_delete_module (absent);
    177 __NR_get_kernel_syms (absent);
    178 __NR_query_module (absent);
    179 __NR_quotactl (absent);
    180 __NR_nfsservctl (absent);
    181 __NR_getpmsg (absent);
    182 __NR_putpmsg (absent);
    183 __NR_afs_syscall (absent);
    184 __NR_tuxcall (absent);
    185 __NR_security (absent);
    186 __NR_gettid (ids::gettid done);
    187 __NR_readahead (files::readahead "checked; there is nothing to read ahead while all pages are in memory");
    188 __NR_setxattr (names::setxattr done);
    189 __NR_lsetxattr (names::lsetxattr done);
    190 __NR_fsetxattr (names::fsetxattr done);
    191 __NR_getxattr (names::getxattr done);
    192 __NR_lgetxattr (names::lgetxattr done);
    193 __NR_fgetxattr (names::fgetxattr done);
    194 __NR_listxattr (names::listxattr done);
    195 __NR_llistxattr (names::llistxattr done);
    196 __NR_flistxattr (names::flistxattr done);
    197 __NR_removexattr (names::removexattr done);
    198 __NR_lremovexattr (names::lremovexattr done);
    199 __NR_fremovexattr (names::fremovexattr done);
    200 __NR_tkill (signals::tkill done);
    201 __NR_time (time::time done);
    202 __NR_futex (tasks::futex "no priority inheritance");
    203 __NR_sched_setaffinity (sched::sched_setaffinity done);
    204 __NR_sched_getaffinity (sched::sched_getaffinity done);
    205 __NR_set_thread_area (absent);
    206 __NR_io_setup (absent);
    207 __NR_io_destroy (absent);
    208 __NR_io_getevents (absent);
    209 __NR_io_submit (absent);
    210 __NR_io_cancel (absent);
    211 __NR_get_thread_area (absent);
    212 __NR_lookup_dcookie (absent);
    213 __NR_epoll_create (poll::epoll_create done);
    214 __NR_epoll_ctl_old (absent);
    215 __NR_epoll_wait_old (absent);
    216 __NR_remap_file_pages (absent);
    217 __NR_getdents64 (names::getdents64 done);
    218 __NR_set_tid_address (tasks::set_tid_address done);
    219 __NR_restart_syscall (signals::restart_syscall done);
    220 __NR_semtimedop (absent);
    221 __NR_fadvise64 (files::fadvise64 "checked; there is nothing to advise while all pages are in memory");
    222 __NR_timer_create (time::timer_create done);
    223 __NR_timer_settime (time::timer_settime done);
    224 __NR_timer_gettime (time::timer_gettime done);
    225 __NR_timer_getoverrun (time::timer_getoverrun done);
    226 __NR_timer_delete (time::timer_delete done);
    227 __NR_clock_settime (time::clock_settime done);
    228 __NR_clock_gettime (time::clock_gettime done);
    229 __NR_clock_getres (time::clock_getres done);
    230 __NR_clock_nanosleep (time::clock_nanosleep done);
    231 __NR_exit_group (tasks::exit_group done);
    232 __NR_epoll_wait (poll::epoll_wait done);
    233 __NR_epoll_ctl (poll::epoll_ctl done);
    234 __NR_tgkill (signals::tgkill done);
    235 __NR_utimes (attrs::utimes done);
    236 __NR_vserver (absent);
    237 __NR_mbind (absent);
    238 __NR_set_mempolicy (absent);
    239 __NR_get_mempolicy (absent);
    240 __NR_mq_open (absent);
    241 __NR_mq_unlink (absent);
    242 __NR_mq_timedsend (absent);
    243 __NR_mq_timedreceive (absent);
    244 __NR_mq_notify (absent);
    245 __NR_mq_getsetattr (absent);
    246 __NR_kexec_load (absent);
    247 __NR_waitid (tasks::waitid "no PID descriptors");
    248 __NR_add_key (absent);
    249 __NR_request_key (absent);
    250 __NR_keyctl (absent);
    251 __NR_ioprio_set (absent);
    252 __NR_ioprio_get (absent);
    253 __NR_inotify_init (absent);
    254 __NR_inotify_add_watch (absent);
    255 __NR_inotify_rm_watch (absent);
    256 __NR_migrate_pages (absent);
    257 __NR_openat (files::openat done);
    258 __NR_mkdirat (names::mkdirat done);
    259 __NR_mknodat (names::mknodat done);
    260 __NR_fchownat (attrs::fchownat done);
    261 __NR_futimesat (attrs::futimesat done);
    262 __NR_newfstatat (attrs::newfstatat done);
    263 __NR_unlinkat (names::unlinkat done);
    264 __NR_renameat (names::renameat done);
    265 __NR_linkat (names::linkat done);
    266 __NR_symlinkat (names::symlinkat done);
    267 __NR_readlinkat (names::readlinkat done);
    268 __NR_fchmodat (attrs::fchmodat done);
    269 __NR_faccessat (names::faccessat done);
    270 __NR_pselect6 (poll::pselect6 done);
    271 __NR_ppoll (poll::ppoll done);
    272 __NR_unshare (absent);
    273 __NR_set_robust_list (tasks::set_robust_list done);
    274 __NR_get_robust_list (tasks::get_robust_list done);
    275 __NR_splice (absent);
    276 __NR_tee (absent);
    277 __NR_sync_file_range (files::sync_file_range "writes the whole file");
    278 __NR_vmsplice (absent);
    279 __NR_move_pages (absent);
    280 __NR_utimensat (attrs::utimensat done);
    281 __NR_epoll_pwait (poll::epoll_pwait done);
    282 __NR_signalfd (signals::signalfd done);
    283 __NR_timerfd_create (time::timerfd_create done);
    284 __NR_eventfd (poll::eventfd done);
    285 __NR_fallocate (files::fallocate done);
    286 __NR_timerfd_settime (time::timerfd_settime done);
    287 __NR_timerfd_gettime (time::timerfd_gettime done);
    288 __NR_accept4 (sockets::accept4 done);
    289 __NR_signalfd4 (signals::signalfd4 done);
    290 __NR_eventfd2 (poll::eventfd2 done);
    291 __NR_epoll_create1 (poll::epoll_create1 done);
    292 __NR_dup3 (files::dup3 done);
    293 __NR_pipe2 (poll::pipe2 done);
    294 __NR_inotify_init1 (absent);
    295 __NR_preadv (files::preadv done);
    296 __NR_pwritev (files::pwritev done);
    297 __NR_rt_tgsigqueueinfo (signals::rt_tgsigqueueinfo done);
    298 __NR_perf_event_open (absent);
    299 __NR_recvmmsg (sockets::recvmmsg "no MSG_OOB");
    300 __NR_fanotify_init (absent);
    301 __NR_fanotify_mark (absent);
    302 __NR_prlimit64 (ids::prlimit64 done);
    303 __NR_name_to_handle_at (absent);
    304 __NR_open_by_handle_at (absent);
    305 __NR_clock_adjtime (adjtimex::clock_adjtime "no change of the clock's rate");
    306 __NR_syncfs (names::syncfs done);
    307 __NR_sendmmsg (sockets::sendmmsg "no MSG_OOB");
    308 __NR_setns (absent);
    309 __NR_getcpu (sched::getcpu done);
    310 __NR_process_vm_readv (absent);
    311 __NR_process_vm_writev (absent);
    312 __NR_kcmp (absent);
    313 __NR_finit_module (absent);
    314 __NR_sched_setattr (sched::sched_setattr "no deadline class, no reset on fork, clamps are not kept");
    315 __NR_sched_getattr (sched::sched_getattr done);
    316 __NR_renameat2 (names::renameat2 done);
    317 __NR_seccomp (absent);
    318 __NR_getrandom (misc::getrandom done);
    319 __NR_memfd_create (misc::memfd_create "no seals; /proc shows no name");
    320 __NR_kexec_file_load (absent);
    321 __NR_bpf (absent);
    322 __NR_execveat (tasks::execveat done);
    323 __NR_userfaultfd (absent);
    324 __NR_membarrier (membarrier::membarrier "no restartable sequences");
    325 __NR_mlock2 (memory::mlock2 done);
    326 __NR_copy_file_range (files::copy_file_range done);
    327 __NR_preadv2 (files::preadv2 "only the flags RWF_HIPRI, RWF_DSYNC and RWF_SYNC");
    328 __NR_pwritev2 (files::pwritev2 "only the flags RWF_HIPRI, RWF_DSYNC and RWF_SYNC");
    329 __NR_pkey_mprotect (memory::pkey_mprotect "no protection keys: only key -1");
    330 __NR_pkey_alloc (absent);
    331 __NR_pkey_free (absent);
    332 __NR_statx (attrs::statx done);
    333 __NR_io_pgetevents (absent);
    334 __NR_rseq (absent);
    335 __NR_uretprobe (absent);
    424 __NR_pidfd_send_signal (absent);
    425 __NR_io_uring_setup (absent);
    426 __NR_io_uring_enter (absent);
    427 __NR_io_uring_register (absent);
    428 __NR_open_tree (absent);
    429 __NR_move_mount (absent);
    430 __NR_fsopen (absent);
    431 __NR_fsconfig (absent);
    432 __NR_fsmount (absent);
    433 __NR_fspick (absent);
    434 __NR_pidfd_open (absent);
    435 __NR_clone3 (tasks::clone3 "no name spaces, PID descriptors or cgroups; one set_tid");
    436 __NR_close_range (files::close_range "no CLOSE_RANGE_UNSHARE");
    437 __NR_openat2 (files::openat2 "RESOLVE_CACHED is always EAGAIN");
    438 __NR_pidfd_getfd (absent);
    439 __NR_faccessat2 (names::faccessat2 done);
    440 __NR_process_madvise (absent);
    441 __NR_epoll_pwait2 (poll::epoll_pwait2 done);
    442 __NR_mount_setattr (absent);
    443 __NR_quotactl_fd (absent);
    444 __NR_landlock_create_ruleset (absent);
    445 __NR_landlock_add_rule (absent);
    446 __NR_landlock_restrict_self (absent);
    447 __NR_memfd_secret (absent);
    448 __NR_process_mrelease (absent);
    449 __NR_futex_waitv (absent);
    450 __NR_set_mempolicy_home_node (absent);
    451 __NR_cachestat (absent);
    452 __NR_fchmodat2 (attrs::fchmodat2 done);
    453 __NR_map_shadow_stack (absent);
    454 __NR_futex_wake (absent);
    455 __NR_futex_wait (absent);
    456 __NR_futex_requeue (absent);
    457 __NR_statmount (absent);
    458 __NR_listmount (absent);
    459 __NR_lsm_get_self_attr (absent);
    460 __NR_lsm_set_self_attr (absent);
    461 __NR_lsm_list_modules (absent);
    462 __NR_mseal (absent);
}

/// All calls, by number.
pub fn rows() -> impl Iterator<Item = Row> {
    const PREFIX: usize = "__NR_".len();
    ROWS.iter().map(|r| Row { name: &r.name[PREFIX..], ..*r })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete_sorted_and_without_doubles() {
        let numbers: Vec<u32> = rows().map(|r| r.number).collect();
        let all: Vec<u32> = (0..=335).chain(424..=462).collect();
        assert_eq!(numbers, all);
        let mut names: Vec<&str> = rows().map(|r| r.name).collect();
        assert!(names.iter().all(|n| !n.is_empty() && !n.starts_with("__NR")));
        names.sort_unstable();
        assert!(names.windows(2).all(|w| w[0] != w[1]));
    }
    #[test]
    fn states_agree_with_handlers() {
        for r in rows() {
            let is_absent = HANDLERS[r.number as usize] as usize == absent as *const () as usize;
            assert_eq!(is_absent, r.state == State::Absent, "{}", r.name);
            assert!(!matches!(r.state, State::Partial("")));
        }
        assert_eq!(rows().find(|r| r.number == 39).map(|r| (r.name, r.state)), Some(("getpid", State::Done)));
    }
    #[test]
    fn numbers_without_a_call_are_enosys() {
        for n in [336, 400, 423] {
            assert_eq!(HANDLERS[n](&mut Regs::default()) as i64, -38);
        }
    }
}
