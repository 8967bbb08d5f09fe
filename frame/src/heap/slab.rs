//! Objects of one size, in slabs of pages, behind per-processor lists.
//!
//! ```text
//!   Pool ── per processor: ○─○─○─○            free objects, last in first out, at most `limit`
//!        └─ shared (lock): partial ─► slab ─► slab       slabs with free objects; full ones are on no list
//!
//!   a slab's Page:  kind word = Slab | objects out;   owner word = first free object | next slab
//!   a free object:  its first word leads to the next free one (a pointer on processor lists, a number in slabs)
//! ```
//! Objects go from slabs to a processor's list and back in batches. A slab none of whose objects are out is given back when
//! more than [`KEEP_EMPTY`] are.
//!
//! All of it works on a [`Source`] of pages, so that it runs under plain tests too.

use core::{cell::UnsafeCell, ptr, ptr::NonNull};

use super::{CacheStats, check};
use crate::{
    arch,
    cpu::{MAX_CPUS, hotplug::DeadCpu},
    page::{
        PAGE_SIZE, Page,
        lock::{IrqSpin, without_irqs},
    },
};

/// Where slabs come from.
pub(super) trait Source {
    /// `2^order` pages aligned to their size, whose [`Page`] says `Slab`.
    fn get(&self, order: u32) -> Option<NonNull<u8>>;
    /// Takes them back.
    ///
    /// # Safety
    /// They came from [`Source::get`], and nobody uses them.
    unsafe fn put(&self, base: NonNull<u8>, order: u32);
    /// The metadata of a slab.
    fn meta(&self, base: *mut u8) -> &Page;
}

/// Empty slabs that a pool keeps, against going back and forth at the boundary.
const KEEP_EMPTY: usize = 4;
/// "No free object" in an owner word.
const NO_OBJECT: u64 = 0xffff;

#[derive(Clone, Copy)]
struct List {
    head: *mut u8,
    n: u32,
}

#[repr(align(64))]
struct CpuList(UnsafeCell<List>);

struct Shared {
    /// First slab with a free object; the chain goes on in owner words.
    partial: *mut u8,
    slabs: usize,
    /// Slabs on the chain with no object out.
    empty: usize,
    /// Objects out of their slabs: in use, or on a processor's list.
    out: usize,
}

// SAFETY: the pointer is the pool's own, used under its lock.
unsafe impl Send for Shared {}

pub(super) struct Pool {
    size: u32,
    order: u32,
    /// Objects of a slab.
    count: u32,
    /// Objects that move between a list and the slabs at a time; a list holds at most twice as many.
    batch: u32,
    shared: IrqSpin<Shared>,
    cpus: [CpuList; MAX_CPUS],
}

// SAFETY: a processor's list is touched by that processor only, with interrupts off.
unsafe impl Sync for Pool {}

/// The owner word: the number of the first free object in bits 0..16, bits 12..60 of the next slab's address above.
fn pack(free: u64, next: *mut u8) -> u64 {
    free | (next as u64 >> 12) << 16
}
fn free_of(owner: u64) -> u64 {
    owner & 0xffff
}
fn next_of(owner: u64) -> *mut u8 {
    // Addresses are canonical: bit 59 is the sign.
    (((owner >> 16) << 16) as i64 >> 4) as u64 as *mut u8
}

impl Pool {
    pub(super) const fn new(size: usize, align: usize) -> Pool {
        assert!(align.is_power_of_two() && align <= PAGE_SIZE);
        let size = (if size < 8 { 8 } else { size }).next_multiple_of(if align < 8 { 8 } else { align });
        assert!(size <= 4 * PAGE_SIZE);
        // Eight objects or 32 KiB, whichever is less: Linux's slab orders are the same for these sizes.
        let mut order = 0;
        while order < 3 && (PAGE_SIZE << order) / size < 8 {
            order += 1;
        }
        let batch = PAGE_SIZE / size;
        Pool {
            size: size as u32,
            order,
            count: ((PAGE_SIZE << order) / size) as u32,
            batch: if batch < 2 {
                2
            } else if batch > 32 {
                32
            } else {
                batch as u32
            },
            shared: IrqSpin::new(Shared { partial: ptr::null_mut(), slabs: 0, empty: 0, out: 0 }),
            cpus: [const { CpuList(UnsafeCell::new(List { head: ptr::null_mut(), n: 0 })) }; MAX_CPUS],
        }
    }

    pub(super) const fn size(&self) -> usize {
        self.size as usize
    }

    /// This processor's list.
    ///
    /// # Safety
    /// Interrupts are off until the reference is gone, and there is no other to the list meanwhile.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "one processor, interrupts off; callers do not nest")]
    unsafe fn list(&self) -> &mut List {
        // SAFETY: nobody but this processor uses the list, and the caller promises to be alone on it.
        unsafe { &mut *self.cpus[arch::cpu_id() as usize].0.get() }
    }

    /// A free object, or null.
    #[inline]
    pub(super) fn alloc(&self, src: &impl Source) -> *mut u8 {
        let p = without_irqs(|| {
            // SAFETY: interrupts are off, and the reference is gone before `refill` makes its own.
            let l = unsafe { self.list() };
            let p = l.head;
            if p.is_null() {
                return self.refill(src);
            }
            // SAFETY: objects on the list are free and hold the next pointer.
            l.head = unsafe { p.cast::<*mut u8>().read() };
            l.n -= 1;
            p
        });
        if check::ON && !p.is_null() {
            check::unpoison(p, self.size());
        }
        p
    }

    /// Takes an object back.
    ///
    /// # Safety
    /// It came from [`Pool::alloc`] of this pool and is not used any more.
    #[inline]
    pub(super) unsafe fn free(&self, src: &impl Source, p: *mut u8) {
        if check::ON {
            check::poison(p, self.size());
        }
        without_irqs(|| {
            // SAFETY: interrupts are off.
            let l = unsafe { self.list() };
            // SAFETY: the object is ours now, and at least a word large.
            unsafe { p.cast::<*mut u8>().write(l.head) };
            l.head = p;
            l.n += 1;
            if l.n > 2 * self.batch {
                let keep = self.batch;
                self.spill(src, keep);
            }
        });
    }

    /// Brings a batch from the slabs to the list, and gives one more. Interrupts are off, the list is empty.
    #[cold]
    #[inline(never)]
    fn refill(&self, src: &impl Source) -> *mut u8 {
        let mut fresh: *mut u8 = ptr::null_mut();
        loop {
            let got = self.shared.with(|sh| {
                if !fresh.is_null() {
                    self.add_slab(sh, src, fresh);
                }
                self.take(sh, src)
            });
            if let Some((first, rest)) = got {
                // SAFETY: interrupts are off. Another processor's objects never get here.
                *unsafe { self.list() } = rest;
                return first;
            }
            // Outside of the pool's lock: the page allocator has locks of its own.
            match src.get(self.order) {
                Some(base) => fresh = base.as_ptr(),
                None => return ptr::null_mut(),
            }
        }
    }

    /// Chains all objects of a fresh slab, and makes it the first of the partial ones.
    fn add_slab(&self, sh: &mut Shared, src: &impl Source, base: *mut u8) {
        debug_assert!((base as usize).is_multiple_of(PAGE_SIZE << self.order), "slab is not aligned");
        for i in 0..u64::from(self.count) {
            let next = if i + 1 == u64::from(self.count) { NO_OBJECT } else { i + 1 };
            // SAFETY: the slab has `count` objects and is ours.
            unsafe {
                let p = base.add(i as usize * self.size());
                if check::ON {
                    check::fill_poison(p, self.size());
                }
                p.cast::<u64>().write(next);
            }
        }
        src.meta(base).set_owner(pack(0, sh.partial));
        sh.partial = base;
        sh.slabs += 1;
        sh.empty += 1;
    }

    /// One object, and a list of up to `batch` more.
    fn take(&self, sh: &mut Shared, src: &impl Source) -> Option<(*mut u8, List)> {
        let mut l = List { head: ptr::null_mut(), n: 0 };
        while l.n <= self.batch && !sh.partial.is_null() {
            let base = sh.partial;
            let meta = src.meta(base);
            let owner = meta.owner();
            if meta.aux() == 0 {
                sh.empty -= 1;
            }
            let (mut free, mut n) = (free_of(owner), 0);
            while free != NO_OBJECT && l.n <= self.batch {
                // SAFETY: a free object of this slab; its first word is the number of the next one.
                unsafe {
                    let p = base.add(free as usize * self.size());
                    free = p.cast::<u64>().read();
                    p.cast::<*mut u8>().write(l.head);
                    l.head = p;
                }
                l.n += 1;
                n += 1;
            }
            meta.aux_add(n);
            sh.out += n as usize;
            if free == NO_OBJECT {
                sh.partial = next_of(owner);
                meta.set_owner(NO_OBJECT);
            } else {
                meta.set_owner(pack(free, next_of(owner)));
            }
        }
        let first = l.head;
        if first.is_null() {
            return None;
        }
        // SAFETY: as in `alloc`.
        l.head = unsafe { first.cast::<*mut u8>().read() };
        l.n -= 1;
        Some((first, l))
    }

    /// Gives the older part of this processor's list back to the slabs, all but `keep` objects. Interrupts are off.
    #[cold]
    #[inline(never)]
    fn spill(&self, src: &impl Source, keep: u32) {
        // SAFETY: interrupts are off; callers do not use their own reference afterwards.
        let l = unsafe { self.list() };
        if keep == 0 {
            return self.empty_list(src, l);
        }
        let mut last = l.head;
        for _ in 1..keep {
            // SAFETY: the list has more than `keep` objects.
            last = unsafe { last.cast::<*mut u8>().read() };
        }
        // SAFETY: as above.
        let rest = unsafe { last.cast::<*mut u8>().replace(ptr::null_mut()) };
        l.n = keep;
        self.put_back(src, rest);
    }

    /// Brings a chain of free objects back to their slabs. Interrupts are off.
    fn put_back(&self, src: &impl Source, mut rest: *mut u8) {
        let mut doomed = self.shared.with(|sh| {
            while !rest.is_null() {
                let p = rest;
                // SAFETY: a free object, taken off the list.
                rest = unsafe { p.cast::<*mut u8>().read() };
                self.give_back(sh, src, p);
            }
            if sh.empty > KEEP_EMPTY { self.trim(sh, src) } else { ptr::null_mut() }
        });
        while let Some(base) = NonNull::new(doomed) {
            doomed = next_of(src.meta(doomed).owner());
            // SAFETY: `trim` took it off the chain with no object out.
            unsafe { src.put(base, self.order) };
        }
    }

    fn give_back(&self, sh: &mut Shared, src: &impl Source, p: *mut u8) {
        let bytes = PAGE_SIZE << self.order;
        let base = (p as usize & !(bytes - 1)) as *mut u8;
        let meta = src.meta(base);
        let owner = meta.owner();
        let number = (p as usize & (bytes - 1)) as u32 / self.size;
        assert!(
            meta.aux() > 0 && number < self.count,
            "BUG: object {p:p} freed into a slab that has all of its own"
        );
        // SAFETY: the object is ours.
        unsafe { p.cast::<u64>().write(free_of(owner)) };
        if free_of(owner) == NO_OBJECT {
            meta.set_owner(pack(u64::from(number), sh.partial));
            sh.partial = base;
        } else {
            meta.set_owner(pack(u64::from(number), next_of(owner)));
        }
        sh.out -= 1;
        if meta.aux_add(-1) == 0 {
            sh.empty += 1;
        }
    }

    /// Gives the free objects of a processor that does not execute back to the slabs.
    pub(super) fn drain(&self, src: &impl Source, of: &DeadCpu) {
        without_irqs(|| {
            // SAFETY: the processor does not touch its list while its proof exists, and its holder is this function's caller.
            let l = unsafe { &mut *self.cpus[of.cpu().index()].0.get() };
            self.empty_list(src, l);
        });
    }

    fn empty_list(&self, src: &impl Source, l: &mut List) {
        let rest = core::mem::replace(&mut l.head, ptr::null_mut());
        l.n = 0;
        self.put_back(src, rest);
    }

    /// Takes all empty slabs off the chain; gives them as a chain of their own.
    fn trim(&self, sh: &mut Shared, src: &impl Source) -> *mut u8 {
        let (mut at, mut kept, mut doomed) = (sh.partial, ptr::null_mut(), ptr::null_mut());
        while !at.is_null() {
            let meta = src.meta(at);
            let (free, next) = (free_of(meta.owner()), next_of(meta.owner()));
            let onto = if meta.aux() == 0 { &mut doomed } else { &mut kept };
            sh.slabs -= usize::from(meta.aux() == 0);
            meta.set_owner(pack(free, *onto));
            *onto = at;
            at = next;
        }
        sh.partial = kept;
        sh.empty = 0;
        doomed
    }

    /// Gives this processor's free objects and all empty slabs back.
    pub(super) fn shrink(&self, src: &impl Source) {
        without_irqs(|| {
            self.spill(src, 0);
            let mut doomed = self.shared.with(|sh| self.trim(sh, src));
            while let Some(base) = NonNull::new(doomed) {
                doomed = next_of(src.meta(doomed).owner());
                // SAFETY: as in `spill`.
                unsafe { src.put(base, self.order) };
            }
        });
    }

    pub(super) fn stats(&self, name: &'static str) -> CacheStats {
        let (slabs, out) = self.shared.with(|sh| (sh.slabs, sh.out));
        // SAFETY: a racy read of a count that is only reported.
        let listed: u32 =
            self.cpus.iter().map(|c| unsafe { (&raw const (*c.0.get()).n).read_volatile() }).sum();
        CacheStats {
            name,
            size: self.size(),
            active: out.saturating_sub(listed as usize),
            total: slabs * self.count as usize,
            slabs,
            pages_per_slab: 1 << self.order,
        }
    }
}
