//! Storage that outlives a run: what a simulated disk's platters are.

use core::{ffi::c_void, ptr};

/// Bytes shared between a process and the runs that it starts. All zero at first; untouched pages cost nothing.
pub struct Persistent {
    at: *mut u8,
    len: usize,
}

// SAFETY: contents are only copied, by raw pointers. Concurrent copies of the same bytes may tear, as a disk's do; within a run there is one
// host thread.
unsafe impl Send for Persistent {}
// SAFETY: as above.
unsafe impl Sync for Persistent {}

impl Persistent {
    /// Makes `len` bytes of storage. Call it before the runs that shall share it.
    ///
    /// # Panics
    /// If the host has no memory.
    pub fn new(len: usize) -> Self {
        // SAFETY: a fresh anonymous mapping touches nothing that exists.
        let p = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len.max(1),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert!(p != libc::MAP_FAILED, "no memory for {len} bytes of storage");
        Persistent { at: p.cast(), len }
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    fn check(&self, off: usize, len: usize) {
        assert!(len <= self.len && off <= self.len - len, "{len} bytes at {off} of storage of {}", self.len);
    }
    /// # Panics
    /// Beyond the end.
    pub fn read(&self, off: usize, out: &mut [u8]) {
        self.check(off, out.len());
        // SAFETY: the range is inside the mapping, and `out` is not (nobody gets a reference into it).
        unsafe { ptr::copy_nonoverlapping(self.at.add(off), out.as_mut_ptr(), out.len()) }
    }
    /// # Panics
    /// Beyond the end.
    pub fn write(&self, off: usize, data: &[u8]) {
        self.check(off, data.len());
        // SAFETY: as above.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), self.at.add(off), data.len()) }
    }
}

impl Drop for Persistent {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `new`; no reference into it exists.
        unsafe { libc::munmap(self.at.cast::<c_void>(), self.len.max(1)) };
    }
}
