//! The vDSO: `clock_gettime`, `gettimeofday`, `time` and `getcpu` without a system call.
//!
//! Every program finds a small shared library in its memory, whose address `AT_SYSINFO_EHDR` tells. The C library looks the functions
//! up in it by name and version (`LINUX_2.6`), as in any other library. The code and the theory of its data are frame's
//! ([`frame::vdso`]); here the library is built around the code, once at boot, and mapped by `exec`:
//!
//! ```text
//!   [vvar]  1 page   r--p   the clock's figures; the same page in all programs, not counted as theirs
//!   [vdso]  1 page   r-xp   the library; a page like those of files: a debugger's change makes a copy
//! ```
//! `vdso=0` on the command line switches it off. Unwinding tables are missing: the functions are leaves that never touch the
//! stack, but a debugger cannot see that.

use alloc::sync::Arc;
use core::fmt;

use base::{Errno, Result, params, pr_info};
use frame::{
    page::{self, AllocFlags, Immortal, PAGE_SIZE, PageRef},
    sync::once::Once,
    vdso::{BASE, MONOTONIC_CLOCKS, OFFSETS, RATE, REALTIME_CLOCKS},
};
use mm::{Limits, MapIdent, MapObject, Mm, Special, VmFlags};

mod image;

/// What the two regions map.
struct Pages {
    image: Arc<Image>,
    data: Arc<Data>,
}
static PAGES: Once<Pages> = Once::new();

struct Image(PageRef);

impl MapObject for Image {
    fn page(&self, index: u64, _write: bool) -> Result<PageRef> {
        if index == 0 { Ok(self.0.clone()) } else { Err(Errno::ENXIO) }
    }
    fn size(&self) -> u64 {
        PAGE_SIZE as u64
    }
    fn ident(&self) -> MapIdent {
        MapIdent::default()
    }
    fn path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("[vdso]")
    }
    fn is_resident(&self, _index: u64) -> bool {
        true
    }
}

struct Data(Immortal);

impl MapObject for Data {
    fn page(&self, _index: u64, _write: bool) -> Result<PageRef> {
        Err(Errno::ENXIO)
    }
    fn special(&self, index: u64) -> Option<Immortal> {
        (index == 0).then_some(self.0)
    }
    fn size(&self) -> u64 {
        PAGE_SIZE as u64
    }
    fn ident(&self) -> MapIdent {
        MapIdent::default()
    }
    fn path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("[vvar]")
    }
}

/// Builds the library, if this machine's clock can be read by programs and nobody objects.
pub(crate) fn init() -> Result<()> {
    let Some(code) = frame::vdso::code() else { return Ok(()) };
    if params::get("vdso") == Some("0") {
        return Ok(());
    }
    let new = || page::alloc_page(AllocFlags::ZERO).ok_or(Errno::ENOMEM);
    let bytes = image::build(&code)?;
    let (image, data) = (new()?, new()?);
    image.write(0, &bytes);
    data.write_u64(BASE, code.tsc_base);
    data.write_u64(RATE, code.tsc_to_ns);
    let pages = Pages {
        image: frame::heap::try_arc(Image(image)).ok_or(Errno::ENOMEM)?,
        data: frame::heap::try_arc(Data(data.leak())).ok_or(Errno::ENOMEM)?,
    };
    PAGES.call_once(|| pages);
    sched::time::on_realtime_set(realtime_set);
    pr_info!("vdso: {} bytes", bytes.len());
    Ok(())
}

fn realtime_set(offset_ns: i64) {
    if let Some(p) = PAGES.get() {
        let data = p.data.0.get();
        for clock in REALTIME_CLOCKS {
            data.write_u64(OFFSETS + clock as usize * 8, offset_ns as u64);
        }
        let monotonic = frame::time::stopped_ns().wrapping_neg();
        for clock in MONOTONIC_CLOCKS {
            data.write_u64(OFFSETS + clock as usize * 8, monotonic);
        }
    }
}

/// Maps the vDSO into a new program; the address of its ELF header, 0 without a vDSO.
pub(crate) fn map(mm: &Mm, limits: &Limits) -> Result<usize> {
    let Some(p) = PAGES.get() else { return Ok(0) };
    let regions = [
        Special {
            len: PAGE_SIZE,
            flags: VmFlags::READ | VmFlags::MAYREAD | VmFlags::PFNMAP | VmFlags::DONTDUMP,
            object: p.data.clone(),
        },
        Special {
            len: PAGE_SIZE,
            flags: VmFlags::READ | VmFlags::EXEC | VmFlags::MAYALL,
            object: p.image.clone(),
        },
    ];
    Ok(mm.map_specials(&regions, limits)? + PAGE_SIZE)
}
