//! Where things go in an address space: pure functions of limits and random numbers.
//!
//! ```text
//!   0x7fff_ffff_f000  TASK_SIZE
//!                     stack, its top lowered by up to 16 GiB; grows down
//!                     room for RLIMIT_STACK (at least 128 MiB) and the guard gap
//!   mmap_base         lowered by up to 1 TiB; mappings and shared libraries, downwards
//!   0x5555_5555_4aaa… position-independent programs (2/3 of the space), raised by up to 1 TiB
//!                     heap, raised by up to 32 MiB after the program
//! ```
//! The figures are Linux's for x86-64 (`arch/x86/mm/mmap.c`; `vm.mmap_rnd_bits` = 28).

use frame::atomic::{AtomicU64, Ordering};

use crate::{PAGE_SHIFT, PAGE_SIZE, TASK_SIZE, page_align, page_floor};

/// `kernel.randomize_va_space`: 0 nothing, 1 mappings and stack, 2 also the heap.
pub(crate) static RANDOMIZE: AtomicU64 = AtomicU64::new(2);
/// `vm.mmap_min_addr`, bytes.
pub(crate) static MMAP_MIN_ADDR: AtomicU64 = AtomicU64::new(65536);

/// Pages kept free below a stack, so that a large frame does not jump over the guard: Linux's `stack_guard_gap`.
pub const STACK_GUARD_PAGES: usize = 256;
/// The same in bytes.
pub const STACK_GUARD_GAP: usize = STACK_GUARD_PAGES * PAGE_SIZE;
/// Bits of page-granular randomness of mappings.
const MMAP_RND_BITS: u32 = 28;
/// The stack's top varies over this many pages, less one (a mask).
const STACK_RND_MASK: usize = 0x3f_ffff;
/// The heap's start varies over this many bytes.
const BRK_RND: usize = 0x0200_0000;
const MIN_GAP: usize = 128 << 20;
const MAX_GAP: usize = TASK_SIZE / 6 * 5;

/// The random number to use where `level` of randomization is needed: 0 if it is switched off.
pub fn randomness(level: u64, random: u64) -> u64 {
    if RANDOMIZE.load(Ordering::Relaxed) >= level { random } else { 0 }
}

/// Lowest address that a program without `CAP_SYS_RAWIO` can map.
pub fn mmap_min_addr() -> usize {
    MMAP_MIN_ADDR.load(Ordering::Relaxed) as usize
}

fn mmap_rnd(random: u64) -> usize {
    ((random & ((1 << MMAP_RND_BITS) - 1)) as usize) << PAGE_SHIFT
}

/// Where mappings begin, going down. `random` is one random word, or 0 for none.
pub fn mmap_base(stack_limit: u64, random: u64) -> usize {
    let pad = STACK_GUARD_GAP + if random != 0 { STACK_RND_MASK << PAGE_SHIFT } else { 0 };
    let gap = usize::try_from(stack_limit).unwrap_or(usize::MAX).saturating_add(pad).clamp(MIN_GAP, MAX_GAP);
    page_align(TASK_SIZE - gap - mmap_rnd(random).min(TASK_SIZE - gap))
}
/// The upper end of the stack.
pub fn stack_top(random: u64) -> usize {
    TASK_SIZE - ((random as usize & STACK_RND_MASK) << PAGE_SHIFT)
}
/// Where a position-independent program with an interpreter is loaded.
pub fn pie_base(random: u64) -> usize {
    page_floor(TASK_SIZE / 3 * 2 + mmap_rnd(random))
}
/// Where the heap starts after a program that ends at `end`.
pub fn brk_start(end: usize, random: u64) -> usize {
    page_align(end + ((random as usize % BRK_RND) & !(PAGE_SIZE - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_do_not_collide() {
        for r in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let base = mmap_base(8 << 20, r);
            assert!(base.is_multiple_of(PAGE_SIZE) && base + MIN_GAP <= TASK_SIZE);
            assert!(stack_top(r) - (8 << 20) - STACK_GUARD_GAP > base || r == 0);
            assert!(pie_base(r) < base);
        }
        assert_eq!(mmap_base(u64::MAX, 0), page_align(TASK_SIZE - MAX_GAP));
    }
}
