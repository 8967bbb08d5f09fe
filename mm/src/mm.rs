//! [`Mm`]: one user address space.
//!
//! # Structure
//! ```text
//!   Mm ── space: RwSemaphore<Space>      regions, limits of the heap, sizes       "the region lock" (Linux: mmap_lock)
//!      ── pt: Arc<PageTable>             which page is where                      its own spin lock
//!      ── rss, faults, flags             atomics
//! ```
//! A fault reads the regions and changes the page table; everything else that changes regions writes them. Regions
//! say what may be there, the page table what is: a page is only ever mapped inside a region that allows it, because it is
//! entered with the region lock held for reading and regions shrink with it held for writing.
//!
//! # Life
//! Programs hold an `Mm` through their process (Linux's `mm_users`); the last of them calls [`Mm::release`], which unmaps
//! everything. Others (`/proc`, the OOM killer) may keep the `Arc` longer: they see an empty address space, not freed memory.
//!
//! # Who may do what at the same time
//! | | fault | mmap, munmap, mprotect, mremap, brk | fork | release | OOM reap |
//! |---|---|---|---|---|---|
//! | fault | table lock | region lock | region lock | region lock | table lock; `UNSTABLE` refuses what comes after |
//! | mmap … | | region lock | region lock | region lock | region lock |
//! | fork | | | region lock | region lock | region lock |
//! | release | | | | region lock | region lock |
//! | OOM reap | | | | | table lock |

use alloc::sync::Arc;
use core::any::Any;

use base::{Errno, Result};
use frame::{
    atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering},
    heap,
    paging::PageTable,
    sync::{LockClass, RwSemaphore, SpinLock},
};

use crate::{MapObject, PAGE_SHIFT, VmFlags, layout, overcommit, vma_tree::VmaTree};

/// Linux's `vm.max_map_count`: leaves room for the 65535 sections that an ELF core file can have.
pub(crate) static MAX_MAP_COUNT: AtomicU64 = AtomicU64::new(65530);

static REGION_LOCK: LockClass = LockClass::new("mmap_lock");
static EXE_LOCK: LockClass = LockClass::new("mm_exe");

/// What the caller may have: resource limits in bytes, and the capabilities that lift some.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `RLIMIT_AS`.
    pub address_space: u64,
    /// `RLIMIT_DATA`.
    pub data: u64,
    /// `RLIMIT_STACK`.
    pub stack: u64,
    /// `RLIMIT_MEMLOCK`.
    pub memlock: u64,
    /// `CAP_IPC_LOCK`: may lock any amount.
    pub may_lock_all: bool,
    /// `CAP_SYS_ADMIN`: may use the last part of memory in overcommit mode 2.
    pub is_admin: bool,
    /// `CAP_SYS_RAWIO`: may map below `vm.mmap_min_addr`.
    pub may_map_low: bool,
}

impl Limits {
    /// No limits, all capabilities: what the first program has, but for the stack (8 MiB) and locked memory (8 MiB without the capability).
    pub const fn root() -> Limits {
        Limits {
            address_space: u64::MAX,
            data: u64::MAX,
            stack: 8 << 20,
            memlock: 8 << 20,
            may_lock_all: true,
            is_admin: true,
            may_map_low: true,
        }
    }
}

/// What `exec` put where: for `/proc/PID/stat`, `cmdline`, `environ` and `prctl(PR_SET_MM)`.
#[derive(Clone, Copy, Default, Debug)]
pub struct ExecInfo {
    pub start_code: usize,
    pub end_code: usize,
    pub start_data: usize,
    pub end_data: usize,
    pub start_stack: usize,
    pub arg_start: usize,
    pub arg_end: usize,
    pub env_start: usize,
    pub env_end: usize,
}

/// Which resident pages a counter counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RssKind {
    File = 0,
    Anon = 1,
    Shmem = 2,
}

/// Resident pages, and other sizes in pages.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Rss {
    pub file: u64,
    pub anon: u64,
    pub shmem: u64,
    /// The most that was ever resident: `VmHWM`.
    pub peak: u64,
    pub total_vm: u64,
    /// The largest `total_vm` so far: `VmPeak`.
    pub peak_vm: u64,
    pub data_vm: u64,
    pub stack_vm: u64,
    pub exec_vm: u64,
    pub locked_vm: u64,
}

impl Rss {
    /// All resident pages.
    pub fn resident(&self) -> u64 {
        self.file + self.anon + self.shmem
    }
}

/// What a region is for, as `/proc/PID/maps` names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VmaName {
    None,
    Heap,
    Stack,
    /// Ask the object for its path.
    Object,
}

/// One region, for `/proc/PID/maps` and `smaps`.
pub struct VmaInfo<'a> {
    pub start: usize,
    pub end: usize,
    pub flags: VmFlags,
    pub pgoff: u64,
    pub object: Option<&'a Arc<dyn MapObject>>,
    pub name: VmaName,
}

/// What the region lock guards.
pub(crate) struct Space {
    pub(crate) vmas: VmaTree,
    /// Sizes in pages.
    pub(crate) total_vm: usize,
    pub(crate) data_vm: usize,
    pub(crate) exec_vm: usize,
    pub(crate) stack_vm: usize,
    pub(crate) locked_vm: usize,
    pub(crate) peak_vm: usize,
    /// The heap: `start_brk..brk`, `brk` not page aligned.
    pub(crate) start_brk: usize,
    pub(crate) brk: usize,
    /// Mappings without a fixed place go below it, the highest first.
    pub(crate) mmap_base: usize,
    /// What new mappings get on top: `mlockall(MCL_FUTURE)`.
    pub(crate) def_flags: VmFlags,
    pub(crate) exec: ExecInfo,
    /// Set by `release`: nothing can be mapped any more.
    pub(crate) is_released: bool,
}

impl Space {
    fn new() -> Self {
        Self {
            vmas: VmaTree::new(),
            total_vm: 0,
            data_vm: 0,
            exec_vm: 0,
            stack_vm: 0,
            locked_vm: 0,
            peak_vm: 0,
            start_brk: 0,
            brk: 0,
            mmap_base: layout::mmap_base(8 << 20, 0),
            def_flags: VmFlags::empty(),
            exec: ExecInfo::default(),
            is_released: false,
        }
    }

    /// Counts `pages` pages with these flags in.
    pub(crate) fn account(&mut self, flags: VmFlags, pages: usize) {
        self.total_vm += pages;
        if let Some(c) = self.class(flags) {
            *c += pages;
        }
        self.peak_vm = self.peak_vm.max(self.total_vm);
    }
    pub(crate) fn unaccount(&mut self, flags: VmFlags, pages: usize) {
        self.total_vm -= pages;
        if let Some(c) = self.class(flags) {
            *c -= pages;
        }
    }
    /// Linux's three classes exclude each other; other regions count in none.
    fn class(&mut self, flags: VmFlags) -> Option<&mut usize> {
        if flags.is_exec() {
            Some(&mut self.exec_vm)
        } else if flags.contains(VmFlags::GROWSDOWN) {
            Some(&mut self.stack_vm)
        } else if flags.is_data() {
            Some(&mut self.data_vm)
        } else {
            None
        }
    }

    /// `may_expand_vm`: `RLIMIT_AS`, and `RLIMIT_DATA` for private writable pages.
    pub(crate) fn may_expand(&self, flags: VmFlags, pages: usize, limits: &Limits) -> bool {
        let total = (self.total_vm + pages) as u64;
        if total > limits.address_space >> PAGE_SHIFT {
            return false;
        }
        !flags.is_data() || (self.data_vm + pages) as u64 <= limits.data >> PAGE_SHIFT
    }
    pub(crate) fn has_room_for_region(&self) -> bool {
        (self.vmas.len() as u64) < MAX_MAP_COUNT.load(Ordering::Relaxed)
    }
}

/// Bits of [`Mm::oom`].
pub(crate) const OOM_VICTIM: u32 = 1;
/// Pages were taken by force: what is missing must not be filled with zeroes.
pub(crate) const OOM_UNSTABLE: u32 = 2;
/// Nothing more to get here: not to be chosen again.
pub(crate) const OOM_SKIP: u32 = 4;

/// One user address space.
pub struct Mm {
    pub(crate) pt: Arc<PageTable>,
    pub(crate) space: RwSemaphore<Space>,
    rss: [AtomicI64; 3],
    peak_rss: AtomicU64,
    /// `RLIMIT_STACK` of the program, for growth by faults.
    pub(crate) stack_limit: AtomicU64,
    pub(crate) oom: AtomicU32,
    exe: SpinLock<Option<Arc<dyn Any + Send + Sync>>>,
}

impl core::fmt::Debug for Mm {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Mm({:?})", self.pt)
    }
}

impl Mm {
    /// An empty address space.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Arc<Mm>> {
        let pt = PageTable::new().ok_or(Errno::ENOMEM)?;
        heap::try_arc(Mm {
            pt,
            space: RwSemaphore::new(&REGION_LOCK, Space::new()),
            rss: [const { AtomicI64::new(0) }; 3],
            peak_rss: AtomicU64::new(0),
            stack_limit: AtomicU64::new(8 << 20),
            oom: AtomicU32::new(0),
            exe: SpinLock::new(&EXE_LOCK, None),
        })
        .ok_or(Errno::ENOMEM)
    }

    /// What to give to `Current::set_page_table`.
    pub fn page_table(&self) -> &Arc<PageTable> {
        &self.pt
    }

    /// `RLIMIT_STACK`, which page faults check when they grow a stack.
    pub fn set_stack_limit(&self, bytes: u64) {
        self.stack_limit.store(bytes, Ordering::Relaxed);
    }
    /// Where mappings without a fixed place go: see [`layout::mmap_base`].
    pub fn set_mmap_base(&self, base: usize) {
        self.space.write().mmap_base = base;
    }
    /// What `exec` put where.
    pub fn set_exec_info(&self, info: ExecInfo) {
        self.space.write().exec = info;
    }
    pub fn exec_info(&self) -> ExecInfo {
        self.space.read().exec
    }
    /// The file that is executed: `/proc/PID/exe`.
    pub fn set_exe(&self, exe: Option<Arc<dyn Any + Send + Sync>>) {
        let old = core::mem::replace(&mut *self.exe.lock(), exe);
        drop(old);
    }
    pub fn exe(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.exe.lock().clone()
    }
    /// Start and end of the heap.
    pub fn brk_range(&self) -> (usize, usize) {
        let s = self.space.read();
        (s.start_brk, s.brk)
    }
    /// How many regions there are.
    pub fn map_count(&self) -> usize {
        self.space.read().vmas.len()
    }
    /// Bytes of page tables below the top one: `VmPTE`. Walks the upper tables.
    pub fn page_table_bytes(&self) -> u64 {
        (self.pt.table_pages() - 1) * crate::PAGE_SIZE as u64
    }

    /// Sizes and resident pages now.
    pub fn counters(&self) -> Rss {
        let s = self.space.read();
        let n = |k: RssKind| self.rss[k as usize].load(Ordering::Relaxed).max(0) as u64;
        let mut r = Rss {
            file: n(RssKind::File),
            anon: n(RssKind::Anon),
            shmem: n(RssKind::Shmem),
            peak: 0,
            total_vm: s.total_vm as u64,
            peak_vm: s.peak_vm as u64,
            data_vm: s.data_vm as u64,
            stack_vm: s.stack_vm as u64,
            exec_vm: s.exec_vm as u64,
            locked_vm: s.locked_vm as u64,
        };
        r.peak = r.resident().max(self.peak_rss.load(Ordering::Relaxed));
        r
    }
    /// Resident pages, without the region lock.
    pub fn resident(&self) -> u64 {
        self.rss.iter().map(|c| c.load(Ordering::Relaxed)).sum::<i64>().max(0) as u64
    }
    /// Resident anonymous, file and shared-memory pages, without the region lock.
    pub fn resident_by_kind(&self) -> (u64, u64, u64) {
        let n = |k: RssKind| self.rss[k as usize].load(Ordering::Relaxed).max(0) as u64;
        (n(RssKind::Anon), n(RssKind::File), n(RssKind::Shmem))
    }
    #[inline]
    pub(crate) fn rss_add(&self, kind: RssKind, n: i64) {
        self.rss[kind as usize].fetch_add(n, Ordering::Relaxed);
    }
    pub(crate) fn rss_cells(&self) -> &[AtomicI64; 3] {
        &self.rss
    }
    /// Called before resident pages become fewer.
    pub(crate) fn note_peak(&self) {
        let now = self.resident();
        if now > self.peak_rss.load(Ordering::Relaxed) {
            self.peak_rss.store(now, Ordering::Relaxed);
        }
    }

    /// Visits every region in order, until `f` fails. `f` must not touch user memory.
    pub fn for_each_vma(&self, mut f: impl FnMut(&VmaInfo<'_>) -> Result<()>) -> Result<()> {
        let s = self.space.read();
        s.vmas.iter().try_for_each(|v| f(&s.info(v)))
    }
    /// The region that contains `va`, or the next one above it.
    pub fn find_vma<R>(&self, va: usize, f: impl FnOnce(&VmaInfo<'_>) -> R) -> Option<R> {
        let s = self.space.read();
        let v = s.vmas.get(s.vmas.find(va)?)?;
        Some(f(&s.info(v)))
    }
    /// True if the program was chosen by the OOM killer: it may use the reserve, so that it can end.
    pub fn is_oom_victim(&self) -> bool {
        self.oom.load(Ordering::Relaxed) & OOM_VICTIM != 0
    }
}

impl Space {
    pub(crate) fn info<'a>(&self, v: &'a crate::Vma) -> VmaInfo<'a> {
        let name = if v.file.is_some() {
            VmaName::Object
        } else if v.start <= self.brk && v.end >= self.start_brk && self.start_brk != 0 {
            VmaName::Heap
        } else if v.start <= self.exec.start_stack
            && v.end >= self.exec.start_stack
            && self.exec.start_stack != 0
        {
            VmaName::Stack
        } else {
            VmaName::None
        };
        VmaInfo { start: v.start, end: v.end, flags: v.flags, pgoff: v.pgoff, object: v.file.as_ref(), name }
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        // A caller that failed half-way (fork, exec) has not released it.
        let space = self.space.get_mut();
        let promised: usize =
            space.vmas.iter().filter(|v| v.flags.contains(VmFlags::ACCOUNT)).map(|v| v.pages()).sum();
        overcommit::uncharge(promised);
        if !space.is_released {
            crate::teardown::zap_all(&self.pt, &self.rss);
        }
    }
}
