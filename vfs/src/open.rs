//! open(2) and its relatives.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result, cred::Cred};
use linux_raw_sys::general as raw;

use crate::{
    attr,
    context::Ctx,
    dentry::Dentry,
    file::{File, FileKind, FileOps},
    inode::{InodeFlags, Link},
    mount::{MountFlags, WriteGuard},
    namei::{may_create, new_inode},
    path::Path,
    special,
    types::{Access, FileType, OpenFlags, S_IALLUGO},
    walk::{Last, LookupFlags, Walk, lookup_child, lookup_locked},
};

/// Opens `path`, relative to `at` or the current directory. `mode` counts for new files; the umask is applied here.
pub fn open(ctx: &Ctx, at: Option<&Path>, path: &[u8], flags: OpenFlags, mode: u32) -> Result<Arc<File>> {
    open_how(ctx, at, path, flags, mode, LookupFlags::empty())
}

/// As [`open`], with the restrictions of openat2(2).
pub fn open_how(
    ctx: &Ctx,
    at: Option<&Path>,
    path: &[u8],
    mut flags: OpenFlags,
    mode: u32,
    resolve: LookupFlags,
) -> Result<Arc<File>> {
    if flags.contains(OpenFlags::PATH) {
        flags &= OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::PATH | OpenFlags::CLOEXEC;
    } else if flags.is_tmpfile() {
        if !flags.contains(OpenFlags::DIRECTORY) || flags.contains(OpenFlags::CREAT) || !flags.writable() {
            return Err(Errno::EINVAL);
        }
    } else if flags.contains(OpenFlags::DIRECTORY | OpenFlags::CREAT) {
        return Err(Errno::EINVAL);
    }
    let mut how = resolve;
    if !flags.contains(OpenFlags::NOFOLLOW) {
        how |= LookupFlags::FOLLOW;
    }
    if flags.contains(OpenFlags::DIRECTORY) {
        how |= LookupFlags::DIRECTORY;
    }
    if flags.is_tmpfile() {
        return open_tmpfile(ctx, at, path, flags, mode, how);
    }
    if flags.contains(OpenFlags::CREAT) {
        return open_create(ctx, at, path, flags, mode, how);
    }
    let p = Walk::new(ctx, at, how).place(at, path)?;
    open_path(&p, flags, &ctx.cred)
}

/// Opens a place that is known already, with all permission checks.
pub fn open_path(path: &Path, flags: OpenFlags, cred: &Arc<Cred>) -> Result<Arc<File>> {
    if flags.contains(OpenFlags::PATH) {
        return File::build(path.clone(), path_ops(), flags, cred, false);
    }
    may_open(path, access_of(flags), flags, cred)?;
    finish(path, flags, cred, false)
}

/// Opens a program: it must be an executable regular file. The caller denies writing while it runs it.
pub fn open_exec(ctx: &Ctx, at: Option<&Path>, path: &[u8], how: LookupFlags) -> Result<Arc<File>> {
    let p = Walk::new(ctx, at, how).place(at, path)?;
    match p.inode().kind() {
        FileType::Regular => {}
        FileType::Symlink => return Err(Errno::ELOOP),
        _ => return Err(Errno::EACCES),
    }
    if p.mount.flags().contains(MountFlags::NOEXEC) {
        return Err(Errno::EACCES);
    }
    p.inode().permission(&ctx.cred, Access::EXEC)?;
    finish(&p, OpenFlags::RDONLY, &ctx.cred, false)
}

/// What the flags ask of the permission bits.
fn access_of(flags: OpenFlags) -> Access {
    let mut a = match flags.bits() & raw::O_ACCMODE {
        raw::O_RDONLY => Access::READ,
        raw::O_WRONLY => Access::WRITE,
        _ => Access::READ | Access::WRITE,
    };
    if flags.contains(OpenFlags::TRUNC) {
        a |= Access::WRITE;
    }
    a
}

fn may_open(path: &Path, want: Access, flags: OpenFlags, cred: &Cred) -> Result<()> {
    let inode = path.inode();
    match inode.kind() {
        FileType::Symlink => return Err(Errno::ELOOP),
        FileType::Dir if want.contains(Access::WRITE) => return Err(Errno::EISDIR),
        FileType::Char | FileType::Block if path.mount.flags().contains(MountFlags::NODEV) => {
            return Err(Errno::EACCES);
        }
        _ => {}
    }
    inode.permission(cred, want)?;
    if inode.flags().contains(InodeFlags::APPEND_ONLY)
        && (flags.writable() && !flags.contains(OpenFlags::APPEND) || flags.contains(OpenFlags::TRUNC))
    {
        return Err(Errno::EPERM);
    }
    if flags.contains(OpenFlags::NOATIME) && !inode.owner_or_capable(cred) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Makes the file. `created`: this open made the inode, so there is nothing to truncate.
fn finish(path: &Path, flags: OpenFlags, cred: &Arc<Cred>, created: bool) -> Result<Arc<File>> {
    let inode = path.inode();
    let truncate = flags.contains(OpenFlags::TRUNC) && !created && inode.kind() == FileType::Regular;
    // Truncating is a change, whatever the access mode.
    let _change = if truncate { Some(WriteGuard::new(&path.mount)?) } else { None };
    let is_special = !matches!(inode.kind(), FileType::Regular | FileType::Dir | FileType::Symlink);
    let counted = flags.writable() && !is_special;
    if counted {
        inode.get_write_access()?;
        if let Err(e) = path.mount.begin_write() {
            inode.put_write_access();
            return Err(e);
        }
    }
    let made = (|| {
        let ops =
            if is_special { special::open(path, flags)? } else { inode.ops().open(inode, flags, cred)? };
        File::build(path.clone(), ops, flags, cred, counted)
    })();
    if made.is_err() && counted {
        inode.put_write_access();
        path.mount.end_write();
    }
    let file = made?;
    if truncate {
        if !counted {
            inode.get_write_access()?;
        }
        let r = attr::set_size(inode, 0, cred);
        if !counted {
            inode.put_write_access();
        }
        r?;
    }
    Ok(file)
}

fn open_create(
    ctx: &Ctx,
    at: Option<&Path>,
    path: &[u8],
    flags: OpenFlags,
    mode: u32,
    how: LookupFlags,
) -> Result<Arc<File>> {
    let mut walk = Walk::new(ctx, at, how);
    let mut parent = walk.parent(at, path)?;
    // Each turn follows one link in the last component.
    loop {
        let Last::Name(name) = &parent.last else {
            return Err(if flags.contains(OpenFlags::EXCL) { Errno::EEXIST } else { Errno::EISDIR });
        };
        if parent.trailing {
            return Err(Errno::EISDIR);
        }
        let name = name.as_bytes();
        let dir = &parent.dir;
        let found = match lookup_child(dir, name) {
            Err(Errno::ENOENT) => match create(ctx, dir, name, mode)? {
                Made::New(d) => {
                    let p = Path { mount: dir.mount.clone(), dentry: d };
                    return finish(&p, flags, &ctx.cred, true);
                }
                Made::Found(d) => d,
            },
            r => r?,
        };
        if flags.contains(OpenFlags::EXCL) {
            return Err(Errno::EEXIST);
        }
        if found.inode().kind() == FileType::Symlink {
            if !how.contains(LookupFlags::FOLLOW) {
                return Err(Errno::ELOOP);
            }
            let next: Vec<u8> = match walk.read_link(dir, &found)? {
                Link::Text(t) => t.to_vec(),
                Link::Owned(t) => t,
                Link::Magic(p) => return open_existing(&p, flags, &ctx.cred),
            };
            let dir = parent.dir;
            parent = walk.parent(Some(&dir), &next)?;
            continue;
        }
        let mut p = Path { mount: dir.mount.clone(), dentry: found };
        p.follow_mounts();
        return open_existing(&p, flags, &ctx.cred);
    }
}

fn open_existing(p: &Path, flags: OpenFlags, cred: &Arc<Cred>) -> Result<Arc<File>> {
    if p.inode().is_dir() {
        return Err(Errno::EISDIR);
    }
    open_path(p, flags - OpenFlags::CREAT, cred)
}

enum Made {
    New(Arc<Dentry>),
    /// Somebody else was faster.
    Found(Arc<Dentry>),
}

fn create(ctx: &Ctx, dir: &Path, name: &[u8], mode: u32) -> Result<Made> {
    let change = WriteGuard::new(&dir.mount);
    let _names = dir.mount.sb().names.read();
    let inode = dir.inode();
    let _lock = inode.dir_lock.write();
    match lookup_locked(&dir.dentry, name) {
        Err(Errno::ENOENT) => {}
        r => return r.map(Made::Found),
    }
    let _change = change?;
    may_create(inode, &ctx.cred)?;
    let new = new_inode(inode, ctx, FileType::Regular, mode & S_IALLUGO, 0);
    let made = inode.ops().create(inode, name, &new)?;
    dir.dentry.insert(name, made).map(Made::New)
}

fn open_tmpfile(
    ctx: &Ctx,
    at: Option<&Path>,
    path: &[u8],
    flags: OpenFlags,
    mode: u32,
    how: LookupFlags,
) -> Result<Arc<File>> {
    let dir = Walk::new(ctx, at, how).place(at, path)?;
    let _change = WriteGuard::new(&dir.mount)?;
    let inode = dir.inode();
    inode.permission(&ctx.cred, Access::WRITE | Access::EXEC)?;
    let new = new_inode(inode, ctx, FileType::Regular, mode & S_IALLUGO, 0);
    let made = inode.ops().tmpfile(inode, &new)?;
    if !flags.contains(OpenFlags::EXCL) {
        made.set_flag(InodeFlags::LINKABLE);
    }
    let name = alloc::format!("#{}", made.ino);
    let d = Dentry::new_child(&dir.dentry, name.as_bytes(), made)?;
    d.set_deleted();
    finish(&Path { mount: dir.mount.clone(), dentry: d }, flags, &ctx.cred, true)
}

/// The operations of a file opened with `O_PATH`: none.
struct PathOps;
impl FileOps for PathOps {
    fn kind(&self) -> FileKind {
        FileKind::Seekable
    }
}

fn path_ops() -> Arc<dyn FileOps> {
    static OPS: frame::sync::once::Once<Arc<PathOps>> = frame::sync::once::Once::new();
    OPS.call_once(|| Arc::new(PathOps)).clone()
}
