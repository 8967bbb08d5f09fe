use alloc::alloc::Layout;
use core::{alloc::GlobalAlloc, cell::RefCell, ptr::NonNull};

use proptest::prelude::*;

use super::{
    Cache, Heap, check, classes,
    slab::{Pool, Source},
    try_arc, try_box, try_vec,
};
use crate::page::{PAGE_SIZE, Page};

/// Slabs from the host's allocator, with metadata of their own, and counted.
struct Host {
    slabs: RefCell<Vec<(usize, u32, Box<Page>)>>,
    limit: usize,
}

impl Host {
    fn new(limit: usize) -> Host {
        Host { slabs: RefCell::new(Vec::new()), limit }
    }
    fn layout(order: u32) -> Layout {
        Layout::from_size_align(PAGE_SIZE << order, PAGE_SIZE << order).unwrap()
    }
    fn count(&self) -> usize {
        self.slabs.borrow().len()
    }
}

impl Source for Host {
    fn get(&self, order: u32) -> Option<NonNull<u8>> {
        if self.count() == self.limit {
            return None;
        }
        // SAFETY: the layout is not empty.
        let p = NonNull::new(unsafe { std::alloc::alloc(Self::layout(order)) })?;
        self.slabs.borrow_mut().push((p.as_ptr() as usize, order, Box::new(Page::empty())));
        Some(p)
    }
    unsafe fn put(&self, base: NonNull<u8>, order: u32) {
        let at = self
            .slabs
            .borrow()
            .iter()
            .position(|s| s.0 == base.as_ptr() as usize)
            .expect("a slab of this source");
        let (_, o, meta) = self.slabs.borrow_mut().swap_remove(at);
        assert!(o == order && meta.aux() == 0);
        // SAFETY: allocated above with this layout.
        unsafe { std::alloc::dealloc(base.as_ptr(), Self::layout(order)) };
    }
    fn meta(&self, base: *mut u8) -> &Page {
        let slabs = self.slabs.borrow();
        let s = slabs.iter().find(|s| s.0 == base as usize).expect("a slab of this source");
        // SAFETY: boxed, and alive until `put`; a pool has let go of a slab's metadata by then.
        unsafe { &*core::ptr::from_ref(&*s.2) }
    }
}

/// The real pools belong to a processor, and all threads of a test process are the same one: one test at a time.
static REAL: std::sync::Mutex<()> = std::sync::Mutex::new(());
fn real() -> std::sync::MutexGuard<'static, ()> {
    crate::arch::early_memory();
    REAL.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn pool(size: usize, align: usize) -> Box<Pool> {
    Box::new(Pool::new(size, align))
}

proptest! {
    /// Objects are aligned, do not overlap, keep what was written, and all slabs come back.
    #[test]
    fn objects_do_not_overlap(size in 1usize..9000, align_log in 0u32..8, ops in proptest::collection::vec((any::<bool>(), any::<u16>()), 1..400)) {
        let (src, align) = (Host::new(usize::MAX), 1usize << align_log);
        let p = pool(size, align);
        let mut live: Vec<(*mut u8, u8)> = Vec::new();
        for (i, (get, n)) in ops.into_iter().enumerate() {
            if get || live.is_empty() {
                let o = p.alloc(&src);
                prop_assert!(!o.is_null() && (o as usize).is_multiple_of(align));
                for &(q, _) in &live {
                    prop_assert!((q as usize).abs_diff(o as usize) >= size);
                }
                // SAFETY: the object has `size` bytes.
                unsafe { o.write_bytes(i as u8, size) };
                live.push((o, i as u8));
            } else {
                let (o, v) = live.swap_remove(n as usize % live.len());
                // SAFETY: ours until freed.
                unsafe {
                    prop_assert!((0..size).all(|k| o.add(k).read() == v));
                    p.free(&src, o);
                }
            }
            prop_assert_eq!(p.stats("t").active, live.len());
            prop_assert_eq!(p.stats("t").slabs, src.count());
        }
        for (o, _) in live {
            // SAFETY: as above.
            unsafe { p.free(&src, o) };
        }
        p.shrink(&src);
        prop_assert_eq!(src.count(), 0);
    }
}

#[test]
fn memory_runs_out_and_comes_back() {
    let (src, p) = (Host::new(3), pool(1024, 8));
    let mut all = Vec::new();
    loop {
        let o = p.alloc(&src);
        if o.is_null() {
            break;
        }
        all.push(o);
    }
    assert_eq!(all.len(), p.stats("t").total);
    for o in all.drain(..) {
        // SAFETY: allocated above.
        unsafe { p.free(&src, o) };
    }
    assert!(!p.alloc(&src).is_null());
}

#[test]
fn empty_slabs_do_not_pile_up() {
    let (src, p) = (Host::new(usize::MAX), pool(512, 8));
    let all: Vec<_> = (0..1000).map(|_| p.alloc(&src)).collect();
    assert!(src.count() >= 1000 * 512 / PAGE_SIZE);
    for o in all {
        // SAFETY: allocated above.
        unsafe { p.free(&src, o) };
    }
    assert!(src.count() < 10, "{} slabs kept", src.count());
}

#[test]
#[should_panic(expected = "double free")]
fn a_double_free_is_found() {
    let (src, p) = (Host::new(9), pool(64, 8));
    let o = p.alloc(&src);
    // SAFETY: the panic is the point.
    unsafe {
        p.free(&src, o);
        p.free(&src, o);
    }
}

#[test]
#[should_panic(expected = "written after free")]
fn a_write_after_free_is_found() {
    let (src, p) = (Host::new(9), pool(64, 8));
    let o = p.alloc(&src);
    // SAFETY: the memory is still there; the panic is the point.
    unsafe {
        p.free(&src, o);
        o.add(40).write(1);
    }
    p.alloc(&src);
}

#[test]
#[should_panic(expected = "overrun")]
fn an_overrun_is_found() {
    let _g = real();
    let l = Layout::from_size_align(20, 4).unwrap();
    // SAFETY: the slack behind the block belongs to its object.
    unsafe {
        let p = Heap.alloc(l);
        p.add(20).write(0);
        Heap.dealloc(p, l);
    }
}

#[test]
fn classes_fit_size_and_alignment() {
    for align_log in 0..14 {
        for size in (1..9000).step_by(7) {
            let l = Layout::from_size_align(size, 1 << align_log).unwrap();
            let room = if check::ON && size < 2048 { size + 8 } else { size };
            match classes::class_of(l) {
                Some(c) => {
                    let s = classes::POOLS[c].size();
                    assert!(s >= room && s.is_multiple_of(l.align()), "{l:?} in {s}");
                    assert!(s <= 4 * room.max(l.align()).max(8), "{l:?} in {s}");
                }
                None => assert!(room.max(l.align()) > 8192),
            }
        }
    }
}

#[test]
fn the_heap_gives_moves_and_takes() {
    let _g = real();
    for size in [1, 100, 4096, 5000, 8192, 8193, 100_000, 1 << 20] {
        let l = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: used as the trait says.
        unsafe {
            let p = Heap.alloc(l);
            assert!(!p.is_null());
            p.write_bytes(0x5a, size);
            let q = Heap.realloc(p, l, size + 300);
            assert!((0..size).all(|i| q.add(i).read() == 0x5a));
            Heap.dealloc(q, Layout::from_size_align(size + 300, 8).unwrap());
        }
    }
    // SAFETY: never succeeds.
    assert!(unsafe { Heap.alloc(Layout::from_size_align(5 << 20, 8).unwrap()) }.is_null());
}

#[test]
fn typed_caches_and_fallible_helpers() {
    let _g = real();
    static C: Cache<[u64; 5]> = Cache::new("test_cache");
    let mut a = C.alloc([1; 5]).unwrap();
    a[2] = 9;
    assert_eq!((*a, C.stats().active, C.stats().size), ([1, 1, 9, 1, 1], 1, 40));
    drop(a);
    assert_eq!(C.stats().active, 0);
    assert!(super::stats().iter().any(|s| s.name == "test_cache"));
    assert_eq!((*try_box(5).unwrap(), *try_arc(6).unwrap(), *try_box(()).unwrap()), (5, 6, ()));
    assert!(try_vec::<u8>(10).unwrap().capacity() >= 10 && try_vec::<u64>(usize::MAX).is_none());
}
