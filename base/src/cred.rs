//! Credentials: who a task acts as. Immutable once shared; a change makes a new one (see `credentials(7)`,
//! `capabilities(7)`).

use alloc::sync::Arc;

/// Capability numbers of Linux 6.12 (`capabilities(7)`).
pub mod cap {
    macro_rules! caps {
        ($($name:ident = $n:literal,)*) => { $(pub const $name: u32 = $n;)* };
    }
    caps! {
        CHOWN = 0, DAC_OVERRIDE = 1, DAC_READ_SEARCH = 2, FOWNER = 3, FSETID = 4, KILL = 5, SETGID = 6, SETUID = 7,
        SETPCAP = 8, LINUX_IMMUTABLE = 9, NET_BIND_SERVICE = 10, NET_BROADCAST = 11, NET_ADMIN = 12, NET_RAW = 13,
        IPC_LOCK = 14, IPC_OWNER = 15, SYS_MODULE = 16, SYS_RAWIO = 17, SYS_CHROOT = 18, SYS_PTRACE = 19, SYS_PACCT = 20,
        SYS_ADMIN = 21, SYS_BOOT = 22, SYS_NICE = 23, SYS_RESOURCE = 24, SYS_TIME = 25, SYS_TTY_CONFIG = 26, MKNOD = 27,
        LEASE = 28, AUDIT_WRITE = 29, AUDIT_CONTROL = 30, SETFCAP = 31, MAC_OVERRIDE = 32, MAC_ADMIN = 33, SYSLOG = 34,
        WAKE_ALARM = 35, BLOCK_SUSPEND = 36, AUDIT_READ = 37, PERFMON = 38, BPF = 39, CHECKPOINT_RESTORE = 40,
    }
    /// The highest number.
    pub const LAST: u32 = CHECKPOINT_RESTORE;
    /// All capabilities.
    pub const FULL: u64 = (1 << (LAST + 1)) - 1;
}

/// Who a task acts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cred {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    /// Supplementary groups, sorted.
    pub groups: Arc<[u32]>,
    pub cap_effective: u64,
    pub cap_permitted: u64,
    pub cap_inheritable: u64,
    pub cap_bounding: u64,
    pub cap_ambient: u64,
    pub securebits: u32,
    pub no_new_privs: bool,
}

impl Cred {
    /// What init starts with: user 0 with every capability.
    pub fn root() -> Cred {
        Cred {
            uid: 0,
            euid: 0,
            suid: 0,
            fsuid: 0,
            gid: 0,
            egid: 0,
            sgid: 0,
            fsgid: 0,
            groups: Arc::from([]),
            cap_effective: cap::FULL,
            cap_permitted: cap::FULL,
            cap_inheritable: 0,
            cap_bounding: cap::FULL,
            cap_ambient: 0,
            securebits: 0,
            no_new_privs: false,
        }
    }
    /// True if the capability (one of [`cap`]) is in effect.
    #[inline]
    pub fn has_cap(&self, cap: u32) -> bool {
        self.cap_effective >> cap & 1 != 0
    }
    /// True if `gid` is the file-system group or a supplementary one.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.binary_search(&gid).is_ok()
    }
    /// As [`Cred::in_group`], with the effective group.
    pub fn in_egroup(&self, gid: u32) -> bool {
        self.egid == gid || self.groups.binary_search(&gid).is_ok()
    }
}
