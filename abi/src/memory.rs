//! Calls on the address space.

use alloc::sync::Arc;

use base::{Errno, Result};
use frame::user::{self, Regs};
use linux_raw_sys::general as raw;
use mm::{FileMapping, MapFlags, MapRequest, Mm, PAGE_SIZE, Prot, Remap, RemapFlags};
use process::{current, exec::mm_limits};
use vfs::mount::MountFlags;

use crate::{
    args::{Args, Ret},
    files::file,
};

/// The running process's address space.
fn own() -> Result<Arc<Mm>> {
    current().process.mm().ok_or(Errno::EINVAL)
}

pub(crate) fn mmap(r: &mut Regs) -> Ret {
    let flags = MapFlags::from_bits_retain(r.uint::<3>());
    let offset = r.word::<5>();
    if !offset.is_multiple_of(PAGE_SIZE as u64) {
        return Err(Errno::EINVAL);
    }
    let me = current();
    let mapping = if flags.contains(MapFlags::ANON) {
        None
    } else {
        let f = file(r.int::<4>())?;
        if r.size::<1>() == 0 {
            return Err(Errno::EINVAL);
        }
        if !f.flags().readable() {
            return Err(Errno::EACCES);
        }
        Some(FileMapping {
            object: f.ops().map_object(&f)?,
            offset,
            readable: true,
            writable: f.flags().writable(),
            executable: !f.path().mount.flags().contains(MountFlags::NOEXEC),
        })
    };
    own()?.mmap(&MapRequest {
        addr: r.size::<0>(),
        len: r.size::<1>(),
        prot: Prot::from_bits_retain(r.uint::<2>()),
        flags,
        file: mapping,
        limits: mm_limits(&me),
    })
}
pub(crate) fn munmap(r: &mut Regs) -> Ret {
    own()?.munmap(r.size::<0>(), r.size::<1>()).map(|()| 0)
}
pub(crate) fn mprotect(r: &mut Regs) -> Ret {
    let prot = Prot::from_bits_retain(r.uint::<2>());
    own()?.mprotect(r.size::<0>(), r.size::<1>(), prot, &mm_limits(&current())).map(|()| 0)
}
/// Without protection keys only "no key", -1, exists.
pub(crate) fn pkey_mprotect(r: &mut Regs) -> Ret {
    if r.int::<3>() != -1 { Err(Errno::EINVAL) } else { mprotect(r) }
}
pub(crate) fn mremap(r: &mut Regs) -> Ret {
    own()?.mremap(&Remap {
        old: r.size::<0>(),
        old_len: r.size::<1>(),
        new_len: r.size::<2>(),
        flags: RemapFlags::from_bits_retain(r.uint::<3>()),
        new_addr: r.size::<4>(),
        limits: mm_limits(&current()),
    })
}
pub(crate) fn brk(r: &mut Regs) -> Ret {
    Ok(own()?.brk(r.size::<0>(), &mm_limits(&current())))
}
pub(crate) fn madvise(r: &mut Regs) -> Ret {
    own()?.madvise(r.size::<0>(), r.size::<1>(), r.int::<2>()).map(|()| 0)
}
pub(crate) fn msync(r: &mut Regs) -> Ret {
    own()?.msync(r.size::<0>(), r.size::<1>(), r.uint::<2>()).map(|()| 0)
}
pub(crate) fn mincore(r: &mut Regs) -> Ret {
    let (addr, len, vec) = (r.size::<0>(), r.size::<1>(), r.size::<2>());
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    if !user::range_ok(addr, len) {
        return Err(Errno::ENOMEM);
    }
    if !user::range_ok(vec, len.div_ceil(PAGE_SIZE)) {
        return Err(Errno::EFAULT);
    }
    own()?.mincore(addr, len, |page, bits| Ok(user::copy_to_user(vec + page, bits)?))?;
    Ok(0)
}
pub(crate) fn mlock(r: &mut Regs) -> Ret {
    own()?.mlock(r.size::<0>(), r.size::<1>(), 0, &mm_limits(&current())).map(|()| 0)
}
pub(crate) fn mlock2(r: &mut Regs) -> Ret {
    let flags = r.uint::<2>();
    if flags & !raw::MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL);
    }
    own()?.mlock(r.size::<0>(), r.size::<1>(), flags, &mm_limits(&current())).map(|()| 0)
}
pub(crate) fn munlock(r: &mut Regs) -> Ret {
    own()?.munlock(r.size::<0>(), r.size::<1>()).map(|()| 0)
}
pub(crate) fn mlockall(r: &mut Regs) -> Ret {
    own()?.mlockall(r.uint::<0>(), &mm_limits(&current())).map(|()| 0)
}
pub(crate) fn munlockall(_: &mut Regs) -> Ret {
    own()?.munlockall().map(|()| 0)
}
