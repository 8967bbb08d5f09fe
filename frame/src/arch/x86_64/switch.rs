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

/// The ring-0 stack is set by each entry to user mode (see `entry.s`), so there is nothing to do at a switch.
#[inline]
pub fn set_kernel_stack(_top: usize) {}
