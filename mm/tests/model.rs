//! Random system calls on address spaces, against a model that knows each byte.
//!
//! Some programs, related by fork, map, unmap, protect, move, write and read. The model keeps for each page its rights and its
//! contents; shared memory lies in one place. After every few steps all regions, all contents and the counters are compared, and in the end
//! all memory must be free.

mod common;

use std::{collections::BTreeMap, sync::Arc};

use base::Errno;
use common::{PAGE, boot, request};
use frame::{
    atomic::{AtomicU64, Ordering},
    sim,
};
use mm::{Access, Fault, Limits, MapFlags, Mm, Prot, Remap, RemapFlags};

const SEEDS: u64 = 500;
const STEPS: u64 = 150;
/// All fixed mappings lie in these pages.
const BASE: usize = 0x10_0000;
const WINDOW: u64 = 48;
const HEAP: usize = 0x4000_0000;

type Bytes = BTreeMap<usize, u8>;

#[derive(Clone)]
enum Memory {
    Private(Bytes),
    /// Object and page index in it.
    Shared(usize, usize),
}

#[derive(Clone)]
struct Page {
    prot: Prot,
    memory: Memory,
}

/// Shared objects: the contents of their pages.
type Objects = Vec<Vec<Bytes>>;

#[derive(Clone)]
struct Model {
    /// By page number.
    pages: BTreeMap<usize, Page>,
    brk: usize,
}

struct Program {
    mm: Arc<Mm>,
    model: Model,
}

fn contents<'a>(p: &'a Page, objects: &'a Objects) -> Option<&'a Bytes> {
    match &p.memory {
        Memory::Private(b) => Some(b),
        Memory::Shared(o, i) => objects[*o].get(*i),
    }
}

fn any_prot() -> Prot {
    [Prot::empty(), Prot::READ, Prot::READ | Prot::WRITE, Prot::READ | Prot::WRITE, Prot::READ | Prot::EXEC]
        [sim::random(5) as usize]
}
/// A range within the window.
fn any_range() -> (usize, usize) {
    let at = sim::random(WINDOW);
    (BASE + at as usize * PAGE, 1 + sim::random(8.min(WINDOW - at)) as usize)
}

impl Program {
    fn new() -> Program {
        let mm = Mm::new().unwrap();
        mm.set_brk_base(HEAP);
        Program { mm, model: Model { pages: BTreeMap::new(), brk: HEAP } }
    }

    fn map(&mut self, objects: &mut Objects) {
        let (mut addr, n) = any_range();
        let prot = any_prot();
        let shared = sim::random(3) == 0;
        let mut flags = MapFlags::ANON | if shared { MapFlags::SHARED } else { MapFlags::PRIVATE };
        match sim::random(4) {
            0 => addr = 0,
            1 => {
                flags |= MapFlags::FIXED_NOREPLACE;
                let taken = (0..n).any(|i| self.model.pages.contains_key(&(addr / PAGE + i)));
                if taken {
                    assert_eq!(self.mm.mmap(&request(addr, n, prot, flags)), Err(Errno::EEXIST));
                    return;
                }
            }
            _ => flags |= MapFlags::FIXED,
        }
        let got = self.mm.mmap(&request(addr, n, prot, flags)).unwrap();
        assert!(addr == 0 || got == addr);
        objects.push(if shared { vec![Bytes::new(); n] } else { Vec::new() });
        for i in 0..n {
            let memory =
                if shared { Memory::Shared(objects.len() - 1, i) } else { Memory::Private(Bytes::new()) };
            let old = self.model.pages.insert(got / PAGE + i, Page { prot, memory });
            assert!(addr != 0 || old.is_none(), "{got:#x} was not free");
        }
    }

    fn unmap(&mut self) {
        let (addr, n) = any_range();
        self.mm.munmap(addr, n * PAGE - sim::random(PAGE as u64) as usize).unwrap();
        for i in 0..n {
            self.model.pages.remove(&(addr / PAGE + i));
        }
    }

    fn protect(&mut self) {
        let (addr, n) = any_range();
        let prot = any_prot();
        let mut expected = Ok(());
        for i in 0..n {
            match self.model.pages.get_mut(&(addr / PAGE + i)) {
                Some(p) => p.prot = prot,
                None => {
                    expected = Err(Errno::ENOMEM);
                    break;
                }
            }
        }
        assert_eq!(self.mm.mprotect(addr, n * PAGE, prot, &Limits::root()), expected);
    }

    fn remap(&mut self) {
        let (old, n) = any_range();
        let new = 1 + sim::random(10) as usize;
        let first = old / PAGE;
        let mut r = Remap {
            old,
            old_len: n * PAGE,
            new_len: new * PAGE,
            flags: if sim::random(3) == 0 { RemapFlags::empty() } else { RemapFlags::MAYMOVE },
            new_addr: 0,
            limits: Limits::root(),
        };
        if sim::random(3) == 0 {
            // To a place above the window, which nothing else uses.
            r.new_addr = BASE + (100 + sim::random(40) as usize) * PAGE;
            r.new_len = r.old_len;
            r.flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        }
        let new = r.new_len / PAGE;
        let to = match self.mm.mremap(&r) {
            Ok(to) => to / PAGE,
            Err(e) => {
                assert!(matches!(e, Errno::EFAULT | Errno::ENOMEM), "{e:?}");
                let whole = (0..n).all(|i| self.model.pages.contains_key(&(first + i)));
                assert!(
                    !(whole && n == 1 && r.flags.contains(RemapFlags::MAYMOVE)),
                    "a single page can always be moved: {e:?}"
                );
                if r.flags.contains(RemapFlags::FIXED) {
                    // The new place has been made free before the old one was looked at, or not.
                    self.mm.munmap(r.new_addr, r.new_len).unwrap();
                    for i in 0..new {
                        self.model.pages.remove(&(r.new_addr / PAGE + i));
                    }
                }
                return;
            }
        };
        assert!(r.new_addr == 0 || to == r.new_addr / PAGE);
        if r.new_addr != 0 {
            for i in 0..new {
                self.model.pages.remove(&(to + i));
            }
        }
        let mut moved: Vec<_> = (0..n).map(|i| self.model.pages.remove(&(first + i))).collect();
        // More pages are like the last one, and new.
        while moved.len() < new {
            let last = moved[n - 1].clone().unwrap();
            let more = moved.len() - (n - 1);
            let memory = match last.memory {
                Memory::Private(_) => Memory::Private(Bytes::new()),
                Memory::Shared(o, i) => Memory::Shared(o, i + more),
            };
            moved.push(Some(Page { prot: last.prot, memory }));
        }
        for (i, p) in moved.into_iter().take(new).enumerate() {
            if let Some(p) = p {
                assert!(self.model.pages.insert(to + i, p).is_none(), "mremap to a place that was taken");
            }
        }
    }

    fn brk(&mut self) {
        let new = HEAP + sim::random(12 * PAGE as u64) as usize;
        let top = |b: usize| b.div_ceil(PAGE);
        let (from, to) = (top(self.model.brk), top(new));
        assert_eq!(self.mm.brk(new, &Limits::root()), new);
        self.model.brk = new;
        for p in to..from {
            self.model.pages.remove(&p);
        }
        for p in from..to {
            self.model
                .pages
                .insert(p, Page { prot: Prot::READ | Prot::WRITE, memory: Memory::Private(Bytes::new()) });
        }
    }

    fn forget(&mut self) {
        let (addr, n) = any_range();
        let mut whole = true;
        for i in 0..n {
            match self.model.pages.get_mut(&(addr / PAGE + i)) {
                Some(Page { memory: Memory::Private(b), .. }) => b.clear(),
                Some(_) => {}
                None => whole = false,
            }
        }
        assert_eq!(self.mm.madvise(addr, n * PAGE, 4), if whole { Ok(()) } else { Err(Errno::ENOMEM) });
    }

    /// Some page of the program, mostly.
    fn any_page(&self) -> usize {
        match self.model.pages.len() as u64 {
            0 => BASE / PAGE,
            n => *self.model.pages.keys().nth(sim::random(n) as usize).unwrap(),
        }
    }

    fn write(&mut self, objects: &mut Objects) {
        let start = self.any_page() * PAGE + sim::random(PAGE as u64) as usize;
        let data: Vec<u8> = (0..1 + sim::random(40)).map(|_| sim::random(256) as u8).collect();
        let mut done = 0;
        for (i, &v) in data.iter().enumerate() {
            let at = start + i;
            let Some(p) = self.model.pages.get_mut(&(at / PAGE)).filter(|p| p.prot.contains(Prot::WRITE))
            else {
                break;
            };
            let bytes = match &mut p.memory {
                Memory::Private(b) => b,
                Memory::Shared(o, i) => match objects[*o].get_mut(*i) {
                    Some(b) => b,
                    None => break,
                },
            };
            bytes.insert(at % PAGE, v);
            done += 1;
        }
        assert_eq!(self.mm.write_remote(start, &data), done);
    }

    /// What a fault says, at each kind of access.
    fn touch(&mut self, objects: &Objects) {
        let page = if sim::random(4) == 0 { any_range().0 / PAGE } else { self.any_page() };
        let (access, needs) =
            [(Access::Read, Prot::READ), (Access::Write, Prot::WRITE), (Access::Exec, Prot::EXEC)]
                [sim::random(3) as usize];
        let expected = match self.model.pages.get(&page) {
            None => Err(Fault::SegvMaperr),
            Some(p) if !p.prot.contains(needs) => Err(Fault::SegvAccerr),
            Some(p) if contents(p, objects).is_none() => Err(Fault::Bus),
            Some(_) => Ok(()),
        };
        assert_eq!(
            self.mm.handle_fault(page * PAGE + 8, access),
            expected,
            "{access:?} of {:#x}",
            page * PAGE
        );
    }

    fn fork(&self) -> Program {
        Program { mm: self.mm.fork().unwrap(), model: self.model.clone() }
    }

    fn check(&self, objects: &Objects) {
        // The regions cover exactly the pages of the model, with their rights.
        let mut covered = 0;
        let mut last = 0;
        self.mm
            .for_each_vma(|v| {
                assert!(last <= v.start && v.start < v.end);
                last = v.end;
                for page in v.start / PAGE..v.end / PAGE {
                    let p =
                        self.model.pages.get(&page).unwrap_or_else(|| panic!("{:#x} is mapped", page * PAGE));
                    assert_eq!(v.flags.bits() & 7, p.prot.bits() & 7);
                    assert_eq!(v.flags.contains(mm::VmFlags::SHARED), matches!(p.memory, Memory::Shared(..)));
                    covered += 1;
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(covered, self.model.pages.len());
        let c = self.mm.counters();
        assert_eq!(c.total_vm as usize, covered);
        let mut rss = 0;
        let mut buf = vec![0; PAGE];
        for (&page, p) in &self.model.pages {
            let Some(bytes) = contents(p, objects).filter(|_| p.prot.contains(Prot::READ)) else { continue };
            // Half of the pages stay untouched, or the check would bring all of them in.
            if bytes.is_empty() && page % 2 == 0 {
                continue;
            }
            assert_eq!(self.mm.read_remote(page * PAGE, &mut buf), PAGE);
            for (off, &got) in buf.iter().enumerate() {
                let want = bytes.get(&off).copied().unwrap_or(0);
                assert_eq!(got, want, "byte {:#x}", page * PAGE + off);
            }
        }
        self.mm
            .for_each_usage(|_, u| {
                rss += u.rss;
                Ok(())
            })
            .unwrap();
        assert_eq!(self.mm.resident(), rss, "resident pages are counted wrong");
    }
}

fn random_programs() {
    boot(|| {
        let mut objects = Objects::new();
        let mut programs = vec![Program::new()];
        for step in 0..STEPS {
            STEP.store(step, Ordering::Relaxed);
            let which = sim::random(programs.len() as u64) as usize;
            let n = programs.len();
            let p = &mut programs[which];
            match sim::random(24) {
                0..5 => p.map(&mut objects),
                5..7 => p.unmap(),
                7..10 => p.protect(),
                10..13 => p.remap(),
                13 => p.brk(),
                14 => p.forget(),
                15..20 => p.write(&mut objects),
                20..22 => p.touch(&objects),
                22 if n < 4 => {
                    let child = p.fork();
                    programs.push(child);
                }
                _ if n > 1 && sim::random(2) == 0 => programs.swap_remove(which).mm.release(),
                _ => {}
            }
            if step % 8 == 0 {
                programs.iter().for_each(|p| p.check(&objects));
            }
        }
        for p in &programs {
            p.check(&objects);
            p.mm.release();
            assert_eq!((p.mm.resident(), p.mm.map_count()), (0, 0));
        }
    });
}
static STEP: AtomicU64 = AtomicU64::new(0);

#[test]
fn memory_is_what_programs_made_it() {
    sim::campaign("model", SEEDS, |_| random_programs());
}
