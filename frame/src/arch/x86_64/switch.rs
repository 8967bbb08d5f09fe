//! A saved kernel stack pointer, and the switch from one to another.

use core::ptr;

/// What of a task's execution is kept while it does not run: all callee-saved registers are on its stack.
#[repr(C)]
pub struct Context {
    rsp: u64,
}

/// What `switch_stacks` pops: six registers, then the address to return to.
const WORDS: usize = 7;

impl Context {
    /// A context that begins at `entry` on the stack below `stack_top`, which must be a fresh [`super::Stack`]'s top.
    pub fn new(stack_top: usize, entry: extern "C" fn() -> !) -> Context {
        // One word above the entry's frame is a null return address, which ends backtraces and gives the alignment that a
        // called function expects.
        let sp = stack_top - 16 - WORDS * 8;
        let sp = sp - (sp + WORDS * 8 + 8) % 16;
        // SAFETY: the words lie inside the new stack, whose pages are mapped and which nothing else uses yet.
        unsafe {
            let w = ptr::with_exposed_provenance_mut::<u64>(sp);
            for i in 0..WORDS - 1 {
                w.add(i).write(0);
            }
            w.add(WORDS - 1).write(entry as *const () as u64);
            w.add(WORDS).write(0);
        }
        Context { rsp: sp as u64 }
    }
    /// For a context that runs already: filled in when it is switched away from.
    pub const fn empty() -> Context {
        Context { rsp: 0 }
    }
}

// SAFETY: the declarations match the labels of the assembly that defines them.
unsafe extern "C" {
    fn switch_stacks(prev: *mut Context, next: *const Context);
}

/// Continues `next`; returns when something switches back to `prev`.
///
/// # Safety
/// Interrupts are off, this processor owns both contexts, and `next` was made by [`Context::new`] or saved here.
#[inline]
pub unsafe fn switch(prev: *mut Context, next: *const Context) {
    // SAFETY: the caller's promise.
    unsafe { switch_stacks(prev, next) }
}

/// The return addresses on the stack of a task that does not run, innermost first. `stack` is the whole of that stack, mapped as
/// long as the caller holds the task; nothing outside of it is read.
pub fn saved_frames(context: *const Context, stack: core::ops::Range<usize>, mut show: impl FnMut(u64)) {
    const WORD: usize = size_of::<u64>();
    let word = |at: usize| {
        let inside = at.is_multiple_of(WORD) && at >= stack.start && at + WORD <= stack.end;
        // SAFETY: inside the stack, which is mapped. The task may run and write it meanwhile: read once, volatile, and believed
        // only after the same check.
        inside.then(|| unsafe { ptr::with_exposed_provenance::<u64>(at).read_volatile() })
    };
    // SAFETY: the context lives in the task, which the caller holds; one aligned word, read as above.
    let rsp = unsafe { (&raw const (*context).rsp).read_volatile() } as usize;
    // `switch_stacks` pushed rbp first, so that it lies below the return address.
    let Some(first) = rsp.checked_add((WORDS - 1) * WORD).filter(|_| rsp != 0) else { return };
    let mut next = word(first - WORD);
    let mut ret = word(first);
    while let Some(addr) = ret.filter(|&a| a != 0) {
        show(addr);
        let Some(frame) = next.map(|f| f as usize).filter(|&f| f > first) else { break };
        (ret, next) = (word(frame + WORD), word(frame).filter(|&n| n as usize > frame));
    }
}

/// The ring-0 stack is set by each entry to user mode (see `entry.s`), so there is nothing to do at a switch.
#[inline]
pub fn set_kernel_stack(_top: usize) {}
