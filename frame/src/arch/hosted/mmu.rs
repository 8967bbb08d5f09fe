//! Address translation in software: a walk of the x86 page tables in simulated memory, behind a TLB per processor.
//!
//! The TLB is as forgetful and as faithful as the machine's: it keeps a translation until it is flushed or displaced, whatever the
//! tables say by then. So a missing shoot-down shows as a stale access, and the use of a stale entry *whose frame has been freed*
//! ends the run at once ([`note_frames_freed`]). As on the machine (Intel SDM volume 3, 4.10)
//!
//! - non-present entries are never cached, and an access that the cached entry forbids drops it before it faults;
//! - a write through an entry that was cached clean walks again, to set the dirty flag;
//! - the accessed flag is set at each level by the walk that fills the entry, and not again while the entry lives.

use core::{
    cell::Cell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::{
    cpu,
    memory::{self, phys_to_ptr},
    point::irq_enable,
    preempt_point,
};
use crate::paging;

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PAGE: usize = 4096;

/// Bits of a page-fault error code.
pub(super) const ERR_PRESENT: u64 = 1;
pub(super) const ERR_WRITE: u64 = 2;
pub(super) const ERR_USER: u64 = 4;
pub(super) const ERR_FETCH: u64 = 16;

/// Who makes an access: a program, or the kernel on its behalf.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Kernel,
    User,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Virtual page number plus one; 0 is empty.
    tag: u64,
    /// Physical address of the 4 KiB piece.
    pa: u64,
    /// `WRITE`, `USER`, `DIRTY`, and `LARGE` where it is a piece of a 2 MiB page.
    bits: u64,
    /// Its frame was freed while this entry lived.
    freed: bool,
}

/// Entries of a TLB: few enough that displacement happens.
const ENTRIES: usize = 64;

/// The TLB of one processor.
pub(crate) struct Tlb([Cell<Entry>; ENTRIES]);

impl Tlb {
    pub(crate) const fn new() -> Self {
        Tlb([const { Cell::new(Entry { tag: 0, pa: 0, bits: 0, freed: false }) }; ENTRIES])
    }
    fn slot(&self, vpn: u64) -> &Cell<Entry> {
        &self.0[(vpn % ENTRIES as u64) as usize]
    }
    /// Forgets everything.
    pub(super) fn forget(&self) {
        self.drop_if(|_| true);
    }
    fn drop_if(&self, mut f: impl FnMut(&Entry) -> bool) {
        for s in &self.0 {
            let e = s.get();
            if e.tag != 0 && f(&e) {
                s.set(Entry { tag: 0, ..e });
            }
        }
    }
}

/// Makes `root_pfn` this processor's translation root (0: the kernel's, without a user half) and forgets all translations.
pub fn load_page_table(root_pfn: u64) {
    preempt_point();
    cpu::with(|c| {
        c.root.set(root_pfn << 12);
        c.tlb.drop_if(|_| true);
    });
}

/// Processors whose flushes do nothing: a fault for tests of the safety net.
static BROKEN: AtomicU64 = AtomicU64::new(0);

/// Makes a processor ignore its flushes from now on.
pub(crate) fn break_flushes(cpu: u32) {
    BROKEN.fetch_or(1 << cpu, Ordering::Relaxed);
}

fn flushes_work() -> bool {
    BROKEN.load(Ordering::Relaxed) >> cpu::cpu_id() & 1 == 0
}

/// Forgets this processor's translation of one page, large or small.
pub fn flush_page(va: usize) {
    preempt_point();
    if !flushes_work() {
        return;
    }
    let vpn = (va >> 12) as u64;
    cpu::with(|c| c.tlb.drop_if(|e| e.tag - 1 == vpn || e.bits & LARGE != 0 && (e.tag - 1) >> 9 == vpn >> 9));
}

/// Forgets all of this processor's translations.
pub fn flush_all() {
    preempt_point();
    if !flushes_work() {
        return;
    }
    cpu::with(|c| c.tlb.drop_if(|_| true));
}

/// Told when `2^order` frames are freed: whoever still has a translation to them must not use it any more.
pub fn note_frames_freed(pfn: u64, order: u32) {
    let range = pfn << 12..(pfn + (1 << order)) << 12;
    let mark = |c: &cpu::Cpu| {
        for s in &c.tlb.0 {
            let e = s.get();
            if e.tag != 0 && range.contains(&e.pa) {
                s.set(Entry { freed: true, ..e });
            }
        }
    };
    if cpu::active() {
        let all = cpu::all();
        all.cpu[..all.count.get() as usize].iter().for_each(mark);
    } else {
        cpu::with(mark);
    }
}

fn entry_at(pa: u64) -> &'static AtomicU64 {
    assert!(pa.is_multiple_of(8) && pa + 8 <= memory::len(), "a page table entry at {pa:#x}");
    // SAFETY: inside the arena, which is never unmapped while this process uses it, and aligned; page tables are only
    // accessed atomically.
    unsafe { &*phys_to_ptr(pa).cast::<AtomicU64>() }
}

/// Walks the tables. Sets the accessed flags, and the dirty flag for a write that is allowed.
fn walk(root: u64, va: usize, write: bool, mode: Mode) -> Result<Entry, u64> {
    let mut error = if write { ERR_WRITE } else { 0 } | if mode == Mode::User { ERR_USER } else { 0 };
    if root == 0 || va >> 47 != 0 {
        return Err(error);
    }
    let mut table = root;
    let mut allowed = WRITE | USER;
    for level in (0..4).rev() {
        let at = entry_at(table + ((va >> (12 + 9 * level)) as u64 & 511) * 8);
        let e = at.load(Ordering::Relaxed);
        if e & PRESENT == 0 {
            return Err(error);
        }
        allowed &= e;
        let leaf = level == 0 || e & LARGE != 0 && level == 1;
        if !leaf {
            at.fetch_or(ACCESSED, Ordering::Relaxed);
            table = e & ADDRESS;
            continue;
        }
        if write && allowed & WRITE == 0 || mode == Mode::User && allowed & USER == 0 {
            error |= ERR_PRESENT;
            return Err(error);
        }
        let e = e | at.fetch_or(if write { ACCESSED | DIRTY } else { ACCESSED }, Ordering::Relaxed);
        let offset = if level == 1 { va as u64 & 0x1f_f000 } else { 0 };
        let frame = if level == 1 { e & ADDRESS & !0x1f_ffff } else { e & ADDRESS };
        return Ok(Entry {
            tag: (va >> 12) as u64 + 1,
            pa: frame + offset,
            bits: allowed | if write { DIRTY } else { e & DIRTY } | if level == 1 { LARGE } else { 0 },
            freed: false,
        });
    }
    unreachable!("the last level is a leaf")
}

/// The physical address behind `va` for an access by this processor, or the page-fault error code.
pub(super) fn translate(va: usize, write: bool, mode: Mode) -> Result<u64, u64> {
    let vpn = (va >> 12) as u64;
    cpu::with(|c| {
        let slot = c.tlb.slot(vpn);
        let e = slot.get();
        if e.tag == vpn + 1 {
            if e.freed {
                panic!(
                    "a stale translation of {va:#x} was used after its frame {:#x} was freed: a missing shoot-down",
                    e.pa >> 12
                );
            }
            let denied = write && e.bits & WRITE == 0 || mode == Mode::User && e.bits & USER == 0;
            if !denied && (!write || e.bits & DIRTY != 0) {
                return Ok(e.pa + (va % PAGE) as u64);
            }
            slot.set(Entry { tag: 0, ..e });
            if denied {
                let user = if mode == Mode::User { ERR_USER } else { 0 };
                return Err(ERR_PRESENT | if write { ERR_WRITE } else { 0 } | user);
            }
        }
        let e = walk(c.root.get(), va, write, mode)?;
        slot.set(e);
        Ok(e.pa + (va % PAGE) as u64)
    })
}

/// A page fault of a user copy in the kernel.
fn fault(va: usize, error: u64) -> Result<(), ()> {
    let on = cpu::irqs_enabled();
    cpu::with(|c| c.irqs.set(false));
    let r = paging::on_fault(va, error, false, on);
    if on {
        irq_enable();
    }
    r.map_err(|_| ())
}

/// Translates for the kernel, faulting the page in.
fn resolve(va: usize, write: bool) -> Result<u64, ()> {
    loop {
        preempt_point();
        match translate(va, write, Mode::Kernel) {
            Ok(pa) => return Ok(pa),
            Err(error) => fault(va, error)?,
        }
    }
}

/// Calls `f` with (offset, simulated memory, length) for each piece of a user range that lies in one page; what is left.
fn pieces(uva: usize, len: usize, write: bool, mut f: impl FnMut(usize, *mut u8, usize)) -> usize {
    let mut done = 0;
    while done < len {
        let va = uva + done;
        let n = (len - done).min(PAGE - va % PAGE);
        let Ok(pa) = resolve(va, write) else { break };
        f(done, phys_to_ptr(pa), n);
        done += n;
    }
    len - done
}

/// Copies from user memory; returns how many bytes were not copied.
///
/// # Safety
/// `dst` is writable for `len` bytes.
pub unsafe fn user_read(dst: *mut u8, uva: usize, len: usize) -> usize {
    // SAFETY: the caller's promise for `dst`; the piece lies inside one simulated page.
    pieces(uva, len, false, |at, p, n| unsafe { core::ptr::copy(p, dst.add(at), n) })
}

/// Copies to user memory; returns how many bytes were not copied.
///
/// # Safety
/// `src` is readable for `len` bytes.
pub unsafe fn user_write(uva: usize, src: *const u8, len: usize) -> usize {
    // SAFETY: as above.
    pieces(uva, len, true, |at, p, n| unsafe { core::ptr::copy(src.add(at), p, n) })
}

/// Zeroes user memory; returns how many bytes were not zeroed.
pub fn user_clear(uva: usize, len: usize) -> usize {
    // SAFETY: the piece lies inside one simulated page.
    pieces(uva, len, true, |_, p, n| unsafe { p.write_bytes(0, n) })
}

/// An aligned word of simulated memory.
pub(super) fn word32(pa: u64) -> &'static AtomicU32 {
    assert!(pa.is_multiple_of(4));
    // SAFETY: aligned and inside the arena; user memory is never seen through another kind of reference.
    unsafe { &*phys_to_ptr(pa).cast::<AtomicU32>() }
}
/// An aligned word of simulated memory.
pub(super) fn word64(pa: u64) -> &'static AtomicU64 {
    assert!(pa.is_multiple_of(8));
    // SAFETY: as above.
    unsafe { &*phys_to_ptr(pa).cast::<AtomicU64>() }
}

#[expect(clippy::result_unit_err, reason = "the contract of both back ends")]
pub fn user_load_u32(uva: usize) -> Result<u32, ()> {
    Ok(word32(resolve(uva, false)?).load(Ordering::SeqCst))
}
#[expect(clippy::result_unit_err, reason = "as above")]
pub fn user_load_u64(uva: usize) -> Result<u64, ()> {
    Ok(word64(resolve(uva, false)?).load(Ordering::SeqCst))
}
#[expect(clippy::result_unit_err, reason = "as above")]
pub fn user_store_u32(uva: usize, v: u32) -> Result<(), ()> {
    word32(resolve(uva, true)?).store(v, Ordering::SeqCst);
    Ok(())
}
#[expect(clippy::result_unit_err, reason = "as above")]
pub fn user_store_u64(uva: usize, v: u64) -> Result<(), ()> {
    word64(resolve(uva, true)?).store(v, Ordering::SeqCst);
    Ok(())
}
/// Gives what was there.
#[expect(clippy::result_unit_err, reason = "as above")]
pub fn user_cmpxchg_u32(uva: usize, old: u32, new: u32) -> Result<u32, ()> {
    let w = word32(resolve(uva, true)?);
    Ok(w.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).unwrap_or_else(|v| v))
}
