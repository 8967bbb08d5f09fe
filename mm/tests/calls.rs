//! Single calls at their limits: hostile sizes, growing stacks, locked memory, and every place where memory for tables can be missing.

mod common;

use std::sync::Arc;

use base::Errno;
use common::{Held, PAGE, RW, boot, map_fixed, request};
use frame::{
    page::{AllocFlags, PageRef, alloc_page},
    sim::{self, Config},
};
use mm::{Access, Fault, Limits, MapFlags, Mm, Prot, Remap, RemapFlags, TASK_SIZE};

const VA: usize = 0x40_0000;

/// One run: nothing here depends on the seed.
fn once(f: impl Fn() + Copy + Send + 'static) {
    let out = sim::run(Config { memory_mib: 32, ..Config::default() }, move || boot(f));
    assert!(out.is_ok(), "{:?}\n{}", out.result, out.report);
}

#[test]
fn hostile_sizes_are_refused() {
    once(|| {
        let mm = Mm::new().unwrap();
        map_fixed(&mm, VA, 4, RW);
        let l = Limits::root();
        let edges = [
            0,
            1,
            PAGE,
            4 * PAGE,
            TASK_SIZE - PAGE,
            TASK_SIZE,
            TASK_SIZE + PAGE,
            usize::MAX - PAGE + 1,
            usize::MAX,
            1 << 63,
        ];
        for a in edges.map(|a| a & !(PAGE - 1)).into_iter().chain([VA]) {
            for len in edges {
                let _ = mm.mprotect(a, len, Prot::READ, &l);
                for advice in [0, 3, 4, 9, 10, 18, 22, 23, 99] {
                    // The whole range at once would fill memory.
                    if len <= 4 * PAGE || advice < 22 {
                        let _ = mm.madvise(a, len, advice);
                    }
                }
                let _ = mm.mlock(a, len, 1, &l);
                let _ = mm.munlock(a, len);
                let _ = mm.msync(a, len, 4);
                let _ = mm.mincore(a, len.min(1 << 30), |_, _| Ok(()));
                for new_len in edges {
                    for flags in [0, 1, 3, 5, 7] {
                        let r = Remap {
                            old: a,
                            old_len: len,
                            new_len,
                            flags: RemapFlags::from_bits_retain(flags),
                            new_addr: 1 << 40,
                            limits: l,
                        };
                        if a != VA {
                            assert!(mm.mremap(&r).is_err(), "{r:x?}");
                        }
                    }
                }
                if len > TASK_SIZE {
                    let r = |flags| {
                        mm.mmap(&mm::MapRequest {
                            len,
                            ..request(a, 0, RW, MapFlags::PRIVATE | MapFlags::ANON | flags)
                        })
                    };
                    assert!(r(MapFlags::FIXED).is_err() && r(MapFlags::empty()).is_err());
                    assert_eq!(mm.munmap(a, len), Err(Errno::EINVAL));
                }
            }
        }
        assert_eq!(mm.map_count(), 1);
        mm.munmap(0, TASK_SIZE).unwrap();
        let c = mm.counters();
        assert_eq!((mm.map_count(), c.total_vm, c.locked_vm), (0, 0, 0));
    });
}

#[test]
fn a_stack_grows_to_its_limit_and_keeps_its_distance() {
    once(|| {
        let mm = Mm::new().unwrap();
        let top = 0x7000_0000;
        let limits = Limits { stack: 64 * PAGE as u64, ..Limits::root() };
        mm.mlockall(2, &limits).unwrap();
        mm.set_stack(top - 2 * PAGE, top, &limits).unwrap();
        assert_eq!(mm.counters().locked_vm, 2);
        let write = |va| mm.handle_fault(va, Access::Write);
        assert_eq!(write(top), Err(Fault::SegvMaperr));
        assert_eq!(write(top - 10 * PAGE + 5), Ok(()));
        let c = mm.counters();
        assert_eq!((c.stack_vm, c.locked_vm, c.total_vm, c.anon), (10, 10, 10, 1));
        assert_eq!(write(top - 65 * PAGE), Err(Fault::SegvMaperr));
        assert_eq!(write(top - 64 * PAGE), Ok(()));
        // A neighbour 256 pages below leaves room for nothing.
        mm.set_stack_limit(1 << 30);
        assert_eq!(write(top - 66 * PAGE), Ok(()));
        map_fixed(&mm, top - (67 + 256) * PAGE, 1, RW);
        assert_eq!(write(top - 66 * PAGE - 1), Err(Fault::SegvMaperr));
        // One without access does not count.
        mm.mprotect(top - (67 + 256) * PAGE, PAGE, Prot::empty(), &limits).unwrap();
        assert_eq!(write(top - 66 * PAGE - 1), Ok(()));
        // Nothing is placed into the gap.
        mm.set_mmap_base(top);
        let at = mm.mmap(&request(0, 1, RW, MapFlags::PRIVATE | MapFlags::ANON)).unwrap();
        assert!(at + PAGE <= top - (67 + 256) * PAGE, "{at:#x}");
        mm.munmap(0, TASK_SIZE).unwrap();
        let c = mm.counters();
        assert_eq!((c.stack_vm, c.locked_vm, c.total_vm), (0, 0, 0));
    });
}

/// All of memory but `left` pages.
fn take_all_but(left: usize) -> Vec<PageRef> {
    let mut all: Vec<_> =
        core::iter::from_fn(|| alloc_page(AllocFlags::ATOMIC | AllocFlags::NOWARN)).collect();
    all.truncate(all.len() - left);
    mm::buddy::drain_all();
    all
}

fn fill(mm: &Mm, at: usize) {
    for i in 0..8 {
        assert_eq!(mm.write_remote(at + (i << 21), &[i as u8 + 1; 16]), 16);
    }
}
fn is_filled(mm: &Mm, at: usize) -> bool {
    (0..8).all(|i| {
        let mut b = [0; 16];
        mm.read_remote(at + (i << 21), &mut b) == 16 && b == [i as u8 + 1; 16]
    })
}

/// Eight pages in eight tables: fork and mremap need memory at every step, and each step fails once.
#[test]
fn failing_half_way_leaves_everything_as_it_was() {
    once(|| {
        let (mut forks, mut moves) = ([0; 2], [0; 2]);
        for left in 0..24 {
            let before = Held::now();
            let mm = Mm::new().unwrap();
            let span = 8 << 21;
            map_fixed(&mm, VA, span / PAGE, RW);
            fill(&mm, VA);
            let here = Held::now();
            let hog = take_all_but(left);
            let child = mm.fork();
            match &child {
                Ok(c) => assert!(is_filled(c, VA)),
                Err(e) => assert_eq!(*e, Errno::ENOMEM),
            }
            forks[usize::from(child.is_ok())] += 1;
            drop(child);
            assert!(is_filled(&mm, VA));
            assert_eq!(Held::now(), here, "{left} pages left, fork");
            drop(hog);
            let hog = take_all_but(left);
            let to = VA + (1 << 40) + (left << 12);
            let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
            let r = mm.mremap(&Remap {
                old: VA,
                old_len: span,
                new_len: span,
                flags,
                new_addr: to,
                limits: Limits::root(),
            });
            let at = r.unwrap_or(VA);
            assert!(is_filled(&mm, at));
            assert_eq!((mm.map_count(), mm.resident()), (1, 8));
            moves[usize::from(r.is_ok())] += 1;
            // Nothing to fault with, and nobody to kill: the program is told.
            let r = mm.handle_fault(at + PAGE, Access::Write);
            assert!(matches!(r, Ok(()) | Err(Fault::OutOfMemory)));
            drop(hog);
            assert_eq!(mm.handle_fault(at + PAGE, Access::Write), Ok(()));
            let weak = Arc::downgrade(&mm);
            drop(mm);
            assert!(weak.upgrade().is_none());
            assert_eq!(Held::now(), before, "{left} pages left");
        }
        assert!(forks.iter().chain(&moves).all(|&n| n > 2), "{forks:?} {moves:?}");
    });
}
