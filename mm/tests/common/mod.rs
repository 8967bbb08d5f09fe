//! A kernel of memory and scheduler only, with programs whose address spaces the tests make themselves.
#![allow(dead_code, reason = "each test uses a part")]

use std::sync::Arc;

use frame::{
    atomic::{AtomicU64, Ordering},
    page::PageRef,
    paging::{self, Access, Fault, FaultHandler, Origin},
    sim::{self, UserCtx},
    sync::{Completion, LockClass, Mutex, SpinLock},
    task,
    user::{self, Regs, Trap},
};
use mm::{Limits, MapFlags, MapIdent, MapObject, MapRequest, Mappings, Mm, PageStore, Prot};
use sched::kthread;

pub(crate) const PAGE: usize = 4096;
pub(crate) const RW: Prot = Prot::READ.union(Prot::WRITE);

static CLASS: LockClass = LockClass::new("test_mms");
static MMS: SpinLock<Vec<Arc<Mm>>> = SpinLock::new(&CLASS, Vec::new());

struct Handler;
impl FaultHandler for Handler {
    fn handle(&self, va: usize, access: Access, _from: Origin) -> Result<(), Fault> {
        let pt = task::current().page_table().ok_or(Fault::SegvMaperr)?;
        let mm = MMS.lock().iter().find(|m| Arc::ptr_eq(m.page_table(), &pt)).cloned();
        mm.ok_or(Fault::SegvMaperr)?.handle_fault(va, access)
    }
}

/// Boots, and runs `f` as init. Memory must be as at the start when it ends.
pub(crate) fn boot(f: impl FnOnce() + Send + 'static) {
    mm::init();
    sched::init_boot_cpu();
    let init = sched::spawn_init(
        None,
        Box::new(move || {
            sched::start_other_cpus();
            sched::start_daemons().unwrap();
            paging::install_fault_handler(&Handler);
            let before = Held::now();
            f();
            MMS.lock().clear();
            assert_eq!(Held::now(), before, "memory is held that nobody has");
            frame::boot::power_off()
        }),
    )
    .unwrap();
    sim::watch_task(&init, "init");
    sched::start_kthreadd().unwrap();
    init.start();
    sched::cpu_idle()
}

/// What must come back to the same value when all programs are gone.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Held {
    anon: u64,
    file: u64,
    shmem: u64,
    tables: u64,
    promised: u64,
}

impl Held {
    pub(crate) fn now() -> Held {
        use mm::stat::{Item, get};
        Held {
            anon: get(Item::AnonMapped),
            file: get(Item::FileMapped),
            shmem: get(Item::Shmem),
            tables: paging::table_pages(),
            promised: mm::overcommit::committed(),
        }
    }
}

/// Lets programs run in it.
pub(crate) fn announce(mm: &Arc<Mm>) {
    MMS.lock().push(mm.clone());
}
/// Ends it.
pub(crate) fn retire(mm: &Arc<Mm>) {
    mm.release();
    MMS.lock().retain(|m| !Arc::ptr_eq(m, mm));
}

pub(crate) fn request(addr: usize, pages: usize, prot: Prot, flags: MapFlags) -> MapRequest {
    MapRequest { addr, len: pages * PAGE, prot, flags, file: None, limits: Limits::root() }
}
pub(crate) fn map_fixed(mm: &Arc<Mm>, addr: usize, pages: usize, prot: Prot) {
    let at = mm.mmap(&request(addr, pages, prot, MapFlags::PRIVATE | MapFlags::ANON | MapFlags::FIXED));
    assert_eq!(at, Ok(addr));
}

/// Starts a thread of a program in `mm`; complete when it has ended.
pub(crate) fn run(
    mm: &Arc<Mm>,
    name: &str,
    rdi: u64,
    program: impl Fn(&UserCtx) + Send + 'static,
) -> Arc<Completion> {
    let done = Arc::new(Completion::new());
    let (d, mm, rip) = (done.clone(), mm.clone(), sim::user_program(name, program));
    let h = kthread::spawn(name, move |_| {
        task::current().set_page_table(Some(mm.page_table().clone()));
        let mut r = Regs { rip, rdi, ..Regs::default() };
        loop {
            match user::run(&mut r) {
                Trap::Syscall if r.rax == 60 => break,
                Trap::Syscall => {
                    r.rax = 0;
                    task::schedule();
                }
                Trap::Interrupt => {}
                // As a handler would that waits for better times.
                Trap::Fault { why: Fault::SegvAccerr | Fault::SegvMaperr | Fault::Bus, .. } => {
                    REFUSED.fetch_add(1, Ordering::Relaxed);
                    sched::time::sleep_ns(1000);
                }
                Trap::Fault { why: Fault::OutOfMemory, .. } => {
                    NO_MEMORY.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                t => panic!("the program ended by {t:?}"),
            }
        }
        task::current().set_page_table(None);
        drop(mm);
        d.complete();
        0
    })
    .unwrap();
    sim::watch_task(h.task(), name);
    done
}
/// Programs that ended because there was no memory.
pub(crate) static NO_MEMORY: AtomicU64 = AtomicU64::new(0);
/// Faults that were refused so far.
pub(crate) static REFUSED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn exit(u: &UserCtx) {
    u.syscall(60, [0; 6]);
}

static FILE: LockClass = LockClass::new("test_file");

/// A file in memory that can be cut short.
pub(crate) struct File {
    pub(crate) store: PageStore,
    /// Held while a page is looked up or made, so that none appears beyond the end.
    pages: Mutex<u64>,
    pub(crate) mappings: Mappings,
}

impl File {
    pub(crate) fn new(pages: u64) -> Arc<File> {
        Arc::new(File { store: PageStore::new(), pages: Mutex::new(&FILE, pages), mappings: Mappings::new() })
    }
    /// Cuts the file to nothing. Mappings are the caller's business.
    pub(crate) fn cut(&self) {
        let mut pages = self.pages.lock();
        *pages = 0;
        self.store.truncate(0);
    }
    pub(crate) fn grow(&self, to: u64) {
        *self.pages.lock() = to;
    }
}

impl MapObject for File {
    fn page(&self, index: u64, _write: bool) -> base::Result<PageRef> {
        let pages = self.pages.lock();
        if index >= *pages {
            return Err(base::Errno::ENXIO);
        }
        self.store.get_or_zero(index)
    }
    fn size(&self) -> u64 {
        *self.pages.lock() * PAGE as u64
    }
    fn ident(&self) -> MapIdent {
        MapIdent::default()
    }
    fn path(&self, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        out.write_str("/file")
    }
    fn is_shmem(&self) -> bool {
        true
    }
    fn map_around(&self, range: std::ops::Range<u64>, each: &mut dyn FnMut(u64, PageRef) -> bool) {
        self.store.each(range, each);
    }
    fn mappings(&self) -> Option<&Mappings> {
        Some(&self.mappings)
    }
}
