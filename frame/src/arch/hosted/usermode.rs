//! User programs: fibers of safe Rust that see memory only through [`super::mmu`].
//!
//! `Regs.rip` names what runs. A program that is not started yet has an address from [`register`]; its first run makes an
//! *instance*, a fiber on a stack of its own, and from then on `rip` lies in the instance's own page of addresses:
//!
//! ```text
//!   instance + 0x10   the `syscall` instruction: to continue there makes the same call again (restart after a signal)
//!   instance + 0x12   after it: to continue there returns `rax` to the program
//!   instance + 0x20   a load or store: tried again
//!   instance + 0x30   anywhere else
//! ```
//! So a kernel that saves and restores `Regs`, as for a signal handler (`rip` = another program) and its return, works unchanged. A
//! copy of `Regs` that a forked task runs starts the closure that the parent gave to [`UserCtx::fork`].

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use super::{
    cpu,
    fiber::{Context, Stack, raw_switch},
    mmu::{self, ERR_FETCH, ERR_USER, Mode, translate},
    point, preempt_point,
};
use crate::{
    sim::{self, Event},
    task::Task,
    user::{RawTrap, Regs},
};

type Program = Rc<dyn Fn(&UserCtx)>;
type Child = Box<dyn FnOnce(&UserCtx)>;

const PROGRAMS: u64 = 0x0000_1000_0000_0000;
const INSTANCES: u64 = 0x0000_2000_0000_0000;
const EACH: u64 = 0x1000;
const AT_SYSCALL: u64 = 0x10;
const AFTER_SYSCALL: u64 = 0x12;
const AT_ACCESS: u64 = 0x20;
const ELSEWHERE: u64 = 0x30;
const STACK_PAGES: usize = 4;

/// A program in progress.
pub(crate) struct Instance {
    number: u64,
    user: Context,
    kernel: Context,
    regs: Cell<Regs>,
    trap: Cell<Option<RawTrap>>,
    owner: Cell<*const Task>,
    entry: Cell<Option<Child>>,
    /// Kept for ever: a copy of `Regs` may name it as long as the run lasts.
    _stack: Stack,
}

struct Programs {
    known: RefCell<Vec<(String, Program)>>,
    instances: RefCell<Vec<&'static Instance>>,
    /// What forked tasks will run; `r15` of a forking program is the index plus one.
    children: RefCell<Vec<Option<Child>>>,
}
// SAFETY: used only where this process is a simulation (`cpu::active`), which has one host thread.
unsafe impl Sync for Programs {}
static P: Programs = Programs {
    known: RefCell::new(Vec::new()),
    instances: RefCell::new(Vec::new()),
    children: RefCell::new(Vec::new()),
};

/// Registers a program; its entry address.
pub(crate) fn register(name: &str, f: Program) -> u64 {
    assert!(cpu::active(), "user programs exist only in a simulation");
    let mut known = P.known.borrow_mut();
    known.push((name.into(), f));
    PROGRAMS + (known.len() as u64 - 1) * EACH
}

/// The entry address of a registered program.
pub(crate) fn lookup(name: &str) -> Option<u64> {
    let i = P.known.borrow().iter().position(|(n, _)| n == name)?;
    Some(PROGRAMS + i as u64 * EACH)
}

fn make(entry: Child) -> Option<&'static Instance> {
    let stack = Stack::new(STACK_PAGES)?;
    let mut all = P.instances.borrow_mut();
    let i: &'static Instance = Box::leak(Box::new(Instance {
        number: all.len() as u64,
        user: Context::new(stack.top(), user_entry),
        kernel: Context::empty(),
        regs: Cell::new(Regs::default()),
        trap: Cell::new(None),
        owner: Cell::new(cpu::current()),
        entry: Cell::new(Some(entry)),
        _stack: stack,
    }));
    all.push(i);
    Some(i)
}

/// What `rip` names. `None` where nothing is.
fn resolve(regs: &Regs) -> Option<&'static Instance> {
    let rip = regs.rip;
    if let Some(off) = rip.checked_sub(INSTANCES) {
        let i = *P.instances.borrow().get((off / EACH) as usize)?;
        if i.owner.get() == cpu::current() {
            return Some(i);
        }
        let child =
            (regs.r15 as usize).checked_sub(1).and_then(|n| P.children.borrow_mut().get_mut(n)?.take());
        return make(child.expect("registers of a user program run on a second task, and it did not fork"));
    }
    let p = P.known.borrow().get((rip.checked_sub(PROGRAMS)? / EACH) as usize)?.1.clone();
    make(Box::new(move |ctx| p(ctx)))
}

/// Runs the program that `regs.rip` names until it traps. Interrupts are off before, on after; `left` runs with them off.
pub fn run_user(regs: &mut Regs, left: impl FnOnce()) -> RawTrap {
    assert!(cpu::active(), "user programs run only in a simulation");
    let Some(i) = resolve(regs) else {
        left();
        point::irq_enable();
        return RawTrap::PageFault { va: regs.rip as usize, error: ERR_FETCH | ERR_USER };
    };
    let base = INSTANCES + i.number * EACH;
    if regs.rip == base + AT_SYSCALL {
        regs.rip = base + AFTER_SYSCALL;
        left();
        point::irq_enable();
        return RawTrap::Syscall;
    }
    i.regs.set(*regs);
    i.trap.set(None);
    cpu::with(|c| {
        c.user.set(i);
        c.irqs.set(true);
    });
    point::note_progress();
    // SAFETY: the instance belongs to this task, so it does not run; its context was made by `make` or saved by `trap`.
    unsafe { raw_switch(i.kernel.pointer(), i.user.pointer()) };
    let trap = i.trap.take().expect("a program came back without a trap");
    *regs = i.regs.get();
    cpu::with(|c| c.irqs.set(false));
    left();
    cpu::with(|c| c.irqs.set(true));
    if trap == RawTrap::Interrupt {
        point::serve_one();
    } else {
        preempt_point();
    }
    trap
}

/// Back into the kernel. Returns when the kernel lets the program go on.
fn trap(i: &'static Instance, what: RawTrap, rip: u64) {
    cpu::with(|c| c.user.set(core::ptr::null()));
    let mut r = i.regs.get();
    r.rip = INSTANCES + i.number * EACH + rip;
    i.regs.set(r);
    i.trap.set(Some(what));
    sim::note(Event::Trap, rip);
    // SAFETY: `run_user` saved the kernel's side before it came here, and waits there.
    unsafe { raw_switch(i.user.pointer(), i.kernel.pointer()) };
}

fn running() -> Option<&'static Instance> {
    let p = cpu::with(|c| c.user.get());
    // SAFETY: null, or an instance, all of which are leaked.
    unsafe { p.as_ref() }
}

/// For a preemption point with an interrupt pending: if it lies in a user program, the kernel serves it, and true.
pub(crate) fn interrupted() -> bool {
    let Some(i) = running() else { return false };
    trap(i, RawTrap::Interrupt, ELSEWHERE);
    true
}

extern "C" fn user_entry() -> ! {
    let i = running().expect("a program starts outside of user mode");
    let entry = i.entry.take().expect("a program starts twice");
    entry(&UserCtx { i });
    // It returned, to nowhere.
    loop {
        trap(i, RawTrap::PageFault { va: 0, error: ERR_FETCH | ERR_USER }, ELSEWHERE);
    }
}

/// What a simulated user program can do: compute, touch memory, make system calls.
pub struct UserCtx {
    i: &'static Instance,
}

impl UserCtx {
    fn access(&self, va: u64, size: u64, write: bool) -> u64 {
        loop {
            if !va.is_multiple_of(size) {
                // Alignment check. The simulated processor has no unaligned accesses.
                trap(self.i, RawTrap::Exception { vector: 17, error: 0 }, AT_ACCESS);
                continue;
            }
            preempt_point();
            match translate(va as usize, write, Mode::User) {
                Ok(pa) => return pa,
                Err(error) => trap(self.i, RawTrap::PageFault { va: va as usize, error }, AT_ACCESS),
            }
        }
    }
    pub fn load_u8(&self, va: u64) -> u8 {
        let pa = self.access(va, 1, false);
        // SAFETY: `translate` gives addresses inside simulated memory only (`phys_to_ptr` checks).
        unsafe { super::phys_to_ptr(pa).read_volatile() }
    }
    pub fn store_u8(&self, va: u64, v: u8) {
        let pa = self.access(va, 1, true);
        // SAFETY: as above.
        unsafe { super::phys_to_ptr(pa).write_volatile(v) }
    }
    pub fn load_u32(&self, va: u64) -> u32 {
        mmu::word32(self.access(va, 4, false)).load(core::sync::atomic::Ordering::SeqCst)
    }
    pub fn store_u32(&self, va: u64, v: u32) {
        mmu::word32(self.access(va, 4, true)).store(v, core::sync::atomic::Ordering::SeqCst);
    }
    pub fn load_u64(&self, va: u64) -> u64 {
        mmu::word64(self.access(va, 8, false)).load(core::sync::atomic::Ordering::SeqCst)
    }
    pub fn store_u64(&self, va: u64, v: u64) {
        mmu::word64(self.access(va, 8, true)).store(v, core::sync::atomic::Ordering::SeqCst);
    }
    /// Atomic; what was there before.
    pub fn cmpxchg_u32(&self, va: u64, old: u32, new: u32) -> u32 {
        let o = core::sync::atomic::Ordering::SeqCst;
        mmu::word32(self.access(va, 4, true)).compare_exchange(old, new, o, o).unwrap_or_else(|v| v)
    }
    /// Atomic; what was there before.
    pub fn fetch_add_u32(&self, va: u64, n: u32) -> u32 {
        mmu::word32(self.access(va, 4, true)).fetch_add(n, core::sync::atomic::Ordering::SeqCst)
    }
    /// Byte by byte, as a program's own `memcpy` might.
    pub fn load(&self, va: u64, out: &mut [u8]) {
        for (i, b) in out.iter_mut().enumerate() {
            *b = self.load_u8(va + i as u64);
        }
    }
    /// Byte by byte.
    pub fn store(&self, va: u64, data: &[u8]) {
        for (i, b) in data.iter().enumerate() {
            self.store_u8(va + i as u64, *b);
        }
    }
    /// The registers as the kernel last left them: arguments at the start, the signal number in a handler.
    pub fn regs(&self) -> Regs {
        self.i.regs.get()
    }
    pub fn set_regs(&self, f: impl FnOnce(&mut Regs)) {
        let mut r = self.i.regs.get();
        f(&mut r);
        self.i.regs.set(r);
    }
    /// Takes some time, in which anything may happen.
    pub fn compute(&self, steps: u32) {
        for _ in 0..steps {
            preempt_point();
        }
    }
    /// A system call; what the kernel left in `rax`.
    pub fn syscall(&self, nr: u64, args: [u64; 6]) -> u64 {
        preempt_point();
        let next = INSTANCES + self.i.number * EACH + AFTER_SYSCALL;
        self.set_regs(|r| {
            r.rax = nr;
            [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] = args;
            r.rcx = next;
            r.r11 = r.rflags;
        });
        trap(self.i, RawTrap::Syscall, AFTER_SYSCALL);
        self.i.regs.get().rax
    }
    /// A system call that makes a task with a copy of the registers (`fork`, `clone`): there `child` runs.
    pub fn fork(&self, nr: u64, args: [u64; 6], child: impl FnOnce(&UserCtx) + 'static) -> u64 {
        let mut children = P.children.borrow_mut();
        children.push(Some(Box::new(child)));
        let n = children.len() as u64;
        drop(children);
        self.set_regs(|r| r.r15 = n);
        let r = self.syscall(nr, args);
        self.set_regs(|r| r.r15 = 0);
        r
    }
}
