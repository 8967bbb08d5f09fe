//! mount(2), umount2(2), pivot_root(2).

use alloc::{sync::Arc, vec::Vec};

use base::{
    Errno, Result,
    cred::{Cred, cap},
};
use frame::sync::once::Once;
use linux_raw_sys::general as raw;

use crate::{
    context::Ctx,
    mount::{Mount, MountFlags, NAMESPACE, Namespace},
    path::Path,
    superblock::{FsFlags, MountRequest, get_fs_type},
    types::FileType,
    walk::{LookupFlags, lookup},
};

const PROPAGATION: u32 = raw::MS_SHARED | raw::MS_PRIVATE | raw::MS_SLAVE | raw::MS_UNBINDABLE;
/// The old magic number that may stand in the upper half of the flags.
const MS_MGC_VAL: u32 = 0xC0ED_0000;
const MS_MGC_MSK: u32 = 0xFFFF_0000;

/// mount(2). `source` and `data` are empty where the pointer was null; `fstype` `None` where it was null.
pub fn do_mount(
    ctx: &Ctx,
    source: &[u8],
    target: &[u8],
    fstype: Option<&[u8]>,
    flags: u32,
    data: &[u8],
) -> Result<()> {
    let flags = if flags & MS_MGC_MSK == MS_MGC_VAL { flags & !MS_MGC_MSK } else { flags };
    let mut at = lookup(ctx, None, target, LookupFlags::FOLLOW)?;
    if !ctx.cred.has_cap(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let remount = flags & raw::MS_REMOUNT != 0;
    if remount {
        return do_remount(ctx, &at, flags, data);
    }
    if flags & raw::MS_BIND != 0 {
        return do_bind(ctx, source, &mut at, flags & raw::MS_REC != 0);
    }
    if flags & PROPAGATION != 0 {
        return do_propagation(&at, flags);
    }
    if flags & raw::MS_MOVE != 0 {
        return do_move(ctx, source, &mut at);
    }
    do_new(ctx, source, &mut at, fstype.ok_or(Errno::EINVAL)?, flags, data)
}

/// The properties of the mount that the flags ask for.
fn mount_flags(flags: u32) -> MountFlags {
    let mut m = MountFlags::from_bits_truncate(flags);
    // Access times are relative unless asked otherwise.
    m.insert(MountFlags::RELATIME);
    if flags & (raw::MS_NOATIME | raw::MS_STRICTATIME) != 0 {
        m.remove(MountFlags::RELATIME);
    }
    if flags & raw::MS_STRICTATIME != 0 {
        m.remove(MountFlags::NOATIME);
    }
    m
}

fn do_new(ctx: &Ctx, source: &[u8], at: &mut Path, fstype: &[u8], flags: u32, data: &[u8]) -> Result<()> {
    let fs = get_fs_type(fstype).ok_or(Errno::ENODEV)?;
    if fs.flags().contains(FsFlags::INTERNAL) {
        return Err(Errno::EINVAL);
    }
    let device = if fs.flags().contains(FsFlags::NODEV) { None } else { Some(block_device(ctx, source)?) };
    let sb = fs.mount(&MountRequest {
        source,
        read_only: flags & raw::MS_RDONLY != 0,
        data,
        cred: &ctx.cred,
        device,
    })?;
    let root = sb.root().ok_or(Errno::EINVAL)?;
    let m = Mount::new(&sb, root, if source.is_empty() { b"none" } else { source }, mount_flags(flags))?;
    let ns = NAMESPACE.lock();
    at.follow_mounts();
    if Arc::ptr_eq(at.mount.sb(), &sb) && at.is_mount_root() && Arc::ptr_eq(at.mount.root(), m.root()) {
        return Err(Errno::EBUSY);
    }
    graft(&ns, &m, at)
}

/// Mounts on `at` what its inode names, unless another walk has. With nobody's rights: the kernel itself mounts it.
#[cold]
pub(crate) fn automount(at: &Path) -> Result<()> {
    let Some(name) = at.inode().ops().automount() else { return Ok(()) };
    let fs = get_fs_type(name.as_bytes()).ok_or(Errno::ENODEV)?;
    let request = MountRequest {
        source: name.as_bytes(),
        read_only: false,
        data: b"",
        cred: &Cred::root(),
        device: None,
    };
    let sb = fs.mount(&request)?;
    let m = Mount::new(&sb, sb.root().ok_or(Errno::EINVAL)?, name.as_bytes(), at.mount.flags())?;
    let ns = NAMESPACE.lock();
    if at.mount.child_at(&at.dentry).is_some() { Ok(()) } else { graft(&ns, &m, at) }
}

/// The device number of the block device at `source`.
fn block_device(ctx: &Ctx, source: &[u8]) -> Result<u64> {
    let p = lookup(ctx, None, source, LookupFlags::FOLLOW)?;
    if p.inode().kind() != FileType::Block {
        return Err(Errno::ENOTBLK);
    }
    if p.mount.flags().contains(MountFlags::NODEV) {
        return Err(Errno::EACCES);
    }
    Ok(p.inode().rdev())
}

/// Attaches `m` at `at`, where nothing is mounted.
fn graft(ns: &Namespace, m: &Arc<Mount>, at: &Path) -> Result<()> {
    if !at.mount.is_attached(ns) {
        return Err(Errno::EINVAL);
    }
    if at.dentry.is_deleted() || at.inode().is_dead() {
        return Err(Errno::ENOENT);
    }
    if at.inode().is_dir() != m.root().inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    m.attach(at)
}

fn do_bind(ctx: &Ctx, source: &[u8], at: &mut Path, recursive: bool) -> Result<()> {
    if source.is_empty() {
        return Err(Errno::EINVAL);
    }
    let from = lookup(ctx, None, source, LookupFlags::FOLLOW)?;
    let ns = NAMESPACE.lock();
    at.follow_mounts();
    if !from.mount.is_attached(&ns) {
        return Err(Errno::EINVAL);
    }
    let m = clone_mount(&from.mount, &from)?;
    if recursive {
        let below = |d: &Arc<crate::Dentry>| d.is_below(&from.dentry);
        copy_children(&from.mount, &m, &below)?;
    }
    graft(&ns, &m, at).inspect_err(|_| take_apart(&m))
}

fn clone_mount(old: &Arc<Mount>, root: &Path) -> Result<Arc<Mount>> {
    Mount::new(old.sb(), root.dentry.clone(), old.source(), old.flags())
}

/// Mounts copies of the children of `from` at the same dentries of `to`. One level of the kernel stack per level of mounts is avoided
/// by a work list.
fn copy_children(
    from: &Arc<Mount>,
    to: &Arc<Mount>,
    wanted: &dyn Fn(&Arc<crate::Dentry>) -> bool,
) -> Result<()> {
    let mut todo: Vec<(Arc<Mount>, Arc<Mount>, bool)> = alloc::vec![(from.clone(), to.clone(), true)];
    while let Some((from, to, top)) = todo.pop() {
        for (at, child) in from.children() {
            if top && !wanted(&at) {
                continue;
            }
            let copy = Mount::new(child.sb(), child.root().clone(), child.source(), child.flags())?;
            copy.attach(&Path { mount: to.clone(), dentry: at })?;
            todo.push((child, copy, false));
        }
    }
    Ok(())
}

/// Takes a tree of mounts apart, so that each ends when its last user goes.
fn take_apart(top: &Arc<Mount>) {
    let mut todo = alloc::vec![top.clone()];
    while let Some(m) = todo.pop() {
        todo.extend(m.children().into_iter().map(|(_, c)| c));
        drop(m.detach());
    }
}

fn do_remount(ctx: &Ctx, at: &Path, flags: u32, data: &[u8]) -> Result<()> {
    let ns = NAMESPACE.lock();
    if !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let mut new = mount_flags(flags);
    const TIMES: u32 = raw::MS_NOATIME | raw::MS_NODIRATIME | raw::MS_RELATIME | raw::MS_STRICTATIME;
    if flags & TIMES == 0 {
        let times = MountFlags::NOATIME | MountFlags::NODIRATIME | MountFlags::RELATIME;
        new = (new - times) | (at.mount.flags() & times);
    }
    if flags & raw::MS_BIND != 0 {
        return at.mount.set_flags(new);
    }
    if !ctx.cred.has_cap(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let sb = at.mount.sb();
    let read_only = flags & raw::MS_RDONLY != 0;
    let was = sb.is_read_only();
    if read_only && !was {
        // Announce, then look, as in `Mount::set_flags`; all mounts of the file system count.
        sb.set_read_only(true);
        frame::atomic::fence(frame::atomic::Ordering::SeqCst);
        if writers(sb, &ns) > 0 {
            sb.set_read_only(false);
            return Err(Errno::EBUSY);
        }
    }
    if let Err(e) = sb.ops().remount(read_only, data) {
        sb.set_read_only(was);
        return Err(e);
    }
    sb.set_read_only(read_only);
    at.mount.set_flags(new)
}

/// How many writers the mounts of `sb` have.
fn writers(sb: &Arc<crate::SuperBlock>, ns: &Namespace) -> u32 {
    all_mounts(ns).iter().filter(|m| Arc::ptr_eq(m.sb(), sb)).map(|m| m.writers()).sum()
}

/// All mounts of the name space, parents before children.
pub(crate) fn all_mounts(ns: &Namespace) -> Vec<Arc<Mount>> {
    let mut list: Vec<Arc<Mount>> = ns.root.iter().cloned().collect();
    let mut i = 0;
    while i < list.len() {
        let c = list[i].children();
        list.extend(c.into_iter().map(|(_, m)| m));
        i += 1;
    }
    list
}

fn do_propagation(at: &Path, flags: u32) -> Result<()> {
    // Exactly one kind, beside "recursive" and "silent". All mounts are private, so only that can be granted.
    if flags & !(raw::MS_REC | raw::MS_SILENT) != raw::MS_PRIVATE || !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

fn do_move(ctx: &Ctx, source: &[u8], at: &mut Path) -> Result<()> {
    if source.is_empty() {
        return Err(Errno::EINVAL);
    }
    let from = lookup(ctx, None, source, LookupFlags::FOLLOW)?;
    let ns = NAMESPACE.lock();
    at.follow_mounts();
    if !from.is_mount_root() || !from.mount.is_attached(&ns) {
        return Err(Errno::EINVAL);
    }
    if from.inode().is_dir() != at.inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    let old = from.mount.mountpoint().ok_or(Errno::EINVAL)?;
    let mut m = at.mount.clone();
    loop {
        if Arc::ptr_eq(&m, &from.mount) {
            return Err(Errno::ELOOP);
        }
        let Some(p) = m.mountpoint() else { break };
        m = p.mount;
    }
    drop(from.mount.detach());
    graft(&ns, &from.mount, at).inspect_err(|_| {
        // The old place was free a moment ago and changes are held off: this only fails without memory.
        let _ = from.mount.attach(&old);
    })
}

/// umount2(2). `MNT_EXPIRE` is not supported (`EINVAL`).
pub fn umount(ctx: &Ctx, target: &[u8], flags: u32) -> Result<()> {
    let known = raw::MNT_FORCE | raw::MNT_DETACH | raw::UMOUNT_NOFOLLOW;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let how = if flags & raw::UMOUNT_NOFOLLOW != 0 { LookupFlags::empty() } else { LookupFlags::FOLLOW };
    let p = lookup(ctx, None, target, how)?;
    if !ctx.cred.has_cap(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let ns = NAMESPACE.lock();
    if !p.is_mount_root() || !p.mount.is_attached(&ns) {
        return Err(Errno::EINVAL);
    }
    if flags & raw::MNT_DETACH != 0 {
        if p.mount.mountpoint().is_none() {
            return Err(Errno::EINVAL);
        }
        take_apart(&p.mount);
        return Ok(());
    }
    if Arc::ptr_eq(&p.mount, &ctx.root.mount) {
        // The root stays; Linux makes it read-only instead.
        drop(ns);
        return do_remount(ctx, &p, raw::MS_REMOUNT | raw::MS_RDONLY, b"");
    }
    p.mount.detach_unless_busy(1).map(drop)
}

/// Replaces, in every process, a root or current directory that is the first place by the second.
pub type MoveProcesses = fn(old: &Path, new: &Path);
static MOVE_PROCESSES: Once<MoveProcesses> = Once::new();

/// Installs what moves the processes at [`pivot_root`].
pub fn install_move_processes(f: MoveProcesses) {
    MOVE_PROCESSES.call_once(|| f);
}

/// pivot_root(2).
pub fn pivot_root(ctx: &Ctx, new_root: &[u8], put_old: &[u8]) -> Result<()> {
    if !ctx.cred.has_cap(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let how = LookupFlags::FOLLOW | LookupFlags::DIRECTORY;
    let new = lookup(ctx, None, new_root, how)?;
    let put = lookup(ctx, None, put_old, how)?;
    let ns = NAMESPACE.lock();
    let root = &ctx.root;
    if !root.mount.is_attached(&ns) || !new.mount.is_attached(&ns) {
        return Err(Errno::EINVAL);
    }
    if new.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    if Arc::ptr_eq(&new.mount, &root.mount) || Arc::ptr_eq(&put.mount, &root.mount) {
        return Err(Errno::EBUSY);
    }
    let root_at = root.mount.mountpoint().ok_or(Errno::EINVAL)?;
    let new_at = new.mount.mountpoint().ok_or(Errno::EINVAL)?;
    if !root.is_mount_root() || !new.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    // The old root must land at or below the new one.
    let mut p = put.clone();
    loop {
        if Arc::ptr_eq(&p.mount, &new.mount) {
            if !p.dentry.is_below(&new.dentry) {
                return Err(Errno::EINVAL);
            }
            break;
        }
        p = p.mount.mountpoint().ok_or(Errno::EINVAL)?;
    }
    drop(new.mount.detach());
    drop(root.mount.detach());
    let placed = new.mount.attach(&root_at).and_then(|()| root.mount.attach(&put));
    if placed.is_err() {
        // Without memory for a list: put both back where they were.
        drop(new.mount.detach());
        let _ = root.mount.attach(&root_at);
        let _ = new.mount.attach(&new_at);
    }
    placed?;
    drop(ns);
    if let Some(f) = MOVE_PROCESSES.get() {
        f(root, &new);
    }
    Ok(())
}
