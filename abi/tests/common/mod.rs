//! A whole kernel under simulation, with init as the program that asks.
#![expect(dead_code, unreachable_pub, reason = "each test uses some of it")]

use base::Errno;
use frame::{
    sim::{self, UserCtx},
    user::Regs,
};
use linux_raw_sys::general as raw;

/// Boots; `before` runs in the first task, when the file systems are known.
pub fn boot(before: impl FnOnce() + Send + 'static, program: impl Fn(&Asker<'_>) + Send + 'static) {
    mm::init();
    sched::init_boot_cpu();
    abi::init();
    // What declares knobs may sleep: it belongs into the first task, as in the kernel.
    let before = || {
        sched::start_other_cpus();
        sched::start_daemons().unwrap();
        fs::init().unwrap();
        process::init().unwrap();
        before();
    };
    let asks = move |u: &UserCtx| {
        program(&Asker::new(u));
        frame::boot::power_off()
    };
    let regs = move || Regs { rip: sim::user_program("init", asks), ..Regs::default() };
    let init = process::init::start_simulated(Box::new(before), regs).unwrap();
    sim::watch_task(&init, "init");
    sched::start_kthreadd().unwrap();
    init.start();
    sched::cpu_idle()
}

/// A program with some memory of its own.
pub struct Asker<'a> {
    pub u: &'a UserCtx,
    pub page: u64,
}

const SIGCHLD: u64 = 17;
/// What threads are made with: `CLONE_VM | FS | FILES | SIGHAND | THREAD`.
const THREAD: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000;

impl<'a> Asker<'a> {
    pub fn new(u: &'a UserCtx) -> Self {
        let page = u.syscall(raw::__NR_mmap as u64, [0, 1 << 16, 3, 0x22, !0, 0]);
        assert!(page < 1 << 47, "mmap: {}", page as i64);
        Asker { u, page }
    }
    pub fn call<const N: usize>(&self, nr: u32, args: [u64; N]) -> Result<u64, Errno> {
        let mut a = [0; 6];
        a[..N].copy_from_slice(&args);
        let r = self.u.syscall(nr as u64, a) as i64;
        if (-4095..0).contains(&r) { Err(Errno::from_code(-r as i32).unwrap()) } else { Ok(r as u64) }
    }
    /// The address of a string, in one of sixteen places.
    pub fn text(&self, place: u64, s: &str) -> u64 {
        let at = self.page + place * 512;
        self.u.store(at, s.as_bytes());
        self.u.store_u8(at + s.len() as u64, 0);
        at
    }
    pub fn data(&self) -> u64 {
        self.page + (1 << 15)
    }
    pub fn bytes(&self, at: u64, n: usize) -> Vec<u8> {
        let mut v = vec![0; n];
        self.u.load(at, &mut v);
        v
    }
    pub fn open(&self, path: &str, flags: u32) -> Result<u64, Errno> {
        self.call(raw::__NR_openat, [raw::AT_FDCWD as i64 as u64, self.text(0, path), flags as u64, 0o644])
    }
    /// A process that runs `f` and ends.
    pub fn fork(&self, f: impl FnOnce(&Asker<'_>) + 'static) -> u64 {
        self.start(SIGCHLD, raw::__NR_exit_group, f)
    }
    /// A thread that runs `f` and ends. It has a page of its own.
    pub fn thread(&self, f: impl FnOnce(&Asker<'_>) + 'static) -> u64 {
        self.start(THREAD, raw::__NR_exit, f)
    }
    fn start(&self, flags: u64, end: u32, f: impl FnOnce(&Asker<'_>) + 'static) -> u64 {
        let n = self.u.fork(raw::__NR_clone as u64, [flags, 0, 0, 0, 0, 0], move |u| {
            f(&Asker::new(u));
            u.syscall(end as u64, [0; 6]);
        });
        assert!(n < 1 << 31, "clone: {}", n as i64);
        n
    }
    /// Waits until all children have ended.
    pub fn wait_all(&self) {
        while self.call(raw::__NR_wait4, [!0, 0, 0, 0]).is_ok() {}
    }
}
