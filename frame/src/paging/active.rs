//! Which table each processor has loaded.

use core::{ptr, sync::atomic::AtomicPtr};

use super::PageTable;
use crate::{arch, atomic::Ordering, context::IrqGuard, cpu::MAX_CPUS};

/// The table that a processor has loaded; null for the kernel's own. Only that processor touches its slot, with interrupts off.
/// A table in a slot is alive: its bit in `cpus` is set, and a table's drop waits for all bits to go.
static LOADED: [AtomicPtr<PageTable>; MAX_CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];

/// Loads `pt` on this processor, if it is not loaded. Interrupts are off.
#[inline]
pub(super) fn load(pt: &PageTable) {
    debug_assert!(!arch::irqs_enabled());
    let me = arch::cpu_id() as usize;
    let old = LOADED[me].load(Ordering::Relaxed);
    if ptr::eq(old, pt) {
        return;
    }
    // Before the root is loaded: see the table in the module's description.
    pt.cpus.fetch_or(1 << me, Ordering::SeqCst);
    arch::load_page_table(pt.root);
    LOADED[me].store(ptr::from_ref(pt).cast_mut(), Ordering::Relaxed);
    forget(old, me);
}

/// True if this processor has `pt` loaded. Interrupts are off, or preemption at least.
#[inline]
pub(super) fn is_loaded(pt: *const PageTable) -> bool {
    ptr::eq(LOADED[arch::cpu_id() as usize].load(Ordering::Relaxed), pt)
}

/// Loads the kernel's own table. Interrupts are off.
pub(super) fn leave() {
    let me = arch::cpu_id() as usize;
    let old = LOADED[me].load(Ordering::Relaxed);
    if old.is_null() {
        return;
    }
    arch::load_page_table(arch::kernel_root());
    LOADED[me].store(ptr::null_mut(), Ordering::Relaxed);
    forget(old, me);
}

/// After this the old table may go away.
fn forget(old: *const PageTable, me: usize) {
    if !old.is_null() {
        // SAFETY: this processor's bit is still set in it, so it is alive; this is the last access.
        unsafe { (*old).cpus.fetch_and(!(1 << me), Ordering::SeqCst) };
    }
}

/// Stops using whatever user table this processor has loaded: before it goes off line, or deeply idle.
///
/// # Panics
/// If the running task has an address space of its own.
pub fn leave_user_table() {
    let _g = IrqGuard::new();
    assert!(crate::task::borrows_page_table(), "a user task cannot leave its page table");
    leave();
}
