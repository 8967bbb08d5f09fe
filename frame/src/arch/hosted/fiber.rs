//! Stacks and the switch between them: the machine's own assembly, on stacks of `mmap`.

use core::{
    cell::{Cell, RefCell},
    ops::Range,
    ptr,
};

use super::cpu;

const PAGE: usize = 4096;

/// Host stacks are this many times larger than the machine's: unoptimised code, the panic machinery and a symbolising
/// backtrace run on them. Untouched pages cost nothing.
const SCALE: usize = 16;

/// A kernel stack with a guard page below it.
pub struct Stack {
    base: usize,
    len: usize,
}

/// Stacks to use again: mapping one costs more than a whole short run.
struct Cache(Cell<[usize; 64]>, Cell<usize>);
// SAFETY: used only in a simulation, which has one host thread, and between preemption points.
unsafe impl Sync for Cache {}
static CACHE: Cache = Cache(Cell::new([0; 64]), Cell::new(0));
/// What the cache holds: stacks of the common size.
const CACHED_LEN: usize = (crate::task::STACK_PAGES * SCALE + 1) * PAGE;

impl Stack {
    /// Maps a stack of (at least) `pages` pages. `None` where the host refuses.
    pub fn new(pages: usize) -> Option<Stack> {
        let len = (pages * SCALE + 1) * PAGE;
        if cpu::active() && len == CACHED_LEN && CACHE.1.get() > 0 {
            let n = CACHE.1.get() - 1;
            CACHE.1.set(n);
            return Some(Stack { base: CACHE.0.get()[n], len });
        }
        // SAFETY: a fresh anonymous mapping touches nothing that exists.
        let p = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if p == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the first page of the mapping made above.
        if unsafe { libc::mprotect(p, PAGE, libc::PROT_NONE) } != 0 {
            // SAFETY: the mapping made above, not used yet.
            unsafe { libc::munmap(p, len) };
            return None;
        }
        Some(Stack { base: p as usize, len })
    }
    /// The address just above the stack.
    pub fn top(&self) -> usize {
        self.base + self.len
    }
    /// Its usable addresses.
    pub fn range(&self) -> Range<usize> {
        self.base + PAGE..self.base + self.len
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if cpu::active() && self.len == CACHED_LEN {
            let mut a = CACHE.0.get();
            let n = CACHE.1.get();
            if n < a.len() {
                a[n] = self.base;
                CACHE.0.set(a);
                CACHE.1.set(n + 1);
                return;
            }
        }
        // SAFETY: the mapping is ours, and whoever owned the stack has left it.
        unsafe { libc::munmap(self.base as *mut libc::c_void, self.len) };
    }
}

/// A saved stack pointer.
#[repr(transparent)]
pub struct Context(Cell<usize>);

impl Context {
    /// A context that will run `entry` on the empty stack below `stack_top`.
    pub fn new(stack_top: usize, entry: extern "C" fn() -> !) -> Context {
        let top = (stack_top & !15) as *mut usize;
        // SAFETY: the stack is the caller's own, mapped and empty; the eight words below its top are on it.
        unsafe {
            // No return address: unwinding ends here.
            top.sub(1).write(0);
            top.sub(2).write(entry as *const () as usize);
            for i in 3..=8 {
                top.sub(i).write(0);
            }
            Context(Cell::new(top.sub(8) as usize))
        }
    }
    /// A context to save into.
    pub const fn empty() -> Context {
        Context(Cell::new(0))
    }
    pub(crate) fn set(&self, c: Context) {
        self.0.set(c.0.get());
    }
    pub(crate) fn pointer(&self) -> *mut Context {
        ptr::from_ref(self).cast_mut()
    }
}

core::arch::global_asm!(
    ".global __nightshift_hosted_switch",
    "__nightshift_hosted_switch:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rdi], rsp",
    "mov rsp, [rsi]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
);

// SAFETY: the declarations match the labels of this file's assembly, which follow the C calling convention.
unsafe extern "C" {
    fn __nightshift_hosted_switch(prev: *mut Context, next: *const Context);
}

/// [`switch`] without counting as progress: for a change of processors.
///
/// # Safety
/// As for [`switch`].
#[inline(never)]
pub(crate) unsafe fn raw_switch(prev: *mut Context, next: *const Context) {
    // SAFETY: the caller's promise.
    unsafe { __nightshift_hosted_switch(prev, next) }
    if VISIT.wanted.get() {
        answer_visit();
    }
}

/// Saves the callee-saved registers on this stack, its pointer in `prev`, and goes on with `next`.
///
/// # Safety
/// `next` was saved by this function, or made by [`Context::new`] on a live stack, and is not running; `prev` may be
/// written and is not resumed before this has saved it.
#[inline(never)]
pub unsafe fn switch(prev: *mut Context, next: *const Context) {
    super::point::note_progress();
    // SAFETY: the caller's promise.
    unsafe { raw_switch(prev, next) }
}

/// A visit to a fiber that waits, to see where: the report of a failed run resumes it for a backtrace only.
struct Visit {
    wanted: Cell<bool>,
    home: Context,
    here: Context,
    seen: RefCell<Option<String>>,
}
// SAFETY: used only in a simulation, which has one host thread.
unsafe impl Sync for Visit {}
static VISIT: Visit = Visit {
    wanted: Cell::new(false),
    home: Context::empty(),
    here: Context::empty(),
    seen: RefCell::new(None),
};

#[cold]
#[inline(never)]
fn answer_visit() {
    let text = crate::sim::backtrace();
    *VISIT.seen.borrow_mut() = Some(text);
    // SAFETY: `visit` waits in `home`; it hands `here` on to whoever resumes this fiber.
    unsafe { __nightshift_hosted_switch(VISIT.here.pointer(), VISIT.home.pointer()) };
}

/// A backtrace of a fiber that waits in `c`, where it goes on waiting. `None` if it has not begun.
pub(crate) fn visit(c: &Context) -> Option<String> {
    let sp = c.0.get() as *const usize;
    // SAFETY: a saved context points at six registers and a return address; above that a new one has its zero.
    if sp.is_null() || unsafe { sp.add(7).read() } == 0 {
        return None;
    }
    VISIT.wanted.set(true);
    // SAFETY: `c` is saved; the fiber answers at once and comes back to `home`.
    unsafe { __nightshift_hosted_switch(VISIT.home.pointer(), ptr::from_ref(c)) };
    VISIT.wanted.set(false);
    c.0.set(VISIT.here.0.get());
    VISIT.seen.borrow_mut().take()
}
