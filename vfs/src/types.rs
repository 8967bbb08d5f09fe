//! The plain values of the interface: file types, modes, times, metadata, open flags.
//!
//! Numbers are Linux's (`linux-raw-sys`); the packed forms that system calls copy out are made by `abi`.

use bitflags::bitflags;
use linux_raw_sys::general as raw;

pub const S_IFMT: u32 = raw::S_IFMT;
pub const S_ISUID: u32 = raw::S_ISUID;
pub const S_ISGID: u32 = raw::S_ISGID;
pub const S_ISVTX: u32 = raw::S_ISVTX;
/// The bits that chmod sets.
pub const S_IALLUGO: u32 = 0o7777;
/// The longest path with its NUL, and the longest name.
pub const PATH_MAX: usize = 4096;
pub const NAME_MAX: usize = 255;
/// The most bytes one read or write moves: `INT_MAX` rounded down to a page, as Linux's `MAX_RW_COUNT`.
pub const MAX_RW_COUNT: usize = 0x7fff_f000;
/// The largest file offset.
pub const MAX_OFFSET: u64 = i64::MAX as u64;
pub const PAGE_SIZE: usize = 4096;

/// What kind of thing an inode is; the values are `S_IFMT`'s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u32)]
pub enum FileType {
    Fifo = raw::S_IFIFO,
    Char = raw::S_IFCHR,
    Dir = raw::S_IFDIR,
    Block = raw::S_IFBLK,
    Regular = raw::S_IFREG,
    Symlink = raw::S_IFLNK,
    Socket = raw::S_IFSOCK,
}

impl FileType {
    /// The type in the upper bits of a mode.
    pub const fn from_mode(mode: u32) -> Option<FileType> {
        Some(match mode & S_IFMT {
            raw::S_IFIFO => FileType::Fifo,
            raw::S_IFCHR => FileType::Char,
            raw::S_IFDIR => FileType::Dir,
            raw::S_IFBLK => FileType::Block,
            raw::S_IFREG => FileType::Regular,
            raw::S_IFLNK => FileType::Symlink,
            raw::S_IFSOCK => FileType::Socket,
            _ => return None,
        })
    }
    /// The bits in `st_mode`.
    pub const fn bits(self) -> u32 {
        self as u32
    }
    /// `d_type` of a directory entry.
    pub const fn dtype(self) -> u8 {
        (self as u32 >> 12) as u8
    }
}

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Timespec {
    pub sec: i64,
    pub nsec: u32,
}

impl Timespec {
    pub const fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / 1_000_000_000) as i64, nsec: (ns % 1_000_000_000) as u32 }
    }
    /// The wall clock now.
    pub fn now() -> Self {
        Self::from_ns(sched::time::realtime_ns())
    }
}

/// What stat tells, in the resolution of statx.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metadata {
    /// Kernel-internal device number: major << 20 | minor.
    pub dev: u64,
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    /// Preferred size of I/O, bytes.
    pub blksize: u32,
    /// Units of 512 bytes.
    pub blocks: u64,
    pub atime: Timespec,
    pub mtime: Timespec,
    pub ctime: Timespec,
    /// Birth; zero where the file system keeps none.
    pub btime: Timespec,
}

impl Metadata {
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode).unwrap_or(FileType::Regular)
    }
}

/// Makes a kernel-internal device number.
pub const fn makedev(major: u32, minor: u32) -> u64 {
    ((major as u64) << 20) | (minor as u64 & 0xf_ffff)
}
pub const fn major(dev: u64) -> u32 {
    (dev >> 20) as u32
}
pub const fn minor(dev: u64) -> u32 {
    (dev & 0xf_ffff) as u32
}
/// The number as stat(2) and `/proc/PID/stat` write it (`new_encode_dev`).
pub const fn encode_dev(dev: u64) -> u64 {
    let (ma, mi) = (major(dev) as u64, minor(dev) as u64);
    (mi & 0xff) | (ma << 8) | ((mi & !0xff) << 12)
}
/// The number that mknod(2) was given (`new_decode_dev`).
pub const fn decode_dev(dev: u32) -> u64 {
    makedev((dev & 0xf_ff00) >> 8, (dev & 0xff) | ((dev >> 12) & 0xf_ff00))
}

bitflags! {
    /// The flags of open(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct OpenFlags: u32 {
        const WRONLY = raw::O_WRONLY;
        const RDWR = raw::O_RDWR;
        const CREAT = raw::O_CREAT;
        const EXCL = raw::O_EXCL;
        const NOCTTY = raw::O_NOCTTY;
        const TRUNC = raw::O_TRUNC;
        const APPEND = raw::O_APPEND;
        const NONBLOCK = raw::O_NONBLOCK;
        const DSYNC = raw::O_DSYNC;
        /// `O_SYNC` without `O_DSYNC`'s bit.
        const SYNC_BIT = raw::O_SYNC & !raw::O_DSYNC;
        const ASYNC = raw::FASYNC;
        const DIRECT = raw::O_DIRECT;
        const LARGEFILE = raw::O_LARGEFILE;
        const DIRECTORY = raw::O_DIRECTORY;
        const NOFOLLOW = raw::O_NOFOLLOW;
        const NOATIME = raw::O_NOATIME;
        const CLOEXEC = raw::O_CLOEXEC;
        const PATH = raw::O_PATH;
        /// `O_TMPFILE` without `O_DIRECTORY`'s bit.
        const TMPFILE_BIT = raw::O_TMPFILE & !raw::O_DIRECTORY;
    }
}

impl OpenFlags {
    /// Read only: the absence of the others.
    pub const RDONLY: OpenFlags = OpenFlags::empty();
    const ACCMODE: u32 = raw::O_ACCMODE;
    /// The access mode 3 is "no reading, no writing, only ioctl".
    pub const fn readable(self) -> bool {
        matches!(self.bits() & Self::ACCMODE, raw::O_RDONLY | raw::O_RDWR) && !self.contains(OpenFlags::PATH)
    }
    pub const fn writable(self) -> bool {
        matches!(self.bits() & Self::ACCMODE, raw::O_WRONLY | raw::O_RDWR) && !self.contains(OpenFlags::PATH)
    }
    pub const fn is_tmpfile(self) -> bool {
        self.contains(OpenFlags::TMPFILE_BIT)
    }
    /// What `F_SETFL` may change.
    pub const SETFL: OpenFlags = OpenFlags::APPEND
        .union(OpenFlags::NONBLOCK)
        .union(OpenFlags::DIRECT)
        .union(OpenFlags::NOATIME)
        .union(OpenFlags::ASYNC);
}

bitflags! {
    /// What is wanted of a file: the bits of access(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Access: u32 {
        const EXEC = 1;
        const WRITE = 2;
        const READ = 4;
    }
}

bitflags! {
    /// The flags of renameat2(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct RenameFlags: u32 {
        const NOREPLACE = raw::RENAME_NOREPLACE;
        const EXCHANGE = raw::RENAME_EXCHANGE;
        const WHITEOUT = raw::RENAME_WHITEOUT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_go_round() {
        for (ma, mi) in [(1, 3), (8, 17), (259, 70_000), (4095, 0xf_ffff), (0, 42)] {
            let d = makedev(ma, mi);
            assert_eq!(decode_dev(encode_dev(d) as u32), d);
        }
        assert_eq!(encode_dev(makedev(1, 3)), 0x103);
    }

    #[test]
    fn tmpfile_is_told_from_directory() {
        assert!(!OpenFlags::DIRECTORY.is_tmpfile());
        assert!((OpenFlags::DIRECTORY | OpenFlags::TMPFILE_BIT).is_tmpfile());
    }
}
