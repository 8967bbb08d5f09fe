//! The bits of a mapping: what `mmap` asks for, and what a region remembers. The values are Linux's.

bitflags::bitflags! {
    /// `PROT_*` of `mmap` and `mprotect`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Prot: u32 {
        const READ = 1;
        const WRITE = 2;
        const EXEC = 4;
        /// Accepted and without effect, as on Linux/x86.
        const SEM = 8;
        const GROWSDOWN = 0x0100_0000;
        const GROWSUP = 0x0200_0000;
        const _ = !0;
    }
}

bitflags::bitflags! {
    /// `MAP_*`. Unknown bits are kept: `MAP_SHARED_VALIDATE` must refuse them, the other types ignore them.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MapFlags: u32 {
        const SHARED = 0x01;
        const PRIVATE = 0x02;
        /// `SHARED` and `PRIVATE` together: shared, and unknown flags are an error.
        const SHARED_VALIDATE = 0x03;
        const TYPE = 0x0f;
        const FIXED = 0x10;
        const ANON = 0x20;
        const LOW_32BIT = 0x40;
        const GROWSDOWN = 0x0100;
        const DENYWRITE = 0x0800;
        const EXECUTABLE = 0x1000;
        const LOCKED = 0x2000;
        const NORESERVE = 0x4000;
        const POPULATE = 0x8000;
        const NONBLOCK = 0x1_0000;
        const STACK = 0x2_0000;
        const HUGETLB = 0x4_0000;
        const SYNC = 0x8_0000;
        const FIXED_NOREPLACE = 0x10_0000;
        const _ = !0;
    }
}

bitflags::bitflags! {
    /// `VM_*` of a region, as `/proc/PID/smaps` spells them in `VmFlags`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct VmFlags: u32 {
        const READ = 0x1;
        const WRITE = 0x2;
        const EXEC = 0x4;
        const SHARED = 0x8;
        const MAYREAD = 0x10;
        const MAYWRITE = 0x20;
        const MAYEXEC = 0x40;
        const MAYSHARE = 0x80;
        const GROWSDOWN = 0x100;
        /// The pages are not counted: vdso and the like.
        const PFNMAP = 0x400;
        const LOCKED = 0x2000;
        const SEQ_READ = 0x8000;
        const RAND_READ = 0x1_0000;
        const DONTCOPY = 0x2_0000;
        const DONTEXPAND = 0x4_0000;
        const LOCKONFAULT = 0x8_0000;
        /// The region's pages are counted as promised memory.
        const ACCOUNT = 0x10_0000;
        const NORESERVE = 0x20_0000;
        const WIPEONFORK = 0x200_0000;
        const DONTDUMP = 0x400_0000;
        const HUGEPAGE = 0x2000_0000;
        const NOHUGEPAGE = 0x4000_0000;
    }
}

impl VmFlags {
    pub const ACCESS: VmFlags = VmFlags::READ.union(VmFlags::WRITE).union(VmFlags::EXEC);
    pub const MAYALL: VmFlags = VmFlags::MAYREAD.union(VmFlags::MAYWRITE).union(VmFlags::MAYEXEC);
    /// What makes the region a stack.
    pub const STACK: VmFlags = VmFlags::GROWSDOWN
        .union(VmFlags::READ)
        .union(VmFlags::WRITE)
        .union(VmFlags::MAYALL)
        .union(VmFlags::ACCOUNT);
    /// What the break has.
    pub const DATA: VmFlags =
        VmFlags::READ.union(VmFlags::WRITE).union(VmFlags::MAYALL).union(VmFlags::ACCOUNT);

    /// The access bits that `prot` asks for.
    #[inline]
    pub fn from_prot(prot: Prot) -> VmFlags {
        VmFlags::from_bits_truncate(prot.bits() & 7)
    }
    /// Access that the region can never be given: for `mprotect`'s `EACCES`.
    #[inline]
    pub fn exceeds_may(self) -> bool {
        self.bits() & !(self.bits() >> 4) & 7 != 0
    }
    /// Private and writable: what counts as data, and against the overcommit limit.
    #[inline]
    pub fn is_private_writable(self) -> bool {
        self & (VmFlags::WRITE | VmFlags::SHARED) == VmFlags::WRITE
    }
    /// Counts as data: private, writable, not a stack.
    #[inline]
    pub fn is_data(self) -> bool {
        self & (VmFlags::WRITE | VmFlags::SHARED | VmFlags::GROWSDOWN) == VmFlags::WRITE
    }
    /// Counts as text: executable, not writable, not a stack.
    #[inline]
    pub fn is_exec(self) -> bool {
        self & (VmFlags::EXEC | VmFlags::WRITE | VmFlags::GROWSDOWN) == VmFlags::EXEC
    }
}
