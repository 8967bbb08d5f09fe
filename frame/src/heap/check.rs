//! Poison and red zones, in checked builds only.

use core::ptr;

/// True in checked builds.
pub(super) const ON: bool = cfg!(debug_assertions);

/// What freed objects hold behind their first word: no text, no small number, no address.
const POISON: u64 = 0xdb6b_f5a5_db6b_f5a5;
/// What follows a block up to its object's end.
const REDZONE: u8 = 0xbb;

/// Words of an object behind the one that links free objects.
///
/// # Safety
/// `p` is an object of `size` bytes, aligned to a word.
unsafe fn words(p: *mut u8, size: usize) -> impl Iterator<Item = *mut u64> {
    // SAFETY: the caller's promise.
    (1..size / 8).map(move |i| unsafe { p.cast::<u64>().add(i) })
}

/// Poisons an object that is being freed.
pub(super) fn poison(p: *mut u8, size: usize) {
    // SAFETY: the pool owns the object.
    let already = size >= 16 && unsafe { words(p, size).all(|w| w.read() == POISON) };
    assert!(!already, "BUG: double free of object {p:p} of {size} bytes");
    fill_poison(p, size);
}

pub(super) fn fill_poison(p: *mut u8, size: usize) {
    // SAFETY: the pool owns the object.
    unsafe { words(p, size).for_each(|w| w.write(POISON)) };
}

/// Verifies an object that is handed out, and takes the pattern away, so that freeing it untouched is no double free.
pub(super) fn unpoison(p: *mut u8, size: usize) {
    // SAFETY: the pool owns the object.
    unsafe {
        for w in words(p, size) {
            let v = w.read();
            assert!(v == POISON, "BUG: object {p:p} of {size} bytes written after free: {v:#018x} at {w:p}");
            w.write(!POISON);
        }
    }
}

/// Marks what lies behind a block.
///
/// # Safety
/// `p` is a block of `size` bytes in an object of `whole`.
pub(super) unsafe fn set_redzone(p: *mut u8, size: usize, whole: usize) {
    // SAFETY: the caller's promise.
    unsafe { ptr::write_bytes(p.add(size), REDZONE, whole - size) };
}

/// Verifies it.
///
/// # Safety
/// As for [`set_redzone`].
pub(super) unsafe fn verify_redzone(p: *mut u8, size: usize, whole: usize) {
    for i in size..whole {
        // SAFETY: the caller's promise.
        let b = unsafe { p.add(i).read() };
        assert!(b == REDZONE, "BUG: block {p:p} of {size} bytes overrun: byte {i} is {b:#04x}");
    }
}
