//! Names for code addresses, from a table that the build tool puts into the image after linking.
//!
//! The section `.ksyms`, alone in the last `PT_LOAD` segment of the image, begins with
//!
//! ```text
//!   0   8 bytes  "NSKSYMS1"
//!   8   u32      number of symbols
//!   12  u32      bytes of names
//!   16  symbols: u32 offset from 0xffffffff80000000, u32 offset into the names; sorted by the first
//!   ..  names:   demangled, each ended by a NUL
//! ```
//! in little endian. The linker leaves it empty (zero symbols, 16 bytes). The tool writes the new content, and grows the
//! segment's file and memory size: the segment is last in the file's load order and in memory, so nothing is in the way.
//! With no symbols, backtraces print bare addresses.

use super::memory::KERNEL_BASE;

/// Aligned for the words in it.
#[repr(C, align(16))]
struct Table([u8; 16]);

#[used]
// SAFETY: the section holds this static alone; the host program fills it in the finished image.
#[unsafe(link_section = ".ksyms")]
static TABLE: Table = Table(*b"NSKSYMS1\0\0\0\0\0\0\0\0");

fn bytes(at: usize, len: usize) -> &'static [u8] {
    // SAFETY: the loader put the whole segment in memory, whose length `end` computes from its own header; it is read-only.
    unsafe { core::slice::from_raw_parts((&raw const TABLE).cast::<u8>().wrapping_add(at), len) }
}
fn word(at: usize) -> u32 {
    // SAFETY: callers stay inside the table. Volatile, since the compiler knows the linker's content, not the tool's.
    u32::from_le(unsafe { (&raw const TABLE).cast::<u8>().wrapping_add(at).cast::<u32>().read_volatile() })
}
fn counts() -> (usize, usize) {
    (word(8) as usize, word(12) as usize)
}

/// Address of the table.
pub(super) fn start() -> u64 {
    (&raw const TABLE).addr() as u64
}
/// Its end, as the header tells.
pub(super) fn end() -> u64 {
    let (n, names) = counts();
    start() + 16 + n as u64 * 8 + names as u64
}

/// The name of the function at `addr`, and the distance from its start.
pub fn lookup(addr: u64) -> Option<(&'static str, u64)> {
    let (n, _) = counts();
    let off = u32::try_from(addr.checked_sub(KERNEL_BASE)?).ok()?;
    let (mut lo, mut hi) = (0, n);
    while lo < hi {
        let mid = (lo + hi) / 2;
        if word(16 + mid * 8) <= off { lo = mid + 1 } else { hi = mid }
    }
    let (name, at) = nth(lo.checked_sub(1)?)?;
    Some((name, addr - at))
}

/// The `i`th function's name and address, in the order of addresses. `None` behind the last.
pub fn nth(i: usize) -> Option<(&'static str, u64)> {
    let (n, names) = counts();
    if i >= n {
        return None;
    }
    let name_at = word(16 + i * 8 + 4) as usize;
    if name_at >= names {
        return None;
    }
    let rest = bytes(16 + n * 8 + name_at, names - name_at);
    let len = rest.iter().position(|&b| b == 0)?;
    Some((core::str::from_utf8(&rest[..len]).ok()?, KERNEL_BASE + u64::from(word(16 + i * 8))))
}
