//! devpts: the nodes of pseudo-terminals' slaves, `/dev/pts/N`.
//!
//! Each mount is a file system of its own with its own numbers (on Linux since 4.7; `newinstance` is accepted and changes nothing).
//! A node appears when a master is opened by the file system's own node `ptmx` or by one beside its mountpoint, and goes with that
//! master. What a node opens is kept in its inode: the same number means something else in another devpts, and nothing on
//! a node that mknod(2) made elsewhere.
//!
//! Options: `uid=`, `gid=` (else the opener's), `mode=` (600), `ptmxmode=` (000), `max=`. The sum over all file systems
//! is limited by `kernel.pty.max`, of which `kernel.pty.reserve` are kept for the first mount.
//!
//! Documented: Linux `Documentation/filesystems/devpts.rst`.

use alloc::{
    boxed::Box,
    collections::BTreeMap,
    format,
    string::String,
    sync::{Arc, Weak},
};
use core::fmt::Write;

use base::{Errno, Result, cred::Cred, device::DevNum, tree};
use drivers::tty::{
    Tty,
    pty::{self, Devpts, MAX_NUMBERS, SLAVE_MAJOR},
};
use frame::{
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    sync::{LockClass, SpinLock, once::Once},
};
use vfs::{
    DcachePolicy, DirSink, File, FileOps, FileSystemType, FileType, Inode, InodeOps, NewInode, OpenFlags,
    Path, SuperBlock, SuperOps, inode::InodeFlags, makedev, superblock::MountRequest,
};

use crate::knobs;

/// `DEVPTS_SUPER_MAGIC` (linux/magic.h).
const MAGIC: u64 = 0x1cd1;
const ROOT_INO: u64 = 1;
const PTMX_INO: u64 = 2;
/// Slave N has inode number N + 3.
const FIRST_INO: u64 = 3;

static CLASS: LockClass = LockClass::new("devpts");
static OPTIONS: LockClass = LockClass::new("devpts_options");

/// Numbers in use in all file systems, and the limits (`/proc/sys/kernel/pty`).
static COUNT: AtomicU32 = AtomicU32::new(0);
static LIMIT: AtomicU32 = AtomicU32::new(4096);
static RESERVE: AtomicU32 = AtomicU32::new(1024);
/// The first mount may use the reserve.
static MOUNTED: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Options {
    uid: Option<u32>,
    gid: Option<u32>,
    mode: u32,
    ptmx_mode: u32,
    max: u32,
}

impl Options {
    const DEFAULT: Options = Options { uid: None, gid: None, mode: 0o600, ptmx_mode: 0, max: MAX_NUMBERS };

    fn parse(data: &[u8]) -> Result<Options> {
        let mut o = Options::DEFAULT;
        let data = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        for opt in data.split(',').filter(|o| !o.is_empty()) {
            let (key, value) = opt.split_once('=').unwrap_or((opt, ""));
            let decimal = || value.parse::<u32>().map_err(|_| Errno::EINVAL);
            let octal = || u32::from_str_radix(value, 8).map(|m| m & 0o7777).map_err(|_| Errno::EINVAL);
            match key {
                "uid" => o.uid = Some(decimal()?),
                "gid" => o.gid = Some(decimal()?),
                "mode" => o.mode = octal()?,
                "ptmxmode" => o.ptmx_mode = octal()?,
                "max" => o.max = Some(decimal()?).filter(|&n| n <= MAX_NUMBERS).ok_or(Errno::EINVAL)?,
                "newinstance" if value.is_empty() => {}
                _ => {
                    base::pr_err!("devpts: called with bogus options");
                    return Err(Errno::EINVAL);
                }
            }
        }
        Ok(o)
    }
}

/// One devpts.
struct Instance {
    sb: Once<Weak<SuperBlock>>,
    options: SpinLock<Options>,
    names: SpinLock<Names>,
    ptmx: Once<Arc<Inode>>,
    may_use_reserve: bool,
}

/// Numbers in use, each with its node while its master is open.
type Names = BTreeMap<u32, Option<Arc<Inode>>>;

impl Instance {
    fn node(&self, name: &[u8]) -> Option<Arc<Inode>> {
        if name == b"ptmx" {
            return self.ptmx.get().cloned();
        }
        let text = core::str::from_utf8(name).ok()?;
        let n: u32 = text.parse().ok()?;
        // One number has one name: no leading zeros or signs.
        (format!("{n}") == text).then(|| self.names.lock().get(&n).cloned().flatten())?
    }
}

impl Devpts for Instance {
    fn take_number(&self) -> Result<u32> {
        let reserve = if self.may_use_reserve { 0 } else { RESERVE.load(Relaxed) };
        let limit = LIMIT.load(Relaxed).saturating_sub(reserve);
        COUNT.fetch_update(Relaxed, Relaxed, |n| (n < limit).then_some(n + 1)).map_err(|_| Errno::ENOSPC)?;
        let max = self.options.lock().max;
        let mut names = self.names.lock();
        // The lowest free one.
        let free = names.keys().enumerate().find(|&(i, &n)| i as u32 != n).map_or(names.len(), |(i, _)| i);
        if free as u32 >= max {
            drop(names);
            COUNT.fetch_sub(1, Relaxed);
            return Err(Errno::ENOSPC);
        }
        names.insert(free as u32, None);
        Ok(free as u32)
    }
    fn give_number(&self, number: u32) {
        let gone = self.names.lock().remove(&number);
        drop(gone);
        COUNT.fetch_sub(1, Relaxed);
    }
    fn add(&self, number: u32, slave: &Arc<Tty>, owner: (u32, u32)) -> Result<()> {
        let sb = self.sb.get().and_then(Weak::upgrade).ok_or(Errno::ENODEV)?;
        let o = *self.options.lock();
        let new = NewInode {
            mode: FileType::Char.bits() | o.mode,
            uid: o.uid.unwrap_or(owner.0),
            gid: o.gid.unwrap_or(owner.1),
            rdev: makedev(SLAVE_MAJOR, number),
        };
        let ops = Box::new(SlaveNode { slave: slave.clone() });
        let ino = FIRST_INO + u64::from(number);
        let inode = Inode::with_flags(&sb, ino, &new, ops, InodeFlags::PLAIN_PERMISSION)?;
        if let Some(n) = self.names.lock().get_mut(&number) {
            *n = Some(inode);
        }
        Ok(())
    }
    fn remove(&self, number: u32) {
        let gone = self.names.lock().get_mut(&number).and_then(Option::take);
        if let Some(i) = gone {
            i.drop_nlink();
        }
        if let Some(root) = self.sb.get().and_then(Weak::upgrade).and_then(|s| s.root()) {
            root.forget(format!("{number}").as_bytes());
        }
    }
}

struct SlaveNode {
    slave: Arc<Tty>,
}
impl InodeOps for SlaveNode {
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
    fn open_device(&self, _inode: &Arc<Inode>, flags: OpenFlags) -> Option<Result<Arc<dyn FileOps>>> {
        Some(pty::open_slave(&self.slave, flags))
    }
}

/// `ptmx`: an ordinary node with the number of `/dev/ptmx`.
struct PtmxNode;
impl InodeOps for PtmxNode {
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
}

/// The only folder.
struct RootNode {
    instance: Arc<Instance>,
}
impl InodeOps for RootNode {
    fn dcache_policy(&self) -> DcachePolicy {
        DcachePolicy::Revalidate
    }
    fn revalidate(&self, _dir: &Arc<Inode>, name: &[u8], child: &Arc<Inode>) -> bool {
        self.instance.node(name).is_some_and(|n| Arc::ptr_eq(&n, child))
    }
    fn lookup(&self, _dir: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        self.instance.node(name).ok_or(Errno::ENOENT)
    }
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags, _cred: &Cred) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(RootDir { instance: self.instance.clone() }))
    }
}

struct RootDir {
    instance: Arc<Instance>,
}
impl FileOps for RootDir {
    /// Position 2 is `ptmx`, N + 3 is slave N.
    fn readdir(&self, file: &File, pos: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let mut pos = match knobs::dots(file, pos, sink) {
            Ok(p) => p,
            Err(full_at) => return Ok(full_at),
        };
        let dtype = FileType::Char.dtype();
        if pos == 2 {
            if !sink.emit(b"ptmx", PTMX_INO, dtype, FIRST_INO) {
                return Ok(pos);
            }
            pos = FIRST_INO;
        }
        loop {
            let from = (pos - FIRST_INO) as u32;
            let next = {
                let names = self.instance.names.lock();
                names.range(from..).find(|(_, i)| i.is_some()).map(|(&n, _)| n)
            };
            let Some(n) = next else { return Ok(pos) };
            let at = FIRST_INO + u64::from(n);
            if !sink.emit(format!("{n}").as_bytes(), at, dtype, at + 1) {
                return Ok(pos);
            }
            pos = at + 1;
        }
    }
}

struct Super {
    instance: Arc<Instance>,
}
impl SuperOps for Super {
    fn show_options(&self, out: &mut String) {
        let o = *self.instance.options.lock();
        // A string that cannot grow loses the rest of the line, nothing else.
        let mut show = |a: core::fmt::Arguments<'_>| {
            let _ = out.write_fmt(a);
        };
        if let Some(u) = o.uid {
            show(format_args!(",uid={u}"));
        }
        if let Some(g) = o.gid {
            show(format_args!(",gid={g}"));
        }
        show(format_args!(",mode={:03o},ptmxmode={:03o}", o.mode, o.ptmx_mode));
        if o.max < MAX_NUMBERS {
            show(format_args!(",max={}", o.max));
        }
    }
    fn remount(&self, _read_only: bool, data: &[u8]) -> Result<()> {
        let o = Options::parse(data)?;
        *self.instance.options.lock() = o;
        if let Some(p) = self.instance.ptmx.get() {
            p.set_mode(FileType::Char.bits() | o.ptmx_mode);
        }
        Ok(())
    }
}

struct DevptsType;
impl FileSystemType for DevptsType {
    fn name(&self) -> &'static str {
        "devpts"
    }
    fn mount(&self, req: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        let o = Options::parse(req.data)?;
        let instance = frame::heap::try_arc(Instance {
            sb: Once::new(),
            options: SpinLock::new(&OPTIONS, o),
            names: SpinLock::new(&CLASS, Names::new()),
            ptmx: Once::new(),
            may_use_reserve: !MOUNTED.swap(true, Relaxed),
        })
        .ok_or(Errno::ENOMEM)?;
        let ops = Box::new(Super { instance: instance.clone() });
        let sb = SuperBlock::anonymous("devpts", MAGIC, req.read_only, ops)?;
        instance.sb.call_once(|| Arc::downgrade(&sb));
        let ptmx = NewInode {
            mode: FileType::Char.bits() | o.ptmx_mode,
            uid: 0,
            gid: 0,
            rdev: makedev(PTMX.major, PTMX.minor),
        };
        let ptmx = Inode::with_flags(&sb, PTMX_INO, &ptmx, Box::new(PtmxNode), InodeFlags::PLAIN_PERMISSION)?;
        instance.ptmx.call_once(|| ptmx);
        let root = NewInode { mode: FileType::Dir.bits() | 0o755, uid: 0, gid: 0, rdev: 0 };
        let node = Box::new(RootNode { instance });
        sb.set_root(Inode::with_flags(&sb, ROOT_INO, &root, node, InodeFlags::PLAIN_PERMISSION)?)?;
        Ok(sb)
    }
}

const PTMX: DevNum = DevNum::new(5, 2);

/// Which devpts a place is in.
fn find(path: &Path) -> Option<Arc<dyn Devpts>> {
    let root = path.mount.sb().root()?;
    let node = root.inode().ops_as::<RootNode>()?;
    Some(node.instance.clone())
}

/// Registers the file system and its sysctls.
pub fn init() -> Result<()> {
    pty::install_devpts(find);
    let t = tree::proc();
    t.file("sys/kernel/pty/nr", 0o444, |o| Ok(writeln!(o, "{}", COUNT.load(Relaxed))?))?;
    for (name, value) in [("max", &LIMIT), ("reserve", &RESERVE)] {
        t.knob(
            &format!("sys/kernel/pty/{name}"),
            0o644,
            |o| Ok(writeln!(o, "{}", value.load(Relaxed))?),
            move |b| {
                let n = u32::try_from(tree::parse_int(b)?).map_err(|_| Errno::EINVAL)?;
                if n > MAX_NUMBERS {
                    return Err(Errno::EINVAL);
                }
                value.store(n, Relaxed);
                Ok(())
            },
        )?;
    }
    vfs::register_filesystem(Arc::new(DevptsType))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let o = Options::parse(b"gid=5,mode=620,ptmxmode=666,newinstance").unwrap();
        assert_eq!((o.uid, o.gid, o.mode, o.ptmx_mode), (None, Some(5), 0o620, 0o666));
        assert_eq!(Options::parse(b"max=9999999"), Err(Errno::EINVAL));
        assert_eq!(Options::parse(b"size=1"), Err(Errno::EINVAL));
    }
}
